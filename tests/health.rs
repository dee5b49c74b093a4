//! What a lane learns: an endpoint that fails gets a rest, one that is busy gets
//! less, one that is gone gets nothing, and whoever wants to know is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Received, Receiver, Reply};

fn often(wait: &str) -> String {
    format!("schedule = [{}]\njitter = 0", vec![format!("\"{wait}\""); 100].join(", "))
}

/// A receiver that answers with whatever status is set.
fn switched(status: u16) -> (Receiver, Arc<AtomicU16>) {
    let switch = Arc::new(AtomicU16::new(status));
    let of_receiver = switch.clone();
    let receiver = Receiver::start(move |_| Reply::status(of_receiver.load(Ordering::SeqCst)));
    (receiver, switch)
}

/// The longest time between two requests, and how many came before it.
fn longest_silence(received: &[Arc<Received>]) -> (Duration, usize) {
    let silence = |at: usize| (received[at].at - received[at - 1].at, at);
    (1..received.len()).map(silence).max().expect("two requests")
}

#[test]
fn an_endpoint_that_mostly_fails_gets_a_rest_and_then_one_try_first() {
    let (receiver, status) = switched(500);
    let hub = Hub::new();
    let breaker = "[breaker]\nwindow = \"10s\"\nrequests = 20\nsuccess_ratio = 0.9\nrest = \"2s\"";
    let text = route(&receiver.url("/"), "concurrency = 4", &often("20ms"));
    hub.route("out", format!("{text}\n{breaker}\n"));
    let engine = Engine::start(&hub);
    for _ in 0..30 {
        engine.send("order.created", "{}");
    }
    receiver.first(20);
    thread::sleep(Duration::from_millis(500));
    // Those that were under way when it began came to their end.
    let before = receiver.received().len();
    assert!((20..=24).contains(&before), "{before} attempts before the rest");
    // The first after the rest fails as well: another rest.
    receiver.first(before + 1);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(receiver.received().len(), before + 1);
    status.store(200, Ordering::SeqCst);
    engine.drained();
    let received = receiver.received();
    let gaps = [before, before + 1].map(|at| received[at].at - received[at - 1].at);
    assert!(gaps.iter().all(|it| *it >= Duration::from_millis(1_900)), "{gaps:?}");
    assert_eq!(engine.deliveries("status=delivered").len(), 30);
}

#[test]
fn a_platform_s_own_rule_is_applied_and_shown() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| {
        // Four in five succeed; the platform wants nine in ten.
        let fails = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(5);
        Reply::status(if fails { 500 } else { 200 })
    });
    let hub = Hub::new();
    hub.plugin("bigcommerce-b2b").secret("client", "a-client-secret");
    let port = receiver.address.port();
    hub.route(
        "out",
        format!(
            "from = \"erp\"\ntypes = [\"store/company/created\"]\nplatform = \"bigcommerce-b2b\"\n\
             settings = {{ store_id = \"1\", store_hash = \"h\" }}\n\
             secrets.client_secret = {{ file = \"secrets/client\" }}\n\
             [endpoint]\nurl = \"{}\"\nhttps_only = false\nport = {port}\n",
            receiver.url("/")
        ),
    );
    let engine = Engine::start(&hub);
    let endpoint = || engine.get("/v1/endpoints").json()["data"][0].clone();
    let rule = serde_json::json!({
        "window_s": 120.0, "requests": 100, "success_ratio": 0.9, "rest_s": 180.0
    });
    assert_eq!(endpoint()["breaker"], rule);
    for _ in 0..150 {
        engine.send("store/company/created", "{\"id\":1}");
    }
    let rest =
        eventually("the rest", || Some(endpoint()["rest"].clone()).filter(|it| it.is_object()));
    assert_eq!(rest["cause"], "breaker");
    let until = rest["until"].as_str().expect("a time");
    let left = OffsetDateTime::parse(until, &Rfc3339).expect("a time") - OffsetDateTime::now_utc();
    assert!((170..=180).contains(&left.whole_seconds()), "{left}");
    let attempts = receiver.received().len();
    assert!((100..=116).contains(&attempts), "{attempts} attempts");
    assert_eq!(endpoint()["health"], "resting");
}

#[test]
fn a_breaker_can_be_switched_off() {
    let (receiver, _) = switched(500);
    let hub = Hub::new();
    let text = route(&receiver.url("/"), "", &often("10ms"));
    hub.route("out", format!("{text}\n[breaker]\nenabled = false\nrequests = 5\n"));
    let engine = Engine::start(&hub);
    engine.send("order.created", "{}");
    receiver.first(40);
}

#[test]
fn what_a_busy_endpoint_asks_for_holds_for_the_whole_lane() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(429).with_header("retry-after", "2"),
        _ => Reply::status(200),
    });
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "concurrency = 1", &often("10ms")));
    let engine = Engine::start(&hub);
    for _ in 0..5 {
        engine.send("order.created", "{}");
    }
    engine.drained();
    let (silence, after) = longest_silence(&receiver.received());
    assert_eq!((after, silence >= Duration::from_millis(1_900)), (1, true), "{silence:?}");
}

#[test]
fn a_busy_endpoint_is_tried_less_and_less_and_gets_all_when_it_is_not() {
    let (receiver, status) = switched(503);
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "concurrency = 8", &often("10ms")));
    let engine = Engine::start(&hub);
    for _ in 0..40 {
        engine.send("order.created", "{}");
    }
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(4));
    let tries = receiver.received().len();
    assert!((3..30).contains(&tries), "{tries} attempts in {:?}", begun.elapsed());
    status.store(200, Ordering::SeqCst);
    engine.drained();
    assert_eq!(engine.deliveries("status=delivered").len(), 40);
}

#[test]
pub(crate) fn an_endpoint_that_is_gone_is_called_no_more_until_it_is_another() {
    let (receiver, status) = switched(410);
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/old"), "", &often("10ms")));
    let engine = Engine::start(&hub);
    engine.ended(&engine.send("order.created", "{}"), "out");
    let refused = engine.ended(&engine.send("order.created", "{}"), "out");
    assert_eq!(refused["status"], "dead");
    assert_eq!(refused["attempts"], Value::Array(Vec::new()));
    let error = refused["last_error"].as_str().expect("a reason");
    assert!(error.starts_with("endpoint.disabled: since 2") && error.contains("410"), "{error}");

    // It stays so after a restart.
    engine.stop();
    status.store(200, Ordering::SeqCst);
    let engine = Engine::start(&hub);
    assert_eq!(engine.ended(&engine.send("order.created", "{}"), "out")["status"], "dead");
    assert_eq!(receiver.received().len(), 1);

    hub.route("out", route(&receiver.url("/new"), "", &often("10ms")));
    reload(&engine);
    assert_eq!(engine.ended(&engine.send("order.created", "{}"), "out")["status"], "delivered");
}

#[test]
fn an_endpoint_that_only_fails_for_long_is_disabled() {
    let (receiver, _) = switched(500);
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "disable_after = \"1s\"", &often("100ms")));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let delivery = engine.ended(&event, "out");
    let tries = receiver.received().len();
    assert_eq!(delivery["status"], "dead");
    assert!((10..=16).contains(&tries), "{tries} attempts");
    assert!(engine.stderr().contains("the endpoint is disabled"), "{}", engine.stderr());
}

#[test]
pub(crate) fn the_engine_tells_what_becomes_of_endpoints_to_the_routes_that_ask() {
    let (receiver, status) = switched(500);
    let operator = Receiver::ok();
    let everything = Receiver::ok();
    let hub = Hub::new();
    let erp = |url: &str| {
        format!(
            "from = \"erp\"\ntypes = [\"*\"]\n[endpoint]\nurl = \"{url}\"\n[retry]\nschedule = [\"10ms\", \"10ms\"]\n"
        )
    };
    hub.route("out", erp(&receiver.url("/")));
    hub.route("all", route(&everything.url("/"), "", ""));
    let told = erp(&operator.url("/")).replace("erp", "plugpost");
    hub.route("told", told);
    let engine = Engine::start(&hub);
    let exhausted = engine.send("order.created", "{}");
    engine.ended(&exhausted, "out");
    engine.ended(&engine.send("order.created", "{}"), "out");
    status.store(200, Ordering::SeqCst);
    engine.ended(&engine.send("order.created", "{}"), "out");
    status.store(410, Ordering::SeqCst);
    engine.ended(&engine.send("order.created", "{}"), "out");

    let told = operator.first(6);
    engine.drained();
    let told: Vec<Value> =
        told.iter().map(|it| serde_json::from_slice(&it.body).expect("JSON")).collect();
    let rows = engine.deliveries("source=plugpost");
    let mut types: Vec<_> = rows.iter().map(|it| it["type"].as_str().expect("a type")).collect();
    types.sort_unstable();
    assert_eq!(
        types,
        [
            "delivery.exhausted",
            "delivery.exhausted",
            "delivery.exhausted",
            "endpoint.disabled",
            "endpoint.failing",
            "endpoint.recovered"
        ]
    );
    assert!(rows.iter().all(|it| it["route"] == "told" && it["status"] == "delivered"));
    let of_exhausted = told.iter().find(|it| it["event_id"] == *exhausted).expect("it is told");
    assert_eq!(of_exhausted["route"], "out");
    assert_eq!(of_exhausted["attempts"], 3);
    assert_eq!(of_exhausted["status_code"], 500);
    let failing = told.iter().find(|it| it["failing_since"] != Value::Null).expect("it is told");
    assert_eq!(failing["endpoint"], receiver.url("/"));
    // A route for everything is for everything from outside.
    assert_eq!(everything.received().len(), 4);
}

#[test]
fn a_rest_by_the_breaker_is_told_and_an_exhausted_endpoint_disabled_where_the_rule_says_so() {
    let (receiver, _) = switched(500);
    let operator = Receiver::ok();
    let hub = Hub::new();
    let rule = "concurrency = 1\ndisable_when_exhausted = true";
    let out = route(&receiver.url("/"), rule, "schedule = [\"10ms\", \"10ms\"]\njitter = 0");
    hub.route("out", format!("{out}\n[breaker]\nrequests = 2\nrest = \"1s\"\n"));
    let told = route(&operator.url("/"), "", "").replace("from = \"*\"", "from = \"plugpost\"");
    hub.route("told", told);
    let engine = Engine::start(&hub);
    engine.ended(&engine.send("order.created", "{}"), "out");
    let told = operator.first(4);
    let told: Vec<Value> =
        told.iter().map(|it| serde_json::from_slice(&it.body).expect("JSON")).collect();
    assert!(told.iter().any(|it| it["until"].is_string() && it["route"] == "out"), "{told:?}");
    let reason = |it: &Value| it["reason"].as_str().is_some_and(|it| it.contains("retry failed"));
    assert!(told.iter().any(reason), "{told:?}");
    let next = engine.ended(&engine.send("order.created", "{}"), "out");
    assert_eq!((&next["status"], receiver.received().len()), (&"dead".into(), 3));
}

#[test]
fn telling_of_a_failure_to_tell_does_not_go_on_for_ever() {
    let (receiver, _) = switched(500);
    let hub = Hub::new();
    let once = "schedule = []";
    hub.route("out", route(&receiver.url("/out"), "", once));
    hub.route("told", route(&receiver.url("/told"), "", once).replace("\"*\"\n", "\"plugpost\"\n"));
    let engine = Engine::start(&hub);
    for _ in 0..10 {
        engine.send("order.created", "{}");
    }
    receiver.first(20);
    thread::sleep(Duration::from_millis(500));
    // Ten dead letters, and that the endpoint is failing; nothing of the telling itself.
    let told = receiver.received().iter().filter(|it| it.path == "/told").count();
    assert_eq!(told, 11);
}

#[test]
pub(crate) fn a_plugin_that_breaks_again_and_again_is_rested_and_heals_when_it_is_repaired() {
    let receiver = Receiver::ok();
    let other = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("hostile");
    let with = |behaviour: &str| {
        let uses = format!(
            "[[transform]]\nplugin = \"hostile\"\nsettings = {{ behaviour = \"{behaviour}\" }}\n"
        );
        format!("{}\n{uses}", route(&receiver.url("/"), "", &often("50ms")))
    };
    hub.route("broken", with("trap"));
    hub.route("other", route(&other.url("/"), "", ""));
    let engine = Engine::start(&hub);
    for _ in 0..20 {
        engine.send("order.created", "{}");
    }
    other.first(20);
    let attempts = || {
        let rows = engine.deliveries("route=broken&status=pending");
        assert_eq!(rows.len(), 20, "all of them wait");
        rows.iter().map(|it| it["attempts"].as_u64().expect("a count")).sum::<u64>()
    };
    // It is left alone: 10 s pass before the next try, and attempts are not used up.
    eventually("five tries", || (attempts() >= 5).then_some(()));
    thread::sleep(Duration::from_secs(1));
    let tried = attempts();
    assert!(tried <= 5 + 16, "{tried} attempts of a plugin that is broken");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(attempts(), tried);

    let rows = engine.get("/v1/endpoints").json()["data"].clone();
    assert_eq!(
        (&rows[0]["route"], &rows[0]["rest"]["cause"]),
        (&"broken".into(), &"quarantine".into())
    );
    let count = |name: &str| rows[0][name].as_u64().expect("a count");
    assert_eq!((count("backlog") + count("in_hand"), &rows[1]["health"]), (20, &"ok".into()));

    let repaired = Instant::now();
    hub.route("broken", with("nothing"));
    receiver.first(20);
    assert!(repaired.elapsed() < Duration::from_secs(5), "{:?}", repaired.elapsed());
    engine.drained();
    assert_eq!(engine.deliveries("route=broken&status=delivered").len(), 20);
}

#[test]
pub(crate) fn a_disabled_endpoint_takes_nothing_from_the_others() {
    let (gone, _) = switched(410);
    let other = Receiver::ok();
    let hub = Hub::new();
    hub.route("gone", route(&gone.url("/"), "", ""));
    hub.route("other", route(&other.url("/"), "", ""));
    let engine = Engine::start(&hub);
    for _ in 0..200 {
        engine.send("order.created", "{}");
    }
    engine.drained();
    assert_eq!(other.received().len(), 200);
    assert_eq!(engine.deliveries("route=gone&status=dead&limit=500").len(), 200);
    assert!(gone.received().len() <= 16 + 1, "{}", gone.received().len());
}

#[test]
pub(crate) fn a_person_switches_an_endpoint_off_and_on_and_tries_it() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route(
        "out",
        route(&receiver.url("/"), "", "").replace("[\"*\"]", "[\"order.*\", \"stock.low\"]"),
    );
    let engine = Engine::start(&hub);
    let post = |path: &str, body: &str| {
        client::ask(engine.admin, "POST", &format!("/v1/endpoints/{path}"), &[], body.as_bytes())
    };
    let health = || engine.get("/v1/endpoints").json()["data"][0].clone();
    assert_eq!(health()["health"], "ok");
    assert_eq!(post("out/disable", "{\"reason\":\"the shop is closed\"}").json()["changed"], true);
    assert_eq!(post("out/disable", "").json()["changed"], false);
    assert_eq!(health()["health"], "disabled");
    assert_eq!(health()["disabled"]["reason"], "the shop is closed");
    let refused = engine.ended(&engine.send("order.created", "{}"), "out");
    assert_eq!(refused["status"], "dead");
    assert!(refused["last_error"].as_str().is_some_and(|it| it.ends_with("the shop is closed")));

    // What a person decided outlives the process.
    engine.stop();
    let engine = Engine::start(&hub);
    let post = |path: &str, body: &str| {
        client::ask(engine.admin, "POST", &format!("/v1/endpoints/{path}"), &[], body.as_bytes())
    };
    assert_eq!(engine.get("/v1/endpoints").json()["data"][0]["health"], "disabled");
    assert_eq!(post("out/enable", "").json()["changed"], true);
    assert_eq!(engine.ended(&engine.send("order.created", "{}"), "out")["status"], "delivered");

    let tried = post("out/test", "").json();
    let delivery = engine.ended(tried["event_id"].as_str().expect("an id"), "out");
    assert_eq!((&delivery["id"], &delivery["status"]), (&tried["id"], &Value::from("delivered")));
    assert_eq!((&delivery["type"], &delivery["source"]), (&"stock.low".into(), &"plugpost".into()));
    assert_eq!(
        receiver.received().last().map(|it| it.body.clone()),
        Some(b"{\"test\":true}".to_vec())
    );
    let data = "{\"type\":\"order.tried\",\"subject\":\"o-1\",\"data\": { \"a\" : 1.10 } }";
    let tried = post("out/test", data).json();
    engine.ended(tried["event_id"].as_str().expect("an id"), "out");
    assert_eq!(
        receiver.received().last().map(|it| it.body.clone()),
        Some(b"{ \"a\" : 1.10 }".to_vec())
    );
    post("nobody/test", "").problem(404);
    post("nobody/enable", "").problem(404);
    post("out/test", "{\"type\":\"\"}").problem(400);
    post("out/test", "{\"kind\":1}").problem(400);
}

fn reload(engine: &Engine) {
    let answer = client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_wrong_rule_names_its_place() {
    let hub = Hub::new();
    let text = route(
        "https://receiver.example/",
        "order = \"subjects\"\ndisable_after = \"soon\"",
        "exponential = { first = \"1s\", retries = 3 }",
    );
    let breaker = "[breaker]\nsuccess_ratio = 1.5\nrest = \"2h\"\nwindo = \"1m\"\n";
    hub.route("out", format!("{text}\n{breaker}"));
    let ran = crate::support::plugpost([std::ffi::OsStr::new("check"), hub.path().as_os_str()]);
    for wanted in [
        "no order: none, subject, endpoint",
        "`soon` is not a duration",
        "an exponential rule has a `max`",
        "from 0 to 1",
        "it goes from 1s to 1h",
        "did you mean `window`?",
    ] {
        assert!(ran.stderr.contains(wanted), "{wanted}: {}", ran.stderr);
    }
    assert_eq!(ran.stderr.lines().count(), 7, "{}", ran.stderr);
}
