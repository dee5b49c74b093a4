//! Is it well, and what has it done: for load balancers and Prometheus.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::session::Caller;
use crate::engine::Engine;
use crate::metrics;
use crate::problem::HttpProblem;

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It is", body = String)), security(()))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Does the store answer?
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, description = "It does", body = String)), security(()))]
pub(super) async fn ready(State(engine): State<Arc<Engine>>) -> Result<&'static str, HttpProblem> {
    engine.queue.log().answers().await?;
    Ok("ok\n")
}

/// Counters and gauges, as OpenMetrics
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Everything that is counted", body = String,
        content_type = "application/openmetrics-text")))]
pub(super) async fn prometheus(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, HttpProblem> {
    caller.must_run_the_engine()?;
    let backlog = admin.backlog.now(&admin.engine).await?;
    let nodes = admin.engine.queue.nodes().await?;
    let text = metrics::render(&admin.engine, &backlog, &nodes)
        .map_err(|_| HttpProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics"))?;
    const TYPE: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, TYPE)], text).into_response())
}
