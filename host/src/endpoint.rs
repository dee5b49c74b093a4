//! The URL that is called, its limits, how it behaves, and what it is called with. Who
//! calls it, and whether it may be called, is decided elsewhere.

mod breaker;
mod health;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use sha2::{Digest as _, Sha256};

use crate::client::Client;
use crate::client::oauth::Grant;

pub(crate) use breaker::BreakerRule;
pub(crate) use health::{Cause, Change, Disabled, Health, HealthRecord, Heard, Rest};
pub(crate) use rate::{RateLimit, RateWindow};

/// Where a route delivers.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The URL as written.
    pub(crate) url: Arc<str>,
    /// The same, parsed: absolute, `http` or `https`, with a host.
    pub(crate) uri: Uri,
    /// One deadline over an attempt's network part, from name lookup to last byte.
    pub(crate) timeout: Duration,
    /// How many attempts may be under way at once.
    pub(crate) concurrency: u32,
    /// How many attempts may be made in a stretch of time.
    pub(crate) rate_limit: Option<RateLimit>,
    /// What must not overtake what.
    pub(crate) order: Order,
    /// When it is left alone for a while.
    pub(crate) breaker: Option<BreakerRule>,
    /// For how long it may only fail before it is disabled; none for ever.
    pub(crate) disable_after: Option<Duration>,
    /// The first delivery whose last attempt fails disables it.
    pub(crate) disable_when_exhausted: bool,
    /// How it is reached: by which proxy, trusting whom, as whom.
    pub(crate) client: Arc<Client>,
    /// Where the token comes from that it asks for.
    pub(crate) grant: Option<Arc<Grant>>,
}

/// Which deliveries of a route follow each other strictly: one at a time, in the
/// order their events came in, and none before the one ahead has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// None of them.
    Free,
    /// Those of one subject. An event without a subject waits for nothing.
    Subject,
    /// All of them.
    Endpoint,
}

/// What deliveries that follow each other have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderKey(pub(crate) i64);

impl Order {
    /// Read the value of `order`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Free),
            "subject" => Ok(Self::Subject),
            "endpoint" => Ok(Self::Endpoint),
            _ => Err(format!("`{text}` is no order: none, subject, endpoint")),
        }
    }

    /// Its name in files and in the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Free => "none",
            Self::Subject => "subject",
            Self::Endpoint => "endpoint",
        }
    }

    /// The key of an event with this subject; none when it waits for nothing. Two
    /// subjects that share a key would only wait for each other without need.
    pub(crate) fn key(self, subject: Option<&str>) -> Option<OrderKey> {
        match self {
            Self::Free => None,
            Self::Endpoint => Some(OrderKey(0)),
            Self::Subject => {
                let [first, ..] = *Sha256::digest(subject?).as_chunks::<8>().0 else { return None };
                Some(OrderKey(i64::from_be_bytes(first)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_subject_share_a_key_and_others_do_not() {
        let key = |subject| Order::Subject.key(subject);
        assert_eq!(key(Some("inv-1")), key(Some("inv-1")));
        assert_ne!(key(Some("inv-1")), key(Some("inv-2")));
        assert_eq!(key(None), None);
        assert_eq!(Order::Endpoint.key(None), Order::Endpoint.key(Some("inv-1")));
        assert_eq!(Order::Free.key(Some("inv-1")), None);
    }
}
