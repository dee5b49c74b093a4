//! What may be, held against what is. It hears what is promised, what is sent and what is
//! committed, knows nothing of how the engine works, and says what is wrong at once.
//!
//! What is promised of time, and by which clock:
//! - A *rate* holds in true time. A restart forgets what was sent before, and all rests.
//! - A *wait*, by schedule or by `Retry-After`, and a *rest* hold by the steady clock
//!   ([`crate::clock::steady`]). It never goes back, so nothing waits longer because the
//!   system's clock was set back. But it follows a clock that is set forward, and so each
//!   wait that is under way is shortened then, once, by as much. That is meant: when due
//!   times are stored and shown, several nodes share them, and a machine was stopped for
//!   hours, a forward leap of the clock nearly always says that the time has passed. A
//!   retry that comes early costs the receiver one request; one that comes hours late, for
//!   every clock that was put right, would cost deliveries.

mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Figures;
use super::endpoint::{Endpoint, Settings};
use super::time::Moment;
use crate::attempt::Outcome;
use crate::clock::UnixMs;
use crate::delivery::{DeliveryId, Next};
use crate::endpoint::Order;
use crate::queue::{EndpointRecord, Made, Settled};
use crate::retry::RETRY_AFTER_MAX;
use limits::Limits;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// An event was accepted, and its delivery never came to an end.
    Lost,
    /// It is recorded as delivered, and no endpoint has taken it.
    Unproven,
    /// It became dead before its schedule was used up, with nobody's wish.
    GivenUp,
    /// It was sent although its schedule was used up.
    Beyond,
    /// What was sent is not what came in.
    Altered,
    /// It was sent to somebody it was not promised to.
    Unexpected,
    /// One of a key went before the one ahead of it had ended.
    Misordered,
    /// Two attempts of one delivery were under way.
    Twice,
    /// It was sent again though this process knew that it had come to its end.
    Repeated,
    /// Before its wait was over.
    TooSoon,
    /// It is to wait for longer than the schedule says.
    TooLate,
    /// More in a stretch of time than the rate limit.
    TooFast,
    /// More at once than the endpoint takes.
    TooMany,
    /// In a rest: the breaker is open, or the endpoint has asked to be left alone.
    Resting,
    /// To an endpoint that is switched off.
    SwitchedOff,
    /// By a route that is not there.
    Removed,
    /// Nothing was wrong with the store, and it refused.
    Refused,
    /// All is well, all waits are over, and something waits still.
    Undrained,
}

/// How an attempt ended, as the endpoint sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Taken,
    Failed { status: Option<u16>, retry_after: Option<Duration> },
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) endpoint: usize,
    /// The event's id.
    pub(super) event: String,
    pub(super) body: Bytes,
}

/// An event that was sent, or copied, or raised by the engine itself.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) subject: Option<String>,
    pub(super) body: Bytes,
    /// Its place among those of its subject; none where nobody can say.
    pub(super) place: Option<u64>,
}

/// An event for one endpoint. All attempts of it are one chain; but for a resend, they
/// are one delivery's.
type Key = (usize, String);

#[derive(Debug, Default)]
struct Chain {
    attempts: usize,
    /// The process that made the first.
    begun_in: usize,
    last: Option<Last>,
    taken: bool,
    /// It is on disk that it has come to its end.
    over: bool,
    /// Several deliveries share it, and no request says which of them it is of.
    resent: bool,
}

#[derive(Debug)]
struct Last {
    process: usize,
    settings: Arc<Settings>,
    ended: Option<(Moment, Ended)>,
}

#[derive(Debug)]
pub(super) struct Oracle {
    process: usize,
    names: Vec<String>,
    orders: Vec<Order>,
    limits: Vec<Limits>,
    sent: BTreeMap<String, Sent>,
    /// So many copies were asked for of which nobody said the id.
    unnamed_copies: usize,
    deliveries: BTreeMap<DeliveryId, Key>,
    asked: BTreeSet<Key>,
    promised: BTreeSet<DeliveryId>,
    over: BTreeSet<DeliveryId>,
    chains: BTreeMap<Key, Chain>,
    /// The first request of each event to each endpoint that nobody had said of.
    unknown: BTreeMap<Key, Bytes>,
    /// Of each key of order the event that is being attempted, until its end is on disk.
    under_way: BTreeMap<(usize, i64), String>,
    newest: BTreeMap<(usize, String), u64>,
    /// When the last wait is over, in true time.
    waits_until: Duration,
    pub(super) figures: Figures,
    pub(super) wrong: Vec<(Wrong, String)>,
    now: Moment,
}

impl Oracle {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        Self {
            process: 0,
            names: endpoints.iter().map(|it| it.name.clone()).collect(),
            orders: endpoints.iter().map(|it| it.order).collect(),
            limits: endpoints.iter().map(|it| Limits::new(it.settings.clone())).collect(),
            sent: BTreeMap::new(),
            unnamed_copies: 0,
            deliveries: BTreeMap::new(),
            asked: BTreeSet::new(),
            promised: BTreeSet::new(),
            over: BTreeSet::new(),
            chains: BTreeMap::new(),
            unknown: BTreeMap::new(),
            under_way: BTreeMap::new(),
            newest: BTreeMap::new(),
            waits_until: Duration::ZERO,
            figures: Figures::default(),
            wrong: Vec::new(),
            now: Moment::default(),
        }
    }

    pub(super) fn wrong(&mut self, what: Wrong, text: String) {
        let (at, process) = (self.now.passed, self.process);
        self.wrong.push((what, format!("{at:.3?}, process {process}: {text}")));
    }

    // ---- what it hears

    /// From now on it is that late.
    pub(super) fn is(&mut self, now: Moment) {
        self.now = now;
    }

    pub(super) fn sent(&mut self, event: String, sent: Sent) {
        self.sent.insert(event, sent);
    }

    /// A copy of an event was asked for; it has no name yet.
    pub(super) fn copy_asked(&mut self) {
        self.unnamed_copies += 1;
    }

    pub(super) fn copied(&mut self, event: &str, copy: String) {
        self.unnamed_copies -= 1;
        if let Some(sent) = self.sent.get(event) {
            self.sent.insert(copy, Sent { place: None, ..sent.clone() });
        }
    }

    /// It may be delivered: somebody has asked for it.
    pub(super) fn asked(&mut self, delivery: DeliveryId, endpoint: usize, event: String) {
        self.asked.insert((endpoint, event.clone()));
        self.deliveries.insert(delivery, (endpoint, event));
    }

    /// It must be delivered: that it is asked for is on disk.
    pub(super) fn promised(&mut self, delivery: DeliveryId) {
        self.promised.insert(delivery);
    }

    /// The event goes to the endpoint once more; before there is an answer to that.
    pub(super) fn resend_asked(&mut self, delivery: DeliveryId) {
        if let Some(key) = self.deliveries.get(&delivery) {
            self.chains.entry(key.clone()).or_default().resent = true;
        }
    }

    pub(super) fn configured(&mut self, endpoint: usize, settings: &Arc<Settings>, present: bool) {
        self.limits[endpoint].configure(settings.clone(), present);
    }

    pub(super) fn switched(&mut self, endpoint: usize, off: bool) {
        self.limits[endpoint].switch(off);
    }

    /// What is known of an endpoint is on disk.
    pub(super) fn kept(&mut self, record: &EndpointRecord) {
        if let Some(at) = self.names.iter().position(|it| **it == *record.route) {
            self.limits[at].kept = record.health.clone();
        }
    }

    pub(super) fn process_has_ended(&mut self) {
        self.process += 1;
        self.limits.iter_mut().for_each(Limits::process_has_ended);
    }

    pub(super) fn begins(&mut self, request: Request) {
        let Request { endpoint, event, body } = request;
        let found = self.limits[endpoint].begins(self.now, &mut self.figures);
        for (what, text) in found {
            self.wrong(what, format!("{event} to {}: {text}", self.names[endpoint]));
        }
        let key = (endpoint, event);
        if self.sent.get(&key.1).is_none_or(|it| it.body != body) || !self.asked.contains(&key) {
            self.unknown.entry(key.clone()).or_insert(body);
        }
        self.hold_against_the_order(&key);
        self.hold_against_the_attempt_before(&key);
        let chain = self.chains.entry(key).or_default();
        if chain.attempts == 0 {
            chain.begun_in = self.process;
        }
        chain.attempts += 1;
        let settings = self.limits[endpoint].settings.clone();
        chain.last = Some(Last { process: self.process, settings, ended: None });
    }

    pub(super) fn ends(&mut self, endpoint: usize, event: &str, ended: Ended) {
        let Some(chain) = self.chains.get_mut(&(endpoint, event.to_owned())) else { return };
        chain.taken |= ended == Ended::Taken;
        let Some(last) = &mut chain.last else { return };
        last.ended = Some((self.now, ended));
        self.limits[endpoint].ends(&last.settings, ended, self.now, &mut self.figures);
    }

    /// What became of a delivery is on disk.
    pub(super) fn settled(&mut self, settled: &Settled) {
        let Settled { settlement, health, .. } = settled;
        if let Some(health) = health {
            self.kept(health);
        }
        if let Next::WaitUntil(at) = settlement.next {
            let over = self.now.passed + at.since(self.now.steady);
            self.waits_until = self.waits_until.max(over);
            return self.hold_against_the_schedule(settled, at);
        }
        self.over.insert(settlement.delivery);
        let route = self.names.iter().position(|it| **it == *settlement.route);
        if let (Some(at), Some(key)) = (route, settlement.key) {
            self.under_way.remove(&(at, key.0));
        }
        let Some(key) = self.deliveries.get(&settlement.delivery).cloned() else { return };
        let name = &self.names[key.0];
        let chain = self.chains.entry(key.clone()).or_default();
        chain.over = !chain.resent;
        let steps = chain.last.as_ref().map_or(0, |it| it.settings.schedule.len());
        let found = match (settlement.next, &settlement.made) {
            (Next::Delivered, _) if !chain.taken => {
                Some((Wrong::Unproven, format!("{} was never taken by {name}", key.1)))
            }
            (Next::Dead, Made::Attempt(attempt))
                if attempt.outcome == Outcome::Retry
                    && !chain.resent
                    && (attempt.number as usize) <= steps =>
            {
                let text = format!("{} to {name} after {} of {steps}", key.1, attempt.number);
                Some((Wrong::GivenUp, text))
            }
            (Next::Dead, Made::Nothing(_)) if !self.limits[key.0].was_off => {
                Some((Wrong::GivenUp, format!("{} to {name}, which is on", key.1)))
            }
            _ => None,
        };
        if let Some((what, text)) = found {
            self.wrong(what, text);
        }
    }

    /// A person has ended it.
    pub(super) fn cancelled(&mut self, delivery: DeliveryId) {
        self.over.insert(delivery);
        let Some(key) = self.deliveries.get(&delivery) else { return };
        self.chains.entry(key.clone()).or_default().over = true;
        self.under_way.retain(|_, it| *it != key.1);
    }

    // ---- what it is asked

    /// A delivery that somebody may do something about, by that luck.
    pub(super) fn some_delivery(&self, luck: usize) -> Option<(DeliveryId, usize, String)> {
        let all = &self.promised;
        let (id, (endpoint, event)) = all
            .iter()
            .nth(luck.checked_rem(all.len())?)
            .and_then(|it| Some((*it, self.deliveries.get(it)?)))?;
        Some((id, *endpoint, event.clone()))
    }

    /// With all well from now on, everything is delivered by then: all waits and rests are
    /// over, and what has gathered has gone at the rate there is.
    pub(super) fn drains_by(&self) -> Duration {
        let left = self.promised.difference(&self.over).count();
        let slowest = self.limits.iter().map(Limits::pause).max().unwrap_or_default();
        let left = u32::try_from(left + 200).unwrap_or(u32::MAX);
        self.now.passed.max(self.waits_until) + slowest * left + limits::REST_MAX
    }

    /// What can only be said at the end.
    pub(super) fn judge(&mut self) {
        let lost = self.promised.difference(&self.over).map(|it| {
            let (endpoint, event) = &self.deliveries[it];
            format!("{it}: {event} to {}", self.names[*endpoint])
        });
        let lost: Vec<_> = lost.collect();
        lost.into_iter().for_each(|it| self.wrong(Wrong::Lost, it));
        // Of a copy that was asked for just before a kill, nobody has said the name.
        let mut unnamed = self.unnamed_copies;
        for ((endpoint, event), body) in std::mem::take(&mut self.unknown) {
            let text = format!("{event} to {}", self.names[endpoint]);
            match self.sent.get(&event) {
                Some(sent) if sent.body != body => self.wrong(Wrong::Altered, text),
                Some(_) if self.asked.contains(&(endpoint, event)) => {}
                None if unnamed > 0 && self.sent.values().any(|it| it.body == body) => unnamed -= 1,
                _ => self.wrong(Wrong::Unexpected, text),
            }
        }
    }
}

// ---- the rules that look at several attempts

impl Oracle {
    /// Of a key one is under way, until its end is on disk; and they go as they came.
    fn hold_against_the_order(&mut self, key: &Key) {
        let (endpoint, event) = key;
        let Some(sent) = self.sent.get(event).cloned() else { return };
        let Some(of) = self.orders[*endpoint].key(sent.subject.as_deref()) else { return };
        let name = self.names[*endpoint].clone();
        let ahead = self.under_way.insert((*endpoint, of.0), event.clone());
        if let Some(ahead) = ahead.filter(|it| it != event) {
            let text = format!("{event} to {name} while {ahead} had not ended");
            self.wrong(Wrong::Misordered, text);
        }
        if self.chains.get(key).is_some_and(|it| it.resent) {
            return;
        }
        let (Some(subject), Some(place)) = (sent.subject, sent.place) else { return };
        let newest = self.newest.entry((*endpoint, subject)).or_default();
        let before = std::mem::replace(newest, place.max(*newest));
        if place < before {
            self.wrong(Wrong::Misordered, format!("{event} to {name}: {place} after {before}"));
        }
    }

    /// Each attempt waits for the one before it, as long as the schedule says or the
    /// endpoint asks. What other processes knew is not held against this one.
    fn hold_against_the_attempt_before(&mut self, key: &Key) {
        let Some(chain) = self.chains.get(key).filter(|it| !it.resent) else { return };
        let Some(last) = &chain.last else { return };
        let text = format!("{} to {}", key.1, self.names[key.0]);
        if chain.over {
            return self.wrong(Wrong::Repeated, format!("{text}, which has ended"));
        }
        if last.process != self.process {
            // A kill came before it was on disk that the endpoint had taken it.
            self.figures.count("repeated", u64::from(chain.taken));
            return;
        }
        let Some((ended, how)) = last.ended else {
            return self.wrong(Wrong::Twice, text);
        };
        let Ended::Failed { retry_after, .. } = how else {
            return self.wrong(Wrong::Repeated, format!("{text}, which has taken it"));
        };
        let Settings { schedule, jitter, .. } = &*last.settings;
        // Earlier processes may not have written down all attempts they made.
        let least = match chain.begun_in == self.process {
            true => schedule.get(chain.attempts - 1),
            false => schedule[..schedule.len().min(chain.attempts)].iter().min(),
        };
        let Some(least) = least else {
            return self.wrong(Wrong::Beyond, format!("{text}, attempt {}", chain.attempts + 1));
        };
        let least = least.mul_f64(1.0 - jitter);
        let least = least.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        let waited = self.now.steady.since(ended.steady);
        if waited + MILLISECOND < least {
            self.wrong(Wrong::TooSoon, format!("{text} after {waited:?}, not {least:?}"));
        }
    }
}

impl Oracle {
    /// Nothing waits for longer than its schedule says, or its endpoint asks.
    fn hold_against_the_schedule(&mut self, settled: &Settled, until: UnixMs) {
        let Made::Attempt(attempt) = &settled.settlement.made else { return };
        let Some(key) = self.deliveries.get(&settled.settlement.delivery) else { return };
        let Some(chain) = self.chains.get(key).filter(|it| !it.resent) else { return };
        let Some(Last { ended: Some((ended, how)), settings, .. }) = &chain.last else { return };
        let Ended::Failed { retry_after, .. } = how else { return };
        let step = settings.schedule.get(attempt.number as usize - 1).copied();
        let most = step.unwrap_or_default().mul_f64(1.0 + settings.jitter);
        let most = most.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        let waits = until.since(ended.steady);
        if waits > most + MILLISECOND {
            let name = &self.names[key.0];
            self.wrong(Wrong::TooLate, format!("{} to {name}: {waits:?}, not {most:?}", key.1));
        }
    }
}

/// What the engine counts in.
const MILLISECOND: Duration = Duration::from_millis(1);
