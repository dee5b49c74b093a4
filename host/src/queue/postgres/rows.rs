//! Rows as values, and texts as PostgreSQL takes them.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Row;

use super::connection::get;
use crate::attempt::SentBody;
use crate::clock::{UnixMs, ms_of_id};
use crate::delivery::{Delivery, DeliveryId, Lease};
use crate::endpoint::OrderKey;
use crate::event::{Event, EventId};
use crate::queue::QueueError;
use crate::queue::log::{AttemptRow, DeliveryRow, EventRow, RequestRow, as_text};
use crate::queue::recorded::RecordedRequest;
use crate::queue::values::{attributes_of, unsigned};

/// PostgreSQL's text holds every character but one.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// A delivery from columns `id, attempts, key, route` and those of its event.
pub(super) fn delivery_of(row: &Row, lease: Lease) -> Result<Delivery, QueueError> {
    Ok(Delivery {
        id: DeliveryId(unsigned(get(row, 0)?)),
        lease,
        attempts: get::<i32>(row, 1)?.unsigned_abs(),
        key: get::<Option<i64>>(row, 2)?.map(OrderKey),
        route: get::<&str>(row, 3)?.into(),
        event: Arc::new(event_of(row, 4)?),
    })
}

/// An event from columns `id, source, type, subject, time, attributes, data`, the first at
/// `at`.
pub(super) fn event_of(row: &Row, at: usize) -> Result<Event, QueueError> {
    Ok(Event {
        id: EventId(unsigned(get(row, at)?)),
        source: get::<&str>(row, at + 1)?.into(),
        event_type: get::<&str>(row, at + 2)?.into(),
        subject: get::<Option<&str>>(row, at + 3)?.map(Into::into),
        time: UnixMs(unsigned(get(row, at + 4)?)),
        attributes: attributes_of(get(row, at + 5)?),
        data: Bytes::copy_from_slice(get(row, at + 6)?),
    })
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

pub(super) fn delivery_row(row: &Row) -> Result<DeliveryRow, QueueError> {
    let id = unsigned(get(row, 0)?);
    let status = i64::from(get::<i16>(row, 7)?);
    let (status, created_at, next_attempt_at) = DeliveryRow::times(id, status, get(row, 9)?);
    Ok(DeliveryRow {
        id: DeliveryId(id).to_string(),
        event_id: EventId(unsigned(get(row, 1)?)).to_string(),
        event_type: get(row, 2)?,
        subject: get(row, 3)?,
        source: get(row, 4)?,
        route: get(row, 5)?,
        endpoint: get(row, 6)?,
        status,
        attempts: get::<i32>(row, 8)?.unsigned_abs(),
        created_at,
        next_attempt_at,
        last_status_code: status_code(row, 10)?,
        last_error: get(row, 11)?,
    })
}

pub(super) fn event_row(row: &Row) -> Result<EventRow, QueueError> {
    let id = unsigned(get(row, 0)?);
    Ok(EventRow {
        id: EventId(id).to_string(),
        event_type: get(row, 1)?,
        subject: get(row, 2)?,
        source: get(row, 3)?,
        time: UnixMs(unsigned(get(row, 4)?)).to_string(),
        received_at: ms_of_id(id).to_string(),
    })
}

/// Every attempt, for [`attempt_row`].
pub(super) const ATTEMPTS: &str = "
    SELECT a.number, a.started, a.duration_us, a.outcome, a.status_code, a.error_code, a.error,
           a.method, a.url, a.headers, a.body, a.data_at, a.excerpt, a.snapshot, a.plugins,
           CASE WHEN a.data_at IS NOT NULL THEN e.data END
    FROM attempts a JOIN deliveries d ON d.id = a.delivery JOIN events e ON e.id = d.event";

pub(super) fn attempt_row(row: &Row) -> Result<AttemptRow, QueueError> {
    let data: Option<Vec<u8>> = get(row, 15)?;
    let plugins: &str = get(row, 14)?;
    Ok(AttemptRow {
        number: get::<i32>(row, 0)?.unsigned_abs(),
        started_at: UnixMs(unsigned(get(row, 1)?)).to_string(),
        duration_us: get(row, 2)?,
        outcome: get(row, 3)?,
        status_code: status_code(row, 4)?,
        error_code: get(row, 5)?,
        error: get(row, 6)?,
        request: request_of(row, 7)?.map(|it| RequestRow::new(it, data)),
        response_excerpt: get::<Option<Vec<u8>>>(row, 12)?.map(as_text),
        snapshot: unsigned(get(row, 13)?),
        plugins: plugins.split_whitespace().map(str::to_owned).collect(),
    })
}

/// From five columns: method, URL, headers, body, where the data goes.
pub(super) fn request_of(row: &Row, at: usize) -> Result<Option<RecordedRequest>, QueueError> {
    let Some(method) = get(row, at)? else { return Ok(None) };
    Ok(Some(RecordedRequest {
        method,
        url: get(row, at + 1)?,
        headers: get(row, at + 2)?,
        body: SentBody::from_columns(get(row, at + 3)?, get(row, at + 4)?),
    }))
}

fn status_code(row: &Row, at: usize) -> Result<Option<u16>, QueueError> {
    Ok(get::<Option<i32>>(row, at)?.and_then(|it| u16::try_from(it).ok()))
}
