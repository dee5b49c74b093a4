//! What a folder would make of events that were recorded, held against what was
//! really sent. Guests have no clock, no randomness and no secret, so the same
//! plugins and settings give the same bytes, and every difference is a change.
//!
//! No secret is read. Two keys stand in for each, one after the other: what comes
//! out different depends on the secret, and of that only the name is compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::attempt::SentRequest;
use crate::clock::UnixMs;
use crate::config::Problem;
use crate::delivery::Status;
use crate::event::Event;
use crate::pipeline::{self, Verdict};
use crate::queue::Location;
use crate::queue::recorded::{Recorded, RecordedDelivery, RecordedRequest};
use crate::snapshot::{Loader, Snapshot};
use crate::subscription::SubscriptionId;
use crate::traces;

/// A folder, ready to be tried.
pub(crate) struct Plan {
    /// The same folder twice, with another key standing in for each secret.
    snapshots: [Snapshot; 2],
}

/// What became of an event by one route: then, or now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No route of that name took it.
    NotRouted,
    /// A filter declined it.
    Filtered,
    /// A plugin failed: its code, and what it said.
    Failed { code: String, message: String },
    /// This was sent.
    Sent(Message),
}

/// A request, as far as it can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) url: String,
    /// By name; what depends on a secret has no value.
    pub(crate) headers: BTreeMap<String, Option<String>>,
    pub(crate) body: Bytes,
}

/// One event by one route that would fare otherwise than it did.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) event: Arc<Event>,
    pub(crate) route: String,
    pub(crate) then: Fate,
    pub(crate) now: Fate,
}

impl Plan {
    /// Load a folder without its secrets.
    pub(crate) fn of(folder: &Path) -> Result<Self, Vec<Problem>> {
        let mut loader = Loader::new(folder);
        let (first, _) = loader.with_stand_ins(1).load()?;
        let (second, _) = loader.with_stand_ins(2).load()?;
        Ok(Self { snapshots: [first, second] })
    }

    /// Where the folder's engine keeps its store.
    pub(crate) fn store(&self) -> &Location {
        &self.snapshots[0].hub.store
    }

    /// Try one event by every route that took it or would take it. Returns what is
    /// different, and how many were compared.
    pub(crate) async fn compare(&self, recorded: Recorded) -> (Vec<Difference>, usize) {
        let Recorded { event, deliveries } = recorded;
        let event = Arc::new(event);
        // Subscriptions are in the store, not in the folder: there is nothing to compare with.
        let of_files = deliveries.iter().filter(|it| SubscriptionId::find(&it.route).is_none());
        let mut routes: Vec<&str> = of_files.map(|it| it.route.as_str()).collect();
        let tenant = self.snapshots[0].tenant_of(&event.source);
        let routes_now = &self.snapshots[0].routes;
        for route in routes_now.matching(tenant, &event.source, &event.event_type) {
            if !routes.contains(&&*route.name) {
                routes.push(&route.name);
            }
        }
        routes.sort_unstable();
        let (mut differences, mut compared) = (Vec::new(), 0);
        for route in routes {
            let then = deliveries.iter().find(|it| it.route == route);
            // What was not attempted yet has nothing to be held against.
            let Some(fate) = then.map_or(Some(Fate::NotRouted), |it| Fate::then(it, &event)) else {
                continue;
            };
            compared += 1;
            let (then, now) = self.fates(route, then, fate, &event).await;
            if then != now {
                let (event, route) = (event.clone(), route.to_owned());
                differences.push(Difference { event, route, then, now });
            }
        }
        (differences, compared)
    }

    /// Then and now, with what depends on secrets left out of both.
    async fn fates(
        &self,
        route: &str,
        delivery: Option<&RecordedDelivery>,
        mut then: Fate,
        event: &Arc<Event>,
    ) -> (Fate, Fate) {
        let attempt = delivery.and_then(|it| it.attempt.as_ref());
        let time = attempt.map_or(event.time, |it| it.started);
        let [first, second] = &self.snapshots;
        let mut now = Fate::now(first, route, event, time).await;
        match (&then, &mut now) {
            // What a plugin says may tell of time; its code does not.
            (Fate::Failed { code, .. }, Fate::Failed { code: now_code, .. })
                if code == now_code =>
            {
                now = then.clone();
            }
            (_, Fate::Sent(message)) => {
                let other = Fate::now(second, route, event, time).await;
                let Fate::Sent(other) = other else { return (then, other) };
                for name in message.differing_headers(&other) {
                    message.forget(&name);
                    if let Fate::Sent(message) = &mut then {
                        message.forget(&name);
                    }
                }
            }
            _ => {}
        }
        (then, now)
    }
}

impl Fate {
    /// What became of a delivery; none when that is not known yet, or when it came to
    /// its end without the plugins.
    fn then(delivery: &RecordedDelivery, event: &Event) -> Option<Self> {
        if delivery.status == Status::Filtered {
            return Some(Self::Filtered);
        }
        let attempt = delivery.attempt.as_ref()?;
        match (&attempt.request, &attempt.error_code) {
            (Some(request), _) => Some(Self::Sent(Message::recorded(request, event))),
            (None, Some(code)) => Some(Self::Failed {
                code: code.clone(),
                message: attempt.error.clone().unwrap_or_default(),
            }),
            (None, None) => None,
        }
    }

    /// What would become of an event by the route of that name.
    async fn now(snapshot: &Snapshot, route: &str, event: &Arc<Event>, time: UnixMs) -> Self {
        let tenant = snapshot.tenant_of(&event.source);
        let mut takes = snapshot.routes.matching(tenant, &event.source, &event.event_type);
        let Some(route) = takes.find(|it| *it.name == *route) else { return Self::NotRouted };
        match pipeline::verdict(route, event, time).await {
            Verdict::Filtered => Self::Filtered,
            Verdict::Failed(fault) => {
                Self::Failed { code: fault.code.into(), message: fault.message.into() }
            }
            Verdict::Sent(request) => Self::Sent(Message::planned(request, event)),
        }
    }
}

impl Message {
    fn recorded(request: &RecordedRequest, event: &Event) -> Self {
        Self {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: headers(&request.headers),
            body: request.body.whole(&event.data),
        }
    }

    fn planned(request: SentRequest, event: &Event) -> Self {
        Self {
            method: request.method.to_string(),
            url: request.url.to_string(),
            headers: headers(&request.headers),
            body: request.body.whole(&event.data),
        }
    }

    fn differing_headers(&self, other: &Self) -> Vec<String> {
        let differs =
            |(name, value): &(&String, &Option<String>)| other.headers.get(*name) != Some(*value);
        self.headers.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    }

    /// Of this header compare the name only.
    fn forget(&mut self, name: &str) {
        if let Some(value) = self.headers.get_mut(name) {
            *value = None;
        }
    }
}

/// Without those that tell one attempt from the next of the same message.
fn headers(text: &str) -> BTreeMap<String, Option<String>> {
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        (!traces::NAMES.contains(&name)).then(|| (name.to_owned(), Some(value.to_owned())))
    };
    text.lines().filter_map(header).collect()
}
