//! Reading for people. It never waits for the writer, and the writer never waits for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::columns::Tails;
use super::rows::{self, attempt_row, delivery_row, event_detail};
use super::search;
use crate::delivery::DeliveryId;
use crate::event::EventId;
use crate::queue::QueueError;
use crate::queue::log::{
    AttemptRow, Backlog, DeliveryFilter, DeliveryRow, EventDetail, EventFilter, EventRow,
};
use crate::queue::values::{signed, unsigned};

/// Reads the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: Arc<Path>,
    /// Connections that nobody uses at the moment.
    idle: Arc<Mutex<Vec<Connection>>>,
    /// Rows that no block has yet.
    tails: Arc<Tails>,
}

/// How many connections wait for the next question; more are opened and closed.
const IDLE_MAX: usize = 4;

impl Log {
    pub(in crate::queue) fn open(path: &Path, tails: Arc<Tails>) -> Result<Self, QueueError> {
        let log = Self { path: path.into(), idle: Arc::default(), tails };
        let connection = log.connect()?;
        log.idle.lock().push(connection);
        Ok(log)
    }

    /// A store that may be in use by an engine.
    pub(in crate::queue) fn of_file(path: &Path) -> Result<Self, QueueError> {
        Self::open(path, Arc::default())
    }

    /// Deliveries, newest first.
    pub(in crate::queue) async fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> Result<Vec<DeliveryRow>, QueueError> {
        let tails = self.tails.clone();
        self.read(move |connection| search::deliveries(connection, &tails, &filter)).await
    }

    /// Events, newest first.
    pub(in crate::queue) async fn events(
        &self,
        filter: EventFilter,
    ) -> Result<Vec<EventRow>, QueueError> {
        let tails = self.tails.clone();
        self.read(move |connection| search::events(connection, &tails, &filter)).await
    }

    /// One delivery with its attempts, oldest first.
    pub(in crate::queue) async fn delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, QueueError> {
        self.read(move |connection| {
            let id = signed(id.0);
            let sql = format!("{} WHERE d.id = ?1", rows::DELIVERIES);
            let row = connection.prepare_cached(&sql)?.query_row([id], delivery_row).optional()?;
            let Some(row) = row else { return Ok(None) };
            let sql =
                "SELECT a.number, a.started, a.duration_us, a.outcome, a.status_code, a.error_code,
                        a.error, a.method, a.url, a.headers, a.body, a.data_at,
                        a.excerpt, a.snapshot, a.plugins,
                        CASE WHEN a.data_at IS NOT NULL THEN e.data END
                 FROM attempts a
                 JOIN deliveries d ON d.id = a.delivery JOIN events e ON e.id = d.event
                 WHERE a.delivery = ?1 ORDER BY a.number";
            let mut statement = connection.prepare_cached(sql)?;
            let attempts = statement.query_map([id], attempt_row)?.collect::<Result<_, _>>()?;
            Ok(Some((row, attempts)))
        })
        .await
    }

    /// One event with its data.
    pub(in crate::queue) async fn event(
        &self,
        id: EventId,
    ) -> Result<Option<EventDetail>, QueueError> {
        self.read(move |connection| {
            let sql = "SELECT e.id, e.type, e.subject, s.text, e.time, e.attributes, e.data,
                              e.data_pruned
                       FROM events e JOIN labels s ON s.id = e.source WHERE e.id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([signed(id.0)], event_detail).optional()?)
        })
        .await
    }

    /// Deliveries that a recovery is about, oldest first, after that one and up to `until`.
    pub(in crate::queue) async fn to_recover(
        &self,
        filter: DeliveryFilter,
        after: u64,
    ) -> Result<Vec<DeliveryId>, QueueError> {
        self.read(move |connection| search::oldest_first(connection, &filter, after)).await
    }

    /// What waits in the store, by route.
    pub(in crate::queue) async fn backlog(&self) -> Result<Vec<Backlog>, QueueError> {
        self.read(|connection| {
            let sql = "SELECT r.text, w.count, w.oldest FROM
                           (SELECT route, count(*) AS count, min(id) AS oldest FROM deliveries
                            WHERE status = 0 AND leased = 0 GROUP BY route) w
                       JOIN labels r ON r.id = w.route";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![], |row| {
                Ok(Backlog {
                    route: row.get(0)?,
                    deliveries: unsigned(row.get(1)?),
                    oldest: crate::clock::ms_of_id(unsigned(row.get(2)?)),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Does the store answer?
    pub(in crate::queue) async fn answers(&self) -> Result<(), QueueError> {
        self.read(|connection| {
            let sql = "SELECT coalesce(max(id), 0) FROM deliveries";
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?)
        })
        .await
        .map(drop)
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let log = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let connection = match log.idle.lock().pop() {
                Some(connection) => connection,
                None => log.connect()?,
            };
            let answer = question(&connection);
            let mut idle = log.idle.lock();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
            answer
        });
        answer.await.unwrap_or_else(|error| Err(QueueError::Broken(error.to_string().into())))
    }

    fn connect(&self) -> Result<Connection, QueueError> {
        let path: PathBuf = self.path.to_path_buf();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}
