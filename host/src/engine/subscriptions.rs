//! Subscriptions of a running engine: what is kept is in force, and what is in force
//! is kept.

mod stored;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard, mpsc};

use super::Engine;
use crate::clock::{self, UnixMs};
use crate::endpoint::Disabled;
use crate::queue::QueueError;
use crate::queue::subscriptions::{AllKept, ChangedSubscriptions, KeptChange, KeptSubscription};
use crate::route::{Live, Route};
use crate::snapshot::{Snapshot, Wrong};
use crate::subscription::{Staged, Subscription, SubscriptionId};
use crate::vault::{self, Vault};

use stored::{kept, opened, vault};

/// What the engine has of subscriptions beside the snapshot they are a part of.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    vault: Vault,
    /// Held while a tenant's subscriptions are read and changed; two tenants may share one.
    tenants: Vec<Arc<tokio::sync::Mutex<()>>>,
    hasher: RandomState,
    /// The last number given in each tenant.
    numbers: Mutex<HashMap<Arc<str>, u64>>,
    last_id: Mutex<SubscriptionId>,
    /// Held from reading the snapshot to publishing the next.
    publishing: Mutex<()>,
    /// A secret may have got an end.
    changed: Arc<Notify>,
}

/// The right to read a tenant's subscriptions and change them, with nobody else
/// changing them in between.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: Arc<str>,
    _guard: OwnedMutexGuard<()>,
}

/// Why nothing was kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// The subscription, and all that is wrong with it.
    #[error("{0} has problems")]
    Wrong(SubscriptionId, Vec<Wrong>),
    #[error("a tenant has at most {SUBSCRIPTIONS_MAX} subscriptions")]
    TooMany,
    #[error(transparent)]
    Store(#[from] QueueError),
}

/// Of one tenant: each is a lane, a route and a few kilobytes.
const SUBSCRIPTIONS_MAX: usize = 20_000;

/// So many tenants change their subscriptions at once.
const TENANT_LOCKS: usize = 64;

/// The longest sleep before the clock is looked at again, while a secret has an end.
const SLEEP_MAX: Duration = Duration::from_secs(5);

impl Subscriptions {
    /// What the store kept, opened, and put in force as far as it fits.
    pub(super) fn open(all: AllKept, snapshot: &mut Snapshot) -> Result<Self, QueueError> {
        let now = clock::now();
        let vault = vault(&snapshot.hub, &all)?;
        let mut last_id = SubscriptionId(0);
        for kept in all.subscriptions {
            let subscription = Arc::new(opened(&vault, kept)?);
            last_id = last_id.max(subscription.id);
            match snapshot.bind_kept(subscription.clone(), now) {
                Some(live) => snapshot.routes.subscribed.put(Arc::new(live)),
                None => tracing::error!(
                    subscription = %subscription.id,
                    "a kept subscription cannot be read: its deliveries wait"
                ),
            }
        }
        let numbers = all.numbers.into_iter().map(|(tenant, last)| (tenant.into(), last));
        Ok(Self {
            vault,
            tenants: (0..TENANT_LOCKS).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            numbers: Mutex::new(numbers.collect()),
            last_id: Mutex::new(last_id),
            publishing: Mutex::default(),
            changed: Arc::default(),
        })
    }
}

impl Engine {
    /// What subscriptions' secrets are sealed with.
    pub(crate) fn vault(&self) -> &Vault {
        &self.subscriptions.vault
    }

    /// Wait until nobody else changes this tenant's subscriptions.
    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let all = &self.subscriptions;
        let at = usize::try_from(all.hasher.hash_one(name)).unwrap_or_default() % TENANT_LOCKS;
        Tenant { name: name.into(), _guard: all.tenants[at].clone().lock_owned().await }
    }

    /// The id and the number of a subscription to be made now. Neither is given again.
    pub(crate) fn next_subscription(&self, tenant: &Tenant) -> (SubscriptionId, u64) {
        let all = &self.subscriptions;
        // RFC 9562, version 7: milliseconds, and then nothing that could be guessed.
        let time = u128::from(clock::now().0 & 0xffff_ffff_ffff) << 80;
        let random =
            u128::from(fastrand::u64(..) & 0xfff) << 64 | u128::from(fastrand::u64(..) >> 2);
        let drawn = time | 7 << 76 | 2 << 62 | random;
        let mut last = all.last_id.lock();
        *last = SubscriptionId(drawn.max(last.0 + 1));
        let mut numbers = all.numbers.lock();
        let number = numbers.entry(tenant.name.clone()).or_default();
        *number += 1;
        (*last, *number)
    }

    /// All that is wrong with it, by field; the same is checked before it is kept. Runs
    /// the plugin.
    pub(crate) fn check_subscription(&self, it: &Subscription) -> Result<(), Vec<Wrong>> {
        self.snapshot().bind(it, clock::now()).map(drop)
    }

    /// A tenant's subscriptions, oldest first; of one platform, or all. One whose endpoint
    /// the engine has switched off is shown as not active.
    pub(crate) fn subscriptions_of(
        &self,
        tenant: &str,
        platform: Option<&str>,
    ) -> Vec<Arc<Subscription>> {
        let snapshot = self.snapshot();
        let all = snapshot.routes.subscribed.of_tenant(tenant);
        let all = all.filter(|it| {
            platform.is_none_or(|wanted| it.subscription.form.platform.as_deref() == Some(wanted))
        });
        all.map(|it| self.as_seen(it)).collect()
    }

    /// One of any tenant, as [`subscriptions_of`](Self::subscriptions_of) has it.
    pub(crate) fn subscription(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.snapshot().routes.subscribed.get(id).map(|it| self.as_seen(it))
    }

    /// Why the engine does not call the endpoint of a subscription.
    pub(crate) fn switched_off(&self, id: SubscriptionId) -> Option<Disabled> {
        self.lanes.disabled(&id.to_string())
    }

    fn as_seen(&self, live: &Live) -> Arc<Subscription> {
        let it = &live.subscription;
        if !it.form.active || self.lanes.disabled(&live.route.name).is_none() {
            return it.clone();
        }
        let mut seen = (**it).clone();
        seen.form.active = false;
        Arc::new(seen)
    }

    /// Keep changes of a tenant's subscriptions, all or none: when this returns they are
    /// on disk and in force. One that is active is called again, whatever the engine had
    /// switched it off for.
    pub(crate) async fn keep_subscriptions(
        self: &Arc<Self>,
        tenant: Tenant,
        changes: Vec<Staged>,
    ) -> Result<(), NotKept> {
        self.keep_and(tenant, changes, true).await
    }

    async fn keep_and(
        self: &Arc<Self>,
        tenant: Tenant,
        changes: Vec<Staged>,
        enable: bool,
    ) -> Result<(), NotKept> {
        let engine = self.clone();
        // A caller who hangs up leaves nothing half done.
        let kept = tokio::spawn(async move { engine.keep_all(&tenant, changes, enable).await });
        kept.await.unwrap_or_else(|_| Err(QueueError::Broken("a bug in plugpost".into()).into()))
    }

    async fn keep_all(
        self: Arc<Self>,
        tenant: &Tenant,
        changes: Vec<Staged>,
        enable: bool,
    ) -> Result<(), NotKept> {
        let now = clock::now();
        let bound_with = self.snapshot();
        let changes = last_of_each(changes);
        let new = changes.iter().filter(|it| match it {
            Staged::Put(it) => bound_with.routes.subscribed.get(it.id).is_none(),
            Staged::Deleted(_) | Staged::Note { .. } => false,
        });
        let new = new.count();
        let there = bound_with.routes.subscribed.count(&tenant.name);
        if new > 0 && there + new > SUBSCRIPTIONS_MAX {
            return Err(NotKept::TooMany);
        }
        // Another tenant's are none of this one's business, whoever staged them.
        let is_own = |id: SubscriptionId| {
            let known = bound_with.routes.subscribed.get(id);
            known.is_none_or(|it| it.subscription.tenant == tenant.name)
        };
        let foreign = changes.iter().any(|it| match it {
            Staged::Put(it) => it.tenant != tenant.name || !is_own(it.id),
            Staged::Deleted(id) => !is_own(*id),
            Staged::Note { .. } => false,
        });
        if foreign {
            return Err(QueueError::NotFound.into());
        }
        // Guests run here: not on a thread that others wait for.
        let (bound_with, changes) = {
            let bind = move || {
                let bound: Result<Vec<Change>, NotKept> =
                    changes.into_iter().map(|it| Change::bind(it, &bound_with, now)).collect();
                bound.map(|it| (bound_with, it))
            };
            let bound = tokio::task::spawn_blocking(bind).await;
            bound.unwrap_or_else(|_| Err(QueueError::Broken("a bug in plugpost".into()).into()))?
        };
        self.can_seal(&changes)?;
        let rows = changes.iter().map(|it| match it {
            Change::Put(live) => {
                KeptChange::Put(kept(&self.subscriptions.vault, &live.subscription))
            }
            Change::Deleted(id) => KeptChange::Deleted(*id),
            Change::Note { platform, name, value } => KeptChange::Note {
                tenant: tenant.name.to_string(),
                plugin: platform.to_string(),
                name: name.clone(),
                value: value.clone(),
            },
        });
        self.queue.change_subscriptions(rows.collect(), now).await?;
        self.put_in_force(&bound_with, &changes, now);
        let has_end = |it: &Change| match it {
            Change::Put(live) => {
                live.subscription.form.secrets.values().flatten().any(|it| it.until.is_some())
            }
            Change::Deleted(_) | Change::Note { .. } => false,
        };
        if changes.iter().any(has_end) {
            self.subscriptions.changed.notify_one();
        }
        for change in changes {
            match change {
                Change::Put(live) => {
                    let before = bound_with.routes.subscribed.get(live.subscription.id);
                    if before.is_some() {
                        self.lane_follows(&live.route, enable).await?;
                    }
                }
                Change::Deleted(id) => self.lanes.forget(&id.to_string()),
                Change::Note { .. } => {}
            }
        }
        Ok(())
    }

    /// Nodes that share a store share its key: none of them makes one.
    fn can_seal(&self, changes: &[Change]) -> Result<(), NotKept> {
        let secret = changes.iter().find_map(|it| match it {
            Change::Put(live) => {
                let it = &live.subscription;
                (!it.form.secrets.is_empty() || !it.form.headers.is_empty()).then_some(it.id)
            }
            Change::Deleted(_) | Change::Note { .. } => None,
        });
        match secret {
            Some(id) if !self.subscriptions.vault.has_a_key() => {
                let message = format!(
                    "there is no key to seal them with: give every node the same in {}",
                    vault::VARIABLE
                );
                Err(NotKept::Wrong(id, vec![("secrets".into(), message)]))
            }
            _ => Ok(()),
        }
    }

    fn put_in_force(&self, bound_with: &Snapshot, changes: &[Change], now: UnixMs) {
        let _publishing = self.subscriptions.publishing.lock();
        let mut next = Snapshot::clone(&self.snapshot());
        for change in changes {
            match change {
                // The folder was read again meanwhile.
                Change::Put(live) if !next.binds_as(bound_with) => {
                    let again = Arc::new(next.bind_again(live, now));
                    next.routes.subscribed.put(again);
                }
                Change::Put(live) => next.routes.subscribed.put(live.clone()),
                Change::Deleted(id) => next.routes.subscribed.delete(*id),
                Change::Note { .. } => {}
            }
        }
        self.snapshot.store(Arc::new(next));
    }

    /// What was learned of the endpoint before may not hold any more.
    async fn lane_follows(&self, route: &Arc<Route>, enable: bool) -> Result<(), QueueError> {
        self.lanes.configure(route);
        let snapshot = self.snapshot();
        let Some(route) = snapshot.routes.get(&route.name) else { return Ok(()) };
        if enable && self.lanes.disabled(&route.name).is_some() {
            self.lanes.switch(route, None).await?;
        }
        // It may have been switched off, and have left deliveries behind; and its plugin
        // may have broken on settings that it has no more.
        self.lanes.of(&route.name).stored();
        self.lanes.of(&route.name).repaired();
        Ok(())
    }

    /// The subscriptions there are go over to a snapshot of other files. Returns the one
    /// before and the one now.
    pub(super) fn carry_over(&self, mut next: Snapshot) -> (Arc<Snapshot>, Arc<Snapshot>) {
        let now = clock::now();
        let bind = |it: &Arc<Live>| Arc::new(next.bind_again(it, now));
        // Nearly all of the work, while others go on changing them.
        let first = self.snapshot();
        let bound: HashMap<*const Live, Arc<Live>> =
            first.routes.subscribed.iter().map(|it| (Arc::as_ptr(it), bind(it))).collect();
        let _publishing = self.subscriptions.publishing.lock();
        let before = self.snapshot();
        let all = before.routes.subscribed.iter();
        let all = all.map(|it| bound.get(&Arc::as_ptr(it)).cloned().unwrap_or_else(|| bind(it)));
        let all: Vec<_> = all.collect();
        all.into_iter().for_each(|it| next.routes.subscribed.put(it));
        let next = Arc::new(next);
        self.snapshot.store(next.clone());
        self.subscriptions.changed.notify_one();
        (before, next)
    }
}

/// Put in force what other nodes have changed, in the order in which they did.
pub(super) async fn follow(
    engine: std::sync::Weak<Engine>,
    mut changed: mpsc::UnboundedReceiver<ChangedSubscriptions>,
) {
    // Bounded by the watch, which looks once a second or when it is told.
    while let Some(changed) = changed.recv().await {
        let Some(engine) = engine.upgrade() else { return };
        for kept in changed.put {
            let id = kept.id;
            if let Err(error) = engine.follow_one(kept).await {
                tracing::error!(subscription = %id, %error, "could not follow another node");
            }
        }
        let deleted: Vec<_> = changed.deleted.iter().copied().map(Change::Deleted).collect();
        if !deleted.is_empty() {
            engine.put_in_force(&engine.snapshot(), &deleted, clock::now());
            changed.deleted.iter().for_each(|id| engine.lanes.forget(&id.to_string()));
        }
    }
}

impl Engine {
    async fn follow_one(self: &Arc<Self>, kept: KeptSubscription) -> Result<(), QueueError> {
        let it = Arc::new(opened(&self.subscriptions.vault, kept)?);
        let _tenant = self.tenant(&it.tenant).await;
        let snapshot = self.snapshot();
        let before = snapshot.routes.subscribed.get(it.id);
        if before.is_some_and(|before| before.subscription.is_as(&it)) {
            return Ok(());
        }
        {
            let mut numbers = self.subscriptions.numbers.lock();
            let last = numbers.entry(it.tenant.clone()).or_default();
            *last = it.number.max(*last);
        }
        // Guests run here: not on a thread that others wait for.
        let bound_with = snapshot.clone();
        let bound =
            tokio::task::spawn_blocking(move || bound_with.bind_kept(it, clock::now())).await;
        let Ok(Some(live)) = bound else {
            return Err(QueueError::Broken("it cannot be read: its deliveries wait".into()));
        };
        let live = Arc::new(live);
        self.put_in_force(&snapshot, &[Change::Put(live.clone())], clock::now());
        self.subscriptions.changed.notify_one();
        self.lane_follows(&live.route, false).await
    }
}

/// A change that fits.
enum Change {
    Put(Arc<Live>),
    Deleted(SubscriptionId),
    Note { platform: Arc<str>, name: String, value: Option<String> },
}

impl Change {
    fn bind(staged: Staged, snapshot: &Snapshot, now: UnixMs) -> Result<Self, NotKept> {
        let subscription = match staged {
            Staged::Put(it) => it,
            Staged::Deleted(id) => return Ok(Self::Deleted(id)),
            Staged::Note { platform, name, value } => {
                return Ok(Self::Note { platform, name, value });
            }
        };
        let route = match snapshot.bind(&subscription, now) {
            Ok(route) => Arc::new(route),
            Err(wrong) => return Err(NotKept::Wrong(subscription.id, wrong)),
        };
        Ok(Self::Put(Arc::new(Live { subscription, route })))
    }
}

/// A call may change one subscription several times: the last word counts.
fn last_of_each(changes: Vec<Staged>) -> Vec<Staged> {
    let id = |it: &Staged| match it {
        Staged::Put(it) => Some(it.id),
        Staged::Deleted(id) => Some(*id),
        Staged::Note { .. } => None,
    };
    let mut last: Vec<Staged> = Vec::with_capacity(changes.len());
    for change in changes {
        let id_of_it = id(&change);
        match last.iter().position(|it| id_of_it.is_some() && id(it) == id_of_it) {
            Some(at) => last[at] = change,
            None => last.push(change),
        }
    }
    last
}

/// Take secrets' versions out of use, and out of the store, when they have had their time.
pub(super) async fn expire(engine: std::sync::Weak<Engine>) {
    loop {
        let Some(running) = engine.upgrade() else { return };
        let now = clock::now();
        let (mut next, mut over) = (None::<UnixMs>, Vec::new());
        for live in running.snapshot().routes.subscribed.iter() {
            // Its secrets are not in use; when its plugin is back they are looked at again.
            if live.route.rests.is_some() {
                continue;
            }
            let ends = live.subscription.form.secrets.values().flatten().filter_map(|it| it.until);
            let Some(first) = ends.min() else { continue };
            match first <= now {
                true => over.push((live.subscription.id, live.subscription.tenant.clone())),
                false => next = Some(next.map_or(first, |it| it.min(first))),
            }
        }
        for (id, tenant) in over {
            if let Err(error) = running.forget_old_secrets(id, &tenant).await {
                tracing::error!(subscription = %id, %error, "could not end a secret's overlap");
                next = Some(now.plus(SLEEP_MAX));
            }
        }
        let changed = running.subscriptions.changed.clone();
        drop(running);
        match next {
            None => changed.notified().await,
            Some(at) => {
                let pause = at.since(clock::now()).min(SLEEP_MAX);
                let _ = tokio::time::timeout(pause, changed.notified()).await;
            }
        }
    }
}

impl Engine {
    async fn forget_old_secrets(
        self: &Arc<Self>,
        id: SubscriptionId,
        tenant: &str,
    ) -> Result<(), NotKept> {
        let tenant = self.tenant(tenant).await;
        let snapshot = self.snapshot();
        let Some(live) = snapshot.routes.subscribed.get(id) else { return Ok(()) };
        let mut left = (*live.subscription).clone();
        let now = clock::now();
        for versions in left.form.secrets.values_mut() {
            versions.retain(|it| it.until.is_none_or(|until| until > now));
        }
        left.form.secrets.retain(|_, versions| !versions.is_empty());
        self.keep_and(tenant, vec![Staged::Put(Arc::new(left))], false).await
    }
}
