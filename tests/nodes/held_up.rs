//! A long transaction of somebody else keeps the database from tidying up: what has ended
//! stays in the indexes, and is not read again and again.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{hub, name};
use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::hub::{once, to};
use crate::support::postgres::shared;
use crate::support::receiver::{Receiver, Reply};

/// Sees the database as it is now until it is dropped.
struct Long(Child);

impl Long {
    fn begin(database: &str) -> Self {
        let mut psql = shared()
            .session(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("psql");
        let stdin = psql.stdin.as_mut().expect("piped");
        let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current();\n";
        stdin.write_all(sql.as_bytes()).expect("psql reads");
        let sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                   AND state = 'idle in transaction' AND backend_xid IS NOT NULL";
        eventually("the transaction", || (shared().sql(database, sql) == "1").then_some(()));
        Self(psql)
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send_all(engine: &Engine, count: usize) {
    const SENDERS: usize = 4;
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                (0..count / SENDERS).for_each(|_| drop(engine.send("order.created", "1")));
            });
        }
    });
}

#[test]
fn what_has_ended_is_not_looked_through_for_what_ends() {
    const EVENTS: usize = 600;
    let receiver = Receiver::ok();
    let url = shared().database();
    let hub = hub(&url);
    hub.route("out", once(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let long = Long::begin(name(&url));
    send_all(&engine, EVENTS / 2);
    engine.drained();
    // The planner learns that of all deliveries none is in hand: their index looks small.
    shared().sql(name(&url), "ANALYZE deliveries");
    send_all(&engine, EVENTS / 2);
    engine.drained();
    assert_eq!(receiver.received().len(), EVENTS);
    // What a session has read it says at its end.
    assert_eq!(engine.stop().status, Some(0));
    let sql = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
               WHERE pg_get_indexdef(indexrelid) LIKE '%(lease)%' AND relname LIKE 'deliveries%'";
    let read = shared().sql(name(&url), sql).parse::<usize>().expect("a number");
    drop(long);
    // Once by a node that leaves.
    assert!(read <= 4 * EVENTS, "{read} entries of {EVENTS} deliveries");
}

#[test]
fn what_is_due_long_before_what_was_claimed_last_is_found() {
    let failed = AtomicBool::new(false);
    let receiver = Receiver::start(move |_| match failed.swap(true, Ordering::SeqCst) {
        false => Reply::status(500),
        true => Reply::status(200),
    });
    let url = shared().database();
    let hub = hub(&url);
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    // Attempted again: the lane has claimed.
    let event = engine.send("order.created", "1");
    engine.ended(&event, "out");
    receiver.first(2);
    let sql = "UPDATE deliveries SET status = 0, due = due - 3600000";
    shared().sql(name(&url), sql);
    receiver.first(3);
}
