//! Secrets stay where they are: out of the log, the store, the API and stderr.

use std::fs;

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, route};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{files, plugpost};

/// Texts that occur nowhere else. Base64 of a whole number of bytes, so that the
/// Standard Webhooks key can be one of them.
const HEADER: &str = "canary-header-8f14e45f";
const BEARER: &str = "canary-bearer-c9f0f895";
const PASSWORD: &str = "canary-password-45c48c";
const OLDER: &str = "canary-older-d3d94468";
const KEY: &str = "Y2FuYXJ5LWtleS02NTEyYmQ0M2Q5Y2Fh";
const INBOUND: &str = "canary-inbound-1679091c";

/// The canaries, and what they become on the wire.
fn canaries() -> Vec<&'static str> {
    let on_the_wire = [
        // `erp:` and the password, as Basic has it.
        "ZXJwOmNhbmFyeS1wYXNzd29yZC00NWM0OGM=",
        // The key's own bytes.
        "canary-key-6512bd43d9caa",
    ];
    [TOKEN, HEADER, BEARER, PASSWORD, OLDER, KEY, INBOUND].into_iter().chain(on_the_wire).collect()
}

fn hub(receiver: &Receiver) -> Hub {
    let hub = Hub::new();
    let secrets = [
        ("header", HEADER),
        ("bearer", BEARER),
        ("password", PASSWORD),
        ("older", OLDER),
        ("key", KEY),
        ("inbound", INBOUND),
    ];
    for (name, text) in secrets {
        hub.secret(name, text);
    }
    hub.plugin("http-auth").plugin("standard-webhooks");
    hub.source(
        "door",
        "plugin = \"http-auth\"\nsettings.scheme = \"bearer\"\n\
         secrets.secret = { file = \"secrets/inbound\" }",
    );
    let auth = |plugin: &str, rest: &str| format!("[[auth]]\nplugin = \"{plugin}\"\n{rest}\n");
    let http = |scheme: &str, more: &str, secret: &str| {
        let rest = format!("settings.scheme = \"{scheme}\"\n{more}\nsecrets.secret = {secret}");
        auth("http-auth", &rest)
    };
    let file = |name: &str| format!("{{ file = \"secrets/{name}\" }}");
    let routes = [
        ("header", http("header", "settings.header = \"x-api-key\"", &file("header"))),
        ("bearer", http("bearer", "", &format!("[{}, {}]", file("bearer"), file("older")))),
        ("basic", http("basic", "settings.username = \"erp\"", &file("password"))),
        ("key", auth("standard-webhooks", &format!("secrets.key = {}", file("key")))),
    ];
    for (name, auth) in routes {
        let url = receiver.url(&format!("/{name}"));
        hub.route(name, route(&url, "", "schedule = [\"20ms\"]\njitter = 0") + &auth);
    }
    hub
}

#[test]
fn a_secret_goes_to_its_receiver_and_nowhere_else() {
    let receiver = Receiver::start(|request| match request.body.as_slice() {
        b"good" => Reply::status(200),
        _ => Reply::status(500),
    });
    let hub = hub(&receiver);
    let engine = Engine::start(&hub);
    let events = ["good", "bad"].map(|it| engine.send("order.created", it));
    // Who comes with a secret, right or wrong, is not quoted either.
    let authorization = format!("Bearer {INBOUND}");
    for value in [authorization.as_str(), "Bearer canary-inbound-wrong"] {
        let headers = [("authorization", value)];
        client::ask(engine.public, "POST", "/in/door/x", &headers, b"good");
    }
    engine.drained();

    // The receiver got them, so they were there to be leaked.
    let header = |path: &str, name: &str| {
        let received = receiver.received();
        let request = received.iter().find(|it| it.path == path).expect("a request");
        request.header(name).expect("its header").to_owned()
    };
    assert_eq!(header("/header", "x-api-key"), HEADER);
    assert_eq!(header("/bearer", "authorization"), format!("Bearer {BEARER}"));
    assert!(canaries().iter().any(|it| header("/basic", "authorization").ends_with(it)));
    assert!(header("/key", "webhook-signature").starts_with("v1,"));

    // In the log they are masked, and everything beside them is not.
    let mut said = vec![("stderr".to_owned(), engine.stderr())];
    for event in &events {
        for (route, name) in
            [("header", "x-api-key"), ("bearer", "authorization"), ("basic", "authorization")]
        {
            let delivery = engine.ended(event, route);
            let headers =
                delivery["attempts"][0]["request"]["headers"].as_array().expect("headers");
            let value = |name: &str| {
                headers.iter().find(|it| it[0] == name).unwrap_or_else(|| panic!("{name}"))[1]
                    .clone()
            };
            assert_eq!(value(name), "***");
            assert_eq!(value("webhook-id"), **event);
        }
    }
    for path in ["/v1/deliveries?limit=500", "/metrics", "/v1/routes", "/v1/plugins"] {
        said.push((path.to_owned(), engine.get(path).text().to_owned()));
    }
    for row in engine.deliveries("limit=500") {
        let id = row["id"].as_str().expect("an id");
        said.push((id.to_owned(), engine.delivery(id).to_string()));
        let event = format!("/v1/events/{}", row["event_id"].as_str().expect("an id"));
        said.push((event.clone(), engine.get(&event).text().to_owned()));
    }
    let ended = engine.kill();
    said.push(("stderr at the end".into(), ended.stderr));
    for (what, text) in said {
        holds_no_secret(&what, text.as_bytes());
    }
    // The database and its log of writes, before anything was cleaned up.
    let mut stores = files(hub.path(), "db");
    stores.extend(files(hub.path(), "db-wal"));
    for store in stores {
        holds_no_secret(&store.display().to_string(), &fs::read(&store).expect("the store"));
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_the_secret() {
    let hub = hub(&Receiver::ok());
    hub.secret("key", "canary-key-6512bd43d9caa");
    hub.secret("inbound", "");
    let ran = plugpost(["check".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("routes/key.toml") && ran.stderr.contains("not base64"), "{ran:?}");
    holds_no_secret("stderr", ran.stderr.as_bytes());
    let ran = plugpost(["check".as_ref(), "--json".as_ref(), hub.path().as_os_str()]);
    holds_no_secret("stdout", ran.stdout.as_bytes());
}

#[track_caller]
fn holds_no_secret(what: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty() || what.starts_with("stderr"), "{what} is empty");
    for canary in canaries() {
        let found = bytes.windows(canary.len()).any(|it| it == canary.as_bytes());
        assert!(!found, "{what} holds {canary}");
    }
}
