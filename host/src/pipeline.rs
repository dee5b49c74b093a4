//! One attempt of one delivery, stage by stage. The only function that lists the
//! stages in order is [`attempt`]; each stage is a file, and none of them decides
//! what a failure means for the delivery.

mod deliver;
mod filter;
mod sign;
mod transform;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::attempt::{Attempt, Fault, Outcome, Response, SentBody, SentRequest, classify};
use crate::clock::{self, UnixMs};
use crate::delivery::{Delivery, Next, after_attempt};
use crate::endpoint::Disabled;
use crate::engine::Engine;
use crate::event::Event;
use crate::plugin::OutHeader;
use crate::queue::{Made, Settlement};
use crate::retry::RetryPolicy;
use crate::route::Route;
use crate::traces::Open;

/// What is to be sent, as far as the stages have come.
#[derive(Debug)]
pub(crate) struct Outgoing {
    event: Arc<Event>,
    /// The time of the attempt: what signatures carry.
    time: UnixMs,
    pub(crate) method: Method,
    url: Arc<str>,
    /// Shared with an auth plugin for the time of its call.
    pub(crate) headers: Arc<HeaderMap>,
    pub(crate) body: Bytes,
}

/// How far an attempt came.
#[derive(Default)]
struct Trace {
    request: Option<SentRequest>,
    response: Option<Response>,
}

/// Make an attempt: filter → transform → sign → deliver, and say what follows, and
/// by which route. None when the route is gone: nothing was attempted.
pub(crate) async fn attempt(
    engine: &Engine,
    delivery: &Delivery,
) -> Option<(Settlement, Arc<Route>)> {
    in_step().await;
    let snapshot = engine.snapshot();
    let route = snapshot.routes.get(&delivery.route)?;
    Some((attempt_by(engine, delivery, route, snapshot.number).await, route.clone()))
}

async fn attempt_by(
    engine: &Engine,
    delivery: &Delivery,
    route: &Route,
    snapshot: u64,
) -> Settlement {
    let started = clock::now();
    let clock = Instant::now();
    let open = engine.traces.attempted(delivery, route);

    match filter::declines(route, &delivery.event).await {
        Ok(false) => {}
        Ok(true) => {
            engine.metrics.filtered();
            return Settlement::of(delivery, Made::Nothing(None), Next::Filtered, started);
        }
        Err(fault) => {
            let end = Ended { outcome: Err(fault), trace: Trace::default(), open };
            return end.settle(engine, delivery, route, snapshot, started, clock);
        }
    }
    let mut trace = Trace::default();
    let outcome = send(delivery, route, started, &open, &mut trace).await;
    let end = Ended { outcome, trace, open };
    end.settle(engine, delivery, route, snapshot, started, clock)
}

async fn send(
    delivery: &Delivery,
    route: &Route,
    started: UnixMs,
    open: &Open,
    trace: &mut Trace,
) -> Result<Response, Fault> {
    let prepared = prepare(route, &delivery.event, started).await;
    let outgoing = prepared.map_err(|(_, fault)| fault)?;
    in_step().await;
    deliver::deliver(route, outgoing, open, &mut trace.request).await
}

/// The request an event becomes at that time, or the stage that failed. The same
/// event, route and time give the same request.
pub(crate) async fn prepare(
    route: &Route,
    event: &Arc<Event>,
    time: UnixMs,
) -> Result<Outgoing, (&'static str, Fault)> {
    let mut outgoing =
        transform::shape(route, event, time).await.map_err(|fault| ("transform", fault))?;
    in_step().await;
    sign::sign(route, &mut outgoing).await.map_err(|fault| ("auth", fault))?;
    Ok(outgoing)
}

/// Between two stages: the other deliveries that are ready come to this one first. A
/// stage that is made for many in a row finds its code in the processor's caches; from
/// end to end for one after the other, the same work takes a fifth longer.
async fn in_step() {
    tokio::task::yield_now().await;
}

/// What an attempt would come to before it leaves the house.
#[derive(Debug)]
pub(crate) enum Verdict {
    Filtered,
    Failed(Fault),
    Sent(SentRequest),
}

/// What an attempt by that route at that time would send.
pub(crate) async fn verdict(route: &Route, event: &Arc<Event>, time: UnixMs) -> Verdict {
    match filter::declines(route, event).await {
        Ok(false) => {}
        Ok(true) => return Verdict::Filtered,
        Err(fault) => return Verdict::Failed(fault),
    }
    match prepare(route, event, time).await {
        Ok(mut outgoing) => {
            if route.endpoint.grant.is_some() {
                let mut token = HeaderValue::from_static("Bearer");
                token.set_sensitive(true);
                Arc::make_mut(&mut outgoing.headers).insert(AUTHORIZATION, token);
            }
            Verdict::Sent(outgoing.for_the_log())
        }
        Err((_, fault)) => Verdict::Failed(fault),
    }
}

/// An attempt that came to its end.
struct Ended {
    outcome: Result<Response, Fault>,
    trace: Trace,
    open: Open,
}

impl Ended {
    fn settle(
        self,
        engine: &Engine,
        delivery: &Delivery,
        route: &Route,
        snapshot: u64,
        started: UnixMs,
        clock: Instant,
    ) -> Settlement {
        let duration = clock.elapsed();
        let Trace { request, mut response } = self.trace;
        let mut open = self.open;
        let (outcome, fault) = match self.outcome {
            Ok(received) => {
                let meaning = classify(&received);
                response = Some(received);
                meaning
            }
            Err(fault) if fault.retry => (Outcome::Retry, Some(fault)),
            Err(fault) => (Outcome::Reject, Some(fault)),
        };
        engine.metrics.attempt(outcome, duration);
        if let Some(response) = &response {
            open.note("http.response.status_code", i64::from(response.status));
        }
        if let Some(fault) = &fault {
            open.failed(&fault.code);
        }
        let retry_after = response.as_ref().and_then(|it| it.retry_after);
        let attempt = Attempt {
            number: delivery.attempts.saturating_add(1),
            started,
            duration,
            outcome,
            fault,
            request,
            response,
            snapshot,
            plugins: route.plugins.clone(),
        };
        settlement(delivery, attempt, &route.retry, retry_after)
    }
}

/// What an attempt leads to, now.
fn settlement(
    delivery: &Delivery,
    attempt: Attempt,
    policy: &RetryPolicy,
    retry_after: Option<std::time::Duration>,
) -> Settlement {
    let now = clock::steady();
    let luck = fastrand::f64();
    let next = after_attempt(attempt.outcome, attempt.number, policy, retry_after, now, luck);
    Settlement::of(delivery, Made::Attempt(attempt), next, now)
}

/// A delivery that nobody is called for: its endpoint is disabled.
pub(crate) fn refused(delivery: &Delivery, disabled: &Disabled) -> Settlement {
    let message = format!("since {}: {}", disabled.since, disabled.reason);
    let fault = Fault::reject("endpoint.disabled", message);
    Settlement::of(delivery, Made::Nothing(Some(fault)), Next::Dead, clock::now())
}

/// A delivery whose subscription was deleted.
pub(crate) fn orphaned(delivery: &Delivery) -> Settlement {
    let fault = Fault::reject("subscription.deleted", "its subscription was deleted");
    Settlement::of(delivery, Made::Nothing(Some(fault)), Next::Dead, clock::now())
}

/// An attempt that ended in a bug of ours: recorded, and tried again by the
/// default schedule, so that it cannot take a worker down with it for ever.
pub(crate) fn panicked(delivery: &Delivery) -> Settlement {
    tracing::error!(delivery = %delivery.id, route = &*delivery.route, "an attempt panicked");
    let attempt = Attempt {
        number: delivery.attempts.saturating_add(1),
        started: clock::now(),
        duration: std::time::Duration::ZERO,
        outcome: Outcome::Retry,
        fault: Some(Fault::retry("host.panic", "a bug in plugpost: please report it")),
        request: None,
        response: None,
        snapshot: 0,
        plugins: "".into(),
    };
    settlement(delivery, attempt, &RetryPolicy::default(), None)
}

impl Outgoing {
    /// Add headers, each replacing one of the same name.
    fn set_headers(&mut self, headers: Vec<OutHeader>) -> Result<(), Fault> {
        let all = Arc::make_mut(&mut self.headers);
        for OutHeader { name, value } in headers {
            if name == WEBHOOK_ID && value != *self.event.id.text() {
                let message = "a plugin cannot send another webhook-id than the event's id";
                return Err(Fault::retry("plugin.header", message));
            }
            let full = |_| Fault::retry("plugin.header", "too many headers");
            all.try_insert(name, value).map_err(full)?;
        }
        let bytes: usize = all.iter().map(|(name, it)| name.as_str().len() + it.len()).sum();
        if all.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            let message = format!(
                "more than {HEADERS_MAX} headers, or more than {HEADER_BYTES_MAX} bytes of them"
            );
            return Err(Fault::retry("plugin.header", message));
        }
        Ok(())
    }

    /// The request as the log keeps it: secrets masked, of the body what is not the
    /// event's data.
    fn for_the_log(&self) -> SentRequest {
        SentRequest {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers_for_the_log(),
            body: SentBody::of(&self.body, &self.event.data),
        }
    }

    fn headers_for_the_log(&self) -> Box<str> {
        let pieces = || {
            self.headers.iter().flat_map(|(name, value)| {
                let shown = if value.is_sensitive() { b"***" } else { value.as_bytes() };
                [name.as_str().as_bytes(), b": ", shown, b"\n"]
            })
        };
        let mut bytes = Vec::with_capacity(pieces().map(<[u8]>::len).sum());
        pieces().for_each(|it| bytes.extend_from_slice(it));
        match String::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into(),
        }
    }
}

/// Receivers remove duplicates by it, whatever the platform's own headers are.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");

/// What receivers behind common servers take: nginx stops at 8 KiB a line and
/// 32 KiB in all, most others at 100 headers.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;

/// A header value from text that has been checked to be visible ASCII or comes
/// from our own ids; anything else is left out of the request.
fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// A request with these headers, as it is sent and as the log keeps it, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn request_with(
    headers: Vec<OutHeader>,
) -> Result<(Arc<HeaderMap>, SentRequest), Fault> {
    let event = Arc::new(crate::plugin::fuzzed::an_event());
    let mut outgoing = Outgoing {
        body: event.data.clone(),
        event,
        time: clock::now(),
        method: Method::POST,
        url: "https://receiver.example.com/".into(),
        headers: Arc::default(),
    };
    outgoing.set_headers(headers)?;
    let logged = outgoing.for_the_log();
    Ok((outgoing.headers, logged))
}
