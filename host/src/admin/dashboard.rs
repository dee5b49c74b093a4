//! The dashboard: files of `host/dashboard`, in the binary. They hold no data; what they show
//! they ask the API, as any caller does.

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sha2::{Digest as _, Sha256};

use super::{Admin, portal, session};
use crate::problem::HttpProblem;

/// Every address that is a page; which one, the page sees itself.
const PAGES: [&str; 13] = [
    "/",
    "/login",
    "/portal",
    "/deliveries",
    "/deliveries/{id}",
    "/events",
    "/events/{id}",
    "/routes",
    "/subscriptions",
    "/subscriptions/{id}",
    "/endpoints",
    "/plugins",
    "/tail",
];

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../dashboard/", $name)))),*] };
}

const FILES: [(&str, &str); 27] = files![
    "index.html",
    "icon.svg",
    "base.css",
    "parts.css",
    "pages.css",
    "app.js",
    "api.js",
    "chart.js",
    "diff.js",
    "dom.js",
    "format.js",
    "keys.js",
    "live.js",
    "parts.js",
    "pages/deliveries.js",
    "pages/delivery.js",
    "pages/endpoints.js",
    "pages/event.js",
    "pages/events.js",
    "pages/login.js",
    "pages/overview.js",
    "pages/plugins.js",
    "pages/portal.js",
    "pages/routes.js",
    "pages/subscription.js",
    "pages/subscriptions.js",
    "pages/tail.js",
];

/// Scripts and styles only from here, and no text becomes markup or code: what an event
/// holds is hostile until the contrary is shown.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
    form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'";

pub(super) fn router() -> Router<Admin> {
    let mut router = Router::new()
        .route("/assets/{*name}", get(asset))
        .route("/login", post(session::login))
        .route("/portal", post(portal::open))
        .route("/logout", post(session::logout));
    for page in PAGES {
        router = router.route(page, get(async |headers: HeaderMap| file(&headers, "index.html")));
    }
    router
}

async fn asset(headers: HeaderMap, Path(name): Path<String>) -> Response {
    file(&headers, &name)
}

fn file(headers: &HeaderMap, name: &str) -> Response {
    let Some((name, text)) = FILES.iter().find(|(it, _)| *it == name) else {
        return HttpProblem::not_found("there is no such file").into_response();
    };
    let media_type = match name.rsplit_once('.').map_or("", |(_, it)| it) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(text)[..16]));
    let fixed = [(CACHE_CONTROL, "no-cache"), (ETAG, &tag)];
    match headers.get(IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == tag.as_bytes()) {
        true => (StatusCode::NOT_MODIFIED, fixed).into_response(),
        false => (fixed, [(CONTENT_TYPE, media_type)], *text).into_response(),
    }
}

/// Headers of every answer of the listener: an answer of the API that a browser opens as
/// a page is no more trusted than the dashboard.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "same-origin"),
        (OPENER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
