//! Every call that the running engine describes, with every id that is another tenant's:
//! refused, and nothing has changed. What is not known here fails the test, so a new call
//! is thought about.

use serde_json::{Map, Value, json};

use super::{call, ended, get, hub, receiver, rows, send, token};
use crate::support::engine::Engine;
use crate::support::receiver::Receiver;

/// What a tenant owns, and what its texts would give away.
struct Own {
    event: String,
    delivery: String,
    subscription: String,
    recovery: String,
    route: String,
    source: String,
    tenant: String,
    /// The endpoint of its route.
    url: String,
}

impl Own {
    /// Something of everything.
    fn of(engine: &Engine, receiver: &Receiver, tenant: &str) -> Self {
        let operator = token(&format!("{tenant}-op"));
        let made = |path: &str, body: &Value| {
            let answer = call(engine, &operator, "POST", path, body);
            assert!(answer.status < 300, "{path}: {}", answer.text());
            answer.json()["id"].as_str().expect("an id").to_owned()
        };
        let reader = format!("{tenant}-read");
        let url = receiver.url(&format!("/to-{tenant}"));
        let event = send(engine, &super::secret(&format!("{tenant}-in")), &["t"]).remove(0);
        let path = format!("/v1/deliveries?event_id={event}&route=of-{tenant}");
        let delivery = rows(engine, &reader, &path)[0]["id"].as_str().expect("an id").to_owned();
        let subscription = made("/v1/subscriptions", &subscription(receiver, tenant));
        let route = format!("of-{tenant}");
        let range = json!({ "route": route, "since": "2020-01-01T00:00:00Z" });
        let recovery = made("/v1/recover", &range);
        let source = format!("{tenant}-in");
        Self { event, delivery, subscription, recovery, route, source, tenant: tenant.into(), url }
    }

    /// What must stand in no answer to another.
    fn marks(&self) -> [&str; 6] {
        [&self.event, &self.delivery, &self.subscription, &self.recovery, &self.source, &self.url]
    }
}

fn subscription(receiver: &Receiver, tenant: &str) -> Value {
    json!({
        "types": ["never"], "url": receiver.url(&format!("/to-{tenant}")),
        "platform": "standard-webhooks",
        "secrets": { "key": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" },
    })
}

/// What a call is to a tenant.
enum Kind {
    /// About something that belongs to somebody: by another's id it is refused.
    Named,
    /// A list, or figures: shows the caller's own, whatever is asked for.
    List,
    /// About all tenants together.
    OfTheEngine,
    /// The same for everybody.
    Shared,
    /// Makes something; these bodies name what is another's.
    Makes(Vec<Value>),
    /// Answers for as long as one listens: `a_stream_tells_of_the_listeners_own_attempts`.
    Stream,
}

fn kind(method: &str, path: &str, other: &Own, receiver: &Receiver) -> Option<Kind> {
    let since = "2020-01-01T00:00:00Z";
    Some(match (method, path) {
        ("get", "/v1/events" | "/v1/deliveries" | "/v1/subscriptions") => Kind::List,
        ("get", "/v1/routes" | "/v1/endpoints" | "/v1/stats" | "/v1/plugins") => Kind::List,
        ("get", "/v1/events/{id}" | "/v1/deliveries/{id}" | "/v1/recover/{id}") => Kind::Named,
        ("post", "/v1/deliveries/{id}/resend" | "/v1/deliveries/{id}/cancel") => Kind::Named,
        ("delete", "/v1/recover/{id}") => Kind::Named,
        ("get" | "put" | "patch" | "delete", "/v1/subscriptions/{id}") => Kind::Named,
        ("post", "/v1/subscriptions/{id}/secrets/{name}") => Kind::Named,
        ("post", path) if path.starts_with("/v1/endpoints/{route}/") => match path {
            "/v1/endpoints/{route}/disable"
            | "/v1/endpoints/{route}/enable"
            | "/v1/endpoints/{route}/test" => Kind::Named,
            _ => return None,
        },
        ("post", "/v1/recover") => {
            Kind::Makes(vec![json!({ "route": other.route, "since": since })])
        }
        ("post", "/v1/subscriptions") => {
            let mut theirs = subscription(receiver, "x");
            theirs["tenant"] = json!(other.tenant);
            Kind::Makes(vec![theirs])
        }
        ("post", "/v1/portal") => Kind::Makes(vec![
            json!({ "tenant": other.tenant }),
            json!({ "tenant": other.tenant, "read_only": true }),
        ]),
        ("post", "/v1/reload") | ("get", "/metrics" | "/v1/nodes") => Kind::OfTheEngine,
        ("get", "/v1/plugins/{name}" | "/v1/session" | "/healthz" | "/readyz") => Kind::Shared,
        ("get", "/v1/stream") => Kind::Stream,
        _ => return None,
    })
}

/// The paths that a path is with what is another's in the place of its parameters.
fn filled(path: &str, other: &Own) -> Vec<String> {
    let own: &[&String] = match path {
        it if it.starts_with("/v1/events/") => &[&other.event],
        it if it.starts_with("/v1/deliveries/") => &[&other.delivery],
        it if it.starts_with("/v1/recover/") => &[&other.recovery],
        it if it.starts_with("/v1/subscriptions/") => &[&other.subscription],
        it if it.starts_with("/v1/endpoints/") => &[&other.route, &other.subscription],
        it => panic!("{it}: whose are its ids?"),
    };
    let path = path.replace("{name}", "key");
    let fill = |id: &&String| path.replace("{id}", id).replace("{route}", id);
    own.iter().map(fill).collect()
}

/// Bodies that would be taken if the id were one's own.
fn bodies(method: &str, path: &str, receiver: &Receiver) -> Vec<Value> {
    match (method, path) {
        ("post", it) if it.ends_with("/resend") => {
            vec![Value::Null, json!({ "as_new": true })]
        }
        ("put", _) => vec![subscription(receiver, "x")],
        ("patch", _) => vec![json!({ "active": false }), json!({ "url": receiver.url("/x") })],
        ("post", it) if it.contains("/secrets/") => {
            vec![json!({ "value": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" })]
        }
        _ => vec![Value::Null],
    }
}

/// What each parameter of a list is asked for with.
fn parameter(name: &str, other: &Own) -> Vec<String> {
    let own: &[&String] = match name {
        "q" => &[&other.event, &other.delivery],
        "event_id" => &[&other.event],
        "route" => &[&other.route, &other.subscription],
        "source" => &[&other.source],
        "endpoint" => &[&other.url],
        "tenant" => &[&other.tenant],
        "cursor" | "limit" | "window" | "type" | "subject" | "since" | "until" | "status"
        | "platform" | "active" => &[],
        it => panic!("the parameter {it}: can it name what is another's?"),
    };
    let encoded = |it: &&String| it.replace(':', "%3A").replace('/', "%2F");
    own.iter().map(|it| format!("?{name}={}", encoded(it))).collect()
}

/// All that somebody could have changed, as who sees everything sees it.
fn state(engine: &Engine) -> Value {
    let endpoints = rows(engine, "root", "/v1/endpoints?limit=500");
    let endpoints = endpoints.iter().map(|it| (&it["route"], &it["url"], &it["disabled"]));
    json!({
        "events": get(engine, "root", "/v1/events?limit=500"),
        "deliveries": get(engine, "root", "/v1/deliveries?limit=500"),
        "subscriptions": get(engine, "root", "/v1/subscriptions?limit=500"),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

#[test]
pub(crate) fn no_call_reaches_what_is_anothers() {
    let receiver = receiver();
    let hub = hub(&receiver);
    hub.plugin("standard-webhooks");
    let engine = Engine::start(&hub);
    let all = ["a", "b"].map(|it| Own::of(&engine, &receiver, it));
    // An event each, by two routes; and its own once more, by the recovery.
    ended(&engine, 4);
    for own in &all {
        let path = format!("/v1/recover/{}", own.recovery);
        crate::support::eventually("the recovery's end", || {
            (get(&engine, "root", &path)["state"] == "done").then_some(())
        });
    }
    let api = engine.get("/openapi.json").json();
    let mut refused = 0;
    let mut listed = 0;
    for (own, other) in [(&all[0], &all[1]), (&all[1], &all[0])] {
        let link = super::portal::entered(&engine, &own.tenant, &json!({}));
        for who in [token(&format!("{}-op", own.tenant)), link] {
            let before = state(&engine);
            for (path, operations) in api["paths"].as_object().expect("paths") {
                for (method, operation) in operations.as_object().expect("operations") {
                    let (done, seen) =
                        try_all(&engine, &who, (method, path, operation), other, &receiver);
                    refused += done;
                    listed += seen;
                }
            }
            assert_eq!(state(&engine), before, "something has changed");
        }
    }
    // So many that a mistake in the filling would be seen.
    assert!(refused >= 4 * 24 && listed >= 4 * 16, "{refused} refused, {listed} listed");
}

/// One call in every way; how many were refused, and how many lists were looked at.
fn try_all(
    engine: &Engine,
    who: &[(&str, String)],
    (method, path, operation): (&str, &str, &Value),
    other: &Own,
    receiver: &Receiver,
) -> (usize, usize) {
    let Some(kind) = kind(method, path, other, receiver) else {
        panic!("{method} {path} is new: say in this test what it is to a tenant");
    };
    let ask = |path: &str, body: &Value| {
        let answer = call(engine, who, &method.to_uppercase(), path, body);
        for mark in other.marks() {
            // What was asked for may be repeated, but nothing else.
            let said = answer.text().replace(path, "");
            assert!(!said.contains(mark), "{method} {path} gives {mark} away: {said}");
        }
        answer
    };
    let (mut refused, mut listed) = (0, 0);
    let mut refuse = |path: &str, body: &Value, statuses: &[u16]| {
        let answer = ask(path, body);
        assert!(
            statuses.contains(&answer.status),
            "{method} {path} {body}: {} {}",
            answer.status,
            answer.text()
        );
        refused += 1;
    };
    match kind {
        Kind::Named => {
            for path in filled(path, other) {
                bodies(method, &path, receiver).iter().for_each(|it| refuse(&path, it, &[404]));
            }
        }
        Kind::Makes(bodies) => bodies.iter().for_each(|it| refuse(path, it, &[403, 404])),
        Kind::OfTheEngine => refuse(path, &Value::Null, &[403]),
        Kind::List => {
            let names = operation["parameters"].as_array().cloned().unwrap_or_default();
            let names = names.iter().filter_map(|it| it["name"].as_str());
            let queries = names.flat_map(|it| parameter(it, other));
            for query in queries.chain([String::new()]) {
                let answer = ask(&format!("{path}{query}"), &Value::Null);
                assert!([200, 403].contains(&answer.status), "{path}{query}: {}", answer.text());
                // Named by what is another's, there is nothing at all.
                let data = answer.json()["data"].as_array().cloned().unwrap_or_default();
                let counts =
                    |it: &Map<String, Value>| it.get("attempts").is_some_and(|it| *it == 0);
                let is_nothing =
                    |it: &Value| it.as_object().is_some_and(counts) && it["at"].is_string();
                assert!(query.is_empty() || data.iter().all(is_nothing), "{path}{query}: {data:?}");
                listed += 1;
            }
        }
        Kind::Shared => {
            let answer = ask(&path.replace("{name}", "standard-webhooks"), &Value::Null);
            assert_eq!(answer.status, 200, "{path}");
        }
        Kind::Stream => {}
    }
    (refused, listed)
}
