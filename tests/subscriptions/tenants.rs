//! What belongs to one tenant is not there for another.

use serde_json::{Value, json};

use super::{call, id, path};
use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::Hub;
use crate::support::receiver::Receiver;

fn two_tenants() -> Hub {
    let mut tokens = String::new();
    for tenant in ["a", "b"] {
        tokens.push_str(&format!(
            "[[token]]\nname = \"{tenant}-in\"\nsecret = {{ file = \"secrets/{tenant}-in\" }}\n\
             scopes = [\"ingest\"]\ntenant = \"{tenant}\"\n\
             [[token]]\nname = \"{tenant}-op\"\nsecret = {{ file = \"secrets/{tenant}-op\" }}\n\
             scopes = [\"operate\"]\ntenant = \"{tenant}\"\n\
             [[token]]\nname = \"{tenant}-read\"\nsecret = {{ file = \"secrets/{tenant}-read\" }}\n\
             scopes = [\"read\"]\ntenant = \"{tenant}\"\n"
        ));
    }
    tokens.push_str(
        "[[token]]\nname = \"root\"\nsecret = { file = \"secrets/root\" }\n\
         scopes = [\"operate\"]\ntenant = \"*\"\n",
    );
    let hub = Hub::with("", &tokens);
    for name in ["a-in", "a-op", "a-read", "b-in", "b-op", "b-read", "root"] {
        hub.secret(name, &secret(name));
    }
    hub.source("shop", "tokens = [\"a-in\"]");
    hub.plugin("standard-webhooks");
    hub
}

fn secret(name: &str) -> String {
    format!("secret-of-{name}")
}

fn make(engine: &Engine, who: &str, body: &Value) -> Value {
    let answer = call(engine, Some(&secret(who)), "POST", "/v1/subscriptions", body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

#[test]
fn events_go_to_their_own_tenants_subscriptions() {
    let receiver = Receiver::ok();
    let hub = two_tenants();
    hub.route(
        "of-all",
        format!(
            "tenant = \"*\"\nfrom = \"*\"\ntypes = [\"*\"]\n[endpoint]\nurl = \"{}\"\n",
            receiver.url("/all")
        ),
    );
    hub.route(
        "of-default",
        format!(
            "from = \"*\"\ntypes = [\"*\"]\n[endpoint]\nurl = \"{}\"\n",
            receiver.url("/default")
        ),
    );
    hub.route(
        "of-b",
        format!(
            "tenant = \"b\"\nfrom = \"*\"\ntypes = [\"*\"]\n[endpoint]\nurl = \"{}\"\n",
            receiver.url("/b-file")
        ),
    );
    let engine = Engine::start(&hub);
    for who in ["a", "b"] {
        let url = receiver.url(&format!("/{who}"));
        make(&engine, &format!("{who}-op"), &json!({ "types": ["*"], "url": url }));
    }
    let of_default = json!({ "types": ["*"], "url": receiver.url("/sub"), "tenant": "default" });
    make(&engine, "root", &of_default);
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "x", "type": "t", "data": {}
    });
    let took = |token: &str, path: &str, count: usize| {
        let before = receiver.received().len();
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/cloudevents+json"),
        ];
        let body = event.to_string();
        let answer = client::ask(engine.public, "POST", path, &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        let received = receiver.first(before + count);
        let mut paths: Vec<_> = received[before..].iter().map(|it| it.path.clone()).collect();
        paths.sort();
        paths
    };
    assert_eq!(took(&secret("a-in"), "/events", 2), ["/a", "/all"]);
    assert_eq!(took(&secret("a-in"), "/in/shop/t", 2), ["/a", "/all"]);
    assert_eq!(took(&secret("b-in"), "/events", 3), ["/all", "/b", "/b-file"]);
    let erp = crate::support::hub::TOKEN;
    assert_eq!(took(erp, "/events", 3), ["/all", "/default", "/sub"]);
}

#[test]
fn every_call_with_another_tenants_id_finds_nothing() {
    let hub = two_tenants();
    let engine = Engine::start(&hub);
    let body = json!({
        "types": ["*"], "url": "https://example.com/", "platform": "standard-webhooks",
        "secrets": { "key": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" },
    });
    let of_a = make(&engine, "a-op", &body);
    let of_b = make(&engine, "b-op", &body);
    let mut tried = 0;
    for (who, foreign) in [("a", &of_b), ("b", &of_a)] {
        let before =
            call(&engine, Some(&secret("root")), "GET", &path(foreign), &Value::Null).json();
        let (it, route) = (path(foreign), format!("/v1/endpoints/{}", id(foreign)));
        let value = json!({ "value": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" });
        let calls = [
            ("GET", it.clone(), Value::Null),
            ("PUT", it.clone(), body.clone()),
            ("PATCH", it.clone(), json!({ "active": false })),
            ("DELETE", it.clone(), Value::Null),
            ("POST", format!("{it}/secrets/key"), value),
            ("POST", format!("{route}/disable"), Value::Null),
            ("POST", format!("{route}/enable"), Value::Null),
            ("POST", format!("{route}/test"), Value::Null),
        ];
        for (method, path, body) in calls {
            let answer = call(&engine, Some(&secret(&format!("{who}-op"))), method, &path, &body);
            answer.problem(404);
            // And a reader changes nothing, not even its own.
            let read = call(&engine, Some(&secret(&format!("{who}-read"))), method, &path, &body);
            read.problem(if method == "GET" { 404 } else { 403 });
            tried += 2;
        }
        for list in ["/v1/subscriptions", "/v1/routes", "/v1/endpoints"] {
            let list =
                call(&engine, Some(&secret(&format!("{who}-read"))), "GET", list, &Value::Null);
            assert!(!list.text().contains(id(foreign)), "{}", list.text());
            assert_eq!(list.json()["data"].as_array().map(Vec::len), Some(1));
            tried += 1;
        }
        let after =
            call(&engine, Some(&secret("root")), "GET", &path(foreign), &Value::Null).json();
        assert_eq!(before, after);
    }
    assert_eq!(tried, 38);
    // Nor is another tenant to be named, or its sources.
    let a = secret("a-op");
    let tenant = json!({ "types": ["*"], "url": "https://example.com/", "tenant": "b" });
    call(&engine, Some(&a), "POST", "/v1/subscriptions", &tenant).problem(403);
    call(&engine, Some(&a), "GET", "/v1/subscriptions?tenant=b", &Value::Null).problem(403);
    let source = json!({ "types": ["*"], "url": "https://example.com/", "from": ["erp"] });
    let said = call(&engine, Some(&a), "POST", "/v1/subscriptions", &source).problem(422);
    assert!(said.contains("shop") && !said.contains("b-in"), "{said}");
    let all = call(&engine, Some(&secret("root")), "GET", "/v1/subscriptions", &Value::Null);
    assert_eq!(all.json()["data"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_source_and_its_token_are_of_one_tenant() {
    let hub = two_tenants();
    hub.source("both", "tokens = [\"a-in\", \"b-in\"]");
    hub.source("wrong", "tokens = [\"a-in\"]\ntenant = \"b\"");
    hub.source("b-in", "tokens = [\"a-in\"]");
    let ran = crate::support::plugpost([std::ffi::OsStr::new("check"), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(1));
    for place in ["sources/both.toml:1:19", "sources/wrong.toml:1:11", "sources/b-in.toml:"] {
        assert!(ran.stderr.contains(place), "{place} is not in {}", ran.stderr);
    }
}
