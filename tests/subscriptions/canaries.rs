//! A thousand secrets go in by every door there is; afterwards none of them is found
//! anywhere but with the receiver.

use std::fs;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{call, id, path, subscribe};
use crate::support::client::Answer;
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
    let on_disk = || {
        let files = fs::read_dir(hub.path()).expect("the hub").flatten();
        let files = files.filter(|it| it.path().is_file());
        files.map(|it| (it.path(), fs::read(it.path()).expect("a file"))).collect::<Vec<_>>()
    };
    let mut places: Vec<(String, Vec<u8>)> = vec![("answers".into(), said.into_bytes())];
    places.extend(on_disk().into_iter().map(|(path, bytes)| (path.display().to_string(), bytes)));
    assert!(places.iter().any(|(name, bytes)| name.ends_with(".db-wal") && bytes.len() > 100_000));
    let ended = engine.stop();
    places.push(("stderr".into(), ended.stderr.into_bytes()));
    places.extend(on_disk().into_iter().map(|(path, bytes)| (path.display().to_string(), bytes)));
    let needle = b"canary".as_slice();
    let encoded = BASE64_STANDARD.encode("canary");
    for (place, bytes) in &places {
        for needle in [needle, encoded.trim_end_matches('=').as_bytes()] {
            let found = bytes.windows(needle.len()).position(|it| it == needle);
            let around = found.map(|at| {
                String::from_utf8_lossy(&bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())])
                    .into_owned()
            });
            assert_eq!(around, None, "in {place}");
        }
    }
}
