//! Steering: ending what waits, sending a range again, listening to attempts, and
//! the figures a dashboard is made of.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, once, route, to};
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::{PATIENCE, eventually};

fn ask(engine: &Engine, method: &str, path: &str, body: &str) -> Answer {
    client::ask(engine.admin, method, path, &[], body.as_bytes())
}

// ---- cancelling

#[test]
pub(crate) fn a_delivery_that_waits_is_cancelled_and_one_that_does_not_is_not() {
    let gate = Gate::closed();
    let script = gate.clone();
    let receiver = Receiver::start(move |request| match request.path.as_str() {
        "/slow" => {
            script.pass();
            Reply::status(200)
        }
        _ => Reply::status(503),
    });
    let hub = Hub::new();
    let later = route(&receiver.url("/"), "", "schedule = [\"1h\"]");
    hub.route("later", later.replace("[\"*\"]", "[\"later\"]"));
    let slow = route(&receiver.url("/slow"), "", "schedule = []");
    hub.route("slow", slow.replace("types = [\"*\"]", "types = [\"slow\"]"));
    let engine = Engine::start(&hub);
    let cancel = |id: &str| ask(&engine, "POST", &format!("/v1/deliveries/{id}/cancel"), "");

    let waiting = engine.send("later", "{}");
    let waiting =
        engine.delivery_when(&waiting, "later", "waiting", |it| it["last_status_code"] == 503);
    let id = waiting["id"].as_str().expect("an id");
    let answer = cancel(id);
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("dead")));
    let dead = engine.delivery(id);
    assert_eq!(dead["status"], "dead");
    assert_eq!(dead["last_error"], "cancelled");
    assert_eq!(dead["next_attempt_at"], Value::Null);
    assert!(cancel(id).problem(409).contains("dead"));
    assert_eq!(engine.deliveries("q=cancelled").len(), 1);

    let in_hand = engine.send("slow", "{}");
    receiver.until("the slow request", |it| it.iter().find(|it| it.path == "/slow").cloned());
    let in_hand = engine.deliveries(&format!("event_id={in_hand}")).remove(0);
    let id = in_hand["id"].as_str().expect("an id");
    assert!(cancel(id).problem(409).contains("under way"));
    gate.open();
    engine.drained();
    assert!(cancel(id).problem(409).contains("delivered"));
    cancel("dlv_0000000000000").problem(404);
    cancel("dlv_").problem(400);
}

// ---- recovering

/// Dead deliveries, and a receiver that has recovered.
fn an_outage(count: usize) -> (Hub, Receiver, Engine) {
    let well = Arc::new(AtomicBool::new(false));
    let script = well.clone();
    let receiver = Receiver::start(move |_| match script.load(Ordering::SeqCst) {
        true => Reply::status(200),
        false => Reply::status(400),
    });
    let hub = Hub::new();
    hub.route("out", once(&receiver.url("/")));
    let engine = Engine::start(&hub);
    for number in 0..count {
        engine.send("order.created", number.to_string());
    }
    engine.drained();
    assert_eq!(engine.deliveries("status=dead&limit=500").len(), count);
    well.store(true, Ordering::SeqCst);
    (hub, receiver, engine)
}

fn ended(engine: &Engine, begun: &Answer) -> Value {
    assert_eq!(begun.status, 202, "{}", begun.text());
    let path = format!("/v1/recover/{}", begun.json()["id"].as_str().expect("an id"));
    eventually("the recovery to end", || {
        let run = engine.get(&path).json();
        (run["state"] != "running").then_some(run)
    })
}

#[test]
pub(crate) fn a_recovery_sends_each_delivery_of_its_range_again_and_none_twice() {
    let (_hub, receiver, engine) = an_outage(250);
    // Newest first; the range leaves out the newest fifty or so.
    let dead = engine.deliveries("status=dead&limit=500");
    let until = dead[50]["created_at"].as_str().expect("a time");
    let wanted: Vec<_> = dead.iter().filter(|it| it["created_at"].as_str() < Some(until)).collect();
    let range = json!({ "route": "out", "since": "2020-01-01T00:00:00Z", "until": until });
    let run = ended(&engine, &ask(&engine, "POST", "/v1/recover", &range.to_string()));
    assert_eq!(run["state"], "done", "{run}");
    assert_eq!(run["resent"], wanted.len(), "{run}");
    engine.drained();
    let mut sent = HashMap::<String, usize>::new();
    for request in receiver.received() {
        *sent.entry(request.webhook_id().to_owned()).or_default() += 1;
    }
    for row in &dead {
        let is_wanted = wanted.iter().any(|it| it["id"] == row["id"]);
        let event = row["event_id"].as_str().expect("an id");
        assert_eq!(sent[event], if is_wanted { 2 } else { 1 }, "{row}");
    }
    // By endpoint; what has been sent again is dead still, and a second run sends it again.
    let range = json!({ "endpoint": receiver.url("/"), "since": "2020-01-01T00:00:00Z" });
    let run = ended(&engine, &ask(&engine, "POST", "/v1/recover", &range.to_string()));
    assert_eq!(run["resent"], 250, "{run}");
    let nothing = json!({ "route": "out", "endpoint": "none", "since": "2020-01-01T00:00:00Z" });
    let run = ended(&engine, &ask(&engine, "POST", "/v1/recover", &nothing.to_string()));
    assert_eq!((&run["resent"], &run["state"]), (&json!(0), &json!("done")));
}

#[test]
pub(crate) fn a_recovery_is_cancelled_or_refused() {
    let (_hub, _receiver, engine) = an_outage(3);
    let begin = |body: &str| ask(&engine, "POST", "/v1/recover", body);
    for body in [
        "",
        "{}",
        "{\"route\":\"out\"}",
        "{\"since\":\"2020-01-01T00:00:00Z\"}",
        "{\"route\":\"\",\"since\":\"2020-01-01T00:00:00Z\"}",
        "{\"route\":\"out\",\"since\":\"2020-01-01T00:00:00Z\",\"until\":null}",
        "{\"route\":\"out\",\"since\":\"yesterday\"}",
        "{\"route\":\"out\",\"since\":\"2020-01-01T00:00:00Z\",\"status\":\"pending\"}",
        "{\"route\":\"out\",\"since\":\"2020-01-01T00:00:00Z\",\"colour\":\"red\"}",
    ] {
        begin(body).problem(400);
    }
    let run = begin("{\"route\":\"out\",\"since\":\"2020-01-01T00:00:00Z\"}");
    let path = format!("/v1/recover/{}", run.json()["id"].as_str().expect("an id"));
    let cancelled = ask(&engine, "DELETE", &path, "");
    assert_eq!(cancelled.status, 200);
    let state = cancelled.json()["state"].clone();
    assert!(state == "cancelled" || state == "done", "{state}");
    ask(&engine, "GET", "/v1/recover/rcv_0000000000000", "").problem(404);
    ask(&engine, "DELETE", "/v1/recover/x", "").problem(400);
}

// ---- listening

/// Lines of a stream that does not end by itself.
fn listen(engine: &Engine, path: &str) -> mpsc::Receiver<String> {
    let mut stream = TcpStream::connect(engine.admin).expect("the engine listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<_> = lines.by_ref().take_while(|it| !it.is_empty()).collect();
    assert!(head[0].starts_with("HTTP/1.1 200"), "{head:?}");
    assert!(head.iter().any(|it| it == "content-type: text/event-stream"), "{head:?}");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || lines.try_for_each(|it| sender.send(it)));
    receiver
}

fn next_attempt(lines: &mpsc::Receiver<String>) -> Value {
    let data = lines.iter().find_map(|it| it.strip_prefix("data: ").map(str::to_owned));
    serde_json::from_str(&data.expect("the stream goes on")).expect("JSON")
}

#[test]
fn who_listens_is_told_of_attempts_as_they_happen() {
    let receiver = Receiver::start(|request| match request.body.as_slice() {
        b"good" => Reply::status(200),
        _ => Reply::status(400),
    });
    let hub = Hub::new();
    hub.route("out", once(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let all = listen(&engine, "/v1/stream");
    let dead = listen(&engine, "/v1/stream?status=dead&route=out&type=order.*");
    let none = listen(&engine, "/v1/stream?route=other");
    let good = engine.send("order.created", "good");
    let told = next_attempt(&all);
    assert_eq!(told["event_id"], *good);
    assert_eq!((&told["outcome"], &told["status"]), (&json!("delivered"), &json!("delivered")));
    assert_eq!((&told["attempt"], &told["status_code"]), (&json!(1), &json!(200)));
    let bad = engine.send("order.created", "bad");
    let told = next_attempt(&all);
    assert_eq!(next_attempt(&dead), told);
    assert_eq!(told["event_id"], *bad);
    assert_eq!(told["delivery_id"], engine.ended(&bad, "out")["id"]);
    assert!(told["error"].as_str().is_some_and(|it| it.starts_with("http.status")), "{told}");
    // Whoever listens does not hold up the end, and is told nothing that is not for it.
    let ended = engine.stop();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.took.as_secs() < 5, "{:?}", ended.took);
    assert!(!none.iter().any(|it| it.starts_with("data: ")));
    assert!(!all.iter().any(|it| it.starts_with("data: ")));
}

// ---- figures

#[test]
pub(crate) fn figures_say_how_endpoints_do() {
    let receiver = Receiver::start(|request| match request.body.as_slice() {
        b"good" => Reply::status(200),
        b"bad" => Reply::status(410),
        _ => Reply::status(503),
    });
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "rate_limit = \"100/s\"", "schedule = [\"1h\"]"));
    let engine = Engine::start(&hub);
    for body in ["good", "good", "good"] {
        engine.send("order.created", body);
    }
    engine.drained();
    let waiting = engine.send("order.created", "later");
    engine.delivery_when(&waiting, "out", "waiting", |it| it["last_status_code"] == 503);
    engine.ended(&engine.send("order.created", "bad"), "out");
    // The backlog may be a second old, and be of another delivery then.
    let oldest = engine.deliveries("status=pending")[0]["created_at"].clone();
    let row = eventually("the backlog to be counted", || {
        let answer = engine.get("/v1/endpoints").json();
        let row = answer["data"][0].clone();
        (row["backlog"] == 1 && row["oldest_waiting_at"] == oldest).then_some(row)
    });
    let expected = json!({
        "route": "out",
        "url": receiver.url("/"),
        "timeout_s": 15.0,
        "concurrency": 16,
        "rate_limit": "100/s",
        "order": "none",
        "breaker": { "window_s": 120.0, "requests": 100, "success_ratio": 0.5, "rest_s": 30.0 },
        "disable_after_s": 432_000.0,
        "token_url": null,
        "own_ca": false,
        "client_certificate": false,
        "proxy": null,
        "health": "disabled",
        "failing_since": null,
        "rest": null,
        "under_way": 0,
        "pace": 8,
        "in_hand": 0,
        "success_ratio": 0.75,
        "delivered_24h": 3,
        "failed_24h": 2,
        "success_ratio_5m": 0.6,
        "backlog": 1,
        "oldest_waiting_at": oldest,
    });
    let mut row = row;
    let disabled = row.as_object_mut().and_then(|it| it.remove("disabled")).expect("it is told");
    assert_eq!(disabled["reason"], "it answered 410: it is gone");
    assert_eq!(row, expected);
    for (query, intervals, seconds) in
        [("", 90, 10), ("?window=15m", 90, 10), ("?window=24h&route=out", 144, 600)]
    {
        let stats = engine.get(&format!("/v1/stats{query}")).json();
        let data = stats["data"].as_array().expect("a list");
        let sum = |name: &str| data.iter().filter_map(|it| it[name].as_u64()).sum::<u64>();
        assert_eq!((data.len(), stats["interval_s"].as_u64()), (intervals, Some(seconds)));
        assert_eq!((sum("attempts"), sum("delivered"), sum("failed")), (5, 3, 2), "{query}");
        assert_eq!(stats["backlog"], 1);
        let has_p50 = data.iter().any(|it| it["p50_ms"].is_number());
        assert_eq!(has_p50, !query.contains("route"), "{query}");
    }
    engine.get("/v1/stats?window=1h").problem(400);
    engine.get("/v1/stats?windw=15m").problem(400);
}

#[test]
fn lists_by_name_go_page_by_page() {
    let hub = Hub::new();
    for name in ["a", "b", "c", "d", "e"] {
        hub.route(name, to("http://127.0.0.1:9/"));
    }
    let engine = Engine::start(&hub);
    for (path, name) in [("/v1/routes", "name"), ("/v1/endpoints", "route")] {
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = engine.get(&format!("{path}?limit=2{cursor}")).json();
            let rows = page["data"].as_array().expect("rows");
            assert!((1..=2).contains(&rows.len()));
            names.extend(rows.iter().filter_map(|it| it[name].as_str().map(str::to_owned)));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"], "{path}");
    }
}
