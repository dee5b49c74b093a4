//! The delivery log, read-only: what people ask of the store. It never waits for
//! the writer, and the writer never waits for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params_from_iter};
use serde::Serialize;

use super::QueueError;
use super::sqlite::{event_of, signed, status_number, status_of, unsigned};
use crate::clock::UnixMs;
use crate::delivery::{DeliveryId, Status};
use crate::event::{Event, EventId};

/// Reads the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: Arc<Path>,
    /// Connections that nobody uses at the moment.
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// How many connections wait for the next question; more are opened and closed.
const IDLE_MAX: usize = 4;

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeliveryFilter {
    pub(crate) status: Option<Status>,
    pub(crate) event_type: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) event: Option<EventId>,
    pub(crate) since: Option<UnixMs>,
    pub(crate) until: Option<UnixMs>,
    /// Only what is older than this one.
    pub(crate) before: Option<DeliveryId>,
    pub(crate) limit: usize,
}

/// A row of the list of deliveries, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeliveryRow {
    pub(crate) id: String,
    event_id: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    source: String,
    route: String,
    endpoint: String,
    pub(crate) status: &'static str,
    attempts: u32,
    created_at: String,
    next_attempt_at: Option<String>,
    last_status_code: Option<u16>,
    last_error: Option<String>,
}

/// An attempt, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AttemptRow {
    number: u32,
    started_at: String,
    duration_us: i64,
    outcome: String,
    status_code: Option<u16>,
    error_code: Option<String>,
    error: Option<String>,
    request: Option<RequestRow>,
    /// The start of the response's body, as text.
    response_excerpt: Option<String>,
    snapshot: u64,
    plugins: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct RequestRow {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    /// None when it was the event's data, unchanged.
    body: Option<String>,
}

/// How many deliveries there are of each status.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts(pub(crate) Vec<(&'static str, u64)>);

impl Log {
    /// Read a store that may be in use by an engine.
    pub(crate) fn open(path: &Path) -> Result<Self, QueueError> {
        let log = Self { path: path.into(), idle: Arc::default() };
        let connection = log.connect()?;
        log.idle.lock().push(connection);
        Ok(log)
    }

    /// Deliveries, newest first.
    pub(crate) async fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> Result<Vec<DeliveryRow>, QueueError> {
        self.read(move |connection| {
            let (conditions, values) = conditions(&filter);
            let sql = format!(
                "{DELIVERY_COLUMNS} {conditions} ORDER BY d.id DESC LIMIT {}",
                filter.limit
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), delivery_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// One delivery with its attempts, oldest first.
    pub(crate) async fn delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, QueueError> {
        self.read(move |connection| {
            let id = signed(id.0);
            let sql = format!("{DELIVERY_COLUMNS} WHERE d.id = ?1");
            let row = connection.prepare_cached(&sql)?.query_row([id], delivery_row).optional()?;
            let Some(row) = row else { return Ok(None) };
            let sql =
                "SELECT number, started, duration_us, outcome, status_code, error_code, error,
                              method, url, headers, body, excerpt, snapshot, plugins
                       FROM attempts WHERE delivery = ?1 ORDER BY number";
            let mut statement = connection.prepare_cached(sql)?;
            let attempts = statement.query_map([id], attempt_row)?.collect::<Result<_, _>>()?;
            Ok(Some((row, attempts)))
        })
        .await
    }

    /// One event.
    pub(crate) async fn event(&self, id: EventId) -> Result<Option<Event>, QueueError> {
        self.read(move |connection| {
            let sql = "SELECT e.id, s.text, e.type, e.subject, e.time, e.attributes, e.data
                       FROM events e JOIN labels s ON s.id = e.source WHERE e.id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([signed(id.0)], |row| event_of(row, 0)).optional()?)
        })
        .await
    }

    /// How many deliveries there are of each status.
    pub(crate) async fn counts(&self) -> Result<Counts, QueueError> {
        self.read(|connection| {
            let sql = "SELECT status, count(*) FROM deliveries GROUP BY status";
            let mut statement = connection.prepare_cached(sql)?;
            let counted = statement
                .query_map([], |row| Ok((status_of(row.get(0)?), unsigned(row.get(1)?))))?
                .collect::<Result<Vec<_>, _>>()?;
            let count_of = |status| {
                counted.iter().find(|(it, _)| *it == status).map_or(0, |(_, count)| *count)
            };
            Ok(Counts(Status::ALL.map(|it| (it.as_str(), count_of(it))).into()))
        })
        .await
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

const DELIVERY_COLUMNS: &str = "
    SELECT d.id, d.event, e.type, e.subject, s.text, r.text, u.text, d.status, d.attempts, d.due,
           d.status_code, d.error
    FROM deliveries d
    JOIN events e ON e.id = d.event
    JOIN labels s ON s.id = e.source
    JOIN labels r ON r.id = d.route
    JOIN labels u ON u.id = d.endpoint";

fn conditions(filter: &DeliveryFilter) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut conditions = Vec::new();
    let mut add = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            conditions.push(condition.replace('?', &format!("?{}", values.len())));
        }
    };
    let text = |value: &Option<String>| value.clone().map(Value::Text);
    let id_at = |at: UnixMs| Value::Integer(signed(crate::clock::first_id_at(at)));
    let label = |column| format!("{column} = (SELECT id FROM labels WHERE text = ?)");
    add("d.status = ?", filter.status.map(|it| Value::Integer(status_number(it))));
    add("e.type = ?", text(&filter.event_type));
    add("e.subject = ?", text(&filter.subject));
    add(&label("e.source"), text(&filter.source));
    add(&label("d.route"), text(&filter.route));
    add(&label("d.endpoint"), text(&filter.endpoint));
    add("d.event = ?", filter.event.map(|it| Value::Integer(signed(it.0))));
    add("d.id >= ?", filter.since.map(id_at));
    add("d.id < ?", filter.until.map(id_at));
    add("d.id < ?", filter.before.map(|it| Value::Integer(signed(it.0))));
    match conditions.is_empty() {
        true => (String::new(), values),
        false => (format!("WHERE {}", conditions.join(" AND ")), values),
    }
}

fn delivery_row(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    let id = unsigned(row.get(0)?);
    let status = status_of(row.get(7)?);
    let due = UnixMs(unsigned(row.get(9)?));
    Ok(DeliveryRow {
        id: DeliveryId(id).to_string(),
        event_id: EventId(unsigned(row.get(1)?)).to_string(),
        event_type: row.get(2)?,
        subject: row.get(3)?,
        source: row.get(4)?,
        route: row.get(5)?,
        endpoint: row.get(6)?,
        status: status.as_str(),
        attempts: row.get(8)?,
        created_at: crate::clock::ms_of_id(id).to_string(),
        next_attempt_at: (status == Status::Pending).then(|| due.to_string()),
        last_status_code: row.get(10)?,
        last_error: row.get(11)?,
    })
}

fn attempt_row(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    let as_text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let request = match row.get::<_, Option<String>>(7)? {
        None => None,
        Some(method) => Some(RequestRow {
            method,
            url: row.get(8)?,
            headers: (row.get::<_, String>(9)?.lines())
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: row.get::<_, Option<Vec<u8>>>(10)?.map(as_text),
        }),
    };
    let plugins: String = row.get(13)?;
    Ok(AttemptRow {
        number: row.get(0)?,
        started_at: UnixMs(unsigned(row.get(1)?)).to_string(),
        duration_us: row.get(2)?,
        outcome: row.get(3)?,
        status_code: row.get(4)?,
        error_code: row.get(5)?,
        error: row.get(6)?,
        request,
        response_excerpt: row.get::<_, Option<Vec<u8>>>(11)?.map(as_text),
        snapshot: unsigned(row.get(12)?),
        plugins: plugins.split_whitespace().map(str::to_owned).collect(),
    })
}
