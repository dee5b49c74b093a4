//! `make bench`: how many deliveries a second, how late, and for how much processor time,
//! beside a raw hyper relay that forwards each POST without store or plugin. What is
//! compared is measured side by side, in rounds that take turns, with the same load and the
//! same receiver: the ratios are what counts, the absolute figures are the machine's.
//!
//! It is a benchmark, not a test: it judges nothing. [`results`] keeps what it finds,
//! `charts.py` draws it.

#![expect(clippy::print_stdout, reason = "figures go to standard output")]

mod backlog;
mod beside;
mod database;
mod engine;
mod guest;
mod http;
mod isolation;
mod load;
mod log;
mod machine;
mod nodes;
mod process;
mod rates;
mod receiver;
mod relay;
mod reload;
mod results;
mod stores;
mod subscriptions;
mod support;
mod system;

use std::cmp::Ordering;
use std::env;
use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use receiver::Receiver;
use results::{Results, Section};

/// What each section measures with.
struct Bench {
    receiver: Arc<Receiver>,
    /// How long a round is.
    seconds: Duration,
}

/// A section: what `BENCH_ONLY` calls it, and what it is about.
type Entry = (&'static str, &'static str, fn(&Bench, &mut Section));

const SECTIONS: [Entry; 10] = [
    ("relay", "flat out, beside a raw hyper relay", beside::measure),
    ("rates", "at fixed rates, beside a raw hyper relay", rates::measure),
    (
        "backlog",
        "with up to a million deliveries waiting (long: it fills a store)",
        backlog::measure,
    ),
    ("nodes", "one, two and three nodes on one PostgreSQL", nodes::measure),
    ("stores", "what an event costs PostgreSQL, and long transactions", stores::measure),
    ("isolation", "endpoints that hang, trickle or refuse TLS", isolation::measure),
    ("log", "questions to a log of a million deliveries (long: it fills a store)", log::measure),
    ("guest", "a plugin's calls, beside the same source compiled natively", guest::measure),
    ("subscriptions", "subscriptions that do not take an event", subscriptions::measure),
    ("reload", "from a changed file to what follows from it", reload::measure),
];

/// The number of ports the receiver listens on.
const PORTS: usize = 100;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == "relay") {
        return relay::run(&arguments[1..]);
    }
    let chosen = chosen(&env::var("BENCH_ONLY").unwrap_or_default());
    let seconds = Duration::from_secs(number("BENCH_SECONDS", 2));
    let bench = Bench { receiver: Arc::new(Receiver::start(PORTS)), seconds };
    let mut results = engine::other().is_none().then(Results::open);
    for (name, about, measure) in chosen {
        println!("\n{name}: {about}");
        let begun = Instant::now();
        let mut section = Section::default();
        measure(&bench, &mut section);
        println!("({name} took {:.0?})", begun.elapsed());
        // Each at once: one that breaks off takes nothing of the others along.
        if let Some(results) = &mut results {
            results.put(name, about, seconds, begun.elapsed(), section);
        }
    }
    if let Some(results) = results {
        println!("\n{}", results.path().display());
    }
}

/// The sections that are asked for, by their names with commas between; all without.
fn chosen(only: &str) -> Vec<Entry> {
    let names: Vec<_> = only.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    let known: Vec<_> = SECTIONS.iter().map(|(name, ..)| *name).collect();
    if let Some(unknown) = names.iter().find(|it| !known.contains(it)) {
        println!("BENCH_ONLY: there is no {unknown:?}; there are {}", known.join(", "));
        exit(2);
    }
    SECTIONS.into_iter().filter(|(name, ..)| names.is_empty() || names.contains(name)).collect()
}

/// What the environment says, or the default.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// The one in the middle.
fn median<T: Copy>(all: impl IntoIterator<Item = T>, compare: fn(&T, &T) -> Ordering) -> T {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable_by(compare);
    all[all.len() / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
