//! Deleting what is kept no longer, batch by batch, each a transaction of about 10 ms,
//! so that accepts do not wait long. Space that becomes free is used again; the file
//! does not shrink.

use rusqlite::{OptionalExtension as _, params};

use super::Store;
use super::room::bytes;
use crate::clock::{UnixMs, first_id_at};
use crate::queue::values::signed;
use crate::queue::{QueueError, Retention};

/// How many events one batch touches.
const BATCH: i64 = 500;

/// By size no more should go than must.
const BATCH_BY_SIZE: i64 = 50;

impl Store {
    /// One batch; returns how many events it touched.
    pub(super) fn prune(
        &mut self,
        retention: &Retention,
        now: UnixMs,
    ) -> Result<usize, QueueError> {
        let old = first_id_at(now.minus(retention.rows));
        let rows = self.prune_rows(old, BATCH)?;
        if rows > 0 {
            return Ok(rows);
        }
        self.connection.execute("DELETE FROM seen WHERE event < ?1", [signed(old)])?;
        if let Some(payloads) = retention.payloads {
            let pruned = self.prune_payloads(first_id_at(now.minus(payloads)))?;
            if pruned > 0 {
                return Ok(pruned);
            }
        }
        match retention.bytes {
            Some(most) if bytes(&self.connection)? > most => {
                self.prune_rows(first_id_at(now), BATCH_BY_SIZE)
            }
            _ => Ok(0),
        }
    }

    /// Events from before that id which have nothing pending go, with their deliveries
    /// and attempts.
    fn prune_rows(&mut self, before: u64, batch: i64) -> Result<usize, QueueError> {
        let limit = signed(before);
        let sql = "SELECT id FROM events e WHERE id < ?1 AND NOT EXISTS
                       (SELECT 1 FROM deliveries d WHERE d.event = e.id AND d.status = 0)
                   ORDER BY id LIMIT ?2";
        let old = (self.connection.prepare_cached(sql)?)
            .query_map(params![limit, batch], |row| row.get::<_, i64>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        for event in &old {
            for sql in [
                "DELETE FROM attempts WHERE delivery IN (SELECT id FROM deliveries WHERE event = ?1)",
                "DELETE FROM deliveries WHERE event = ?1",
                "DELETE FROM events WHERE id = ?1",
            ] {
                self.connection.prepare_cached(sql)?.execute([event])?;
            }
        }
        if !old.is_empty() {
            self.prune_blocks()?;
        }
        Ok(old.len())
    }

    /// Blocks go whose rows are all gone.
    fn prune_blocks(&mut self) -> Result<(), QueueError> {
        for (of, table) in ["deliveries", "events"].into_iter().enumerate() {
            let sql = format!("SELECT coalesce(min(id), {}) FROM {table}", i64::MAX);
            let oldest: i64 =
                self.connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
            let sql = "DELETE FROM blocks WHERE of = ?1 AND last < ?2 RETURNING number";
            let gone = (self.connection.prepare_cached(sql)?)
                .query_map(params![of as i64, oldest], |row| row.get::<_, i64>(0))?
                .collect::<Result<Vec<_>, _>>()?;
            for block in gone {
                self.drop_columns(block)?;
            }
        }
        Ok(())
    }

    /// The payloads of events from before that id. What is pending when its turn comes
    /// keeps its payload until the event itself goes.
    fn prune_payloads(&mut self, before: u64) -> Result<usize, QueueError> {
        let sql = "SELECT id FROM progress WHERE name = 'payloads'";
        let from: i64 =
            self.connection.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or_default();
        let sql = "SELECT id, EXISTS (SELECT 1 FROM deliveries d
                                      WHERE d.event = e.id AND d.status = 0)
                   FROM events e WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
        let old = (self.connection.prepare_cached(sql)?)
            .query_map(params![from, signed(before), BATCH], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for (event, _) in old.iter().filter(|(_, pending)| !pending) {
            for sql in [
                "UPDATE attempts SET body = NULL, excerpt = NULL
                 WHERE delivery IN (SELECT id FROM deliveries WHERE event = ?1)",
                "UPDATE events SET data = x'', data_pruned = 1 WHERE id = ?1",
            ] {
                self.connection.prepare_cached(sql)?.execute([event])?;
            }
        }
        if let Some((last, _)) = old.last() {
            let sql = "INSERT INTO progress (name, id) VALUES ('payloads', ?1)
                       ON CONFLICT DO UPDATE SET id = excluded.id";
            self.connection.execute(sql, [last])?;
        }
        Ok(old.len())
    }
}
