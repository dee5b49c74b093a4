//! What is due, and who takes it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::connection::{Session, get};
use super::rows::delivery_of;
use crate::clock::UnixMs;
use crate::delivery::Lease;
use crate::queue::values::{PARKED, signed, unsigned};
use crate::queue::writer::Reply;
use crate::queue::{Claimed, Hold, QueueError, Waiting};

/// A lane asks for what is due.
pub(super) struct Claim {
    pub(super) route: Arc<str>,
    pub(super) count: usize,
    pub(super) now: UnixMs,
    pub(super) reply: Reply<Claimed>,
}

/// Bodies that one claim takes into memory: an eighth of what may be in hand.
const CLAIM_BYTES_MAX: i64 = 8 << 20;

/// Before this moment nothing waits, as far as is known: entries of what has been claimed
/// stay in the index while a long transaction keeps the database from tidying up.
pub(super) type Floor = UnixMs;

/// What another node writes can be so much older than what was claimed before it: clocks
/// differ, and commits take their time. What is older still is found by looking.
pub(super) const FLOOR_BEHIND: Duration = Duration::from_secs(10);

/// Rows that another node claims at the moment are passed over.
pub(super) const CLAIM: &str = "
    WITH due AS (
        SELECT id, event, due FROM deliveries
        WHERE route = $1 AND status = 0 AND lease IS NULL AND due <= $2 AND due >= $6
        ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED),
    sized AS (
        SELECT due.id, due.event,
            sum(octet_length(e.data)) OVER (ORDER BY due.due, due.id) - octet_length(e.data)
                AS before
        FROM due JOIN events e ON e.id = due.event),
    taken AS (
        UPDATE deliveries d SET lease = $4 FROM sized
        WHERE d.id = sized.id AND sized.before < $5
        RETURNING d.id, d.attempts, d.key, d.route, d.event, d.due)
    SELECT d.id, d.attempts, d.key, r.text, e.id, s.text, e.type, e.subject, e.time, e.attributes,
           e.data
    FROM taken d JOIN events e ON e.id = d.event JOIN labels s ON s.id = e.source
    JOIN labels r ON r.id = d.route
    ORDER BY d.due, d.id";

pub(super) const NEXT_DUE: &str = "
    SELECT min(due) FROM deliveries
    WHERE route = $1 AND status = 0 AND lease IS NULL AND due < $2 AND due >= $3";

/// What a claim found.
pub(super) struct Found {
    taken: Vec<Row>,
    next_due: Option<UnixMs>,
    floor: Floor,
}

impl Found {
    /// From where it looked, and from where the next claim may look: nothing that it saw
    /// and did not take is due before that.
    pub(super) fn floors(&self, asked: &Claim) -> (Floor, Floor) {
        let first = self.next_due.map_or(asked.now, |it| it.min(asked.now));
        (self.floor, first.minus(FLOOR_BEHIND))
    }

    pub(super) fn with_lease(
        self,
        route: &Arc<str>,
        lease: Lease,
        hold: Hold,
    ) -> Result<Claimed, QueueError> {
        let mut deliveries = Vec::with_capacity(self.taken.len());
        for row in &self.taken {
            let mut delivery = delivery_of(row, lease)?;
            delivery.route = route.clone();
            deliveries.push(delivery);
        }
        Ok(Claimed { hold, deliveries, next_due: self.next_due })
    }
}

pub(super) async fn claim(
    client: &Client,
    [claim, next_due]: [&Statement; 2],
    asked: &Claim,
    route: Result<i32, QueueError>,
    lease: i64,
    floor: Floor,
) -> Result<Found, QueueError> {
    let route = route?;
    let (now, count) = (signed(asked.now.0), i64::try_from(asked.count).unwrap_or(i64::MAX));
    let from = signed(floor.0);
    let of_claim: [&(dyn ToSql + Sync); 6] =
        [&route, &now, &count, &lease, &CLAIM_BYTES_MAX, &from];
    let of_next: [&(dyn ToSql + Sync); 3] = [&route, &PARKED, &from];
    let (taken, next) =
        tokio::join!(client.query(claim, &of_claim), client.query_one(next_due, &of_next));
    let next_due = get::<Option<i64>>(&next?, 0)?.map(|it| UnixMs(unsigned(it)));
    Ok(Found { taken: taken?, next_due, floor })
}

/// The routes that have something waiting, and when the first of it is due. The index is
/// walked from route to route, however much waits for each.
/// With each, the lease of the node that has its lane.
pub(super) async fn waiting(session: &Session) -> Result<Vec<(Waiting, Option<i64>)>, QueueError> {
    let sql = "
        WITH RECURSIVE first AS (
            (SELECT route, due FROM deliveries
             WHERE status = 0 AND lease IS NULL AND due < $1 ORDER BY route, due LIMIT 1)
            UNION ALL
            SELECT next.* FROM first CROSS JOIN LATERAL (
                SELECT route, due FROM deliveries
                WHERE status = 0 AND lease IS NULL AND due < $1 AND route > first.route
                ORDER BY route, due LIMIT 1) next)
        SELECT r.text, first.due, l.lease FROM first
        JOIN labels r ON r.id = first.route LEFT JOIN lanes l ON l.route = first.route";
    let rows = session.client.query(sql, &[&PARKED]).await?;
    let waiting = rows.iter().map(|row| {
        let first_due = UnixMs(unsigned(get(row, 1)?));
        Ok((Waiting { route: get::<&str>(row, 0)?.into(), first_due }, get(row, 2)?))
    });
    waiting.collect()
}
