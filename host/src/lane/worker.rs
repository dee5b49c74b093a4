//! Making a lane's attempts, one after the other, and learning from how they end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Lane, Lanes, Slot, Turn, View};
use crate::clock::{self, UnixMs};
use crate::delivery::{Delivery, Next};
use crate::endpoint::{Cause, Change, Disabled, Health, HealthRecord, Heard, Rest};
use crate::engine::Engine;
use crate::event::is_own;
use crate::operational;
use crate::pipeline;
use crate::queue::{EndpointRecord, Made, QueueError, Settled, Settlement};
use crate::route::Route;
use crate::snapshot::Snapshot;

/// In a rest that is longer than this, what is ready goes back to the store.
const REST_IN_MEMORY_MAX: Duration = Duration::from_secs(2);

/// Attempts one delivery after the other until none is ready.
pub(super) struct Worker {
    pub(super) lane: Arc<Lane>,
    /// A runtime that ends drops what has not begun: that hires nobody.
    pub(super) begun: bool,
}

impl Worker {
    pub(super) async fn work(mut self, engine: Arc<Engine>) {
        self.begun = true;
        while let Some(turn) = self.lane.next() {
            let shared = &self.lane.shared;
            shared.attempts_under_way.fetch_add(1, Ordering::SeqCst);
            self.take(&engine, turn).await;
            shared.attempts_under_way.fetch_sub(1, Ordering::SeqCst);
            if shared.stopped.load(Ordering::SeqCst) {
                shared.ended.notify_waiters();
            }
        }
    }

    async fn take(&self, engine: &Arc<Engine>, turn: Turn) {
        let lane = &self.lane;
        let Turn { delivery, slot, disabled } = turn;
        if let Some(disabled) = disabled {
            let settlement = pipeline::refused(&delivery, &disabled);
            return lane.settle(engine, &delivery, slot, settlement, None);
        }
        // Boxed, because a task is copied whole when it begins and when it ends.
        let attempt = Box::pin(pipeline::attempt(engine, &delivery));
        let attempt = AssertUnwindSafe(attempt).catch_unwind();
        // When the lease ends another node may begin: what is under way is broken off.
        let Some(attempt) = lane.shared.tenure.during(delivery.lease, attempt).await else {
            return engine.queue.release(&delivery);
        };
        match attempt {
            Ok(Some((settlement, route))) => {
                lane.settle(engine, &delivery, slot, settlement, Some(&route));
            }
            Ok(None) if engine.snapshot().routes.is_deleted(&delivery.route) => {
                let settlement = pipeline::orphaned(&delivery);
                lane.settle(engine, &delivery, slot, settlement, None);
            }
            // Its route is gone: it waits in the store.
            Ok(None) => engine.queue.release(&delivery),
            Err(_) => {
                let settlement = pipeline::panicked(&delivery);
                lane.settle(engine, &delivery, slot, settlement, None);
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Between the last look and this line something may have become ready.
        let workers = {
            let mut state = self.lane.state.lock();
            state.workers -= 1;
            match self.begun && !self.lane.shared.stopped.load(Ordering::SeqCst) {
                true => state.hire(),
                false => 0,
            }
        };
        self.lane.put_to_work(workers);
    }
}

/// What an attempt taught.
#[derive(Default)]
struct Lesson {
    change: Option<Change>,
    /// The breaker gave it a rest.
    rested: Option<Rest>,
    /// Worth keeping beyond the process.
    record: Option<HealthRecord>,
    /// What cannot be attempted for a while.
    back: Vec<(Delivery, Slot)>,
}

impl Lane {
    /// Write down what became of a delivery, and all that follows from it.
    fn settle(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        delivery: &Delivery,
        slot: Slot,
        mut settlement: Settlement,
        route: Option<&Arc<Route>>,
    ) {
        let waits = matches!(settlement.next, Next::WaitUntil(_));
        if waits && engine.snapshot().routes.is_deleted(&delivery.route) {
            settlement.next = Next::Dead;
        }
        let (next, now) = (settlement.next, settlement.now);
        let mut raised = Vec::new();
        let mut health = None;
        if let (Made::Attempt(attempt), Some(route)) = (&settlement.made, route) {
            let is_last = next == Next::Dead;
            let Lesson { change, rested, record, back } =
                self.learn(attempt.heard(), is_last, route, now);
            for (delivery, _) in &back {
                engine.queue.release(delivery);
            }
            // Telling of telling would not end.
            if !is_own(&delivery.event.source) {
                if let Some(change) = &change {
                    let url = &route.endpoint.url;
                    raised.extend(operational::changed(engine, &self.route, url, change, now));
                }
                if let Some(rest) = rested {
                    let url = &route.endpoint.url;
                    raised.extend(operational::resting(engine, &self.route, url, rest, now));
                }
                if is_last {
                    raised.extend(operational::exhausted(engine, delivery, attempt, now));
                }
            }
            health = record.map(|health| EndpointRecord {
                route: self.route.clone(),
                url: route.endpoint.url.clone(),
                health,
            });
        }
        // The next of its key can only begin when this one's end is on disk; it
        // takes over the room.
        let ends = !matches!(next, Next::WaitUntil(_));
        let (slot, free) = match delivery.key {
            Some(_) if ends => (Some(slot), None),
            _ => (None, Some(slot)),
        };
        engine.stream.attempted(delivery, &settlement);
        let spent = match self.shared.tenure.is_shared() {
            true => self.state.lock().spent(),
            false => None,
        };
        engine.queue.settle(Settled { settlement, health, raised, slot, spent });
        drop(free);
        if let Next::WaitUntil(at) = next {
            self.wake_at(at, now);
        }
    }

    /// `is_last` says that no other attempt of its delivery follows.
    fn learn(
        self: &Arc<Self>,
        heard: Heard,
        is_last: bool,
        route: &Arc<Route>,
        now: UnixMs,
    ) -> Lesson {
        let mut lesson = Lesson::default();
        let mut state = self.state.lock();
        let by_breaker = |rest: Option<Rest>| rest.filter(|it| it.cause == Cause::Breaker);
        let rest_before = state.health.rest(now);
        let before = by_breaker(rest_before);
        lesson.change = state.health.heard(heard, &route.endpoint, now);
        lesson.rested = by_breaker(state.health.rest(now)).filter(|_| before.is_none());
        if is_last && matches!(heard, Heard::Bad { .. }) {
            lesson.change = state.health.exhausted(&route.endpoint, now).or(lesson.change);
        }
        // Other nodes are to see a rest, too.
        let rests = self.shared.tenure.is_shared() && state.health.rest(now) != rest_before;
        lesson.record = (rests || lesson.change.is_some()).then(|| state.health.record());
        let workers = match state.health.rest(now) {
            Some(rest) => {
                if rest.until.since(now) > REST_IN_MEMORY_MAX {
                    lesson.back = std::mem::take(&mut state.ready).into();
                    state.behind |= !lesson.back.is_empty();
                }
                self.pause(&mut state, rest.until);
                0
            }
            // The pace may have grown.
            None => state.hire(),
        };
        drop(state);
        self.put_to_work(workers);
        if let Some(change) = &lesson.change {
            log(change, &self.route, &route.endpoint.url);
        }
        lesson
    }

    /// The route's plugins were changed: what waits because one of them broke is
    /// tried again at once.
    pub(crate) fn repaired(self: &Arc<Self>) {
        let Some(engine) = self.engine.upgrade() else { return };
        {
            let mut state = self.state.lock();
            if state.health.repaired() {
                state.paused_until = None;
            }
        }
        self.go_on();
        let lane = self.clone();
        self.shared.runtime.spawn(async move {
            match engine.queue.hasten(lane.route.clone(), clock::steady()).await {
                Ok(0) => {}
                Ok(deliveries) => {
                    let route = &*lane.route;
                    tracing::info!(route, deliveries, "a plugin was changed: tried again now");
                }
                Err(error) => tracing::warn!(%error, "could not hasten what waits"),
            }
        });
    }
}

impl Lanes {
    /// What was known of the endpoints when the process before this one ended.
    pub(crate) fn restore(&self, snapshot: &Snapshot, kept: Vec<EndpointRecord>) {
        for record in kept {
            match snapshot.routes.known(&record.route) {
                Some(route) => self.restore_one(route, record),
                // Others may change it meanwhile; whoever takes the lane hears of it then.
                None if self.shared.tenure.is_shared() => {}
                None => self.absent.lock().push(record),
            }
        }
    }

    fn restore_one(&self, route: &Arc<Route>, record: EndpointRecord) {
        if route.endpoint.url == record.url {
            let lane = self.of(&route.name);
            let mut state = lane.state.lock();
            state.configure(route);
            state.health = Health::restored(record.health);
        }
    }

    /// A route is there that was not a moment ago. It may have been before, and have left
    /// deliveries behind.
    pub(crate) fn came(&self, route: &Arc<Route>) {
        let kept: Vec<_> = self.absent.lock().extract_if(.., |it| it.route == route.name).collect();
        kept.into_iter().for_each(|it| self.restore_one(route, it));
        self.of(&route.name).stored();
    }

    /// How a route's lane does.
    pub(crate) fn view(&self, route: &Arc<Route>) -> View {
        let lane = self.of(&route.name);
        let mut state = lane.state.lock();
        state.configure(route);
        state.view()
    }

    /// Call the endpoint no more, or call it again. False when it is so already.
    pub(crate) async fn switch(
        &self,
        route: &Arc<Route>,
        disable: Option<&str>,
    ) -> Result<bool, QueueError> {
        let lane = self.of(&route.name);
        let Some(engine) = lane.engine.upgrade() else { return Ok(false) };
        let now = clock::now();
        let (change, health) = {
            let mut state = lane.state.lock();
            state.configure(route);
            let change = match disable {
                Some(reason) => state.health.disable(reason, now),
                None => state.health.enable(),
            };
            (change, state.health.record())
        };
        let Some(change) = change else { return Ok(false) };
        let url = &route.endpoint.url;
        log(&change, &route.name, url);
        let raised = operational::changed(&engine, &route.name, url, &change, now);
        let record = EndpointRecord { route: route.name.clone(), url: url.clone(), health };
        engine.queue.keep(record, raised.into_iter().collect()).await?;
        Ok(true)
    }
}

fn log(change: &Change, route: &str, url: &str) {
    match change {
        Change::Failing { since } => {
            tracing::warn!(route, url, %since, "the endpoint is failing");
        }
        Change::Recovered { failing_since } => {
            tracing::info!(route, url, %failing_since, "the endpoint has recovered");
        }
        Change::Disabled(Disabled { reason, .. }) => {
            tracing::error!(route, url, %reason, "the endpoint is disabled");
        }
        Change::Enabled => tracing::info!(route, url, "the endpoint is enabled"),
    }
}
