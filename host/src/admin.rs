//! The admin listener: the delivery log over HTTP, steering, health and metrics.
//! It changes nothing by itself; what it asks, the queue does.

mod backlog;
mod dashboard;
mod endpoints;
mod health;
mod list;
mod log;
mod nodes;
mod openapi;
mod origin;
mod overview;
mod portal;
mod query;
mod recover;
mod session;
mod steer;
mod stream;
mod subscriptions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access;
use crate::config::Scope;
use crate::engine::Engine;
use crate::problem::HttpProblem;
use crate::reload::Reloader;
use session::Caller;

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
    backlog: Arc<backlog::Backlogs>,
    /// Ends with the process.
    sessions: Arc<session::Sessions>,
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
        .routes(routes!(overview::plugin))
        .routes(routes!(overview::reload))
        .routes(routes!(nodes::list))
        .routes(routes!(subscriptions::list, subscriptions::create))
        .routes(routes!(
            subscriptions::show,
            subscriptions::replace,
            subscriptions::amend,
            subscriptions::delete
        ))
        .routes(routes!(subscriptions::rotate))
        .routes(routes!(portal::make))
        .routes(routes!(session::show))
        .routes(routes!(health::prometheus));
    let (protected, api) = described.split_for_parts();
    let admin = Admin { engine, reloader, backlog: Arc::default(), sessions: Arc::default() };
    admin.backlog.keep_counting(&admin.engine);
    let protected = protected.layer(middleware::from_fn_with_state(admin.clone(), check_caller));
    let open = OpenApiRouter::with_openapi(api)
        .routes(routes!(health::alive))
        .routes(routes!(health::ready));
    let (open, api) = open.split_for_parts();
    let text = openapi::text(api);
    let document = async move || ([(header::CONTENT_TYPE, "application/json")], text.clone());
    open.route("/openapi.json", axum::routing::get(document))
        .merge(protected)
        .merge(dashboard::router())
        .fallback(async || HttpProblem::not_found("there is nothing at this path"))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(as_problem))
        .layer(middleware::from_fn(dashboard::guard))
        .with_state(admin)
}

/// With tokens that may read or operate, one is needed, or a cookie that stands for one;
/// without, the listener is on a loopback address, which `check` has made sure of. No other
/// site's page is answered.
async fn check_caller(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let caller = match caller(&admin, &request) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn caller(admin: &Admin, request: &Request) -> Result<Caller, HttpProblem> {
    let snapshot = admin.engine.snapshot();
    let (hub, headers) = (&snapshot.hub, request.headers());
    let token_needed = hub.tokens.iter().any(|it| it.may(Scope::Read));
    origin::check(headers, token_needed)?;
    if !token_needed {
        return Ok(Caller::anybody());
    }
    let scope = if request.method().is_safe() { Scope::Read } else { Scope::Operate };
    if !headers.contains_key(header::AUTHORIZATION)
        && let Some(caller) = admin.sessions.caller(hub, headers, scope)
    {
        return caller;
    }
    Ok(Caller::of(access::caller_with(hub, headers, scope)?))
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
