//! What waits in the store: counted now and then, and kept for the charts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::{self, UnixMs};
use crate::engine::Engine;
use crate::problem::HttpProblem;
use crate::queue::log::Backlog;
use crate::stream::Window;

/// Counting a large backlog takes a while: for how long the last count is good.
const AGE_MAX: Duration = Duration::from_secs(1);

/// It is counted so often when nobody asks, as often as there are places in a chart.
const EVERY: Duration = Duration::from_secs(10);

/// Counting takes at most this share of the time.
const SHARE_MAX: u32 = 100;

/// The last count of what waits, and the counts before it.
#[derive(Default)]
pub(super) struct Backlogs(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    last: Option<(Instant, Arc<Vec<Backlog>>)>,
    quarter: Most,
    day: Most,
}

/// The most of each step, oldest first, by the step since 1970.
#[derive(Default)]
struct Most(VecDeque<(u64, u64)>);

impl Backlogs {
    /// Count now and then, for as long as there is an engine.
    pub(super) fn keep_counting(self: &Arc<Self>, engine: &Arc<Engine>) {
        let (backlogs, engine) = (self.clone(), Arc::downgrade(engine));
        tokio::spawn(async move {
            loop {
                let begun = Instant::now();
                let Some(engine) = engine.upgrade() else { return };
                // A store that does not answer says so where somebody asks.
                let _ = backlogs.now(&engine).await;
                drop(engine);
                tokio::time::sleep(EVERY.max(begun.elapsed() * SHARE_MAX)).await;
            }
        });
    }

    /// What waits, at most [`AGE_MAX`] ago.
    pub(super) async fn now(&self, engine: &Engine) -> Result<Arc<Vec<Backlog>>, HttpProblem> {
        if let Some((at, backlog)) = &self.0.lock().last
            && at.elapsed() < AGE_MAX
        {
            return Ok(backlog.clone());
        }
        let backlog = Arc::new(engine.queue.log().backlog().await?);
        let (now, waiting) = (clock::now(), backlog.iter().map(|it| it.deliveries).sum());
        let mut counted = self.0.lock();
        counted.last = Some((Instant::now(), backlog.clone()));
        counted.quarter.add(Window::Quarter, now, waiting);
        counted.day.add(Window::Day, now, waiting);
        Ok(backlog)
    }

    /// The most that waited in each interval, as many as there are; none where nobody counted.
    pub(super) fn over(&self, window: Window, now: UnixMs) -> Vec<Option<u64>> {
        let counted = self.0.lock();
        let most = match window {
            Window::Quarter => &counted.quarter,
            Window::Day => &counted.day,
        };
        most.until(step(window, now), steps(window))
    }
}

fn step(window: Window, now: UnixMs) -> u64 {
    now.0 / (window.step().as_secs() * 1000)
}

fn steps(window: Window) -> u64 {
    window.span().as_secs() / window.step().as_secs()
}

impl Most {
    fn add(&mut self, window: Window, now: UnixMs, waiting: u64) {
        let step = step(window, now);
        match self.0.back_mut() {
            Some((last, most)) if *last == step => *most = waiting.max(*most),
            _ => self.0.push_back((step, waiting)),
        }
        while self.0.len() as u64 > steps(window) {
            self.0.pop_front();
        }
    }

    fn until(&self, last: u64, count: u64) -> Vec<Option<u64>> {
        let of = |step| self.0.iter().find(|(it, _)| *it == step).map(|(_, most)| *most);
        ((last + 1).saturating_sub(count)..=last).map(of).collect()
    }
}
