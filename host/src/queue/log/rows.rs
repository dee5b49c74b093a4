//! Rows of the log, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::attempt::SentBody;
use crate::clock::{UnixMs, ms_of_id};
use crate::delivery::Status;
use crate::queue::recorded::RecordedRequest;
use crate::queue::values::{PARKED, status_of};

/// A delivery: this event, by this route, to this endpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryRow {
    /// `dlv_…`
    pub(crate) id: String,
    /// `evt_…`
    pub(crate) event_id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) subject: Option<String>,
    pub(crate) source: String,
    pub(crate) route: String,
    /// The URL it was promised to.
    pub(crate) endpoint: String,
    /// `pending`, `delivered`, `filtered` or `dead`
    pub(crate) status: &'static str,
    /// How many were made.
    pub(crate) attempts: u32,
    #[schema(format = DateTime)]
    pub(crate) created_at: String,
    /// When it is pending.
    #[schema(format = DateTime)]
    pub(crate) next_attempt_at: Option<String>,
    pub(crate) last_status_code: Option<u16>,
    pub(crate) last_error: Option<String>,
}

/// An attempt: one HTTP try of a delivery.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptRow {
    /// 1 for the first.
    pub(in crate::queue) number: u32,
    #[schema(format = DateTime)]
    pub(in crate::queue) started_at: String,
    pub(in crate::queue) duration_us: i64,
    /// `delivered`, `retry` or `reject`
    pub(in crate::queue) outcome: String,
    pub(in crate::queue) status_code: Option<u16>,
    /// Such as `http.status`, `connect.refused`, `plugin.timeout`.
    pub(in crate::queue) error_code: Option<String>,
    pub(in crate::queue) error: Option<String>,
    pub(in crate::queue) request: Option<RequestRow>,
    /// The start of the response's body, as text.
    pub(in crate::queue) response_excerpt: Option<String>,
    /// The number of the snapshot it was made with.
    pub(in crate::queue) snapshot: u64,
    /// `name@version` of each plugin it went through.
    pub(in crate::queue) plugins: Vec<String>,
}

/// A request as it went out; secrets are masked.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SentRequest)]
pub(in crate::queue) struct RequestRow {
    pub(in crate::queue) method: String,
    pub(in crate::queue) url: String,
    /// Names and values.
    pub(in crate::queue) headers: Vec<(String, String)>,
    /// Null when it was the event's data unchanged, or when it was pruned.
    pub(in crate::queue) body: Option<String>,
}

/// An event: one fact received.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventRow {
    /// `evt_…`
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) subject: Option<String>,
    pub(crate) source: String,
    /// When it happened or, where the sender does not say, when it was received.
    #[schema(format = DateTime)]
    pub(crate) time: String,
    #[schema(format = DateTime)]
    pub(crate) received_at: String,
}

/// What of an event is too large for a list.
#[derive(Clone, Debug)]
pub(crate) struct EventDetail {
    pub(crate) row: EventRow,
    pub(crate) attributes: Vec<(Box<str>, Box<str>)>,
    pub(crate) data: Vec<u8>,
    /// The retention of payloads has taken the data.
    pub(crate) data_pruned: bool,
}

impl DeliveryRow {
    /// What the columns of a row say that are not shown as they are.
    pub(in crate::queue) fn times(
        id: u64,
        status: i64,
        due: i64,
    ) -> (&'static str, String, Option<String>) {
        let status = status_of(status);
        // What waits behind another has no time of its own.
        let next = (status == Status::Pending && due < PARKED)
            .then(|| UnixMs(due.unsigned_abs()).to_string());
        (status.as_str(), ms_of_id(id).to_string(), next)
    }
}

impl RequestRow {
    /// `data` is there where the body is around it.
    pub(in crate::queue) fn new(request: RecordedRequest, data: Option<Vec<u8>>) -> Self {
        let RecordedRequest { method, url, headers, body } = request;
        let headers = (headers.lines())
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = match body {
            SentBody::Data => None,
            made => Some(as_text(made.whole(&data.unwrap_or_default().into()).into())),
        };
        Self { method, url, headers, body }
    }
}

/// Bytes that may be no text, for people.
pub(in crate::queue) fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
