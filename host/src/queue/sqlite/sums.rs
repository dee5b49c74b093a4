//! Sums over what was written, held against what is read again before it is sent:
//! SQLite does not notice a bit that has turned over in a row.

use crate::delivery::DeliveryId;
use crate::event::{Event, EventId};

/// Over everything of an event that a receiver may see, but its id; `attributes` as they
/// are written.
pub(super) fn of_event(event: &Event, attributes: &str) -> i64 {
    let subject = event.subject.as_deref();
    of(&[
        event.source.as_bytes(),
        event.event_type.as_bytes(),
        &[subject.is_some().into()],
        subject.unwrap_or_default().as_bytes(),
        &event.time.0.to_le_bytes(),
        attributes.as_bytes(),
        &event.data,
    ])
}

/// Over what says which event goes where; with the event's own sum, so that it cannot be
/// another.
pub(super) fn of_delivery(id: DeliveryId, event: EventId, route: &str, of_event: i64) -> i64 {
    of(&[&id.0.to_le_bytes(), &event.0.to_le_bytes(), route.as_bytes(), &of_event.to_le_bytes()])
}

/// CRC-32: it finds every change of up to 32 bits in a row.
fn of(parts: &[&[u8]]) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    for part in parts {
        // Where one part ends is part of what is summed.
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.finalize().into()
}
