//! The public listener: requests become events, and are acknowledged when they
//! are on disk. It decides who may send and how large a body may be; what a
//! request means is for the source's plugin.

mod cloudevents;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};

use crate::access;
use crate::clock::{self, LATEST, UnixMs};
use crate::config::Scope;
use crate::engine::Engine;
use crate::event::{Event, EventId, MEDIA_TYPE};
use crate::platforms;
use crate::plugin::{Body, Bound, Inbound, Received};
use crate::problem::HttpProblem;
use crate::queue::{DuplicateKey, NewEvent};
use crate::reply::Reply;
use crate::snapshot::{Snapshot, Source};
use crate::traces::Open;

/// The whole body must be here by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection reads into at first.
const BUFFER_BYTES: usize = 8 << 10;

/// Events one request may bring.
const EVENTS_MAX: usize = 1000;

/// Longer types, subjects and keys are a mistake of the sender.
const TEXT_BYTES_MAX: usize = 1024;

/// Answer one request.
pub(crate) async fn answer(
    engine: Arc<Engine>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if platforms::is_asked(request.uri().path()) {
        // Boxed, because every request would take the room that these few need.
        return Box::pin(platforms::answer(engine, request)).await;
    }
    let mut open = engine.traces.arrived(request.headers());
    let response = match route(&engine, request, &open).await {
        Ok((ids, reply)) => {
            open.note("plugpost.events", ids.len() as i64);
            reply.response(&ids)
        }
        Err(problem) if problem.status == StatusCode::METHOD_NOT_ALLOWED => {
            let mut response = problem.response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            response
        }
        Err(problem) => problem.response(),
    };
    let status = response.status();
    engine.metrics.ingested(status.as_u16());
    open.note("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        open.failed(status.as_str());
    }
    response
}

async fn route(
    engine: &Engine,
    request: Request<Incoming>,
    open: &Open,
) -> Result<(Vec<EventId>, Reply), HttpProblem> {
    let (parts, body) = request.into_parts();
    let snapshot = engine.snapshot();
    let path = parts.uri.path();
    let (drafts, reply) = if let Some(path) = path.strip_prefix("/in/") {
        let name = path.split('/').next().unwrap_or_default();
        let rest = &path[name.len()..];
        let source = (snapshot.sources.get(name))
            .ok_or_else(|| HttpProblem::not_found(format!("there is no source `{name}`")))?;
        expect_post(&parts.method)?;
        check_sender(&snapshot, source, &parts.headers)?;
        let body = read_body(&parts.headers, body, snapshot.hub.body_bytes_max).await?;
        let drafts = match &source.plugin {
            Some(plugin) => {
                let path = rest.to_owned();
                // Boxed, like the platforms' calls.
                Box::pin(by_plugin(source, plugin, parts, path, body.clone())).await?
            }
            None => vec![by_path(source, &parts, rest, body.clone())?],
        };
        (drafts, source.reply.to(&body))
    } else if path == "/events" {
        expect_post(&parts.method)?;
        let token = access::caller_with(&snapshot.hub, &parts.headers, Scope::Ingest)?;
        let body = read_body(&parts.headers, body, snapshot.hub.body_bytes_max).await?;
        (cloudevents::read(&snapshot, token, &parts.headers, body)?, Reply::default())
    } else {
        return Err(HttpProblem::not_found(
            "events come in at /in/{source} and /events, calls of a platform's API at /platforms/{plugin}",
        ));
    };
    Ok((accept(engine, &snapshot, drafts, open).await?, reply))
}

/// An event before it has an id and deliveries.
#[derive(Debug)]
struct Draft {
    source: Arc<str>,
    event_type: Arc<str>,
    subject: Option<String>,
    time: Option<UnixMs>,
    attributes: Vec<(Box<str>, Box<str>)>,
    data: Bytes,
    duplicate_key: Option<DuplicateKey>,
}

/// Keep the events with one delivery for each route that takes them.
async fn accept(
    engine: &Engine,
    snapshot: &Snapshot,
    drafts: Vec<Draft>,
    open: &Open,
) -> Result<Vec<EventId>, HttpProblem> {
    if drafts.len() > EVENTS_MAX {
        let detail = format!("more than {EVENTS_MAX} events in one request");
        return Err(HttpProblem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let now = clock::now();
    let mut events = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        draft.check()?;
        open.carried_by(&mut draft.attributes);
        let event = Arc::new(Event {
            id: engine.queue.next_event_id(now),
            source: draft.source,
            event_type: draft.event_type,
            subject: draft.subject.map(Into::into),
            time: draft.time.unwrap_or(now),
            attributes: draft.attributes,
            data: draft.data,
        });
        let tenant = snapshot.tenant_of(&event.source);
        let deliveries = snapshot.routes.matching(tenant, &event.source, &event.event_type);
        let deliveries = deliveries.map(|route| {
            let slot = engine.lanes.admit(route, event.data.len());
            engine.promise(route, &event, slot, now)
        });
        let deliveries = deliveries.collect();
        events.push(NewEvent { event, duplicate_key: draft.duplicate_key, deliveries });
    }
    Ok(engine.queue.accept(events).await?)
}

/// What came to a source without a plugin.
fn by_path(source: &Source, parts: &Parts, path: &str, body: Bytes) -> Result<Draft, HttpProblem> {
    let event_type = path.trim_start_matches('/');
    if event_type.is_empty() {
        let detail = format!("the event type stands in the path: /in/{}/TYPE", source.name);
        return Err(HttpProblem::bad_request(detail));
    }
    Ok(Draft {
        source: source.name.clone(),
        event_type: event_type.into(),
        subject: None,
        time: None,
        attributes: media_type(&parts.headers).into_iter().collect(),
        data: body,
        duplicate_key: None,
    })
}

/// What came to one with a plugin.
async fn by_plugin(
    source: &Source,
    plugin: &Bound,
    parts: Parts,
    path: String,
    body: Bytes,
) -> Result<Vec<Draft>, HttpProblem> {
    let media_type = media_type(&parts.headers);
    let request = Arc::new(Inbound {
        method: parts.method,
        path,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        time: clock::now(),
        body: body.clone(),
    });
    let received = match plugin.receive(request).await {
        Ok(Ok(received)) => received,
        Ok(Err(rejection)) => {
            let status = StatusCode::from_u16(rejection.status)
                .ok()
                .filter(|it| it.is_client_error() || it.is_server_error())
                .unwrap_or(StatusCode::BAD_REQUEST);
            return Err(HttpProblem::new(status, rejection.message));
        }
        Err(fault) => {
            // The sender is told to try again: nothing was verified, so nothing is kept.
            tracing::error!(source = &*source.name, %fault, "a source plugin failed");
            return Err(HttpProblem::unavailable(format!(
                "the source's plugin failed: {}",
                fault.code
            )));
        }
    };
    let draft = |it: Received| {
        let mut attributes: Vec<(Box<str>, Box<str>)> =
            it.attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        if !attributes.iter().any(|(name, _)| &**name == MEDIA_TYPE) {
            attributes.extend(media_type.clone());
        }
        Draft {
            source: source.name.clone(),
            event_type: it.type_.into(),
            subject: it.subject,
            time: it.time.map(|ms| UnixMs(ms).min(LATEST)),
            attributes,
            data: match it.data {
                Body::Unchanged => body.clone(),
                Body::Bytes(bytes) => bytes.into(),
            },
            duplicate_key: it
                .duplicate_key
                .map(|key| duplicate_key(&["source", &source.name, &key], None)),
        }
    };
    Ok(received.into_iter().map(draft).collect())
}

impl Draft {
    fn check(&self) -> Result<(), HttpProblem> {
        let fits = |text: &str| {
            (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
        };
        if !fits(&self.event_type) {
            let detail =
                format!("an event type has 1 to {TEXT_BYTES_MAX} bytes and no control characters");
            return Err(HttpProblem::bad_request(detail));
        }
        if self.subject.as_deref().is_some_and(|it| !fits(it)) {
            let detail =
                format!("a subject has 1 to {TEXT_BYTES_MAX} bytes and no control characters");
            return Err(HttpProblem::bad_request(detail));
        }
        Ok(())
    }
}

/// A digest that tells one scope's keys from another's.
fn duplicate_key(scope_and_key: &[&str], body: Option<&[u8]>) -> DuplicateKey {
    let mut digest = Sha256::new();
    for part in scope_and_key {
        // The length first: "ab" + "c" is not "a" + "bc".
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    DuplicateKey { key: digest.finalize().into(), body: body.map(|it| Sha256::digest(it).into()) }
}

fn check_sender(
    snapshot: &Snapshot,
    source: &Source,
    headers: &HeaderMap,
) -> Result<(), HttpProblem> {
    let Some(tokens) = &source.tokens else { return Ok(()) };
    let token = access::caller_with(&snapshot.hub, headers, Scope::Ingest)?;
    match tokens.contains(&token.name) {
        true => Ok(()),
        false => Err(HttpProblem::forbidden("the token is not one of this source's")),
    }
}

fn expect_post(method: &Method) -> Result<(), HttpProblem> {
    match method {
        &Method::POST => Ok(()),
        _ => Err(HttpProblem::new(StatusCode::METHOD_NOT_ALLOWED, "events are sent with POST")),
    }
}

/// The whole body, within size and time; nothing is decompressed.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Incoming,
    bytes_max: usize,
) -> Result<Bytes, HttpProblem> {
    let too_large = || {
        let detail = format!("the body has more than {bytes_max} bytes");
        HttpProblem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| it.parse::<usize>().ok());
    if announced.is_some_and(|it| it > bytes_max) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, bytes_max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(HttpProblem::bad_request(format!("the body broke off: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {BODY_TIMEOUT:?}");
            Err(HttpProblem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// The frames in one piece; none when they are too many bytes. What fits the
/// connection's buffer is copied out of it: the next request finds it free, and
/// an event in hand does not hold all of it.
async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + all.len() + data.len() > bytes_max {
            return Ok(None);
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(Some(match all.is_empty() {
        true if first.len() <= BUFFER_BYTES => Bytes::copy_from_slice(&first),
        true => first,
        false => all.freeze(),
    }))
}

fn media_type(headers: &HeaderMap) -> Option<(Box<str>, Box<str>)> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some((MEDIA_TYPE.into(), value.into()))
}

/// The types of the events in a request, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn cloud_event_types(headers: &HeaderMap, body: Bytes) -> Vec<String> {
    let events = cloudevents::parse(headers, &body).unwrap_or_default();
    events.into_iter().map(|it| it.event_type).collect()
}
