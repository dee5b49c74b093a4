//! The admin listener: the delivery log over HTTP, steering, health and metrics.
//! It changes nothing by itself; what it asks, the queue does.

mod endpoints;
mod health;
mod list;
mod log;
mod openapi;
mod overview;
mod query;
mod recover;
mod steer;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access;
use crate::config::Scope;
use crate::engine::Engine;
use crate::problem::HttpProblem;
use crate::reload::Reloader;

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
    backlog: Arc<Mutex<overview::LastBacklog>>,
}

impl FromRef<Admin> for Arc<Engine> {
    fn from_ref(admin: &Admin) -> Self {
        admin.engine.clone()
    }
}

/// The routes of the admin API.
pub(crate) fn router(engine: Arc<Engine>, reloader: Option<Reloader>) -> Router {
    let described = OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(log::events))
        .routes(routes!(log::event))
        .routes(routes!(log::deliveries))
        .routes(routes!(log::delivery))
        .routes(routes!(steer::resend))
        .routes(routes!(steer::cancel))
        .routes(routes!(recover::begin))
        .routes(routes!(recover::show, recover::cancel))
        .routes(routes!(stream::stream))
        .routes(routes!(overview::stats))
        .routes(routes!(endpoints::endpoints))
        .routes(routes!(endpoints::disable))
        .routes(routes!(endpoints::enable))
        .routes(routes!(endpoints::test))
        .routes(routes!(overview::routes))
        .routes(routes!(overview::plugins))
        .routes(routes!(overview::reload))
        .routes(routes!(health::prometheus));
    let (protected, api) = described.split_for_parts();
    let protected = protected.layer(middleware::from_fn_with_state(engine.clone(), check_caller));
    let open = OpenApiRouter::with_openapi(api)
        .routes(routes!(health::alive))
        .routes(routes!(health::ready));
    let (open, api) = open.split_for_parts();
    let text = openapi::text(api);
    let document = async move || ([(header::CONTENT_TYPE, "application/json")], text.clone());
    open.route("/openapi.json", axum::routing::get(document))
        .merge(protected)
        .fallback(async || HttpProblem::not_found("there is nothing at this path"))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(as_problem))
        .with_state(Admin { engine, reloader, backlog: Arc::default() })
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

impl IntoResponse for HttpProblem {
    fn into_response(self) -> Response {
        self.response().map(Body::new)
    }
}
