//! Retention by size, where days are partitions: whole days go, the oldest first, until it
//! fits.

use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::hub::{Hub, to};
use crate::support::postgres;
use crate::support::receiver::Receiver;

const DAY_MS: u64 = 86_400_000;

/// A day's partitions with so many events of 51,200 bytes each that nothing compresses.
fn day(day: u64, events: u64) -> String {
    let first = |day: u64| (day * DAY_MS) << 20;
    let mut sql = String::new();
    for table in ["events", "deliveries", "attempts"] {
        sql += &format!(
            "CREATE TABLE {table}_{day} (LIKE {table} INCLUDING ALL);
             ALTER TABLE {table} ATTACH PARTITION {table}_{day}
                 FOR VALUES FROM ({}) TO ({});",
            first(day),
            first(day + 1)
        );
    }
    sql + &format!(
        "INSERT INTO events SELECT {} + n, l.id, 'old', NULL, 1, '[]',
             (SELECT string_agg(sha512((random()::text || n || part)::bytea), '')
              FROM generate_series(1, 800) part)
         FROM generate_series(1, {events}) n CROSS JOIN (SELECT min(id) AS id FROM labels) l;",
        first(day)
    )
}

#[test]
fn a_size_is_kept_by_dropping_the_oldest_days() {
    let receiver = Receiver::ok();
    let url = postgres::shared().database();
    let hub = |bytes: u64| {
        let tables = format!("[store]\nretention = \"3000d\"\nretention_bytes = {bytes}\n");
        let hub = Hub::stored(Some(&url), "", &tables);
        hub.route("out", to(&receiver.url("/")));
        hub
    };
    let engine = Engine::start(&hub(1 << 40));
    let event = engine.send("order.created", "today");
    engine.ended(&event, "out");
    engine.stop();
    let (cluster, (_, database)) = (postgres::shared(), url.rsplit_once('/').expect("a URL"));
    // 1.5 MB, 15 MB and 1.5 MB: without the first the rest does not fit, without the second it
    // does.
    for (number, events) in [(20_001, 30), (20_002, 300), (20_003, 30)] {
        cluster.sql(database, &day(number, events));
    }
    let size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                WHERE relkind = 'r' AND relnamespace = 'plugpost'::regnamespace";
    let size: u64 = cluster.sql(database, size).parse().expect("a number");
    let _engine = Engine::start(&hub(size - 6_000_000));
    let days = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
                WHERE relname ~ '^events_2000.$'";
    eventually("two days to be dropped", || {
        (cluster.sql(database, days) == "events_20003").then_some(())
    });
    // It fits, and what is of today stays whatever its size.
    let kept = "SELECT count(*) FILTER (WHERE type = 'old'), count(*) FILTER (WHERE type <> 'old')
                FROM events";
    assert_eq!(cluster.sql(database, kept), "30|1");
}
