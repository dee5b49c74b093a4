//! Golden cases of a hub: an event in, and by the name of each route that takes it
//! the request out, run through the same pipeline as production.
//!
//! No secret is read: keys stand in for them, unless a case gives one. What is
//! masked in the log is masked here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::file::{EventCase, Versions, body, laid_down, time, with_member};
use crate::attempt::SentRequest;
use crate::event::Event;
use crate::pipeline::{self, Verdict};
use crate::plugin::Bound;
use crate::route::Route;
use crate::snapshot::Snapshot;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubCase {
    pub(crate) about: String,
    event: EventCase,
    /// When it is sent.
    at: String,
    /// By route, then by name.
    #[serde(default)]
    secrets: BTreeMap<String, BTreeMap<String, Versions>>,
    routes: Option<BTreeMap<String, RouteCase>>,
}

/// What a route makes: one of these.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RouteCase {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    filtered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestCase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureCase>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_file: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailureCase {
    code: String,
    retry: bool,
    message: String,
}

/// What the routes made of one event, by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made(BTreeMap<String, ByRoute>);

#[derive(Clone, Debug, PartialEq)]
enum ByRoute {
    Filtered,
    Failed(FailureCase),
    Sent { method: String, url: String, headers: BTreeMap<String, String>, body: Bytes },
}

impl HubCase {
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }

    /// What the case expects; none while nobody has said.
    pub(crate) fn expected(&self, folder: &Path) -> anyhow::Result<Option<Made>> {
        let Some(routes) = &self.routes else { return Ok(None) };
        let made = |(name, it): (&String, &RouteCase)| Ok((name.clone(), it.clone().made(folder)?));
        routes.iter().map(made).collect::<anyhow::Result<_>>().map(|it| Some(Made(it)))
    }

    /// What the routes of a snapshot make of the event.
    pub(crate) async fn make(&self, snapshot: &Snapshot, folder: &Path) -> anyhow::Result<Made> {
        let event = Arc::new(self.event.clone().event(folder)?);
        let at = time(&self.at)?;
        if let Some(name) = self.secrets.keys().find(|it| snapshot.routes.get(it).is_none()) {
            bail!("`secrets` names the route `{name}`, which is not there");
        }
        let mut made = BTreeMap::new();
        let tenant = snapshot.tenant_of(&event.source);
        for route in snapshot.routes.matching(tenant, &event.source, &event.event_type) {
            let with_secrets = match self.secrets.get(&*route.name) {
                Some(given) => Some(with_secrets(route, given)?),
                None => None,
            };
            let verdict =
                pipeline::verdict(with_secrets.as_ref().unwrap_or(route), &event, at).await;
            let by_route = match verdict {
                Verdict::Filtered => ByRoute::Filtered,
                Verdict::Failed(fault) => ByRoute::Failed(FailureCase {
                    code: fault.code.into(),
                    retry: fault.retry,
                    message: fault.message.into(),
                }),
                Verdict::Sent(request) => ByRoute::sent(request, &event),
            };
            made.insert(route.name.to_string(), by_route);
        }
        Ok(Made(made))
    }

    /// Write what was made into the case's file; false when it stands there already.
    pub(crate) fn bless(&self, made: &Made, file: &Path) -> anyhow::Result<bool> {
        let mut routes = BTreeMap::new();
        for (name, made) in &made.0 {
            let before = self.routes.as_ref().and_then(|it| it.get(name)?.request.as_ref());
            let at = before.and_then(|it| it.body_file.clone());
            routes.insert(name, made.clone().into_case(at, file, name)?);
        }
        let text = fs::read_to_string(file)?;
        let value = serde_json::to_value(routes)?;
        let written = with_member(&text, &["routes"], "routes", &value)?;
        if written == text {
            return Ok(false);
        }
        fs::write(file, written)?;
        Ok(true)
    }
}

/// The same route with secrets of the case's own.
fn with_secrets(route: &Route, given: &BTreeMap<String, Versions>) -> anyhow::Result<Route> {
    let texts: BTreeMap<String, Vec<String>> = (given.iter())
        .map(|(name, it)| match it {
            Versions::One(text) => (name.clone(), vec![text.clone()]),
            Versions::Several(texts) => (name.clone(), texts.clone()),
        })
        .collect();
    let uses = || route.filters.iter().chain(&route.transforms).chain(&route.auths);
    let is_known = |name: &str| uses().any(|it| it.secret_names().any(|known| known == name));
    if let Some(name) = texts.keys().find(|it| !is_known(it)) {
        bail!("no plugin of the route `{}` has the secret `{name}`", route.name);
    }
    let stage = |uses: &[Bound]| {
        let given = uses.iter().map(|it| it.clone().with_secrets(&texts));
        given.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)
    };
    Ok(Route {
        name: route.name.clone(),
        tenant: route.tenant.clone(),
        from: route.from.clone(),
        types: route.types.clone(),
        filters: stage(&route.filters)?,
        transforms: stage(&route.transforms)?,
        auths: stage(&route.auths)?,
        endpoint: route.endpoint.clone(),
        retry: route.retry.clone(),
        headers: route.headers.clone(),
        plugins: route.plugins.clone(),
        rests: None,
    })
}

impl RouteCase {
    fn made(self, folder: &Path) -> anyhow::Result<ByRoute> {
        match (self.filtered, self.request, self.failure) {
            (true, None, None) => Ok(ByRoute::Filtered),
            (false, None, Some(failure)) => Ok(ByRoute::Failed(failure)),
            (false, Some(it), None) => Ok(ByRoute::Sent {
                method: it.method,
                url: it.url,
                headers: it.headers,
                body: body(it.body, it.body_file, folder)?.unwrap_or_default(),
            }),
            _ => bail!("a route makes one of `request`, `filtered` and `failure`"),
        }
    }
}

impl ByRoute {
    fn sent(request: SentRequest, event: &Event) -> Self {
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            // It says which release of the engine sends, no more.
            (name != "user-agent").then(|| (name.to_owned(), value.to_owned()))
        };
        Self::Sent {
            method: request.method.to_string(),
            url: request.url.to_string(),
            headers: request.headers.lines().filter_map(header).collect(),
            body: request.body.whole(&event.data),
        }
    }

    fn into_case(
        self,
        body_file: Option<String>,
        file: &Path,
        route: &str,
    ) -> anyhow::Result<RouteCase> {
        let empty = RouteCase::default();
        Ok(match self {
            Self::Filtered => RouteCase { filtered: true, ..empty },
            Self::Failed(failure) => RouteCase { failure: Some(failure), ..empty },
            Self::Sent { method, url, headers, body } => {
                let (body, body_file) = laid_down(&body, body_file, file, &format!("{route}.body"))
                    .context("the body of a request")?;
                let request = RequestCase { method, url, headers, body, body_file };
                RouteCase { request: Some(request), ..empty }
            }
        })
    }
}

impl Made {
    /// On lines, for a person; how a body looks is the caller's.
    pub(crate) fn lines(&self, body_lines: &dyn Fn(&[u8]) -> String) -> String {
        let mut text = String::new();
        if self.0.is_empty() {
            return "no route takes the event\n".into();
        }
        for (name, made) in &self.0 {
            // A String takes everything.
            let _ = match made {
                ByRoute::Filtered => writeln!(text, "route {name}: filtered"),
                ByRoute::Failed(FailureCase { code, retry, message }) => {
                    writeln!(text, "route {name}: failed with {code}\nretry: {retry}\n{message:?}")
                }
                ByRoute::Sent { method, url, headers, body } => {
                    let head = headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
                    let head: String = head.collect();
                    writeln!(text, "route {name}: {method} {url}\n{head}\n{}", body_lines(body))
                }
            };
        }
        text
    }
}
