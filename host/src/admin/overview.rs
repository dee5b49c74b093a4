//! What is in force and how it does: plugins, routes, figures over time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::endpoints::Limits;
use super::list::{ByName, Page};
use super::query::{Asked, parsed};
use super::session::Caller;
use crate::clock;
use crate::config;
use crate::engine::Engine;
use crate::plugin::{Calls, Component};
use crate::problem::HttpProblem;
use crate::reload::Reloaded;
use crate::route::Route;
use crate::stream::{Interval, Of, Window};

/// What is in force, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct InForce<T> {
    data: Vec<T>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
    /// The number of the snapshot in force.
    snapshot: u64,
}

impl<T> InForce<T> {
    pub(super) fn of(page: Page<T>, snapshot: u64) -> Json<Self> {
        Json(Self { data: page.data, next: page.next, snapshot })
    }
}

/// A plugin that is loaded.
#[derive(Serialize, ToSchema)]
pub(super) struct Plugin {
    name: String,
    version: String,
    summary: String,
    /// Of `source`, `filter`, `transform`, `auth`, `webhook-api`.
    roles: Vec<&'static str>,
    /// Of the file.
    sha256: String,
    size_bytes: u64,
    /// Since it was loaded; only for those who run the engine.
    #[serde(flatten)]
    calls: Option<Calls>,
}

/// What is loaded, and how the last reload went.
#[derive(Serialize, ToSchema)]
pub(super) struct Plugins {
    data: Vec<Plugin>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
    /// The number of the snapshot in force.
    snapshot: u64,
    /// Only for those who run the engine.
    last_reload: Option<LastReload>,
}

/// The last reload, whatever it found.
#[derive(Serialize, ToSchema)]
struct LastReload {
    #[schema(format = DateTime)]
    at: String,
    /// Empty when it was put in force.
    problems: Vec<Problem>,
}

/// Something wrong in a file of the folder.
#[derive(Serialize, ToSchema)]
#[schema(as = FileProblem)]
struct Problem {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
}

/// Plugins that are loaded
#[utoipa::path(get, path = "/v1/plugins", tag = "in force", params(ByName),
    responses((status = 200, description = "What is loaded, and how the last reload went",
        body = Plugins)))]
pub(super) async fn plugins(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ByName>,
) -> Result<Json<Plugins>, HttpProblem> {
    let snapshot = admin.engine.snapshot();
    let plugin = |it: &&Arc<Component>| Plugin {
        name: it.name().to_string(),
        version: it.description().version.to_string(),
        summary: it.description().summary.to_string(),
        roles: it.roles().iter().map(|it| it.as_str()).collect(),
        sha256: it.sha256().to_string(),
        size_bytes: it.size_bytes() as u64,
        calls: caller.engine.then(|| it.calls()),
    };
    let Page { data, next } = query.page(&snapshot.plugins, |it| it.name(), plugin)?;
    let last = admin.reloader.filter(|_| caller.engine).and_then(|it| it.last());
    let last_reload =
        last.map(|it| LastReload { at: it.at.to_string(), problems: problems(&it.problems) });
    Ok(Json(Plugins { data, next, snapshot: snapshot.number, last_reload }))
}

/// A plugin and how it is used.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginDetail {
    name: String,
    version: String,
    summary: String,
    roles: Vec<&'static str>,
    /// JSON Schema.
    #[schema(value_type = Object)]
    settings_schema: serde_json::Value,
    secrets: Vec<SecretNeed>,
    /// Those it knows; empty when it takes any.
    event_types: Vec<String>,
    /// Its platform's delivery rules, in the keys of route files.
    #[schema(value_type = Object)]
    policy: BTreeMap<String, String>,
}

/// A secret that a plugin uses.
#[derive(Serialize, ToSchema)]
struct SecretNeed {
    name: String,
    required: bool,
    /// `text`, `base64`, `hex` or `standard-webhooks`
    encoding: &'static str,
    summary: String,
}

/// Which plugin.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path")]
pub(super) struct PluginPath {
    /// A plugin's name.
    name: String,
}

/// What a plugin says of itself
#[utoipa::path(get, path = "/v1/plugins/{name}", tag = "in force", params(PluginPath),
    responses(
        (status = 200, description = "The plugin", body = PluginDetail),
        (status = 404, description = "There is none of that name"),
    ))]
pub(super) async fn plugin(
    State(engine): State<Arc<Engine>>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Json<PluginDetail>, HttpProblem> {
    let snapshot = engine.snapshot();
    let plugin = snapshot.plugin(&name).ok_or_else(|| super::log::no_such("plugin"))?;
    let said = plugin.description();
    let secret = |it: &crate::plugin::SecretNeed| SecretNeed {
        name: it.name.clone(),
        required: it.required,
        encoding: it.encoding.as_str(),
        summary: it.summary.clone(),
    };
    Ok(Json(PluginDetail {
        name: plugin.name().to_string(),
        version: said.version.clone(),
        summary: said.summary.clone(),
        roles: plugin.roles().iter().map(|it| it.as_str()).collect(),
        settings_schema: said.settings_schema.clone(),
        secrets: said.secrets.iter().map(secret).collect(),
        event_types: said.event_types.clone(),
        policy: said.policy.iter().cloned().collect(),
    }))
}

/// A route in force.
#[derive(Serialize, ToSchema)]
#[schema(as = Route)]
pub(super) struct RouteRow {
    name: String,
    /// The sources it takes events from; null for every source.
    from: Option<Vec<String>>,
    types: Vec<String>,
    /// `name@version`
    plugins: Vec<String>,
    endpoint: Limits,
    retry: Retry,
}

/// When it is tried again.
#[derive(Serialize, ToSchema)]
struct Retry {
    schedule_s: Vec<f64>,
    jitter: f64,
}

/// Routes in force
#[utoipa::path(get, path = "/v1/routes", tag = "in force", params(ByName),
    responses((status = 200, description = "A page of routes", body = InForce<RouteRow>)))]
pub(super) async fn routes(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ByName>,
) -> Result<Json<InForce<RouteRow>>, HttpProblem> {
    let snapshot = engine.snapshot();
    let route = |it: &&Arc<Route>| RouteRow {
        name: it.name.to_string(),
        from: it.from.as_ref().map(|it| it.iter().map(ToString::to_string).collect()),
        types: it.types.iter().map(ToString::to_string).collect(),
        plugins: it.plugins.split_whitespace().map(str::to_owned).collect(),
        endpoint: Limits::of(&it.endpoint),
        retry: Retry {
            schedule_s: it.retry.schedule.iter().map(Duration::as_secs_f64).collect(),
            jitter: it.retry.jitter,
        },
    };
    let seen = snapshot.routes.iter().filter(|it| caller.sees(it.tenant.as_deref()));
    let page = query.page(seen, |it| &*it.name, route)?;
    Ok(InForce::of(page, snapshot.number))
}

/// Which figures.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    /// `15m` by ten seconds, unless given, or `24h` by ten minutes.
    #[param(pattern = "^(15m|24h)$")]
    window: Option<String>,
    /// Of one route; of all that the caller sees, unless given. The backlog is always of all.
    route: Option<String>,
}

/// Attempts over time. Counts are of this process; a tenant's are of its own events, and what is
/// under way or waits is of its own routes.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    /// `15m` or `24h`
    window: &'static str,
    interval_s: u64,
    /// When the process began to count.
    #[schema(format = DateTime)]
    counted_since: String,
    /// Oldest first; the last is under way.
    data: Vec<Interval>,
    attempts_under_way: u64,
    /// Deliveries that wait in the store, at most a second ago.
    backlog: u64,
    /// The most that waited in each interval of `data`; null where it was not counted.
    backlog_over_time: Vec<Option<u64>>,
}

/// Figures over time, for charts
#[utoipa::path(get, path = "/v1/stats", tag = "in force", params(StatsQuery),
    responses((status = 200, description = "Attempts over time", body = Stats)))]
pub(super) async fn stats(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<StatsQuery>,
) -> Result<Json<Stats>, HttpProblem> {
    let window = parsed("window", query.window.as_ref(), "15m or 24h", |text| match text {
        "15m" => Some(Window::Quarter),
        "24h" => Some(Window::Day),
        _ => None,
    })?;
    let window = window.unwrap_or(Window::Quarter);
    let engine = &admin.engine;
    let backlog = admin.backlog.now(engine).await?;
    let now = clock::now();
    let (snapshot, runs_it) = (engine.snapshot(), caller.engine);
    let is_own = |route: &str| {
        runs_it || snapshot.routes.known(route).is_some_and(|it| caller.sees(it.tenant.as_deref()))
    };
    let sources = caller.sources(&snapshot);
    let of = match query.route.as_deref() {
        None if runs_it => Of::All,
        None => Of::Sources(&sources),
        Some(route) if is_own(route) => Of::Route(route),
        // As one that nothing was ever sent by.
        Some(_) => Of::Route(""),
    };
    let under_way = match runs_it {
        true => engine.lanes.attempts_under_way(),
        false => {
            let own = snapshot.routes.iter().filter(|it| caller.sees(it.tenant.as_deref()));
            own.map(|it| engine.lanes.view(it).under_way).sum()
        }
    };
    let over_time = admin.backlog.over(window, now);
    Ok(Json(Stats {
        window: match window {
            Window::Quarter => "15m",
            Window::Day => "24h",
        },
        interval_s: window.step().as_secs(),
        counted_since: engine.stream.started.to_string(),
        data: engine.stream.series(window, of, now),
        attempts_under_way: under_way as u64,
        backlog: backlog.iter().filter(|it| is_own(&it.route)).map(|it| it.deliveries).sum(),
        // It is counted of all together.
        backlog_over_time: over_time.into_iter().map(|it| it.filter(|_| runs_it)).collect(),
    }))
}

/// Which files of the folder changed.
#[derive(Serialize, ToSchema)]
pub(super) struct Reload {
    /// The number of the snapshot in force.
    snapshot: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    added: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    changed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    removed: Option<Vec<String>>,
}

/// Read the folder again
#[utoipa::path(post, path = "/v1/reload", tag = "in force",
    responses(
        (status = 200, description = "In force; which files changed", body = Reload),
        (status = 422, description = "The last good snapshot goes on; `problems` says why"),
    ))]
pub(super) async fn reload(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, HttpProblem> {
    caller.must_run_the_engine()?;
    let nothing = || HttpProblem::unavailable("this engine does not watch its folder");
    let reloaded = match &admin.reloader {
        Some(reloader) => reloader.reload().await.ok_or_else(nothing)?,
        None => return Err(nothing()),
    };
    let files = |files: &[std::path::PathBuf]| {
        Some(files.iter().map(|it| it.display().to_string()).collect())
    };
    let answer = match reloaded {
        Reloaded::Published { snapshot, changes } => Reload {
            snapshot,
            added: files(&changes.added),
            changed: files(&changes.changed),
            removed: files(&changes.removed),
        },
        Reloaded::Unchanged { snapshot } => {
            Reload { snapshot, added: None, changed: None, removed: None }
        }
        Reloaded::Refused(found) => {
            let detail = "the last good snapshot goes on";
            let problem = HttpProblem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
            return Ok(problem.with("problems", json!(problems(&found))).into_response());
        }
    };
    Ok(Json(answer).into_response())
}

fn problems(found: &[config::Problem]) -> Vec<Problem> {
    let problem = |it: &config::Problem| Problem {
        file: it.file.display().to_string(),
        line: it.at.map(|(line, _)| line),
        column: it.at.map(|(_, column)| column),
        message: it.message.clone(),
    };
    found.iter().map(problem).collect()
}
