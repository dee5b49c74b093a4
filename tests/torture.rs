//! What must not cost an event: kills, losses of power, disks that fail, fill up
//! or forget, bits that turn over, clocks that jump, and time. `make torture` runs
//! all of it in full; an ordinary test run does a few rounds of each.
//!
//! [`load`] sends and receives, [`oracle`] says what came of it. [`disk`] is the
//! disk and the clock that the unmodified binary sees. Each test has a control: an
//! engine, a disk or a record that is wrong, which it must find.

mod clock;
mod disk;
mod faults;
mod flips;
mod full;
mod kill;
mod load;
mod oracle;
mod power;
mod soak;

use std::env;
use std::str::FromStr;
use std::time::Instant;

use fastrand::Rng;

/// One test's luck, and what it says of itself.
struct Run {
    name: &'static str,
    seed: u64,
    rng: Rng,
    rounds: usize,
    begun: Instant,
}

impl Run {
    /// `few` rounds in an ordinary test run, `all` of them with `TORTURE=all`, and
    /// `TORTURE_ROUNDS` whatever else is said. `TORTURE_SEED` makes the same choices
    /// again; threads and the machine have a say in what comes of them.
    fn begin(name: &'static str, few: usize, all: usize) -> Self {
        let seed = number("TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
        let in_full = env::var_os("TORTURE").is_some_and(|it| it == "all");
        let rounds = number("TORTURE_ROUNDS").unwrap_or(if in_full { all } else { few });
        eprintln!("torture {name}: {rounds} rounds, TORTURE_SEED={seed}");
        Self { name, seed, rng: Rng::with_seed(seed), rounds, begun: Instant::now() }
    }

    /// The figures, when it is over.
    fn end(&self, figures: impl std::fmt::Debug) {
        let (name, seed, took) = (self.name, self.seed, self.begun.elapsed());
        let rounds = self.rounds;
        eprintln!("torture {name}: {rounds} rounds in {took:.1?}, seed {seed}: {figures:?}");
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
