//! Golden cases of a plugin: what goes in and what must come out, run through
//! the same engine, limits and pipeline as production.
//!
//! A case is one JSON file. `receive` (a request) leads to `events` or a
//! `rejection`; `send` (an event) leads to a `request`, to `accepted` (true or
//! false, by a filter) or to a `failure`; settings alone lead to `problems`. A
//! body is text, or a file beside the case.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::attempt::Fault;
use crate::client::Client;
use crate::client::guard::Guard;
use crate::clock::UnixMs;
use crate::endpoint::{Endpoint, Order};
use crate::event::{Event, MEDIA_TYPE, TypePattern};
use crate::pipeline;
use crate::plugin::{
    Body, Bound, Component, EventView, Inbound, Key, Received, Role, Secrets, Unfit,
};
use crate::retry::RetryPolicy;
use crate::route::Route;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    #[serde(default = "no_settings")]
    settings: Value,
    #[serde(default)]
    secrets: BTreeMap<String, Versions>,
    receive: Option<ReceiveCase>,
    events: Option<Vec<EventCase>>,
    rejection: Option<RejectionCase>,
    send: Option<SendCase>,
    request: Option<RequestCase>,
    accepted: Option<bool>,
    failure: Option<FailureCase>,
    problems: Option<Vec<ProblemCase>>,
}

/// One version of a secret, or several with the newest first.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a secret is a text, or a list of texts with the newest first")]
enum Versions {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiveCase {
    at: String,
    method: String,
    path: String,
    query: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventCase {
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
    source: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    duplicate_key: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    data: Option<String>,
    data_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectionCase {
    status: u16,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendCase {
    event: EventCase,
    url: String,
    at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    method: String,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureCase {
    stage: String,
    code: String,
    retry: bool,
    message: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct ProblemCase {
    pointer: String,
    message: String,
}

fn no_settings() -> Value {
    Value::Object(serde_json::Map::new())
}

/// One case, run.
pub(crate) struct Ran {
    /// The file's stem.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) about: String,
    pub(crate) result: anyhow::Result<()>,
}

/// Run every `*.json` in a folder, in the order of their names.
pub(crate) async fn run_all(component: &Arc<Component>, folder: &Path) -> anyhow::Result<Vec<Ran>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "json"));
    files.sort();
    let mut ran = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let case = fs::read(&file)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Ok(serde_json::from_slice::<Case>(&bytes)?));
        ran.push(match case {
            Ok(case) => {
                let about = case.about.clone();
                Ran { name, about, result: run(component, case, folder).await }
            }
            Err(error) => Ran { name, about: String::new(), result: Err(error) },
        });
    }
    Ok(ran)
}

async fn run(component: &Arc<Component>, case: Case, folder: &Path) -> anyhow::Result<()> {
    let secrets = secrets(component, case.secrets)?;
    let bound = match Bound::new(component.clone(), &case.settings.to_string(), secrets) {
        Ok(bound) => bound,
        Err(Unfit::Settings(found)) => {
            let found: Vec<_> = found
                .into_iter()
                .map(|it| ProblemCase { pointer: it.pointer, message: it.message })
                .collect();
            return same("problems", &Some(found), &case.problems);
        }
        Err(Unfit::Fault(fault)) => bail!("{fault}"),
    };
    ensure!(case.problems.is_none(), "the settings were taken, without problems");
    match (case.receive, case.send) {
        (Some(receive), None) => {
            run_receive(&bound, receive, case.events, case.rejection, folder).await
        }
        (None, Some(send)) => {
            let fails_as_filter = case.failure.as_ref().is_some_and(|it| it.stage == FILTER);
            if case.accepted.is_some() || fails_as_filter {
                let event = Arc::new(event(send.event, folder)?);
                return run_filter(component, &bound, event, case.accepted, case.failure).await;
            }
            run_send(component, bound, send, case.request, case.failure, folder).await
        }
        _ => bail!("a case has either `receive` or `send`, or leads to `problems`"),
    }
}

async fn run_receive(
    bound: &Bound,
    case: ReceiveCase,
    events: Option<Vec<EventCase>>,
    rejection: Option<RejectionCase>,
    folder: &Path,
) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
    }
    let request = Arc::new(Inbound {
        method: Method::try_from(case.method.as_str())?,
        path: case.path,
        query: case.query,
        headers,
        time: time(&case.at)?,
        body: body(case.body, case.body_file, folder)?.unwrap_or_default(),
    });
    match bound.receive(request).await.map_err(|fault| anyhow::anyhow!("{fault}"))? {
        Ok(received) => {
            let Some(expected) = events else { bail!("it was accepted: {received:?}") };
            same("number of events", &received.len(), &expected.len())?;
            let pairs = received.into_iter().zip(expected);
            pairs.into_iter().try_for_each(|(it, expected)| compare_event(it, expected, folder))
        }
        Err(found) => {
            let Some(expected) = rejection else { bail!("it was rejected: {found:?}") };
            same("status", &found.status, &expected.status)?;
            same("message", &found.message, &expected.message)
        }
    }
}

fn compare_event(found: Received, expected: EventCase, folder: &Path) -> anyhow::Result<()> {
    same("type", &found.type_, &expected.event_type)?;
    same("subject", &found.subject, &expected.subject)?;
    same("duplicate_key", &found.duplicate_key, &expected.duplicate_key)?;
    let expected_time = expected.time.as_deref().map(time).transpose()?;
    same("time", &found.time.map(UnixMs), &expected_time)?;
    same("attributes", &found.attributes.into_iter().collect(), &expected.attributes)?;
    let found = match found.data {
        Body::Unchanged => None,
        Body::Bytes(bytes) => Some(Bytes::from(bytes)),
    };
    same("data", &found, &body(expected.data, expected.data_file, folder)?)
}

/// The stage of a filter, in a case's `failure`.
const FILTER: &str = "filter";

async fn run_filter(
    component: &Component,
    bound: &Bound,
    event: Arc<Event>,
    accepted: Option<bool>,
    failure: Option<FailureCase>,
) -> anyhow::Result<()> {
    let view = EventView { data: event.data.clone(), event, media_type: None };
    match bound.accept(view).await {
        Ok(found) => same("accepted", &Some(found), &accepted),
        Err(fault) => compare_failure(component, FILTER, &fault, failure),
    }
}

async fn run_send(
    component: &Arc<Component>,
    bound: Bound,
    case: SendCase,
    request: Option<RequestCase>,
    failure: Option<FailureCase>,
    folder: &Path,
) -> anyhow::Result<()> {
    let event = Arc::new(event(case.event, folder)?);
    let stage = |role| {
        let has = component.roles().contains(&role);
        if has { vec![bound.clone()] } else { Vec::new() }
    };
    let route = Route {
        name: "case".into(),
        from: None,
        types: vec![TypePattern::StartingWith("".into())],
        filters: stage(Role::Filter),
        transforms: stage(Role::Transform),
        auths: stage(Role::Auth),
        endpoint: Endpoint {
            uri: case.url.parse()?,
            url: case.url.into(),
            timeout: Duration::ZERO,
            concurrency: 1,
            rate_limit: None,
            order: Order::Free,
            breaker: None,
            disable_after: None,
            client: Arc::new(Client::new(Guard::default())),
            grant: None,
        },
        retry: RetryPolicy::default(),
        plugins: bound.label().into(),
    };
    match pipeline::prepare(&route, &event, time(&case.at)?).await {
        Ok(found) => {
            let Some(expected) = request else { bail!("it was sent: {:?}", found.headers) };
            same("method", found.method.as_str(), expected.method.as_str())?;
            compare_headers(&found.headers, expected.headers, &event)?;
            let expected = body(expected.body, expected.body_file, folder)?.unwrap_or_default();
            same("body", &found.body, &expected)
        }
        Err((stage, fault)) => compare_failure(component, stage, &fault, failure),
    }
}

/// A failure's code begins with the plugin's name, or with `plugin.` where the
/// engine stopped it; a case leaves the plugin's own name out.
fn compare_failure(
    component: &Component,
    stage: &str,
    fault: &Fault,
    expected: Option<FailureCase>,
) -> anyhow::Result<()> {
    let Some(expected) = expected else { bail!("{stage} failed: {fault}") };
    same("stage", stage, expected.stage.as_str())?;
    let own = format!("{}.", component.name());
    same("code", fault.code.strip_prefix(&own).unwrap_or(&fault.code), expected.code.as_str())?;
    same("retry", &fault.retry, &expected.retry)?;
    same("message", &*fault.message, expected.message.as_str())
}

/// The plugin's headers exactly; what the host adds to every request may be there too.
fn compare_headers(
    found: &HeaderMap,
    expected: BTreeMap<String, String>,
    event: &Event,
) -> anyhow::Result<()> {
    for (name, value) in &expected {
        let found = found.get(name).and_then(|it| it.to_str().ok());
        same(&format!("header {name}"), &found, &Some(value.as_str()))?;
    }
    for (name, value) in found.iter().filter(|(it, _)| !expected.contains_key(it.as_str())) {
        let by_host = match name.as_str() {
            "user-agent" => true,
            "webhook-id" => *value == event.id.to_string(),
            "content-type" => event.attribute(MEDIA_TYPE).is_some_and(|it| value == it),
            _ => false,
        };
        ensure!(by_host, "the header {name} is not expected");
    }
    Ok(())
}

fn event(case: EventCase, folder: &Path) -> anyhow::Result<Event> {
    let id = case.id.context("an event to send has an id")?;
    Ok(Event {
        id: id.parse().with_context(|| format!("{id:?} is no event's id"))?,
        source: case.source.unwrap_or_default().into(),
        event_type: case.event_type.into(),
        subject: case.subject.map(Into::into),
        time: time(&case.time.context("an event to send has a time")?)?,
        attributes: case
            .attributes
            .into_iter()
            .map(|(name, it)| (name.into(), it.into()))
            .collect(),
        data: body(case.data, case.data_file, folder)?.unwrap_or_default(),
    })
}

fn secrets(component: &Component, texts: BTreeMap<String, Versions>) -> anyhow::Result<Secrets> {
    let mut keys = Vec::new();
    for (name, versions) in texts {
        let need = component.description().secrets.iter().find(|it| it.name == name);
        let need = need.with_context(|| format!("the plugin has no secret `{name}`"))?;
        let versions = match versions {
            Versions::One(text) => vec![text],
            Versions::Several(texts) => texts,
        };
        let decode = |text| Key::decode(Zeroizing::new(text), need.encoding);
        let decoded: Result<Vec<_>, _> = versions.into_iter().map(decode).collect();
        keys.push((name.into(), decoded.map_err(anyhow::Error::msg)?));
    }
    Ok(Secrets::new(keys))
}

fn body(
    text: Option<String>,
    file: Option<String>,
    folder: &Path,
) -> anyhow::Result<Option<Bytes>> {
    match (text, file) {
        (Some(_), Some(_)) => bail!("a body is text or a file, not both"),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(file)) => {
            let bytes = fs::read(folder.join(&file)).with_context(|| format!("reading {file}"))?;
            Ok(Some(bytes.into()))
        }
        (None, None) => Ok(None),
    }
}

fn time(text: &str) -> anyhow::Result<UnixMs> {
    UnixMs::parse(text).with_context(|| format!("{text:?} is not an RFC 3339 time"))
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    found: &T,
    expected: &T,
) -> anyhow::Result<()> {
    ensure!(found == expected, "{what} is {found:?}, expected {expected:?}");
    Ok(())
}
