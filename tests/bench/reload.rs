//! How long it takes until a changed file is in force, the 150 ms that files are left alone
//! included: a route, a plugin that was never compiled before, and both of them new, until
//! the first delivery through them.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{self, Hub, PLATFORM, Plugins};
use crate::http::Connection;
use crate::receiver::Receiver;
use crate::results::{Section, spread};
use crate::{Bench, ms};

const ROUNDS: u8 = 7;

/// Routes in the folder, beside the one that changes.
const ROUTES: [usize; 3] = [1, 100, 10_000];

/// What is in force has settled, and nothing is delivered.
const SETTLED: Duration = Duration::from_millis(500);

/// It only ends what would never end.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let mut show = |what: &str, routes: usize, took: Vec<Duration>| {
        let took = spread(took.into_iter().map(ms));
        section.row(vec![("changed", json!(what)), ("routes", json!(routes)), ("took_ms", took)]);
    };
    for routes in ROUTES {
        let hub = Hub::of(&bench.receiver.ports, routes, Plugins::Platform);
        let engine = hub.start();
        let mut connection = Connection::to(engine.admin);
        let changed = |round| {
            hub.append("routes/one-0.toml", &format!("# {round}\n"));
        };
        show("a route", routes, in_force(&mut connection, changed));
        let bytes = plugin();
        let changed = |round| hub.write(&format!("plugins/{PLATFORM}.wasm"), unseen(&bytes, round));
        show("a plugin", routes, in_force(&mut connection, changed));
    }
    show("a new plugin and its route, to the first delivery", 1, delivered(&bench.receiver));
}

/// From a change until the snapshot is another.
fn in_force(connection: &mut Connection, change: impl Fn(u8)) -> Vec<Duration> {
    let mut snapshot = || connection.get("/v1/plugins")["snapshot"].as_u64().expect("a number");
    let mut round = |at| {
        thread::sleep(SETTLED);
        let before = snapshot();
        let begun = Instant::now();
        change(at);
        while snapshot() == before {
            assert!(begun.elapsed() < PATIENCE, "the change is not in force");
            thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    };
    (0..ROUNDS).map(&mut round).collect()
}

/// From `cp` of a plugin, and of a route right after it, to the first delivery.
fn delivered(receiver: &Receiver) -> Vec<Duration> {
    let hub = Hub::new(&[]);
    let file = hub.path().join("plugins").join(PLATFORM).with_extension("wasm");
    fs::remove_file(&file).expect("the hub has it");
    let bytes = plugin();
    let route = hub.path().join("routes/fresh.toml");
    fs::create_dir_all(hub.path().join("routes")).expect("a folder");
    let text = engine::route("all", receiver.ports[0]);
    // The engine sees folders that were there when it started sooner than new ones.
    let engine = hub.start();
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        thread::sleep(SETTLED);
        send(engine.public);
        thread::sleep(Duration::from_millis(100));
        let before = receiver.count();
        let begun = Instant::now();
        fs::write(&file, unseen(&bytes, round)).expect("a file");
        fs::write(&route, &text).expect("a file");
        while receiver.count() == before {
            assert!(begun.elapsed() < PATIENCE, "nothing is delivered");
            send(engine.public);
        }
        took.push(begun.elapsed());
        fs::remove_file(&route).expect("it is there");
        fs::remove_file(&file).expect("it is there");
    }
    took
}

fn plugin() -> Vec<u8> {
    fs::read(engine::plugin(PLATFORM)).expect("the plugins are built: make plugins")
}

/// A custom section at its end: to the engine, a plugin it has never seen.
fn unseen(plugin: &[u8], round: u8) -> Vec<u8> {
    [plugin, &[0, 3, 1, b'r', round]].concat()
}

/// One event, and a moment for its delivery.
fn send(address: SocketAddr) {
    let body = "{\"company_id\":0}";
    Connection::to(address).ask("POST", "/in/all/store/company/created", body, "202");
    thread::sleep(Duration::from_millis(2));
}
