//! The engine in a world that a seed makes: virtual time, endpoints with moods, a disk that
//! refuses, clocks that are set, people who switch and resend, kills and restarts. What
//! runs is the engine itself with its SQLite store, on one thread; only the network, the
//! clock and the writer's thread are the world's. So a seed that fails fails again in the
//! same way: `SIMULATION_SEED=… cargo test --release -p plugpost --lib simulation`.
//!
//! [`time`] passes when nobody has anything to do. The [`world`] sends, answers and
//! refuses; a [`process`] lives in it until it is killed or stopped, and the last one finds
//! everything well and has to bring everything to its end. The [`oracle`] says at each step
//! what may not be. That it can, is shown by mistakes ([`Mistake`]) that each have a world.
//!
//! The engine knows of it in three files, under `cfg(test)`: `clock` asks for the time and
//! for sleep, `client` for an answer, and the queue's writer runs as a task of this thread.

mod endpoint;
mod oracle;
mod process;
pub(crate) mod time;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::runtime::Builder;

use crate::attempt::{Fault, Response};
use crate::delivery::DeliveryId;
use crate::queue::{EndpointRecord, NewEvent, QueueError, Settled};
use crate::snapshot::Loader;
use oracle::{Sent, Wrong};
use process::Process;
use world::{Disk, World};

// ---- what the engine asks of it

/// Whether this thread is one.
pub(crate) fn is_on() -> bool {
    time::passed().is_some()
}

/// What an endpoint says to a request; none outside a simulation.
pub(crate) fn answer(
    request: &Request<Full<Bytes>>,
) -> Option<impl Future<Output = Result<Response, Fault>> + use<>> {
    is_on().then(|| world::answer(request))
}

/// So long a commit takes.
pub(crate) async fn commits() {
    let takes = world::with(|it| Duration::from_micros(it.rng.u64(200..8_000)));
    time::sleep(takes).await;
}

/// Whether the disk takes something at the moment.
pub(crate) fn disk() -> Result<(), QueueError> {
    world::with(|it| {
        let error = match it.disk {
            Disk::Well => return Ok(()),
            Disk::Full => QueueError::Full("simulated".into()),
            Disk::Broken => QueueError::Broken("simulated".into()),
        };
        it.disk_was_bad = true;
        it.count("write failed");
        Err(error)
    })
}

/// It is on disk what an attempt led to.
pub(crate) fn settled(settled: &Settled) {
    world::with(|it| {
        it.note(&format!("{}: {:?}", settled.settlement.delivery, settled.settlement.next));
        it.oracle.settled(settled);
    });
}

/// It is on disk what is known of an endpoint.
pub(crate) fn kept(record: &EndpointRecord) {
    world::with(|it| it.oracle.kept(record));
}

/// An event that the engine raises itself.
pub(crate) struct Raised {
    event: String,
    body: Bytes,
    to: Vec<(DeliveryId, Arc<str>)>,
}

impl Raised {
    pub(crate) fn of(new: &NewEvent) -> Self {
        Self {
            event: new.event.id.to_string(),
            body: new.event.data.clone(),
            to: new.deliveries.iter().map(|it| (it.id, it.route.clone())).collect(),
        }
    }
}

/// It is on disk.
pub(crate) fn raised(raised: Raised) {
    world::with(|it| {
        let Raised { event, body, to } = raised;
        it.count("raised");
        it.oracle.sent(event.clone(), Sent { subject: None, body, place: None });
        for (delivery, route) in to {
            let endpoint = it.endpoint(&route).expect("one of ours");
            it.oracle.asked(delivery, endpoint, event.clone());
            it.oracle.promised(delivery);
        }
    });
}

/// What an engine could do wrong, each to see that the oracle sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Events are kept without their deliveries.
    Forgets,
    /// What attempts led to is not written.
    Loses,
    /// Other bytes go out than came in.
    Alters,
    /// The order of some is not kept.
    Mixes,
    /// Retries go at once.
    Hurries,
    /// Retries wait for a month.
    Dawdles,
    /// What waits is not looked for.
    Stalls,
    /// A failure is the end.
    GivesUp,
    /// What an endpoint says is not heard.
    Mishears,
    /// Limits are read as larger ones.
    Misreads,
}

/// Is that mistake made now?
pub(crate) fn errs(mistake: Mistake) -> bool {
    world::with(|it| it.errs(mistake))
}

// ---- seeds

/// How many seeds an ordinary test run tries.
const SEEDS: u64 = 100;

/// So many seeds are enough that everything happens that can.
const SEEDS_FOR_ALL: u64 = 100;

/// Of so many seeds one is run twice, to see that it is the same.
const TWICE: u64 = 16;

/// Processes that follow each other in one world, before the last.
const LIVES: usize = 4;

/// Enough to look at.
const SHOWN: usize = 10;

/// A long run tells how far it has come.
const SHOWN_EVERY: u64 = 1_000;

/// What is to have happened in so many worlds; `SIMULATION_SEEDS` says in how many.
const HAPPENS: [&str; 34] = [
    "accepted",
    "refused",
    "raised",
    "attempt",
    "repeated",
    "well",
    "slow",
    "a bad status",
    "410",
    "Retry-After: seconds",
    "Retry-After: a date",
    "Retry-After: hostile",
    "asked for a rest",
    "breaker opened",
    "as many at once as may be",
    "as many in a time as may be",
    "hangs up",
    "hangs",
    "kill",
    "stop",
    "disk full",
    "disk broken",
    "write failed",
    "clock set back",
    "clock set forward",
    "a route was changed",
    "a route was removed",
    "a route came back",
    "switched off",
    "switched on",
    "resent",
    "resent as new",
    "cancelled",
    "virtual minutes",
];

/// How often what happened.
#[derive(Clone, Debug, Default)]
struct Figures(BTreeMap<&'static str, u64>);

impl Figures {
    fn count(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| self.count(what, *times));
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(|(what, times)| format!("{times} {what}")).collect();
        f.write_str(&all.join(", "))
    }
}

/// What became of a world.
struct Found {
    figures: Figures,
    wrong: Vec<(Wrong, String)>,
    trace: Vec<String>,
}

#[test]
fn every_seed_keeps_every_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let only = number("SIMULATION_SEED");
    let (first, seeds) = match only {
        Some(seed) => (seed, 1),
        None => (0, number("SIMULATION_SEEDS").unwrap_or(SEEDS)),
    };
    let (next, all, failed) =
        (AtomicU64::new(first), Mutex::new(Figures::default()), Mutex::new(Vec::new()));
    let work = || {
        let folder = folder();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || failed.lock().len() >= SHOWN {
                return;
            }
            match tried(folder.path(), seed, only.is_some()) {
                Ok(figures) => {
                    let mut all = all.lock();
                    Figures::add(&mut all, &figures);
                    if (seed + 1).is_multiple_of(SHOWN_EVERY) {
                        eprintln!("seed {seed}: {all}");
                    }
                }
                Err(wrong) => failed.lock().push(format!(
                    "seed {seed} {wrong}\n  again: SIMULATION_SEED={seed} cargo test --release \
                     -p plugpost --lib simulation -- --nocapture"
                )),
            }
        }
    };
    thread::scope(|it| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            it.spawn(work);
        }
    });
    let (all, failed) = (all.into_inner(), failed.into_inner());
    eprintln!("{seeds} seeds from {first}: {all}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let missing = HAPPENS.iter().filter(|it| all.0.get(*it).is_none_or(|times| *times == 0));
    let missing: Vec<_> = missing.collect();
    assert!(seeds < SEEDS_FOR_ALL || missing.is_empty(), "it never happened: {missing:?}");
}

#[test]
fn each_mistake_is_seen() {
    let folder = folder();
    for (mistake, wrongs) in [
        (Mistake::Forgets, &[Wrong::Lost][..]),
        (Mistake::Loses, &[Wrong::Lost]),
        (Mistake::Alters, &[Wrong::Altered]),
        (Mistake::Mixes, &[Wrong::Misordered]),
        (Mistake::Hurries, &[Wrong::TooSoon]),
        (Mistake::Dawdles, &[Wrong::TooLate]),
        (Mistake::Stalls, &[Wrong::Undrained]),
        (Mistake::GivesUp, &[Wrong::GivenUp]),
        (Mistake::Mishears, &[Wrong::Unproven, Wrong::Resting, Wrong::SwitchedOff]),
        (Mistake::Misreads, &[Wrong::TooMany, Wrong::TooFast]),
    ] {
        let mut unseen = wrongs.to_vec();
        for seed in 0..SEEDS {
            let found = live(folder.path(), seed, Some(mistake));
            unseen.retain(|it| !found.wrong.iter().any(|(what, _)| what == it));
            if unseen.is_empty() {
                break;
            }
        }
        assert!(unseen.is_empty(), "{mistake:?} was not seen as {unseen:?}");
    }
}

/// In memory where there is such a place: what is tried here is not the disk.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a folder")
}

/// What happened in the world of a seed, or what was wrong.
fn tried(folder: &Path, seed: u64, is_shown: bool) -> Result<Figures, String> {
    let live = || catch_unwind(AssertUnwindSafe(|| live(folder, seed, None)));
    let Ok(Found { figures, wrong, trace }) = live() else { return Err("panicked".into()) };
    if is_shown {
        trace.iter().for_each(|it| eprintln!("{it}"));
    }
    if !wrong.is_empty() {
        let first = wrong.iter().take(SHOWN).map(|(what, text)| format!("  {what:?}: {text}"));
        let first: Vec<_> = first.collect();
        return Err(format!("has {} wrongs:\n{}", wrong.len(), first.join("\n")));
    }
    if is_shown || seed.is_multiple_of(TWICE) {
        let Ok(again) = live() else { return Err("panicked, the second time".into()) };
        let differs = trace.iter().zip(&again.trace).find(|(first, second)| first != second);
        if trace.len() != again.trace.len() || differs.is_some() {
            return Err(format!("is another world the second time: {differs:?}"));
        }
    }
    Ok(figures)
}

/// A world from its begin to its end, and what was found.
fn live(folder: &Path, seed: u64, mistake: Option<Mistake>) -> Found {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    time::begin();
    // What the engine draws.
    fastrand::seed(seed);
    world::begin(World::new(seed, mistake));
    world::with(|it| it.write(folder));
    let loader = Arc::new(Mutex::new(Loader::new(folder)));
    for at in 0..=LIVES {
        let is_last = at == LIVES;
        if is_last {
            world::with(|it| {
                it.be_well();
                it.write(folder);
            });
        }
        // Everything of a process goes with its runtime, as with a kill.
        let runtime = Builder::new_current_thread().enable_all().on_thread_park(time::pass).build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(Process { loader: loader.clone(), is_last }.live());
        drop(runtime);
        world::with(World::process_has_ended);
        time::next_process();
    }
    let mut world = world::end();
    world.oracle.judge();
    let minutes = time::moment().passed.as_secs() / 60;
    time::end();
    world.figures.count("virtual minutes", minutes);
    world.figures.add(&world.oracle.figures);
    Found { figures: world.figures, wrong: world.oracle.wrong, trace: world.trace }
}
