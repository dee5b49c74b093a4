//! Attempts as they happen, for whoever listens, and their counts over time. It is
//! told of each attempt where it is settled; when nobody listens that costs a few
//! additions. Nothing of it survives a restart.

mod series;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::clock::{self, UnixMs};
use crate::delivery::{Delivery, Next};
use crate::queue::log::Sources;
use crate::queue::{Made, Settlement};

use series::{Counts, Latencies, Rings};
pub(crate) use series::{Interval, Window};

/// How far a listener may fall behind before it misses attempts.
const BEHIND_MAX: usize = 1024;

/// Routes, and sources, that are counted apart; a hub has fewer.
const NAMES_MAX: usize = 10_000;

/// What tells of attempts.
#[derive(Debug)]
pub(crate) struct Stream {
    listeners: broadcast::Sender<Arc<Told>>,
    closed: AtomicBool,
    pub(crate) started: UnixMs,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    all: Rings<Latencies>,
    by_route: HashMap<Arc<str>, Rings<Counts>>,
    /// By where the event came in: so a tenant's are told from the others'.
    by_source: HashMap<Arc<str>, Rings<Counts>>,
}

/// Which attempts are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    All,
    Route(&'a str),
    /// Of events from these.
    Sources(&'a Sources),
}

/// What a listener is told.
#[derive(Debug)]
pub(crate) enum Told {
    Attempt(Box<Attempted>),
    /// The engine stops.
    End,
}

/// An attempt that has just ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Attempted {
    /// `dlv_…`
    delivery_id: String,
    /// `evt_…`
    event_id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    subject: Option<String>,
    pub(crate) source: String,
    pub(crate) route: String,
    /// The URL that was called; null when a plugin failed before there was a request.
    url: Option<String>,
    /// The number of the attempt, 1 for the first.
    attempt: u32,
    #[schema(format = DateTime)]
    started_at: String,
    duration_us: u64,
    /// `delivered`, `retry` or `reject`
    outcome: &'static str,
    status_code: Option<u16>,
    error: Option<String>,
    /// Where the delivery stands now: `delivered`, `pending` or `dead`.
    pub(crate) status: &'static str,
    /// When it is pending.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
}

/// How a route did lately.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Recently {
    /// Attempts that delivered, in the last 24 hours.
    pub(crate) delivered_24h: u64,
    /// Attempts that did not, in the last 24 hours.
    pub(crate) failed_24h: u64,
    /// Of the attempts of the last five minutes, how many delivered, from 0 to 1; null without any.
    pub(crate) success_ratio_5m: Option<f64>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            listeners: broadcast::Sender::new(BEHIND_MAX),
            closed: AtomicBool::new(false),
            started: clock::now(),
            counted: Mutex::new(Counted {
                all: Rings::default(),
                by_route: HashMap::new(),
                by_source: HashMap::new(),
            }),
        }
    }
}

impl Stream {
    /// An attempt has ended so.
    pub(crate) fn attempted(&self, delivery: &Delivery, settlement: &Settlement) {
        let Made::Attempt(attempt) = &settlement.made else { return };
        let good = settlement.next == Next::Delivered;
        {
            let mut counted = self.counted.lock();
            counted.all.add(settlement.now, good, attempt.duration);
            let Counted { by_route, by_source, .. } = &mut *counted;
            let named = [(by_route, &delivery.route), (by_source, &delivery.event.source)];
            for (counts, name) in named {
                if let Some(it) = counts.get_mut(name) {
                    it.add(settlement.now, good, attempt.duration);
                } else if counts.len() < NAMES_MAX {
                    let it = counts.entry(name.clone()).or_default();
                    it.add(settlement.now, good, attempt.duration);
                }
            }
        }
        if self.listeners.receiver_count() == 0 {
            return;
        }
        let event = &delivery.event;
        let attempted = Attempted {
            delivery_id: delivery.id.to_string(),
            event_id: event.id.to_string(),
            event_type: event.event_type.to_string(),
            subject: event.subject.as_deref().map(str::to_owned),
            source: event.source.to_string(),
            route: delivery.route.to_string(),
            url: attempt.request.as_ref().map(|it| it.url.to_string()),
            attempt: attempt.number,
            started_at: attempt.started.to_string(),
            duration_us: u64::try_from(attempt.duration.as_micros()).unwrap_or(u64::MAX),
            outcome: attempt.outcome.as_str(),
            status_code: attempt.response.as_ref().map(|it| it.status),
            error: attempt.fault.as_ref().map(ToString::to_string),
            status: settlement.next.status().as_str(),
            next_attempt_at: match settlement.next {
                Next::WaitUntil(at) => Some(at.to_string()),
                _ => None,
            },
        };
        let _ = self.listeners.send(Arc::new(Told::Attempt(Box::new(attempted))));
    }

    /// Listen from now on; none when the engine stops.
    pub(crate) fn listen(&self) -> Option<broadcast::Receiver<Arc<Told>>> {
        let receiver = self.listeners.subscribe();
        (!self.closed.load(Ordering::SeqCst)).then_some(receiver)
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners.receiver_count()
    }

    /// Tell all who listen that it is over.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.listeners.send(Arc::new(Told::End));
    }

    /// Attempts over time, oldest first.
    pub(crate) fn series(&self, window: Window, of: Of<'_>, now: UnixMs) -> Vec<Interval> {
        let counted = self.counted.lock();
        match of {
            Of::All => counted.all.intervals(window, now),
            Of::Route(route) => series::together(counted.by_route.get(route), window, now),
            Of::Sources(sources) => {
                let own = counted.by_source.iter().filter(|(name, _)| sources.takes(name));
                series::together(own.map(|(_, it)| it), window, now)
            }
        }
    }

    pub(crate) fn recently(&self, route: &str, now: UnixMs) -> Recently {
        let counted = self.counted.lock();
        let Some(rings) = counted.by_route.get(route) else { return Recently::default() };
        let (delivered_24h, failed_24h) = rings.sum(Window::Day, Window::Day.span(), now);
        let (good, bad) = rings.sum(Window::Quarter, series::FIVE_MINUTES, now);
        let ratio = good as f64 / (good + bad) as f64;
        let success_ratio_5m = (good + bad > 0).then_some(ratio);
        Recently { delivered_24h, failed_24h, success_ratio_5m }
    }
}
