//! The SQLite store: one file, one process. [`write`] says what belongs to one
//! transaction; [`accept`] takes events in, [`settle`] writes down what became of them.
//!
//! One process owns the file: it holds an exclusive lock beside it for life. So
//! a lease that is found at opening belongs to a process that is gone, and is void.
//!
//! [`opening`] makes a file a store; [`waiting`] has what lanes ask for, [`log`] and
//! [`search`] what people do, [`subscriptions`] what is kept of those.

mod accept;
mod checkpoint;
mod columns;
mod export;
mod frames;
mod hints;
pub(super) mod log;
mod opening;
mod prune;
mod recorded;
mod room;
mod rows;
mod search;
mod settle;
mod steer;
pub(super) mod subscriptions;
mod sums;
mod waiting;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, ffi, params};

use super::values::{PARKED, attributes_of, signed, unsigned};
use super::{QueueError, Resent};
use crate::clock::{self, IdClock, UnixMs};
use crate::delivery::DeliveryId;
use crate::endpoint::OrderKey;
use crate::event::{Event, EventId};
use checkpoint::Checkpoints;
use columns::{Columns, Tails};
pub(super) use export::Export;
use room::Room;
use waiting::is_held;

/// The store, owned by the writer thread.
#[derive(Debug)]
pub(super) struct Store {
    checkpoints: Checkpoints,
    connection: Connection,
    columns: Columns,
    labels: Labels,
    ids: Arc<IdClock>,
    /// The time that the next process would begin with, if there were no ids.
    shown: UnixMs,
    room: Room,
    /// Held, not read: another process must not open the file.
    _lock: File,
}

impl Store {
    pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Self, QueueError> {
        let (mut connection, lock) = opening::open(path)?;
        let sql = "UPDATE deliveries INDEXED BY deliveries_undelivered SET leased = 0
                   WHERE status <> 1 AND status = 0 AND leased = 1";
        connection.execute(sql, [])?;
        let labels = Labels::load(&connection)?;
        let columns = Columns::open(&mut connection)?;
        let last_id = last_id(&connection)?;
        let ids = Arc::new(IdClock::after(last_id));
        // What is due was written by a clock that showed this at least.
        let shown = shown(&connection)?;
        clock::not_before(clock::ms_of_id(last_id).max(shown));
        let checkpoints = Checkpoints::of(&mut connection, path)?;
        Ok(Self {
            checkpoints,
            connection,
            columns,
            labels,
            ids,
            shown,
            room: Room::new(bytes_max),
            _lock: lock,
        })
    }

    pub(super) fn ids(&self) -> Arc<IdClock> {
        self.ids.clone()
    }

    /// Rows that no block has yet, for those who search.
    pub(super) fn tails(&self) -> Arc<Tails> {
        self.columns.tails.clone()
    }

    /// Run `work` in a transaction: all of it is on disk when this returns, or none.
    fn transaction(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), QueueError>,
    ) -> Result<(), QueueError> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.room.look_again();
        let now = clock::steady();
        let shows = now.since(self.shown) >= SHOWN_EVERY;
        let result = work(self).and_then(|()| {
            if shows {
                let sql = "UPDATE clock SET shown = ?1, again = ?1";
                self.connection.prepare_cached(sql)?.execute([signed(now.0)])?;
            }
            let commit = self.connection.prepare_cached("COMMIT")?.execute([]);
            commit.inspect_err(exit_if_the_disk_failed).map(drop).map_err(QueueError::from)
        });
        if result.is_err() {
            // Fails only where SQLite has rolled back already.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.columns.rolled_back();
            self.labels = Labels::load(&self.connection)?;
        } else {
            self.columns.committed();
            if shows {
                self.shown = now;
            }
            self.checkpoints.after_commit(&self.connection);
        }
        result
    }

    fn resend(
        &mut self,
        delivery: DeliveryId,
        new_event: Option<EventId>,
        new_delivery: DeliveryId,
        now: UnixMs,
    ) -> Result<(Resent, Arc<str>), QueueError> {
        let sql = "SELECT d.event, r.text, e.data_pruned, d.route, d.key, e.sum FROM deliveries d
                   JOIN events e ON e.id = d.event JOIN labels r ON r.id = d.route
                   WHERE d.id = ?1";
        let found = (self.connection)
            .query_row(sql, [signed(delivery.0)], |row| {
                let lane = (row.get::<_, i64>(3)?, row.get::<_, Option<i64>>(4)?.map(OrderKey));
                let (event, route) = (row.get::<_, i64>(0)?, row.get::<_, Arc<str>>(1)?);
                Ok((event, route, row.get(2)?, lane, row.get::<_, Option<i64>>(5)?))
            })
            .optional()?;
        let (mut event, route, pruned, (label, key), sum) = found.ok_or(QueueError::NotFound)?;
        if pruned {
            return Err(QueueError::Pruned);
        }
        if let Some(new) = new_event {
            let sql = "INSERT INTO events (id, source, type, subject, time, attributes, data, sum)
                       SELECT ?2, source, type, subject, time, attributes, data, sum
                       FROM events WHERE id = ?1";
            self.connection.execute(sql, params![event, signed(new.0)])?;
            event = signed(new.0);
        }
        // As it was promised then, so that it overtakes nothing of its key either.
        let sql = "INSERT INTO deliveries
                       (id, event, route, endpoint, status, leased, due, attempts, key, sum)
                   SELECT ?2, ?3, route, endpoint, 0, 0, ?4, 0, key, ?5
                   FROM deliveries WHERE id = ?1";
        let due = if is_held(&self.connection, label, key)? { PARKED } else { signed(now.0) };
        let new_id = signed(new_delivery.0);
        let of_event = EventId(unsigned(event));
        let sum = sum.map(|it| sums::of_delivery(new_delivery, of_event, &route, it));
        self.connection.execute(sql, params![signed(delivery.0), new_id, event, due, sum])?;
        self.index_copy(new_delivery, new_event.map(|_| event))?;
        Ok((Resent { delivery: new_delivery, event: EventId(unsigned(event)) }, route))
    }
}

/// The newest id of any kind; 0 in an empty store.
fn last_id(connection: &Connection) -> Result<u64, QueueError> {
    let sql = "SELECT max(coalesce((SELECT max(id) FROM events), 0),
                          coalesce((SELECT max(id) FROM deliveries), 0))";
    Ok(connection.query_row(sql, [], |row| row.get(0).map(unsigned))?)
}

/// What the clock showed when the store was last written to; 1970 where the disk has
/// changed that.
fn shown(connection: &Connection) -> Result<UnixMs, QueueError> {
    let sql = "SELECT max(shown) FROM clock WHERE shown = again";
    let shown: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(UnixMs(unsigned(shown.unwrap_or_default())))
}

/// How often what the clock shows is written, at most, with what is written anyway.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Names that repeat in every row, as small numbers. They come from files and from
/// subscriptions, so there are not too many to hold.
#[derive(Debug, Default)]
struct Labels(HashMap<Arc<str>, i64>);

impl Labels {
    fn load(connection: &Connection) -> Result<Self, QueueError> {
        let mut statement = connection.prepare("SELECT text, id FROM labels")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }

    fn id(&mut self, connection: &Connection, text: &Arc<str>) -> Result<i64, QueueError> {
        if let Some(&id) = self.0.get(text) {
            return Ok(id);
        }
        let sql = "INSERT INTO labels (text) VALUES (?1) RETURNING id";
        let id = connection.prepare_cached(sql)?.query_row([text], |row| row.get(0))?;
        self.0.insert(text.clone(), id);
        Ok(id)
    }
}

/// After a failed fsync nobody knows what is on disk, and asking again would be
/// answered wrongly: pages are marked clean. Stop; opening again finds the truth.
fn exit_if_the_disk_failed(error: &rusqlite::Error) {
    let code = error.sqlite_error().map(|it| it.extended_code);
    if matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
        tracing::error!(%error, "the disk did not take a commit: stopping");
        std::process::exit(1);
    }
}

/// An event from columns `id, source, type, subject, time, attributes, data`,
/// the first at `at`.
fn event_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Event> {
    Ok(Event {
        id: EventId(unsigned(row.get(at)?)),
        source: row.get(at + 1)?,
        event_type: row.get(at + 2)?,
        subject: row.get::<_, Option<String>>(at + 3)?.map(Into::into),
        time: UnixMs(unsigned(row.get(at + 4)?)),
        attributes: attributes_of(row.get_ref(at + 5)?.as_str()?),
        data: Bytes::copy_from_slice(row.get_ref(at + 6)?.as_blob()?),
    })
}

/// What is left to do about a file that the disk has changed.
const SALVAGE: &str = "stop, put a copy aside, and make a new one of what can be read with \
                       `sqlite3 FILE .recover | sqlite3 NEW`";

fn broken(message: &str) -> QueueError {
    QueueError::Broken(message.into())
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string().into();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Broken(format!("{error}: the file is damaged; {SALVAGE}").into())
            }
            _ => Self::Broken(text),
        }
    }
}
