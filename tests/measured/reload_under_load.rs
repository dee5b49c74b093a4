//! Live reloads under 500 events a second: nothing is lost, nothing is mixed,
//! nothing is kept.
//!
//! 60 reloads by default; `PLUGPOST_RELOADS=300` makes it as many as that. Memory
//! is compared between two quiet moments: the queue is empty and the folder has
//! just been read; before the first of them the store's cache is full and some
//! reloads have been made. What a reload keeps it keeps in every round of them, so
//! a round in which the engine grew for once is followed by another.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{self, Connection};
use crate::support::engine::Engine;
use crate::support::guest::{self, Guest, RESULT, ROOM, header, secret_header, words};
use crate::support::hub::{Hub, TOKEN, to};
use crate::support::receiver::{Received, Receiver};
use crate::support::{eventually, measuring};

const EVENTS_PER_SECOND: u32 = 500;
const CONNECTIONS: u32 = 4;
const WARM_UP: usize = 15;
const ROUNDS: usize = 3;

/// What one snapshot makes of every event: the version of the transform, of the
/// auth plugin, of the route and of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    shape: u32,
    stamp: u32,
    route: u32,
    secret: u32,
}

#[test]
fn reloads_under_load_lose_nothing_mix_nothing_and_keep_nothing() {
    let _alone = measuring();
    let reloads = std::env::var("PLUGPOST_RELOADS").ok().and_then(|it| it.parse().ok());
    let reloads: usize = reloads.unwrap_or(60);
    let receiver = Receiver::ok();
    let now = Made { shape: 0, stamp: 0, route: 0, secret: 0 };
    let mut change = Change { hub: Hub::new(), receiver: &receiver, now, turn: 0 };
    change.write_all();
    let engine = Engine::start(&change.hub);
    let mut snapshots = BTreeMap::from([(1, now)]);

    engine.fill_the_store();
    let mut sent = under_load(&engine, || change.make(&engine, WARM_UP, &mut snapshots));
    let mut before = Kept::of(&engine);
    for round in 1.. {
        let (begun, counted) = (Instant::now(), reloaded(&engine));
        let of_round = under_load(&engine, || change.make(&engine, reloads, &mut snapshots));
        let (took, counted) = (begun.elapsed(), reloaded(&engine) - counted);
        let after = Kept::of(&engine);
        eprintln!(
            "{counted} reloads in {took:?}, {} snapshots so far, {} events; before {before:?}, \
             after {after:?}",
            snapshots.len(),
            of_round.len()
        );
        assert!(counted >= reloads, "{counted} reloads were counted");
        assert!(of_round.len() as f64 > took.as_secs_f64() * f64::from(EVENTS_PER_SECOND) * 0.9);
        sent.extend(of_round);

        // Nothing is kept: each loaded plugin has its machine code in memory of its own.
        assert_eq!(after.code, before.code, "the code of plugins that are gone");
        if after.resident < before.resident + before.resident / 20 {
            break;
        }
        assert!(round < ROUNDS, "it grew in every round: {after:?}, {before:?}");
        before = after;
    }

    // Nothing is lost.
    let arrived: HashMap<String, _> =
        receiver.received().iter().map(|it| (it.webhook_id().to_owned(), it.clone())).collect();
    let lost = sent.iter().filter(|it| !arrived.contains_key(*it)).count();
    assert_eq!((lost, arrived.len()), (0, sent.len()), "events did not arrive");
    assert_eq!(receiver.received().len(), sent.len(), "events arrived twice");
    assert_eq!(engine.deliveries("status=dead&limit=1"), Vec::<Value>::new());

    // Nothing is mixed: what arrived is what the snapshot in the log makes.
    let mut of_snapshot: BTreeMap<u64, usize> = BTreeMap::new();
    let mut connection = Connection::open(engine.admin).expect("the engine listens");
    let mut get = |path: &str| connection.ask("GET", path, &[], b"").expect("an answer").json();
    for event in &sent {
        let rows = get(&format!("/v1/deliveries?event_id={event}"));
        let id = rows["data"][0]["id"].as_str().expect("a delivery").to_owned();
        let delivery = get(&format!("/v1/deliveries/{id}"));
        let attempts = delivery["attempts"].as_array().expect("a list");
        let [attempt] = attempts.as_slice() else { panic!("not one attempt: {delivery}") };
        assert_eq!(delivery["status"], "delivered", "{delivery}");
        let snapshot = attempt["snapshot"].as_u64().expect("a number");
        let should = snapshots.get(&snapshot).unwrap_or_else(|| panic!("no such: {delivery}"));
        assert_eq!(made(&arrived[event]), *should, "{delivery}");
        *of_snapshot.entry(snapshot).or_default() += 1;
    }
    assert!(of_snapshot.len() > reloads / 3, "by {} snapshots only", of_snapshot.len());

    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}

/// A hub whose files change one by one.
struct Change<'a> {
    hub: Hub,
    receiver: &'a Receiver,
    now: Made,
    turn: usize,
}

/// What is done to the folder, in turn.
const KINDS: usize = 9;

impl Change<'_> {
    fn write_all(&self) {
        self.hub.write(SHAPE, shape(self.now.shape)).write(STAMP, stamp(self.now.stamp));
        self.hub.secret("key", &self.now.secret.to_string()).route("out", self.route());
        self.hub.route("spare", spare());
    }

    fn route(&self) -> String {
        format!(
            "{}\n[[transform]]\nplugin = \"shape\"\n\n[[auth]]\nplugin = \"stamp\"\n\
             secrets.key = {{ file = \"secrets/key\" }}\n",
            to(&self.receiver.url(&format!("/{}", self.now.route)))
                .replace("[\"*\"]", "[\"load\"]")
        )
    }

    /// At least so many reloads, each seen before the next change is made; note what
    /// each snapshot makes.
    fn make(&mut self, engine: &Engine, count: usize, snapshots: &mut BTreeMap<u64, Made>) {
        let path = |file: &str| self.hub.path().join(file);
        let shape_file = path(SHAPE);
        let until = reloaded(engine) + count;
        // Whole rounds: every file is there at the end.
        while !self.turn.is_multiple_of(KINDS) || reloaded(engine) < until {
            self.turn += 1;
            let version = self.turn as u32;
            let before = snapshot(engine);
            // Where a change makes a snapshot, events may be delivered by it before we have
            // asked for its number: it is the next.
            let mut next = |made: Made| {
                snapshots.insert(before + 1, made);
            };
            match self.turn % KINDS {
                // The same bytes: nothing to publish.
                1 => {
                    self.hub.write(SHAPE, shape(self.now.shape));
                    assert_eq!(reload(engine), (200, before));
                }
                // Two plugins at once, which belong together.
                2 => {
                    self.now = Made { shape: version, stamp: version, ..self.now };
                    next(self.now);
                    let (shape, stamp) = (shape(version), stamp(version));
                    rename_over(&path(STAMP), &stamp);
                    rename_over(&shape_file, &shape);
                    published(engine, before + 1);
                }
                3 => {
                    self.now.route = version;
                    next(self.now);
                    self.hub.route("out", self.route());
                    published(engine, before + 1);
                }
                4 => {
                    self.now.secret = version;
                    next(self.now);
                    self.hub.secret("key", &version.to_string());
                    published(engine, before + 1);
                }
                // A broken route, and as it was.
                5 => {
                    let refused = reloaded(engine);
                    self.hub.route("out", "from = \"*\"\ntypes = [\n");
                    eventually("it to be refused", || (reloaded(engine) > refused).then_some(()));
                    assert_eq!(snapshot(engine), before);
                    self.hub.route("out", self.route());
                    assert_eq!(reload(engine), (200, before));
                }
                // A broken plugin, and one that is in use removed, and as it was.
                6 => {
                    let whole = fs::read(&shape_file).expect("it is there");
                    rename_over(&shape_file, &whole[..whole.len() / 2]);
                    assert_eq!(reload(engine).0, 422);
                    fs::remove_file(&shape_file).expect("it is there");
                    assert_eq!(reload(engine).0, 422);
                    assert_eq!(snapshot(engine), before);
                    rename_over(&shape_file, &whole);
                    assert_eq!(reload(engine), (200, before));
                }
                // Half of it first, for longer than files are given to settle.
                7 => {
                    self.now.shape = version;
                    next(self.now);
                    let whole = shape(version);
                    let mut file = File::create(&shape_file).expect("a file");
                    file.write_all(&whole[..whole.len() / 2]).expect("a half");
                    thread::sleep(Duration::from_millis(300));
                    assert_eq!(snapshot(engine), before);
                    file.write_all(&whole[whole.len() / 2..]).expect("the other");
                    drop(file);
                    published(engine, before + 1);
                }
                8 => {
                    next(self.now);
                    fs::remove_file(path("routes/spare.toml")).expect("it is there");
                    published(engine, before + 1);
                }
                _ => {
                    next(self.now);
                    self.hub.route("spare", spare());
                    published(engine, before + 1);
                }
            }
        }
    }
}

/// A route that the load does not go by.
fn spare() -> String {
    to("http://127.0.0.1:9/").replace("[\"*\"]", "[\"spare\"]")
}

const SHAPE: &str = "plugins/shape.wasm";
const STAMP: &str = "plugins/stamp.wasm";

/// A transform that says its version in a header.
fn shape(version: u32) -> Vec<u8> {
    let version = version.to_string();
    let value = (ROOM + 512, version.len() as u32);
    Guest::new("transform")
        .version(format!("1.0.{version}"))
        .more(words(RESULT, &[0, ROOM, 4, ROOM + 64, 1, 0, 0, 0]))
        .more(guest::text(ROOM, "POST"))
        .more(words(ROOM + 64, &header((ROOM + 256, 7), value)))
        .more(guest::text(ROOM + 256, "x-shape"))
        .more(guest::text(ROOM + 512, &version))
        .build()
}

/// An auth plugin that says its version in a header, and a secret in another.
fn stamp(version: u32) -> Vec<u8> {
    let version = version.to_string();
    let value = (ROOM + 512, version.len() as u32);
    let key = (ROOM + 768, 3);
    let headers = [header((ROOM + 256, 7), value), secret_header((ROOM + 384, 8), key)];
    Guest::new("auth")
        .version(format!("1.0.{version}"))
        .secrets(ROOM + 1024, 1)
        .more(words(ROOM + 1024, &[key.0, key.1, ROOM + 800, 4, 1, key.0, key.1]))
        .more(words(RESULT, &[0, ROOM + 64, 2]))
        .more(words(ROOM + 64, headers.as_flattened()))
        .more(guest::text(ROOM + 256, "x-stamp"))
        .more(guest::text(ROOM + 384, "x-secret"))
        .more(guest::text(ROOM + 512, &version))
        .more(guest::text(key.0, "key"))
        .more(guest::text(ROOM + 800, "text"))
        .build()
}

/// What the receiver saw.
fn made(received: &Received) -> Made {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} in {received:?}"));
    let header = |name| number(received.header(name).unwrap_or_default());
    Made {
        shape: header("x-shape"),
        stamp: header("x-stamp"),
        route: number(received.path.trim_start_matches('/')),
        secret: header("x-secret"),
    }
}

fn rename_over(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).expect("a file");
    fs::rename(&new, file).expect("a rename");
}

/// Send events while something is done; returns their ids when all have been delivered.
fn under_load(engine: &Engine, work: impl FnOnce()) -> Vec<String> {
    let stopped = AtomicBool::new(false);
    let send = || {
        let mut connection = Connection::open(engine.public).expect("the engine listens");
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        let begun = Instant::now();
        let mut ids = Vec::new();
        while !stopped.load(Ordering::SeqCst) {
            let due = begun
                + Duration::from_secs(1) / (EVENTS_PER_SECOND / CONNECTIONS) * ids.len() as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = connection.ask("POST", "/in/erp/load", &headers, b"{\"n\":1}");
            ids.extend(answer.expect("the engine answers").event_ids());
        }
        ids
    };
    let ids = thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(send)).collect();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stopped.store(true, Ordering::SeqCst);
        let ids = senders.into_iter().flat_map(|it| it.join().expect("a sender")).collect();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        ids
    });
    engine.drained();
    ids
}

/// What the engine has, at a quiet moment.
#[derive(Debug)]
struct Kept {
    resident: u64,
    /// Pieces of executable memory that no file stands behind; none elsewhere than on Linux.
    code: usize,
}

impl Kept {
    fn of(engine: &Engine) -> Self {
        reload(engine);
        // Threads that were only needed for the load are given up after ten seconds; what
        // they held comes back with them.
        thread::sleep(SETTLING);
        reload(engine);
        let maps = fs::read_to_string(format!("/proc/{}/maps", engine.pid())).unwrap_or_default();
        let is_code = |it: &&str| {
            let mut fields = it.split_whitespace();
            fields.nth(1) == Some("r-xp") && fields.nth(2) == Some("0")
        };
        let code = maps.lines().filter(is_code).filter(|it| !it.contains('[')).count();
        Self { resident: engine.resident_bytes(), code }
    }
}

const SETTLING: Duration = Duration::from_secs(2);

fn snapshot(engine: &Engine) -> u64 {
    engine.get("/v1/plugins").json()["snapshot"].as_u64().expect("a number")
}

fn published(engine: &Engine, number: u64) {
    eventually("the next snapshot", || (snapshot(engine) >= number).then_some(()));
    assert_eq!(snapshot(engine), number, "one change is one snapshot");
}

fn reload(engine: &Engine) -> (u16, u64) {
    let answer = client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    (answer.status, answer.json()["snapshot"].as_u64().unwrap_or_default())
}

/// How many reloads there were, good or refused.
fn reloaded(engine: &Engine) -> usize {
    let metrics = engine.get("/metrics");
    let lines = metrics.text().lines().filter(|it| it.starts_with("plugpost_reloads_total{"));
    lines.filter_map(|it| it.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
}
