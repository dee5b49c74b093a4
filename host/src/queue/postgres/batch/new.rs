//! New events and their deliveries, as columns.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::super::connection::get;
use super::super::labels::Labels;
use super::super::lanes::Lanes;
use super::super::rows::text;
use super::{Batch, rows};
use crate::clock::ms_of_id;
use crate::event::EventId;
use crate::queue::values::{attributes_text, signed, unsigned};
use crate::queue::{DuplicateKey, NewEvent, QueueError};

/// The first of each key stays; in the order of the keys, so that two nodes do not wait for
/// each other.
pub(super) const SEE: &str = "
    INSERT INTO seen (key, body, event)
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) ON CONFLICT DO NOTHING";

pub(super) const SEEN: &str = "SELECT key, body, event FROM seen WHERE key = ANY($1::bytea[])";

pub(super) const EVENT: &str = "
    INSERT INTO events (id, source, type, subject, time, attributes, data)
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bigint[],
                         $6::text[], $7::bytea[])";

/// What another of its key is pending for, in the store or before it in the batch, is
/// parked: due at the end of time, in nobody's hands. Not EXISTS, for which the planner may
/// read all that is pending; and the newest first, because the oldest may have ended.
pub(super) const DELIVERY: &str = "
    INSERT INTO deliveries (id, event, route, endpoint, status, lease, due, attempts, key, place)
    SELECT v.id, v.event, v.route, v.endpoint, 0,
        CASE WHEN NOT h.parked THEN v.lease END,
        CASE WHEN h.parked THEN 9223372036854775807 ELSE v.due END,
        0, v.key, CASE WHEN v.key IS NOT NULL THEN nextval('places') END
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::bigint[], $6::bigint[],
                $7::bigint[], $8::bool[]) WITH ORDINALITY
        AS v (id, event, route, endpoint, lease, due, key, behind, n)
    CROSS JOIN LATERAL (
        SELECT v.behind OR (v.key IS NOT NULL AND (
            SELECT true FROM deliveries p
            WHERE p.route = v.route AND p.key = v.key AND p.status = 0
            ORDER BY p.place DESC LIMIT 1) IS NOT NULL) AS parked) h
    ORDER BY v.n
    RETURNING id, due = 9223372036854775807";

/// An event to be inserted.
pub(super) struct New<'b> {
    pub(super) event: &'b NewEvent,
    /// Its deliveries that have their room begin at once.
    pub(super) may_begin: bool,
}

/// The first event of a key.
pub(super) struct Seen {
    pub(super) event: EventId,
    pub(super) body: Option<[u8; 32]>,
}

/// The first event of this one's key; none when it is that itself.
pub(super) fn first_of(event: &NewEvent, seen: &HashMap<[u8; 32], Seen>) -> Option<EventId> {
    let first = seen.get(&event.duplicate_key.as_ref()?.key)?.event;
    Some(first).filter(|it| *it != event.event.id)
}

pub(super) fn seen(rows: &[Row]) -> Result<HashMap<[u8; 32], Seen>, QueueError> {
    let mut seen = HashMap::new();
    for row in rows {
        let digest = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
        let Some(key) = digest(get(row, 0)?) else { continue };
        let body = get::<Option<&[u8]>>(row, 1)?.and_then(digest);
        seen.insert(key, Seen { body, event: EventId(unsigned(get(row, 2)?)) });
    }
    Ok(seen)
}

/// The keys of a batch.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<Vec<u8>>,
    bodies: Vec<Option<Vec<u8>>>,
    events: Vec<i64>,
}

impl Keys {
    pub(super) fn of(batch: &Batch) -> Self {
        let events = batch.accepts.iter().flat_map(|it| &it.events);
        let mut all: Vec<(&DuplicateKey, i64)> = events
            .filter_map(|it| Some((it.duplicate_key.as_ref()?, signed(it.event.id.0))))
            .collect();
        // Of one key the first in the batch comes first.
        all.sort_by_key(|(it, _)| it.key);
        let mut keys = Self::default();
        for (DuplicateKey { key, body }, event) in all {
            keys.keys.push(key.to_vec());
            keys.bodies.push(body.map(|it| it.to_vec()));
            keys.events.push(event);
        }
        keys
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) async fn see(
        &self,
        client: &Client,
        sql: &Statement,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Self { keys, bodies, events } = self;
        rows(client, sql, &[keys, bodies, events], keys.is_empty()).await
    }

    pub(super) async fn seen(
        &self,
        client: &Client,
        sql: &Statement,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        rows(client, sql, &[&self.keys], self.keys.is_empty()).await
    }
}

#[derive(Default)]
pub(super) struct Events<'b> {
    ids: Vec<i64>,
    sources: Vec<i32>,
    types: Vec<Cow<'b, str>>,
    subjects: Vec<Option<Cow<'b, str>>>,
    times: Vec<i64>,
    attributes: Vec<String>,
    data: Vec<&'b [u8]>,
}

impl<'b> Events<'b> {
    pub(super) fn of(news: &[New<'b>], labels: &Labels) -> Result<Self, QueueError> {
        let mut events = Self::default();
        for New { event, .. } in news {
            let event = &event.event;
            events.ids.push(signed(event.id.0));
            events.sources.push(labels.id(&event.source)?);
            events.types.push(text(&event.event_type));
            events.subjects.push(event.subject.as_deref().map(text));
            events.times.push(signed(event.time.0));
            events.attributes.push(attributes_text(&event.attributes));
            events.data.push(&event.data);
        }
        Ok(events)
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        sql: &Statement,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { ids, sources, types, subjects, times, attributes, data } = self;
        let values: [&(dyn ToSql + Sync); 7] =
            [ids, sources, types, subjects, times, attributes, data];
        rows(client, sql, &values, ids.is_empty()).await.map(drop)
    }
}

#[derive(Default)]
pub(super) struct Deliveries {
    ids: Vec<i64>,
    events: Vec<i64>,
    routes: Vec<i32>,
    endpoints: Vec<i32>,
    leases: Vec<Option<i64>>,
    dues: Vec<i64>,
    keys: Vec<Option<i64>>,
    behind: Vec<bool>,
}

impl Deliveries {
    pub(super) fn of(
        news: &[New<'_>],
        lease: i64,
        labels: &Labels,
        lanes: &Lanes,
    ) -> Result<Self, QueueError> {
        let mut all = Self::default();
        let mut before = HashSet::new();
        for New { event, may_begin } in news {
            for delivery in &event.deliveries {
                let route = labels.id(&delivery.route)?;
                let key = delivery.key.map(|it| it.0);
                all.ids.push(signed(delivery.id.0));
                all.events.push(signed(event.event.id.0));
                all.routes.push(route);
                all.endpoints.push(labels.id(&delivery.endpoint)?);
                // The lane may have been lost since there was room in it.
                let begins = *may_begin && delivery.slot.is_some() && lanes.holds(&delivery.route);
                all.leases.push(begins.then_some(lease));
                all.dues.push(signed(ms_of_id(delivery.id.0).0));
                all.keys.push(key);
                all.behind.push(key.is_some_and(|key| !before.insert((route, key))));
            }
        }
        Ok(all)
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        sql: &Statement,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Self { ids, events, routes, endpoints, leases, dues, keys, behind } = self;
        let values: [&(dyn ToSql + Sync); 8] =
            [ids, events, routes, endpoints, leases, dues, keys, behind];
        rows(client, sql, &values, ids.is_empty()).await
    }

    /// Which of them were leased at birth, unless they are parked.
    pub(super) fn begun(&self) -> HashSet<i64> {
        let all = self.ids.iter().zip(&self.leases);
        all.filter(|(_, lease)| lease.is_some()).map(|(id, _)| *id).collect()
    }

    /// Which of them wait behind another, growing.
    pub(super) fn parked(&self, inserted: &[Row]) -> Result<Vec<i64>, QueueError> {
        let mut parked = Vec::new();
        for row in inserted {
            if get(row, 1)? {
                parked.push(get(row, 0)?);
            }
        }
        parked.sort_unstable();
        Ok(parked)
    }
}
