//! A lane among nodes: one has it at a time. It is taken with a claim, handed over when
//! nothing of it is in hand any more, and lost with the lease.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::state::State;
use super::{CLAIM_AGAIN, Lane, Lanes, Slot, Turn};
use crate::clock::{self, UnixMs, sleep};
use crate::delivery::Delivery;
use crate::endpoint::Health;
use crate::queue::{EndpointRecord, Hold, Queue, Taken};
use crate::snapshot::Snapshot;

/// How soon a process whose lease may have ended looks again whether it has been renewed.
const LEASE_LOOK: Duration = Duration::from_millis(100);

impl Lanes {
    /// Another node is to have these. What is under way comes to its end first.
    pub(super) fn hand_over(&self, routes: &[Arc<str>]) {
        for route in routes {
            self.of(route).hand_over();
        }
    }

    /// There is no such route here any more.
    pub(crate) fn leave(&self, route: &Arc<str>) {
        if self.shared.tenure.is_shared() {
            self.of(route).hand_over();
        }
    }

    /// What other nodes have written down of endpoints.
    pub(super) fn follow(&self, snapshot: &Snapshot, changed: Vec<(i64, EndpointRecord)>) {
        for (change, record) in changed {
            let route = snapshot.routes.known(&record.route);
            let Some(route) = route.filter(|it| it.endpoint.url == record.url) else { continue };
            let lane = self.of(&route.name);
            {
                let mut state = lane.state.lock();
                state.configure(route);
                if state.followed >= change {
                    continue;
                }
                state.followed = change;
                let learns = state.hold.is_some_and(|it| self.shared.tenure.covers(it));
                state.health.follow(record.health, learns);
                if state.rest().is_none() {
                    state.paused_until = None;
                }
            }
            lane.go_on();
        }
    }
}

impl Lane {
    fn hand_over(self: &Arc<Self>) {
        let ready = {
            let mut state = self.state.lock();
            if state.hold.is_none() {
                return;
            }
            state.leaving = true;
            std::mem::take(&mut state.ready)
        };
        let Some(engine) = self.engine.upgrade() else { return };
        give_back(&engine.queue, ready);
        self.give_up_when_empty();
    }

    /// What has come into hand while the lane is handed over goes back.
    pub(super) fn refuse(self: &Arc<Self>, deliveries: impl IntoIterator<Item = (Delivery, Slot)>) {
        if let Some(engine) = self.engine.upgrade() {
            give_back(&engine.queue, deliveries);
        }
    }

    pub(super) fn give_up_when_empty(self: &Arc<Self>) {
        let lease = {
            let mut state = self.state.lock();
            let Some(lease) = state.hold else { return };
            if !state.leaving || state.in_hand > 0 {
                return;
            }
            state.hold = None;
            lease
        };
        let lane = self.clone();
        self.shared.runtime.spawn(async move {
            // Until it is done nothing is claimed: see `feed`.
            while let Some(engine) = lane.engine.upgrade() {
                if !lane.shared.tenure.covers(lease) {
                    break;
                }
                match engine.queue.give_up(lane.route.clone(), lease).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(route = &*lane.route, %error, "could not hand a lane over");
                    }
                }
                drop(engine);
                sleep(CLAIM_AGAIN).await;
            }
            lane.state.lock().leaving = false;
            lane.feed();
        });
    }

    /// What a claim says of the lane. False when it is another's.
    pub(super) fn heard(&self, hold: Hold, now: UnixMs) -> bool {
        let mut state = self.state.lock();
        match hold {
            Hold::Not => {
                (state.hold, state.leaving) = (None, false);
                return false;
            }
            Hold::Held(lease) => state.hold = Some(lease),
            Hold::Taken(Taken { lease, spent, unsure, known }) => {
                tracing::debug!(route = &*self.route, lease = lease.0, "took a lane");
                state.hold = Some(lease);
                state.spent_elsewhere(&spent, unsure, now);
                let mut known = known.into_iter().filter(|it| state.is_to(&it.url));
                let health = known.next().map(|it| it.health).unwrap_or_default();
                drop(known);
                state.health = Health::restored(health);
            }
        }
        true
    }

    /// The lease has ended, or may have: begin nothing. What is in hand by one that is no
    /// more is forgotten.
    pub(super) fn look_at_the_lease(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
    ) -> Option<Turn> {
        let tenure = &self.shared.tenure;
        let (kept, lost): (VecDeque<_>, VecDeque<_>) =
            state.ready.drain(..).partition(|(it, _)| tenure.is(it.lease));
        state.ready = kept;
        if !state.ready.is_empty() {
            self.pause(&mut state, clock::steady().plus(LEASE_LOOK));
        }
        // Slots lock the lane.
        drop(state);
        drop(lost);
        None
    }
}

fn give_back(queue: &Queue, deliveries: impl IntoIterator<Item = (Delivery, Slot)>) {
    for (delivery, slot) in deliveries {
        queue.release(&delivery);
        drop(slot);
    }
}
