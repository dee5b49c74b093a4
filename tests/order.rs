//! What must not overtake what: one delivery of a key at a time, in the order the
//! events came in, whatever fails on the way.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{eventually_within, measuring};

/// Steps enough for any streak of bad luck.
pub(crate) fn patient() -> String {
    format!("schedule = [{}]\njitter = 0.5", ["\"10ms\""; 100].join(", "))
}

/// Send events of these subjects, each with its number within its subject.
pub(crate) fn send(engine: &Engine, subjects: impl IntoIterator<Item = (String, usize)>) -> usize {
    let events: Vec<_> = subjects.into_iter().collect();
    for batch in events.chunks(1000) {
        let event = |(subject, number): &(String, usize)| {
            json!({
                "specversion": "1.0", "source": "erp", "type": "stock.changed",
                "id": format!("{subject}-{number}"), "subject": subject,
                "datacontenttype": "application/json",
                "data": { "subject": subject, "number": number },
            })
        };
        let body = Value::Array(batch.iter().map(event).collect()).to_string();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let answer = engine.post("/events", &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    events.len()
}

fn of(request: &Received) -> (String, usize) {
    let data: Value = serde_json::from_slice(&request.body).expect("JSON");
    let number = data["number"].as_u64().expect("a number");
    (
        data["subject"].as_str().expect("a subject").to_owned(),
        usize::try_from(number).expect("fits"),
    )
}

/// What a receiver expects next of each subject, and whatever came otherwise.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    next: HashMap<String, usize>,
    under_way: HashSet<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) taken: usize,
}

/// A receiver of numbered events that refuses some of them by chance and notes
/// every one that comes out of its turn, or while one of its subject is under way.
pub(crate) fn numbered(refuse_one_in: u32) -> (Receiver, Arc<Mutex<Expected>>) {
    let expected = Arc::<Mutex<Expected>>::default();
    let of_receiver = expected.clone();
    let luck = AtomicU32::new(1);
    let receiver = Receiver::start(move |request| {
        let (subject, number) = of(request);
        let lock = || of_receiver.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut expected = lock();
            let next = expected.next.get(&subject).copied().unwrap_or(0);
            if number != next {
                expected.wrong.push(format!("{subject}: {number} instead of {next}"));
            }
            if !expected.under_way.insert(subject.clone()) {
                expected.wrong.push(format!("{subject}: {number} beside another"));
            }
        }
        // The same luck in every run, and another for every attempt.
        let drawn = luck.fetch_add(1, Ordering::SeqCst).wrapping_mul(2_654_435_761) >> 8;
        let taken = !drawn.is_multiple_of(refuse_one_in);
        let mut expected = lock();
        expected.under_way.remove(&subject);
        if taken {
            expected.taken += 1;
            expected.next.insert(subject, number + 1);
        }
        Reply::status(if taken { 200 } else { 500 })
    });
    (receiver, expected)
}

pub(crate) fn lock(expected: &Mutex<Expected>) -> std::sync::MutexGuard<'_, Expected> {
    expected.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn no_event_of_a_subject_overtakes_another_of_100_000() {
    const EVENTS: usize = 100_000;
    const SUBJECTS: usize = 500;
    let _measuring = measuring();
    let (receiver, expected) = numbered(20);
    let hub = Hub::new();
    let endpoint = "order = \"subject\"\nconcurrency = 32";
    hub.route("stock", route(&receiver.url("/"), endpoint, &patient()));
    let engine = Engine::start(&hub);
    let begun = Instant::now();
    send(&engine, (0..EVENTS).map(|at| (format!("s{}", at % SUBJECTS), at / SUBJECTS)));
    let accepted = begun.elapsed();
    eventually_within(Duration::from_mins(4), "all to be taken", || {
        (lock(&expected).taken == EVENTS).then_some(())
    });
    eprintln!("{EVENTS} accepted in {accepted:?}, delivered in {:?}", begun.elapsed());
    engine.drained();
    assert_eq!(lock(&expected).wrong, [""; 0]);
    assert!(receiver.received().len() > EVENTS + EVENTS / 40, "too few were refused");
}

#[test]
pub(crate) fn an_event_that_is_tried_again_holds_back_its_own_subject_only() {
    let refuse = Arc::new(AtomicBool::new(true));
    let of_receiver = refuse.clone();
    let receiver = Receiver::start(move |request| {
        let refused = of(request).0 == "held" && of_receiver.load(Ordering::SeqCst);
        Reply::status(if refused { 500 } else { 200 })
    });
    let hub = Hub::new();
    hub.route("stock", route(&receiver.url("/"), "order = \"subject\"", &patient()));
    let engine = Engine::start(&hub);
    let subjects = (0..20).flat_map(|at| [("held".to_owned(), at), ("free".to_owned(), at)]);
    send(&engine, subjects);
    let all = |it: &[Arc<Received>], subject: &str| -> Vec<usize> {
        it.iter().map(|it| of(it)).filter(|it| it.0 == subject).map(|it| it.1).collect()
    };
    let order: Vec<_> = (0..20).collect();
    receiver.until("all that are free", |it| (all(it, "free") == order).then_some(()));
    let held = receiver.until("some tries", |it| Some(all(it, "held")).filter(|it| it.len() > 3));
    assert_eq!(held, vec![0; held.len()], "one came before the first was delivered");
    refuse.store(false, Ordering::SeqCst);
    engine.drained();
    let mut held = all(&receiver.received(), "held");
    held.dedup();
    assert_eq!(held, order);
}

#[test]
pub(crate) fn an_endpoint_in_order_gets_one_at_a_time() {
    const EVENTS: usize = 300;
    let (receiver, expected) = numbered(7);
    let hub = Hub::new();
    hub.route("stock", route(&receiver.url("/"), "order = \"endpoint\"", &patient()));
    let engine = Engine::start(&hub);
    send(&engine, (0..EVENTS).map(|at| ("all".to_owned(), at)));
    engine.drained();
    assert_eq!(lock(&expected).wrong, [""; 0]);
    assert_eq!(lock(&expected).taken, EVENTS);
    assert_eq!(receiver.under_way_most(), 1);
}

#[test]
pub(crate) fn a_dead_letter_makes_way_for_the_next() {
    let receiver =
        Receiver::start(|request| Reply::status(if of(request).1 == 0 { 500 } else { 200 }));
    let hub = Hub::new();
    hub.route("stock", route(&receiver.url("/"), "order = \"subject\"", "schedule = [\"30ms\"]"));
    let engine = Engine::start(&hub);
    send(&engine, (0..4).map(|at| ("s".to_owned(), at)));
    engine.drained();
    let numbers: Vec<_> = receiver.received().iter().map(|it| of(it).1).collect();
    assert_eq!(numbers, [0, 0, 1, 2, 3]);
    assert_eq!(engine.deliveries("status=dead").len(), 1);
}

#[test]
pub(crate) fn order_outlives_the_process() {
    const EVENTS: usize = 2_000;
    let _measuring = measuring();
    let (receiver, expected) = numbered(10);
    let hub = Hub::new();
    hub.route("stock", route(&receiver.url("/"), "order = \"subject\"", &patient()));
    let mut engine = Engine::start(&hub);
    send(&engine, (0..EVENTS).map(|at| (format!("s{}", at % 20), at / 20)));
    for part in 1..5 {
        eventually_within(Duration::from_mins(1), "some to be taken", || {
            (lock(&expected).taken >= part * EVENTS / 5).then_some(())
        });
        engine.kill();
        engine = Engine::start(&hub);
    }
    engine.drained();
    let expected = lock(&expected);
    // What was delivered and not recorded comes again: the one before the next.
    let again = |it: &String| {
        let (_, numbers) = it.split_once(": ").expect("both");
        let mut numbers = numbers.split(" instead of ").map(|it| it.parse::<usize>());
        matches!((numbers.next(), numbers.next()), (Some(Ok(a)), Some(Ok(b))) if a + 1 == b)
    };
    let (again, wrong): (Vec<_>, Vec<_>) = expected.wrong.iter().partition(|it| again(it));
    eprintln!("{} came again after 4 kills", again.len());
    assert_eq!(wrong, [""; 0]);
    assert_eq!(expected.next.values().sum::<usize>(), EVENTS);
}

#[test]
pub(crate) fn one_that_is_cancelled_makes_way_for_the_next() {
    let receiver =
        Receiver::start(|request| Reply::status(if of(request).1 < 2 { 500 } else { 200 }));
    let hub = Hub::new();
    hub.route("stock", route(&receiver.url("/"), "order = \"subject\"", "schedule = [\"1h\"]"));
    let engine = Engine::start(&hub);
    send(&engine, (0..4).map(|at| ("s".to_owned(), at)));
    // The newest of the list comes first: cancel from behind, and then the two ahead.
    let rows = engine.deliveries("status=pending");
    let cancel = |at: usize| {
        let path = format!("/v1/deliveries/{}/cancel", rows[at]["id"].as_str().expect("an id"));
        eventually_within(Duration::from_secs(20), "not to be in hand", || {
            let answer = crate::support::client::ask(engine.admin, "POST", &path, &[], b"");
            (answer.status == 200).then_some(())
        });
    };
    [0, 3, 2].into_iter().for_each(cancel);
    engine.drained();
    let mut numbers: Vec<_> = receiver.received().iter().map(|it| of(it).1).collect();
    numbers.dedup();
    assert!(matches!(numbers[..], [0, 1, 2] | [0, 2]), "{numbers:?}");
    assert_eq!(engine.deliveries("status=delivered").len(), 1);
}

#[test]
pub(crate) fn a_resend_waits_its_turn_as_well() {
    let refuse = Arc::new(AtomicBool::new(true));
    let of_receiver = refuse.clone();
    let receiver = Receiver::start(move |_| {
        Reply::status(if of_receiver.load(Ordering::SeqCst) { 500 } else { 200 })
    });
    let hub = Hub::new();
    hub.route("stock", route(&receiver.url("/"), "order = \"subject\"", "schedule = []"));
    let engine = Engine::start(&hub);
    send(&engine, [("s".to_owned(), 0)]);
    engine.drained();
    let dead = engine.deliveries("status=dead");
    let [dead] = dead.as_slice() else { panic!("{dead:?}") };
    hub.route("stock", route(&receiver.url("/"), "order = \"subject\"", &patient()));
    let answer = crate::support::client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    send(&engine, [("s".to_owned(), 1)]);
    let path = format!("/v1/deliveries/{}/resend", dead["id"].as_str().expect("an id"));
    let answer = crate::support::client::ask(engine.admin, "POST", &path, &[], b"");
    assert_eq!(answer.status, 202, "{}", answer.text());
    receiver.first(8);
    let numbers: Vec<_> = receiver.received().iter().skip(1).map(|it| of(it).1).collect();
    assert_eq!(numbers, vec![1; numbers.len()]);
    refuse.store(false, Ordering::SeqCst);
    engine.drained();
    assert_eq!(receiver.received().last().map(|it| of(it).1), Some(0));
}
