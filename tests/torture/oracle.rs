//! What came of it: what was sent, what arrived and what the log says, held
//! against each other. It knows nothing of how the engine was tortured.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection as Database, OpenFlags};

use crate::support::receiver::Received;

/// An endpoint that takes everything it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) path: &'static str,
    /// Which events' bodies are for it.
    pub(super) takes: fn(&[u8]) -> bool,
    /// The place in the order that was asked for; none where none was.
    pub(super) place: Option<fn(&[u8]) -> Place>,
}

/// A round, and a number within it.
pub(super) type Place = (usize, usize);

/// What the senders wrote down.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Before each request: what may arrive.
    pub(super) attempted: HashSet<Vec<u8>>,
    /// After each answer, by event id: what must arrive.
    pub(super) acknowledged: HashMap<String, Vec<u8>>,
}

/// What a receiver wrote down.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) body: Vec<u8>,
}

/// What was in hand when the engine was killed: how often, by path and body.
pub(super) type InHand = HashMap<(String, Vec<u8>), usize>;

/// What the log says was delivered, by path and body, and what SQLite says of it.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) delivered: HashSet<(String, Vec<u8>)>,
    pub(super) integrity: String,
}

/// What is found. All but the first five must be nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) attempted: usize,
    pub(super) acknowledged: usize,
    /// At all endpoints.
    pub(super) arrivals: usize,
    /// Deliveries that were in hand, over all kills.
    pub(super) in_hand: usize,
    /// Arrivals after the first of an event at an endpoint that takes everything.
    pub(super) duplicates: usize,
    /// Acknowledged and not delivered, for each endpoint.
    pub(super) lost: usize,
    /// Arrived, and nobody sent it, or not there.
    pub(super) unexpected: usize,
    /// Other bytes than were sent, or than came under that id before.
    pub(super) torn: usize,
    /// Requests, each made once, that arrived under another id than they should.
    pub(super) doubled: usize,
    /// Duplicates that were not in hand at a kill.
    pub(super) unexplained: usize,
    /// Arrived after what should have come later.
    pub(super) misordered: usize,
    /// Acknowledged, and the log does not say that it was delivered.
    pub(super) unlogged: usize,
    /// The log says it was delivered, and it never arrived.
    pub(super) untrue: usize,
    /// What SQLite has to complain about, apart from "ok".
    pub(super) broken: Vec<String>,
}

impl Receipt {
    pub(super) fn of(received: &[Arc<Received>]) -> Vec<Self> {
        let receipt = |it: &Arc<Received>| Self {
            path: it.path.clone(),
            id: it.webhook_id().to_owned(),
            body: it.body.clone(),
        };
        received.iter().map(receipt).collect()
    }
}

impl Findings {
    pub(super) fn judge(
        promises: &[Promise],
        ledger: &Ledger,
        receipts: &[Receipt],
        log: &Log,
        in_hand: &InHand,
    ) -> Self {
        let mut found = Self {
            attempted: ledger.attempted.len(),
            acknowledged: ledger.acknowledged.len(),
            arrivals: receipts.len(),
            in_hand: in_hand.values().sum(),
            ..Self::default()
        };
        let mut body_of = HashMap::<&str, &[u8]>::new();
        let acknowledged = ledger.acknowledged.iter();
        let mut id_of: HashMap<&[u8], &str> = acknowledged.map(|(id, it)| (&**it, &**id)).collect();
        let mut arrivals = HashMap::<(&str, &[u8]), usize>::new();
        for it in receipts {
            let (id, body) = (it.id.as_str(), it.body.as_slice());
            let acknowledged = ledger.acknowledged.get(id).is_none_or(|it| it == body);
            if *body_of.entry(id).or_insert(body) != body || !acknowledged {
                found.torn += 1;
            }
            let promise = promises.iter().find(|promise| promise.path == it.path);
            let misplaced = promise.is_some_and(|it| !(it.takes)(body));
            if !ledger.attempted.contains(body) || misplaced {
                found.unexpected += 1;
            }
            if *id_of.entry(body).or_insert(id) != id {
                found.doubled += 1;
            }
            *arrivals.entry((&it.path, body)).or_default() += 1;
        }
        let key = |path: &str, body: &[u8]| (path.to_owned(), body.to_owned());
        for promise in promises {
            let path = promise.path;
            for body in ledger.acknowledged.values().filter(|it| (promise.takes)(it)) {
                found.lost += usize::from(!arrivals.contains_key(&(path, body)));
                found.unlogged += usize::from(!log.delivered.contains(&key(path, body)));
            }
            let of_path = || arrivals.iter().filter(|((of, _), _)| *of == path);
            for ((_, body), again) in of_path().map(|(it, count)| (it, count - 1)) {
                let in_hand = in_hand.get(&key(path, body)).copied().unwrap_or(0);
                found.duplicates += again;
                found.unexplained += again.saturating_sub(in_hand);
            }
            if let Some(place) = promise.place {
                let mut last = None;
                for it in receipts.iter().filter(|it| it.path == path) {
                    let at = Some(place(&it.body));
                    found.misordered += usize::from(at < last);
                    last = last.max(at);
                }
            }
        }
        let arrived = |it: &(String, Vec<u8>)| arrivals.contains_key(&(&*it.0, &*it.1));
        let promised = |it: &&(String, Vec<u8>)| promises.iter().any(|of| of.path == it.0);
        found.untrue = log.delivered.iter().filter(promised).filter(|it| !arrived(it)).count();
        if log.integrity != "ok" {
            found.broken.push(log.integrity.clone());
        }
        found
    }

    /// Nothing but duplicates of what was in hand.
    #[track_caller]
    pub(super) fn assert_sound(&self) {
        let figures = Self {
            attempted: self.attempted,
            acknowledged: self.acknowledged,
            arrivals: self.arrivals,
            in_hand: self.in_hand,
            duplicates: self.duplicates,
            ..Self::default()
        };
        assert_eq!(*self, figures, "found what must not be");
        assert!(self.duplicates <= self.in_hand, "{self:?}");
        assert!(self.acknowledged > 0 && self.attempted >= self.acknowledged, "{self:?}");
    }

    pub(super) fn add(&mut self, other: Self) {
        self.attempted += other.attempted;
        self.acknowledged += other.acknowledged;
        self.arrivals += other.arrivals;
        self.in_hand += other.in_hand;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.unexpected += other.unexpected;
        self.torn += other.torn;
        self.doubled += other.doubled;
        self.unexplained += other.unexplained;
        self.misordered += other.misordered;
        self.unlogged += other.unlogged;
        self.untrue += other.untrue;
        self.broken.extend(other.broken);
    }
}

/// Read-only: nothing is repaired or written back before the engine sees it.
pub(super) fn open(store: &Path) -> Database {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Database::open_with_flags(store, flags).expect("the store can be read")
}

/// The path of an endpoint's URL, and the bodies of its deliveries in that state.
const BODIES: &str = "
    SELECT u.text, e.data FROM deliveries d JOIN events e ON e.id = d.event
    JOIN labels u ON u.id = d.endpoint WHERE ";

fn bodies(store: &Database, state: &str) -> Vec<(String, Vec<u8>)> {
    let mut statement = store.prepare(&format!("{BODIES}{state}")).expect("the schema is known");
    let path_of = |url: String| {
        let rest = url.splitn(4, '/').nth(3).expect("a URL with a path");
        format!("/{rest}")
    };
    let rows = statement.query_map([], |row| Ok((path_of(row.get(0)?), row.get(1)?)));
    rows.and_then(Iterator::collect).expect("the store can be read")
}

impl Log {
    pub(super) fn read(store: &Path) -> Self {
        let store = open(store);
        let integrity = store.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        Self {
            delivered: bodies(&store, "d.status = 1").into_iter().collect(),
            integrity: integrity.expect("SQLite checks the store"),
        }
    }
}

/// Count what is in hand now. A store that was never made, or not to its end, holds
/// nothing.
pub(super) fn count_in_hand(store: &Path, in_hand: &mut InHand) {
    if !store.is_file() || store.with_file_name("plugpost.db-journal").is_file() {
        return;
    }
    let store = open(store);
    let has_tables = store.table_exists(None, "deliveries").expect("the store can be read");
    for it in has_tables.then(|| bodies(&store, "d.leased = 1")).into_iter().flatten() {
        *in_hand.entry(it).or_default() += 1;
    }
}

// ---- the oracle sees what it is for

/// Two events in order, delivered, and all the records of it.
fn records() -> ([Promise; 1], Ledger, Vec<Receipt>, Log, InHand) {
    let place: fn(&[u8]) -> Place = |body| (0, usize::from(body[0]));
    let promises = [Promise { path: "/p", takes: |it| it != b"other", place: Some(place) }];
    let mut ledger = Ledger::default();
    let mut log = Log { integrity: "ok".into(), ..Log::default() };
    let mut receipts = Vec::new();
    for (id, body) in [("evt_1", b"1".to_vec()), ("evt_2", b"2".to_vec())] {
        ledger.attempted.insert(body.clone());
        ledger.acknowledged.insert(id.into(), body.clone());
        log.delivered.insert(("/p".into(), body.clone()));
        receipts.push(Receipt { path: "/p".into(), id: id.into(), body });
    }
    ledger.attempted.insert(b"other".to_vec());
    (promises, ledger, receipts, log, InHand::new())
}

#[test]
fn the_oracle_finds_what_was_done_to_the_records() {
    let judged = |change: fn(&mut Ledger, &mut Vec<Receipt>, &mut Log, &mut InHand)| {
        let (promises, mut ledger, mut receipts, mut log, mut in_hand) = records();
        change(&mut ledger, &mut receipts, &mut log, &mut in_hand);
        Findings::judge(&promises, &ledger, &receipts, &log, &in_hand)
    };
    judged(|_, _, _, _| {}).assert_sound();
    let found = judged(|_, receipts, _, _| drop(receipts.pop()));
    assert_eq!((found.lost, found.untrue), (1, 1), "{found:?}");
    let found = judged(|_, _, log, _| log.delivered.clear());
    assert_eq!((found.lost, found.unlogged), (0, 2), "{found:?}");
    let found = judged(|_, receipts, _, _| receipts[0].body[0] ^= 1);
    assert_eq!((found.torn, found.unexpected, found.lost), (1, 1, 1), "{found:?}");
    let found = judged(|_, receipts, _, _| receipts[1].id = "evt_3".into());
    assert_eq!(found.doubled, 1, "{found:?}");
    let found = judged(|_, receipts, _, _| {
        receipts.push(Receipt { body: b"other".to_vec(), id: "evt_3".into(), path: "/p".into() });
    });
    assert_eq!(found.unexpected, 1, "{found:?}");
    let found = judged(|_, receipts, _, _| receipts.swap(0, 1));
    assert_eq!(found.misordered, 1, "{found:?}");
    let found = judged(|_, receipts, _, _| receipts.push(receipts[1].clone()));
    assert_eq!((found.duplicates, found.unexplained), (1, 1), "{found:?}");
    let found = judged(|_, receipts, _, in_hand| {
        receipts.push(receipts[1].clone());
        in_hand.insert(("/p".into(), b"2".to_vec()), 1);
    });
    found.assert_sound();
    assert_eq!((found.duplicates, found.in_hand), (1, 1), "{found:?}");
    let found = judged(|_, _, log, _| log.integrity = "row missing from index".into());
    assert_eq!(found.broken.len(), 1, "{found:?}");
}
