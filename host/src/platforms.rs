//! `/platforms/{plugin}/…`: a platform's own management API, answered by its plugin
//! as its customers know it. Who calls is found out here; what a request means is the
//! plugin's. What it changes is kept before the answer is sent, or nothing is.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use crate::access;
use crate::clock;
use crate::config::{Hub, Scope, Token};
use crate::engine::{Engine, NotKept, Tenant};
use crate::ingest::read_body;
use crate::plugin::{Answered, Api, Inbound};
use crate::problem::HttpProblem;
use crate::subscription::desk::{Caller, Refusal};

const PREFIX: &str = "/platforms/";

/// Is the path one of these?
pub(crate) fn is_asked(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answer one request.
pub(crate) async fn answer(
    engine: Arc<Engine>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let response = match call(&engine, request).await {
        Ok(answered) => {
            let mut response = Response::new(Full::from(answered.body));
            *response.status_mut() = answered.status;
            *response.headers_mut() = answered.headers;
            response
        }
        Err(problem) => problem.response(),
    };
    engine.metrics.platform_called(response.status().as_u16());
    response
}

async fn call(engine: &Arc<Engine>, request: Request<Incoming>) -> Result<Answered, HttpProblem> {
    let (mut parts, body) = request.into_parts();
    let snapshot = engine.snapshot();
    let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let name = path.split('/').next().unwrap_or_default();
    let api = snapshot.apis.get(name).ok_or_else(|| {
        HttpProblem::not_found(format!("there is no plugin `{name}` that answers an API"))
    })?;
    let rest = path[name.len()..].to_owned();
    let token = token(&snapshot.hub, api, &mut parts.headers);
    let body = read_body(&parts.headers, body, snapshot.hub.body_bytes_max).await?;
    let inbound = Arc::new(Inbound {
        method: parts.method,
        path: rest,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        time: clock::now(),
        body,
    });
    match token {
        None => ask(api, name, inbound, None).await,
        Some((token, tenant)) => {
            let tenant = Arc::new(engine.tenant(&tenant).await);
            let caller = caller(engine, (name, api), token, &tenant, &inbound).await?;
            let answered = ask(api, name, inbound, Some(Arc::new(caller))).await?;
            keep(engine, tenant, name, answered).await
        }
    }
}

/// Whose token came with it, if that one may change subscriptions. One for every tenant
/// belongs to none.
fn token<'h>(hub: &'h Hub, api: &Api, headers: &mut HeaderMap) -> Option<(&'h Token, Arc<str>)> {
    let text = api.take_token(headers)?;
    let token = access::token_of(hub, &text).filter(|it| it.may(Scope::Operate))?;
    Some((token, token.tenant.clone()?))
}

async fn caller(
    engine: &Arc<Engine>,
    (platform, api): (&str, &Api),
    token: &Token,
    tenant: &Arc<Tenant>,
    inbound: &Inbound,
) -> Result<Caller, HttpProblem> {
    let (of_next, of_check) = (engine.clone(), engine.clone());
    let tenant_of_next = tenant.clone();
    Ok(Caller {
        tenant: tenant.name.clone(),
        name: token.name.clone(),
        platform: platform.into(),
        kept: engine.subscriptions_of(&tenant.name, Some(platform)),
        notes: engine.queue.notes(tenant.name.clone(), platform.into()).await?,
        secrets: (token.secrets.iter())
            .filter(|(name, _)| api.has_secret(name))
            .map(|(name, text)| (name.clone(), text.clone()))
            .collect(),
        now: inbound.time,
        next: Box::new(move || of_next.next_subscription(&tenant_of_next)),
        check: Box::new(move |it| match of_check.check_subscription(it) {
            Ok(()) => Vec::new(),
            Err(wrong) => {
                let refusal = |(field, message): (String, String)| Refusal {
                    field: field_of(&field),
                    message,
                };
                wrong.into_iter().map(refusal).collect()
            }
        }),
    })
}

/// A field of a subscription, as plugins call it.
fn field_of(field: &str) -> String {
    let (first, rest) = field.split_at(field.find('/').unwrap_or(field.len()));
    let first = match first {
        "types" => "event-types",
        "from" => "sources",
        "rate_limit" => "rate-limit",
        other => other,
    };
    format!("{first}{rest}")
}

async fn ask(
    api: &Api,
    plugin: &str,
    inbound: Arc<Inbound>,
    caller: Option<Arc<Caller>>,
) -> Result<Answered, HttpProblem> {
    api.answer(inbound, caller).await.map_err(|fault| {
        tracing::error!(plugin, %fault, "a platform's API failed");
        let detail = format!("the platform's plugin failed: {}", fault.code);
        HttpProblem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).with("code", json!(*fault.code))
    })
}

/// The answer, once what it says is so.
async fn keep(
    engine: &Arc<Engine>,
    tenant: Arc<Tenant>,
    platform: &str,
    answered: Answered,
) -> Result<Answered, HttpProblem> {
    if answered.staged.is_empty() {
        return Ok(answered);
    }
    let not_kept = |why: String| {
        tracing::error!(platform, %why, "could not keep what a platform's API changed");
        HttpProblem::unavailable(format!("nothing was kept: {why}"))
    };
    // The call has ended, so nobody else holds it.
    let tenant = Arc::into_inner(tenant).ok_or_else(|| not_kept("a call still runs".into()))?;
    match engine.keep_subscriptions(tenant, answered.staged.clone()).await {
        Ok(()) => Ok(answered),
        Err(why @ NotKept::TooMany) => {
            Err(HttpProblem::new(StatusCode::INSUFFICIENT_STORAGE, why.to_string()))
        }
        Err(why) => Err(not_kept(why.to_string())),
    }
}
