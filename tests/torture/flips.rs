//! A bit that turns over in the file of an engine that stands still, or in its WAL.
//! No disk is asked to forgive that; but the engine says so or goes on, and never
//! sends anything that was not accepted.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;

use super::Run;
use crate::support::engine::{Engine, command};
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{beside_the_engine, measuring};

/// Of each of two kinds, before and after the first stop.
const EVENTS: usize = 20;

/// Each kind of event, and the paths it goes to.
const KINDS: [(&str, &[&str]); 2] = [("one", &["/one", "/in-order"]), ("two", &["/two"])];

/// Without an arrival for so long, no more is waited for.
const QUIET: Duration = Duration::from_millis(150);

/// A stopped engine's files, before anything is done to them.
struct Still {
    hub: Hub,
    receiver: Receiver,
    arrived: Arc<AtomicUsize>,
    accepted: Accepted,
    waiting: usize,
    files: Vec<Files>,
}

/// By id: the kind and the body.
type Accepted = HashMap<String, (&'static str, Vec<u8>)>;

type Files = Vec<(&'static str, Vec<u8>)>;

/// What became of it, after each flip.
#[derive(Debug, Default)]
struct Ends {
    /// It did not start, and said why.
    refused: usize,
    /// All that waited was delivered.
    whole: usize,
    /// Some of it was not.
    in_part: usize,
    /// Of those, events that the engine found to be changed.
    found: usize,
    /// Arrivals that were not what was accepted.
    wrong: Vec<String>,
}

#[test]
fn a_bit_that_turns_over_sends_nothing_wrong() {
    let _measuring = measuring();
    let mut run = Run::begin("flipped bits", 12, 1000);
    let engine = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let mut still = Still::new(engine);
    let mut ends = Ends::default();
    for _ in 0..run.rounds {
        still.flip(engine, &mut run, &mut ends);
    }
    run.end(&ends);
    assert_eq!(ends.wrong, [""; 0], "sent, and not accepted: {ends:?}");
    // A few flips may all be where something is.
    assert!(ends.whole > 0 || run.rounds < 100, "{ends:?}");
}

#[test]
fn the_flips_find_an_engine_that_sends_what_it_reads() {
    let _measuring = measuring();
    let mut run = Run::begin("flipped bits of the control", 200, 200);
    let control = beside_the_engine("plugpost-control", "make control");
    let mut still = Still::new(&control);
    let mut ends = Ends::default();
    for flips in 1..=run.rounds {
        still.flip(&control, &mut run, &mut ends);
        if !ends.wrong.is_empty() {
            run.end((flips, ends));
            return;
        }
    }
    panic!("{} flips in the file of an engine that does not look, and nothing wrong", run.rounds);
}

impl Still {
    fn new(binary: &Path) -> Self {
        let holding = Arc::new(AtomicBool::new(false));
        let arrived = Arc::<AtomicUsize>::default();
        let receiver = {
            let (holding, arrived) = (holding.clone(), arrived.clone());
            Receiver::start(move |_| {
                let status = if holding.load(Ordering::SeqCst) { 500 } else { 200 };
                arrived.fetch_add(1, Ordering::SeqCst);
                Reply::status(status)
            })
        };
        let hub = Hub::new();
        for (kind, paths) in KINDS {
            for path in paths {
                let order = if *path == "/in-order" { "order = \"endpoint\"" } else { "" };
                let retry = "schedule = [\"1s\", \"1s\"]\n[breaker]\nenabled = false";
                let text = route(&receiver.url(path), order, retry);
                hub.route(
                    &path[1..],
                    text.replace("types = [\"*\"]", &format!("types = [\"{kind}\"]")),
                );
            }
        }
        let mut still = Self {
            hub,
            receiver,
            arrived,
            accepted: HashMap::new(),
            waiting: 0,
            files: Vec::new(),
        };
        // Some events were delivered, and are in the database.
        let engine = still.start(binary).expect("it starts");
        still.send(&engine);
        engine.drained();
        engine.stop();
        // Others wait: first in the WAL, then in the database too.
        holding.store(true, Ordering::SeqCst);
        let engine = still.start(binary).expect("it starts");
        let before = still.accepted.len();
        still.send(&engine);
        // In order, one at a time is tried.
        let tried = 2 * EVENTS + 1;
        let begun = still.arrived.load(Ordering::SeqCst);
        still.quiet(begun + tried);
        engine.kill();
        still.files.push(still.read());
        let engine = still.start(binary).expect("it starts");
        engine.stop();
        let store = Database::open(still.hub.store()).expect("the store can be read");
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        store.query_row(sql, [], |_| Ok(())).expect("all of it goes into the database");
        drop(store);
        still.files.push(still.read());
        assert!(still.files[0].len() == 2 && still.files[1].len() == 1, "a WAL, and none");
        holding.store(false, Ordering::SeqCst);
        still.waiting = still.accepted.len() - before + EVENTS;
        still
    }

    fn start(&self, binary: &Path) -> Result<Engine, crate::support::engine::Ended> {
        let mut command = command(binary);
        command.arg("serve").arg(self.hub.path());
        Engine::try_start(command, &self.hub)
    }

    fn send(&mut self, engine: &Engine) {
        for number in 0..EVENTS {
            for (kind, _) in KINDS {
                let body = format!("{kind} {} {number} {}", self.accepted.len(), "ö".repeat(300));
                let id = engine.send(kind, &body);
                self.accepted.insert(id, (kind, body.into_bytes()));
            }
        }
    }

    fn read(&self) -> Files {
        let file = |suffix| {
            let path = self.hub.path().join(format!("plugpost.db{suffix}"));
            fs::read(path).ok().map(|bytes| (suffix, bytes)).filter(|it| !it.1.is_empty())
        };
        ["", "-wal"].into_iter().filter_map(file).collect()
    }

    /// Turn one bit over, and see what an engine makes of it.
    fn flip(&mut self, binary: &Path, run: &mut Run, ends: &mut Ends) {
        let mut files = run.rng.choice(&self.files).expect("two").clone();
        let bytes: usize = files.iter().map(|(_, it)| it.len()).sum();
        let (mut at, bit) = (run.rng.usize(..bytes), run.rng.u8(..8));
        let mut place = String::new();
        for (suffix, bytes) in &mut files {
            if at < bytes.len() {
                bytes[at] ^= 1 << bit;
                place = format!("bit {bit} of byte {at} of plugpost.db{suffix}");
                break;
            }
            at -= bytes.len();
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(self.hub.path().join(format!("plugpost.db{suffix}")));
        }
        for (suffix, bytes) in files {
            self.hub.write(format!("plugpost.db{suffix}"), bytes);
        }
        let (begun, before) = (self.arrived.load(Ordering::SeqCst), self.receiver.received().len());
        let engine = match self.start(binary) {
            Ok(engine) => engine,
            Err(ended) => {
                let said = &ended.stderr;
                assert_eq!(ended.status, Some(1), "{place}: {said}");
                assert!(
                    said.contains("plugpost.db") && !said.contains("panicked"),
                    "{place}: {said}"
                );
                ends.refused += 1;
                return;
            }
        };
        self.quiet(begun + self.waiting);
        // It answers, whatever it says.
        let mut answers = vec![engine.post("/in/erp/one", &[], b"one more").status];
        for path in
            ["/v1/deliveries?limit=100", "/v1/events?limit=100", "/v1/stats", "/v1/endpoints"]
        {
            answers.push(engine.get(path).status);
        }
        assert!(
            answers.iter().all(|it| matches!(it, 200 | 202 | 500 | 503)),
            "{place}: {answers:?}"
        );
        let ended = engine.kill();
        assert!(!ended.stderr.contains("panicked"), "{place}: {}", ended.stderr);
        let received = self.receiver.received().split_off(before);
        let came = received.iter().filter(|it| it.body != b"one more").count();
        if came >= self.waiting {
            ends.whole += 1
        } else {
            ends.in_part += 1
        }
        ends.found += ended.stderr.matches("the disk has changed it").count();
        ends.wrong.extend(wrong(&received, &self.accepted).map(|it| format!("{place}: {it}")));
    }

    /// Wait until so much has arrived in all, or nothing does any more.
    fn quiet(&self, enough: usize) {
        let (mut count, mut since) = (self.arrived.load(Ordering::SeqCst), Instant::now());
        while count < enough && since.elapsed() < QUIET {
            thread::sleep(Duration::from_millis(5));
            let now = self.arrived.load(Ordering::SeqCst);
            if now != count {
                (count, since) = (now, Instant::now());
            }
        }
    }
}

/// What arrived and was not accepted so, or not for there.
fn wrong<'a>(
    received: &'a [Arc<Received>],
    accepted: &'a Accepted,
) -> impl Iterator<Item = String> + 'a {
    let fits = |it: &Received| {
        let Some((kind, body)) = accepted.get(it.webhook_id()) else {
            return it.body == b"one more";
        };
        let paths = KINDS.iter().find(|(name, _)| name == kind).map_or(&[][..], |it| it.1);
        it.body == *body
            && paths.contains(&it.path.as_str())
            && it.header("content-type") == Some("application/json")
    };
    let said = |it: &Arc<Received>| {
        format!("{} {} {:?}", it.path, it.webhook_id(), String::from_utf8_lossy(&it.body))
    };
    received.iter().filter(move |it| !fits(it)).map(said)
}
