//! For how long a process may still act on what it holds, by its own clock: with a store
//! of its own always, as one node of many until its lease may have ended for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::delivery::Lease;

/// Nothing, for a process whose store is its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tenure(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    /// What `until` counts from. It goes on while the process is stopped.
    base: Instant,
    lease: AtomicI64,
    /// Milliseconds.
    until: AtomicU64,
}

impl Tenure {
    /// One that has ended.
    pub(in crate::queue) fn of_a_node() -> Self {
        let base = Instant::now();
        let (lease, until) = (AtomicI64::new(0), AtomicU64::new(0));
        Self(Some(Arc::new(Shared { base, lease, until })))
    }

    /// The lease was renewed, by a question that was asked at that moment: the database
    /// began to count later.
    pub(in crate::queue) fn renewed(&self, lease: Lease, asked: Instant, length: Duration) {
        let Some(it) = &self.0 else { return };
        let until = (asked + length).saturating_duration_since(it.base);
        // In this order, so that no other lease is ever seen with this end.
        it.lease.store(lease.0, Ordering::SeqCst);
        it.until.store(u64::try_from(until.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }

    /// Are there other nodes?
    pub(crate) fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// May this process act under that lease?
    pub(crate) fn covers(&self, lease: Lease) -> bool {
        !self.left(lease).is_zero()
    }

    /// Is it still that lease, whether or not it has ended?
    pub(crate) fn is(&self, lease: Lease) -> bool {
        self.0.as_ref().is_none_or(|it| it.lease.load(Ordering::SeqCst) == lease.0)
    }

    fn left(&self, lease: Lease) -> Duration {
        let Some(it) = &self.0 else { return Duration::MAX };
        let until = Duration::from_millis(it.until.load(Ordering::SeqCst));
        match it.lease.load(Ordering::SeqCst) == lease.0 {
            true => until.saturating_sub(it.base.elapsed()),
            false => Duration::ZERO,
        }
    }

    /// Do something for as long as that lease lasts; none when it ended first.
    pub(crate) async fn during<T>(&self, lease: Lease, work: impl Future<Output = T>) -> Option<T> {
        if self.0.is_none() {
            return Some(work.await);
        }
        let over = async {
            loop {
                match self.left(lease) {
                    Duration::ZERO => return,
                    left => sleep(left).await,
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
        }
    }
}
