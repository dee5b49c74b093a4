//! `/v1/recover`: a range is sent again in the background.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::log::{no_such, status};
use super::query::moment;
use super::session::Caller;
use super::steer::json;
use crate::clock::{id_from_text, id_text};
use crate::delivery::Status;
use crate::engine::Engine;
use crate::problem::HttpProblem;
use crate::queue::log::{DeliveryFilter, EventFilter};
use crate::recover::{Progress, Run};

/// What to send again: of a route, of an endpoint, or of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// A route's name; this or `endpoint` is needed.
    #[serde(default, deserialize_with = "given")]
    #[schema(min_length = 1, nullable = false)]
    route: Option<String>,
    /// An endpoint's URL; this or `route` is needed.
    #[serde(default, deserialize_with = "given")]
    #[schema(min_length = 1, nullable = false)]
    endpoint: Option<String>,
    /// Deliveries made from then on.
    #[schema(format = DateTime)]
    since: String,
    /// Deliveries made before then; now, unless given.
    #[serde(default, deserialize_with = "given")]
    #[schema(format = DateTime, nullable = false)]
    until: Option<String>,
    /// `dead`, unless given; `pending` ones are sent anyway.
    #[serde(default, deserialize_with = "given")]
    #[schema(pattern = "^(delivered|filtered|dead)$", nullable = false)]
    status: Option<String>,
}

/// A member may be left out, but null is no value.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value).map(Some)
}

/// How far a recovery has come.
#[derive(Serialize, ToSchema)]
pub(super) struct Recovery {
    /// `rcv_…`
    id: String,
    /// `running`, `done`, `cancelled` or `failed`
    state: &'static str,
    #[schema(format = DateTime)]
    started_at: String,
    /// New deliveries it made.
    resent: u64,
    /// Not sent again: their data was pruned.
    skipped: u64,
    /// When the last delivery that it looked at was made; a new recovery from there on takes up
    /// the rest.
    #[schema(format = DateTime)]
    reached: Option<String>,
    /// Why it failed.
    error: Option<String>,
}

/// Which recovery.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path")]
pub(super) struct RecoveryPath {
    /// A recovery's id.
    #[param(pattern = "^rcv_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    id: String,
}

const PREFIX: &str = "rcv_";

impl Recovery {
    fn of(run: &Run) -> Self {
        let Progress { state, resent, skipped, error } = run.progress();
        Self {
            id: format!("{PREFIX}{}", id_text(run.number)),
            state: state.as_str(),
            started_at: run.started.to_string(),
            resent,
            skipped,
            reached: run.reached().map(|it| it.to_string()),
            error,
        }
    }
}

/// Send a range of deliveries again, in the background
///
/// No delivery is sent again twice by one recovery. A recovery ends with the process; what it
/// has sent stays, and a new one from `reached` on takes up the rest.
#[utoipa::path(post, path = "/v1/recover", operation_id = "recover", tag = "steer",
    request_body = Range,
    responses(
        (status = 202, description = "It has begun", body = Recovery),
        (status = 404, description = "The route is another tenant's"),
        (status = 413, description = "The body is too large"),
        (status = 429, description = "Too many are under way"),
    ))]
pub(super) async fn begin(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<(StatusCode, Json<Recovery>), HttpProblem> {
    let range: Range = json(&body)?;
    if range.route.is_none() && range.endpoint.is_none() {
        return Err(HttpProblem::bad_request("`route` or `endpoint` is needed"));
    }
    if range.route.iter().chain(&range.endpoint).any(String::is_empty) {
        return Err(HttpProblem::bad_request("`route` and `endpoint` are not empty"));
    }
    if let Some(route) = &range.route {
        let snapshot = engine.snapshot();
        let is_there = match snapshot.routes.known(route).map(|it| it.tenant.as_deref()) {
            Some(tenant) => tenant.is_none() || caller.sees(tenant),
            // One that is gone has left deliveries behind; whose it was nobody knows any more.
            None => caller.engine,
        };
        if !is_there {
            return Err(HttpProblem::not_found("there is no route of that name"));
        }
    }
    let status = status(range.status.as_ref())?.unwrap_or(Status::Dead);
    if status == Status::Pending {
        return Err(HttpProblem::bad_request("what is pending is sent anyway"));
    }
    let filter = DeliveryFilter {
        of: EventFilter {
            since: moment("since", Some(&range.since))?,
            until: moment("until", range.until.as_ref())?,
            sources: caller.sources(&engine.snapshot()),
            ..EventFilter::default()
        },
        status: Some(status),
        route: range.route,
        endpoint: range.endpoint,
        event: None,
    };
    let run = engine.recoveries.begin(&engine, filter, caller.tenant).ok_or_else(|| {
        let detail = "too many recoveries are under way: wait for one, or cancel it";
        HttpProblem::new(StatusCode::TOO_MANY_REQUESTS, detail)
    })?;
    Ok((StatusCode::ACCEPTED, Json(Recovery::of(&run))))
}

/// How far a recovery has come
#[utoipa::path(get, path = "/v1/recover/{id}", operation_id = "recovery", tag = "steer",
    params(RecoveryPath),
    responses(
        (status = 200, description = "The recovery", body = Recovery),
        (status = 404, description = "There is none of that id in this process"),
    ))]
pub(super) async fn show(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Recovery>, HttpProblem> {
    Ok(Json(Recovery::of(&*find(&engine, &caller, &id)?)))
}

/// End a recovery after the batch under way
#[utoipa::path(delete, path = "/v1/recover/{id}", operation_id = "cancel_recovery", tag = "steer",
    params(RecoveryPath),
    responses(
        (status = 200, description = "How far it came", body = Recovery),
        (status = 404, description = "There is none of that id in this process"),
    ))]
pub(super) async fn cancel(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Recovery>, HttpProblem> {
    let run = find(&engine, &caller, &id)?;
    run.cancel();
    Ok(Json(Recovery::of(&run)))
}

fn find(engine: &Engine, caller: &Caller, id: &str) -> Result<Arc<Run>, HttpProblem> {
    let number = id.strip_prefix(PREFIX).and_then(id_from_text);
    let number = number.ok_or_else(|| HttpProblem::bad_request("a recovery's id is rcv_…"))?;
    let run = engine.recoveries.get(number).filter(|it| caller.sees(it.tenant.as_deref()));
    run.ok_or_else(|| no_such("recovery"))
}
