//! What follows from what has ended: the next of its key, and what is kept of endpoints.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::super::labels::Labels;
use super::super::rows::text;
use super::rows;
use crate::clock::UnixMs;
use crate::endpoint::OrderKey;
use crate::queue::values::{PARKED, signed};
use crate::queue::{EndpointRecord, QueueError, Settled, Spent};

pub(super) const KEEP: &str = "
    INSERT INTO endpoints (route, url, failing_since, disabled_since, reason, rest_until,
        rest_cause, written_by)
    SELECT DISTINCT ON (route, url) route, url, failing_since, disabled_since, reason, rest_until,
        rest_cause, $8::bigint
    FROM unnest($1::int[], $2::int[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[],
                $7::text[]) WITH ORDINALITY
        AS v (route, url, failing_since, disabled_since, reason, rest_until, rest_cause, n)
    ORDER BY route, url, n DESC
    ON CONFLICT (route, url) DO UPDATE SET failing_since = excluded.failing_since,
        disabled_since = excluded.disabled_since, reason = excluded.reason,
        rest_until = excluded.rest_until, rest_cause = excluded.rest_cause,
        written_by = excluded.written_by, change = excluded.change, changed = excluded.changed";

/// What rate limits have had to bear, with the attempts that they had to. A lane that was
/// taken from a node that is gone has its uncertain part in it.
pub(super) const SPEND: &str = "
    UPDATE lanes l SET spent = v.spent::bigint[], unsure = 0
    FROM unnest($1::int[], $2::text[]) AS v (route, spent)
    WHERE l.route = v.route AND l.lease IS NOT DISTINCT FROM $3";

/// What is parked behind those that have ended goes on, in the hands of this node.
pub(super) const FOLLOW: &str = "
    WITH next AS (
        SELECT e.id AS ended, n.id, n.event
        FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS e (id, route, key)
        CROSS JOIN LATERAL (
            SELECT id, event, due FROM deliveries
            WHERE route = e.route AND key = e.key AND status = 0 ORDER BY place LIMIT 1) n
        WHERE n.due = 9223372036854775807)
    UPDATE deliveries d SET lease = $4, due = $5
    FROM next JOIN events e ON e.id = next.event JOIN labels s ON s.id = e.source,
         labels r
    WHERE d.id = next.id AND d.lease IS NULL AND r.id = d.route
    RETURNING d.id, d.attempts, d.key, r.text, e.id, s.text, e.type, e.subject, e.time,
              e.attributes, e.data, next.ended";

/// Endpoints to be kept, as columns.
#[derive(Default)]
pub(super) struct Kept<'b> {
    routes: Vec<i32>,
    urls: Vec<i32>,
    failing: Vec<Option<i64>>,
    disabled: Vec<Option<i64>>,
    reasons: Vec<Option<Cow<'b, str>>>,
    rests: Vec<Option<i64>>,
    causes: Vec<Option<&'static str>>,
    lease: i64,
}

impl<'b> Kept<'b> {
    pub(super) fn of(
        endpoints: impl Iterator<Item = &'b EndpointRecord>,
        lease: i64,
        labels: &Labels,
    ) -> Result<Self, QueueError> {
        let mut kept = Self { lease, ..Self::default() };
        for EndpointRecord { route, url, health } in endpoints {
            kept.routes.push(labels.id(route)?);
            kept.urls.push(labels.id(url)?);
            kept.failing.push(health.failing_since.map(|it| signed(it.0)));
            kept.disabled.push(health.disabled.as_ref().map(|it| signed(it.since.0)));
            kept.reasons.push(health.disabled.as_ref().map(|it| text(&it.reason)));
            kept.rests.push(health.rest.map(|it| signed(it.until.0)));
            kept.causes.push(health.rest.map(|it| it.cause.as_str()));
        }
        Ok(kept)
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        sql: &Statement,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { routes, urls, failing, disabled, reasons, rests, causes, lease } = self;
        let values: [&(dyn ToSql + Sync); 8] =
            [routes, urls, failing, disabled, reasons, rests, causes, lease];
        rows(client, sql, &values, routes.is_empty()).await.map(drop)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// The last word on each rate limit, as columns.
pub(super) struct Spending {
    routes: Vec<i32>,
    spent: Vec<String>,
    lease: i64,
}

impl Spending {
    pub(super) fn of(
        settled: &[&Settled],
        lease: i64,
        labels: &Labels,
    ) -> Result<Self, QueueError> {
        let mut last = HashMap::new();
        for it in settled {
            if let Some(spent) = &it.spent {
                last.insert(labels.id(&it.settlement.route)?, spent);
            }
        }
        let array = |spent: &Spent| {
            let numbers = spent.iter().flat_map(|(at, count)| [at.0, *count]);
            format!("{{{}}}", numbers.map(|it| it.to_string()).collect::<Vec<_>>().join(","))
        };
        let (routes, spent) = last.into_iter().map(|(route, it)| (route, array(it))).unzip();
        Ok(Self { routes, spent, lease })
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        sql: &Statement,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { routes, spent, lease } = self;
        rows(client, sql, &[routes, spent, lease], routes.is_empty()).await.map(drop)
    }
}

/// Deliveries with a key that have ended, as columns.
#[derive(Default)]
pub(super) struct Ended {
    ids: Vec<i64>,
    routes: Vec<i32>,
    keys: Vec<i64>,
    now: UnixMs,
}

impl Ended {
    pub(super) fn of(settled: &[&Settled], labels: &Labels) -> Result<Self, QueueError> {
        let mut ended = Self::default();
        for it in settled.iter().filter(|it| it.slot.is_some()) {
            let settlement = &it.settlement;
            let Some(OrderKey(key)) = settlement.key else { continue };
            ended.ids.push(signed(settlement.delivery.0));
            ended.routes.push(labels.id(&settlement.route)?);
            ended.keys.push(key);
            ended.now = settlement.now;
        }
        Ok(ended)
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        sql: &Statement,
        lease: i64,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Self { ids, routes, keys, now } = self;
        let now = signed(now.0);
        rows(client, sql, &[ids, routes, keys, &lease, &now], ids.is_empty()).await
    }
}

const _: () = assert!(PARKED == 9_223_372_036_854_775_807, "as FOLLOW has it");
