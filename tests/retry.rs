//! What follows a failed attempt: another one by the schedule, or the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Receiver, Reply};

/// Moments are kept in milliseconds, so a wait can seem shorter by one.
const MS: Duration = Duration::from_millis(1);

#[test]
pub(crate) fn a_failing_endpoint_is_tried_by_its_schedule_and_then_it_is_a_dead_letter() {
    let receiver = Receiver::start(|_| Reply::status(500).with_body("no ☕ today"));
    let hub = Hub::new();
    let retry = "schedule = [\"50ms\", \"300ms\"]\njitter = 0";
    hub.route("out", route(&receiver.url("/in"), "", retry));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{\"n\":1.10}");
    let delivery = engine.ended(&event, "out");

    assert_eq!(delivery["status"], "dead");
    assert_eq!(delivery["last_status_code"], 500);
    assert_eq!(delivery["last_error"], "http.status: the endpoint answered 500");
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    let attempts = delivery["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 3);
    for (at, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt["number"], at + 1);
        assert_eq!(attempt["outcome"], "retry");
        assert_eq!(attempt["status_code"], 500);
        assert_eq!(attempt["error_code"], "http.status");
        assert_eq!(attempt["response_excerpt"], "no ☕ today");
        assert_eq!(attempt["request"]["method"], "POST");
        assert_eq!(attempt["request"]["url"], receiver.url("/in"));
        assert_eq!(attempt["request"]["body"], Value::Null, "it was the event's data, unchanged");
    }

    let received = receiver.received();
    assert_eq!(received.len(), 3);
    for request in &received {
        assert_eq!(request.webhook_id(), event);
        assert_eq!(request.body, b"{\"n\":1.10}");
    }
    let waits = [1, 2].map(|it| received[it].at - received[it - 1].at);
    assert!(waits[0] + MS >= Duration::from_millis(50), "{waits:?}");
    assert!(waits[1] + MS >= Duration::from_millis(300), "{waits:?}");
}

#[test]
pub(crate) fn an_endpoint_that_recovers_gets_what_failed_before() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(503),
        1 => Reply::misbehave(|_| Ok(())),
        _ => Reply::status(204),
    });
    let hub = Hub::new();
    let retry = "schedule = [\"20ms\", \"20ms\", \"1h\"]\njitter = 0";
    hub.route("out", route(&receiver.url("/"), "", retry));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let delivery = engine.ended(&event, "out");
    assert_eq!(delivery["status"], "delivered");
    assert_eq!(delivery["last_status_code"], 204);
    assert_eq!(delivery["last_error"], Value::Null);
    assert_eq!(outcomes(&delivery), ["retry", "retry", "delivered"]);
}

#[test]
fn a_schedule_without_waits_makes_one_attempt() {
    let receiver = Receiver::start(|_| Reply::status(503));
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "", "schedule = []"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let delivery = engine.ended(&event, "out");
    assert_eq!(delivery["status"], "dead");
    assert_eq!(outcomes(&delivery), ["retry"]);
}

#[test]
pub(crate) fn an_endpoint_that_is_gone_ends_it_at_once() {
    let receiver = Receiver::start(|_| Reply::status(410));
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "", "schedule = [\"20ms\"]"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let delivery = engine.ended(&event, "out");
    assert_eq!(delivery["status"], "dead");
    assert_eq!(outcomes(&delivery), ["reject"]);
    assert_eq!(delivery["attempts"][0]["error_code"], "http.gone");
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn every_status_but_2xx_and_410_is_tried_again() {
    let receiver = Receiver::start(|request| {
        Reply::status(request.path[1..].parse().expect("the path is a status"))
    });
    let hub = Hub::new();
    let statuses =
        [200, 201, 202, 204, 299, 300, 301, 304, 400, 401, 404, 409, 410, 429, 500, 503, 599, 999];
    for status in statuses {
        let url = receiver.url(&format!("/{status}"));
        hub.route(&format!("s{status}"), route(&url, "", "schedule = [\"1h\"]"));
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    for status in statuses {
        let expected = match status {
            200..=299 => "delivered",
            410 => "dead",
            _ => "pending",
        };
        let made = |it: &Value| it["last_status_code"] == status;
        let delivery = engine.delivery_when(&event, &format!("s{status}"), "attempted", made);
        assert_eq!(delivery["status"], expected, "{status}");
        assert_eq!(delivery["attempts"].as_array().map(Vec::len), Some(1), "{status}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::ok();
    let target = elsewhere.url("/");
    let receiver = Receiver::start(move |request| {
        let status = request.path[1..].parse().expect("the path is a status");
        Reply::status(status).with_header("location", &target)
    });
    let hub = Hub::new();
    let statuses = [301, 302, 303, 307, 308];
    for status in statuses {
        let url = receiver.url(&format!("/{status}"));
        hub.route(&format!("s{status}"), route(&url, "", "schedule = []"));
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    for status in statuses {
        let delivery = engine.ended(&event, &format!("s{status}"));
        assert_eq!(delivery["status"], "dead", "{status}");
        assert_eq!(delivery["attempts"][0]["error_code"], "http.redirect", "{status}");
    }
    assert_eq!(elsewhere.received().len(), 0);
}

#[test]
fn a_receiver_can_lengthen_a_wait_and_never_shorten_it() {
    let check = |retry_after: &'static str, schedule: &str, at_least: Duration| {
        let receiver =
            Receiver::start(move |_| Reply::status(503).with_header("retry-after", retry_after));
        let hub = Hub::new();
        let retry = format!("schedule = [\"{schedule}\"]\njitter = 0");
        hub.route("out", route(&receiver.url("/"), "", &retry));
        let engine = Engine::start(&hub);
        let event = engine.send("order.created", "{}");
        let delivery = engine.ended(&event, "out");
        assert_eq!(outcomes(&delivery), ["retry", "retry"], "{retry_after:?}");
        let received = receiver.received();
        let wait = received[1].at - received[0].at;
        assert!(wait + MS >= at_least, "{retry_after:?}: {wait:?}");
    };
    check("2", "20ms", Duration::from_secs(2));
    check("0", "400ms", Duration::from_millis(400));
    check("Mon, 04 May 2020 10:00:00 GMT", "400ms", Duration::from_millis(400));
    // What is no number of seconds and no date is as if it were not there.
    for nonsense in ["", "soon", "-5", "1.5", "1e300", "NaN", "1, 2", "\u{e4}"] {
        check(nonsense, "20ms", Duration::from_millis(20));
    }
}

#[test]
pub(crate) fn a_receiver_cannot_park_a_delivery_for_years() {
    let check = |retry_after: &'static str| {
        let receiver =
            Receiver::start(move |_| Reply::status(429).with_header("retry-after", retry_after));
        let hub = Hub::new();
        hub.route("out", route(&receiver.url("/"), "", "schedule = [\"20ms\"]"));
        let engine = Engine::start(&hub);
        let event = engine.send("order.created", "{}");
        let attempted = |it: &Value| it["attempts"] == 1;
        let delivery = engine.delivery_when(&event, "out", "attempted", attempted);
        let time = |name: &str| {
            let text = delivery[name].as_str().unwrap_or_else(|| panic!("{name}: {delivery}"));
            OffsetDateTime::parse(text, &Rfc3339).expect("a time")
        };
        let wait = time("next_attempt_at") - time("created_at");
        assert!(
            (Duration::from_hours(24)..Duration::from_hours(25)).contains(&wait.unsigned_abs()),
            "{retry_after:?}: {wait:?}"
        );
    };
    check("90000");
    check("999999999999");
    check("99999999999999999999999999999999999999");
    check("Fri, 31 Dec 9999 23:59:59 GMT");
}

fn outcomes(delivery: &Value) -> Vec<String> {
    let attempts = delivery["attempts"].as_array().cloned().unwrap_or_else(|| panic!("{delivery}"));
    attempts.iter().map(|it| it["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
pub(crate) fn every_attempt_is_made_from_the_event_anew() {
    // Same id, same body; a signature carries the time of its own attempt.
    let receiver = Receiver::start(|_| Reply::status(503));
    let hub = Hub::new();
    hub.plugin("standard-webhooks").secret("key", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let auth =
        "[[auth]]\nplugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/key\" }\n";
    let retry = "schedule = [\"1100ms\"]\njitter = 0";
    hub.route("out", route(&receiver.url("/"), "", retry) + auth);
    let engine = Engine::start(&hub);
    engine.send("order.created", json!({ "n": 1 }).to_string());
    let received = receiver.first(2);
    let header = |name: &str| [0, 1].map(|at: usize| received[at].header(name).map(str::to_owned));
    assert_eq!(header("webhook-id")[0], header("webhook-id")[1]);
    assert_ne!(header("webhook-timestamp")[0], header("webhook-timestamp")[1]);
    assert_ne!(header("webhook-signature")[0], header("webhook-signature")[1]);
    assert_eq!(received[0].body, received[1].body);
}
