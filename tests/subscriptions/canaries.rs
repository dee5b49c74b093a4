//! A thousand secrets go in by every door there is; afterwards none of them is found
//! anywhere but with the receiver.

use std::fs;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{call, id, path, subscribe};
use crate::support::client::{self, Answer};
use crate::support::engine::{Engine, command};
use crate::support::hub::Hub;
use crate::support::receiver::{Receiver, Reply};

/// Five secrets each.
const SUBSCRIPTIONS: usize = 200;

/// The n-th: visible characters that occur nowhere else.
fn canary(number: usize) -> String {
    format!("canary{number:05}SINGS{:04x}", number.wrapping_mul(40_503) & 0xffff)
}

#[test]
fn none_of_a_thousand_secrets_is_found_anywhere() {
    let receiver = Receiver::start(|it| match it.path.as_str() {
        // What is sent comes back: the log keeps the start of every answer.
        "/fails" => Reply::status(500),
        _ => Reply::status(200),
    });
    let hub = Hub::new();
    hub.plugin("http-auth").plugin("standard-webhooks");
    let mut serve = command(std::path::Path::new(env!("CARGO_BIN_EXE_plugpost")));
    serve.env("PLUGPOST_LOG", "trace").arg("serve").arg(hub.path());
    let engine = Engine::start_command(serve, &hub);
    let mut said = String::new();
    let mut note = |answer: &Answer| said.push_str(answer.text());
    let mut made = Vec::new();
    for at in 0..SUBSCRIPTIONS {
        let own: Vec<String> = (0..5).map(|it| canary(at * 5 + it)).collect();
        let to = if at % 4 == 0 { "/fails" } else { "/" };
        let body = json!({
            "types": ["order.created"], "url": receiver.url(to), "platform": "http-auth",
            "settings": { "scheme": "bearer" },
            "secrets": { "secret": own[0] }, "headers": { "x-own": own[1] },
        });
        let it = subscribe(&engine, &body);
        note(&call(&engine, None, "GET", &path(&it), &Value::Null));
        let rotated = json!({ "value": own[2], "overlap": "1h" });
        let answer =
            call(&engine, None, "POST", &format!("{}/secrets/secret", path(&it)), &rotated);
        assert_eq!(answer.status, 200, "{}", answer.text());
        note(&answer);
        let update = json!({ "headers": { "x-own": own[3] } });
        let answer = call(&engine, None, "PATCH", &path(&it), &update);
        assert_eq!(answer.status, 200, "{}", answer.text());
        note(&answer);
        // And by every door that is closed.
        let refused = [
            (
                "POST",
                "/v1/subscriptions".to_owned(),
                json!({
                    "types": ["*"], "url": "https://example.com/", "platform": "standard-webhooks",
                    "secrets": { "key": own[4] }, "headers": { "x": format!("{}\n", own[4]) },
                }),
            ),
            ("PUT", path(&it), json!({ "secrets": { "other": own[4] }, "headers": [own[4]] })),
            ("PATCH", path(&it), json!({ "secrets": own[4] })),
            (
                "PATCH",
                path(&it),
                json!({ "platform": null, "settings": { "secret": 1 }, "secrets": { "secret": { "x": own[4] } } }),
            ),
            ("POST", format!("{}/secrets/secret", path(&it)), json!({ "value": [own[4]] })),
            (
                "POST",
                format!("{}/secrets/secret", path(&it)),
                json!({ "value": own[4], "overlap": "x" }),
            ),
            ("POST", format!("{}/secrets/nothing", path(&it)), json!({ "value": own[4] })),
        ];
        for (method, path, body) in refused {
            let answer = call(&engine, None, method, &path, &body);
            assert!([400, 422].contains(&answer.status), "{method} {path}: {}", answer.text());
            note(&answer);
        }
        made.push(it);
    }
    engine.send("order.created", "{}");
    receiver.first(SUBSCRIPTIONS);
    // They did arrive where they belong.
    let arrived = receiver.received();
    for at in 0..SUBSCRIPTIONS {
        let bearer = format!("Bearer {}", canary(at * 5 + 2));
        let own = canary(at * 5 + 3);
        let fits = arrived.iter().any(|it| {
            it.header("authorization") == Some(&bearer) && it.header("x-own") == Some(&own)
        });
        assert!(fits, "the secrets of subscription {at} did not arrive");
    }
    for it in &made[..SUBSCRIPTIONS / 10] {
        note(&call(&engine, None, "DELETE", &path(it), &Value::Null));
    }
    for list in ["subscriptions", "routes", "endpoints", "events", "deliveries", "plugins"] {
        note(&engine.get(&format!("/v1/{list}?limit=500")));
    }
    let rows = engine.deliveries("limit=500");
    assert_eq!(rows.len(), SUBSCRIPTIONS);
    for row in &rows {
        note(&engine.get(&format!("/v1/deliveries/{}", id(row))));
    }
    note(&engine.get("/metrics"));
    note(&engine.get("/openapi.json"));
    note(&engine.get("/v1/stats"));
    let mut places = on_disk(&hub);
    places.push(("answers".into(), said.into_bytes()));
    assert!(places.iter().any(|(name, bytes)| name.ends_with(".db-wal") && bytes.len() > 100_000));
    places.push(("stderr".into(), engine.stop().stderr.into_bytes()));
    places.extend(on_disk(&hub));
    none_in(&places, &[CANARY.to_owned()]);
}

/// What every canary begins with.
const CANARY: &str = "canary";

/// The store's files and those beside it, each with its name.
fn on_disk(hub: &Hub) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(hub.path()).expect("the hub").flatten().map(|it| it.path());
    let files = files.filter(|it| it.is_file());
    files.map(|it| (it.display().to_string(), fs::read(&it).expect("a file"))).collect()
}

/// None of the texts, as they are or in base64.
fn none_in(places: &[(String, Vec<u8>)], texts: &[String]) {
    let encoded = |it: &String| BASE64_STANDARD.encode(it).trim_end_matches('=').to_owned();
    let needles: Vec<_> = texts.iter().cloned().chain(texts.iter().map(encoded)).collect();
    for (place, bytes) in places {
        for needle in &needles {
            let found = bytes.windows(needle.len()).position(|it| it == needle.as_bytes());
            let around = found.map(|at| {
                String::from_utf8_lossy(&bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())])
                    .into_owned()
            });
            assert_eq!(around, None, "in {place}");
        }
    }
}

/// Registrations by a platform's API, each with three secrets and a link.
const REGISTERED: usize = 60;

#[test]
fn nor_is_one_of_a_token_a_platforms_api_an_authorization_server_or_a_link() {
    let receiver = Receiver::start(|it| {
        match it.path.as_str() {
        "/token" => Reply::status(200).with_header("content-type", "application/json").with_body(
            "{\"access_token\": \"canary-access\", \"token_type\": \"Bearer\", \"expires_in\": 3600}",
        ),
        "/fails" => Reply::status(500),
        _ => Reply::status(200),
    }
    });
    let tables = [("root", "*", ""), ("shop", "shop", CLIENT_SECRET), ("looks", "shop", "")];
    let tables = tables.map(|(name, tenant, more)| {
        let scope = if name == "looks" { "read" } else { "operate" };
        format!(
            "[[token]]\nname = \"{name}\"\nsecret = {{ file = \"secrets/{name}\" }}\n\
             scopes = [\"ingest\", \"{scope}\"]\ntenant = \"{tenant}\"\n{more}\n"
        )
    });
    let hub = Hub::with("", &tables.concat());
    for name in ["root", "shop", "looks", "client", "oauth"] {
        hub.secret(name, &format!("canary-{name}"));
    }
    hub.plugin("ordermentum").plugin("buildr");
    hub.route(
        "oauth",
        format!(
            "tenant = \"*\"\nfrom = \"*\"\ntypes = [\"*\"]\n[endpoint]\nurl = \"{}\"\n\
             [endpoint.oauth2]\ntoken_url = \"{}\"\nclient_id = \"hub\"\n\
             client_secret = {{ file = \"secrets/oauth\" }}\n",
            receiver.url("/oauth"),
            receiver.url("/token")
        ),
    );
    let mut serve = command(std::path::Path::new(env!("CARGO_BIN_EXE_plugpost")));
    serve.env("PLUGPOST_LOG", "trace").arg("serve").arg(hub.path());
    let engine = Engine::start_command(serve, &hub);
    let (mut said, mut secrets) = (String::new(), vec![CANARY.to_owned()]);
    let platform = |method: &str, path: &str, body: &Value| {
        let headers = [("x-api-key", "canary-shop"), ("authorization", "Bearer canary-shop")];
        let header = if path.contains("buildr") { &headers[1..] } else { &headers[..1] };
        client::ask(engine.public, method, path, header, body.to_string().as_bytes())
    };
    for at in 0..REGISTERED {
        let to = receiver.url(if at % 3 == 0 { "/fails" } else { "/" });
        let own: Vec<String> = (0..4).map(|it| canary(at * 4 + it)).collect();
        // `us:` is three bytes: what follows is found in base64.
        let registered = json!({
            "url": to, "name": "n", "events": ["order_created"],
            "authentication": { "basicAuth": { "username": "us", "password": own[0] } },
            "headers": { "X-Own": own[1] },
        });
        let answer = platform("POST", "/platforms/ordermentum/v1/webhooks", &registered);
        assert_eq!(answer.status, 201, "{}", answer.text());
        said.push_str(answer.text());
        let made = json!({ "webhook": {
            "url": to, "filter_types": ["contact.create"], "secret": own[2],
        }});
        let answer = platform("POST", "/platforms/buildr/api/2023-01/webhooks", &made);
        assert_eq!(answer.status, 201, "{}", answer.text());
        said.push_str(answer.text());
        // What is refused is repeated by nobody.
        let refused =
            json!({ "url": to, "authentication": { "basicAuth": own[3] }, "headers": own[3] });
        let answer = platform("POST", "/platforms/ordermentum/v1/webhooks", &refused);
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        said.push_str(answer.text());
        let wrong = [("x-api-key", own[3].as_str())];
        let path = "/platforms/ordermentum/v1/webhooks";
        let answer = client::ask(engine.public, "GET", path, &wrong, b"");
        assert_eq!(answer.status, 401);
        said.push_str(answer.text());
        let wanted = json!({ "tenant": "shop" });
        let answer = call(&engine, Some("canary-root"), "POST", "/v1/portal", &wanted);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let link = answer.json()["url"].as_str().expect("a URL").to_owned();
        let link = link.split_once('#').expect("a link").1;
        let opened = call(&engine, None, "POST", "/portal", &json!({ "link": link }));
        assert_eq!(opened.status, 200);
        said.push_str(opened.text());
        let over = call(&engine, None, "POST", "/portal", &json!({ "link": own[3] }));
        said.push_str(over.text());
        let cookie = opened.header("set-cookie").expect("a cookie");
        let cookie = cookie.split(['=', ';']).nth(1).expect("a value");
        // A few: each is looked for by itself.
        if at < 10 {
            secrets.extend([link[..40].to_owned(), cookie.to_owned()]);
        }
    }
    for wrong in ["canary-nobody", "canary-root-and-more"] {
        said.push_str(call(&engine, Some(wrong), "GET", "/v1/events", &Value::Null).text());
        let body = json!({ "token": wrong });
        said.push_str(call(&engine, None, "POST", "/login", &body).text());
    }
    for (event_type, id) in [("order_created", "1"), ("contact.create", "2")] {
        let headers = [
            ("authorization", "Bearer canary-shop"),
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "x"),
            ("ce-type", event_type),
        ];
        let data = b"{\"id\": 1, \"url\": \"https://crm.example.com/1\"}";
        let sent = client::ask(engine.public, "POST", "/events", &headers, data);
        assert_eq!(sent.status, 202, "{}", sent.text());
    }
    // To each registration, to the route twice, and for its token.
    receiver.until("everything", |it| (it.len() >= 2 * REGISTERED + 3).then_some(()));
    let arrived = receiver.received();
    let has = |name: &str, value: &str| arrived.iter().any(|it| it.header(name) == Some(value));
    assert!(has("authorization", "Bearer canary-access"));
    for at in 0..REGISTERED {
        let basic = BASE64_STANDARD.encode(format!("us:{}", canary(at * 4)));
        assert!(
            has("authorization", &format!("Basic {basic}")) && has("x-own", &canary(at * 4 + 1))
        );
    }
    for list in
        ["subscriptions", "routes", "endpoints", "events", "deliveries", "plugins", "session"]
    {
        let path =
            if list == "session" { "/v1/session".into() } else { format!("/v1/{list}?limit=500") };
        let answer = call(&engine, Some("canary-root"), "GET", &path, &Value::Null);
        assert_eq!(answer.status, 200, "{list}");
        said.push_str(answer.text());
        if list == "deliveries" {
            for row in answer.json()["data"].as_array().expect("a list") {
                let path = format!("/v1/deliveries/{}", id(row));
                said.push_str(
                    call(&engine, Some("canary-looks"), "GET", &path, &Value::Null).text(),
                );
            }
        }
    }
    said.push_str(call(&engine, Some("canary-root"), "GET", "/metrics", &Value::Null).text());
    let mut places = on_disk(&hub);
    places.push(("answers".into(), said.into_bytes()));
    places.push(("stderr".into(), engine.stop().stderr.into_bytes()));
    places.extend(on_disk(&hub));
    none_in(&places, &secrets);
}

/// What a platform's customer need not bring.
const CLIENT_SECRET: &str = "secrets.client_secret = { file = \"secrets/client\" }";
