//! Deleting what is kept no longer: whole days, by dropping their partitions. What of a day
//! still waits is moved out of it first.
//!
//! With a retention of less than two days, and for what was moved, rows are deleted too,
//! batch by batch. One node prunes at a time.

use std::time::Duration;

use tokio_postgres::Transaction;

use super::connection::{Session, get};
use super::schema::{DAY, PARTITIONED, SCHEMA_LOCK, day_of, first_id_of};
use super::writing::size;
use crate::clock::{UnixMs, first_id_at};
use crate::queue::values::signed;
use crate::queue::{QueueError, Retention};

/// How many events one batch touches.
const BATCH: i64 = 500;

/// While more than that waits, days stay: what waits of one is moved in one go.
const KEPT_MAX: i64 = 100_000;

/// Below that, a day would be kept for far too long.
const BY_ROW: Duration = Duration::from_hours(48);

/// One batch; returns how many events, or days, it touched.
pub(super) async fn prune(
    session: &mut Session,
    retention: &Retention,
    now: UnixMs,
) -> Result<usize, QueueError> {
    let over = match retention.bytes {
        Some(bytes) => size(session).await? > bytes,
        None => false,
    };
    let transaction = session.client.transaction().await?;
    let sql = format!("SELECT pg_try_advisory_xact_lock({SCHEMA_LOCK})");
    if !get::<bool>(&transaction.query_one(&sql, &[]).await?, 0)? {
        return Ok(0);
    }
    transaction.batch_execute("SET LOCAL lock_timeout TO '500ms'").await?;
    let old = first_id_at(now.minus(retention.rows));
    let mut touched = 0;
    if let Some(day) = oldest_day(&transaction).await?
        && (first_id_of(day + 1) <= old || (over && day < day_of(now)))
    {
        touched = usize::from(drop_day(&transaction, day).await?);
    }
    if touched == 0 {
        touched = prune_rows(&transaction, old, retention.rows < BY_ROW).await?;
    }
    if touched == 0 {
        transaction.execute("DELETE FROM seen WHERE event < $1", &[&signed(old)]).await?;
        if let Some(payloads) = retention.payloads {
            touched = prune_payloads(&transaction, first_id_at(now.minus(payloads))).await?;
        }
    }
    transaction.commit().await?;
    Ok(touched)
}

async fn oldest_day(transaction: &Transaction<'_>) -> Result<Option<u64>, QueueError> {
    let sql = "SELECT min(substring(c.relname FROM 8)::bigint) FROM pg_inherits i
               JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]+$'";
    let row = transaction.query_one(sql, &[]).await?;
    Ok(get::<Option<i64>>(&row, 0)?.map(i64::unsigned_abs))
}

/// False when too much of it, and of what is older, waits. What waits is found by its own
/// index: of a large day nothing else is read.
async fn drop_day(transaction: &Transaction<'_>, day: u64) -> Result<bool, QueueError> {
    // An event stays with all of its deliveries while one of them waits. Deliveries of a day
    // can be of an older event.
    let sql = format!(
        "CREATE TEMPORARY TABLE waiting ON COMMIT DROP AS
             SELECT DISTINCT event FROM
                 (SELECT event FROM deliveries WHERE status = 0 LIMIT {KEPT_MAX} + 1) it
             WHERE event < {}",
        first_id_of(day + 1)
    );
    transaction.batch_execute(&sql).await?;
    let sql = format!(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE status = 0
                                       LIMIT {KEPT_MAX} + 1) it) > {KEPT_MAX}"
    );
    if get(&transaction.query_one(&sql, &[]).await?, 0)? {
        tracing::warn!(day, "more than {KEPT_MAX} deliveries wait: a day stays that could go");
        return Ok(false);
    }
    let mut sql = String::new();
    for (table, _) in PARTITIONED {
        sql += &format!("ALTER TABLE {table} DETACH PARTITION {table}_{day};");
    }
    sql += &format!(
        "INSERT INTO events SELECT e.* FROM waiting w JOIN events_{day} e ON e.id = w.event;
         INSERT INTO attempts SELECT a.* FROM waiting w JOIN deliveries_{day} d USING (event)
             JOIN attempts_{day} a ON a.delivery = d.id;
         INSERT INTO deliveries SELECT d.* FROM waiting w JOIN deliveries_{day} d USING (event);"
    );
    for (table, _) in PARTITIONED {
        sql += &format!("DROP TABLE {table}_{day};");
    }
    transaction.batch_execute(&sql).await?;
    tracing::info!(day, "dropped the partitions of a day");
    Ok(true)
}

/// Events from before that id which have nothing pending go, with their deliveries and
/// attempts: of those that were moved, or of all.
async fn prune_rows(
    transaction: &Transaction<'_>,
    before: u64,
    of_all: bool,
) -> Result<usize, QueueError> {
    let table = if of_all { "events" } else { "events_kept" };
    let sql = format!(
        "WITH old AS MATERIALIZED (
             SELECT id FROM {table} e WHERE id < $1 AND NOT EXISTS
                 (SELECT 1 FROM deliveries d WHERE d.event = e.id AND d.status = 0)
             ORDER BY id LIMIT {BATCH}),
         theirs AS (DELETE FROM deliveries WHERE event IN (SELECT id FROM old) RETURNING id),
         made AS (DELETE FROM attempts WHERE delivery IN (SELECT id FROM theirs))
         DELETE FROM events WHERE id IN (SELECT id FROM old)"
    );
    let gone = transaction.execute(&sql, &[&signed(before)]).await?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}

/// The payloads of events from before that id. What is pending when its turn comes keeps
/// its payload until the event itself goes.
async fn prune_payloads(transaction: &Transaction<'_>, before: u64) -> Result<usize, QueueError> {
    let sql = "SELECT id FROM progress WHERE name = 'payloads'";
    let row = transaction.query_opt(sql, &[]).await?;
    let from: i64 = row.map_or(Ok(0), |it| get(&it, 0))?;
    let sql = format!(
        "SELECT id, EXISTS (SELECT 1 FROM deliveries d WHERE d.event = e.id AND d.status = 0)
         FROM events e WHERE id > $1 AND id < $2 ORDER BY id LIMIT {BATCH}"
    );
    let mut old: Vec<i64> = Vec::new();
    let mut last = None;
    let found = transaction.query(&sql, &[&from, &signed(before)]).await?;
    for row in &found {
        last = Some(get::<i64>(row, 0)?);
        if !get::<bool>(row, 1)? {
            old.extend(last);
        }
    }
    let Some(last) = last else { return Ok(0) };
    let sql = "WITH emptied AS (
                   UPDATE events SET data = '', data_pruned = true WHERE id = ANY($1))
               UPDATE attempts SET body = NULL, excerpt = NULL WHERE delivery IN
                   (SELECT id FROM deliveries WHERE event = ANY($1))";
    transaction.execute(sql, &[&old]).await?;
    let sql = "INSERT INTO progress (name, id) VALUES ('payloads', $1)
               ON CONFLICT (name) DO UPDATE SET id = excluded.id";
    transaction.execute(sql, &[&last]).await?;
    Ok(found.len())
}

const _: () = assert!(DAY.as_secs() * 2 == BY_ROW.as_secs());
