//! What a lane remembers, under its lock.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Slot;
use crate::clock::{self, UnixMs};
use crate::delivery::{Delivery, Lease};
use crate::endpoint::{Disabled, Health, RateWindow, Rest};
use crate::queue::Spent;
use crate::route::Route;

/// How many deliveries a lane holds beyond those being attempted: enough to keep
/// its connections busy while a claim is on its way.
const READY_MAX: usize = 240;

#[derive(Debug, Default)]
pub(super) struct State {
    /// In order of arrival; each waits for a worker.
    pub(super) ready: VecDeque<(Delivery, Slot)>,
    /// Slots given out: ready, being attempted, on their way to or from the store.
    pub(super) in_hand: usize,
    /// Of the bodies that are in hand.
    pub(super) bytes: usize,
    pub(super) workers: usize,
    /// Something due may wait in the store.
    pub(super) behind: bool,
    pub(super) claiming: bool,
    /// Something was stored while a claim was on its way.
    pub(super) stored_meanwhile: bool,
    /// The earliest moment a timer is set for, when something in the store is due.
    pub(super) wake_at: Option<UnixMs>,
    /// A timer is set for then; until then no worker is hired.
    pub(super) paused_until: Option<UnixMs>,
    pub(super) health: Health,
    /// Under that lease this process has the lane; none when another may have it.
    pub(super) hold: Option<Lease>,
    /// It is handed over: nothing more is begun.
    pub(super) leaving: bool,
    /// The last change that another node has made to the endpoint's health.
    pub(super) followed: i64,
    concurrency: usize,
    rate: Option<RateWindow>,
    url: Arc<str>,
    /// The route these limits are from.
    route: Weak<Route>,
}

/// A lane as people see it.
#[derive(Debug)]
pub(crate) struct View {
    /// Deliveries in memory, and attempts being made of them.
    pub(crate) in_hand: usize,
    pub(crate) under_way: usize,
    /// How many attempts at once are made at the moment.
    pub(crate) pace: usize,
    pub(crate) rest: Option<Rest>,
    pub(crate) disabled: Option<Disabled>,
    pub(crate) failing_since: Option<UnixMs>,
    /// The share of successes in the breaker's window, and of how many attempts.
    pub(crate) success_ratio: Option<(f64, u32)>,
}

impl State {
    pub(super) fn new(hold: Option<Lease>) -> Self {
        Self { hold, ..Self::default() }
    }

    /// Take over the route's limits, as the snapshot in force has them.
    pub(super) fn configure(&mut self, route: &Arc<Route>) {
        if std::ptr::eq(self.route.as_ptr(), Arc::as_ptr(route)) {
            return;
        }
        let endpoint = &route.endpoint;
        self.route = Arc::downgrade(route);
        self.concurrency = endpoint.concurrency as usize;
        match (&mut self.rate, endpoint.rate_limit) {
            (Some(rate), Some(limit)) => rate.change(limit),
            (rate, limit) => *rate = limit.map(RateWindow::new),
        }
        if self.url != endpoint.url {
            // Another endpoint: what was learned was of the one before.
            self.url = endpoint.url.clone();
            self.health = Health::default();
        }
    }

    /// How many deliveries the lane holds in all.
    pub(super) fn window(&self) -> usize {
        self.concurrency.max(1) + READY_MAX
    }

    pub(super) fn room(&self) -> usize {
        match self.bytes >= super::LANE_BYTES_MAX && self.in_hand > 0 {
            true => 0,
            false => self.window().saturating_sub(self.in_hand),
        }
    }

    /// How many attempts may be under way.
    fn pace(&self) -> usize {
        self.health.pace(self.concurrency.max(1))
    }

    /// How many more workers what is ready needs; they are counted from now on.
    pub(super) fn hire(&mut self) -> usize {
        if self.paused_until.is_some() {
            return 0;
        }
        let more = self.ready.len().min(self.pace().saturating_sub(self.workers));
        self.workers += more;
        more
    }

    /// The pace was reduced since they were hired.
    pub(super) fn has_too_many_workers(&self) -> bool {
        self.workers > self.pace()
    }

    /// Count an attempt that begins now, or say when it may begin.
    pub(super) fn take_turn(&mut self) -> Result<(), UnixMs> {
        if let Some(rest) = self.rest() {
            return Err(rest.until);
        }
        match &mut self.rate {
            Some(rate) => {
                let now = clock::monotonic();
                rate.take(now).map_err(|at| clock::steady().plus(at.since(now)))
            }
            None => Ok(()),
        }
    }

    /// What the rate limit has had to bear lately; none without one. Other nodes do not
    /// know this one's own clock, so it is told by the one they share.
    pub(super) fn spent(&self) -> Option<Spent> {
        let (own, shared) = (clock::monotonic(), clock::steady());
        let told = |(at, count)| (shared.minus(own.since(at)), count);
        Some(self.rate.as_ref()?.spent().into_iter().map(told).collect())
    }

    /// Another node has made attempts.
    pub(super) fn spent_elsewhere(&mut self, spent: &Spent, unsure: u64, now: UnixMs) {
        let own = clock::monotonic();
        let heard = |&(at, count): &(UnixMs, u64)| (own.minus(now.since(at)), count);
        if let Some(rate) = &mut self.rate {
            rate.follow(&spent.iter().map(heard).collect::<Spent>(), unsure, own);
        }
    }

    pub(super) fn is_to(&self, url: &str) -> bool {
        *self.url == *url
    }

    /// The pause that the endpoint or the plugins have been given, if it is on.
    pub(super) fn rest(&mut self) -> Option<Rest> {
        // The clock is read only where there is something to hold against it.
        if !self.health.has_rest() {
            return None;
        }
        self.health.rest(clock::steady())
    }

    pub(super) fn is_resting(&mut self) -> bool {
        self.rest().is_some()
    }

    pub(super) fn view(&mut self) -> View {
        View {
            in_hand: self.in_hand,
            under_way: self.workers,
            pace: self.pace(),
            rest: self.rest(),
            disabled: self.health.disabled().cloned(),
            failing_since: self.health.failing_since(),
            success_ratio: self.health.success_ratio(),
        }
    }
}
