//! The durable promise: this event, by this route, to this endpoint.
//!
//! ```text
//!              accept
//!                │
//!                ▼            attempt failed, schedule not used up
//!   ┌───────► pending ◄──────────────────────────────┐
//!   │            │ claim (due, lane has room)        │
//!   │            ▼                                   │
//!   │         pending, leased ───────────────────────┘
//!   │            │  │  │
//!   │ crash, or  │  │  └─ a filter declined ───────────────► filtered
//!   │ shutdown:  │  └──── 2xx ─────────────────────────────► delivered
//!   └────────────┘        schedule used up, or a rejection ► dead
//! ```
//!
//! `resend` makes a *new* delivery of the same event; no state leads back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::attempt::Outcome;
use crate::clock::{IdText, UnixMs, id_from_text};
use crate::endpoint::OrderKey;
use crate::event::{Event, NotAnId};
use crate::retry::RetryPolicy;

/// Names a delivery, `dlv_…` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeliveryId(pub(crate) u64);

/// What a delivery is in hand by. The store gives it, and takes nothing down that comes
/// with one that it has ended since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease(pub(crate) i64);

impl Lease {
    /// Of a store that belongs to one process for life: its leases end with it.
    pub(crate) const OF_THE_PROCESS: Self = Self(1);
}

/// A delivery in hand: leased, its event in memory.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    pub(crate) lease: Lease,
    /// Shared by all deliveries of one event.
    pub(crate) event: Arc<Event>,
    /// The route's name. The route itself is looked up at every attempt, so a
    /// repaired route heals what waits.
    pub(crate) route: Arc<str>,
    /// How many attempts have been made.
    pub(crate) attempts: u32,
    /// What it shares with those that must not overtake it.
    pub(crate) key: Option<OrderKey>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// To be attempted: now, later, or at this moment.
    Pending,
    /// The endpoint has it.
    Delivered,
    /// A filter declined it.
    Filtered,
    /// It ended without success; kept, listed, resendable.
    Dead,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Delivered,
    Filtered,
    WaitUntil(UnixMs),
    Dead,
}

/// The state after attempt number `attempts`.
pub(crate) fn after_attempt(
    outcome: Outcome,
    attempts: u32,
    policy: &RetryPolicy,
    retry_after: Option<Duration>,
    now: UnixMs,
    luck: f64,
) -> Next {
    match outcome {
        Outcome::Delivered => Next::Delivered,
        Outcome::Reject => Next::Dead,
        Outcome::Retry => match policy.wait(attempts, retry_after, luck) {
            Some(wait) => Next::WaitUntil(now.plus(wait)),
            None => Next::Dead,
        },
    }
}

impl Next {
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Delivered => Status::Delivered,
            Self::Filtered => Status::Filtered,
            Self::WaitUntil(_) => Status::Pending,
            Self::Dead => Status::Dead,
        }
    }
}

impl Status {
    /// Every status, in the order of the diagram.
    pub(crate) const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Filtered, Self::Dead];

    /// Its name in the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Filtered => "filtered",
            Self::Dead => "dead",
        }
    }

    /// The status of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

const PREFIX: &str = "dlv_";

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&IdText::new(PREFIX, self.0))
    }
}

impl FromStr for DeliveryId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.strip_prefix(PREFIX).and_then(id_from_text).map(Self).ok_or(NotAnId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_attempt_waits_until_the_schedule_is_used_up() {
        let policy = RetryPolicy { schedule: vec![Duration::from_secs(5)], jitter: 0.0 };
        let after =
            |outcome, attempts| after_attempt(outcome, attempts, &policy, None, UnixMs(1_000), 0.5);
        assert_eq!(after(Outcome::Retry, 1), Next::WaitUntil(UnixMs(6_000)));
        assert_eq!(after(Outcome::Retry, 2), Next::Dead);
        assert_eq!(after(Outcome::Reject, 1), Next::Dead);
        assert_eq!(after(Outcome::Delivered, 1), Next::Delivered);
    }
}
