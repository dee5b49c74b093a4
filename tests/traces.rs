//! Spans at a collector: of the request an event came by, and of each attempt
//! below it. A trace that began at the sender goes on to the receiver.

use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, to};
use crate::support::plugpost;
use crate::support::receiver::{Received, Receiver, Reply};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";

/// What the sender says of its own trace.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A hub with the route `out` to this receiver and, where there is one, a collector.
fn hub(receiver: &Receiver, collector: Option<&str>) -> Hub {
    let traces = collector.map(|url| {
        format!("[traces]\nurl = \"{url}\"\nheaders.x-tenant = {{ file = \"secrets/tenant\" }}")
    });
    let hub = Hub::with("", &traces.unwrap_or_default());
    hub.secret("tenant", "acme").route("out", to(&receiver.url("/")));
    hub
}

fn send(engine: &Engine, headers: &[(&str, &str)]) -> String {
    let authorization = format!("Bearer {TOKEN}");
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    let answer = engine.post("/in/erp/order.created", &all, b"{}");
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.event_ids().remove(0)
}

fn delivered(engine: &Engine, event: &str) {
    let delivery = engine.ended(event, "out");
    assert_eq!(delivery["status"], "delivered", "{delivery}");
}

/// Every span that came, in the order they ended.
fn spans(collector: &Receiver) -> Vec<Span> {
    let of_request = |it: &Received| {
        assert_eq!((it.path.as_str(), it.header("x-tenant")), ("/v1/traces", Some("acme")));
        let request = ExportTraceServiceRequest::decode(it.body.as_slice()).expect("protobuf");
        let resources = request.resource_spans.into_iter();
        resources.flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect::<Vec<_>>()
    };
    collector.received().iter().flat_map(|it| of_request(it)).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|it| it.key == name)?.value.as_ref()?;
    match value.value.as_ref()? {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trace_goes_from_the_sender_through_every_attempt_to_the_receiver() {
    let (collector, count) = (Receiver::ok(), AtomicUsize::new(0));
    let receiver = Receiver::start(move |_| {
        Reply::status(if count.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 200 })
    });
    let hub = hub(&receiver, Some(&collector.url("/v1/traces")));
    let engine = Engine::start(&hub);
    let event = send(&engine, &[("traceparent", TRACEPARENT), ("tracestate", "erp=7")]);
    delivered(&engine, &event);
    let ended = engine.stop();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);

    let spans = spans(&collector);
    let [ingest, attempts @ ..] = spans.as_slice() else { panic!("no span") };
    assert_eq!((ingest.name.as_str(), ingest.kind), ("ingest", SpanKind::Server as i32));
    assert_eq!(hex::encode(&ingest.parent_span_id), SENDER);
    assert_eq!(attribute(ingest, "http.response.status_code").as_deref(), Some("202"));
    let said: Vec<_> = attempts
        .iter()
        .map(|it| {
            assert_eq!((it.name.as_str(), it.kind), ("attempt", SpanKind::Client as i32));
            assert_eq!(it.parent_span_id, ingest.span_id);
            assert_eq!(attribute(it, "plugpost.event.id").as_deref(), Some(event.as_str()));
            ["plugpost.attempt", "http.response.status_code", "error.type"]
                .map(|name| attribute(it, name).unwrap_or_default())
        })
        .collect();
    assert_eq!(said, [["1", "503", "http.status"], ["2", "200", ""]]);
    assert!(spans.iter().all(|it| hex::encode(&it.trace_id) == TRACE), "{spans:?}");

    // What the receiver was told is the attempt it saw.
    for (request, span) in receiver.received().iter().zip(attempts) {
        let attempt = format!("00-{TRACE}-{}-01", hex::encode(&span.span_id));
        assert_eq!(request.header("traceparent"), Some(attempt.as_str()));
        assert_eq!(request.header("tracestate"), Some("erp=7"));
    }

    // Each attempt tells something of its own, and would send the same again.
    let ran = plugpost(["plan".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn without_a_collector_a_senders_trace_is_passed_on_as_it_came() {
    let receiver = Receiver::ok();
    let engine = Engine::start(&hub(&receiver, None));
    let long = format!("erp={}", "7".repeat(600));
    for headers in [
        &[("traceparent", TRACEPARENT), ("tracestate", "erp=7")][..],
        &[("traceparent", TRACEPARENT), ("tracestate", &long)],
        &[("traceparent", "00-not-a-trace-01")],
        &[],
    ] {
        delivered(&engine, &send(&engine, headers));
    }
    let told = |it: &Received| {
        ["traceparent", "tracestate"].map(|name| it.header(name).map(str::to_owned))
    };
    let told: Vec<_> = receiver.received().iter().map(|it| told(it)).collect();
    let trace = Some(TRACEPARENT.to_owned());
    let state = Some("erp=7".to_owned());
    assert_eq!(told, [[trace.clone(), state], [trace, None], [None, None], [None, None]]);
}

#[test]
fn an_event_that_brings_its_own_trace_keeps_it() {
    let (collector, receiver) = (Receiver::ok(), Receiver::ok());
    let engine = Engine::start(&hub(&receiver, Some(&collector.url("/v1/traces"))));
    let headers = [
        ("authorization", format!("Bearer {TOKEN}")),
        ("content-type", "application/json".to_owned()),
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", "1".to_owned()),
        ("ce-source", "erp".to_owned()),
        ("ce-type", "order.created".to_owned()),
        ("ce-traceparent", TRACEPARENT.to_owned()),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let event = engine.post("/events", &headers, b"{}").event_ids().remove(0);
    delivered(&engine, &event);
    assert_eq!(engine.stop().status, Some(0));
    let spans = spans(&collector);
    let attempt = spans.iter().find(|it| it.name == "attempt").expect("a span");
    assert_eq!(hex::encode(&attempt.trace_id), TRACE);
    assert_eq!(hex::encode(&attempt.parent_span_id), SENDER);
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let receiver = Receiver::ok();
    let closed = Receiver::ok().url("/v1/traces");
    let engine = Engine::start(&hub(&receiver, Some(&closed)));
    let events: Vec<_> = (0..50).map(|_| send(&engine, &[])).collect();
    for event in &events {
        delivered(&engine, event);
    }
    let ended = engine.stop();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn what_is_wrong_with_the_collectors_address_is_said_with_its_place() {
    for (traces, problem) in [
        ("[traces]\nshare = 1", "plugpost.toml:14:1: traces go to a url such as"),
        ("[traces]\nurl = \"localhost:4318\"", "plugpost.toml:15:7: `localhost:4318` is not"),
        (
            "[traces]\nurl = \"http://c/\"\nshare = 2",
            "plugpost.toml:16:9: `traces.share` is a number",
        ),
        ("[traces]\nurl = \"http://c/\"\nheaders.\"a b\" = { env = \"HOME\" }", "is not a header"),
    ] {
        let ran = plugpost(["check".as_ref(), Hub::with("", traces).path().as_os_str()]);
        assert_eq!(ran.status, Some(1), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(problem), "{problem}: {}", ran.stderr);
    }
}
