//! Time that passes when there is nothing else to do. Every seed has its own, on its own
//! thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{self, Future};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time as real;

use crate::clock::UnixMs;

thread_local! {
    static TIME: RefCell<Option<Time>> = const { RefCell::new(None) };
}

/// The time of a simulation.
#[derive(Debug)]
struct Time {
    /// Since it began; what is due goes by it.
    passed: Duration,
    /// When this process began.
    process: Duration,
    /// By how much its steady clock is ahead of how long it runs.
    ahead_ms: u64,
    /// What the system's clock shows beside it, by a person's or a machine's mistake.
    wall_offset_ms: i64,
    timers: BTreeMap<(Duration, u64), Waker>,
    number: u64,
}

/// When it begins: 2026-05-04T10:00:00Z.
const BEGIN: UnixMs = UnixMs(1_777_888_800_000);

/// From now on this thread's time is simulated.
pub(super) fn begin() {
    TIME.set(Some(Time {
        passed: Duration::ZERO,
        process: Duration::ZERO,
        ahead_ms: 0,
        wall_offset_ms: 0,
        timers: BTreeMap::new(),
        number: 0,
    }));
}

/// It is the system's again.
pub(super) fn end() {
    TIME.set(None);
}

/// A process is gone, and with it its timers; another begins.
pub(super) fn next_process() {
    let timers = TIME.with_borrow_mut(|it| {
        let it = it.as_mut()?;
        (it.process, it.ahead_ms) = (it.passed, 0);
        Some(std::mem::take(&mut it.timers))
    });
    drop(timers);
}

/// Somebody has set the system's clock: by how much it is wrong now, and was before.
pub(super) fn set_wall_offset(ms: i64) -> i64 {
    TIME.with_borrow_mut(|it| {
        it.as_mut().map_or(ms, |it| std::mem::replace(&mut it.wall_offset_ms, ms))
    })
}

/// How much has passed since it began; none outside a simulation.
pub(super) fn passed() -> Option<Duration> {
    TIME.with_borrow(|it| it.as_ref().map(|it| it.passed))
}

/// How long this process runs; none outside a simulation.
pub(crate) fn running_ms() -> Option<u64> {
    TIME.with_borrow(|it| it.as_ref().map(Time::running_ms))
}

/// By how much the steady clock is ahead of that, and that is at least so much.
pub(crate) fn ahead(at_least: u64) -> Option<u64> {
    TIME.with_borrow_mut(|it| {
        let it = it.as_mut()?;
        it.ahead_ms = it.ahead_ms.max(at_least);
        Some(it.ahead_ms)
    })
}

/// What the system's clock shows; none outside a simulation.
pub(crate) fn wall() -> Option<UnixMs> {
    TIME.with_borrow(|it| it.as_ref().map(Time::wall))
}

/// What has passed, and what the steady clock shows. Looking changes nothing.
pub(super) fn moment() -> Moment {
    TIME.with_borrow(|it| {
        it.as_ref().map_or_else(Moment::default, |it| {
            let running = it.running_ms();
            let ahead = it.ahead_ms.max(it.wall().0.saturating_sub(running));
            Moment { passed: it.passed, steady: UnixMs(running + ahead) }
        })
    })
}

/// A moment by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since the world began: nobody sets it.
    pub(super) passed: Duration,
    /// By which the engine says what is due.
    pub(super) steady: UnixMs,
}

impl Time {
    fn running_ms(&self) -> u64 {
        u64::try_from((self.passed - self.process).as_millis()).unwrap_or(u64::MAX)
    }

    fn wall(&self) -> UnixMs {
        UnixMs(BEGIN.plus(self.passed).0.saturating_add_signed(self.wall_offset_ms))
    }
}

/// There is nothing to do: go on to the next timer.
pub(super) fn pass() {
    let waker = TIME.with_borrow_mut(|it| {
        let it = it.as_mut()?;
        let ((due, _), waker) = it.timers.pop_first()?;
        it.passed = due.max(it.passed);
        Some(waker)
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// As tokio's, in the time of this thread.
pub(crate) async fn sleep(duration: Duration) {
    match passed() {
        Some(passed) => Sleep { due: passed + duration, number: None }.await,
        None => real::sleep(duration).await,
    }
}

/// Until then. Whoever waits no more has no timer: time must not stop for it.
struct Sleep {
    due: Duration,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        TIME.with_borrow_mut(|it| {
            let Some(it) = it else { return Poll::Pending };
            if it.passed >= self.due {
                return Poll::Ready(());
            }
            let number = *self.number.get_or_insert_with(|| {
                it.number += 1;
                it.number
            });
            it.timers.insert((self.due, number), context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let timer = TIME.with_borrow_mut(|it| it.as_mut()?.timers.remove(&(self.due, number)));
        drop(timer);
    }
}

/// None when it did not come to its end within that.
pub(super) async fn within<T>(duration: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut over) = (pin!(work), pin!(sleep(duration)));
    future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        over.as_mut().poll(context).map(|()| None)
    })
    .await
}
