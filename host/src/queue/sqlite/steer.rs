//! What a person does to a delivery that waits, as statements of their own.

use rusqlite::{OptionalExtension as _, params};

use super::Store;
use crate::clock::UnixMs;
use crate::delivery::{DeliveryId, Status};
use crate::queue::values::{CANCELLED, signed, status_of};
use crate::queue::{Cancelled, QueueError};

impl Store {
    pub(super) fn cancel(
        &mut self,
        delivery: DeliveryId,
        now: UnixMs,
    ) -> Result<Cancelled, QueueError> {
        let id = signed(delivery.0);
        let sql = "UPDATE deliveries SET status = 3, due = ?2, error = ?3
                   WHERE id = ?1 AND status = 0 AND leased = 0";
        let changed = self.connection.execute(sql, params![id, signed(now.0), CANCELLED])?;
        if changed == 1 {
            return Ok(Cancelled::Done);
        }
        let sql = "SELECT status FROM deliveries WHERE id = ?1";
        let status = self.connection.query_row(sql, [id], |row| row.get(0)).optional()?;
        Ok(match status.map(status_of) {
            None => Cancelled::Unknown,
            Some(Status::Pending) => Cancelled::InHand,
            Some(status) => Cancelled::Ended(status),
        })
    }
}
