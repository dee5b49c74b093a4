//! Events from some senders to some endpoints, on one store that several engines
//! serve one after the other. What is sent and what arrives is written down
//! outside of them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::oracle::{self, Findings, InHand, Ledger, Log, Place, Promise, Receipt};
use crate::support::client::Connection;
use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::hub::{Hub, TOKEN, route};
use crate::support::receiver::{Receiver, Reply};

/// Each sends its next event when the last was answered.
const SENDERS: usize = 8;

/// Between an answer and the next event, so that a slow machine delivers as fast
/// as it takes in.
const PAUSE: Duration = Duration::from_millis(2);

/// After an answer that was no 202.
const PAUSE_REFUSED: Duration = Duration::from_millis(20);

/// What takes everything; beside it, an endpoint answers 500 to everything.
pub(super) const PROMISES: [Promise; 3] = [
    Promise { path: "/first", takes: |_| true, place: None },
    Promise { path: SECOND, takes: |_| true, place: None },
    Promise { path: "/in-order", takes: |it| it.starts_with(IN_ORDER), place: Some(place) },
];
const SECOND: &str = "/second";
const FAILING: &str = "/failing";
const IN_ORDER: &[u8] = b"ordered ";

/// Of `KIND ROUND-SENDER-NUMBER FILLER`; only one sender's events are in order.
fn place(body: &[u8]) -> Place {
    let text = String::from_utf8_lossy(body);
    let numbers: Vec<_> = text.split([' ', '-']).map(|it| it.parse().ok()).collect();
    match numbers[..] {
        [_, Some(round), _, Some(number), ..] => (round, number),
        _ => (usize::MAX, usize::MAX),
    }
}

/// A store, its senders and its receiver.
pub(super) struct Scene {
    pub(super) hub: Hub,
    pub(super) receiver: Receiver,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) in_hand: InHand,
    /// By the second endpoint, which takes some events at the second attempt only: they
    /// wait in the store when the engine is killed.
    refused: Arc<Mutex<HashSet<Vec<u8>>>>,
    round: usize,
}

impl Scene {
    pub(super) fn new() -> Self {
        let refused = Arc::<Mutex<HashSet<Vec<u8>>>>::default();
        let of_receiver = refused.clone();
        let receiver = Receiver::start(move |it| {
            let refuses = it.path == FAILING
                || (it.path == SECOND
                    && is_refused_once(&it.body)
                    && lock(&of_receiver).insert(it.body.clone()));
            Reply::status(if refuses { 500 } else { 200 })
        });
        let hub = Hub::new();
        let retry = "schedule = [\"100ms\", \"1s\", \"5s\", \"5s\"]\n[breaker]\nenabled = false";
        for promise in &PROMISES[..2] {
            hub.route(&promise.path[1..], route(&receiver.url(promise.path), "", retry));
        }
        let in_order = route(&receiver.url("/in-order"), "order = \"endpoint\"", retry);
        hub.route("in-order", in_order.replace("[\"*\"]", "[\"ordered\"]"));
        let retry = "schedule = [\"20ms\", \"20ms\"]\n[breaker]\nenabled = false";
        hub.route(&FAILING[1..], route(&receiver.url(FAILING), "", retry));
        let (ledger, in_hand) = (Mutex::default(), InHand::new());
        Self { hub, receiver, ledger, in_hand, refused, round: 0 }
    }

    /// Start, load, and kill at an arbitrary moment.
    pub(super) fn kill_under_load(&mut self, command: Command, rng: &mut Rng) {
        let engine = Engine::start_command(command, &self.hub);
        let moment = Duration::from_millis(rng.u64(20..=500));
        self.under_load(&engine, |_| {
            thread::sleep(moment);
            engine.kill_now();
        });
        drop(engine);
    }

    /// Send for as long as that takes, or until the engine is gone.
    pub(super) fn under_load<T>(
        &mut self,
        engine: &Engine,
        meanwhile: impl FnOnce(&Self) -> T,
    ) -> T {
        self.round += 1;
        let scene = &*self;
        let stopped = &AtomicBool::new(false);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let go_on = |_| !stopped.load(Ordering::SeqCst);
                let (address, who) = (engine.public, (scene.round, sender));
                scope.spawn(move || send(address, &scene.ledger, who, go_on));
            }
            let done = meanwhile(scene);
            stopped.store(true, Ordering::SeqCst);
            done
        })
    }

    /// How many events were refused so far, or under way, and how many were taken.
    pub(super) fn refused_and_taken(&self) -> (usize, usize) {
        let ledger = lock(&self.ledger);
        let taken = ledger.acknowledged.len();
        (ledger.attempted.len() - taken, taken)
    }

    /// So many events, one after the other, half of them in order; how many were
    /// refused, before the engine was gone if it is.
    pub(super) fn send_some(&mut self, engine: &Engine, count: usize) -> usize {
        self.round += 1;
        let half = |sender| {
            let mut refused = 0;
            send(engine.public, &self.ledger, (self.round, sender), |(sent, answer)| {
                refused += usize::from(answer != 202);
                sent < count / 2
            });
            refused
        };
        half(0) + half(1)
    }

    /// Note what was in hand: the engine is gone.
    pub(super) fn note_in_hand(&mut self) {
        oracle::count_in_hand(&self.hub.store(), &mut self.in_hand);
    }

    /// Start once more, deliver what there is, and hold all records against each other.
    pub(super) fn judge(self, command: Command) -> Findings {
        let engine = Engine::start_command(command, &self.hub);
        drained(&self.hub);
        let ended = engine.stop();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        let ledger = self.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut receipts = Receipt::of(&self.receiver.received());
        // The first of each that was refused is no receipt.
        let refused = &mut *lock(&self.refused);
        receipts.retain(|it| it.path != SECOND || !refused.remove(&it.body));
        let log = Log::read(&self.hub.store());
        Findings::judge(&PROMISES, &ledger, &receipts, &log, &self.in_hand)
    }
}

/// One event after the other, each different, for as long as `go_on` says so of how
/// many there were and of the last answer, or until the engine is gone. What is refused
/// is sent no more.
fn send(
    address: SocketAddr,
    ledger: &Mutex<Ledger>,
    (round, sender): (usize, usize),
    mut go_on: impl FnMut((usize, u16)) -> bool,
) {
    let Ok(mut connection) = Connection::open(address) else { return };
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
    let kind = if sender == 0 { "ordered" } else { "any" };
    let path = format!("/in/erp/{kind}");
    for number in 0.. {
        // Some fill more than a page of the store, most do not.
        let filler = "ä".repeat(if number % 32 == 31 { 4000 } else { 100 });
        let body = format!("{kind} {round}-{sender}-{number} {filler}").into_bytes();
        lock(ledger).attempted.insert(body.clone());
        let Ok(answer) = connection.ask("POST", &path, &headers, &body) else { return };
        if answer.status == 202 {
            let before = lock(ledger).acknowledged.insert(answer.event_ids().remove(0), body);
            assert_eq!(before, None, "two events with one id");
            thread::sleep(PAUSE);
        } else {
            answer.problem(503);
            thread::sleep(PAUSE_REFUSED);
        }
        if !go_on((number + 1, answer.status)) {
            return;
        }
    }
}

fn is_refused_once(body: &[u8]) -> bool {
    place(body).1.is_multiple_of(3)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wait until nothing is pending; as long as something still goes out, patiently.
pub(super) fn drained(hub: &Hub) {
    let mut before = pending(hub);
    while before > 0 {
        before = eventually("a delivery to end", || Some(pending(hub)).filter(|it| *it < before));
    }
}

/// How many deliveries have not ended.
pub(super) fn pending(hub: &Hub) -> u32 {
    let sql = "SELECT count(*) FROM deliveries WHERE status = 0";
    let count = oracle::open(&hub.store()).query_row(sql, [], |row| row.get(0));
    count.expect("the store can be read")
}
