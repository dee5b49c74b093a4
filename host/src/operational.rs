//! What the engine itself has to tell: events of the source `plugpost`, for the
//! routes that name it. Each tenant is told apart from the others.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::attempt::Attempt;
use crate::clock::UnixMs;
use crate::delivery::Delivery;
use crate::endpoint::{Change, Rest};
use crate::engine::Engine;
use crate::event::{Event, MEDIA_TYPE, OWN_SOURCE, OWN_SOURCE_OF};
use crate::queue::NewEvent;
use crate::route::{DEFAULT_TENANT, Route};

/// An endpoint took a turn. None when no route wants to hear of it.
pub(crate) fn changed(
    engine: &Engine,
    route: &str,
    url: &str,
    change: &Change,
    now: UnixMs,
) -> Option<NewEvent> {
    let mut data = json!({ "route": route, "endpoint": url });
    let event_type = match change {
        Change::Failing { since } => {
            data["failing_since"] = json!(since.to_string());
            "endpoint.failing"
        }
        Change::Recovered { failing_since } => {
            data["failing_since"] = json!(failing_since.to_string());
            "endpoint.recovered"
        }
        Change::Disabled(disabled) => {
            data["reason"] = json!(*disabled.reason);
            "endpoint.disabled"
        }
        Change::Enabled => "endpoint.enabled",
    };
    new_event(engine, event_type, route, route, data, now)
}

/// Too few attempts succeed, so an endpoint is left alone for a while. None when no
/// route wants to hear of it.
pub(crate) fn resting(
    engine: &Engine,
    route: &str,
    url: &str,
    rest: Rest,
    now: UnixMs,
) -> Option<NewEvent> {
    let data = json!({ "route": route, "endpoint": url, "until": rest.until.to_string() });
    new_event(engine, "endpoint.resting", route, route, data, now)
}

/// A delivery became a dead letter after its last attempt. None when no route
/// wants to hear of it.
pub(crate) fn exhausted(
    engine: &Engine,
    delivery: &Delivery,
    attempt: &Attempt,
    now: UnixMs,
) -> Option<NewEvent> {
    let data = json!({
        "route": &*delivery.route,
        "delivery_id": delivery.id.to_string(),
        "event_id": delivery.event.id.to_string(),
        "type": &*delivery.event.event_type,
        "subject": delivery.event.subject,
        "attempts": attempt.number,
        "status_code": attempt.response.as_ref().map(|it| it.status),
        "error": attempt.fault.as_ref().map(ToString::to_string),
    });
    new_event(engine, "delivery.exhausted", &delivery.route, &delivery.id.to_string(), data, now)
}

/// The source of what the engine tells a tenant.
pub(crate) fn source_of(tenant: &str) -> Arc<str> {
    match tenant {
        DEFAULT_TENANT => OWN_SOURCE.into(),
        other => format!("{OWN_SOURCE_OF}{other}").into(),
    }
}

fn new_event(
    engine: &Engine,
    event_type: &'static str,
    route: &str,
    subject: &str,
    mut data: Value,
    now: UnixMs,
) -> Option<NewEvent> {
    let snapshot = engine.snapshot();
    // Whose route it is about, it is told to.
    let about = snapshot.routes.known(route).and_then(|it| it.tenant.as_deref());
    let tenant = about.unwrap_or(DEFAULT_TENANT);
    let subscription = |route: &str| snapshot.routes.subscribed.get(route.parse().ok()?);
    let about = subscription(route).map(|it| &it.subscription);
    // A platform's customer hears of what was made with their own token, and of that
    // platform alone: its plugin knows nothing else.
    let hears = |route: &&Arc<Route>| {
        let Some(listener) = subscription(&route.name).map(|it| &it.subscription) else {
            return true;
        };
        listener.form.platform.is_none()
            || about.is_some_and(|about| {
                about.form.platform == listener.form.platform && about.made_by == listener.made_by
            })
    };
    let routes = snapshot.routes.matching(tenant, OWN_SOURCE, event_type);
    let mut routes = routes.filter(hears).peekable();
    routes.peek()?;
    if let Some(about) = about {
        data["subscription"] = json!({ "id": about.id.to_string(), "number": about.number });
    }
    let event = Arc::new(Event {
        id: engine.queue.next_event_id(now),
        source: source_of(tenant),
        event_type: event_type.into(),
        subject: Some(subject.into()),
        time: now,
        attributes: vec![(MEDIA_TYPE.into(), "application/json".into())],
        data: data.to_string().into(),
    });
    let deliveries = routes.map(|route| engine.promise(route, &event, None, now)).collect();
    Some(NewEvent { event, duplicate_key: None, deliveries })
}
