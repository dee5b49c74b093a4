//! A log of a million deliveries, made by the engine itself: how long the first page
//! of each filter takes when nothing else happens and under 1,000 events a second,
//! and what somebody who searches costs the deliveries.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{Engine, Hub, TOKEN};
use crate::http::Connection;
use crate::load::{Load, Scenario};
use crate::receiver::Receiver;
use crate::results::{Section, figure, spread};
use crate::{Bench, median, ms, number};

/// Routes that take every event.
const COPIES: usize = 9;

/// Events in one request.
const BATCH: usize = 500;

/// Requests of each filter, of which the median counts.
const REQUESTS: usize = 9;

/// Rounds with and without somebody who searches, in turn.
const PAIRS: usize = 3;

/// Between two questions of somebody who searches: a click a second is busy.
const PAUSE: Duration = Duration::from_secs(1);

const TYPES: [&str; 8] = [
    "order.created",
    "order.updated",
    "order.paid",
    "order.deleted",
    "order.shipped",
    "order.packed",
    "order.returned",
    "order.refunded",
];

const FILTERS: [&str; 40] = [
    "deliveries?",
    "deliveries?status=delivered",
    "deliveries?status=dead",
    "deliveries?status=filtered",
    "deliveries?status=pending",
    "deliveries?type=order.created",
    "deliveries?type=order.*",
    "deliveries?type=rare.type",
    "deliveries?type=none",
    "deliveries?source=s1",
    "deliveries?source=none",
    "deliveries?route=r1",
    "deliveries?route=closed",
    "deliveries?route=rare",
    "deliveries?route=none",
    "deliveries?endpoint=http://127.0.0.1:9/rare",
    "deliveries?endpoint=none",
    "deliveries?subject=common",
    "deliveries?subject=sub-4711",
    "deliveries?subject=rare-subject",
    "deliveries?subject=none",
    "deliveries?status=dead&route=closed",
    "deliveries?status=dead&route=none",
    "deliveries?status=delivered&type=rare.type",
    "deliveries?status=filtered&subject=common",
    "deliveries?status=dead&subject=rare-subject",
    "deliveries?status=pending&route=rare",
    "deliveries?route=r1&source=s1&type=order.paid",
    "deliveries?route=r1&source=none",
    "deliveries?q=refused",
    "deliveries?q=none",
    "deliveries?q=refused&subject=rare-subject",
    "deliveries?until=2020-01-01T00:00:00Z",
    "deliveries?since=2020-01-01T00:00:00Z&route=rare",
    "events?",
    "events?type=rare.type",
    "events?subject=sub-4711",
    "events?subject=none",
    "events?source=s1",
    "endpoints?",
];

/// Before what is measured under load.
const WARM_UP: Duration = Duration::from_secs(2);

/// Fill a store, and ask.
pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let receiver = &bench.receiver;
    let hub = hub(receiver);
    let Engine { process: _process, public, admin } = hub.start();
    let deliveries = number("BENCH_LOG", 1_000_000);
    let begun = Instant::now();
    fill(public, receiver, deliveries as usize / COPIES);
    println!("{deliveries} deliveries made in {:.0?}", begun.elapsed());

    show(section, deliveries, "nothing else happens", admin);
    let scenario = Scenario::of(350, 10).at(1000);
    let load = Load::start(&scenario, &[public], TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    show(section, deliveries, "under 1,000 events a second", admin);

    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        alone.push(round(receiver, bench.seconds));
        beside.push(searched(admin, || round(receiver, bench.seconds)));
    }
    load.drain();
    for (name, rounds) in [("nobody searches", alone), ("one search a second", beside)] {
        section.row(vec![
            ("when", json!(name)),
            ("deliveries", json!(deliveries)),
            ("per_second", spread(rounds.iter().map(|it| it.0))),
            ("p50_ms", spread(rounds.iter().map(|it| ms(it.1)))),
            ("p99_ms", spread(rounds.iter().map(|it| ms(it.2)))),
        ]);
    }
}

/// The first page of every filter.
fn show(section: &mut Section, deliveries: u64, when: &str, admin: SocketAddr) {
    let mut all: Vec<_> = FILTERS.iter().map(|it| (first_page(admin, it), *it)).collect();
    all.sort_unstable();
    let (median, (worst, filter)) = (all[all.len() / 2].0, all[all.len() - 1]);
    section.row(vec![
        ("when", json!(when)),
        ("deliveries", json!(deliveries)),
        ("first_page_ms", figure(ms(median))),
        ("worst_ms", figure(ms(worst))),
        ("worst_filter", json!(filter)),
    ]);
    if std::env::var("BENCH_FILTERS").is_ok() {
        for (took, filter) in &all {
            println!("  {took:>10.2?}  {filter}");
        }
    }
}

/// Arrivals a second, p50 and p99.
type Round = (f64, Duration, Duration);

fn round(receiver: &Receiver, seconds: Duration) -> Round {
    receiver.forget_latencies();
    let (before, begun) = (receiver.count(), Instant::now());
    thread::sleep(seconds);
    let arrived = (receiver.count() - before) as f64 / begun.elapsed().as_secs_f64();
    let (p50, p99) = receiver.latencies();
    (arrived, p50, p99)
}

/// Do something while somebody searches, one filter after the other.
fn searched<T>(admin: SocketAddr, work: impl FnOnce() -> T) -> T {
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for filter in FILTERS.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                ask(admin, filter);
                thread::sleep(PAUSE);
            }
        });
        let result = work();
        stopped.store(true, Ordering::Relaxed);
        result
    })
}

fn hub(receiver: &Receiver) -> Hub {
    let hub = Hub::new(&receiver.ports[..10]);
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let closed = closed.local_addr().expect("an address").port();
    let route = |name: &str, types: &str, url: &str, rest: &str| {
        let text = format!(
            "from = \"*\"\ntypes = [\"{types}\"]\n[endpoint]\nurl = \"{url}\"\n\
             disable_after = \"never\"\n[breaker]\nenabled = false\n{rest}\n"
        );
        hub.write(&format!("routes/{name}.toml"), text);
    };
    for (at, port) in receiver.ports[..COPIES].iter().enumerate() {
        route(&format!("r{at}"), "order.*", &format!("http://127.0.0.1:{port}/"), "");
    }
    let url = format!("http://127.0.0.1:{closed}/");
    route("closed", "order.returned", &url, "[retry]\nschedule = []");
    route(
        "declined",
        "order.shipped",
        &url,
        "[[filter]]\nplugin = \"cel\"\nsettings.expression = \"false\"",
    );
    route("rare", "rare.type", "http://127.0.0.1:9/rare", "[retry]\nschedule = [\"10h\"]");
    hub.plugin("cel");
    hub
}

/// Events by the batch; returns when the last has arrived.
fn fill(public: SocketAddr, receiver: &Receiver, events: usize) {
    let before = receiver.count();
    let mut connection = Connection::to(public);
    for batch in 0..events.div_ceil(BATCH) {
        let rare = batch == events / BATCH / 3;
        let events: Vec<_> =
            (0..BATCH).map(|at| event(batch * BATCH + at, rare && at == 7)).collect();
        connection.send(&format!("[{}]", events.join(",")));
        // What is under way stays small: this is no measure of a backlog.
        let sent = ((batch + 1) * BATCH * COPIES) as u64;
        while receiver.count() - before + (20 * BATCH * COPIES) as u64 <= sent {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let all = (events.div_ceil(BATCH) * BATCH - 1) * COPIES;
    while receiver.count() - before < all as u64 {
        thread::sleep(Duration::from_millis(20));
    }
    // The last attempts are noted.
    thread::sleep(Duration::from_secs(1));
}

fn event(at: usize, rare: bool) -> String {
    let (source, event_type, subject) = match (rare, at % 5) {
        (true, _) => ("s0".into(), "rare.type", "rare-subject".into()),
        (false, 0) => (format!("s{}", at % 10), TYPES[at / 5 % 8], "common".into()),
        (false, _) => (format!("s{}", at % 10), TYPES[at % 8], format!("sub-{at}")),
    };
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{at}\",\"source\":\"{source}\",\"type\":\"{event_type}\",\
         \"subject\":\"{subject}\",\"data\":{{\"n\":{at},\"pad\":\"{}\"}}}}",
        "x".repeat(320)
    )
}

fn first_page(admin: SocketAddr, filter: &str) -> Duration {
    median((0..REQUESTS).map(|_| ask(admin, filter)), Duration::cmp)
}

/// On a connection of its own, as a person's browser may have to.
fn ask(admin: SocketAddr, filter: &str) -> Duration {
    let mut connection = Connection::to(admin);
    let begun = Instant::now();
    connection.ask("GET", &format!("/v1/{filter}"), "", "200");
    begun.elapsed()
}
