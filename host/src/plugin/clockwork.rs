//! The time of calls: a thread that advances the engine's epoch while guests run,
//! and sleeps while none does. At every tick a guest is asked whether its time is
//! over, and one on a side thread lets others pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Engine, UpdateDeadline};

use super::priority;

pub(super) struct Clockwork {
    clock: Arc<Clock>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What time it is for guests.
#[derive(Default)]
pub(super) struct Clock {
    /// Microseconds in which guests may have run.
    now: AtomicU64,
    running: AtomicU64,
    /// How many of those that run step aside.
    aside: AtomicU64,
    parked: AtomicBool,
    stopped: AtomicBool,
}

/// How long a call may take, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// A few milliseconds on the thread that asks; then it is called again.
    Short,
    /// The whole deadline on the thread that asks.
    #[default]
    Whole,
    /// The whole deadline on a side thread, where it steps aside at every tick.
    Aside,
}

/// When a call is to end, and how it behaves until then. Time in which others had its
/// processor does not count: on a busy machine a guest is late, not at fault.
#[derive(Debug, Default)]
pub(super) struct CallTime {
    turn: Turn,
    takes_max: Duration,
    end: Duration,
    /// What its thread had computed when it was first asked, a tick after its beginning.
    computed: Option<Duration>,
}

/// One tick. A guest may end so much earlier than its deadline.
const TICK: Duration = Duration::from_millis(2);

/// One while there are guests that step aside.
const TICK_ASIDE: Duration = Duration::from_micros(250);

/// How long a guest may hold the thread that asked. Guests take microseconds;
/// one that takes longer is called again where waiting harms nobody.
const SHORT: Duration = Duration::from_millis(4);

/// How long a guest steps aside; the kernel makes it a little more. A low priority
/// is not enough: a thread that only computes keeps its processor from the threads
/// of the kernel, an fsync's among them, until its slice is used up.
const PAUSE: Duration = Duration::from_micros(50);

/// By how much a tick may be longer than was asked and still count whole. Where this
/// thread was held up for longer, guests were too.
const SLACK: Duration = Duration::from_micros(100);

/// How many idle ticks it takes to fall asleep: waking costs more than ticking.
const IDLE_TICKS: u32 = 25;

impl Clockwork {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let clock = Arc::new(Clock::default());
        let ticks = clock.clone();
        let run = move || ticks.run(&engine);
        let thread = thread::Builder::new().name("plugin-clock".into()).spawn(run)?;
        Ok(Self { clock, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Keep the clock ticking until the guard is dropped.
    pub(super) fn ticking(&self, turn: Turn) -> Ticking<'_> {
        let steps_aside = turn == Turn::Aside;
        if steps_aside {
            self.clock.aside.fetch_add(1, Ordering::Relaxed);
        }
        self.clock.running.fetch_add(1, Ordering::SeqCst);
        if self.clock.parked.load(Ordering::SeqCst) {
            self.wake();
        }
        Ticking { clock: &self.clock, steps_aside }
    }

    fn wake(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.thread().unpark();
        }
    }
}

impl Clock {
    /// The time of a call that begins now.
    pub(super) fn time(&self, turn: Turn, deadline: Duration) -> CallTime {
        let takes_max = if turn == Turn::Short { SHORT } else { deadline };
        CallTime { turn, takes_max, end: self.now() + takes_max, computed: None }
    }

    /// Ask a guest at a tick.
    pub(super) fn look(&self, time: &mut CallTime) -> UpdateDeadline {
        let first = *time.computed.get_or_insert_with(computed);
        let its_own = || computed().saturating_sub(first) + TICK;
        if self.now() >= time.end && its_own() >= time.takes_max {
            return UpdateDeadline::Interrupt;
        }
        if time.turn == Turn::Aside {
            thread::sleep(PAUSE);
        }
        UpdateDeadline::Continue(1)
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn run(&self, engine: &Engine) {
        priority::prompt();
        let mut idle = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            let tick = if self.aside.load(Ordering::Relaxed) == 0 { TICK } else { TICK_ASIDE };
            let begun = Instant::now();
            thread::sleep(tick);
            let passed = begun.elapsed().min(tick + SLACK);
            let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
            self.now.fetch_add(micros, Ordering::Relaxed);
            engine.increment_epoch();
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle >= IDLE_TICKS {
                self.park();
                idle = 0;
            }
        }
    }

    /// Until a guest runs.
    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        // A call that began in between has either been seen here or sees `parked`.
        while self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

impl Drop for Clockwork {
    fn drop(&mut self) {
        self.clock.stopped.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// For how long this thread has had a processor.
fn computed() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// While this lives, the clock ticks; often, for a guest that steps aside.
pub(super) struct Ticking<'a> {
    clock: &'a Clock,
    steps_aside: bool,
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        if self.steps_aside {
            self.clock.aside.fetch_sub(1, Ordering::Relaxed);
        }
        self.clock.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_for_a_guest_that_computes_and_not_for_one_that_is_held_up() {
        let clock = Clock::default();
        let pass = |time: Duration| {
            clock.now.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
        };
        for turn in [Turn::Short, Turn::Whole, Turn::Aside] {
            let takes_max = SHORT * 2;
            let mut time = clock.time(turn, takes_max);
            pass(TICK);
            assert!(goes_on(clock.look(&mut time)));
            pass(10 * takes_max);
            assert!(goes_on(clock.look(&mut time)), "{turn:?}: it has computed nothing since");

            let begun = computed();
            while computed() - begun < takes_max {
                std::hint::spin_loop();
            }
            assert!(!goes_on(clock.look(&mut time)), "{turn:?}");
        }
    }

    fn goes_on(said: UpdateDeadline) -> bool {
        matches!(said, UpdateDeadline::Continue(1))
    }
}
