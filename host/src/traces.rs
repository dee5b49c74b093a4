//! Traces, for OpenTelemetry: a span for each request that brings events, and one
//! for each attempt below it, sent to a collector (OTLP over HTTP). Where none is
//! configured nothing is measured, and what a sender says of its own trace is
//! passed on as it came.
//!
//! An event carries whose children its attempts are in the attributes that
//! CloudEvents has for it, so a trace holds together over a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};

use crate::client::Client;
use crate::client::guard::Guard;
use crate::config::TracesKeys;
use crate::delivery::Delivery;
use crate::event::Event;
use crate::route::Route;

/// What a trace context is called, as a header and as an event's attribute.
pub(crate) const NAMES: [&str; 2] = ["traceparent", "tracestate"];

/// As long as vendors have to take one (W3C Trace Context §3.3.1.5).
const STATE_BYTES_MAX: usize = 512;

/// How long the collector has for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what is measured and not sent is waited for at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Where spans go; nowhere by default.
#[derive(Debug, Default)]
pub(crate) struct Traces(Option<Exporting>);

#[derive(Debug)]
struct Exporting {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

/// A request or an attempt that is under way. One that nobody measures still
/// carries on whose child it is.
#[derive(Debug)]
pub(crate) struct Open {
    /// Boxed: most are none, and every request and every attempt takes its room.
    span: Option<Box<Span>>,
    context: Option<SpanContext>,
}

impl Traces {
    /// Send spans where the keys say.
    pub(crate) fn to(keys: &TracesKeys) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        let sender = Sender {
            client: Arc::new(Client::new(Guard::trusting())),
            runtime: tokio::runtime::Handle::current(),
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_endpoint(keys.url.to_string())
            .with_headers(
                keys.headers.iter().map(|(name, it)| (name.clone(), it.text.to_string())).collect(),
            )
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let share = Sampler::TraceIdRatioBased(keys.share);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(
                Resource::builder()
                    .with_service_name("plugpost")
                    .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                    .build(),
            )
            .build();
        Ok(Self(Some(Exporting { tracer: provider.tracer("plugpost"), provider })))
    }

    /// A request has come in that may bring events.
    pub(crate) fn arrived(&self, headers: &HeaderMap) -> Open {
        let parent = headers.contains_key(NAMES[0]).then(|| {
            let text = |name: &str| {
                let value = headers.get(name)?.to_str().ok()?;
                Some((name.to_owned(), value.to_owned()))
            };
            read(NAMES.iter().filter_map(|it| text(it)).collect())
        });
        self.open("ingest", SpanKind::Server, parent.flatten(), Vec::new)
    }

    /// A delivery is attempted.
    pub(crate) fn attempted(&self, delivery: &Delivery, route: &Route) -> Open {
        let parent = carried(&delivery.event);
        self.open("attempt", SpanKind::Client, parent, || {
            let number = i64::from(delivery.attempts.saturating_add(1));
            vec![
                KeyValue::new("plugpost.event.id", delivery.event.id.to_string()),
                KeyValue::new("plugpost.event.type", delivery.event.event_type.clone()),
                KeyValue::new("plugpost.delivery.id", delivery.id.to_string()),
                KeyValue::new("plugpost.route", route.name.clone()),
                KeyValue::new("plugpost.attempt", number),
                KeyValue::new("url.full", route.endpoint.url.clone()),
            ]
        })
    }

    fn open(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<SpanContext>,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Open {
        let Some(Exporting { tracer, .. }) = &self.0 else {
            return Open { span: None, context: parent };
        };
        let above = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let span = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes())
            .start_with_context(tracer, &above);
        Open { context: Some(span.span_context().clone()), span: Some(Box::new(span)) }
    }

    /// Send what is not sent yet.
    pub(crate) async fn close(&self) {
        let Some(Exporting { provider, .. }) = &self.0 else { return };
        let provider = provider.clone();
        // It waits for the sender, which needs this runtime's threads.
        let closed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        if let Ok(Err(error)) = closed.await {
            tracing::warn!(%error, "the last spans were not taken");
        }
    }
}

impl Open {
    /// Let an event carry it, unless it brought a trace of its own.
    pub(crate) fn carried_by(&self, attributes: &mut Vec<(Box<str>, Box<str>)>) {
        let Some(context) = &self.context else { return };
        if attributes.iter().any(|(name, _)| &**name == NAMES[0]) {
            return;
        }
        for (name, value) in written(context) {
            attributes.push((name.into(), value.into()));
        }
    }

    /// Tell the receiver, unless a plugin has told it something else.
    pub(crate) fn told_by(&self, headers: &mut HeaderMap) {
        let Some(context) = &self.context else { return };
        if headers.contains_key(NAMES[0]) {
            return;
        }
        for (name, value) in written(context) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// What was found out about it.
    pub(crate) fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// It did not end well.
    pub(crate) fn failed(&mut self, why: &str) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new("error.type", why.to_owned()));
            span.set_status(Status::error(why.to_owned()));
        }
    }
}

/// Whose children the attempts of an event are.
fn carried(event: &Event) -> Option<SpanContext> {
    event.attribute(NAMES[0])?;
    let text = |name: &str| Some((name.to_owned(), event.attribute(name)?.to_owned()));
    read(NAMES.iter().filter_map(|it| text(it)).collect())
}

fn read(mut said: HashMap<String, String>) -> Option<SpanContext> {
    if said.get(NAMES[1]).is_some_and(|it| it.len() > STATE_BYTES_MAX) {
        said.remove(NAMES[1]);
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &said);
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The names and values there are.
fn written(context: &SpanContext) -> impl Iterator<Item = (&'static str, String)> {
    let mut said = HashMap::new();
    let context = Context::new().with_remote_span_context(context.clone());
    TraceContextPropagator::new().inject_context(&context, &mut said);
    NAMES
        .into_iter()
        .filter_map(move |name| Some((name, said.remove(name)?)))
        .filter(|(_, value)| !value.is_empty())
}

/// Sends batches as everything is sent. The exporter's thread is none of the
/// runtime's, and dialling needs one.
#[derive(Debug)]
struct Sender {
    client: Arc<Client>,
    runtime: tokio::runtime::Handle,
}

impl HttpClient for Sender {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: http::Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sent = self
            .runtime
            .spawn(async move { client.ask(request.map(Full::new), EXPORT_TIMEOUT).await });
        Box::pin(async move {
            let (status, body) = sent.await?.map_err(|fault| fault.to_string())?;
            let mut response = http::Response::new(body);
            *response.status_mut() = status;
            Ok(response)
        })
    }
}
