//! Routes made at run time: made, changed, deleted, kept over a crash and a reload, seen by
//! their own tenant only, and with secrets that nobody reads anywhere.

mod canaries;
mod keys;
mod tenants;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::client::{self, Answer};
use crate::support::engine::Engine;
use crate::support::eventually;
use crate::support::hub::Hub;
use crate::support::receiver::{Received, Receiver, Reply};

/// A request of the admin API, with a token where one is needed.
fn call(engine: &Engine, token: Option<&str>, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let authorization = token.map(|it| format!("Bearer {it}"));
    let headers: Vec<_> = authorization.iter().map(|it| ("authorization", it.as_str())).collect();
    client::ask(engine.admin, method, path, &headers, &body)
}

#[track_caller]
pub(crate) fn subscribe(engine: &Engine, body: &Value) -> Value {
    let answer = call(engine, None, "POST", "/v1/subscriptions", body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn path(it: &Value) -> String {
    format!("/v1/subscriptions/{}", id(it))
}

pub(crate) fn id(it: &Value) -> &str {
    it["id"].as_str().expect("an id")
}

/// One that signs with this key.
pub(crate) fn signed(url: &str, key: &[u8]) -> Value {
    json!({
        "types": ["order.*"],
        "url": url,
        "platform": "standard-webhooks",
        "secrets": { "key": key_text(key) },
    })
}

fn key_text(key: &[u8]) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(key))
}

/// One of the signatures was made with this key.
pub(crate) fn fits(received: &Received, key: &[u8]) -> bool {
    let timestamp = received.header("webhook-timestamp").expect("a timestamp");
    let mut code = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    code.update(format!("{}.{timestamp}.", received.webhook_id()).as_bytes());
    code.update(&received.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(code.finalize().into_bytes()));
    let signatures = received.header("webhook-signature").expect("signatures");
    signatures.split(' ').any(|it| it == expected)
}

pub(crate) const KEY: [u8; 24] = [7; 24];

#[test]
fn a_subscription_is_in_force_when_it_is_answered_and_until_it_is_deleted() {
    let (receiver, other) = (Receiver::ok(), Receiver::ok());
    let hub = Hub::new();
    hub.plugin("standard-webhooks");
    let engine = Engine::start(&hub);
    let mut wanted = signed(&receiver.url("/hook"), &KEY);
    wanted["headers"] = json!({ "x-shop": "north" });
    let made = subscribe(&engine, &wanted);
    assert_eq!(made["number"], 1);
    assert_eq!((&made["tenant"], &made["active"]), (&json!("default"), &json!(true)));
    assert_eq!(made["secrets"], json!([{ "name": "key", "versions": 1, "until": null }]));
    assert_eq!(made["headers"], json!(["x-shop"]));
    let event = engine.send("order.created", "{\"n\":1.10}");
    engine.send("invoice.created", "{}");
    let first = receiver.first(1).remove(0);
    assert_eq!((first.path.as_str(), first.body.as_slice()), ("/hook", &b"{\"n\":1.10}"[..]));
    assert!(fits(&first, &KEY));
    assert_eq!(first.header("x-shop"), Some("north"));
    let delivery = engine.ended(&event, id(&made));
    assert_eq!(delivery["status"], "delivered");
    let sent = delivery["attempts"][0]["request"].to_string();
    assert!(!sent.contains("north"), "{sent}");
    // Live, the next event already.
    let moved = call(&engine, None, "PATCH", &path(&made), &json!({ "url": other.url("/new") }));
    assert_eq!(moved.status, 200, "{}", moved.text());
    engine.send("order.paid", "{}");
    assert!(fits(&other.first(1)[0], &KEY));
    // It is a route like any other.
    let routes = engine.get("/v1/routes").json();
    assert_eq!(routes["data"][0]["name"], made["id"]);
    let test = format!("/v1/endpoints/{}/test", id(&made));
    assert_eq!(call(&engine, None, "POST", &test, &Value::Null).status, 202);
    other.first(2);
    assert_eq!(call(&engine, None, "DELETE", &path(&made), &Value::Null).status, 204);
    engine.get(&path(&made)).problem(404);
    let late = engine.send("order.late", "{}");
    assert!(engine.deliveries(&format!("event_id={late}")).is_empty());
    assert_eq!((receiver.received().len(), other.received().len()), (1, 2));
    let again = subscribe(&engine, &signed(&receiver.url("/"), &KEY));
    assert_eq!(again["number"], 2);
}

#[test]
fn what_waits_for_a_deleted_subscription_becomes_a_dead_letter() {
    let receiver = Receiver::start(|_| Reply::status(500));
    let hub = Hub::new();
    let engine = Engine::start(&hub);
    let made = subscribe(&engine, &json!({ "types": ["*"], "url": receiver.url("/") }));
    let event = engine.send("order.created", "{}");
    engine.delivery_when(&event, id(&made), "waiting for its next try", |it| it["attempts"] == 1);
    assert_eq!(call(&engine, None, "DELETE", &path(&made), &Value::Null).status, 204);
    let ended = engine.ended(&event, id(&made));
    assert_eq!(ended["status"], "dead");
    let error = ended["last_error"].as_str().expect("a reason");
    assert!(error.starts_with("subscription.deleted"), "{error}");
}

#[test]
fn a_subscription_survives_a_kill_and_so_does_what_it_promised() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("standard-webhooks");
    let engine = Engine::start(&hub);
    let made = subscribe(&engine, &signed(&receiver.url("/"), &KEY));
    engine.kill();
    let engine = Engine::start(&hub);
    assert_eq!(engine.get(&path(&made)).json(), made);
    engine.send("order.created", "{}");
    assert!(fits(&receiver.first(1)[0], &KEY));
    let changed = call(&engine, None, "PATCH", &path(&made), &json!({ "description": "new" }));
    assert_eq!(changed.status, 200);
    engine.kill();
    let engine = Engine::start(&hub);
    assert_eq!(engine.get(&path(&made)).json()["description"], "new");
    assert_eq!(call(&engine, None, "DELETE", &path(&made), &Value::Null).status, 204);
    engine.kill();
    Engine::start(&hub).get(&path(&made)).problem(404);
}

#[test]
fn it_takes_events_of_its_types_from_any_source_unless_it_names_one() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.source("crm", "tokens = [\"erp\"]");
    let engine = Engine::start(&hub);
    let url = receiver.url("/");
    let sees = |types: &[&str], from: &[&str]| {
        let it = subscribe(&engine, &json!({ "types": types, "url": url, "from": from }));
        id(&it).to_owned()
    };
    let any = sees(&["order.*", "order.created", "*"], &[]);
    let crm = sees(&["order.created"], &["crm"]);
    let both = sees(&["order.c*"], &["crm", "erp", "crm"]);
    let neither = sees(&["order", "order.created.*", "Order.created"], &[]);
    let by = |path: &str| {
        let event = engine.post(path, &[], b"{}").event_ids().remove(0);
        let rows = engine.deliveries(&format!("event_id={event}"));
        let mut routes: Vec<_> = rows.iter().map(|it| it["route"].to_string()).collect();
        routes.sort();
        routes
    };
    let quoted = |ids: &[&String]| ids.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>();
    assert_eq!(by("/in/erp/order.created"), quoted(&[&any, &both]));
    assert_eq!(by("/in/crm/order.created"), quoted(&[&any, &crm, &both]));
    assert_eq!(by("/in/crm/order.paid"), quoted(&[&any]));
    assert_eq!(by("/in/crm/order"), quoted(&[&any, &neither]));
}

#[test]
fn one_that_is_switched_off_takes_nothing_and_its_deliveries_wait() {
    let receiver = Receiver::start(|it| match it.path.as_str() {
        "/bad" => Reply::status(500),
        _ => Reply::status(200),
    });
    let engine = Engine::start(&Hub::new());
    let made = subscribe(&engine, &json!({ "types": ["*"], "url": receiver.url("/bad") }));
    let event = engine.send("a", "{}");
    engine.delivery_when(&event, id(&made), "waiting", |it| it["attempts"] == 1);
    let off = json!({ "active": false, "url": receiver.url("/good") });
    assert_eq!(call(&engine, None, "PATCH", &path(&made), &off).json()["active"], false);
    let missed = engine.send("b", "{}");
    assert!(engine.deliveries(&format!("event_id={missed}")).is_empty());
    assert_eq!(engine.deliveries("status=pending").len(), 1);
    let on = call(&engine, None, "PATCH", &path(&made), &json!({ "active": true })).json();
    assert_eq!((&on["active"], &on["disabled"]), (&json!(true), &Value::Null));
    engine.send("c", "{}");
    receiver.until("the one after", |it| it.iter().any(|it| it.path == "/good").then_some(()));
}

#[test]
fn an_endpoint_the_engine_disabled_is_seen_so_and_called_again_when_it_is_activated() {
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(410));
    let status = gone.clone();
    let receiver =
        Receiver::start(move |_| Reply::status(status.load(std::sync::atomic::Ordering::SeqCst)));
    let engine = Engine::start(&Hub::new());
    let made = subscribe(&engine, &json!({ "types": ["*"], "url": receiver.url("/") }));
    let event = engine.send("a", "{}");
    engine.ended(&event, id(&made));
    let seen = eventually("the engine to disable it", || {
        let seen = engine.get(&path(&made)).json();
        (seen["active"] == false).then_some(seen)
    });
    let reason = seen["disabled"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("410"), "{reason}");
    let rows = engine.get("/v1/subscriptions?active=false").json();
    assert_eq!(rows["data"].as_array().map(Vec::len), Some(1));
    // Something else is said of it: that alone calls nobody.
    let named = call(&engine, None, "PATCH", &path(&made), &json!({ "name": "shop" })).json();
    assert_eq!(named["active"], false);
    gone.store(200, std::sync::atomic::Ordering::SeqCst);
    let put = json!({ "types": ["*"], "url": receiver.url("/"), "active": true });
    let on = call(&engine, None, "PUT", &path(&made), &put).json();
    assert_eq!(
        (&on["active"], &on["disabled"], &on["name"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    let event = engine.send("b", "{}");
    assert_eq!(engine.ended(&event, id(&made))["status"], "delivered");
}

#[test]
fn without_its_plugin_it_rests_and_goes_on_when_the_plugin_is_back() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("standard-webhooks");
    let mut engine = Engine::start(&hub);
    let made = subscribe(&engine, &signed(&receiver.url("/"), &KEY));
    let file = hub.path().join("plugins/standard-webhooks.wasm");
    std::fs::remove_file(&file).expect("it is there");
    let reload = |engine: &Engine| {
        let answer = call(engine, None, "POST", "/v1/reload", &Value::Null);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    reload(&engine);
    let resting = engine.get(&path(&made)).json();
    let reason = resting["rests"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("standard-webhooks"), "{reason}");
    assert_eq!(resting["active"], true);
    let first = engine.send("order.created", "1");
    // And over a restart.
    engine.kill();
    engine = Engine::start(&hub);
    assert_eq!(engine.get(&path(&made)).json()["rests"], json!(reason));
    let second = engine.send("order.created", "2");
    assert_eq!(engine.deliveries("status=pending").len(), 2);
    assert!(receiver.received().is_empty());
    hub.plugin("standard-webhooks");
    reload(&engine);
    for event in [first, second] {
        assert_eq!(engine.ended(&event, id(&made))["status"], "delivered");
    }
    assert!(receiver.first(2).iter().all(|it| fits(it, &KEY)));
    assert_eq!(engine.get(&path(&made)).json()["rests"], Value::Null);
}

#[test]
fn a_rotated_secret_signs_beside_the_old_one_until_its_time_is_over() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("standard-webhooks");
    let engine = Engine::start(&hub);
    let made = subscribe(&engine, &signed(&receiver.url("/"), &KEY));
    let new = [8; 24];
    let rotate = |value: &[u8], overlap: &str| {
        let body = json!({ "value": key_text(value), "overlap": overlap });
        call(&engine, None, "POST", &format!("{}/secrets/key", path(&made)), &body)
    };
    let rotated = rotate(&new, "2s").json();
    assert_eq!(rotated["secrets"][0]["versions"], 2);
    assert!(rotated["secrets"][0]["until"].is_string());
    engine.send("order.created", "{}");
    let during = receiver.first(1).remove(0);
    assert!(fits(&during, &KEY) && fits(&during, &new));
    eventually("the overlap to end", || {
        let secrets = engine.get(&path(&made)).json()["secrets"].clone();
        (secrets[0]["versions"] == 1).then_some(())
    });
    engine.send("order.created", "{}");
    let after = receiver.first(2).remove(1);
    assert!(!fits(&after, &KEY) && fits(&after, &new));
    // Without an overlap, at once.
    assert_eq!(rotate(&KEY, "0s").json()["secrets"][0]["versions"], 1);
    engine.send("order.created", "{}");
    let last = receiver.first(3).remove(2);
    assert!(fits(&last, &KEY) && !fits(&last, &new));
    assert!(rotate(b"", "1h").problem(422).contains("secrets/key"));
    assert!(rotate(&new, "soon").problem(422).contains("overlap"));
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let hub = Hub::new();
    hub.plugin("standard-webhooks").plugin("buildr");
    let engine = Engine::start(&hub);
    let fields = |body: Value| {
        let answer = call(&engine, None, "POST", "/v1/subscriptions", &body);
        answer.problem(422);
        let problems = answer.json()["problems"].clone();
        let mut fields: Vec<String> = (problems.as_array().expect("problems").iter())
            .map(|it| it["field"].as_str().expect("a field").to_owned())
            .collect();
        fields.sort();
        fields.dedup();
        fields
    };
    assert_eq!(fields(json!({})), ["types", "url"]);
    let all = json!({
        "url": "ftp://example.com", "types": ["a*b"], "from": ["nowhere"], "rate_limit": "fast",
        "platform": "standard-webhooks", "settings": { "tolerance_s": 0, "colour": 1 },
        "secrets": { "key": "whsec_!" }, "headers": { "host": "x", "a b": "c" },
    });
    let named = fields(all);
    for field in [
        "from/0",
        "headers/a b",
        "headers/host",
        "rate_limit",
        "secrets/key",
        "settings",
        "settings/tolerance_s",
        "types/0",
        "url",
    ] {
        assert!(named.iter().any(|it| it == field), "{field} is not in {named:?}");
    }
    assert_eq!(
        fields(json!({ "url": 1, "types": "a", "active": "yes", "colour": "red" })),
        ["active", "colour", "types", "url"]
    );
    let of_platform = |platform: &str| {
        fields(json!({ "url": "https://example.com/", "types": ["*"], "platform": platform }))
    };
    assert_eq!(of_platform("standard-webhooks"), ["secrets"]);
    assert_eq!(of_platform("standard-webhoks"), ["platform"]);
    for (body, wanted) in [("", 400), ("[]", 400), ("{\"url\": \"https", 400)] {
        client::ask(engine.admin, "POST", "/v1/subscriptions", &[], body.as_bytes())
            .problem(wanted);
    }
    // Nothing was kept of it.
    assert_eq!(engine.get("/v1/subscriptions").json()["data"], json!([]));
}

#[test]
fn lists_have_pages_and_filters() {
    let hub = Hub::new();
    hub.plugin("standard-webhooks");
    let engine = Engine::start(&hub);
    let url = "https://example.com/";
    let plain: Vec<Value> = (0..5)
        .map(|at| subscribe(&engine, &json!({ "types": [format!("t{at}"), "u.*"], "url": url })))
        .collect();
    let own = subscribe(&engine, &signed(url, &KEY));
    let ids = |query: &str| {
        let page = engine.get(&format!("/v1/subscriptions?{query}")).json();
        let rows = page["data"].as_array().expect("rows");
        let ids: Vec<String> = rows.iter().map(|it| id(it).to_owned()).collect();
        (ids, page["next"].clone())
    };
    let (first, next) = ids("limit=4");
    assert_eq!(first[0], id(&own));
    let next = next.as_str().expect("a next page");
    let (second, end) = ids(&format!("limit=4&cursor={next}"));
    assert_eq!((second.len(), end), (2, Value::Null));
    assert_eq!(second[1], id(&plain[0]));
    assert_eq!(ids("platform=standard-webhooks").0, [id(&own)]);
    assert_eq!(ids("type=t3").0, [id(&plain[3])]);
    assert_eq!(ids("type=u.x").0.len(), 5);
    assert_eq!(ids("tenant=other").0.len(), 0);
    engine.get("/v1/subscriptions?platfrom=x").problem(400);
    engine.get("/v1/subscriptions?cursor=x").problem(400);
}

/// Two at once are both there, with numbers of their own.
#[test]
fn changes_at_the_same_time_do_not_lose_each_other() {
    let engine = Engine::start(&Hub::new());
    let body = json!({ "types": ["*"], "url": "https://example.com/" });
    let made = subscribe(&engine, &body);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (engine, body, path) = (&engine, &body, path(&made));
            scope.spawn(move || {
                for round in 0..10 {
                    subscribe(engine, body);
                    let said = json!({ "headers": { format!("x-{thread}"): round.to_string() } });
                    assert_eq!(call(engine, None, "PATCH", &path, &said).status, 200);
                }
            });
        }
    });
    let all = engine.get("/v1/subscriptions?limit=500").json();
    let mut numbers: Vec<_> = (all["data"].as_array().expect("rows").iter())
        .map(|it| it["number"].as_u64().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=81).collect::<Vec<_>>());
    assert_eq!(engine.get(&path(&made)).json()["headers"].as_array().map(Vec::len), Some(8));
}
