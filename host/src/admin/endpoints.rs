//! Endpoints: their limits, how they do, switching one off and on, trying one.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::list::ByName;
use super::overview::InForce;
use super::query::Asked;
use super::session::Caller;
use super::steer::{Resent, json_or_default};
use crate::clock;
use crate::endpoint::{BreakerRule, Endpoint};
use crate::engine::Engine;
use crate::event::{Event, MEDIA_TYPE, TypePattern};
use crate::lane::View;
use crate::operational;
use crate::problem::HttpProblem;
use crate::queue::NewEvent;
use crate::queue::log::Backlog;
use crate::route::{DEFAULT_TENANT, Route};
use crate::stream::Recently;

/// An endpoint's URL and limits.
#[derive(Serialize, ToSchema)]
pub(super) struct Limits {
    url: String,
    timeout_s: f64,
    concurrency: u32,
    /// Such as `60/m`.
    rate_limit: Option<String>,
    /// `none`, `subject` or `endpoint`: which deliveries follow each other one by one.
    order: &'static str,
    /// When it is left alone for a while; null for never.
    breaker: Option<Breaker>,
    /// For how long it may only fail before it is disabled; null for ever.
    disable_after_s: Option<f64>,
    /// Where its OAuth 2 tokens come from.
    token_url: Option<String>,
    /// It trusts certificates of its own instead of the system's.
    own_ca: bool,
    /// It is shown a certificate of ours.
    client_certificate: bool,
    /// The proxy it is called through.
    proxy: Option<String>,
}

/// Below that share of successes among so many attempts, it gets a rest.
#[derive(Serialize, ToSchema)]
struct Breaker {
    window_s: f64,
    requests: u32,
    success_ratio: f64,
    rest_s: f64,
}

impl Limits {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let breaker = |it: BreakerRule| Breaker {
            window_s: it.window.as_secs_f64(),
            requests: it.requests,
            success_ratio: it.success_ratio,
            rest_s: it.rest.as_secs_f64(),
        };
        Self {
            url: endpoint.url.to_string(),
            timeout_s: endpoint.timeout.as_secs_f64(),
            concurrency: endpoint.concurrency,
            rate_limit: endpoint.rate_limit.map(|it| it.to_string()),
            order: endpoint.order.as_str(),
            breaker: endpoint.breaker.map(breaker),
            disable_after_s: endpoint.disable_after.map(|it| it.as_secs_f64()),
            token_url: endpoint.grant.as_ref().map(|it| it.token_url.to_string()),
            own_ca: endpoint.client.tls.trust.is_some(),
            client_certificate: endpoint.client.tls.identity.is_some(),
            proxy: endpoint.client.proxy.as_ref().map(|it| it.uri.to_string()),
        }
    }
}

/// A route's endpoint and how it does. Counts are of this process.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(super) struct EndpointRow {
    route: String,
    #[serde(flatten)]
    limits: Limits,
    /// `ok`, `failing`, `resting` or `disabled`
    health: &'static str,
    /// Since when it only fails.
    #[schema(format = DateTime)]
    failing_since: Option<String>,
    /// A pause of the whole lane.
    rest: Option<RestRow>,
    /// It is not called until somebody enables it.
    disabled: Option<DisabledRow>,
    /// Attempts under way, and how many at once are made at the moment.
    under_way: u64,
    pace: u64,
    /// Deliveries of this route in memory.
    in_hand: u64,
    /// In the breaker's window; null without attempts.
    success_ratio: Option<f64>,
    #[serde(flatten)]
    recently: Recently,
    /// Deliveries that wait in the store, at most a second ago.
    backlog: u64,
    /// When the oldest of them was made.
    #[schema(format = DateTime)]
    oldest_waiting_at: Option<String>,
}

/// Why there are no attempts at the moment.
#[derive(Serialize, ToSchema)]
#[schema(as = Rest)]
struct RestRow {
    /// `breaker`, `busy` or `quarantine`
    cause: &'static str,
    #[schema(format = DateTime)]
    until: String,
}

/// Why there are none at all.
#[derive(Serialize, ToSchema)]
#[schema(as = Disabled)]
struct DisabledRow {
    #[schema(format = DateTime)]
    since: String,
    reason: String,
}

fn row(
    engine: &Engine,
    route: &Arc<Route>,
    waiting: Option<&Backlog>,
    now: clock::UnixMs,
) -> EndpointRow {
    let View { in_hand, under_way, pace, rest, disabled, failing_since, success_ratio } =
        engine.lanes.view(route);
    let health = match (&disabled, &rest, &failing_since) {
        (Some(_), _, _) => "disabled",
        (None, Some(_), _) => "resting",
        (None, None, Some(_)) => "failing",
        (None, None, None) => "ok",
    };
    EndpointRow {
        route: route.name.to_string(),
        limits: Limits::of(&route.endpoint),
        health,
        failing_since: failing_since.map(|it| it.to_string()),
        rest: rest.map(|it| RestRow { cause: it.cause.as_str(), until: it.until.to_string() }),
        disabled: disabled
            .map(|it| DisabledRow { since: it.since.to_string(), reason: it.reason.to_string() }),
        under_way: under_way as u64,
        pace: pace as u64,
        in_hand: in_hand as u64,
        success_ratio: success_ratio.map(|(ratio, _)| ratio),
        recently: engine.stream.recently(&route.name, now),
        backlog: waiting.map_or(0, |it| it.deliveries),
        oldest_waiting_at: waiting.map(|it| it.oldest.to_string()),
    }
}

/// Endpoints in force and how they do
#[utoipa::path(get, path = "/v1/endpoints", tag = "in force", params(ByName),
    responses((status = 200, description = "A page of endpoints", body = InForce<EndpointRow>)))]
pub(super) async fn endpoints(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ByName>,
) -> Result<Json<InForce<EndpointRow>>, HttpProblem> {
    let backlog = admin.backlog.now(&admin.engine).await?;
    let waiting: HashMap<&str, &Backlog> =
        backlog.iter().map(|it| (it.route.as_str(), it)).collect();
    let (snapshot, now) = (admin.engine.snapshot(), clock::now());
    let endpoint = |it: &&Arc<Route>| row(&admin.engine, it, waiting.get(&*it.name).copied(), now);
    let seen = snapshot.routes.iter().filter(|it| caller.sees(it.tenant.as_deref()));
    let page = query.page(seen, |it| &*it.name, endpoint)?;
    Ok(InForce::of(page, snapshot.number))
}

/// Whose endpoint.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path")]
pub(super) struct RoutePath {
    /// A route's name.
    route: String,
}

/// Why it is switched off.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Disable {
    /// For whoever finds it so; `switched off by hand` unless given.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// How it is now.
#[derive(Serialize, ToSchema)]
pub(super) struct Switched {
    route: String,
    /// False when it was so already.
    changed: bool,
}

/// A reason is a sentence.
const REASON_CHARS_MAX: usize = 500;

/// Call an endpoint no more: what is promised to it becomes a dead letter
#[utoipa::path(post, path = "/v1/endpoints/{route}/disable", tag = "steer", params(RoutePath),
    request_body(content = Option<Disable>),
    responses(
        (status = 200, description = "It is disabled", body = Switched),
        (status = 404, description = "There is no such route"),
        (status = 413, description = "The body is too large"),
    ))]
pub(super) async fn disable(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(route): Path<String>,
    body: Bytes,
) -> Result<Json<Switched>, HttpProblem> {
    let Disable { reason } = json_or_default(&body)?;
    let reason = reason.as_deref().unwrap_or("switched off by hand");
    if reason.chars().count() > REASON_CHARS_MAX {
        let detail = format!("reason: more than {REASON_CHARS_MAX} characters");
        return Err(HttpProblem::bad_request(detail));
    }
    switch(&engine, &caller, &route, Some(reason)).await
}

/// Call an endpoint again
#[utoipa::path(post, path = "/v1/endpoints/{route}/enable", tag = "steer", params(RoutePath),
    responses(
        (status = 200, description = "It is enabled", body = Switched),
        (status = 404, description = "There is no such route"),
    ))]
pub(super) async fn enable(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(route): Path<String>,
) -> Result<Json<Switched>, HttpProblem> {
    switch(&engine, &caller, &route, None).await
}

async fn switch(
    engine: &Engine,
    caller: &Caller,
    route: &str,
    disable: Option<&str>,
) -> Result<Json<Switched>, HttpProblem> {
    let route = named(engine, caller, route)?;
    let changed = engine.lanes.switch(&route, disable).await?;
    Ok(Json(Switched { route: route.name.to_string(), changed }))
}

fn named(engine: &Engine, caller: &Caller, route: &str) -> Result<Arc<Route>, HttpProblem> {
    let nothing = || HttpProblem::not_found("there is no route of that name");
    let snapshot = engine.snapshot();
    let found = snapshot.routes.get(route).filter(|it| caller.sees(it.tenant.as_deref()));
    found.cloned().ok_or_else(nothing)
}

/// What to send.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Trial {
    /// The first type that the route names, unless given.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 256)]
    event_type: Option<String>,
    #[schema(max_length = 1024)]
    subject: Option<String>,
    /// Any JSON; `{"test":true}` unless given.
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
}

/// Send a test event by this route alone
#[utoipa::path(post, path = "/v1/endpoints/{route}/test", tag = "steer", params(RoutePath),
    request_body(content = Option<Trial>),
    responses(
        (status = 202, description = "The delivery is on disk", body = Resent),
        (status = 404, description = "There is no such route"),
        (status = 413, description = "The body is too large"),
    ))]
pub(super) async fn test(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(route): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Resent>), HttpProblem> {
    let route = named(&engine, &caller, &route)?;
    let Trial { event_type, subject, data } = json_or_default(&body)?;
    let event_type = event_type.or_else(|| {
        route.types.iter().find_map(|it| match it {
            TypePattern::Exactly(name) => Some(name.to_string()),
            TypePattern::StartingWith(_) => None,
        })
    });
    let event_type = event_type.unwrap_or_else(|| TEST_TYPE.to_owned());
    let too_long = |what: &str, text: &str, max: usize| match text.is_empty() || text.len() > max {
        true => Err(HttpProblem::bad_request(format!("{what}: from 1 to {max} bytes"))),
        false => Ok(()),
    };
    too_long("type", &event_type, TYPE_BYTES_MAX)?;
    if let Some(subject) = &subject {
        too_long("subject", subject, SUBJECT_BYTES_MAX)?;
    }
    let now = clock::now();
    let event = Arc::new(Event {
        id: engine.queue.next_event_id(now),
        source: operational::source_of(route.tenant.as_deref().unwrap_or(DEFAULT_TENANT)),
        event_type: event_type.into(),
        subject: subject.map(Into::into),
        time: now,
        attributes: vec![(MEDIA_TYPE.into(), "application/json".into())],
        data: data.map_or("{\"test\":true}".into(), |it| String::from(Box::<str>::from(it)).into()),
    });
    let slot = engine.lanes.admit(&route, event.data.len());
    let delivery = engine.promise(&route, &event, slot, now);
    let tried = Resent { id: delivery.id.to_string(), event_id: event.id.to_string() };
    let event = NewEvent { event, duplicate_key: None, deliveries: vec![delivery] };
    engine.queue.accept(vec![event]).await?;
    Ok((StatusCode::ACCEPTED, Json(tried)))
}

/// The type of a test by a route that names none.
const TEST_TYPE: &str = "plugpost.test";

/// As for events that come in.
const TYPE_BYTES_MAX: usize = 256;
const SUBJECT_BYTES_MAX: usize = 1024;
