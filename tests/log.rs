//! The delivery log, as people and programs ask for it: lists and filters, one
//! delivery, resending, who may ask, and health.

use std::collections::HashSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, once, route};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{eventually, plugpost};

/// Deliveries of every status, from two sources, with subjects.
fn a_log_with_something_of_everything() -> (Hub, Receiver, Engine) {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/ok" => Reply::status(200),
        "/gone" => Reply::status(410),
        _ => Reply::status(503),
    });
    let tables =
        "[[token]]\nname = \"shop\"\nsecret = { file = \"secrets/shop\" }\nscopes = [\"ingest\"]";
    let hub = Hub::with("", tables);
    hub.secret("shop", "shop-token").source("shop", "tokens = [\"erp\", \"shop\"]");
    let of_type = |event_type: &str, path: &str| {
        let text = route(&receiver.url(path), "", "schedule = [\"1h\"]");
        text.replace("types = [\"*\"]", &format!("types = [\"{event_type}\"]"))
    };
    hub.route("ok", of_type("a.*", "/ok"));
    hub.route("gone", of_type("b.1", "/gone"));
    hub.route("later", of_type("c.1", "/later"));
    let declines = "[[filter]]\nplugin = \"hostile\"\nsettings.behaviour = \"decline\"\n";
    hub.plugin("hostile").route("filtered", of_type("d.1", "/ok") + declines);

    let engine = Engine::start(&hub);
    for source in ["erp", "shop"] {
        for subject in ["s1", "s2"] {
            for event_type in ["a.1", "a.2", "b.1", "c.1", "d.1"] {
                cloud_event(&engine, source, event_type, subject);
            }
        }
    }
    eventually("the first attempt of everything", || {
        let rows = engine.deliveries("limit=500");
        let settled = |it: &Value| it["status"] != "pending" || it["attempts"] != 0;
        (rows.len() == 20 && rows.iter().all(settled)).then_some(())
    });
    (hub, receiver, engine)
}

fn cloud_event(engine: &Engine, source: &str, event_type: &str, subject: &str) -> String {
    let id = fastrand::u64(..).to_string();
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", source),
        ("ce-type", event_type),
        ("ce-subject", subject),
    ];
    engine.post("/events", &headers, b"{}").event_ids().remove(0)
}

#[test]
pub(crate) fn the_list_is_filtered_by_each_of_its_parameters() {
    let (_hub, receiver, engine) = a_log_with_something_of_everything();
    let all = engine.deliveries("limit=500");
    assert_eq!(all.len(), 20);
    let ids = |rows: &[Value]| rows.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    assert!(ids(&all).is_sorted_by(|a, b| a.as_str() > b.as_str()), "newest first");
    let check = |query: &str, count: usize, expected: &dyn Fn(&Value) -> bool| {
        let expected: Vec<_> = all.iter().filter(|it| expected(it)).cloned().collect();
        assert_eq!(expected.len(), count, "{query}: of the whole list");
        assert_eq!(
            ids(&engine.deliveries(&format!("limit=500&{query}"))),
            ids(&expected),
            "{query}"
        );
    };
    for (status, count) in [("pending", 4), ("delivered", 8), ("filtered", 4), ("dead", 4)] {
        check(&format!("status={status}"), count, &|it| it["status"] == status);
    }
    check("type=a.1", 4, &|it| it["type"] == "a.1");
    check("type=a.*", 8, &|it| it["type"].as_str().is_some_and(|it| it.starts_with("a.")));
    check("type=*", 20, &|_| true);
    check("type=z*", 0, &|_| false);
    check("q=ANSWERED%20503", 4, &|it| it["last_status_code"] == 503);
    check("q=answered&route=gone", 4, &|it| it["route"] == "gone");
    check("q=nothing%20like%20it", 0, &|_| false);
    let id_of = |at: usize, name: &str| all[at][name].as_str().expect("an id").to_owned();
    check(&format!("q={}", id_of(3, "id")), 1, &|it| it["id"] == all[3]["id"]);
    check(&format!("q={}", id_of(3, "event_id")), 1, &|it| it["id"] == all[3]["id"]);
    check(&format!("q={}", &id_of(3, "event_id")[4..]), 1, &|it| it["id"] == all[3]["id"]);
    let start = &id_of(0, "id")[..8];
    check(&format!("q={start}"), 20, &|_| true);
    check("subject=s2", 10, &|it| it["subject"] == "s2");
    check("source=shop", 10, &|it| it["source"] == "shop");
    check("route=ok", 8, &|it| it["route"] == "ok");
    check("route=nowhere", 0, &|_| false);
    let url = receiver.url("/gone");
    let encoded = url.replace(':', "%3A").replace('/', "%2F");
    check(&format!("endpoint={encoded}"), 4, &|it| it["endpoint"] == *url);
    check(&format!("event_id={}", all[7]["event_id"].as_str().expect("an id")), 1, &|it| {
        it["event_id"] == all[7]["event_id"]
    });
    // A moment belongs to what follows it.
    let moment = |at: usize| all[at]["created_at"].as_str().expect("a time").to_owned();
    let (late, early) = (moment(5), moment(15));
    let created = |it: &Value| it["created_at"].as_str().unwrap_or_default().to_owned();
    let count = |is_it: &dyn Fn(&Value) -> bool| all.iter().filter(|it| is_it(it)).count();
    let since = |it: &Value| created(it) >= early;
    check(&format!("since={early}"), count(&since), &since);
    let until = |it: &Value| created(it) < late;
    check(&format!("until={late}"), count(&until), &until);
    let between = |it: &Value| since(it) && until(it);
    check(&format!("since={early}&until={late}"), count(&between), &between);
    check("since=2999-01-01T00:00:00%2B02:00", 0, &|_| false);
    check("status=delivered&subject=s1&source=erp&type=a.2&route=ok", 1, &|it| {
        it["status"] == "delivered"
            && it["subject"] == "s1"
            && it["source"] == "erp"
            && it["type"] == "a.2"
    });
}

#[test]
pub(crate) fn a_row_says_what_became_of_a_delivery() {
    let (_hub, receiver, engine) = a_log_with_something_of_everything();
    let row = |query: &str| engine.deliveries(&format!("{query}&limit=1")).remove(0);
    let mut later = row("route=later");
    for name in ["id", "event_id", "created_at", "next_attempt_at"] {
        assert!(later[name].take().is_string(), "{name}");
    }
    let expected = json!({
        "id": null,
        "event_id": null,
        "type": "c.1",
        "subject": "s2",
        "source": "shop",
        "route": "later",
        "endpoint": receiver.url("/later"),
        "status": "pending",
        "attempts": 1,
        "created_at": null,
        "next_attempt_at": null,
        "last_status_code": 503,
        "last_error": "http.status: the endpoint answered 503",
    });
    assert_eq!(later, expected);
    let filtered = row("route=filtered");
    assert_eq!(filtered["attempts"], 0, "a filter is no attempt");
    assert_eq!(filtered["next_attempt_at"], Value::Null);
    assert_eq!(filtered["last_status_code"], Value::Null);
}

#[test]
pub(crate) fn pages_follow_each_other_while_the_log_grows() {
    let (_hub, _receiver, engine) = a_log_with_something_of_everything();
    let whole = engine.deliveries("limit=500");
    let mut paged: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = engine.get(&format!("/v1/deliveries?limit=7{cursor}")).json();
        let rows = page["data"].as_array().expect("rows");
        assert!((1..=7).contains(&rows.len()), "{}", rows.len());
        paged.extend(rows.iter().cloned());
        // What is new stands before the first page and moves none of the others.
        cloud_event(&engine, "erp", "c.1", "new");
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let ids = |rows: &[Value]| rows.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&paged), ids(&whole));
    // A page that ends with the log has no next.
    let all = engine.deliveries("limit=500").len();
    assert_eq!(engine.get(&format!("/v1/deliveries?limit={all}")).json()["next"], Value::Null);
}

#[test]
pub(crate) fn what_cannot_be_asked_is_a_problem_that_says_why() {
    let hub = Hub::new();
    let engine = Engine::start(&hub);
    let mut wrong = Vec::new();
    let mut check = |method: &str, path: &str, body: &str, status: u16, detail: &str| {
        let answer = client::ask(engine.admin, method, path, &[], body.as_bytes());
        match answer.try_problem(status) {
            Ok(found) if found.contains(detail) => {}
            Ok(found) => wrong.push(format!("{method} {path}: {found:?} does not say {detail:?}")),
            Err(why) => wrong.push(format!("{method} {path}: {why}")),
        }
    };
    check("GET", "/v1/deliveries?stauts=dead", "", 400, "did you mean `status`?");
    check("GET", "/v1/deliveries?colour=red", "", 400, "unknown parameter `colour`");
    check("GET", "/v1/deliveries?status=lost", "", 400, "pending, delivered, filtered or dead");
    check("GET", "/v1/deliveries?status=", "", 400, "pending, delivered, filtered or dead");
    check("GET", "/v1/deliveries?since=yesterday", "", 400, "RFC 3339");
    check("GET", "/v1/deliveries?until=2026-05-04", "", 400, "RFC 3339");
    check("GET", "/v1/deliveries?cursor=evt_0000000000000", "", 400, "a cursor");
    for limit in ["0", "501", "-1", "many", "99999999999999999999"] {
        check("GET", &format!("/v1/deliveries?limit={limit}"), "", 400, "from 1 to 500");
    }
    check("GET", "/v1/deliveries/dlv_1", "", 400, "dlv_…");
    check("GET", "/v1/deliveries/dlv_0000000000000", "", 404, "no delivery");
    check("POST", "/v1/deliveries/dlv_0000000000000/resend", "", 404, "");
    check("POST", "/v1/deliveries/x/resend", "", 400, "dlv_…");
    check("POST", "/v1/deliveries/dlv_0000000000000/resend", "{\"as_old\":true}", 400, "as_old");
    check("POST", "/v1/deliveries/dlv_0000000000000/resend", "{", 400, "line 1");
    check("GET", "/v1/events/x", "", 400, "evt_…");
    check("GET", "/v1/events/evt_0000000000000", "", 404, "no event");
    check("GET", "/v1/nothing", "", 404, "nothing at this path");
    check("GET", "/%ff", "", 404, "nothing at this path");
    check("GET", "/v1/deliveries/%ff", "", 400, "");
    check("DELETE", "/v1/deliveries", "", 405, "");
    check("GET", "/v1/deliveries/dlv_0000000000000/resend", "", 405, "");
    let large = "a".repeat(100_000);
    check("POST", "/v1/deliveries/dlv_0000000000000/resend", &large, 413, "");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}

// ---- resending

#[test]
pub(crate) fn a_resend_is_a_new_delivery_of_the_same_event() {
    let (receiver, engine) = dead_then_well();
    let event = engine.send("order.created", "{\"n\":1.10}");
    let dead = engine.ended(&event, "out");
    assert_eq!(dead["status"], "dead");
    let id = dead["id"].as_str().expect("an id");

    let check = |body: &str| {
        let path = format!("/v1/deliveries/{id}/resend");
        let answer = client::ask(engine.admin, "POST", &path, &[], body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        let resent = answer.json();
        assert_ne!(resent["id"], dead["id"]);
        assert_eq!(resent["event_id"], *event);
        let again = delivered(&engine, &resent);
        assert_eq!(again["attempts"].as_array().map(Vec::len), Some(1));
    };
    check("");
    check("{}");
    check("{\"as_new\":false}");
    assert_eq!(engine.delivery(id)["status"], "dead", "what ended has ended");
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    for request in &received {
        assert_eq!(request.webhook_id(), event);
        assert_eq!(request.body, b"{\"n\":1.10}");
    }
}

#[test]
pub(crate) fn a_resend_as_new_gives_the_event_a_new_id() {
    let (receiver, engine) = dead_then_well();
    let event = engine.send("order.created", "{\"n\":1.10}");
    let dead = engine.ended(&event, "out");
    let path = format!("/v1/deliveries/{}/resend", dead["id"].as_str().expect("an id"));
    let answer = client::ask(engine.admin, "POST", &path, &[], b"{\"as_new\":true}").json();
    assert_ne!(answer["event_id"], *event);
    delivered(&engine, &answer);
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(answer["event_id"], received[1].webhook_id());
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(received[0].header("content-type"), received[1].header("content-type"));
    let event_of = |id: &str| {
        let mut event = engine.get(&format!("/v1/events/{id}")).json();
        for name in ["id", "received_at", "deliveries"] {
            event[name].take();
        }
        event
    };
    assert_eq!(event_of(&event), event_of(received[1].webhook_id()));
}

#[test]
fn what_is_typed_does_what_the_api_does() {
    let (receiver, engine) = dead_then_well();
    let (public, admin) = (format!("http://{}", engine.public), format!("http://{}", engine.admin));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data.json");
    fs::write(&data, "{\"n\":1.10}").expect("a file");
    let data = data.to_str().expect("UTF-8");
    let send = |more: &[&str]| {
        let all = ["send", "order.created", "--data", data, "--public", &public];
        plugpost(all.iter().chain(more).copied())
    };
    let ran = send(&["--token", TOKEN, "--subject", "s1"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let sent: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let event = sent["events"][0].as_str().expect("an id").to_owned();
    let dead = engine.ended(&event, "out");
    assert_eq!(dead["subject"], "s1");
    let id = dead["id"].as_str().expect("an id");
    assert_eq!(send(&["--token", "wrong"]).status, Some(1));
    let ran = send(&["--token", TOKEN, "--in", "erp", "-H", "content-type: text/csv"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");

    let ran = plugpost(["deliveries", "--status", "dead", "--json", "--admin", &admin]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let listed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["data"][0]["id"], id);
    let ran = plugpost(["deliveries", "--status", "dead", "--admin", &admin]);
    assert!(ran.stdout.starts_with(id) && ran.stdout.lines().count() == 1, "{ran:?}");
    let ran = plugpost(["deliveries", id, "--admin", &admin]);
    let shown: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(shown, dead);

    let resend = |more: &[&str]| {
        let ran = plugpost(["resend", id, "--admin", &admin].iter().chain(more).copied());
        assert_eq!(ran.status, Some(0), "{ran:?}");
        delivered(&engine, &json!({ "id": ran.stdout.trim_end() }))["event_id"].clone()
    };
    assert_eq!(resend(&[]), *event);
    assert_ne!(resend(&["--as-new"]), *event);
    assert_eq!(receiver.received().len(), 4);

    let ran = plugpost(["resend", "dlv_0000000000000", "--admin", &admin]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("404"), "{ran:?}");
    assert_eq!(plugpost(["resend"]).status, Some(2));
    let nobody = plugpost(["deliveries", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status, Some(1), "{nobody:?}");
}

/// A receiver that says no once, for good, and then has recovered.
fn dead_then_well() -> (Receiver, Engine) {
    let first = std::sync::atomic::AtomicBool::new(true);
    let receiver = Receiver::start(move |_| {
        let is_first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        Reply::status(if is_first { 400 } else { 200 })
    });
    let hub = Hub::new();
    hub.route("out", once(&receiver.url("/")));
    (receiver, Engine::start(&hub))
}

/// A resent delivery, when it is delivered.
fn delivered(engine: &Engine, resent: &Value) -> Value {
    let id = resent["id"].as_str().expect("an id");
    eventually("the resent delivery", || {
        let delivery = engine.delivery(id);
        (delivery["status"] == "delivered").then_some(delivery)
    })
}

// ---- who may ask, and health

#[test]
fn with_tokens_the_log_is_open_to_those_who_may_read_and_changed_by_those_who_may_operate() {
    let token = |name: &str, scopes: &str| {
        format!(
            "[[token]]\nname = \"{name}\"\nsecret = {{ file = \"secrets/{name}\" }}\nscopes = [{scopes}]\n"
        )
    };
    let hub = Hub::with("", &(token("reader", "\"read\"") + &token("operator", "\"operate\"")));
    hub.secret("reader", "reader-token").secret("operator", "operator-token");
    let engine = Engine::start(&hub);
    let ask = |method: &str, path: &str, token: Option<&str>| -> Answer {
        let value = token.map(|it| format!("Bearer {it}"));
        let headers: Vec<_> = value.iter().map(|it| ("authorization", it.as_str())).collect();
        client::ask(engine.admin, method, path, &headers, b"")
    };
    let resend = "/v1/deliveries/dlv_0000000000000/resend";
    for path in ["/v1/deliveries", "/metrics"] {
        ask("GET", path, None).problem(401);
        ask("GET", path, Some("x")).problem(401);
        ask("GET", path, Some(TOKEN)).problem(403);
        assert_eq!(ask("GET", path, Some("reader-token")).status, 200, "{path}");
        assert_eq!(ask("GET", path, Some("operator-token")).status, 200, "{path}");
    }
    ask("POST", resend, None).problem(401);
    ask("POST", resend, Some("reader-token")).problem(403);
    ask("POST", resend, Some("operator-token")).problem(404);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask("GET", path, None).status, 200, "{path}");
    }
}

#[test]
fn a_token_can_be_given_as_its_digest() {
    // printf %s reader-token | sha256sum
    let digest = "ba5005a40cf5212e4ac0190104cc127edab013294bb71279a975b27a80982d45";
    let token =
        format!("[[token]]\nname = \"r\"\nsecret_sha256 = \"{digest}\"\nscopes = [\"read\"]");
    let engine = Engine::start(&Hub::with("", &token));
    let ask = |token: &str| {
        let value = format!("Bearer {token}");
        client::ask(engine.admin, "GET", "/v1/events", &[("authorization", &value)], b"")
    };
    assert_eq!(ask("reader-token").status, 200);
    ask(digest).problem(401);
    ask("reader-toke").problem(401);
}

#[test]
pub(crate) fn an_engine_says_that_it_is_well_and_what_it_has_done() {
    let receiver = Receiver::start(|request| match request.body.as_slice() {
        b"good" => Reply::status(200),
        _ => Reply::status(400),
    });
    let hub = Hub::new();
    hub.route("out", once(&receiver.url("/")));
    let engine = Engine::start(&hub);
    for body in ["good", "good", "bad"] {
        engine.send("order.created", body);
    }
    engine.drained();
    assert_eq!(engine.get("/healthz").text(), "ok\n");
    assert_eq!(engine.get("/readyz").text(), "ok\n");
    let answer = engine.get("/metrics");
    let metrics = answer.text();
    let lines: HashSet<_> = metrics.lines().collect();
    for line in [
        "plugpost_attempts_total{outcome=\"delivered\"} 2",
        "plugpost_attempts_total{outcome=\"retry\"} 1",
        "plugpost_ingest_requests_total{status=\"202\"} 3",
        "plugpost_attempts_under_way 0",
    ] {
        assert!(lines.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(metrics.matches("# EOF").count(), 1);
}
