//! Reading the whole of a store, to be moved into another.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use tokio::sync::mpsc::Sender;

use super::{Store, last_id};
use crate::clock::{UnixMs, first_id_at, ms_of_id};
use crate::queue::QueueError;
use crate::queue::transfer::{BATCH_BYTES, BATCH_ROWS, Batch, Kind, TABLES, Table, Values};
use crate::queue::values::{signed, unsigned};

/// A store that nobody else has open for as long as this lives.
#[derive(Debug)]
pub(in crate::queue) struct Export(Store);

impl Export {
    pub(in crate::queue) fn open(path: &Path) -> Result<Self, QueueError> {
        Ok(Self(Store::open(path, u64::MAX)?))
    }

    pub(in crate::queue) fn last_id(&self) -> Result<u64, QueueError> {
        last_id(&self.0.connection)
    }

    pub(in crate::queue) fn count(&self, table: &Table) -> Result<u64, QueueError> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        Ok(self.0.connection.query_row(&sql, [], |row| row.get(0).map(unsigned))?)
    }

    /// How many deliveries have each status.
    pub(in crate::queue) fn statuses(&self) -> Result<Vec<(i64, u64)>, QueueError> {
        let sql = "SELECT status, count(*) FROM deliveries GROUP BY status";
        let mut statement = self.0.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1).map(unsigned)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What secrets are sealed with.
    pub(in crate::queue) fn keys(&self) -> Result<Vec<String>, QueueError> {
        let mut statement = self.0.connection.prepare("SELECT DISTINCT key FROM sealed")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The names that rows have as numbers.
    pub(in crate::queue) fn labels(&self) -> Result<Vec<(i64, String)>, QueueError> {
        let mut statement = self.0.connection.prepare("SELECT id, text FROM labels")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A moment of every day of which there is an event or a delivery, by steps over what
    /// lies between.
    pub(in crate::queue) fn days(&self, day: Duration) -> Result<Vec<UnixMs>, QueueError> {
        let day_ms = day.as_millis() as u64;
        let sql = "SELECT min((SELECT min(id) FROM events WHERE id >= ?1)),
                          min((SELECT min(id) FROM deliveries WHERE id >= ?1))";
        let mut statement = self.0.connection.prepare(sql)?;
        let (mut days, mut from) = (Vec::new(), 0);
        loop {
            let next: (Option<i64>, Option<i64>) =
                statement.query_row([signed(from)], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let Some(next) = next.0.into_iter().chain(next.1).min() else { return Ok(days) };
            let at = ms_of_id(unsigned(next));
            days.push(at);
            from = first_id_at(UnixMs((at.0 / day_ms + 1) * day_ms));
        }
    }

    /// Every row of every table, in batches; gives itself back.
    pub(in crate::queue) fn read(self, batches: &Sender<Batch>) -> Result<Self, QueueError> {
        'tables: for table in TABLES {
            let sql = format!(
                "SELECT {} FROM {} ORDER BY {}",
                table.column_names(),
                table.name,
                table.order
            );
            let mut statement = self.0.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let (mut batch, mut bytes) = (Batch::of(table), 0);
            while let Some(row) = rows.next()? {
                for (at, values) in batch.columns.iter_mut().enumerate() {
                    bytes += values.push(row.get_ref(at)?)?;
                }
                batch.rows += 1;
                if batch.rows == BATCH_ROWS || bytes >= BATCH_BYTES {
                    let full = std::mem::replace(&mut batch, Batch::of(table));
                    bytes = 0;
                    if batches.blocking_send(full).is_err() {
                        // Whoever writes has failed, and says so.
                        break 'tables;
                    }
                }
            }
            drop(rows);
            drop(statement);
            if batch.rows > 0 && batches.blocking_send(batch).is_err() {
                break;
            }
        }
        Ok(self)
    }
}

impl Batch {
    fn of(table: &'static Table) -> Self {
        let empty = |(_, kind): &(_, Kind)| match kind {
            Kind::Text => Values::Texts(Vec::new()),
            Kind::Bytes => Values::Bytes(Vec::new()),
            _ => Values::Numbers(Vec::new()),
        };
        Self { table, columns: table.columns.iter().map(empty).collect(), rows: 0 }
    }
}

impl Values {
    /// Returns how many bytes it is.
    fn push(&mut self, value: ValueRef<'_>) -> Result<usize, QueueError> {
        let wrong = |error: rusqlite::types::FromSqlError| {
            QueueError::Broken(format!("a row that is damaged: {error}").into())
        };
        Ok(match self {
            Self::Numbers(all) => {
                all.push(value.as_i64_or_null().map_err(wrong)?);
                size_of::<i64>()
            }
            Self::Texts(all) => {
                let text = value.as_str_or_null().map_err(wrong)?;
                all.push(text.map(str::to_owned));
                text.map_or(0, str::len)
            }
            Self::Bytes(all) => {
                let bytes = value.as_blob_or_null().map_err(wrong)?;
                all.push(bytes.map(<[u8]>::to_vec));
                bytes.map_or(0, <[u8]>::len)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is made anew by the other store, or has no meaning there.
    const NOT_MOVED: [&str; 8] = [
        "clock",
        "labels",
        "blocks",
        "columns",
        "types",
        "deliveries.leased",
        "deliveries.sum",
        "events.sum",
    ];

    #[test]
    fn every_column_of_every_table_is_moved() {
        let folder = tempfile::tempdir().expect("a folder");
        let export = Export::open(&folder.path().join("store.db")).expect("a store");
        let sql = "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                   WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'";
        let mut statement = export.0.connection.prepare(sql).expect("SQL");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let there: BTreeSet<(String, String)> = rows.map(|it| it.expect("a row")).collect();
        let there: BTreeSet<String> = there
            .into_iter()
            .filter(|(table, _)| !NOT_MOVED.contains(&table.as_str()))
            .map(|(table, column)| format!("{table}.{column}"))
            .filter(|it| !NOT_MOVED.contains(&it.as_str()))
            .collect();
        let column = |table: &'static Table| {
            table.columns.iter().map(|(name, _)| format!("{}.{name}", table.name))
        };
        let moved: BTreeSet<String> = TABLES.iter().flat_map(column).collect();
        assert_eq!(moved, there);
    }
}
