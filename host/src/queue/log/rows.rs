//! Rows of the log, as the API shows them.

use rusqlite::Row;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::{UnixMs, ms_of_id};
use crate::delivery::{DeliveryId, Status};
use crate::event::EventId;
use crate::queue::sqlite::{PARKED, attributes_of, status_of, unsigned};

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
    number: u32,
    #[schema(format = DateTime)]
    started_at: String,
    duration_us: i64,
    /// `delivered`, `retry` or `reject`
    outcome: String,
    status_code: Option<u16>,
    /// Such as `http.status`, `connect.refused`, `plugin.timeout`.
    error_code: Option<String>,
    error: Option<String>,
    request: Option<RequestRow>,
    /// The start of the response's body, as text.
    response_excerpt: Option<String>,
    /// The number of the snapshot it was made with.
    snapshot: u64,
    /// `name@version` of each plugin it went through.
    plugins: Vec<String>,
}

/// A request as it went out; secrets are masked.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SentRequest)]
struct RequestRow {
    method: String,
    url: String,
    /// Names and values.
    headers: Vec<(String, String)>,
    /// Null when it was the event's data unchanged, or when it was pruned.
    body: Option<String>,
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

/// Every delivery, for [`delivery_row`].
pub(super) const DELIVERIES: &str = "
    SELECT d.id, d.event, e.type, e.subject, s.text, r.text, u.text, d.status, d.attempts, d.due,
           d.status_code, d.error
    FROM deliveries d
    JOIN events e ON e.id = d.event
    JOIN labels s ON s.id = e.source
    JOIN labels r ON r.id = d.route
    JOIN labels u ON u.id = d.endpoint";

/// Every event, for [`event_row`].
pub(super) const EVENTS: &str = "
    SELECT e.id, e.type, e.subject, s.text, e.time
    FROM events e
    JOIN labels s ON s.id = e.source";

pub(super) fn delivery_row(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    let id = unsigned(row.get(0)?);
    let status = status_of(row.get(7)?);
    let due: i64 = row.get(9)?;
    Ok(DeliveryRow {
        id: DeliveryId(id).to_string(),
        event_id: EventId(unsigned(row.get(1)?)).to_string(),
        event_type: row.get(2)?,
        subject: row.get(3)?,
        source: row.get(4)?,
        route: row.get(5)?,
        endpoint: row.get(6)?,
        status: status.as_str(),
        attempts: row.get(8)?,
        created_at: ms_of_id(id).to_string(),
        // What waits behind another has no time of its own.
        next_attempt_at: (status == Status::Pending && due < PARKED)
            .then(|| UnixMs(unsigned(due)).to_string()),
        last_status_code: row.get(10)?,
        last_error: row.get(11)?,
    })
}

pub(super) fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    let id = unsigned(row.get(0)?);
    Ok(EventRow {
        id: EventId(id).to_string(),
        event_type: row.get(1)?,
        subject: row.get(2)?,
        source: row.get(3)?,
        time: UnixMs(unsigned(row.get(4)?)).to_string(),
        received_at: ms_of_id(id).to_string(),
    })
}

pub(super) fn event_detail(row: &Row<'_>) -> rusqlite::Result<EventDetail> {
    Ok(EventDetail {
        attributes: attributes_of(row.get_ref(5)?.as_str()?),
        data: row.get(6)?,
        data_pruned: row.get(7)?,
        row: event_row(row)?,
    })
}

pub(super) fn attempt_row(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    let as_text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let request = match row.get::<_, Option<String>>(7)? {
        None => None,
        Some(method) => Some(RequestRow {
            method,
            url: row.get(8)?,
            headers: (row.get::<_, String>(9)?.lines())
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: row.get::<_, Option<Vec<u8>>>(10)?.map(as_text),
        }),
    };
    let plugins: String = row.get(13)?;
    Ok(AttemptRow {
        number: row.get(0)?,
        started_at: UnixMs(unsigned(row.get(1)?)).to_string(),
        duration_us: row.get(2)?,
        outcome: row.get(3)?,
        status_code: row.get(4)?,
        error_code: row.get(5)?,
        error: row.get(6)?,
        request,
        response_excerpt: row.get::<_, Option<Vec<u8>>>(11)?.map(as_text),
        snapshot: unsigned(row.get(12)?),
        plugins: plugins.split_whitespace().map(str::to_owned).collect(),
    })
}
