//! Reading what was really sent.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::event_of;
use super::log::Log;
use super::rows::request_of;
use crate::clock::UnixMs;
use crate::queue::QueueError;
use crate::queue::recorded::{Recorded, RecordedAttempt, RecordedDelivery};
use crate::queue::values::{signed, status_of, unsigned};

impl Log {
    /// The last events, newest first, each with its deliveries; handed over one by one.
    pub(in crate::queue) async fn recorded(
        &self,
        last: usize,
        mut each: impl FnMut(Recorded) + Send + 'static,
    ) -> Result<(), QueueError> {
        self.read(move |connection| {
            let sql = "SELECT e.id, s.text, e.type, e.subject, e.time, e.attributes, e.data
                       FROM events e JOIN labels s ON s.id = e.source
                       WHERE e.data_pruned = 0 ORDER BY e.id DESC LIMIT ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let last = i64::try_from(last).unwrap_or(i64::MAX);
            let mut rows = statement.query([last])?;
            while let Some(row) = rows.next()? {
                let event = event_of(row, 0)?;
                let deliveries = deliveries(connection, signed(event.id.0))?;
                each(Recorded { event, deliveries });
            }
            Ok(())
        })
        .await
    }
}

fn deliveries(connection: &Connection, event: i64) -> Result<Vec<RecordedDelivery>, QueueError> {
    let sql = "SELECT max(d.id), r.text, d.status FROM deliveries d
               JOIN labels r ON r.id = d.route WHERE d.event = ?1 GROUP BY d.route";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_map([event], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, status_of(row.get(2)?))))?
        .collect::<Result<Vec<_>, _>>()?;
    let delivery = |(id, route, status)| {
        let attempt = last_attempt(connection, id)?;
        Ok(RecordedDelivery { route, status, attempt })
    };
    found.into_iter().map(delivery).collect()
}

fn last_attempt(
    connection: &Connection,
    delivery: i64,
) -> Result<Option<RecordedAttempt>, QueueError> {
    let sql = "SELECT started, method, url, headers, body, data_at, error_code, error
               FROM attempts WHERE delivery = ?1 ORDER BY number DESC LIMIT 1";
    let attempt = |row: &Row<'_>| {
        Ok(RecordedAttempt {
            started: UnixMs(unsigned(row.get(0)?)),
            request: request_of(row, 1)?,
            error_code: row.get(6)?,
            error: row.get(7)?,
        })
    };
    Ok((connection.prepare_cached(sql)?).query_row(params![delivery], attempt).optional()?)
}
