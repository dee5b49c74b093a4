//! What the engine takes of a machine: next to nothing when there is nothing to
//! do, and no more memory than it says when there is much.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, route, to};
use crate::support::measuring;
use crate::support::receiver::{Gate, Receiver, Reply};

/// Every plugin that is shipped.
const PLUGINS: [&str; 11] = [
    "b2b-ninja",
    "bigcommerce-b2b",
    "buildr",
    "cel",
    "hmac",
    "http-auth",
    "jq",
    "nue",
    "ordermentum",
    "rfc9421",
    "standard-webhooks",
];

/// A third of it is the program itself, a third the plugins' machine code.
const IDLE_BYTES_MAX: u64 = 80 << 20;

#[test]
fn an_idle_engine_with_every_plugin_takes_no_time_and_little_memory() {
    let _alone = measuring();
    let receiver = Receiver::ok();
    let hub = Hub::new();
    for name in PLUGINS {
        hub.plugin(name);
    }
    hub.source("nue", "plugin = \"nue\"").source("ninja", "plugin = \"b2b-ninja\"");
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let resident = engine.resident_bytes();
    assert!(resident < IDLE_BYTES_MAX, "{resident} bytes when it has started");
    // It has worked, and has connections and warm instances.
    for _ in 0..20 {
        engine.send("order.created", "{}");
    }
    engine.drained();
    let resident = engine.resident_bytes();
    assert!(resident < IDLE_BYTES_MAX, "{resident} bytes when it has worked");
    let Some(before) = cpu_ticks(&engine) else { return };
    thread::sleep(Duration::from_secs(3));
    let ticks = cpu_ticks(&engine).expect("as before") - before;
    // A tick is 10 ms: 2 % of one processor.
    assert!(ticks <= 6, "{ticks} ticks in 3 s");
}

/// Time on a processor so far; none elsewhere than on Linux.
fn cpu_ticks(engine: &Engine) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", engine.pid())).ok()?;
    // The name in parentheses may hold anything; utime and stime are the 12th and
    // 13th field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[test]
fn a_backlog_of_large_bodies_stays_in_the_store() {
    const ROUTES: usize = 4;
    const EVENTS: usize = 240;
    let _alone = measuring();
    let gate = Gate::closed();
    let receiver = {
        let gate = gate.clone();
        Receiver::start(move |_| {
            gate.pass();
            Reply::status(200)
        })
    };
    let hub = Hub::new();
    for at in 0..ROUTES {
        let url = receiver.url(&format!("/{at}"));
        let endpoint = "concurrency = 1\ntimeout = \"5m\"";
        hub.route(&format!("r{at}"), route(&url, endpoint, "schedule = []"));
    }
    let engine = Engine::start(&hub);
    let before = engine.resident_bytes();
    let body = vec![b'a'; 1 << 20];
    for _ in 0..EVENTS {
        engine.send("order.created", &body);
    }
    receiver.first(ROUTES);
    // 64 MiB of bodies may be in hand, and what comes in and goes out of the store at
    // the moment; promised are 960 MiB.
    let grown = engine.resident_bytes_most().saturating_sub(before) >> 20;
    assert!(grown < 256, "{grown} MiB more than before");
    gate.open();
    engine.drained();
    assert_eq!(receiver.received().len(), ROUTES * EVENTS);
}
