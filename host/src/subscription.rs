//! A route made at run time, through an API or the dashboard, and kept in the
//! store. It says the same as a route file, and is checked the same.

pub(crate) mod desk;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::clock::{UnixMs, id_from_text, id_text};
use crate::event::NotAnId;

/// Names a subscription: `sub_…` in text, or as a UUID where a platform's API wants one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubscriptionId(pub(crate) u128);

/// A subscription as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) id: SubscriptionId,
    /// Counts up within its tenant; never given again.
    pub(crate) number: u64,
    pub(crate) tenant: Arc<str>,
    /// The token that made it.
    pub(crate) made_by: Arc<str>,
    pub(crate) form: Form,
    pub(crate) created: UnixMs,
    pub(crate) updated: UnixMs,
}

impl Subscription {
    /// Would this one change anything?
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.updated == other.updated && self.form == other.form
    }
}

/// What its owner says of it.
#[derive(Clone, PartialEq)]
pub(crate) struct Form {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    /// Named sources; empty for any.
    pub(crate) from: Vec<String>,
    pub(crate) types: Vec<String>,
    pub(crate) url: String,
    pub(crate) active: bool,
    /// As in a route file: `60/m`.
    pub(crate) rate_limit: Option<String>,
    /// The plugin whose transform, auth and policy it has; none sends what came in.
    pub(crate) platform: Option<String>,
    /// The platform's settings, an object.
    pub(crate) settings: serde_json::Value,
    /// Sent with every request. Values are kept as secrets are.
    pub(crate) headers: BTreeMap<String, Zeroizing<String>>,
    /// By name, each with its versions, newest first.
    pub(crate) secrets: BTreeMap<String, Vec<SecretVersion>>,
    /// What the platform's own API keeps beside, by name.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Active, and nothing else.
impl Default for Form {
    fn default() -> Self {
        Self {
            name: None,
            description: None,
            from: Vec::new(),
            types: Vec::new(),
            url: String::new(),
            active: true,
            rate_limit: None,
            platform: None,
            settings: serde_json::Value::Object(Default::default()),
            headers: BTreeMap::new(),
            secrets: BTreeMap::new(),
            attributes: BTreeMap::new(),
        }
    }
}

/// Without what may be secret.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { types, active, platform, secrets, .. } = self;
        write!(f, "Form({types:?}, active {active}, {platform:?}, {secrets:?})")
    }
}

/// One version of a secret.
#[derive(Clone, PartialEq)]
pub(crate) struct SecretVersion {
    pub(crate) text: Zeroizing<String>,
    /// Used until then, beside the newer ones; none for as long as it stands here.
    pub(crate) until: Option<UnixMs>,
}

impl fmt::Debug for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretVersion(until {:?})", self.until)
    }
}

/// One change to what is kept. Several are kept together or not at all.
#[derive(Clone, Debug)]
pub(crate) enum Staged {
    Put(Arc<Subscription>),
    Deleted(SubscriptionId),
    /// What a platform's plugin notes of the tenant as a whole; none to remove it.
    Note {
        platform: Arc<str>,
        name: String,
        value: Option<String>,
    },
}

const PREFIX: &str = "sub_";

impl SubscriptionId {
    /// As RFC 9562 writes it.
    pub(crate) fn uuid(self) -> String {
        let it = format!("{:032x}", self.0);
        let parts = [&it[..8], &it[8..12], &it[12..16], &it[16..20], &it[20..]];
        parts.join("-")
    }

    /// The id in a text of either kind.
    pub(crate) fn find(text: &str) -> Option<Self> {
        if let Ok(id) = text.parse() {
            return Some(id);
        }
        let dashes = text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        (dashes && text.len() == 36)
            .then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok().map(Self))?
    }
}

/// `sub_` and 26 characters; the order of the texts is the order of the ids.
impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_possible_truncation, reason = "the low half of two")]
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        write!(f, "{PREFIX}{}{}", id_text(high), id_text(low))
    }
}

impl FromStr for SubscriptionId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let halves = text.strip_prefix(PREFIX).and_then(|it| it.split_at_checked(13));
        let (high, low) = halves.ok_or(NotAnId)?;
        let half = |text| id_from_text(text).map(u128::from).ok_or(NotAnId);
        Ok(Self(half(high)? << 64 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_both_its_texts() {
        for id in [0, 1, u128::MAX, 0x0190_0000_0000_7abc_8def_0123_4567_89ab].map(SubscriptionId) {
            assert_eq!(SubscriptionId::find(&id.to_string()), Some(id));
            assert_eq!(SubscriptionId::find(&id.uuid()), Some(id));
        }
        for not_an_id in ["", "sub_", "sub_é", "rcv_00000000000000000000000000"] {
            assert_eq!(SubscriptionId::find(not_an_id), None, "{not_an_id:?}");
        }
    }
}
