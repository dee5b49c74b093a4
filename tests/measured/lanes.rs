//! One lane per route: its limits hold, and what happens in it is felt in no
//! other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, OpenFlags};

use crate::support::client::Connection;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, route, to};
use crate::support::measuring;
use crate::support::receiver::{Gate, Received, Receiver, Reply};

const RETRY: &str = "schedule = [\"1s\"]";

#[test]
fn an_endpoint_that_does_not_answer_delays_no_other_route() {
    const EVENTS: usize = 50;
    let (gate, slow) = gated();
    let fast = Receiver::ok();
    let hub = Hub::new();
    hub.route("slow", route(&slow.url("/"), "concurrency = 2\ntimeout = \"2m\"", RETRY));
    hub.route("fast", to(&fast.url("/")));
    let engine = Engine::start(&hub);
    let events: HashSet<_> = (0..EVENTS).map(|_| engine.send("order.created", "1")).collect();
    // All of them, while the other has not answered once.
    let arrived = fast.first(EVENTS);
    assert_eq!(ids(&arrived), events);
    slow.first(2);
    assert_eq!(slow.received().len(), 2, "more than its two attempts were begun");
    gate.open();
    assert_eq!(ids(&slow.first(EVENTS)), events);
    assert_eq!(slow.under_way_most(), 2);
}

#[test]
fn an_endpoint_that_answers_late_delays_no_other_route() {
    const LATE: Duration = Duration::from_secs(3);
    const EVENTS: usize = 6;
    let _measuring = measuring();
    let slow = Receiver::start(|_| {
        thread::sleep(LATE);
        Reply::status(200)
    });
    let fast = Receiver::ok();
    let hub = Hub::new();
    hub.route("slow", route(&slow.url("/"), "concurrency = 2", RETRY));
    hub.route("fast", to(&fast.url("/")));
    let engine = Engine::start(&hub);
    let begun = Instant::now();
    let events: HashSet<_> = (0..EVENTS).map(|_| engine.send("order.created", "1")).collect();
    let last_fast = fast.first(EVENTS)[EVENTS - 1].at - begun;
    let arrived = slow.first(EVENTS);
    let last_slow = arrived[EVENTS - 1].at - begun;
    eprintln!("the last of {EVENTS}: {last_fast:?} at the fast one, {last_slow:?} at the slow one");
    assert_eq!(ids(&arrived), events);
    // Two at once: the last two wait for two times two answers.
    assert!(last_slow >= 2 * LATE, "{last_slow:?}");
    assert!(last_fast < LATE, "{last_fast:?}");
    assert_eq!(slow.under_way_most(), 2);
}

#[test]
fn no_more_attempts_are_under_way_than_an_endpoint_allows() {
    const EVENTS: usize = 400;
    let _measuring = measuring();
    let receiver = Receiver::start(|_| {
        // Long enough that attempts would pile up.
        thread::sleep(Duration::from_millis(5));
        Reply::status(200)
    });
    let hub = Hub::new();
    hub.route("all", route(&receiver.url("/"), "concurrency = 3", RETRY));
    let engine = Engine::start(&hub);
    let events = send(&engine, EVENTS);
    assert_eq!(ids(&receiver.first(EVENTS)), events);
    eprintln!("{} attempts at once at most", receiver.under_way_most());
    assert_eq!(receiver.under_way_most(), 3);
}

#[test]
pub(crate) fn no_second_has_more_attempts_than_the_rate_limit() {
    const LIMIT: usize = 20;
    const EVENTS: usize = 70;
    // The engine counts from the start of an attempt, the receiver sees its arrival, which
    // comes a little later: by how much differs from one to the next.
    const WINDOW: Duration = Duration::from_millis(950);
    // A machine that stalls between the two makes arrivals look closer than they are. It
    // does not do so every time; an engine that is too fast does.
    const TRIES: usize = 5;
    let _measuring = measuring();
    let most_in_a_window = || {
        let receiver = Receiver::ok();
        let hub = Hub::new();
        hub.route("all", route(&receiver.url("/"), &format!("rate_limit = \"{LIMIT}/s\""), RETRY));
        let engine = Engine::start(&hub);
        let events = send(&engine, EVENTS);
        let arrived = receiver.first(EVENTS);
        assert_eq!(ids(&arrived), events);
        let mut moments: Vec<_> = arrived.iter().map(|it| it.at).collect();
        moments.sort();
        let all = moments[EVENTS - 1] - moments[0];
        let in_window_from =
            |at: usize| moments[at..].iter().take_while(|it| **it - moments[at] < WINDOW).count();
        let most = (0..EVENTS).map(in_window_from).max().expect("there are some");
        eprintln!("{EVENTS} events in {all:?}, {most} in {WINDOW:?} at most");
        most
    };
    let kept = (0..TRIES).any(|_| most_in_a_window() <= LIMIT);
    assert!(kept, "more than {LIMIT} attempts in {WINDOW:?}, {TRIES} times");
}

#[test]
fn what_a_lane_cannot_hold_waits_in_the_store_and_arrives_once() {
    const EVENTS: usize = 2_000;
    // What a lane holds in memory: its attempts and 240 more.
    const IN_HAND_MAX: usize = 4 + 240;
    let _measuring = measuring();
    let (gate, receiver) = gated();
    let hub = Hub::new();
    hub.route("all", route(&receiver.url("/"), "concurrency = 4\ntimeout = \"4m\"", RETRY));
    let engine = Engine::start(&hub);
    let events = send(&engine, EVENTS);
    let stored: u32 = {
        let store = Database::open_with_flags(hub.store(), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let sql = "SELECT count(*) FROM deliveries WHERE status = 0 AND leased = 0";
        store.and_then(|it| it.query_row(sql, [], |row| row.get(0))).expect("it can be read")
    };
    eprintln!("{stored} of {EVENTS} wait in the store");
    assert!(stored as usize >= EVENTS - IN_HAND_MAX, "{stored}");
    gate.open();
    receiver.first(EVENTS);
    engine.drained();
    let arrived = receiver.received();
    assert_eq!(ids(&arrived), events);
    assert_eq!(arrived.len(), EVENTS, "some arrived more than once");
    assert_eq!(receiver.under_way_most(), 4);
}

#[test]
pub(crate) fn a_backlog_outlives_the_process() {
    const EVENTS: usize = 500;
    let _measuring = measuring();
    let is_up = Arc::new(AtomicBool::new(false));
    let of_receiver = is_up.clone();
    let receiver = Receiver::start(move |_| {
        Reply::status(if of_receiver.load(Ordering::SeqCst) { 200 } else { 500 })
    });
    let hub = Hub::new();
    let schedule = ["\"500ms\""; 100].join(", ");
    let retry = format!("schedule = [{schedule}]\n[breaker]\nenabled = false");
    hub.route("all", route(&receiver.url("/"), "", &retry));
    let engine = Engine::start(&hub);
    let events = send(&engine, EVENTS);
    receiver.until("each to be refused once", |it| (ids(it).len() == EVENTS).then_some(()));
    engine.kill();

    is_up.store(true, Ordering::SeqCst);
    let up_since = Instant::now();
    let engine = Engine::start(&hub);
    engine.drained();
    let mut arrivals = HashMap::<String, usize>::new();
    for it in receiver.received().iter().filter(|it| it.at >= up_since) {
        *arrivals.entry(it.webhook_id().to_owned()).or_default() += 1;
    }
    eprintln!("{} of {EVENTS} arrived after the restart", arrivals.len());
    let once: HashMap<_, _> = events.into_iter().map(|it| (it, 1)).collect();
    assert_eq!(arrivals, once);
}

/// A receiver that answers nothing until the gate is opened.
fn gated() -> (Gate, Receiver) {
    let gate = Gate::closed();
    let of_receiver = gate.clone();
    let receiver = Receiver::start(move |_| {
        of_receiver.pass();
        Reply::status(200)
    });
    (gate, receiver)
}

fn ids(received: &[Arc<Received>]) -> HashSet<String> {
    received.iter().map(|it| it.webhook_id().to_owned()).collect()
}

/// So many events over a few connections; their ids.
fn send(engine: &Engine, count: usize) -> HashSet<String> {
    const SENDERS: usize = 5;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let address = engine.public;
    let send = |count| {
        let mut connection = Connection::open(address).expect("the engine listens");
        let mut one = || {
            let answer = connection.ask("POST", "/in/erp/order.created", &headers, b"1");
            answer.expect("the engine answers").event_ids().remove(0)
        };
        (0..count).map(|_| one()).collect::<Vec<_>>()
    };
    assert_eq!(count % SENDERS, 0);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| send(count / SENDERS))).collect();
        senders.into_iter().flat_map(|it| it.join().expect("no sender panicked")).collect()
    })
}
