//! Subscriptions as the store keeps them: what is secret is sealed before it comes
//! here, and opened by whoever asked.

use zeroize::Zeroizing;

use super::{Location, QueueError, postgres, sqlite};
use crate::clock::UnixMs;
use crate::subscription::SubscriptionId;
use crate::vault::{Place, Sealed, Vault};

/// A subscription as it is kept.
#[derive(Debug)]
pub(crate) struct KeptSubscription {
    pub(crate) id: SubscriptionId,
    pub(crate) number: u64,
    pub(crate) tenant: String,
    pub(crate) made_by: String,
    pub(crate) created: UnixMs,
    pub(crate) updated: UnixMs,
    /// What its owner says of it, as JSON, without what is secret.
    pub(crate) form: String,
    pub(crate) secrets: Vec<KeptSecret>,
}

/// One version of a secret of a subscription.
#[derive(Debug)]
pub(crate) struct KeptSecret {
    pub(crate) purpose: String,
    pub(crate) name: String,
    /// 0 is the newest.
    pub(crate) version: u32,
    pub(crate) until: Option<UnixMs>,
    pub(crate) sealed: Sealed,
}

impl KeptSecret {
    /// What is sealed. The error says whose it is.
    pub(crate) fn open(
        &self,
        vault: &Vault,
        owner: SubscriptionId,
    ) -> Result<Zeroizing<String>, String> {
        vault.open(self.place(owner), &self.sealed).map_err(|error| {
            format!("the {} `{}` of the subscription {owner}: {error}", self.purpose, self.name)
        })
    }

    /// What it is sealed for.
    pub(crate) fn place(&self, owner: SubscriptionId) -> Place<'_> {
        Place { owner: owner.0, purpose: &self.purpose, name: &self.name }
    }
}

/// One change.
#[derive(Debug)]
pub(crate) enum KeptChange {
    Put(KeptSubscription),
    /// What is promised by it becomes a dead letter.
    Deleted(SubscriptionId),
    /// None to remove it.
    Note {
        tenant: String,
        plugin: String,
        name: String,
        value: Option<String>,
    },
}

/// Everything that is kept of subscriptions.
#[derive(Debug, Default)]
pub(crate) struct AllKept {
    /// In no order.
    pub(crate) subscriptions: Vec<KeptSubscription>,
    /// The last number given in each tenant.
    pub(crate) numbers: Vec<(String, u64)>,
}

/// What became of some subscriptions.
#[derive(Debug, Default)]
pub(crate) struct ChangedSubscriptions {
    pub(crate) put: Vec<KeptSubscription>,
    pub(crate) deleted: Vec<SubscriptionId>,
}

impl ChangedSubscriptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.deleted.is_empty()
    }
}

/// What a delivery says as its error whose subscription is gone.
pub(super) const DELETED: &str = "subscription.deleted: its subscription was deleted";

/// Seal what is kept anew where `seal` gives something for it, all or nothing. Returns how
/// many values there are, and how many were changed. No engine may have the store open.
pub(crate) async fn reseal(
    location: &Location,
    seal: impl FnMut(SubscriptionId, &KeptSecret) -> Result<Option<Sealed>, String>,
) -> Result<(usize, usize), QueueError> {
    match location {
        Location::Sqlite(path) => sqlite::subscriptions::reseal(path, seal),
        Location::Postgres(address) => postgres::reseal(address, seal).await,
    }
}
