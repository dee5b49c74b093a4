//! What happened to deliveries in hand, as columns. A row is changed only where it still
//! has the lease under which that happened.
//!
//! It is found by its id alone: no index answers `IS NOT DISTINCT FROM`. That of leases is
//! small, so the planner likes it, but while a long transaction keeps the database from
//! tidying up it has an entry for all that has ended since.

use std::borrow::Cow;
use std::collections::HashSet;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::super::connection::get;
use super::super::rows::text;
use super::{Failure, Statements, rows};
use crate::attempt::Attempt;
use crate::clock::{UnixMs, ms_of_id};
use crate::delivery::{DeliveryId, Lease, Next};
use crate::queue::values::{signed, status_number};
use crate::queue::writer::Fact;
use crate::queue::{Made, Settled, Settlement};

pub(super) const ATTEMPTED: &str = "
    WITH v AS (
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::int[],
            $6::bigint[], $7::bigint[], $8::text[], $9::int[], $10::text[], $11::text[],
            $12::text[], $13::text[], $14::text[], $15::bytea[], $16::int[], $17::bytea[],
            $18::bigint[], $19::text[])
        AS v (id, lease, status, due, number, started, duration_us, outcome, status_code,
              error_code, error, method, url, headers, body, data_at, excerpt, snapshot, plugins)),
    done AS (
        UPDATE deliveries d SET lease = NULL, status = v.status, due = v.due,
            attempts = v.number, status_code = v.status_code,
            error = v.error_code || ': ' || v.error
        FROM v WHERE d.id = v.id AND d.lease IS NOT DISTINCT FROM v.lease RETURNING d.id),
    kept AS (
        INSERT INTO attempts (delivery, number, started, duration_us, outcome, status_code,
            error_code, error, method, url, headers, body, data_at, excerpt, snapshot, plugins)
        SELECT v.id, number, started, duration_us, outcome, status_code, error_code, error,
            method, url, headers, body, data_at, excerpt, snapshot, plugins
        FROM v JOIN done ON done.id = v.id ON CONFLICT DO NOTHING)
    SELECT id FROM done";

pub(super) const DECLINED: &str = "
    UPDATE deliveries d SET lease = NULL, status = v.status, due = v.due,
        error = coalesce(v.error, d.error)
    FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[])
        AS v (id, lease, status, due, error)
    WHERE d.id = v.id AND d.lease IS NOT DISTINCT FROM v.lease RETURNING d.id";

pub(super) const RELEASED: &str = "
    UPDATE deliveries d SET lease = NULL
    FROM unnest($1::bigint[], $2::bigint[]) AS v (id, lease)
    WHERE d.id = v.id AND d.lease IS NOT DISTINCT FROM v.lease RETURNING d.id";

/// Every fact of a batch.
#[derive(Default)]
pub(super) struct Settlements<'f> {
    pub(super) all: Vec<&'f Settled>,
    attempted: Vec<(&'f Settlement, &'f Attempt)>,
    declined: Vec<(&'f Settlement, Option<String>)>,
    released: Vec<(DeliveryId, Lease)>,
}

/// Which of them were written down.
pub(super) struct Recorded(HashSet<i64>);

impl Recorded {
    pub(super) fn has(&self, settled: &Settled) -> bool {
        self.has_id(settled.settlement.delivery)
    }

    pub(super) fn has_id(&self, id: DeliveryId) -> bool {
        self.0.contains(&signed(id.0))
    }
}

impl<'f> Settlements<'f> {
    pub(super) fn of(facts: &'f [Fact]) -> Self {
        let mut settlements = Self::default();
        for fact in facts {
            match fact {
                Fact::Released(id, lease) => settlements.released.push((*id, *lease)),
                Fact::Settled(settled) => {
                    let settlement = &settled.settlement;
                    settlements.all.push(settled);
                    match &settlement.made {
                        Made::Attempt(attempt) => settlements.attempted.push((settlement, attempt)),
                        Made::Nothing(fault) => {
                            let error = fault.as_ref().map(ToString::to_string);
                            settlements.declined.push((settlement, error));
                        }
                    }
                }
            }
        }
        settlements
    }

    /// Does anything follow from them that is to be written too?
    pub(super) fn lead_on(&self) -> bool {
        self.all.iter().any(|it| {
            !it.raised.is_empty() || it.health.is_some() || it.spent.is_some() || it.slot.is_some()
        })
    }

    /// What is given back is due at this moment or after it.
    pub(super) fn released_since(&self) -> Option<UnixMs> {
        self.released.iter().map(|(id, _)| ms_of_id(id.0)).min()
    }

    pub(super) fn deliveries(&self) -> impl Iterator<Item = (DeliveryId, Lease)> {
        let settled = self.all.iter().map(|it| (it.settlement.delivery, it.settlement.lease));
        settled.chain(self.released.iter().copied())
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        sql: &Statements,
    ) -> Result<Recorded, Failure> {
        let (attempted, declined, released) = tokio::join!(
            self.attempted(client, sql),
            self.declined(client, sql),
            self.released(client, sql),
        );
        let mut ids = HashSet::new();
        for row in [attempted?, declined?, released?].iter().flatten() {
            ids.insert(get(row, 0)?);
        }
        Ok(Recorded(ids))
    }

    async fn attempted(
        &self,
        client: &Client,
        sql: &Statements,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let all = &self.attempted;
        let common = Common::of(all.iter().map(|(it, _)| *it));
        let number: Vec<_> = of(all, |it| i32::try_from(it.number).unwrap_or(i32::MAX));
        let started: Vec<_> = of(all, |it| signed(it.started.0));
        let duration: Vec<_> =
            of(all, |it| i64::try_from(it.duration.as_micros()).unwrap_or(i64::MAX));
        let outcome: Vec<_> = of(all, |it| it.outcome.as_str());
        let status: Vec<_> = of(all, |it| it.response.as_ref().map(|it| i32::from(it.status)));
        let code: Vec<_> = of(all, |it| it.fault.as_ref().map(|it| text(&it.code)));
        let error: Vec<_> = of(all, |it| it.fault.as_ref().map(|it| text(&it.message)));
        let method: Vec<_> = of(all, |it| it.request.as_ref().map(|it| it.method.as_str()));
        let url: Vec<_> = of(all, |it| it.request.as_ref().map(|it| text(&it.url)));
        let headers: Vec<_> = of(all, |it| it.request.as_ref().map(|it| text(&it.headers)));
        let bodies = all.iter().map(|(_, it)| it.request.as_ref().map(|it| it.body.columns()));
        let (body, data_at): (Vec<_>, Vec<_>) = bodies.map(Option::unwrap_or_default).unzip();
        let excerpt: Vec<_> = of(all, |it| it.response.as_ref().map(|it| &*it.excerpt));
        let snapshot: Vec<_> = of(all, |it| signed(it.snapshot));
        let plugins: Vec<_> = of(all, |it| text(&it.plugins));
        let Common { ids, leases, statuses, dues } = &common;
        let values: [&(dyn ToSql + Sync); 19] = [
            ids, leases, statuses, dues, &number, &started, &duration, &outcome, &status, &code,
            &error, &method, &url, &headers, &body, &data_at, &excerpt, &snapshot, &plugins,
        ];
        rows(client, &sql.attempted, &values, all.is_empty()).await
    }

    async fn declined(
        &self,
        client: &Client,
        sql: &Statements,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Common { ids, leases, statuses, dues } =
            Common::of(self.declined.iter().map(|(it, _)| *it));
        let errors: Vec<Option<Cow<'_, str>>> =
            self.declined.iter().map(|(_, it)| it.as_deref().map(text)).collect();
        let values: [&(dyn ToSql + Sync); 5] = [&ids, &leases, &statuses, &dues, &errors];
        rows(client, &sql.declined, &values, ids.is_empty()).await
    }

    async fn released(
        &self,
        client: &Client,
        sql: &Statements,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let ids: Vec<_> = self.released.iter().map(|(id, _)| signed(id.0)).collect();
        let leases: Vec<_> = self.released.iter().map(|(_, lease)| lease.0).collect();
        rows(client, &sql.released, &[&ids, &leases], ids.is_empty()).await
    }
}

fn of<'f, T>(all: &[(&'f Settlement, &'f Attempt)], column: impl Fn(&'f Attempt) -> T) -> Vec<T> {
    all.iter().map(|(_, attempt)| column(attempt)).collect()
}

#[derive(Default)]
struct Common {
    ids: Vec<i64>,
    leases: Vec<i64>,
    statuses: Vec<i16>,
    dues: Vec<i64>,
}

impl Common {
    fn of<'f>(settlements: impl Iterator<Item = &'f Settlement>) -> Self {
        let mut common = Self::default();
        for Settlement { delivery, lease, next, now, .. } in settlements {
            common.ids.push(signed(delivery.0));
            common.leases.push(lease.0);
            common.statuses.push(status_number(next.status()) as i16);
            let due = if let Next::WaitUntil(at) = next { at } else { now };
            common.dues.push(signed(due.0));
        }
        common
    }
}
