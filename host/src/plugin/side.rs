//! Threads for guests that take long: low in priority, few, and shared fairly.
//! A guest that spins holds one of them, never a thread that takes requests in
//! or sends them out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::priority;

/// A job: which plugin use it is for, and what to do.
type Job = (usize, Box<dyn FnOnce() + Send>);

#[derive(Clone)]
pub(super) struct Side(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Whose job each busy thread has in hand.
    busy: Vec<usize>,
    closed: bool,
}

/// Threads, at least two: one slow plugin cannot hold them all.
const THREADS: usize = 4;
/// How many of them one use of a plugin may hold.
const THREADS_OF_ONE: usize = 2;
/// How many jobs wait; more are refused. Each is a delivery in hand or a request
/// being taken in, so their number is bounded before this is reached.
const JOBS_MAX: usize = 65_536;

impl Side {
    pub(super) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        for _ in 0..THREADS {
            let shared = shared.clone();
            thread::Builder::new().name("plugin-side".into()).spawn(move || {
                priority::lower();
                shared.work();
            })?;
        }
        Ok(Self(shared))
    }

    /// Run a job on one of the threads. `owner` tells one use of a plugin from
    /// another. None when too much waits already.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        owner: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            if state.jobs.len() >= JOBS_MAX {
                return None;
            }
            let job = move || drop(reply.send(job()));
            state.jobs.push_back((owner, Box::new(job)));
        }
        self.0.changed.notify_one();
        answer.await.ok()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The threads hold a share each.
        if Arc::strong_count(&self.0) == THREADS + 1 {
            self.0.state.lock().closed = true;
            self.0.changed.notify_all();
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            let Some((owner, job)) = state.next() else {
                self.changed.wait(&mut state);
                continue;
            };
            state.busy.push(owner);
            parking_lot::MutexGuard::unlocked(&mut state, job);
            if let Some(at) = state.busy.iter().position(|&it| it == owner) {
                state.busy.swap_remove(at);
            }
            // Somebody may have waited for this owner's share.
            self.changed.notify_one();
        }
    }
}

impl State {
    /// The first job whose owner does not hold its share of threads.
    fn next(&mut self) -> Option<Job> {
        let busy = &self.busy;
        let has_share =
            |owner: usize| busy.iter().filter(|&&it| it == owner).count() < THREADS_OF_ONE;
        let at = self.jobs.iter().position(|(owner, _)| has_share(*owner))?;
        self.jobs.remove(at)
    }
}
