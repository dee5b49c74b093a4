//! Being told to stop: what is under way is finished, what is not goes on at the
//! next start, and only one process has the store.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, OpenFlags};

use crate::support::client::{self, Connection};
use crate::support::engine::{self, Engine};
use crate::support::hub::{Hub, TOKEN, route, to};
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::{Ran, eventually, measuring};

/// The default of `delivery.stop_timeout`.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_stop_under_load_loses_nothing_and_records_what_it_sent() {
    const ARRIVALS_BEFORE_THE_STOP: usize = 400;
    let _measuring = measuring();
    // Every seventh answer asks for another attempt.
    let count = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| {
        let fails = count.fetch_add(1, Ordering::SeqCst) % 7 == 6;
        Reply::status(if fails { 500 } else { 200 })
    });
    let hub = Hub::new();
    let schedule = ["\"50ms\""; 20].join(", ");
    hub.route("all", route(&receiver.url("/"), "", &format!("schedule = [{schedule}]")));
    let engine = Engine::start(&hub);
    let address = engine.public;
    let (ended, acknowledged) = thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|sender| scope.spawn(move || send_until_it_breaks(address, sender)))
            .collect();
        receiver.first(ARRIVALS_BEFORE_THE_STOP);
        let ended = engine.stop();
        let sent = senders.into_iter().flat_map(|it| it.join().expect("no sender panicked"));
        (ended, sent.collect::<HashSet<_>>())
    });
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.took < STOP_TIMEOUT, "{:?}", ended.took);

    let engine = Engine::start(&hub);
    engine.drained();
    let mut arrivals = HashMap::<String, u32>::new();
    for it in receiver.received() {
        *arrivals.entry(String::from_utf8(it.body.clone()).expect("as sent")).or_default() += 1;
    }
    let lost = acknowledged.iter().filter(|it| !arrivals.contains_key(*it)).count();
    let attempts = attempts_by_body(&hub);
    let again = attempts.values().filter(|it| **it > 1).count();
    eprintln!(
        "{} acknowledged, {lost} lost, {again} attempted again, ended after {:?}",
        acknowledged.len(),
        ended.took
    );
    assert_eq!(lost, 0);
    assert!(again > 0, "no delivery needed a second attempt");
    // Nothing was cut off, so what is recorded is what arrived: no more, and no less.
    let differ = attempts.iter().filter(|(body, count)| arrivals.get(*body) != Some(count)).count();
    assert_eq!((differ, attempts.len()), (0, arrivals.len()));
}

#[test]
pub(crate) fn a_stop_waits_for_the_attempt_under_way() {
    let (gate, receiver) = hanging();
    let hub = Hub::new();
    hub.route("all", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "1");
    receiver.first(1);
    let begun = Instant::now();
    engine.terminate();
    stopping(&engine);
    gate.open();
    let ended = engine.end(begun);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);

    let engine = Engine::start(&hub);
    let delivery = engine.ended(&event, "all");
    assert_eq!(delivery["status"], "delivered");
    assert_eq!(receiver.received().len(), 1);
}

#[test]
pub(crate) fn a_stop_does_not_wait_longer_than_its_timeout() {
    let (gate, receiver) = hanging();
    let hub = Hub::with("stop_timeout = \"1s\"", "");
    hub.route("all", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "1");
    receiver.first(1);
    let ended = engine.stop();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!((1..10).contains(&ended.took.as_secs()), "{:?}", ended.took);
    gate.open();
    goes_on(&hub, &receiver, &event);
}

#[test]
fn a_stop_waits_its_timeout_once_for_senders_and_receivers_together() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let (gate, receiver) = hanging();
    let hub = Hub::with("stop_timeout = \"5s\"", "");
    hub.route("all", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    engine.send("order.created", "1");
    receiver.first(1);
    // A sender that does not send all it announced, and is known to be served.
    let mut sender = Connection::open(engine.public).expect("the engine listens");
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let path = "/in/erp/order.created";
    assert_eq!(sender.ask("POST", path, &headers, b"2").expect("an answer").status, 202);
    let mut request = client::request("POST", path, &headers, b"three");
    request.truncate(request.len() - 2);
    sender.write(&request).expect("the engine reads");
    // Answered after it: the other was read too.
    engine.send("order.created", "4");
    let ended = engine.stop();
    eprintln!("{:?} for a timeout of {TIMEOUT:?}", ended.took);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.took < TIMEOUT * 9 / 5, "{:?} for a timeout of {TIMEOUT:?}", ended.took);
    gate.open();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (gate, receiver) = hanging();
    let hub = Hub::new();
    hub.route("all", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "1");
    receiver.first(1);
    engine.terminate();
    stopping(&engine);
    // It waits for the attempt now; of these, the first would have ended it with 0.
    let ended = engine.stop();
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.took < STOP_TIMEOUT / 2, "{:?}", ended.took);
    gate.open();
    goes_on(&hub, &receiver, &event);
}

#[test]
fn a_second_process_on_the_same_store_is_refused() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("all", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let mut second = engine::command(Path::new(env!("CARGO_BIN_EXE_plugpost")))
        .arg("serve")
        .arg(hub.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // It ends without a word, or says where it listens.
    let mut line = String::new();
    let stdout = second.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    if !line.is_empty() {
        let _ = second.kill();
    }
    let second = Ran::from(second.wait_with_output().expect("it has ended"));
    assert_eq!(line, "", "{second:?}");
    assert_eq!(second.status, Some(1), "{second:?}");
    let store = hub.store();
    let reason = format!("{} is in use by another process", store.display());
    assert!(second.stderr.contains(&reason), "{second:?}");
    // The first goes on as if nothing had happened.
    let event = engine.send("order.created", "1");
    assert_eq!(engine.ended(&event, "all")["status"], "delivered");
    assert_eq!(receiver.received().len(), 1);
}

/// A receiver whose answers wait until the gate is opened.
fn hanging() -> (Gate, Receiver) {
    let gate = Gate::closed();
    let of_receiver = gate.clone();
    let receiver = Receiver::start(move |_| {
        of_receiver.pass();
        Reply::status(200)
    });
    (gate, receiver)
}

/// Wait until it has taken notice of a signal.
#[track_caller]
fn stopping(engine: &Engine) {
    eventually("it to begin to stop", || engine.stderr().contains("stopping").then_some(()));
}

/// What was cut off is delivered after the next start, under the same id.
#[track_caller]
fn goes_on(hub: &Hub, receiver: &Receiver, event: &str) {
    let engine = Engine::start(hub);
    let delivery = engine.ended(event, "all");
    assert_eq!(delivery["status"], "delivered");
    let received = receiver.received();
    let ids: Vec<_> = received.iter().map(|it| it.webhook_id()).collect();
    assert_eq!(ids, [event, event]);
}

/// The bodies that were acknowledged.
fn send_until_it_breaks(address: SocketAddr, sender: usize) -> Vec<String> {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let mut connection = Connection::open(address).expect("the engine listens");
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let body = format!("{sender}-{number}");
        let path = "/in/erp/order.created";
        match connection.ask("POST", path, &headers, body.as_bytes()) {
            Ok(answer) => drop(answer.event_ids()),
            Err(_) => break,
        }
        acknowledged.push(body);
    }
    acknowledged
}

/// How many attempts are recorded for each delivery; there is one for each event.
fn attempts_by_body(hub: &Hub) -> HashMap<String, u32> {
    let store = Database::open_with_flags(hub.store(), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let store = store.expect("the store can be read");
    let sql = "SELECT e.data, (SELECT count(*) FROM attempts a WHERE a.delivery = d.id)
               FROM deliveries d JOIN events e ON e.id = d.event";
    let mut statement = store.prepare(sql).expect("the schema is known");
    let rows = statement.query_map([], |row| {
        let body: Vec<u8> = row.get(0)?;
        Ok((String::from_utf8(body).expect("as sent"), row.get(1)?))
    });
    rows.expect("rows").map(|it| it.expect("a row")).collect()
}
