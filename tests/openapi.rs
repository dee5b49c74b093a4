//! `/openapi.json` says what the admin API does. A fuzzer that reads it is run by
//! `tests/fuzz-api.sh`, with a client of its own.

use serde_json::{Map, Value};

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::Hub;

fn described(engine: &Engine) -> Value {
    let answer = engine.get("/openapi.json");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

#[test]
fn every_call_is_described_with_what_it_can_answer() {
    let engine = Engine::start(&Hub::new());
    let api = described(&engine);
    assert!(api["openapi"].as_str().is_some_and(|it| it.starts_with("3.1")), "{}", api["openapi"]);
    let paths = api["paths"].as_object().expect("paths");
    for path in [
        "/v1/events",
        "/v1/events/{id}",
        "/v1/deliveries",
        "/v1/deliveries/{id}",
        "/v1/deliveries/{id}/resend",
        "/v1/deliveries/{id}/cancel",
        "/v1/recover",
        "/v1/recover/{id}",
        "/v1/plugins",
        "/v1/routes",
        "/v1/endpoints",
        "/v1/reload",
        "/v1/nodes",
        "/v1/stream",
        "/v1/stats",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("operations") {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what}");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|it| it.starts_with('2')), "{what}");
            assert!(path.starts_with("/v1/") <= responses.contains_key("401"), "{what}");
            // What is not described is refused, as a problem.
            if method == "get" && path.starts_with("/v1/") && !path.contains('{') {
                engine.get(&format!("{path}?no-such-parameter=1")).problem(400);
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(api: &Value, at: &Value, found: &mut usize) {
        match at {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(api.pointer(pointer).is_some(), "{reference}");
                    *found += 1;
                }
                members.values().for_each(|it| check(api, it, found));
            }
            Value::Array(items) => items.iter().for_each(|it| check(api, it, found)),
            _ => {}
        }
    }
    let api = described(&Engine::start(&Hub::new()));
    let mut found = 0;
    check(&api, &api, &mut found);
    assert!(found > 20, "{found}");
}

#[test]
fn an_answer_has_the_members_that_are_described() {
    let engine = Engine::start(&Hub::new());
    let api = described(&engine);
    engine.send("order.created", "{}");
    for path in ["/v1/events", "/v1/deliveries", "/v1/plugins", "/v1/endpoints", "/v1/stats"] {
        let answer = client::ask(engine.admin, "GET", path, &[], b"").json();
        let schema = &api["paths"][path]["get"]["responses"]["200"]["content"]["application/json"];
        let mut schema = &schema["schema"];
        if let Some(reference) = schema["$ref"].as_str() {
            schema = api.pointer(reference.trim_start_matches('#')).expect("a schema");
        }
        let names = |it: &Map<String, Value>| it.keys().cloned().collect::<Vec<_>>();
        let mut described = names(schema["properties"].as_object().expect("members"));
        let mut answered = names(answer.as_object().expect("an object"));
        described.sort();
        answered.sort();
        assert_eq!(answered, described, "{path}");
    }
}
