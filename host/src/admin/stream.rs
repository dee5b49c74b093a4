//! `/v1/stream`: attempts as they happen, as server-sent events.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use super::log::{status, type_pattern};
use super::query::Asked;
use super::session::Caller;
use crate::delivery::Status;
use crate::engine::Engine;
use crate::event::TypePattern;
use crate::problem::HttpProblem;
use crate::stream::{Attempted, Told};

/// Who may listen at once; some of it is left for those who run the engine.
const LISTENERS_MAX: usize = 100;
const LISTENERS_OF_TENANTS_MAX: usize = 80;

/// Below the minute after which most proxies close what is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which attempts.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// A route's name.
    route: Option<String>,
    /// An event type, or the start of one before a trailing `*`.
    #[serde(rename = "type")]
    #[param(pattern = "^[^*]+\\*?$|^\\*$")]
    event_type: Option<String>,
    /// Where the delivery stands after the attempt: `pending`, `delivered` or `dead`.
    #[param(pattern = "^(pending|delivered|filtered|dead)$")]
    status: Option<String>,
}

struct Listener {
    engine: Weak<Engine>,
    caller: Caller,
    receiver: Receiver<Arc<Told>>,
    route: Option<String>,
    event_type: Option<TypePattern>,
    status: Option<Status>,
}

/// Attempts as they happen
///
/// Server-sent events: `attempt` with an attempt as JSON, a moment before the log has it; `lagged` with `{"missed": n}` for a
/// reader that is too slow, without the number for one tenant's reader. Comments keep the connection alive.
#[utoipa::path(get, path = "/v1/stream", tag = "log", params(StreamQuery),
    responses((status = 200, description = "An endless stream", body = Attempted,
        content_type = "text/event-stream")))]
pub(super) async fn stream(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<StreamQuery>,
) -> Result<impl IntoResponse, HttpProblem> {
    let event_type = type_pattern(query.event_type.as_ref())?;
    let status = status(query.status.as_ref())?;
    let max = if caller.engine { LISTENERS_MAX } else { LISTENERS_OF_TENANTS_MAX };
    if engine.stream.listeners() >= max {
        return Err(HttpProblem::unavailable(format!("{max} listen already")));
    }
    let receiver = engine.stream.listen();
    let receiver = receiver.ok_or_else(|| HttpProblem::unavailable("the engine stops"))?;
    let (engine, route) = (Arc::downgrade(&engine), query.route);
    let listener = Listener { engine, caller, receiver, route, event_type, status };
    let events = stream::unfold(listener, async |mut it| it.next().await.map(|event| (event, it)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Listener {
    /// The next event; none when the engine stops, or the caller's time is over.
    async fn next(&mut self) -> Option<Result<Event, Infallible>> {
        loop {
            let told = match self.caller.ends {
                None => self.receiver.recv().await,
                Some(at) => tokio::time::timeout_at(at.into(), self.receiver.recv()).await.ok()?,
            };
            match told {
                Ok(told) => match &*told {
                    Told::End => return None,
                    Told::Attempt(attempt) if self.takes(attempt) => {
                        // Strings and numbers always serialise.
                        return Event::default().event("attempt").json_data(attempt).ok().map(Ok);
                    }
                    Told::Attempt(_) => {}
                },
                Err(RecvError::Lagged(missed)) => {
                    // How much the others do is no affair of a tenant.
                    let missed = self.caller.engine.then_some(missed);
                    let data = missed.map_or("null".to_owned(), |it| it.to_string());
                    let data = format!("{{\"missed\":{data}}}");
                    return Some(Ok(Event::default().event("lagged").data(data)));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn takes(&self, attempt: &Attempted) -> bool {
        // Whose a source is may change while somebody listens.
        let is_own = self.caller.tenant.is_none()
            || (self.engine.upgrade())
                .is_some_and(|it| self.caller.sees_event(&it.snapshot(), &attempt.source));
        is_own
            && self.route.as_ref().is_none_or(|it| attempt.route == *it)
            && self.event_type.as_ref().is_none_or(|it| it.matches(&attempt.event_type))
            && self.status.is_none_or(|it| attempt.status == it.as_str())
    }
}
