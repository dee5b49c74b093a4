//! A case up to the plugin's call: all that the plugin is given is there, so that
//! whoever measures calls measures little else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::call::{Asked, CallCase};
use super::file::{ReceiveCase, SendCase, body, time};
use super::made::{Made, MadeEvent};
use crate::attempt::Fault;
use crate::client::Client;
use crate::client::guard::Guard;
use crate::clock::UnixMs;
use crate::endpoint::{Endpoint, Order};
use crate::event::{Event, MEDIA_TYPE, TypePattern};
use crate::pipeline;
use crate::plugin::{Bound, Component, EventView, Inbound, Meter, Role};
use crate::retry::RetryPolicy;
use crate::route::Route;

/// What is called, and with what.
pub(super) enum Ready<'a> {
    Receive { bound: Bound, request: Arc<Inbound> },
    Accept { bound: Bound, component: &'a Component, event: EventView },
    Send(Box<Sending<'a>>),
    Answer(Box<Asked<'a>>),
}

/// An event for a route of this plugin alone.
pub(super) struct Sending<'a> {
    component: &'a Component,
    route: Route,
    event: Arc<Event>,
    at: UnixMs,
    /// Headers that are shown even where the host adds them to every request.
    keep: Vec<String>,
}

/// The stage of a filter, in a case's `failure`.
pub(super) const FILTER: &str = "filter";

impl<'a> Ready<'a> {
    pub(super) fn receive(bound: Bound, case: &ReceiveCase, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self::Receive { bound, request: Arc::new(inbound(case, folder)?) })
    }

    pub(super) fn accept(
        component: &'a Component,
        bound: Bound,
        case: &SendCase,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let event = Arc::new(case.event.clone().event(folder)?);
        let event = EventView { data: event.data.clone(), event, media_type: None };
        Ok(Self::Accept { bound, component, event })
    }

    pub(super) fn send(
        component: &'a Component,
        bound: Bound,
        case: &SendCase,
        keep: Vec<String>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let event = Arc::new(case.event.clone().event(folder)?);
        let (at, route) = (time(&case.at)?, route(component, &bound, case)?);
        Ok(Self::Send(Box::new(Sending { component, route, event, at, keep })))
    }

    pub(super) fn answer(
        component: &'a Arc<Component>,
        case: &'a CallCase,
        meter: &Arc<Meter>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        Ok(Self::Answer(Box::new(Asked::new(component, case, meter, folder)?)))
    }

    /// What the plugin makes of it.
    pub(super) async fn call(&self) -> anyhow::Result<Made> {
        match self {
            Self::Receive { bound, request } => {
                let answer = bound.receive(request.clone()).await;
                Ok(match answer.map_err(|fault| anyhow::anyhow!("{fault}"))? {
                    Ok(received) => Made::Events(received.into_iter().map(MadeEvent::of).collect()),
                    Err(it) => Made::Rejection { status: it.status, message: it.message },
                })
            }
            Self::Accept { bound, component, event } => {
                Ok(match bound.accept(event.clone()).await {
                    Ok(accepted) => Made::Accepted(accepted),
                    Err(fault) => failed(component, FILTER, &fault),
                })
            }
            Self::Send(it) => Ok(it.sent().await),
            Self::Answer(it) => it.answered().await,
        }
    }
}

impl Sending<'_> {
    async fn sent(&self) -> Made {
        match pipeline::prepare(&self.route, &self.event, self.at).await {
            Ok(found) => Made::Request {
                method: found.method.to_string(),
                headers: own_headers(&found.headers, &self.event, &self.keep),
                body: found.body,
            },
            Err((stage, fault)) => failed(self.component, stage, &fault),
        }
    }
}

/// A route to where the case sends, of the plugin in all its roles.
fn route(component: &Component, bound: &Bound, case: &SendCase) -> anyhow::Result<Route> {
    let stage = |role| {
        let has = component.roles().contains(&role);
        if has { vec![bound.clone()] } else { Vec::new() }
    };
    Ok(Route {
        name: "case".into(),
        tenant: None,
        from: None,
        types: vec![TypePattern::StartingWith("".into())],
        filters: stage(Role::Filter),
        transforms: stage(Role::Transform),
        auths: stage(Role::Auth),
        endpoint: Endpoint {
            uri: case.url.parse()?,
            url: case.url.clone().into(),
            timeout: Duration::ZERO,
            concurrency: 1,
            rate_limit: None,
            order: Order::Free,
            breaker: None,
            disable_after: None,
            disable_when_exhausted: false,
            client: Arc::new(Client::new(Guard::default())),
            grant: None,
        },
        retry: RetryPolicy::default(),
        headers: Default::default(),
        plugins: bound.label().into(),
        rests: None,
    })
}

pub(super) fn inbound(case: &ReceiveCase, folder: &Path) -> anyhow::Result<Inbound> {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
    }
    Ok(Inbound {
        method: Method::try_from(case.method.as_str())?,
        path: case.path.clone(),
        query: case.query.clone(),
        headers,
        time: time(&case.at)?,
        body: body(case.body.clone(), case.body_file.clone(), folder)?.unwrap_or_default(),
    })
}

/// A failure's code begins with the plugin's name, or with `plugin.` where the
/// engine stopped it; a case leaves the plugin's own name out.
fn failed(component: &Component, stage: &str, fault: &Fault) -> Made {
    let own = format!("{}.", component.name());
    Made::Failure {
        stage: stage.to_owned(),
        code: fault.code.strip_prefix(&own).unwrap_or(&fault.code).to_owned(),
        retry: fault.retry,
        message: fault.message.to_string(),
    }
}

/// The plugin's headers, without what the host adds to every request where the case
/// does not name it.
fn own_headers(found: &HeaderMap, event: &Event, keep: &[String]) -> BTreeMap<String, String> {
    let is_by_host = |name: &str, value: &HeaderValue| match name {
        "user-agent" => true,
        "webhook-id" => *value == *event.id.text(),
        "content-type" => event.attribute(MEDIA_TYPE).is_some_and(|it| value == it),
        _ => false,
    };
    let own = found.iter().filter(|(name, value)| {
        keep.iter().any(|it| it == name.as_str()) || !is_by_host(name.as_str(), value)
    });
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    own.map(|(name, value)| (name.to_string(), text(value))).collect()
}
