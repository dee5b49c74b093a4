//! Rows of the log, read.

use rusqlite::Row;

use crate::attempt::SentBody;
use crate::clock::{UnixMs, ms_of_id};
use crate::delivery::DeliveryId;
use crate::event::EventId;
use crate::queue::log::{AttemptRow, DeliveryRow, EventDetail, EventRow, RequestRow, as_text};
use crate::queue::recorded::RecordedRequest;
use crate::queue::values::{attributes_of, unsigned};

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
    let (status, created_at, next_attempt_at) = DeliveryRow::times(id, row.get(7)?, row.get(9)?);
    Ok(DeliveryRow {
        id: DeliveryId(id).to_string(),
        event_id: EventId(unsigned(row.get(1)?)).to_string(),
        event_type: row.get(2)?,
        subject: row.get(3)?,
        source: row.get(4)?,
        route: row.get(5)?,
        endpoint: row.get(6)?,
        status,
        attempts: row.get(8)?,
        created_at,
        next_attempt_at,
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
    let data: Option<Vec<u8>> = row.get(15)?;
    let plugins: String = row.get(14)?;
    Ok(AttemptRow {
        number: row.get(0)?,
        started_at: UnixMs(unsigned(row.get(1)?)).to_string(),
        duration_us: row.get(2)?,
        outcome: row.get(3)?,
        status_code: row.get(4)?,
        error_code: row.get(5)?,
        error: row.get(6)?,
        request: request_of(row, 7)?.map(|it| RequestRow::new(it, data)),
        response_excerpt: row.get::<_, Option<Vec<u8>>>(12)?.map(as_text),
        snapshot: unsigned(row.get(13)?),
        plugins: plugins.split_whitespace().map(str::to_owned).collect(),
    })
}

/// From five columns: method, URL, headers, body, where the data goes.
pub(super) fn request_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<RecordedRequest>> {
    let Some(method) = row.get(at)? else { return Ok(None) };
    Ok(Some(RecordedRequest {
        method,
        url: row.get(at + 1)?,
        headers: row.get(at + 2)?,
        body: SentBody::from_columns(row.get(at + 3)?, row.get(at + 4)?),
    }))
}
