//! What waits must cost nothing: two engines side by side, one of them with more and more
//! deliveries waiting for an endpoint that hangs, both delivering to others. Then both are
//! stopped, the endpoint is well, and what counts is the time from the start to the first of
//! what waited; of an event that comes in then, where nothing waits.
//!
//! The engine itself takes in and stores what waits, in batches: `BENCH_WAITING` says how
//! many there are at the end. PostgreSQL takes minutes for a million, so there it is only
//! done where `BENCH_WAITING_POSTGRES` says how many.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{self, Engine, Hub};
use crate::http::Connection;
use crate::isolation::{self, Bad};
use crate::load::Scenario;
use crate::results::{Section, figure, spread};
use crate::system::{System, side_by_side};
use crate::{Bench, ms, number};

/// Of the last, how many wait at the first steps.
const SHARES: [u64; 3] = [100, 10, 1];

const LOAD: Scenario = Scenario::of(350, 100);

/// Events in one request, and connections that send them.
const BATCH: u64 = 500;
const SENDERS: u64 = 4;

const STARTS: usize = 3;

/// It only ends what would never end.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where what waits comes in, and its route.
const SOURCE: &str = "waiting";
const ROUTE: &str = "routes/waiting.toml";

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let most = number("BENCH_WAITING", 1_000_000);
    on(bench, section, "sqlite", most, System::sqlite);
    let most = number("BENCH_WAITING_POSTGRES", 0);
    if most > 0 {
        on(bench, section, "postgres", most, |name, hub| System::postgres(name, vec![hub]));
    }
}

fn on(
    bench: &Bench,
    section: &mut Section,
    store: &str,
    most: u64,
    start: impl Fn(&'static str, Hub) -> System,
) {
    let hub = || {
        let hub = Hub::new(&bench.receiver.ports);
        hub.source(SOURCE);
        hub.write(ROUTE, engine::route(SOURCE, isolation::start(Bad::Hangs)));
        hub
    };
    let full = start("full", hub());
    let empty = start("empty", hub());
    let mut waiting = 0;
    for share in SHARES {
        // Whole batches, of which the first steps have one at least.
        let wanted = (most / share).div_ceil(BATCH) * BATCH;
        let begun = Instant::now();
        fill(full.address(), waiting, wanted);
        let taken_in = (wanted - waiting) as f64 / begun.elapsed().as_secs_f64();
        waiting = wanted;
        let all = side_by_side(bench, &[(&empty, LOAD), (&full, LOAD)]);
        for it in &all {
            let mut row = it.row(&LOAD.to_string(), Some(&all[0]));
            row.extend([("store", json!(store)), ("waiting", json!(waiting))]);
            section.row(row);
        }
        section.row(vec![
            ("store", json!(store)),
            ("waiting", json!(waiting)),
            ("taken_in_per_second", figure(taken_in)),
            ("memory_mib", figure(full.process().memory_mib())),
            ("memory_most_mib", figure(full.process().memory_most_mib())),
        ]);
    }
    for (system, waiting) in [(empty, 0), (full, waiting)] {
        starts(bench, section, store, &system.stop()[0], waiting);
    }
}

/// From the start to the first delivery, with an endpoint that is well.
fn starts(bench: &Bench, section: &mut Section, store: &str, hub: &Hub, waiting: u64) {
    hub.write(ROUTE, engine::route(SOURCE, bench.receiver.ports[0]));
    let (mut listening, mut first, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let before = bench.receiver.count();
        let begun = Instant::now();
        let Engine { process, public, .. } = hub.start();
        listening.push(ms(begun.elapsed()));
        if waiting == 0 {
            let path = format!("/in/{SOURCE}/store/company/created");
            Connection::to(public).ask("POST", &path, "{\"company_id\":0}", "202");
        }
        while bench.receiver.count() == before {
            assert!(begun.elapsed() < PATIENCE, "nothing is delivered");
            thread::sleep(Duration::from_millis(1));
        }
        first.push(ms(begun.elapsed()));
        // Not for long: what waits has to last for all starts.
        thread::sleep(Duration::from_millis(200));
        memory.push(process.memory_most_mib());
        drop(process);
        // What was under way has arrived.
        thread::sleep(Duration::from_millis(100));
    }
    section.row(vec![
        ("store", json!(store)),
        ("waiting", json!(waiting)),
        ("listening_ms", spread(listening)),
        ("first_delivery_ms", spread(first)),
        ("memory_most_mib", spread(memory)),
    ]);
}

fn fill(public: SocketAddr, from: u64, to: u64) {
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                let mut connection = Connection::to(public);
                let batches = (from / BATCH + sender..to / BATCH).step_by(SENDERS as usize);
                for batch in batches {
                    connection.send(&events(batch * BATCH));
                }
            });
        }
    });
}

/// One batch, of events of about 350 bytes.
fn events(first: u64) -> String {
    let mut events = String::from("[");
    for at in first..first + BATCH {
        let comma = if at == first { "" } else { "," };
        let _ = write!(
            events,
            "{comma}{{\"specversion\":\"1.0\",\"id\":\"{at}\",\"source\":\"{SOURCE}\",\
             \"type\":\"store/company/created\",\"data\":{{\"company_id\":{at},\"name\":\"{:x<310}\"}}}}",
            ""
        );
    }
    events + "]"
}
