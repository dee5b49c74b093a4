//! How the stores put values into columns.

use crate::delivery::Status;

/// What a delivery that ended by a person says as its error.
pub(in crate::queue) const CANCELLED: &str = "cancelled";

/// When a delivery is due that waits behind another of its key: never by itself.
pub(in crate::queue) const PARKED: i64 = i64::MAX;

pub(in crate::queue) fn attributes_text(attributes: &[(Box<str>, Box<str>)]) -> String {
    serde_json::to_string(attributes).expect("pairs of strings always serialise")
}

pub(in crate::queue) fn attributes_of(text: &str) -> Vec<(Box<str>, Box<str>)> {
    // Only the stores write the column; a row that was damaged loses its
    // attributes, not its delivery.
    serde_json::from_str(text).unwrap_or_default()
}

pub(in crate::queue) fn status_number(status: Status) -> i64 {
    match status {
        Status::Pending => 0,
        Status::Delivered => 1,
        Status::Filtered => 2,
        Status::Dead => 3,
    }
}

pub(in crate::queue) fn status_of(number: i64) -> Status {
    match number {
        1 => Status::Delivered,
        2 => Status::Filtered,
        3 => Status::Dead,
        _ => Status::Pending,
    }
}

/// Ids and moments are below 2^63, so the cast keeps their order.
#[expect(clippy::cast_possible_wrap, reason = "values stay below 2^63")]
pub(in crate::queue) fn signed(value: u64) -> i64 {
    value as i64
}

#[expect(clippy::cast_sign_loss, reason = "the inverse of `signed`")]
pub(in crate::queue) fn unsigned(value: i64) -> u64 {
    value as u64
}
