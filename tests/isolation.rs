//! Each tenant sees and touches what is its own: events, deliveries, figures, recoveries.
//! For all else it is as if there were nothing.

mod matrix;
mod portal;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{PATIENCE, eventually};

/// Tokens of two tenants, of the one of what says none, and one for everybody's.
const TOKENS: [(&str, &str, &str); 9] = [
    ("a-in", "ingest", "a"),
    ("a-op", "operate", "a"),
    ("a-read", "read", "a"),
    ("b-in", "ingest", "b"),
    ("b-op", "operate", "b"),
    ("b-read", "read", "b"),
    ("ops", "operate", "default"),
    ("root", "operate", "*"),
    ("root-read", "read", "*"),
];

fn secret(name: &str) -> String {
    format!("secret-of-{name}")
}

fn token(name: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {}", secret(name)))]
}

/// A hub of these tenants. Each has a source `shop-…` and a route `of-…` of its own; the
/// route `of-all` takes everybody's. What goes to `/fails` is refused at once.
fn hub(receiver: &Receiver) -> Hub {
    let tables = TOKENS.map(|(name, scope, tenant)| {
        format!(
            "[[token]]\nname = \"{name}\"\nsecret = {{ file = \"secrets/{name}\" }}\n\
             scopes = [\"{scope}\"]\ntenant = \"{tenant}\"\n"
        )
    });
    let hub = Hub::with("", &tables.concat());
    for (name, _, _) in TOKENS {
        hub.secret(name, &secret(name));
    }
    let route = |name: &str, tenant: &str, path: &str| {
        hub.route(
            name,
            format!(
                "tenant = \"{tenant}\"\nfrom = \"*\"\ntypes = [\"*\"]\n[endpoint]\nurl = \"{}\"\n\
                 [retry]\nschedule = []\n[breaker]\nenabled = false\n",
                receiver.url(path)
            ),
        );
    };
    for tenant in ["a", "b"] {
        hub.source(&format!("shop-{tenant}"), &format!("tokens = [\"{tenant}-in\"]"));
        route(&format!("of-{tenant}"), tenant, &format!("/to-{tenant}"));
    }
    route("of-all", "*", "/fails");
    hub
}

fn receiver() -> Receiver {
    Receiver::start(|it| match it.path.as_str() {
        "/fails" => Reply::status(400),
        _ => Reply::status(200),
    })
}

fn call(engine: &Engine, who: &[(&str, String)], method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers: Vec<_> = who.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client::ask(engine.admin, method, path, &headers, &body)
}

fn get(engine: &Engine, who: &str, path: &str) -> Value {
    let answer = call(engine, &token(who), "GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{who} {path}: {}", answer.text());
    answer.json()
}

fn rows(engine: &Engine, who: &str, path: &str) -> Vec<Value> {
    get(engine, who, path)["data"].as_array().expect("a list").clone()
}

/// Events of these types, by that token, as a batch; their ids.
fn send(engine: &Engine, token: &str, types: &[&str]) -> Vec<String> {
    let event = |event_type: &&str| {
        json!({
            "specversion": "1.0", "id": fastrand::u64(..).to_string(), "source": "x",
            "type": event_type, "subject": "s", "data": {},
        })
    };
    let batch: Vec<_> = types.iter().map(event).collect();
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/cloudevents-batch+json"),
    ];
    let body = json!(batch).to_string();
    client::ask(engine.public, "POST", "/events", &headers, body.as_bytes()).event_ids()
}

/// Wait until so many deliveries have ended.
fn ended(engine: &Engine, count: usize) {
    eventually("all deliveries to end", || {
        let pending = rows(engine, "root", "/v1/deliveries?status=pending&limit=1");
        let stats = get(engine, "root", "/v1/stats?window=24h");
        let attempts = stats["data"].as_array().expect("intervals").iter();
        let attempts: u64 = attempts.filter_map(|it| it["attempts"].as_u64()).sum();
        (pending.is_empty() && attempts >= count as u64).then_some(())
    });
}

/// Whose an event is.
fn tenant_of(row: &Value) -> &str {
    match row["source"].as_str().expect("a source") {
        "a-in" | "shop-a" | "plugpost/a" => "a",
        "b-in" | "shop-b" | "plugpost/b" => "b",
        _ => "default",
    }
}

#[test]
pub(crate) fn a_tenants_log_is_what_of_the_whole_log_is_its_own() {
    let receiver = receiver();
    let engine = Engine::start(&hub(&receiver));
    // More than a block of the log's columns, and rows that no block has yet.
    let types = ["order.created", "order.paid", "invoice.paid"].repeat(100);
    for _ in 0..2 {
        for token in [&secret("a-in"), &secret("b-in"), TOKEN] {
            send(&engine, token, &types);
        }
    }
    ended(&engine, 3000);
    let every = |who: &str, list: &str, query: &str| {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = get(&engine, who, &format!("/v1/{list}?limit=500&{query}{cursor}"));
            all.extend(page["data"].as_array().expect("a list").iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    };
    let some = rows(&engine, "root", "/v1/deliveries?limit=500");
    let start = some[0]["id"].as_str().expect("an id")[..9].to_owned();
    let queries = [
        ("events", String::new(), 1800),
        ("events", "type=order.*".into(), 1200),
        ("events", "source=b-in".into(), 600),
        ("events", "subject=s&type=invoice.paid".into(), 600),
        ("deliveries", String::new(), 3000),
        ("deliveries", "route=of-all".into(), 1800),
        ("deliveries", "status=dead".into(), 1800),
        ("deliveries", "status=delivered&type=order.paid".into(), 400),
        ("deliveries", "q=answered%20400&type=order.paid".into(), 600),
        ("deliveries", "source=a-in".into(), 1200),
        ("deliveries", format!("q={start}"), 3000),
    ];
    for (list, query, count) in queries {
        let all = every("root", list, &query);
        assert_eq!(all.len(), count, "{list} {query}");
        for (who, tenant) in [("a-op", "a"), ("b-read", "b"), ("ops", "default")] {
            let own: Vec<_> = all.iter().filter(|it| tenant_of(it) == tenant).collect();
            let seen = every(who, list, &query);
            // Thousands of rows are not for reading.
            assert!(seen.iter().eq(own), "{who} {list} {query}: {} of {count}", seen.len());
        }
    }
}

#[test]
pub(crate) fn a_recovery_resends_the_callers_events_and_is_the_callers_own() {
    let receiver = receiver();
    let engine = Engine::start(&hub(&receiver));
    for token in [&secret("a-in"), &secret("b-in"), TOKEN] {
        send(&engine, token, &["t", "t", "t"]);
    }
    ended(&engine, 15);
    let range = json!({ "route": "of-all", "since": "2020-01-01T00:00:00Z" });
    let mut made = Vec::new();
    for (who, tenant) in [("a-op", "a"), ("ops", "default")] {
        let begun = call(&engine, &token(who), "POST", "/v1/recover", &range);
        assert_eq!(begun.status, 202, "{}", begun.text());
        let path = format!("/v1/recover/{}", begun.json()["id"].as_str().expect("an id"));
        let done = eventually("its end", || {
            let run = get(&engine, who, &path);
            (run["state"] == "done").then_some(run)
        });
        assert_eq!(done["resent"], 3, "of {tenant}");
        for other in ["b-op", if who == "ops" { "a-op" } else { "ops" }] {
            call(&engine, &token(other), "GET", &path, &Value::Null).problem(404);
            call(&engine, &token(other), "DELETE", &path, &Value::Null).problem(404);
        }
        assert_eq!(get(&engine, "root", &path)["resent"], 3);
        made.push(tenant);
        ended(&engine, 15 + 3 * made.len());
        let all = rows(&engine, "root", "/v1/deliveries?route=of-all&limit=500");
        let of = |tenant: &str| all.iter().filter(|it| tenant_of(it) == tenant).count();
        for tenant in ["a", "b", "default"] {
            assert_eq!(of(tenant), if made.contains(&tenant) { 6 } else { 3 }, "{tenant}");
        }
    }
    // Another's route is none, and so is one that never was.
    for route in ["of-b", "of-nobody"] {
        let range = json!({ "route": route, "since": "2020-01-01T00:00:00Z" });
        call(&engine, &token("a-op"), "POST", "/v1/recover", &range).problem(404);
    }
}

#[test]
fn a_stream_tells_of_the_listeners_own_attempts() {
    let receiver = receiver();
    let engine = Engine::start(&hub(&receiver));
    let listen = |who: &str| {
        let mut stream = TcpStream::connect(engine.admin).expect("the engine listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let token = secret(who);
        write!(
            stream,
            "GET /v1/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        )
        .expect("it is sent");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let head = lines.by_ref().take_while(|it| !it.is_empty()).collect::<Vec<_>>();
        assert!(head[0].contains("200"), "{head:?}");
        lines.filter_map(|it| serde_json::from_str::<Value>(it.strip_prefix("data: ")?).ok())
    };
    let (of_a, of_b, of_default) = (listen("a-read"), listen("b-read"), listen("ops"));
    // The others' come first: whoever saw them would see them before its own.
    for token in [&secret("b-in"), TOKEN, &secret("a-in"), &secret("b-in"), TOKEN] {
        send(&engine, token, &["t"]);
        ended(&engine, 1);
    }
    ended(&engine, 8);
    send(&engine, &secret("a-in"), &["last"]);
    send(&engine, TOKEN, &["last"]);
    send(&engine, &secret("b-in"), &["last"]);
    let told = |attempts: &mut dyn Iterator<Item = Value>, count: usize, tenant: &str| {
        let told: Vec<_> = attempts.take(count).collect();
        assert_eq!(told.len(), count);
        for it in told {
            assert_eq!(tenant_of(&it), tenant, "{it}");
        }
    };
    told(&mut { of_a }, 4, "a");
    told(&mut { of_b }, 6, "b");
    told(&mut { of_default }, 3, "default");
}

#[test]
fn figures_are_the_tenants_own_and_the_engine_is_its_operators() {
    let receiver = receiver();
    let hub = hub(&receiver);
    hub.plugin("cel");
    let engine = Engine::start(&hub);
    send(&engine, &secret("a-in"), &["t"; 3]);
    send(&engine, &secret("b-in"), &["t"; 5]);
    ended(&engine, 16);
    let attempts = |who: &str, query: &str| {
        let stats = get(&engine, who, &format!("/v1/stats?window=24h{query}"));
        let data = stats["data"].as_array().expect("intervals").clone();
        data.iter().filter_map(|it| it["attempts"].as_u64()).sum::<u64>()
    };
    assert_eq!([attempts("root", ""), attempts("ops", "")], [16, 16]);
    assert_eq!([attempts("a-op", ""), attempts("b-read", "")], [6, 10]);
    assert_eq!(attempts("a-op", "&route=of-a"), 3);
    for route in ["of-b", "of-all", "of-nobody"] {
        assert_eq!(attempts("a-op", &format!("&route={route}")), 0, "{route}");
    }
    for who in ["a-op", "b-read", "ops", "root"] {
        let runs_it = ["ops", "root"].contains(&who);
        assert_eq!(get(&engine, who, "/v1/session")["engine"], runs_it);
        let metrics = call(&engine, &token(who), "GET", "/metrics", &Value::Null);
        let plugins = get(&engine, who, "/v1/plugins");
        assert_eq!(plugins["data"][0]["name"], "cel");
        assert_eq!(plugins["data"][0]["calls"].is_null(), !runs_it);
        match runs_it {
            true => assert_eq!(metrics.status, 200),
            false => drop(metrics.problem(403)),
        }
        let reload = call(&engine, &token(who), "POST", "/v1/reload", &Value::Null);
        assert_eq!(reload.status, if runs_it { 200 } else { 403 }, "{who}");
    }
    // What is wrong with the folder is no affair of a tenant.
    hub.route("broken", "nonsense");
    call(&engine, &token("root"), "POST", "/v1/reload", &Value::Null).problem(422);
    assert!(get(&engine, "ops", "/v1/plugins")["last_reload"].is_object());
    assert!(get(&engine, "a-op", "/v1/plugins")["last_reload"].is_null());
}

#[test]
fn what_the_engine_tells_a_tenant_is_in_that_tenants_log() {
    let receiver = receiver();
    let hub = hub(&receiver);
    for tenant in ["a", "default"] {
        hub.route(
            &format!("told-{tenant}"),
            format!(
                "tenant = \"{tenant}\"\nfrom = \"plugpost\"\ntypes = [\"*\"]\n\
                 [endpoint]\nurl = \"{}\"\n",
                receiver.url("/told")
            ),
        );
    }
    let engine = Engine::start(&hub);
    let tried = call(&engine, &token("a-op"), "POST", "/v1/endpoints/of-a/test", &Value::Null);
    assert_eq!(tried.status, 202, "{}", tried.text());
    let tried = format!("/v1/deliveries/{}", tried.json()["id"].as_str().expect("an id"));
    assert_eq!(get(&engine, "a-read", &tried)["source"], "plugpost/a");
    let off = call(&engine, &token("a-op"), "POST", "/v1/endpoints/of-a/disable", &Value::Null);
    assert_eq!(off.status, 200);
    // Its own route is told, by a request as any other's.
    let told = receiver.until("to be told", |it| it.iter().find(|it| it.path == "/told").cloned());
    assert!(String::from_utf8_lossy(&told.body).contains("of-a"));
    let own = rows(&engine, "a-read", "/v1/events");
    let types: Vec<_> = own.iter().filter_map(|it| it["type"].as_str()).collect();
    assert_eq!(types, ["endpoint.disabled", "plugpost.test"]);
    for who in ["b-op", "ops"] {
        assert_eq!(rows(&engine, who, "/v1/events"), [] as [Value; 0]);
        call(&engine, &token(who), "GET", &tried, &Value::Null).problem(404);
    }
}
