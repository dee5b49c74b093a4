//! A process among others: its number, its lease, and taking over from those that are
//! gone.
//!
//! A lease ends when another node says so (`bury`), never by a clock of its own: the row of
//! the node is what every write holds. The database's clock alone says who was silent for
//! too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Session, get};
use crate::clock::{IdClock, NODES_MAX, UnixMs};
use crate::delivery::Lease;
use crate::queue::nodes::name;
use crate::queue::values::unsigned;
use crate::queue::{QueueError, Tenure};

/// Who this process is in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) number: i32,
    pub(super) lease: Lease,
}

/// So long nobody else gets the number of a node that is gone: more than clocks differ, so
/// that two processes never make the same id.
const NUMBER_RESTS: &str = "10 minutes";

impl Node {
    /// Take a number that is free, under a new lease.
    pub(super) async fn join(
        session: &mut Session,
        lease: Duration,
        tenure: &Tenure,
        ids: &Arc<IdClock>,
        now: UnixMs,
    ) -> Result<Self, QueueError> {
        let asked = Instant::now();
        let length = lease;
        let transaction = session.client.transaction().await?;
        transaction.batch_execute("LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE").await?;
        super::import::check(&transaction).await?;
        let sql = format!(
            "SELECT n FROM generate_series(0, {}) n WHERE NOT EXISTS
                 (SELECT 1 FROM nodes WHERE number = n
                  AND (lease IS NOT NULL OR expires > clock_timestamp() - interval '{NUMBER_RESTS}'))
             ORDER BY n LIMIT 1",
            NODES_MAX - 1
        );
        let Some(row) = transaction.query_opt(&sql, &[]).await? else {
            let message = format!("{NODES_MAX} nodes have come and gone within {NUMBER_RESTS}");
            return Err(QueueError::Broken(message.into()));
        };
        let number: i32 = get(&row, 0)?;
        let sql = "INSERT INTO nodes (number, lease, name, renewed, expires)
                   VALUES ($1, nextval('leases'), $2, clock_timestamp(),
                           clock_timestamp() + $3 * interval '1 millisecond')
                   ON CONFLICT (number) DO UPDATE SET lease = excluded.lease, name = excluded.name,
                       renewed = excluded.renewed, expires = excluded.expires,
                       version = NULL, snapshot = NULL, snapshot_since = NULL
                   RETURNING lease";
        let row = transaction.query_one(sql, &[&number, &name(), &ms(lease)]).await?;
        let lease = Lease(get(&row, 0)?);
        let sql =
            "SELECT greatest((SELECT max(id) FROM events), (SELECT max(id) FROM deliveries), 0)";
        let last: i64 = get(&transaction.query_one(sql, &[]).await?, 0)?;
        transaction.commit().await?;
        ids.become_node(number.unsigned_abs(), unsigned(last), now);
        tenure.renewed(lease, asked, length);
        Ok(Self { number, lease })
    }

    /// Say that this node lives. False when the others have given it up.
    pub(super) async fn renew(
        self,
        session: &Session,
        lease: Duration,
        tenure: &Tenure,
    ) -> Result<bool, QueueError> {
        let asked = Instant::now();
        let sql = "UPDATE nodes SET renewed = clock_timestamp(),
                       expires = clock_timestamp() + $3 * interval '1 millisecond'
                   WHERE number = $1 AND lease = $2";
        let renewed =
            session.client.execute(sql, &[&self.number, &self.lease.0, &ms(lease)]).await?;
        if renewed == 1 {
            tenure.renewed(self.lease, asked, lease);
        }
        Ok(renewed == 1)
    }

    /// Go, and leave what is in hand to the others. Returns the routes of it.
    pub(super) async fn leave(self, session: &mut Session) -> Result<Vec<Arc<str>>, QueueError> {
        let transaction = session.client.transaction().await?;
        let sql = "UPDATE nodes SET lease = NULL, expires = clock_timestamp()
                   WHERE number = $1 AND lease = $2";
        transaction.execute(sql, &[&self.number, &self.lease.0]).await?;
        let rows = transaction.query(FREE, &[&[self.lease.0].as_slice()]).await?;
        transaction.commit().await?;
        rows.iter().map(|row| Ok(get::<&str>(row, 0)?.into())).collect()
    }
}

/// What dead leases held is anyone's. What they had in hand of a lane may have been
/// attempted.
const FREE: &str = "
    WITH freed AS (
        UPDATE deliveries SET lease = NULL WHERE lease = ANY($1::bigint[]) RETURNING route),
    counted AS (SELECT route, count(*) AS many FROM freed GROUP BY route),
    left_behind AS (
        UPDATE lanes l SET lease = NULL,
            unsure = unsure + coalesce((SELECT many FROM counted c WHERE c.route = l.route), 0)
        WHERE lease = ANY($1::bigint[]) RETURNING route)
    SELECT text FROM labels
    WHERE id IN (SELECT route FROM freed UNION SELECT route FROM left_behind)";

/// Give up the nodes that have been silent for longer than their lease. Returns the routes
/// of what they had in hand.
pub(super) async fn bury(session: &mut Session) -> Result<Vec<Arc<str>>, QueueError> {
    let transaction = session.client.transaction().await?;
    // A writer holds its node's row against this until its commit; then its lease counts.
    let sql = "UPDATE nodes n SET lease = NULL
               FROM (SELECT number, lease FROM nodes
                     WHERE lease IS NOT NULL AND expires < clock_timestamp()
                     FOR UPDATE SKIP LOCKED) dead
               WHERE n.number = dead.number RETURNING dead.lease, n.number, n.name";
    let dead = transaction.query(sql, &[]).await?;
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let mut leases: Vec<i64> = Vec::new();
    for row in &dead {
        leases.push(get(row, 0)?);
        let (number, name): (i32, &str) = (get(row, 1)?, get(row, 2)?);
        tracing::warn!(number, name, "a node was silent for longer than its lease: given up");
    }
    let rows = transaction.query(FREE, &[&leases]).await?;
    transaction.commit().await?;
    rows.iter().map(|row| Ok(get::<&str>(row, 0)?.into())).collect()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
