//! Events coming in: by every door, once however often they are sent, and not at
//! all when something is wrong with them.

use std::collections::HashSet;
use std::thread;

use rusqlite::{Connection as Database, OpenFlags};
use serde_json::{Value, json};

use crate::support::client::{self, Answer, Headers};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, to};
use crate::support::receiver::Receiver;
use crate::support::shell;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

// ---- what is taken

/// The media type of an answer, and its words.
type Heard<'a> = (Option<&'a str>, &'a str);

#[test]
fn an_event_comes_in_by_a_source_with_a_plugin() {
    let hub = Hub::new();
    hub.plugin("nue").source("nue", "plugin = \"nue\"");
    let engine = Engine::start(&hub);
    let body = r#"{ "order": {"id": "801", "total": 1.10} }"#;
    let headers = [("content-type", "application/json; charset=utf-8")];
    let answer =
        client::ask(engine.public, "POST", "/in/nue/order.activated", &headers, body.as_bytes());
    let event = event(&engine, &answer);
    assert_eq!(event["source"], "nue");
    assert_eq!(event["type"], "order.activated");
    assert_eq!(event["subject"], "801");
    assert_eq!(event["data"], body);
    assert_eq!(event["attributes"]["datacontenttype"], "application/json; charset=utf-8");
}

#[test]
pub(crate) fn an_event_comes_in_by_a_source_without_a_plugin() {
    let engine = Engine::start(&Hub::new());
    let answer = engine.post("/in/erp/order.created", &[("content-type", "text/csv")], b"a;b\n");
    let event = event(&engine, &answer);
    assert_eq!(event["source"], "erp");
    assert_eq!(event["type"], "order.created");
    assert_eq!(event["subject"], Value::Null);
    assert_eq!(event["data"], "a;b\n");
    assert_eq!(event["attributes"], json!({ "datacontenttype": "text/csv" }));
}

#[test]
fn a_source_answers_in_the_words_that_its_senders_wait_for() {
    let hub = Hub::new();
    let long = format!(r#"{{"challenge":"{}"}}"#, "x".repeat(1025));
    let nothing = (None, "");
    let text = |it| (Some("text/plain; charset=utf-8"), it);
    let cases: [(_, _, _, Heard<'_>); 9] = [
        ("status = 200, body = \"\"", "{}", 200, nothing),
        ("status = 204", "{}", 204, nothing),
        ("body = \"ok\"", "{}", 202, text("ok")),
        (
            "body = \"<Response/>\", content_type = \"text/xml\"",
            "{}",
            202,
            (Some("text/xml"), "<Response/>"),
        ),
        (
            "status = 200, echo = \"/challenge\"",
            r#"{"challenge":"3eZb\u00e4"}"#,
            200,
            text("3eZb\u{e4}"),
        ),
        ("body = \"ok\", echo = \"/a/0\"", r#"{"a":["b"]}"#, 202, text("b")),
        ("body = \"\", echo = \"/challenge\"", r#"{"challenge":1}"#, 202, nothing),
        ("body = \"\", echo = \"/challenge\"", "not JSON", 202, nothing),
        ("body = \"\", echo = \"/challenge\"", &long, 202, nothing),
    ];
    for (at, (answer, ..)) in cases.iter().enumerate() {
        hub.source(&format!("s{at}"), &format!("tokens = [\"erp\"]\nanswer = {{ {answer} }}"));
    }
    hub.source("ids", "tokens = [\"erp\"]\nanswer = { status = 200, echo = \"/challenge\" }");
    let engine = Engine::start(&hub);
    for (at, (_, request, status, heard)) in cases.iter().enumerate() {
        let answer = engine.post(&format!("/in/s{at}/order.created"), &[], request.as_bytes());
        let found = (answer.header("content-type"), answer.text());
        assert_eq!((answer.status, found), (*status, *heard), "{at}");
    }
    let answer = engine.post("/in/ids/order.created", &[], b"{}");
    assert_eq!(answer.status, 200);
    let id = answer.json()["events"][0].as_str().expect("an id").to_owned();
    assert_eq!(engine.get(&format!("/v1/events/{id}")).json()["source"], "ids");
    let kept = engine.get("/v1/events?limit=100").json()["data"].as_array().map(Vec::len);
    assert_eq!(kept, Some(cases.len() + 1), "each is kept, whatever its sender heard");

    let refused = client::ask(engine.public, "POST", "/in/s0/order.created", &[], b"{}");
    refused.problem(401);
}

#[test]
fn xero_hears_200_and_nothing_else_for_what_it_signed_and_401_for_the_rest() {
    let hub = Hub::new();
    hub.plugin("hmac").secret("xero", "xero-key").source(
        "books",
        "plugin = \"hmac\"\nsettings.scheme = \"xero\"\nsecrets.key = { file = \"secrets/xero\" }\n\
         answer.status = 200\nanswer.body = \"\"",
    );
    let engine = Engine::start(&hub);
    // The golden case of the plugin.
    let body =
        br#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"QHZXSOIRMA"}"#;
    let asked = |signature| {
        let headers = [("x-xero-signature", signature)];
        client::ask(engine.public, "POST", "/in/books/batch", &headers, body)
    };
    let good = asked("qZIgjykkE4A3P1pzaTrVXe9y7zwoDtf8t1Y35y1CRpU=");
    assert_eq!((good.status, good.body.len(), good.header("set-cookie")), (200, 0, None));
    asked("qZIgjykkE4A3P1pzaTrVXe9y7zwoDtf8t1Y35y1CRpA=").problem(401);
}

#[test]
fn a_structured_cloud_event_comes_in() {
    let engine = Engine::start(&Hub::new());
    let body = r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"order.created",
        "subject":"801","time":"2026-05-04T12:00:00+02:00","tracelevel":3,"urgent":true,
        "data":{"total":1.10,"a":1,"a":2}}"#;
    let event =
        event(&engine, &engine.post("/events", &[("content-type", STRUCTURED)], body.as_bytes()));
    assert_eq!(event["source"], "erp");
    assert_eq!(event["type"], "order.created");
    assert_eq!(event["subject"], "801");
    assert_eq!(event["time"], "2026-05-04T10:00:00.000Z");
    assert_eq!(event["data"], r#"{"total":1.10,"a":1,"a":2}"#);
    let attributes = json!({
        "id": "A-1",
        "source": "/shop",
        "tracelevel": "3",
        "urgent": "true",
        "datacontenttype": "application/json",
    });
    assert_eq!(event["attributes"], attributes);
}

#[test]
fn the_data_of_a_structured_cloud_event_is_json_or_text_or_bytes() {
    let engine = Engine::start(&Hub::new());
    let check = |members: &str, expected: Value| {
        let id = fastrand::u64(..);
        let body =
            format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"{members}}}"#);
        let answer = engine.post("/events", &[("content-type", STRUCTURED)], body.as_bytes());
        let event = event(&engine, &answer);
        let data = match &event["data_base64"] {
            Value::Null => event["data"].clone(),
            base64 => json!({ "base64": base64 }),
        };
        assert_eq!(data, expected, "{members}");
    };
    check(r#","data":"a\u0001ä""#, json!(r#""a\u0001ä""#));
    check(r#","datacontenttype":"text/plain","data":"a\u0001ä""#, json!("a\u{1}ä"));
    check(r#","datacontenttype":"application/vnd.x+json","data":1.10"#, json!("1.10"));
    check(r#","data_base64":"AP/+""#, json!({ "base64": "AP/+" }));
    check(r#","data":null"#, json!("null"));
    check("", json!(""));
}

#[test]
fn a_binary_cloud_event_comes_in() {
    let engine = Engine::start(&Hub::new());
    let headers = [
        ("content-type", "application/octet-stream"),
        ("ce-specversion", "1.0"),
        ("ce-id", "A-1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.created"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("ce-time", "2026-05-04T10:00:00Z"),
        ("ce-tracelevel", "3"),
    ];
    let event = event(&engine, &engine.post("/events", &headers, b"\0\xff{"));
    assert_eq!(event["subject"], "Euro €");
    assert_eq!(event["time"], "2026-05-04T10:00:00.000Z");
    assert_eq!(event["data_base64"], "AP97");
    assert_eq!(event["attributes"]["tracelevel"], "3");
    assert_eq!(event["attributes"]["datacontenttype"], "application/octet-stream");
}

#[test]
pub(crate) fn a_batch_of_cloud_events_comes_in_as_a_whole() {
    let engine = Engine::start(&Hub::new());
    let one = |id: u32| json!({ "specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "t", "data": id });
    let batch = |ids: std::ops::Range<u32>| Value::Array(ids.map(one).collect()).to_string();
    let headers = [("content-type", BATCH)];
    let ids = engine.post("/events", &headers, batch(0..3).as_bytes()).event_ids();
    let data = |id: &String| engine.get(&format!("/v1/events/{id}")).json()["data"].clone();
    assert_eq!(ids.iter().map(data).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(engine.post("/events", &headers, b"[]").event_ids(), [""; 0]);
    // As many as one request may bring; the first three are known already.
    let again = engine.post("/events", &headers, batch(0..1000).as_bytes()).event_ids();
    assert_eq!(again.len(), 1000);
    assert_eq!(again[..3], ids);
}

#[test]
fn a_token_cannot_speak_for_another_door() {
    let tables =
        "[[token]]\nname = \"shop\"\nsecret = { file = \"secrets/shop\" }\nscopes = [\"ingest\"]";
    let hub = Hub::with("", tables);
    hub.secret("shop", "shop-0123456789-token");
    hub.source("shop", "tokens = [\"shop\"]").source("both", "tokens = [\"erp\", \"shop\"]");
    let engine = Engine::start(&hub);
    let check = |source: &str, expected: &str| {
        let id = fastrand::u64(..).to_string();
        let headers =
            [("ce-specversion", "1.0"), ("ce-id", &id), ("ce-source", source), ("ce-type", "t")];
        assert_eq!(event(&engine, &engine.post("/events", &headers, b""))["source"], expected);
    };
    check("both", "both");
    check("erp", "erp");
    check("shop", "erp");
    check("/anything", "erp");
}

// ---- once

#[test]
pub(crate) fn the_same_idempotency_key_is_the_same_event_and_delivered_once() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let first = cloud_event(&engine, "key-1", "one").event_ids();
    assert_eq!(cloud_event(&engine, "key-1", "one").event_ids(), first);
    cloud_event(&engine, "key-1", "other").problem(409);
    let second = cloud_event(&engine, "key-2", "other").event_ids();
    assert_ne!(first, second);
    engine.drained();
    let arrived: Vec<_> = receiver.received().iter().map(|it| it.webhook_id().to_owned()).collect();
    assert_eq!(arrived, [first, second].concat());
}

#[test]
pub(crate) fn an_idempotency_key_outlives_a_crash() {
    let hub = Hub::new();
    let engine = Engine::start(&hub);
    let first = cloud_event(&engine, "key-1", "one").event_ids();
    engine.kill();
    let engine = Engine::start(&hub);
    assert_eq!(cloud_event(&engine, "key-1", "one").event_ids(), first);
    cloud_event(&engine, "key-1", "other").problem(409);
}

#[test]
pub(crate) fn a_hundred_posts_at_once_with_one_key_make_one_event() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let at_once = |bodies: [&str; 2], key: &str| -> Vec<Answer> {
        thread::scope(|scope| {
            let engine = &engine;
            let ask = |at: usize| scope.spawn(move || cloud_event(engine, key, bodies[at % 2]));
            let asked: Vec<_> = (0..100).map(ask).collect();
            asked.into_iter().map(|it| it.join().expect("an answer")).collect()
        })
    };

    let answers = at_once(["one", "one"], "same-body");
    let ids: HashSet<_> = answers.iter().map(Answer::event_ids).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");

    // With two bodies one of them wins, and whoever sent the other is told.
    let answers = at_once(["one", "two"], "two-bodies");
    let taken: HashSet<_> =
        answers.iter().filter(|it| it.status == 202).map(Answer::event_ids).collect();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let refused: Vec<_> = answers.iter().filter(|it| it.status != 202).collect();
    assert_eq!(refused.len(), 50);
    refused.iter().for_each(|it| drop(it.problem(409)));

    engine.drained();
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn the_same_cloud_event_is_taken_once() {
    let engine = Engine::start(&Hub::new());
    let send = |source: &str, id: &str| {
        let headers =
            [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", source), ("ce-type", "t")];
        engine.post("/events", &headers, b"").event_ids()
    };
    let first = send("/a", "1");
    assert_eq!(send("/a", "1"), first);
    assert_ne!(send("/a", "2"), first);
    assert_ne!(send("/b", "1"), first);
    // What stands together must not be one thing with what stands apart.
    assert_ne!(send("/a1", "2"), send("/a", "12"));
}

#[test]
pub(crate) fn what_a_platform_fires_twice_is_taken_once_per_source() {
    let hub = Hub::new();
    hub.plugin("ordermentum");
    hub.source("one", "plugin = \"ordermentum\"").source("two", "plugin = \"ordermentum\"");
    let engine = Engine::start(&hub);
    let send = |source: &str, updated_at: &str| {
        let body = json!({
            "event": "order_updated",
            "timestamp": "2026-05-04T09:59:57Z",
            "data": { "id": "5b1f0f4e", "updatedAt": updated_at },
        });
        let path = format!("/in/{source}");
        client::ask(engine.public, "POST", &path, &[], body.to_string().as_bytes()).event_ids()
    };
    let first = send("one", "2026-05-04T09:59:41Z");
    assert_eq!(send("one", "2026-05-04T09:59:41Z"), first);
    assert_ne!(send("one", "2026-05-04T09:59:42Z"), first);
    assert_ne!(send("two", "2026-05-04T09:59:41Z"), first);
}

/// The event of a 202 for one, as the log has it.
fn event(engine: &Engine, answer: &Answer) -> Value {
    let ids = answer.event_ids();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let answer = engine.get(&format!("/v1/events/{}", ids[0]));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// A new event for each body, so that only the key tells that two are the same.
pub(crate) fn cloud_event(engine: &Engine, key: &str, body: &str) -> Answer {
    let id = fastrand::u64(..).to_string();
    let headers = [
        ("idempotency-key", key),
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    engine.post("/events", &headers, body.as_bytes())
}

// ---- what is refused

/// The largest body that the engine of these tests takes.
const BODY_BYTES_MAX: usize = 4096;

#[test]
fn what_is_wrong_is_refused_with_a_problem_and_leaves_nothing_behind() {
    let receiver = Receiver::ok();
    let hub = hub_with_every_kind_of_source();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let bearer = |token: &str| format!("Bearer {token}");
    let (erp, nobody, elsewhere) =
        (bearer(TOKEN), bearer("nobody-token"), bearer("elsewhere-token"));
    let erp = ("authorization", erp.as_str());
    let check = |path: &str, headers: Headers<'_>, body: &[u8], status: u16, detail: &str| {
        let answer = client::ask(engine.public, "POST", path, headers, body);
        let found = answer.problem(status);
        assert!(found.contains(detail), "{path} {headers:?}: {found:?} does not say {detail:?}");
        if status == 401 {
            assert!(answer.header("www-authenticate").is_some(), "{path}");
        }
    };

    // Who sends.
    let basic = ("authorization", "Basic ZXJwOng=");
    for path in ["/in/erp/order.created", "/events"] {
        check(path, &[], b"", 401, "needs a bearer token");
        check(path, &[basic], b"", 401, "needs a bearer token");
        check(path, &[("authorization", "Bearer")], b"", 401, "needs a bearer token");
        check(path, &[("authorization", "Bearer x")], b"", 401, "not known");
        check(path, &[("authorization", &format!("Bearer {TOKEN}x"))], b"", 401, "not known");
        check(path, &[("authorization", &nobody)], b"", 403, "scopes");
    }
    check(
        "/in/erp/order.created",
        &[("authorization", &elsewhere)],
        b"",
        403,
        "not one of this source's",
    );
    check("/in/ninja/quote-created", &[], b"", 401, "");
    check("/in/ninja/quote-created", &[("qn-secret", "ninja-secreT")], b"", 401, "");
    check("/in/signed/x", &[], b"{}", 401, "the header webhook-id is missing");
    let signed = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    check("/in/signed/x", &signed, b"{}", 401, "300 s off");

    // Where to.
    check("/in/nowhere/order.created", &[erp], b"", 404, "there is no source `nowhere`");
    check("/in/", &[erp], b"", 404, "there is no source");
    check("/", &[erp], b"", 404, "/in/{source} and /events");
    check("/events/", &[erp], b"", 404, "/in/{source} and /events");
    check("/healthz", &[erp], b"", 404, "");

    // What.
    let too_long = vec![b'a'; BODY_BYTES_MAX + 1];
    check("/in/erp/order.created", &[erp], &too_long, 413, "more than 4096 bytes");
    check("/in/erp/", &[erp], b"", 400, "the event type stands in the path");
    check("/in/erp", &[erp], b"", 400, "the event type stands in the path");
    check(&format!("/in/erp/{}", "t".repeat(1025)), &[erp], b"", 400, "1024 bytes");
    check("/in/nue/order.activated", &[], b"{\"order\":\n {\"id\": }}", 400, "line 2 column 9");
    check("/in/nue/order.activated", &[], b"", 400, "line 1 column 0");
    check("/in/nue/order.activated", &[], b"{} {}", 400, "line 1 column 4");
    check("/in/nue/order.activated", &[], &[b'['; 4000], 400, "line 1 column");
    check(
        "/in/ninja/quote-lost",
        &[("qn-secret", "ninja-secret")],
        b"",
        400,
        "the path says no event",
    );

    // CloudEvents.
    let ce = |name| (name, "1");
    let typed = ("ce-type", "t");
    let version = ("ce-specversion", "1.0");
    check("/events", &[erp], b"{}", 415, "is not taken");
    check("/events", &[erp, ("content-type", "application/json")], b"{}", 415, "application/json");
    check("/events", &[erp, ("content-type", "application/cloudevents+xml")], b"{}", 415, "xml");
    check("/events", &[erp, version, ce("ce-source"), typed], b"", 400, "`id` is missing");
    check("/events", &[erp, version, ce("ce-id"), typed], b"", 400, "`source` is missing");
    check("/events", &[erp, version, ce("ce-id"), ce("ce-source")], b"", 400, "`type` is missing");
    let complete = |more: &[(&str, &str)], status, detail: &str| {
        let mut headers = vec![erp, version, ce("ce-id"), ce("ce-source"), typed];
        headers.retain(|(name, _)| !more.iter().any(|(it, _)| it == name));
        headers.extend_from_slice(more);
        check("/events", &headers, b"", status, detail);
    };
    complete(&[("ce-specversion", "0.3")], 400, "specversion \"0.3\" is not 1.0");
    complete(&[("ce-time", "yesterday")], 400, "not an RFC 3339 time");
    complete(&[("ce-subject", "%ff")], 400, "`ce-subject` is not percent-encoded UTF-8");
    complete(&[("ce-type", "a%0Ab")], 400, "no control characters");
    complete(&[("ce-type", &"t".repeat(1025))], 400, "1024 bytes");
    complete(&[("ce-subject", &"s".repeat(1025))], 400, "1024 bytes");
    let structured = |body: &str, detail: &str| {
        check("/events", &[erp, ("content-type", STRUCTURED)], body.as_bytes(), 400, detail);
    };
    structured("", "line 1 column 0");
    structured("[]", "not a CloudEvent in JSON");
    structured("{\"specversion\":\n\"1.0\",}", "line 2 column 7");
    structured(r#"{"specversion":"1.0","id":"1","type":"t"}"#, "`source` is missing");
    structured(r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, "`id` is missing");
    structured(
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","x":{}}"#,
        "neither text nor number",
    );
    structured(
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}"#,
        "both",
    );
    structured(
        r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"*"}"#,
        "not base64",
    );
    let batch = |body: &str, detail: &str| {
        check("/events", &[erp, ("content-type", BATCH)], body.as_bytes(), 400, detail);
    };
    batch("{}", "not a CloudEvent in JSON");
    // One that is wrong takes the others with it.
    let good = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    batch(&format!("[{good},{{}}]"), "`specversion` is missing");
    batch(&format!("[{good},1]"), "not a CloudEvent in JSON");

    nothing_is_left(&engine, &hub, &receiver);
}

#[test]
fn only_post_brings_events_in() {
    let engine = Engine::start(&Hub::new());
    for path in ["/in/erp/order.created", "/events"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "post", "BREW"] {
            let answer = client::ask(engine.public, method, path, &[("content-length", "0")], b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
        }
        client::ask(engine.public, "GET", path, &[], b"").problem(405);
    }
}

#[test]
fn a_body_is_refused_as_soon_as_it_is_too_large() {
    let hub = hub_with_every_kind_of_source();
    let engine = Engine::start(&hub);
    let authorization = format!("Bearer {TOKEN}");
    let ask = |framing: (&str, &str), body: &[u8]| {
        let headers = [("authorization", authorization.as_str()), framing];
        let mut connection = client::Connection::open(engine.public).expect("the engine listens");
        let request = client::request("POST", "/in/erp/order.created", &headers, body);
        connection.write(&request).expect("the engine reads");
        // Neither body has come to its end: the engine does not wait for it.
        connection.answer().expect("the engine answers")
    };
    ask(("content-length", "4097"), b"").problem(413);
    ask(("content-length", "99999999999999"), b"").problem(413);
    let mut chunk = b"1001\r\n".to_vec();
    chunk.resize(chunk.len() + BODY_BYTES_MAX + 1, b'a');
    ask(("transfer-encoding", "chunked"), &chunk).problem(413);
    nothing_is_left(&engine, &hub, &Receiver::ok());

    // The limit itself is within the limit.
    let body = vec![b'a'; BODY_BYTES_MAX];
    assert_eq!(engine.post("/in/erp/order.created", &[], &body).status, 202);
}

#[test]
fn a_batch_of_too_many_is_refused_as_a_whole() {
    let engine = Engine::start(&Hub::new());
    let one =
        |id| json!({ "specversion": "1.0", "id": format!("{id}"), "source": "/s", "type": "t" });
    let batch = Value::Array((0..1001).map(one).collect()).to_string();
    let answer = engine.post("/events", &[("content-type", BATCH)], batch.as_bytes());
    assert!(answer.problem(413).contains("more than 1000 events"));
}

#[test]
fn a_store_that_cannot_grow_refuses_loses_nothing_and_goes_on_when_it_can() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    // A limit on the size of files: what a full disk is, without a disk. Signals that
    // are ignored stay ignored in the new program, so writing fails as on a full disk.
    let limited = "trap '' XFSZ; ulimit -f 2048; exec \"$1\" serve \"$2\"";
    let binary = env!("CARGO_BIN_EXE_plugpost");
    let mut command = shell(limited, &[binary.as_ref(), hub.path().as_ref()]);
    command.env("NO_COLOR", "1");
    let engine = Engine::start_command(command, &hub);
    let body = "a".repeat(50_000);
    let mut taken = HashSet::new();
    let mut refused = 0;
    for _ in 0..100 {
        let answer = engine.post("/in/erp/order.created", &[], body.as_bytes());
        match answer.status {
            202 => drop(taken.insert(answer.event_ids().remove(0))),
            _ => {
                answer.problem(503);
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
                refused += 1;
            }
        }
    }
    assert!(!taken.is_empty() && refused > 0, "{} taken, {refused} refused", taken.len());
    assert_eq!(client::ask(engine.admin, "GET", "/healthz", &[], b"").status, 200);
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
    engine.kill();

    let engine = Engine::start(&hub);
    taken.insert(engine.send("order.created", "again"));
    engine.drained();
    let arrived: HashSet<_> =
        receiver.received().iter().map(|it| it.webhook_id().to_owned()).collect();
    assert_eq!(arrived, taken);
}

fn hub_with_every_kind_of_source() -> Hub {
    let tables = format!(
        "[limits]\nbody_bytes = {BODY_BYTES_MAX}\n\
         [[token]]\nname = \"nobody\"\nsecret = {{ file = \"secrets/nobody\" }}\nscopes = []\n\
         [[token]]\nname = \"elsewhere\"\nsecret = {{ file = \"secrets/elsewhere\" }}\nscopes = [\"ingest\"]\n"
    );
    let hub = Hub::with("", &tables);
    hub.secret("nobody", "nobody-token").secret("elsewhere", "elsewhere-token");
    hub.plugin("nue").source("nue", "plugin = \"nue\"");
    hub.secret("ninja", "ninja-secret").plugin("b2b-ninja");
    hub.source("ninja", "plugin = \"b2b-ninja\"\nsecrets.shared = { file = \"secrets/ninja\" }");
    hub.secret("key", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").plugin("standard-webhooks");
    hub.source(
        "signed",
        "plugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/key\" }",
    );
    hub
}

/// No event, no delivery, no request, no panic.
fn nothing_is_left(engine: &Engine, hub: &Hub, receiver: &Receiver) {
    assert_eq!(engine.deliveries(""), Vec::<Value>::new());
    let database = Database::open_with_flags(hub.store(), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let count = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM seen)";
    let count: i64 = database
        .and_then(|it| it.query_row(count, [], |row| row.get(0)))
        .expect("the store can be read");
    assert_eq!(count, 0);
    assert_eq!(receiver.received().len(), 0);
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}
