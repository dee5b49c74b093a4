//! The admin listener: the delivery log over HTTP, resending, health and metrics.
//! It changes nothing by itself; what it asks, the queue does.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access;
use crate::clock::{self, UnixMs};
use crate::config::{Problem, Scope, nearest};
use crate::delivery::{DeliveryId, Status};
use crate::engine::Engine;
use crate::event::EventId;
use crate::metrics;
use crate::plugin::Component;
use crate::problem::HttpProblem;
use crate::queue::log::DeliveryFilter;
use crate::reload::{Reloaded, Reloader};
use crate::route::Route;

/// Rows of one page, unless asked for otherwise, and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 500;

/// The largest body of a request to this API.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What the handlers work with.
#[derive(Clone)]
struct Admin {
    engine: Arc<Engine>,
    /// None where the folder is not watched.
    reloader: Option<Reloader>,
}

impl FromRef<Admin> for Arc<Engine> {
    fn from_ref(admin: &Admin) -> Self {
        admin.engine.clone()
    }
}

/// The routes of the admin API.
pub(crate) fn router(engine: Arc<Engine>, reloader: Option<Reloader>) -> Router {
    let protected = Router::new()
        .route("/v1/deliveries", get(deliveries))
        .route("/v1/deliveries/{id}", get(delivery))
        .route("/v1/deliveries/{id}/resend", post(resend))
        .route("/v1/events/{id}", get(event))
        .route("/v1/plugins", get(plugins))
        .route("/v1/routes", get(routes))
        .route("/v1/reload", post(reload))
        .route("/metrics", get(prometheus))
        .layer(middleware::from_fn_with_state(engine.clone(), check_caller));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(protected)
        .fallback(async || HttpProblem::not_found("there is nothing at this path"))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(as_problem))
        .with_state(Admin { engine, reloader })
}

/// With tokens that may read or operate, one is needed; without, the listener is
/// on a loopback address, which `check` has made sure of.
async fn check_caller(State(engine): State<Arc<Engine>>, request: Request, next: Next) -> Response {
    let snapshot = engine.snapshot();
    if snapshot.hub.tokens.iter().any(|it| it.may(Scope::Read)) {
        let scope = if request.method().is_safe() { Scope::Read } else { Scope::Operate };
        if let Err(problem) = access::caller_with(&snapshot.hub, request.headers(), scope) {
            return problem.into_response();
        }
    }
    next.run(request).await
}

/// What the framework refuses by itself, in the form of all other refusals.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
    let is_problem = response.headers().get(header::CONTENT_TYPE) == Some(&PROBLEM);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let said = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX).await;
    let said = said.ok().and_then(|it| String::from_utf8(it.into()).ok()).unwrap_or_default();
    let detail = match said.as_str() {
        "" => status.canonical_reason().unwrap_or_default().to_lowercase(),
        said => said.to_owned(),
    };
    let mut problem = HttpProblem::new(status, detail).into_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    problem
}

/// `GET /v1/deliveries`: newest first, a page at a time.
async fn deliveries(
    State(engine): State<Arc<Engine>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, HttpProblem> {
    let filter = filter(parameters)?;
    let limit = filter.limit;
    let mut rows =
        engine.queue.log().deliveries(DeliveryFilter { limit: limit + 1, ..filter }).await?;
    // One row more than asked for tells whether there is a next page.
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|it| it.id.clone());
    Ok(Json(json!({ "data": rows, "next": next })))
}

/// `GET /v1/deliveries/{id}`: with every attempt.
async fn delivery(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, HttpProblem> {
    let id = parse_delivery(&id)?;
    let found = engine.queue.log().delivery(id).await?;
    let (row, attempts) = found.ok_or_else(|| no_such("delivery"))?;
    // The row's fields and, beside them, the attempts.
    let Ok(Value::Object(mut object)) = serde_json::to_value(row) else {
        return Err(HttpProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "a row is not an object"));
    };
    // `attempts` counts in the list; here it is the attempts themselves.
    object.insert("attempts".into(), json!(attempts));
    Ok(Json(Value::Object(object)))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Resend {
    as_new: bool,
}

/// `POST /v1/deliveries/{id}/resend`: a new delivery of the same event.
async fn resend(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    body: axum::body::Bytes,
) -> Result<impl IntoResponse, HttpProblem> {
    let id = parse_delivery(&id)?;
    let Resend { as_new } = match body.is_empty() {
        true => Resend::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| HttpProblem::bad_request(format!("the body: {error}")))?,
    };
    let resent = engine.queue.resend(id, as_new, clock::now()).await?;
    let answer = json!({
        "id": resent.delivery.to_string(),
        "event_id": resent.event.to_string(),
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// `GET /v1/events/{id}`: the event as it came in.
async fn event(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, HttpProblem> {
    let id: EventId = id.parse().map_err(|_| HttpProblem::bad_request("an event's id is evt_…"))?;
    let event = engine.queue.log().event(id).await?.ok_or_else(|| no_such("event"))?;
    let filter = DeliveryFilter { event: Some(id), limit: PAGE_MAX, ..DeliveryFilter::default() };
    let deliveries = engine.queue.log().deliveries(filter).await?;
    let attributes: serde_json::Map<String, Value> =
        (event.attributes.iter()).map(|(name, value)| (name.to_string(), json!(value))).collect();
    let data = match std::str::from_utf8(&event.data) {
        Ok(text) => json!({ "data": text }),
        Err(_) => {
            use base64::prelude::{BASE64_STANDARD, Engine as _};
            json!({ "data_base64": BASE64_STANDARD.encode(&event.data) })
        }
    };
    let mut answer = json!({
        "id": event.id.to_string(),
        "source": *event.source,
        "type": *event.event_type,
        "subject": event.subject,
        "time": event.time.to_string(),
        "attributes": attributes,
        "deliveries": deliveries,
    });
    if let (Value::Object(answer), Value::Object(data)) = (&mut answer, data) {
        answer.extend(data);
    }
    Ok(Json(answer))
}

/// `GET /v1/plugins`: what is loaded, and how the last reload went.
async fn plugins(State(admin): State<Admin>) -> Json<Value> {
    let snapshot = admin.engine.snapshot();
    let plugin = |it: &Arc<Component>| {
        let roles: Vec<_> = it.roles().iter().map(|it| it.as_str()).collect();
        json!({
            "name": it.name(),
            "version": it.description().version,
            "summary": it.description().summary,
            "roles": roles,
            "sha256": it.sha256(),
            "size_bytes": it.size_bytes(),
        })
    };
    let last = admin.reloader.and_then(|it| it.last());
    let last =
        last.map(|it| json!({ "at": it.at.to_string(), "problems": problems(&it.problems) }));
    let data: Vec<_> = snapshot.plugins.iter().map(plugin).collect();
    Json(json!({ "data": data, "snapshot": snapshot.number, "last_reload": last }))
}

/// `GET /v1/routes`: what is in force.
async fn routes(State(engine): State<Arc<Engine>>) -> Json<Value> {
    let snapshot = engine.snapshot();
    let mut routes: Vec<_> = snapshot.routes.iter().collect();
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    let route = |it: &Arc<Route>| {
        let types: Vec<_> = it.types.iter().map(ToString::to_string).collect();
        let from =
            it.from.as_ref().map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
        let seconds = |it: &std::time::Duration| it.as_secs_f64();
        json!({
            "name": *it.name,
            "from": from,
            "types": types,
            "plugins": it.plugins.split_whitespace().collect::<Vec<_>>(),
            "endpoint": {
                "url": *it.endpoint.url,
                "timeout_s": seconds(&it.endpoint.timeout),
                "concurrency": it.endpoint.concurrency,
                "rate_limit": it.endpoint.rate_limit.map(|it| it.to_string()),
            },
            "retry": {
                "schedule_s": it.retry.schedule.iter().map(seconds).collect::<Vec<_>>(),
                "jitter": it.retry.jitter,
            },
        })
    };
    let data: Vec<_> = routes.into_iter().map(route).collect();
    Json(json!({ "data": data, "snapshot": snapshot.number }))
}

/// `POST /v1/reload`: 200 and what changed, or 422 and every problem.
async fn reload(State(admin): State<Admin>) -> Result<Response, HttpProblem> {
    let nothing = || HttpProblem::unavailable("this engine does not watch its folder");
    let reloaded = match &admin.reloader {
        Some(reloader) => reloader.reload().await.ok_or_else(nothing)?,
        None => return Err(nothing()),
    };
    let (status, answer) = match reloaded {
        Reloaded::Published { snapshot, changes } => (
            StatusCode::OK,
            json!({
                "snapshot": snapshot,
                "added": changes.added,
                "changed": changes.changed,
                "removed": changes.removed,
            }),
        ),
        Reloaded::Unchanged { snapshot } => (StatusCode::OK, json!({ "snapshot": snapshot })),
        Reloaded::Refused(found) => {
            let detail = "the last good snapshot goes on";
            let problem = HttpProblem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
            return Ok(problem.with("problems", problems(&found)).into_response());
        }
    };
    Ok((status, Json(answer)).into_response())
}

fn problems(found: &[Problem]) -> Value {
    let problem = |it: &Problem| {
        json!({
            "file": it.file,
            "line": it.at.map(|(line, _)| line),
            "column": it.at.map(|(_, column)| column),
            "message": it.message,
        })
    };
    found.iter().map(problem).collect()
}

/// Ready when the store answers.
async fn ready(State(engine): State<Arc<Engine>>) -> Result<&'static str, HttpProblem> {
    engine.queue.log().counts().await?;
    Ok("ok\n")
}

async fn prometheus(State(engine): State<Arc<Engine>>) -> Result<Response, HttpProblem> {
    let text = metrics::render(&engine)
        .map_err(|_| HttpProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics"))?;
    const TYPE: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, TYPE)], text).into_response())
}

fn filter(parameters: Vec<(String, String)>) -> Result<DeliveryFilter, HttpProblem> {
    const NAMES: &[&str] = &[
        "status", "type", "subject", "source", "route", "endpoint", "event_id", "since", "until",
        "cursor", "limit",
    ];
    let mut filter = DeliveryFilter { limit: PAGE_DEFAULT, ..DeliveryFilter::default() };
    for (name, value) in parameters {
        let wrong =
            |wanted: &str| HttpProblem::bad_request(format!("{name}={value:?} is not {wanted}"));
        let time = || UnixMs::parse(&value).ok_or_else(|| wrong("an RFC 3339 time"));
        match name.as_str() {
            "status" => {
                let status = Status::from_name(&value);
                filter.status =
                    Some(status.ok_or_else(|| wrong("pending, delivered, filtered or dead"))?);
            }
            "type" => filter.event_type = Some(value),
            "subject" => filter.subject = Some(value),
            "source" => filter.source = Some(value),
            "route" => filter.route = Some(value),
            "endpoint" => filter.endpoint = Some(value),
            "event_id" => filter.event = Some(value.parse().map_err(|_| wrong("an id evt_…"))?),
            "since" => filter.since = Some(time()?),
            "until" => filter.until = Some(time()?),
            "cursor" => filter.before = Some(value.parse().map_err(|_| wrong("a cursor"))?),
            "limit" => {
                let limit = value.parse().ok().filter(|it| (1..=PAGE_MAX).contains(it));
                filter.limit = limit.ok_or_else(|| wrong("a number from 1 to 500"))?;
            }
            unknown => {
                let hint = match nearest(unknown, NAMES.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are {}", NAMES.join(", ")),
                };
                let detail = format!("unknown parameter `{unknown}`: {hint}");
                return Err(HttpProblem::bad_request(detail));
            }
        }
    }
    Ok(filter)
}

fn parse_delivery(id: &str) -> Result<DeliveryId, HttpProblem> {
    id.parse().map_err(|_| HttpProblem::bad_request("a delivery's id is dlv_…"))
}

fn no_such(what: &str) -> HttpProblem {
    HttpProblem::not_found(format!("there is no {what} of that id"))
}

impl IntoResponse for HttpProblem {
    fn into_response(self) -> Response {
        self.response().map(Body::new)
    }
}
