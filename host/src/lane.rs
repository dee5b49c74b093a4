//! One lane per route's endpoint: how many attempts may be under way, how fast
//! they may follow each other, and what waits its turn in memory.
//!
//! A lane is bounded. What does not fit waits in the store and is claimed when
//! there is room, so a slow endpoint costs memory only up to its window and takes
//! nothing from other lanes. Nothing polls: a lane acts when a commit, the end of
//! an attempt, or a due time wakes it.
//!
//! [`state`] is what a lane remembers; [`worker`] makes the attempts and learns
//! from them; [`share`] is what follows from there being other nodes.

mod share;
mod state;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::clock::{self, UnixMs, sleep};
use crate::delivery::{Delivery, Lease};
use crate::endpoint::Disabled;
use crate::engine::Engine;
use crate::queue::{Committed, EndpointRecord, Tenure};
use crate::route::Route;
use state::State;
use worker::Worker;

pub(crate) use state::View;

/// Every lane, by route.
#[derive(Debug)]
pub(crate) struct Lanes {
    by_route: RwLock<HashMap<Arc<str>, Arc<Lane>>>,
    /// What was kept of endpoints whose route was not there at the start: of each the store
    /// has one.
    absent: Mutex<Vec<EndpointRecord>>,
    engine: Weak<Engine>,
    shared: Arc<Shared>,
}

/// What all lanes share.
#[derive(Debug)]
struct Shared {
    /// A slot can be dropped by the queue's writer, outside the runtime.
    runtime: Handle,
    /// Bodies held by deliveries in hand; one body may be counted for several.
    bytes_in_hand: AtomicUsize,
    attempts_under_way: AtomicUsize,
    /// Told when an attempt ends.
    ended: Notify,
    stopped: AtomicBool,
    tenure: Tenure,
}

/// How much of all bodies may be in memory for deliveries in hand.
const BYTES_IN_HAND_MAX: usize = 64 << 20;

/// How much of it one lane may hold.
const LANE_BYTES_MAX: usize = 8 << 20;

/// The longest sleep before the clock is looked at again: a clock that is set
/// forward, or a machine that slept, makes a delivery late by no more than this.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// After a claim that the store refused.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Lane {
    route: Arc<str>,
    engine: Weak<Engine>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// Room in a lane for one delivery; dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Slot {
    lane: Arc<Lane>,
    bytes: usize,
}

impl Lanes {
    pub(crate) fn new(engine: Weak<Engine>, tenure: Tenure) -> Self {
        let shared = Shared {
            runtime: Handle::current(),
            bytes_in_hand: AtomicUsize::new(0),
            attempts_under_way: AtomicUsize::new(0),
            ended: Notify::new(),
            stopped: AtomicBool::new(false),
            tenure,
        };
        let (by_route, absent) = Default::default();
        Self { by_route, absent, engine, shared: Arc::new(shared) }
    }

    /// The lane of a route that will not come back. What is in hand goes on to its end.
    pub(crate) fn forget(&self, route: &str) {
        self.by_route.write().remove(route);
    }

    /// Why the endpoint of a route is not called, when it was switched off.
    pub(crate) fn disabled(&self, route: &str) -> Option<Disabled> {
        let lane = self.by_route.read().get(route)?.clone();
        let state = lane.state.lock();
        state.health.disabled().cloned()
    }

    /// A route has other limits now, or another endpoint.
    pub(crate) fn configure(&self, route: &Arc<Route>) {
        let lane = self.by_route.read().get(&route.name).cloned();
        if let Some(lane) = lane {
            let was_paused = {
                let mut state = lane.state.lock();
                state.configure(route);
                state.paused_until.take().is_some()
            };
            // It may bear more now; if it does not, it pauses again.
            if was_paused {
                lane.go_on();
            }
        }
    }

    /// The lane of a route.
    pub(crate) fn of(&self, route: &Arc<str>) -> Arc<Lane> {
        if let Some(lane) = self.by_route.read().get(route) {
            return lane.clone();
        }
        let mut lanes = self.by_route.write();
        let lane = lanes.entry(route.clone()).or_insert_with(|| {
            let (engine, shared) = (self.engine.clone(), self.shared.clone());
            // With a store of its own a process has every lane.
            let hold = (!shared.tenure.is_shared()).then_some(Lease::OF_THE_PROCESS);
            let state = Mutex::new(State::new(hold));
            Arc::new(Lane { route: route.clone(), engine, shared, state })
        });
        lane.clone()
    }

    /// Room for a delivery of this route, if its lane has some and nothing older
    /// waits in the store.
    pub(crate) fn admit(&self, route: &Arc<Route>, bytes: usize) -> Option<Slot> {
        self.of(&route.name).admit(route, bytes)
    }

    /// Start what a commit made ready, and note what it left in the store.
    pub(crate) fn take_over(&self, committed: Committed) {
        for (delivery, slot) in committed.in_hand {
            let lane = slot.lane.clone();
            lane.start([(delivery, slot)]);
        }
        for route in committed.stored {
            self.of(&route).stored();
        }
        self.hand_over(&committed.news.leave);
        if !committed.news.endpoints.is_empty()
            && let Some(engine) = self.engine.upgrade()
        {
            self.follow(&engine.snapshot(), committed.news.endpoints);
        }
    }

    /// How many attempts are under way.
    pub(crate) fn attempts_under_way(&self) -> usize {
        self.shared.attempts_under_way.load(Ordering::Relaxed)
    }

    /// Begin no more attempts; wait for those under way, but not longer than that.
    pub(crate) async fn stop(&self, deadline: Instant) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let quiet = async {
            loop {
                let ended = self.shared.ended.notified();
                if self.attempts_under_way() == 0 {
                    return;
                }
                ended.await;
            }
        };
        if timeout_at(deadline, quiet).await.is_err() {
            let attempts = self.attempts_under_way();
            tracing::warn!(attempts, "attempts were still under way; they will be made again");
        }
        if self.shared.tenure.is_shared() {
            self.by_route.read().values().for_each(|lane| lane.refuse(lane.take_ready()));
        }
    }
}

impl Drop for Lanes {
    /// Slots hold their lane and lanes hold slots: let go of both.
    fn drop(&mut self) {
        self.by_route.get_mut().values().for_each(|lane| drop(lane.take_ready()));
    }
}

impl Lane {
    fn admit(self: Arc<Self>, route: &Arc<Route>, bytes: usize) -> Option<Slot> {
        if route.rests.is_some() {
            return None;
        }
        let mut state = self.state.lock();
        state.configure(route);
        let is_ours = state.hold.is_some_and(|it| self.shared.tenure.covers(it));
        let full = state.behind || state.room() == 0 || self.shared.is_full();
        if !is_ours || state.leaving || full || state.is_resting() {
            return None;
        }
        state.in_hand += 1;
        state.bytes += bytes;
        drop(state);
        Some(Slot::new(self, bytes))
    }

    /// What has its room and has not begun.
    fn take_ready(&self) -> VecDeque<(Delivery, Slot)> {
        std::mem::take(&mut self.state.lock().ready)
    }

    /// Deliveries that have their room are to be attempted.
    fn start(self: &Arc<Self>, deliveries: impl IntoIterator<Item = (Delivery, Slot)>) {
        let workers = {
            let mut state = self.state.lock();
            if state.leaving {
                drop(state);
                return self.refuse(deliveries);
            }
            state.ready.extend(deliveries);
            state.hire()
        };
        self.put_to_work(workers);
    }

    /// Something due now was left in the store.
    pub(crate) fn stored(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            state.behind = true;
            state.stored_meanwhile = true;
        }
        self.feed();
    }

    /// Something in the store will be due then.
    pub(crate) fn wake_at(self: &Arc<Self>, at: UnixMs, now: UnixMs) {
        if at <= now {
            return self.stored();
        }
        {
            let mut state = self.state.lock();
            if state.wake_at.is_some_and(|it| it <= at) {
                return;
            }
            state.wake_at = Some(at);
        }
        let lane = self.clone();
        self.shared.runtime.spawn(async move {
            sleep_until(at).await;
            let due = {
                let mut state = lane.state.lock();
                // An earlier timer may have been set, and may have run, meanwhile.
                let due = state.wake_at.is_some_and(|it| it <= clock::steady());
                if due {
                    state.wake_at = None;
                }
                due
            };
            if due {
                lane.stored();
            }
        });
    }

    /// Begin no attempt before then.
    fn pause(self: &Arc<Self>, state: &mut State, at: UnixMs) {
        // A timer that is set already looks again when it fires.
        if state.paused_until.is_some_and(|it| it <= at) {
            return;
        }
        state.paused_until = Some(at);
        let lane = self.clone();
        self.shared.runtime.spawn(async move {
            sleep_until(at).await;
            let mut state = lane.state.lock();
            if state.paused_until == Some(at) {
                state.paused_until = None;
            }
            drop(state);
            lane.go_on();
        });
    }

    /// What held the lane back may be over.
    fn go_on(self: &Arc<Self>) {
        self.start([]);
        self.feed();
    }

    /// Claim from the store when something may be due there and there is room.
    fn feed(self: &Arc<Self>) {
        let Some(engine) = self.engine.upgrade() else { return };
        if self.shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        // A route that was removed keeps its deliveries in the store.
        let snapshot = engine.snapshot();
        let Some(route) = snapshot.routes.get(&self.route) else { return };
        let room = {
            let mut state = self.state.lock();
            state.configure(route);
            if let Some(rest) = state.rest()
                && state.hold.is_some()
            {
                return self.pause(&mut state, rest.until);
            }
            // With too many bytes in hand, one delivery at a time still gets on.
            let room = match self.shared.is_full() || state.bytes >= LANE_BYTES_MAX {
                true => usize::from(state.in_hand == 0),
                false => Some(state.room()).filter(|it| *it >= state.window() / 2).unwrap_or(0),
            };
            if !state.behind || state.claiming || state.leaving || room == 0 {
                return;
            }
            state.claiming = true;
            state.stored_meanwhile = false;
            state.in_hand += room;
            room
        };
        let lane = self.clone();
        self.shared.runtime.spawn(async move { lane.claim(&engine, room).await });
    }

    /// Take up to `room` due deliveries from the store; the room is reserved.
    async fn claim(self: Arc<Self>, engine: &Arc<Engine>, room: usize) {
        let now = clock::steady();
        let result = engine.queue.claim(self.route.clone(), room, now).await;
        let claimed = match result {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(route = &*self.route, %error, "could not claim");
                sleep(CLAIM_AGAIN).await;
                let mut state = self.state.lock();
                state.claiming = false;
                state.in_hand -= room;
                drop(state);
                self.give_up_when_empty();
                return self.feed();
            }
        };
        if !self.heard(claimed.hold, now) {
            let mut state = self.state.lock();
            (state.claiming, state.behind) = (false, state.stored_meanwhile);
            state.in_hand -= room;
            drop(state);
            return self.feed();
        }
        {
            let mut state = self.state.lock();
            let more = claimed.next_due.is_some_and(|it| it <= now);
            state.claiming = false;
            state.behind = more || state.stored_meanwhile;
            state.in_hand -= room - claimed.deliveries.len();
            state.bytes += claimed.deliveries.iter().map(|it| it.event.data.len()).sum::<usize>();
        }
        self.give_up_when_empty();
        if let Some(at) = claimed.next_due.filter(|it| *it > now) {
            self.wake_at(at, now);
        }
        self.start(claimed.deliveries.into_iter().map(|delivery| {
            let slot = Slot::new(self.clone(), delivery.event.data.len());
            (delivery, slot)
        }));
        self.feed();
    }

    fn put_to_work(self: &Arc<Self>, workers: usize) {
        for _ in 0..workers {
            let Some(engine) = self.engine.upgrade() else { return };
            self.shared.runtime.spawn(Worker { lane: self.clone(), begun: false }.work(engine));
        }
    }

    /// The next delivery whose turn it is, unless its turn comes later.
    fn next(self: &Arc<Self>) -> Option<Turn> {
        if self.shared.stopped.load(Ordering::SeqCst) {
            return None;
        }
        let mut state = self.state.lock();
        if state.ready.is_empty() || state.has_too_many_workers() {
            return None;
        }
        // A node that was silent for long, because it was stopped or cut off, may have been
        // given up: what it has in hand is others' then.
        if state.ready.front().is_some_and(|(it, _)| !self.shared.tenure.covers(it.lease)) {
            return self.look_at_the_lease(state);
        }
        let disabled = state.health.disabled().cloned();
        if disabled.is_none()
            && let Err(at) = state.take_turn()
        {
            self.pause(&mut state, at);
            return None;
        }
        let (delivery, slot) = state.ready.pop_front()?;
        Some(Turn { delivery, slot, disabled })
    }
}

/// A delivery whose turn it is.
struct Turn {
    delivery: Delivery,
    slot: Slot,
    /// Then there is nobody to attempt it with.
    disabled: Option<Disabled>,
}

impl Slot {
    /// The room is counted in its lane already.
    fn new(lane: Arc<Lane>, bytes: usize) -> Self {
        lane.shared.bytes_in_hand.fetch_add(bytes, Ordering::Relaxed);
        Self { lane, bytes }
    }

    /// The same room for a delivery with a body of another size.
    pub(crate) fn for_next(mut self, bytes: usize) -> Self {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.lane.shared.bytes_in_hand.fetch_add(bytes, Ordering::Relaxed);
        self.lane.shared.bytes_in_hand.fetch_sub(before, Ordering::Relaxed);
        {
            let mut state = self.lane.state.lock();
            state.bytes = state.bytes + bytes - before;
        }
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lane.shared.bytes_in_hand.fetch_sub(self.bytes, Ordering::Relaxed);
        let (behind, leaving) = {
            let mut state = self.lane.state.lock();
            state.in_hand -= 1;
            state.bytes -= self.bytes;
            (state.behind, state.leaving)
        };
        if leaving {
            self.lane.give_up_when_empty();
        } else if behind {
            self.lane.feed();
        }
    }
}

impl Shared {
    fn is_full(&self) -> bool {
        self.bytes_in_hand.load(Ordering::Relaxed) >= BYTES_IN_HAND_MAX
    }
}

/// Sleep until a moment of the steady clock, looking at it again and again.
async fn sleep_until(at: UnixMs) {
    loop {
        let left = at.since(clock::steady());
        if left.is_zero() {
            return;
        }
        sleep(left.min(SLEEP_MAX)).await;
    }
}
