//! What subscriptions cost that do not take an event: processor time per event with
//! more and more of them, and how long it takes to change one among them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{Engine, Hub};
use crate::http::Connection;
use crate::results::{Section, figure};
use crate::{Bench, median, ms};

/// How many there are, in each step.
const STEPS: [usize; 4] = [0, 10, 1_000, 10_000];

/// Events in one request, and requests.
const BATCH: usize = 500;
const BATCHES: usize = 200;

/// Subscriptions are made by so many at once: they share commits.
const MAKERS: usize = 16;

pub(crate) fn measure(_: &Bench, section: &mut Section) {
    let hub = Hub::new(&[]);
    let engine = hub.start();
    let mut there = 0;
    for wanted in STEPS {
        make(engine.admin, there, wanted);
        there = wanted;
        section.row(vec![
            ("subscriptions", json!(wanted)),
            // An event that nobody takes, in a batch that came before: it is read, routed, and
            // found to be a duplicate.
            ("cpu_us_per_event", figure(cpu_per_event(&engine).as_secs_f64() * 1e6)),
            // From the request to the answer: on disk and in force.
            ("change_ms", figure(ms(change(engine.admin)))),
            // The 150 ms that files are left alone included.
            ("reload_ms", figure(ms(reload(&hub, engine.admin, wanted)))),
            ("memory_mib", figure(engine.process.memory_mib())),
        ]);
    }
}

fn make(admin: SocketAddr, from: usize, to: usize) {
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            scope.spawn(move || {
                let mut connection = Connection::to(admin);
                for at in (from..to).skip(maker).step_by(MAKERS) {
                    // Half by name, half by the start of a name, some from one source.
                    let (wildcard, from) = (if at % 2 == 0 { "*" } else { "" }, at % 5 == 0);
                    let from = if from { "\"from\":[\"all\"]," } else { "" };
                    let body = format!(
                        "{{{from}\"types\":[\"shop-{at}.order.{wildcard}\"],\"url\":\"http://127.0.0.1:9/{at}\"}}"
                    );
                    connection.ask("POST", "/v1/subscriptions", &body, "201");
                }
            });
        }
    });
}

fn cpu_per_event(engine: &Engine) -> Duration {
    let batch = batch();
    let mut connection = Connection::to(engine.public);
    (0..BATCHES / 4).for_each(|_| connection.send(&batch));
    let before = engine.process.cpu();
    (0..BATCHES).for_each(|_| connection.send(&batch));
    (engine.process.cpu() - before) / u32::try_from(BATCH * BATCHES).expect("few")
}

/// Of the folder, with one file changed.
fn reload(hub: &Hub, admin: SocketAddr, step: usize) -> Duration {
    hub.write("sources/new.toml", format!("tokens = [\"bench\"] # {step}\n"));
    let begun = Instant::now();
    Connection::to(admin).ask("POST", "/v1/reload", "", "200");
    begun.elapsed()
}

/// The median of changing one subscription.
fn change(admin: SocketAddr) -> Duration {
    let mut connection = Connection::to(admin);
    let body = "{\"types\":[\"changed\"],\"url\":\"http://127.0.0.1:9/\"}";
    let made = connection.ask("POST", "/v1/subscriptions", body, "201");
    let id = made.split("\"id\":\"").nth(1).and_then(|it| it.split('"').next()).expect("an id");
    let path = format!("/v1/subscriptions/{id}");
    let took = (0..50).map(|at| {
        let begun = Instant::now();
        connection.ask("PATCH", &path, &format!("{{\"types\":[\"changed-{at}\"]}}"), "200");
        begun.elapsed()
    });
    let took: Vec<_> = took.collect();
    connection.ask("DELETE", &path, "", "204");
    median(took, Duration::cmp)
}

fn batch() -> String {
    let mut batch = String::from("[");
    for at in 0..BATCH {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            batch,
            "{comma}{{\"specversion\":\"1.0\",\"id\":\"{at}\",\"source\":\"x\",\
             \"type\":\"shop.order.created\",\"data\":{{\"n\":{at}}}}}"
        );
    }
    batch + "]"
}
