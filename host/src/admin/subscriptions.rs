//! `/v1/subscriptions`: routes made at run time. A caller sees and changes those of
//! its own tenant; another tenant's are not there. Secrets go in and do not come out.

mod form;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::list::Page;
use super::log::no_such;
use super::query::{Asked, limit, parsed, wrong};
use super::session::Caller;
use crate::clock::{self, UnixMs};
use crate::config::parse_duration;
use crate::engine::{Engine, NotKept};
use crate::event::TypePattern;
use crate::problem::HttpProblem;
use crate::route::DEFAULT_TENANT;
use crate::snapshot::Wrong;
use crate::subscription::{Form, SecretVersion, Staged, Subscription, SubscriptionId};
use form::{Said, Secret, Subscribe};

/// A route made at run time.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(super) struct Row {
    /// `sub_…`; also the name of the route that it is.
    id: String,
    /// Counts up within the tenant.
    number: u64,
    tenant: String,
    name: Option<String>,
    description: Option<String>,
    /// The sources it takes events from; empty for every source.
    from: Vec<String>,
    types: Vec<String>,
    url: String,
    /// False when it is switched off, by its owner or by the engine; `disabled` says which.
    active: bool,
    /// Why the engine does not call the endpoint; `active: true` enables it again.
    disabled: Option<Off>,
    /// Why its deliveries wait: its plugin is gone, or refuses its settings.
    rests: Option<String>,
    /// Such as `60/m`; null for the platform's own.
    rate_limit: Option<String>,
    /// The plugin whose transform, signature and policy it has; null sends what came in.
    platform: Option<String>,
    #[schema(value_type = Object)]
    settings: Value,
    /// The names of headers sent with every request.
    headers: Vec<String>,
    secrets: Vec<SecretRow>,
    /// What the platform's own API noted.
    #[schema(value_type = Object)]
    attributes: Value,
    /// The token that made it; null where none was needed.
    made_by: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Why an endpoint is not called.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchedOff)]
struct Off {
    #[schema(format = DateTime)]
    since: String,
    reason: String,
}

/// A secret, without its value.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionSecret)]
struct SecretRow {
    name: String,
    /// How many are used at once.
    versions: usize,
    /// When the first of the older ones has had its time.
    #[schema(format = DateTime)]
    until: Option<String>,
}

impl Row {
    fn of(engine: &Engine, it: &Subscription) -> Self {
        let form = it.form.clone();
        let secret = |(name, versions): (&String, &Vec<SecretVersion>)| SecretRow {
            name: name.clone(),
            versions: versions.len(),
            until: versions.iter().filter_map(|it| it.until).min().map(|it| it.to_string()),
        };
        let off = engine.switched_off(it.id);
        let snapshot = engine.snapshot();
        let live = snapshot.routes.subscribed.get(it.id);
        Self {
            id: it.id.to_string(),
            number: it.number,
            tenant: it.tenant.to_string(),
            headers: form.headers.keys().cloned().collect(),
            secrets: form.secrets.iter().map(secret).collect(),
            name: form.name,
            description: form.description,
            from: form.from,
            types: form.types,
            url: form.url,
            active: form.active,
            disabled: off
                .map(|it| Off { since: it.since.to_string(), reason: it.reason.to_string() }),
            rests: live.and_then(|it| it.route.rests.as_ref()).map(ToString::to_string),
            rate_limit: form.rate_limit,
            platform: form.platform,
            settings: form.settings,
            attributes: json!(form.attributes),
            made_by: Some(it.made_by.to_string()).filter(|it| !it.is_empty()),
            created_at: it.created.to_string(),
            updated_at: it.updated.to_string(),
        }
    }
}

/// Which subscriptions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Of one tenant; for callers who see all of them.
    tenant: Option<String>,
    /// Of one plugin.
    platform: Option<String>,
    /// Those that take this event type.
    #[serde(rename = "type")]
    #[param(min_length = 1)]
    event_type: Option<String>,
    /// Switched on, or off.
    #[param(pattern = "^(true|false)$")]
    active: Option<String>,
    /// `next` of the page before.
    #[param(pattern = "^sub_[0-9a-f][0-9a-hjkmnp-tv-z]{12}[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    cursor: Option<String>,
    /// Rows of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<String>,
}

/// Subscriptions, newest first
#[utoipa::path(get, path = "/v1/subscriptions", tag = "subscriptions", params(ListQuery),
    responses((status = 200, description = "A page of subscriptions", body = Page<Row>)))]
pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<Row>>, HttpProblem> {
    let limit = limit(query.limit.as_ref())?;
    let active = parsed("active", query.active.as_ref(), "true or false", |it| it.parse().ok())?;
    let before = parsed("cursor", query.cursor.as_ref(), "a subscription's id", |it| {
        it.parse::<SubscriptionId>().ok()
    })?;
    if let (Some(own), Some(asked)) = (&caller.tenant, &query.tenant)
        && own != asked
    {
        return Err(HttpProblem::forbidden("this is not the caller's own tenant"));
    }
    let event_type = query.event_type.as_deref();
    if event_type == Some("") {
        return Err(wrong("type", "", "an event type"));
    }
    let tenant = caller.tenant.as_ref().or(query.tenant.as_ref());
    let snapshot = engine.snapshot();
    let subscribed = &snapshot.routes.subscribed;
    let mut ids: Vec<SubscriptionId> = match tenant {
        Some(tenant) => subscribed.of_tenant(tenant).map(|it| it.subscription.id).collect(),
        None => subscribed.iter().map(|it| it.subscription.id).collect(),
    };
    ids.retain(|it| before.is_none_or(|before| *it < before));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let is_wanted = |it: &Subscription| {
        query.platform.as_ref().is_none_or(|wanted| it.form.platform.as_ref() == Some(wanted))
            && event_type.is_none_or(|wanted| takes(it, wanted))
            && active.is_none_or(|wanted: bool| it.form.active == wanted)
    };
    let found = ids.into_iter().filter_map(|it| engine.subscription(it)).filter(|it| is_wanted(it));
    let rows = found.take(limit + 1).map(|it| Row::of(&engine, &it)).collect();
    Ok(Json(Page::of(rows, limit, |it: &Row| it.id.clone())))
}

fn takes(it: &Subscription, event_type: &str) -> bool {
    let patterns = it.form.types.iter().filter_map(|it| TypePattern::parse(it).ok());
    patterns.into_iter().any(|it| it.matches(event_type))
}

/// Which subscription.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path")]
pub(super) struct SubscriptionPath {
    /// A subscription's id.
    #[param(pattern = "^sub_[0-9a-f][0-9a-hjkmnp-tv-z]{12}[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    id: String,
}

/// A secret of a subscription.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path")]
pub(super) struct SecretPath {
    /// A subscription's id.
    #[param(pattern = "^sub_[0-9a-f][0-9a-hjkmnp-tv-z]{12}[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    id: String,
    /// The secret's name, as the plugin has it.
    name: String,
}

/// Make a subscription: on disk and in force when it is answered
#[utoipa::path(post, path = "/v1/subscriptions", operation_id = "subscribe", tag = "subscriptions",
    request_body = Subscribe,
    responses(
        (status = 201, description = "It is in force", body = Row),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "Fields are wrong; `problems` says which and why"),
    ))]
pub(super) async fn create(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<(StatusCode, Json<Row>), HttpProblem> {
    let mut said = Said::read(&body)?;
    let tenant = said.tenant(caller.tenant.as_deref())?;
    let mut form = Form::default();
    said.change(&mut form);
    let tenant =
        tenant.unwrap_or_else(|| caller.tenant.as_deref().unwrap_or(DEFAULT_TENANT).into());
    let tenant = engine.tenant(&tenant).await;
    let (id, number) = engine.next_subscription(&tenant);
    let now = clock::now();
    let new = Subscription {
        id,
        number,
        tenant: tenant.name.clone(),
        made_by: caller.token.clone().unwrap_or_default().into(),
        form,
        created: now,
        updated: now,
    };
    let row = keep(&engine, tenant, new, said.wrong).await?;
    Ok((StatusCode::CREATED, row))
}

/// One subscription
#[utoipa::path(get, path = "/v1/subscriptions/{id}", operation_id = "subscription",
    tag = "subscriptions", params(SubscriptionPath),
    responses(
        (status = 200, description = "The subscription", body = Row),
        (status = 404, description = "There is none of that id"),
    ))]
pub(super) async fn show(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Row>, HttpProblem> {
    let it = find(&engine, &caller, &id)?;
    Ok(Json(Row::of(&engine, &it)))
}

/// Say a subscription anew
///
/// What is not said is as in a new one, but headers and secrets stay: those that are named are
/// set, or removed with null.
#[utoipa::path(put, path = "/v1/subscriptions/{id}", operation_id = "replace_subscription",
    tag = "subscriptions", params(SubscriptionPath), request_body = Subscribe,
    responses(
        (status = 200, description = "It is in force", body = Row),
        (status = 404, description = "There is none of that id"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "Fields are wrong; `problems` says which and why"),
    ))]
pub(super) async fn replace(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Row>, HttpProblem> {
    let anew = |before: &Form| Form {
        headers: before.headers.clone(),
        secrets: before.secrets.clone(),
        attributes: before.attributes.clone(),
        ..Form::default()
    };
    change(&engine, &caller, &id, &body, anew).await
}

/// Change what is said of a subscription, and nothing else
#[utoipa::path(patch, path = "/v1/subscriptions/{id}", operation_id = "change_subscription",
    tag = "subscriptions", params(SubscriptionPath), request_body = Object,
    responses(
        (status = 200, description = "It is in force", body = Row),
        (status = 404, description = "There is none of that id"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "Fields are wrong; `problems` says which and why"),
    ))]
pub(super) async fn amend(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Row>, HttpProblem> {
    change(&engine, &caller, &id, &body, Form::clone).await
}

async fn change(
    engine: &Arc<Engine>,
    caller: &Caller,
    id: &str,
    body: &[u8],
    begin: impl FnOnce(&Form) -> Form,
) -> Result<Json<Row>, HttpProblem> {
    let tenant = engine.tenant(&find(engine, caller, id)?.tenant).await;
    // Again: it may have been deleted while this waited.
    let before = find(engine, caller, id)?;
    let mut said = Said::read(body)?;
    said.tenant(Some(&before.tenant))?;
    let mut form = begin(&before.form);
    said.change(&mut form);
    let after = Subscription { form, updated: clock::now(), ..(*before).clone() };
    keep(engine, tenant, after, said.wrong).await
}

/// Delete a subscription: what waits for its endpoint becomes a dead letter
#[utoipa::path(delete, path = "/v1/subscriptions/{id}", operation_id = "unsubscribe",
    tag = "subscriptions", params(SubscriptionPath),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is none of that id"),
    ))]
pub(super) async fn delete(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, HttpProblem> {
    let tenant = engine.tenant(&find(&engine, &caller, &id)?.tenant).await;
    let it = find(&engine, &caller, &id)?;
    engine.keep_subscriptions(tenant, vec![Staged::Deleted(it.id)]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a secret a new value; the one before is used beside it for a while
#[utoipa::path(post, path = "/v1/subscriptions/{id}/secrets/{name}", operation_id = "rotate_secret",
    tag = "subscriptions", params(SecretPath), request_body = Secret,
    responses(
        (status = 200, description = "It is in use", body = Row),
        (status = 404, description = "There is no subscription of that id"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "The value does not fit; `problems` says why"),
    ))]
pub(super) async fn rotate(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Row>, HttpProblem> {
    let tenant = engine.tenant(&find(&engine, &caller, &id)?.tenant).await;
    let before = find(&engine, &caller, &id)?;
    // Serde would repeat what it does not understand.
    let Secret { value, overlap } = serde_json::from_slice(&body).map_err(|_| {
        HttpProblem::bad_request("the body is {\"value\": \"…\", \"overlap\": \"24h\"}")
    })?;
    let overlap = overlap.as_deref().unwrap_or("24h");
    let overlap =
        parse_duration(overlap).map_err(|message| unfit(vec![("overlap".to_owned(), message)]))?;
    let now = clock::now();
    let mut after = Subscription { updated: now, ..(*before).clone() };
    let versions = after.form.secrets.entry(name).or_default();
    // One that ends sooner ends when it was to.
    let end = now.plus(overlap);
    versions.retain_mut(|it| {
        it.until = Some(it.until.map_or(end, |until: UnixMs| until.min(end)));
        it.until > Some(now)
    });
    versions.insert(0, SecretVersion { text: Zeroizing::new(value), until: None });
    keep(&engine, tenant, after, Vec::new()).await
}

async fn keep(
    engine: &Arc<Engine>,
    tenant: crate::engine::Tenant,
    it: Subscription,
    wrong: Vec<Wrong>,
) -> Result<Json<Row>, HttpProblem> {
    if !wrong.is_empty() {
        // All that is wrong is said at once.
        let (checked, engine) = (it.clone(), engine.clone());
        let more = tokio::task::spawn_blocking(move || engine.check_subscription(&checked)).await;
        let mut all = wrong;
        let known: Vec<String> = all.iter().map(|(field, _)| field.clone()).collect();
        let more = more.ok().and_then(Result::err).unwrap_or_default();
        let of = |field: &str| field.split('/').next().unwrap_or_default().to_owned();
        all.extend(more.into_iter().filter(|(it, _)| !known.iter().any(|k| of(k) == of(it))));
        return Err(unfit(all));
    }
    let id = it.id;
    engine.keep_subscriptions(tenant, vec![Staged::Put(Arc::new(it))]).await?;
    let kept = engine.subscription(id).ok_or_else(|| no_such("subscription"))?;
    Ok(Json(Row::of(engine, &kept)))
}

/// The caller's own, or nothing.
fn find(engine: &Engine, caller: &Caller, id: &str) -> Result<Arc<Subscription>, HttpProblem> {
    let id = id.parse().map_err(|_| HttpProblem::bad_request("a subscription's id is sub_…"))?;
    let found = engine.subscription(id).filter(|it| caller.sees(Some(&it.tenant)));
    found.ok_or_else(|| no_such("subscription"))
}

fn unfit(wrong: Vec<Wrong>) -> HttpProblem {
    let detail = wrong.iter().map(|(field, message)| format!("{field}: {message}"));
    let detail = detail.collect::<Vec<_>>().join("; ");
    let problem = |(field, message)| json!({ "field": field, "message": message });
    let problems = Value::Array(wrong.into_iter().map(problem).collect());
    HttpProblem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("problems", problems)
}

impl From<NotKept> for HttpProblem {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Wrong(_, wrong) => unfit(wrong),
            NotKept::TooMany => Self::new(StatusCode::CONFLICT, error.to_string()),
            NotKept::Store(error) => error.into(),
        }
    }
}
