//! Resending a range in the background: batch by batch, each waited for, in the order
//! of ids up to an end that was fixed at the beginning. So a run meets no delivery
//! twice, and none that it made itself.
//!
//! Runs are in memory. A restart ends them: what they resent is in the log, and a new
//! run from `reached` on takes up the rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::clock::{self, UnixMs, ms_of_id};
use crate::engine::Engine;
use crate::queue::QueueError;
use crate::queue::log::DeliveryFilter;

/// How many deliveries a batch resends: one commit of a few milliseconds.
const BATCH: usize = 100;

/// Between two batches, so that what comes in goes first.
const PAUSE: Duration = Duration::from_millis(5);

/// When the store has no room for writes.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Runs under way at once, of them all and of one tenant, and runs that are remembered.
const UNDER_WAY_MAX: usize = 4;
const UNDER_WAY_OF_ONE_MAX: usize = 2;
const REMEMBERED_MAX: usize = 100;

/// Every run of this process.
#[derive(Debug, Default)]
pub(crate) struct Recoveries(Mutex<Vec<Arc<Run>>>);

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) started: UnixMs,
    /// Whose events it resends; none for everybody's.
    pub(crate) tenant: Option<String>,
    progress: Mutex<Progress>,
    reached: AtomicU64,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) state: State,
    pub(crate) resent: u64,
    /// Their data is pruned, or they are gone.
    pub(crate) skipped: u64,
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Done,
    Cancelled,
    Failed,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl Recoveries {
    /// Begin a run; none when too many are under way.
    pub(crate) fn begin(
        &self,
        engine: &Arc<Engine>,
        filter: DeliveryFilter,
        tenant: Option<String>,
    ) -> Option<Arc<Run>> {
        let now = clock::now();
        let mut runs = self.0.lock();
        let under_way = || runs.iter().filter(|it| it.is_running());
        let own = under_way().filter(|it| it.tenant.is_some() && it.tenant == tenant).count();
        if under_way().count() >= UNDER_WAY_MAX || own >= UNDER_WAY_OF_ONE_MAX {
            return None;
        }
        if runs.len() >= REMEMBERED_MAX {
            let oldest = runs.iter().position(|it| !it.is_running());
            oldest.map(|at| runs.remove(at));
        }
        let progress = Progress { state: State::Running, resent: 0, skipped: 0, error: None };
        let run = Arc::new(Run {
            number: clock::first_id_at(now).max(runs.last().map_or(0, |it| it.number + 1)),
            started: now,
            tenant,
            progress: Mutex::new(progress),
            reached: AtomicU64::new(0),
        });
        runs.push(run.clone());
        drop(runs);
        tokio::spawn(work(Arc::downgrade(engine), run.clone(), filter));
        Some(run)
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Run>> {
        self.0.lock().iter().find(|it| it.number == number).cloned()
    }
}

impl Run {
    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// When the last delivery that it looked at was made.
    pub(crate) fn reached(&self) -> Option<UnixMs> {
        Some(self.reached.load(Ordering::Relaxed)).filter(|it| *it > 0).map(ms_of_id)
    }

    /// End it after the batch under way.
    pub(crate) fn cancel(&self) {
        let mut progress = self.progress.lock();
        if progress.state == State::Running {
            progress.state = State::Cancelled;
        }
    }

    fn is_running(&self) -> bool {
        self.progress.lock().state == State::Running
    }

    fn end(&self, state: State, error: Option<String>) {
        let mut progress = self.progress.lock();
        if progress.state == State::Running {
            progress.state = state;
            progress.error = error;
        }
    }
}

async fn work(engine: Weak<Engine>, run: Arc<Run>, mut filter: DeliveryFilter) {
    filter.of.limit = BATCH;
    // What the run makes itself is never in its range.
    filter.of.until = Some(filter.of.until.map_or(run.started, |it| it.min(run.started)));
    while run.is_running() {
        let Some(engine) = engine.upgrade() else { return };
        match batch(&engine, &run, &filter).await {
            Ok(0) => run.end(State::Done, None),
            Ok(_) => sleep(PAUSE).await,
            Err(QueueError::Behind) => sleep(TRY_AGAIN).await,
            Err(error) => run.end(State::Failed, Some(error.to_string())),
        }
    }
}

async fn batch(
    engine: &Arc<Engine>,
    run: &Run,
    filter: &DeliveryFilter,
) -> Result<usize, QueueError> {
    let after = run.reached.load(Ordering::Relaxed);
    let found = engine.queue.log().to_recover(filter.clone(), after).await?;
    let now = clock::now();
    let resends = join_all(found.iter().map(|id| engine.queue.resend(*id, false, now))).await;
    for (id, resent) in found.iter().zip(resends) {
        {
            let mut progress = run.progress.lock();
            match resent {
                Ok(_) => progress.resent += 1,
                Err(QueueError::NotFound | QueueError::Pruned) => progress.skipped += 1,
                // Those after it were refused with it; the next batch begins there.
                Err(error) => return Err(error),
            }
        }
        run.reached.store(id.0, Ordering::Relaxed);
    }
    Ok(found.len())
}
