//! Reading for people, over sessions of its own: it never waits for the writer.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_postgres::Row;

use super::address::Address;
use super::connection::{Session, get};
use super::rows::{
    ATTEMPTS, DELIVERIES, attempt_row, delivery_row, event_of, event_row, request_of,
};
use super::search;
use crate::clock::{UnixMs, ms_of_id};
use crate::delivery::DeliveryId;
use crate::event::EventId;
use crate::queue::QueueError;
use crate::queue::log::{
    AttemptRow, Backlog, DeliveryFilter, DeliveryRow, EventDetail, EventFilter, EventRow,
};
use crate::queue::nodes::Node;
use crate::queue::recorded::{Recorded, RecordedAttempt, RecordedDelivery};
use crate::queue::values::{attributes_of, signed, status_of, unsigned};

/// Reads the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    address: Arc<Address>,
    /// Sessions that nobody uses at the moment.
    idle: Arc<Mutex<Vec<Session>>>,
}

/// How many sessions wait for the next question; more are opened and closed.
const IDLE_MAX: usize = 4;

impl Log {
    pub(in crate::queue) async fn open(address: &Address) -> Result<Self, QueueError> {
        let log = Self { address: Arc::new(address.clone()), idle: Arc::default() };
        log.answers().await?;
        Ok(log)
    }

    /// Deliveries, newest first.
    pub(in crate::queue) async fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> Result<Vec<DeliveryRow>, QueueError> {
        search::deliveries(&*self.session().await?, &filter).await
    }

    /// Events, newest first.
    pub(in crate::queue) async fn events(
        &self,
        filter: EventFilter,
    ) -> Result<Vec<EventRow>, QueueError> {
        search::events(&*self.session().await?, &filter).await
    }

    /// One delivery with its attempts, oldest first.
    pub(in crate::queue) async fn delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, QueueError> {
        let id = signed(id.0);
        let session = self.session().await?;
        let sql = format!("{DELIVERIES} WHERE d.id = $1");
        let Some(row) = session.client.query_opt(&sql, &[&id]).await? else { return Ok(None) };
        let sql = format!("{ATTEMPTS} WHERE a.delivery = $1 ORDER BY a.number");
        let attempts = session.client.query(&sql, &[&id]).await?;
        let attempts = attempts.iter().map(attempt_row).collect::<Result<_, _>>()?;
        Ok(Some((delivery_row(&row)?, attempts)))
    }

    /// One event with its data.
    pub(in crate::queue) async fn event(
        &self,
        id: EventId,
    ) -> Result<Option<EventDetail>, QueueError> {
        let session = self.session().await?;
        let sql = "SELECT e.id, e.type, e.subject, s.text, e.time, e.attributes, e.data,
                          e.data_pruned
                   FROM events e JOIN labels s ON s.id = e.source WHERE e.id = $1";
        let row = session.client.query_opt(sql, &[&signed(id.0)]).await?;
        row.as_ref().map(event_detail).transpose()
    }

    /// Deliveries that a recovery is about, oldest first, after that one and up to `until`.
    pub(in crate::queue) async fn to_recover(
        &self,
        filter: DeliveryFilter,
        after: u64,
    ) -> Result<Vec<DeliveryId>, QueueError> {
        search::oldest_first(&*self.session().await?, &filter, after).await
    }

    /// What waits in the store, by route.
    pub(in crate::queue) async fn backlog(&self) -> Result<Vec<Backlog>, QueueError> {
        let session = self.session().await?;
        let sql = "SELECT r.text, w.count, w.oldest FROM
                       (SELECT route, count(*) AS count, min(id) AS oldest FROM deliveries
                        WHERE status = 0 AND lease IS NULL GROUP BY route) w
                   JOIN labels r ON r.id = w.route";
        let rows = session.client.query(sql, &[]).await?;
        let backlog = rows.iter().map(|row| {
            Ok(Backlog {
                route: get(row, 0)?,
                deliveries: unsigned(get(row, 1)?),
                oldest: ms_of_id(unsigned(get(row, 2)?)),
            })
        });
        backlog.collect()
    }

    /// The processes on this database.
    pub(in crate::queue) async fn nodes(&self) -> Result<Vec<Node>, QueueError> {
        super::nodes::all(&*self.session().await?).await
    }

    /// Does the store answer?
    pub(in crate::queue) async fn answers(&self) -> Result<(), QueueError> {
        Ok(self.session().await?.client.batch_execute("SELECT 1").await?)
    }

    /// The last events, newest first, each with its deliveries; handed over one by one.
    pub(in crate::queue) async fn recorded(
        &self,
        last: usize,
        mut each: impl FnMut(Recorded) + Send + 'static,
    ) -> Result<(), QueueError> {
        let mut left = last;
        let mut before = i64::MAX;
        while left > 0 {
            let page = i64::try_from(left.min(RECORDED_PAGE)).unwrap_or(1);
            let found = recorded(&*self.session().await?, before, page).await?;
            let Some(oldest) = found.last().map(|it| signed(it.event.id.0)) else { break };
            (before, left) = (oldest, left - found.len().min(left));
            // It waits for whoever compares them.
            each = tokio::task::spawn_blocking(move || {
                found.into_iter().for_each(&mut each);
                each
            })
            .await
            .map_err(|error| QueueError::Broken(error.to_string().into()))?;
        }
        Ok(())
    }

    /// One that nobody uses, or another.
    async fn session(&self) -> Result<Reading, QueueError> {
        let idle = self.idle.clone();
        loop {
            let session = idle.lock().pop();
            match session {
                // It ended while nobody used it.
                Some(session) if session.is_closed() => {}
                Some(session) => return Ok(Reading { session: Some(session), idle }),
                None => break,
            }
        }
        let session = Session::open(&self.address).await?;
        session.client.batch_execute("SET default_transaction_read_only TO on").await?;
        Ok(Reading { session: Some(session), idle })
    }
}

/// A session in use; it goes back afterwards.
struct Reading {
    /// None only while it is dropped.
    session: Option<Session>,
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Deref for Reading {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("there is a session until the end")
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut idle = self.idle.lock();
        let session = self.session.take().filter(|it| idle.len() < IDLE_MAX && !it.is_closed());
        idle.extend(session);
    }
}

/// So many events are in memory at once while recorded ones are handed over.
const RECORDED_PAGE: usize = 64;

async fn recorded(session: &Session, before: i64, count: i64) -> Result<Vec<Recorded>, QueueError> {
    let sql = "SELECT e.id, s.text, e.type, e.subject, e.time, e.attributes, e.data
               FROM events e JOIN labels s ON s.id = e.source
               WHERE NOT e.data_pruned AND e.id < $1 ORDER BY e.id DESC LIMIT $2";
    let mut all = Vec::new();
    for row in session.client.query(sql, &[&before, &count]).await? {
        let event = event_of(&row, 0)?;
        let sql = "SELECT DISTINCT ON (r.text) r.text, d.status, a.started, a.method, a.url,
                          a.headers, a.body, a.data_at, a.error_code, a.error
                   FROM deliveries d JOIN labels r ON r.id = d.route
                   LEFT JOIN LATERAL (SELECT * FROM attempts WHERE delivery = d.id
                                      ORDER BY number DESC LIMIT 1) a ON true
                   WHERE d.event = $1 ORDER BY r.text, d.id DESC";
        let rows = session.client.query(sql, &[&signed(event.id.0)]).await?;
        let deliveries = rows.iter().map(recorded_delivery).collect::<Result<_, _>>()?;
        all.push(Recorded { event, deliveries });
    }
    Ok(all)
}

fn recorded_delivery(row: &Row) -> Result<RecordedDelivery, QueueError> {
    let attempt = match get::<Option<i64>>(row, 2)? {
        None => None,
        Some(started) => Some(RecordedAttempt {
            started: UnixMs(unsigned(started)),
            request: request_of(row, 3)?,
            error_code: get(row, 8)?,
            error: get(row, 9)?,
        }),
    };
    let status = status_of(get::<i16>(row, 1)?.into());
    Ok(RecordedDelivery { route: get(row, 0)?, status, attempt })
}

fn event_detail(row: &Row) -> Result<EventDetail, QueueError> {
    Ok(EventDetail {
        attributes: attributes_of(get(row, 5)?),
        data: get(row, 6)?,
        data_pruned: get(row, 7)?,
        row: event_row(row)?,
    })
}
