//! What was really sent, for holding it against what would be sent now.

use crate::attempt::SentBody;
use crate::clock::UnixMs;
use crate::delivery::Status;
use crate::event::Event;

/// An event and what became of it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) event: Event,
    /// One for each route: its newest delivery.
    pub(crate) deliveries: Vec<RecordedDelivery>,
}

#[derive(Debug)]
pub(crate) struct RecordedDelivery {
    pub(crate) route: String,
    pub(crate) status: Status,
    /// The last attempt; none when nothing was attempted.
    pub(crate) attempt: Option<RecordedAttempt>,
}

#[derive(Debug)]
pub(crate) struct RecordedAttempt {
    pub(crate) started: UnixMs,
    /// None when a plugin failed before there was one.
    pub(crate) request: Option<RecordedRequest>,
    pub(crate) error_code: Option<String>,
    pub(crate) error: Option<String>,
}

/// A request as it went out, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    /// `name: value` lines; after an empty line those of the auth plugins.
    pub(crate) headers: String,
    pub(crate) body: SentBody,
}
