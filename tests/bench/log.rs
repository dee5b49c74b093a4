//! A log of a million deliveries, made by the engine itself: how long the first page
//! of each filter takes when nothing else happens and under 1,000 events a second,
//! and what somebody who searches costs the deliveries.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Hub, TOKEN};
use crate::load::{Load, Pace};
use crate::receiver::{Receiver, request_length};
use crate::{Scenario, WARM_UP, median, number};

/// Routes that take every event.
const COPIES: usize = 9;

/// Events in one request.
const BATCH: usize = 500;

/// Requests of each filter, of which the median counts.
const REQUESTS: usize = 15;

/// Rounds with and without somebody who searches, in turn.
const PAIRS: usize = 5;

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

/// Fill a store, and ask.
pub(crate) fn measure(receiver: &Arc<Receiver>, seconds: Duration) {
    let hub = hub(receiver);
    let (process, public, admin) = hub.start_with_admin();
    let deliveries = number("BENCH_LOG", 1_000_000);
    let begun = Instant::now();
    fill(public, receiver, deliveries as usize / COPIES);
    println!("{deliveries} deliveries made in {:.0?}", begun.elapsed());

    let mut quiet: Vec<_> = FILTERS.iter().map(|it| (first_page(admin, it), *it)).collect();
    quiet.sort_unstable();
    show("nothing else happens", &quiet);

    let scenario = Scenario { pace: Pace::PerSecond(1000), ..Scenario::new("", 350, 10, false) };
    let load = Load::start(&scenario, public, TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    let mut busy: Vec<_> = FILTERS.iter().map(|it| (first_page(admin, it), *it)).collect();
    busy.sort_unstable();
    show("under 1,000 events a second", &busy);

    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        alone.push(round(receiver, seconds));
        beside.push(searched(admin, || round(receiver, seconds)));
    }
    load.stop();
    drop(process);
    let (alone, beside) = (medians(alone), medians(beside));
    println!(
        "1,000 events a second beside one search a second: arrivals × {:.3}, p50 {:.2?} of {:.2?}, \
         p99 {:.2?} of {:.2?}",
        beside.0 / alone.0,
        beside.1,
        alone.1,
        beside.2,
        alone.2
    );
}

fn show(when: &str, sorted: &[(Duration, &str)]) {
    let (median, (worst, filter)) = (sorted[sorted.len() / 2].0, sorted[sorted.len() - 1]);
    println!("first page, {when}: median {median:.1?}, worst {worst:.1?} ({filter})");
    if std::env::var("BENCH_FILTERS").is_ok() {
        for (took, filter) in sorted {
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

fn medians(rounds: Vec<Round>) -> Round {
    let middle = |of: fn(&Round) -> Duration| median(rounds.iter().map(of), Duration::cmp);
    let rate = median(rounds.iter().map(|it| it.0), f64::total_cmp);
    (rate, middle(|it| it.1), middle(|it| it.2))
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
    let mut stream = TcpStream::connect(public).expect("the engine listens");
    for batch in 0..events.div_ceil(BATCH) {
        let rare = batch == events / BATCH / 3;
        let events: Vec<_> =
            (0..BATCH).map(|at| event(batch * BATCH + at, rare && at == 7)).collect();
        let body = format!("[{}]", events.join(","));
        let head = format!(
            "POST /events HTTP/1.1\r\nhost: engine\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        stream.write_all(body.as_bytes()).expect("it reads");
        let answer = answer(&mut stream);
        assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
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

fn ask(admin: SocketAddr, filter: &str) -> Duration {
    let mut stream = TcpStream::connect(admin).expect("the engine listens");
    let begun = Instant::now();
    let request = format!("GET /v1/{filter} HTTP/1.1\r\nhost: {admin}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let answer = answer(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{filter}: {}", String::from_utf8_lossy(&answer));
    begun.elapsed()
}

fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut more = [0; 16 << 10];
    while request_length(&answer).is_none_or(|(_, length)| answer.len() < length) {
        let count = stream.read(&mut more).expect("an answer");
        assert!(count > 0, "the answer broke off: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&more[..count]);
    }
    answer
}
