//! Fifty kills on one store. What was sent and what arrived is written down
//! outside the engine, and compared at the end.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection as Database, OpenFlags};

use crate::support::client::Connection;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, route};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{beside_the_engine, eventually, measuring};

const KILLS: usize = 50;

/// Each sends its next event when the last was answered.
const SENDERS: usize = 8;

/// Between an answer and the next event, so that a slow machine delivers as fast
/// as it takes in.
const PAUSE: Duration = Duration::from_millis(2);

/// Routes and the paths of their endpoints; the third answers 500 to everything.
const HEALTHY: [&str; 2] = ["/first", "/second"];
const FAILING: &str = "/failing";

#[test]
fn fifty_kills_lose_nothing_and_change_nothing() {
    let _measuring = measuring();
    let engine = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let seen = Seen::of_kills(engine, KILLS);
    eprintln!("{KILLS} kills: {seen:?}");
    assert!(seen.acknowledged > 10 * KILLS, "too little load to say anything: {seen:?}");
    assert!(seen.attempted >= seen.acknowledged && seen.arrivals > 2 * seen.acknowledged);
    assert_eq!(seen.integrity, "ok");
    assert_eq!(seen.lost, 0, "acknowledged and not delivered: {seen:?}");
    assert_eq!(seen.altered, 0, "not the bytes that were sent: {seen:?}");
    assert_eq!(seen.unexpected, 0, "never sent: {seen:?}");
    assert_eq!(seen.doubled, 0, "one request, two events: {seen:?}");
    // Only what was in hand at a kill may go again: its attempt was made but not recorded.
    assert!(seen.duplicates <= seen.leased, "{seen:?}");
    assert_eq!(seen.unexplained, 0, "again, though not in hand at a kill: {seen:?}");
}

#[test]
fn the_crash_test_sees_an_acknowledgement_before_the_commit() {
    let _measuring = measuring();
    let control = beside_the_engine("plugpost-control", "make control");
    for kills in 1..=KILLS {
        let seen = Seen::of_kills(&control, 1);
        if seen.lost > 0 {
            eprintln!("the control lost events at kill {kills}: {seen:?}");
            return;
        }
    }
    panic!("{KILLS} kills of an engine that acknowledges before the commit, and nothing lost");
}

/// What the senders wrote down.
#[derive(Debug, Default)]
struct Sent {
    /// Before each request: what may arrive.
    attempted: HashSet<Vec<u8>>,
    /// After each answer, by event id: what must arrive.
    acknowledged: HashMap<String, Vec<u8>>,
}

/// What senders and receivers wrote down, compared.
#[derive(Debug, Default)]
struct Seen {
    attempted: usize,
    acknowledged: usize,
    /// At all endpoints.
    arrivals: usize,
    /// Acknowledged events that did not arrive, for each healthy endpoint.
    lost: usize,
    /// Arrivals with other bytes than were sent, or than came under that id before.
    altered: usize,
    /// Arrivals that nobody sent.
    unexpected: usize,
    /// Requests, each made once, that arrived under more than one id.
    doubled: usize,
    /// Arrivals at healthy endpoints after the first of each id.
    duplicates: u32,
    /// Those of them that were not in hand at a kill, each.
    unexplained: u32,
    /// Deliveries to healthy endpoints that were in hand, over all kills.
    leased: u32,
    /// What SQLite says of the file after the last kill.
    integrity: String,
}

impl Seen {
    /// So many times on one store: start, load, kill. Then start and deliver.
    fn of_kills(binary: &Path, kills: usize) -> Self {
        let receiver =
            Receiver::start(|it| Reply::status(if it.path == FAILING { 500 } else { 200 }));
        let hub = Hub::new();
        for path in HEALTHY {
            let retry = "schedule = [\"100ms\", \"1s\", \"5s\", \"5s\"]";
            hub.route(&path[1..], route(&receiver.url(path), "", retry));
        }
        let retry = "schedule = [\"20ms\", \"20ms\"]\n[breaker]\nenabled = false";
        hub.route(&FAILING[1..], route(&receiver.url(FAILING), "", retry));

        let sent = Mutex::default();
        let mut leased = Leased::new();
        let mut integrity = String::new();
        for kill in 1..=kills {
            let engine = Engine::start_binary(binary, &hub);
            let address = engine.public;
            thread::scope(|scope| {
                for sender in 0..SENDERS {
                    let (sent, name) = (&sent, format!("{kill}-{sender}"));
                    scope.spawn(move || {
                        if let Ok(connection) = Connection::open(address) {
                            send_until_it_breaks(connection, &name, sent);
                        }
                    });
                }
                // Waits for nothing: the moment of the kill is arbitrary.
                thread::sleep(Duration::from_millis(fastrand::u64(50..=600)));
                engine.kill();
            });
            let store = open(&hub);
            add_leased(&store, &receiver, &mut leased);
            if kill == kills {
                let sql = "PRAGMA integrity_check";
                integrity =
                    store.query_row(sql, [], |row| row.get(0)).expect("SQLite checks the store");
            }
        }
        let engine = Engine::start_binary(binary, &hub);
        delivered(&hub);
        engine.stop();
        let sent = sent.into_inner().expect("no sender panicked");
        Self { integrity, ..Self::compare(&sent, &receiver, &leased) }
    }

    fn compare(sent: &Sent, receiver: &Receiver, leased: &Leased) -> Self {
        let received = receiver.received();
        let mut seen = Self {
            attempted: sent.attempted.len(),
            acknowledged: sent.acknowledged.len(),
            arrivals: received.len(),
            leased: leased.values().sum(),
            ..Self::default()
        };
        let mut body_of = HashMap::<&str, &[u8]>::new();
        let mut id_of = HashMap::<&[u8], &str>::new();
        let mut arrivals = HashMap::<(&str, &str), u32>::new();
        for it in &received {
            let (id, body) = (it.webhook_id(), it.body.as_slice());
            let acknowledged = sent.acknowledged.get(id).is_none_or(|it| it == body);
            if *body_of.entry(id).or_insert(body) != body || !acknowledged {
                seen.altered += 1;
            }
            if !sent.attempted.contains(body) {
                seen.unexpected += 1;
            }
            if *id_of.entry(body).or_insert(id) != id {
                seen.doubled += 1;
            }
            *arrivals.entry((&it.path, id)).or_default() += 1;
        }
        for path in HEALTHY {
            let arrived = |id: &&String| arrivals.contains_key(&(path, id.as_str()));
            seen.lost += sent.acknowledged.keys().filter(|id| !arrived(id)).count();
        }
        for (&(path, id), &count) in arrivals.iter().filter(|it| HEALTHY.contains(&it.0.0)) {
            let in_hand = leased.get(&(path.to_owned(), body_of[id].to_owned()));
            seen.duplicates += count - 1;
            seen.unexplained += (count - 1).saturating_sub(in_hand.copied().unwrap_or(0));
        }
        seen
    }
}

/// One event after the other, each different, until the engine is gone.
fn send_until_it_breaks(mut connection: Connection, name: &str, sent: &Mutex<Sent>) {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
    for number in 0.. {
        // Some fill more than a page of the store, most do not.
        let filler = "ä".repeat(if number % 32 == 31 { 4000 } else { 100 });
        let body = format!("{name}-{number} {filler}").into_bytes();
        sent.lock().expect("no sender panicked").attempted.insert(body.clone());
        match connection.ask("POST", "/in/erp/order.created", &headers, &body) {
            Ok(answer) => {
                let id = answer.event_ids().remove(0);
                let before = sent.lock().expect("no sender panicked").acknowledged.insert(id, body);
                assert_eq!(before, None, "two events with one id");
                thread::sleep(PAUSE);
            }
            Err(_) => return,
        }
    }
}

/// Read-only: nothing is repaired or written back before the engine sees it.
fn open(hub: &Hub) -> Database {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Database::open_with_flags(hub.store(), flags).expect("the store can be read")
}

/// How often a body was in hand for a healthy endpoint when the engine was killed.
type Leased = HashMap<(String, Vec<u8>), u32>;

fn add_leased(store: &Database, receiver: &Receiver, leased: &mut Leased) {
    let sql = "SELECT e.data FROM deliveries d JOIN events e ON e.id = d.event
               JOIN labels u ON u.id = d.endpoint WHERE d.leased = 1 AND u.text = ?1";
    let mut statement = store.prepare(sql).expect("the schema is known");
    for path in HEALTHY {
        let bodies = statement.query_map([receiver.url(path)], |row| row.get(0));
        for body in bodies.expect("the store can be read") {
            *leased.entry((path.to_owned(), body.expect("a body"))).or_default() += 1;
        }
    }
}

/// Wait until nothing is pending; as long as something still goes out, patiently.
fn delivered(hub: &Hub) {
    let store = open(hub);
    let pending = || -> u32 {
        let sql = "SELECT count(*) FROM deliveries WHERE status = 0";
        store.query_row(sql, [], |row| row.get(0)).expect("the store can be read")
    };
    let mut before = pending();
    while before > 0 {
        before = eventually("a delivery to end", || Some(pending()).filter(|it| *it < before));
    }
}
