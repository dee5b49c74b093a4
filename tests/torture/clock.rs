//! A clock that jumps by an hour, a day or to 1970 while events flow and retries
//! wait. What waits a second waits a second; nothing is tried more often, and
//! nothing is parked until the clock is where it was.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Run;
use super::disk::{Dial, Disk};
use super::load::drained;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{eventually, measuring};

/// Between attempts of what fails twice.
const WAITS: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(600)];

/// The engine looks at the clock again after five seconds; the rest is the machine's.
const LATE_MAX: Duration = Duration::from_secs(8);

/// Between two jumps.
const BETWEEN: Duration = Duration::from_millis(700);

/// Between two events.
const PAUSE: Duration = Duration::from_millis(20);

const HOUR: i64 = 3600;

#[test]
fn a_clock_that_jumps_loses_nothing_parks_nothing_and_repeats_nothing() {
    let _measuring = measuring();
    let mut run = Run::begin("clock jumps", 6, 120);
    let attempts = Arc::<Mutex<HashMap<String, usize>>>::default();
    let receiver = Receiver::start(move |it| {
        let mut attempts = attempts.lock().expect("no script panicked");
        let count = attempts.entry(format!("{}{}", it.path, it.webhook_id())).or_default();
        *count += 1;
        let fails = it.path == "/retried" && *count <= WAITS.len();
        Reply::status(if fails { 500 } else { 200 })
    });
    // Years forward, between two failures, would be taken for years of failing.
    let hub = Hub::with("disable_after = \"never\"", "[store]\nretention = \"3650d\"");
    let retry = "schedule = [\"300ms\", \"600ms\"]\njitter = 0\n[breaker]\nenabled = false";
    hub.route("retried", route(&receiver.url("/retried"), "", retry));
    hub.route("in-order", route(&receiver.url("/in-order"), "order = \"endpoint\"", retry));
    hub.route("slowly", route(&receiver.url("/slowly"), "rate_limit = \"100/s\"", retry));
    let disk = Disk::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let start = || Engine::start_command(disk.command(binary, &hub), &hub);
    let mut engine = start();
    let mut sent = Vec::new();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let to_1970 = -i64::try_from(seconds).expect("it fits");
    for jump in 1..=run.rounds {
        let to = [0, HOUR, -HOUR, 24 * HOUR, -24 * HOUR, to_1970, 70 * 365 * 24 * HOUR];
        disk.set(Dial::ClockOffset, to[run.rng.usize(..to.len())]);
        let begun = Instant::now();
        while begun.elapsed() < BETWEEN {
            sent.push(engine.send("order.created", sent.len().to_string()));
            thread::sleep(PAUSE);
        }
        if jump % 4 == 0 {
            // What waits was due by another clock than the next process begins with.
            let ended = engine.stop();
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            disk.set(Dial::ClockOffset, to[run.rng.usize(..to.len())]);
            engine = start();
        }
    }
    eventually("all to arrive", || {
        let arrivals = receiver.received().len();
        (arrivals >= (2 + 1 + WAITS.len()) * sent.len()).then_some(())
    });
    drained(&hub);
    let ended = engine.stop();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let seen = Seen::of(&receiver.received(), &sent);
    run.end(&seen);
    assert_eq!((seen.wrong, seen.misordered), (0, 0), "{seen:?}");
    assert_eq!(seen.arrivals, (2 + 1 + WAITS.len()) * seen.events, "{seen:?}");
    assert!(seen.late < LATE_MAX, "{seen:?}");
}

#[test]
fn what_was_put_off_by_a_clock_that_was_ahead_waits_no_longer_after_a_restart() {
    let _measuring = measuring();
    let disk = Arc::new(Disk::new());
    let dial = disk.clone();
    // It is an hour later when the first attempt fails, and no event comes after that.
    let receiver = Receiver::start(move |_| {
        dial.set(Dial::ClockOffset, HOUR);
        Reply::status(500)
    });
    let hub = Hub::with("", "[store]\nretention = \"3650d\"");
    let retry = "schedule = [\"3s\"]\njitter = 0";
    hub.route("retried", route(&receiver.url("/"), "", retry));
    let binary = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let start = || Engine::start_command(disk.command(binary, &hub), &hub);
    let engine = start();
    engine.send("order.created", "{}");
    eventually("the first attempt to be kept", || {
        let waiting = engine.deliveries("status=pending");
        (waiting.first()?["attempts"] == 1).then_some(())
    });
    engine.kill();
    disk.set(Dial::ClockOffset, 0);
    let engine = start();
    receiver.first(2);
    engine.stop();
}

/// What came of it.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
    arrivals: usize,
    /// Events that came too often, or not often enough, somewhere.
    wrong: usize,
    misordered: usize,
    /// By how much the latest attempt came after it was due.
    late: Duration,
}

impl Seen {
    fn of(received: &[Arc<Received>], sent: &[String]) -> Self {
        let mut at = HashMap::<(&str, &str), Vec<Instant>>::new();
        for it in received {
            at.entry((&it.path, it.webhook_id())).or_default().push(it.at);
        }
        let mut seen = Self { events: sent.len(), arrivals: received.len(), ..Self::default() };
        for id in sent {
            for (path, times) in [("/retried", 1 + WAITS.len()), ("/in-order", 1), ("/slowly", 1)] {
                let at = at.get(&(path, id.as_str())).map_or(&[][..], Vec::as_slice);
                seen.wrong += usize::from(at.len() != times);
                for (gap, wait) in at.windows(2).zip(WAITS) {
                    seen.late = seen.late.max((gap[1] - gap[0]).saturating_sub(wait));
                }
            }
        }
        let order = received.iter().filter(|it| it.path == "/in-order");
        let numbers: Vec<usize> =
            order.map(|it| String::from_utf8_lossy(&it.body).parse().expect("a number")).collect();
        seen.misordered = numbers.windows(2).filter(|it| it[0] > it[1]).count();
        seen
    }
}

/// Two events, delivered as they should be, and then not.
#[test]
fn the_look_at_the_clock_sees_what_it_is_for() {
    let now = Instant::now();
    let received = |path: &str, id: &str, after: u64| {
        Arc::new(Received {
            path: path.into(),
            headers: vec![("webhook-id".into(), id.into())],
            body: b"1".to_vec(),
            at: now + Duration::from_millis(after),
        })
    };
    let mut all = vec![received("/in-order", "evt_1", 0), received("/slowly", "evt_1", 0)];
    all.extend([0, 300, 900].map(|at| received("/retried", "evt_1", at)));
    let sent = ["evt_1".to_owned()];
    assert_eq!((Seen::of(&all, &sent).wrong, Seen::of(&all, &sent).late), (0, Duration::ZERO));
    // Parked for an hour, tried once more, and not at all.
    all[4] = received("/retried", "evt_1", 3_600_900);
    assert_eq!(Seen::of(&all, &sent).late.as_secs(), 3600);
    all.push(received("/retried", "evt_1", 3_700_000));
    assert_eq!(Seen::of(&all, &sent).wrong, 1);
    all.remove(0);
    assert_eq!(Seen::of(&all, &sent).wrong, 2);
}
