//! The log where it is large: what is found through blocks is what a look at every
//! row finds, before a restart and after it, and pruning takes what it should.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::hub::{Hub, once, to};
use crate::support::receiver::{Gate, Receiver, Reply};

/// Whether a row is to be found.
type Test = Box<dyn Fn(&Value) -> bool>;

/// More than two blocks of a thousand.
const EVENTS: usize = 2300;

fn send_batch(engine: &Engine, numbers: std::ops::Range<usize>) {
    let events: Vec<_> = numbers
        .map(|it| {
            serde_json::json!({
                "specversion": "1.0",
                "id": it.to_string(),
                "source": "erp",
                "type": format!("order.{}", it % 7),
                "subject": format!("s{}", it % 100),
                "datacontenttype": "application/json",
                "data": { "dead": it % 50 == 0 },
            })
        })
        .collect();
    let media_type = [("content-type", "application/cloudevents-batch+json")];
    let body = serde_json::to_vec(&events).expect("JSON");
    assert_eq!(engine.post("/events", &media_type, &body).status, 202);
}

fn every_page(engine: &Engine, path: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = engine.get(&format!("{path}&limit=97{cursor}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let page = answer.json();
        rows.extend(page["data"].as_array().expect("rows").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn check(engine: &Engine) {
    let ids = |rows: &[&Value]| {
        rows.iter().map(|it| it["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for list in ["deliveries", "events"] {
        let all = every_page(engine, &format!("/v1/{list}?type=*"));
        assert_eq!(all.len(), EVENTS, "{list}");
        let is = |name: &'static str, value: &'static str| {
            Box::new(move |it: &Value| it[name] == value) as Test
        };
        let mut filters: Vec<(&str, Test)> = vec![
            ("type=order.3", is("type", "order.3")),
            ("type=order.*", Box::new(|_| true)),
            ("type=o*&subject=s3", is("subject", "s3")),
            ("subject=s42", is("subject", "s42")),
            ("subject=s100", Box::new(|_| false)),
            ("source=erp", Box::new(|_| true)),
            ("source=erp&type=order.9", Box::new(|_| false)),
        ];
        if list == "deliveries" {
            filters.push(("status=dead", is("status", "dead")));
            filters.push(("status=delivered", is("status", "delivered")));
            filters.push(("status=pending", Box::new(|_| false)));
            filters.push(("q=400&subject=s50", {
                Box::new(|it| it["status"] == "dead" && it["subject"] == "s50")
            }));
            filters.push(("status=delivered&route=out&subject=s50", Box::new(|_| false)));
        }
        for (query, expected) in filters {
            let expected: Vec<_> = all.iter().filter(|it| expected(it)).collect();
            let found = every_page(engine, &format!("/v1/{list}?{query}"));
            assert_eq!(ids(&found.iter().collect::<Vec<_>>()), ids(&expected), "{list}?{query}");
        }
    }
}

#[test]
pub(crate) fn what_blocks_find_is_what_a_look_at_every_row_finds() {
    let receiver = Receiver::start(|request| match request.body.ends_with(b"true}") {
        true => Reply::status(400),
        false => Reply::status(200),
    });
    let hub = Hub::new();
    hub.route("out", once(&receiver.url("/")));
    let engine = Engine::start(&hub);
    for start in (0..EVENTS).step_by(100) {
        send_batch(&engine, start..start + 100);
    }
    engine.drained();
    check(&engine);
    // After a crash what no block has yet is read from the store.
    engine.kill();
    let engine = Engine::start(&hub);
    check(&engine);
}

/// One that hangs while others come and go: for the log it is pending, and the next process
/// takes it up.
#[test]
pub(crate) fn what_is_long_in_hand_is_found_and_is_not_lost_by_a_crash() {
    const LONG: Duration = Duration::from_secs(2);
    let gate = Gate::closed();
    let hangs = gate.clone();
    let receiver = Receiver::start(move |request| {
        if request.body == b"hangs" {
            hangs.pass();
        }
        Reply::status(200)
    });
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let hanging = engine.send("order.created", "hangs");
    receiver.first(1);
    let begun = Instant::now();
    let mut last = String::new();
    while begun.elapsed() < LONG {
        last = engine.send("order.created", "goes through");
        engine.ended(&last, "out");
    }
    let pending = engine.deliveries("status=pending");
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!(pending[0]["event_id"], *hanging);
    let delivered = engine.deliveries("status=delivered&limit=500");
    assert!(delivered.iter().any(|it| it["event_id"] == *last));
    assert!(delivered.iter().all(|it| it["event_id"] != *hanging));
    engine.kill();
    gate.open();
    let engine = Engine::start(&hub);
    assert_eq!(engine.ended(&hanging, "out")["status"], "delivered");
    assert!(engine.deliveries("status=pending").is_empty());
}

#[test]
pub(crate) fn what_is_old_is_pruned_payloads_first_and_what_waits_never() {
    let receiver = Receiver::start(|request| match request.body.as_slice() {
        b"later" => Reply::status(503),
        _ => Reply::status(200).with_body("thanks"),
    });
    let of_payloads = "retention_payloads = \"1s\"\n";
    let hub = Hub::with("", &format!("[store]\n{of_payloads}"));
    hub.route("out", to(&receiver.url("/")).replace("50ms", "1h"));
    let engine = Engine::start(&hub);
    let done = engine.send("order.created", "{\"n\":1}");
    let later = engine.send("order.created", "later");
    let done_row = engine.ended(&done, "out");
    engine.delivery_when(&later, "out", "waiting", |it| it["last_status_code"] == 503);
    let event = |id: &str| engine.get(&format!("/v1/events/{id}")).json();
    assert_eq!(event(&done)["data_pruned"], false);
    let pruned = eventually("the payload to be pruned", || {
        let event = event(&done);
        (event["data_pruned"] == true).then_some(event)
    });
    assert_eq!(pruned["data"], Value::Null);
    let delivery = engine.delivery(done_row["id"].as_str().expect("an id"));
    assert_eq!(delivery["attempts"][0]["response_excerpt"], Value::Null);
    assert_eq!(delivery["status"], "delivered");
    assert_eq!(event(&later)["data"], "later");
    assert_eq!(event(&later)["data_pruned"], false);
    let path = format!("/v1/deliveries/{}/resend", done_row["id"].as_str().expect("an id"));
    let refused = client::ask(engine.admin, "POST", &path, &[], b"").problem(410);
    assert!(refused.contains("retention_payloads"), "{refused}");

    // The rows too, and by size: nothing but what waits is left.
    engine.stop();
    let text = std::fs::read_to_string(hub.path().join("plugpost.toml")).expect("a file");
    let of_rows = format!("{of_payloads}retention = \"1s\"\n");
    hub.write("plugpost.toml", text.replace(of_payloads, &of_rows));
    let engine = Engine::start(&hub);
    eventually("the rows to be pruned", || {
        let rows = engine.deliveries("");
        let ids: HashSet<_> = rows.iter().map(|it| it["event_id"].clone()).collect();
        (ids.len() == 1 && ids.contains(&Value::from(later.as_str()))).then_some(())
    });
}

#[test]
fn above_its_size_the_oldest_go_but_not_what_waits() {
    let receiver = Receiver::start(|request| match request.body.as_slice() {
        b"later" => Reply::status(503),
        _ => Reply::status(200),
    });
    let hub = Hub::with("", "[store]\nretention_bytes = 2097152\n");
    hub.route("out", to(&receiver.url("/")).replace("50ms", "1h"));
    let engine = Engine::start(&hub);
    let later = engine.send("order.created", "later");
    let oldest = engine.send("order.created", vec![b'a'; 20_000]);
    for _ in 0..198 {
        engine.send("order.created", vec![b'a'; 20_000]);
    }
    let newest = engine.send("order.created", vec![b'a'; 20_000]);
    eventually("the oldest to go", || {
        (engine.get(&format!("/v1/events/{oldest}")).status == 404).then_some(())
    });
    for event in [later, newest] {
        let answer = engine.get(&format!("/v1/events/{event}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["data_pruned"], false);
    }
}
