//! The tables, and a day's partitions of them. However many nodes start at once, each step
//! is made once.

use std::time::Duration;

use super::connection::{Session, get};
use crate::clock::{UnixMs, first_id_at};
use crate::queue::QueueError;

/// The tables, as `version` counts them: one step a schema change, never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_init.sql"),
    include_str!("../../../migrations/postgres/0002_subscriptions.sql"),
    include_str!("../../../migrations/postgres/0003_lanes.sql"),
    include_str!("../../../migrations/postgres/0004_nodes.sql"),
    include_str!("../../../migrations/postgres/0005_bodies.sql"),
];

/// Held by whoever makes or drops tables: "plugpost", as a number.
pub(super) const SCHEMA_LOCK: i64 = 0x706c_7567_706f_7374;

/// What one partition holds. So many of them are what retention keeps in days.
pub(in crate::queue) const DAY: Duration = Duration::from_hours(24);

/// Days that are there before they begin: so long the making of one may fail.
const DAYS_AHEAD: u64 = 3;

/// Tables that are partitioned, and by what. In the order in which they are dropped.
pub(super) const PARTITIONED: [(&str, &str); 3] =
    [("events", "id"), ("deliveries", "id"), ("attempts", "delivery")];

/// Make the tables, or bring them up to date.
pub(super) async fn migrate(session: &mut Session) -> Result<(), QueueError> {
    let transaction = session.client.transaction().await?;
    let sql = format!(
        "SET LOCAL lock_timeout TO '30s';
         SELECT pg_advisory_xact_lock({SCHEMA_LOCK});
         CREATE SCHEMA IF NOT EXISTS plugpost;
         CREATE TABLE IF NOT EXISTS version (steps int NOT NULL);"
    );
    transaction.batch_execute(&sql).await?;
    let row = transaction.query_one("SELECT coalesce(max(steps), 0) FROM version", &[]).await?;
    let at = usize::try_from(get::<i32>(&row, 0)?).unwrap_or_default();
    if at > MIGRATIONS.len() {
        let message = "the store was written by a newer plugpost: start that one";
        return Err(QueueError::Broken(message.into()));
    }
    for sql in &MIGRATIONS[at..] {
        transaction.batch_execute(sql).await?;
    }
    if at < MIGRATIONS.len() {
        let sql = format!("DELETE FROM version; INSERT INTO version VALUES ({})", MIGRATIONS.len());
        transaction.batch_execute(&sql).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The number of a day, and its ids.
pub(super) fn day_of(at: UnixMs) -> u64 {
    at.0 / DAY.as_millis() as u64
}

pub(super) fn first_id_of(day: u64) -> u64 {
    first_id_at(UnixMs(day.saturating_mul(DAY.as_millis() as u64)))
}

/// Make the partitions of today and of the days that follow.
pub(super) async fn make_days(session: &mut Session, now: UnixMs) -> Result<(), QueueError> {
    let today = day_of(now);
    for day in today..=today + DAYS_AHEAD {
        make_day(session, day).await?;
    }
    Ok(())
}

/// Make the partitions of a day, unless they are there. They are attached, not created in
/// place: that takes no lock that readers and writers would wait for.
pub(super) async fn make_day(session: &mut Session, day: u64) -> Result<(), QueueError> {
    // Not by `to_regclass`: what a session has once not found it remembers.
    let there = "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = $1
                                AND relnamespace = 'plugpost'::regnamespace)";
    let name = format!("attempts_{day}");
    let row = session.client.query_one(there, &[&name]).await?;
    if get(&row, 0)? {
        return Ok(());
    }
    let transaction = session.client.transaction().await?;
    let mut sql =
        format!("SET LOCAL lock_timeout TO '1s'; SELECT pg_advisory_xact_lock({SCHEMA_LOCK});");
    transaction.batch_execute(&sql).await?;
    // Another node may have been first.
    let row = transaction.query_one(there, &[&name]).await?;
    if get(&row, 0)? {
        return Ok(());
    }
    sql.clear();
    for (table, _) in PARTITIONED {
        let (first, end) = (first_id_of(day), first_id_of(day + 1));
        sql += &format!(
            "CREATE TABLE {table}_{day} (LIKE {table} INCLUDING ALL);
             ALTER TABLE {table} ATTACH PARTITION {table}_{day}
                 FOR VALUES FROM ({first}) TO ({end});"
        );
    }
    transaction.batch_execute(&sql).await?;
    transaction.commit().await?;
    Ok(())
}
