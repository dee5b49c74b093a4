//! Endpoints that want a token: it is asked for once, kept while it is good, and
//! its failures are the endpoint's outcomes. Nothing secret is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::plugpost;
use crate::support::receiver::{Gate, Received, Receiver, Reply};
use crate::support::tls::{Authority, Secure};

/// Texts that occur nowhere else.
const SECRET: &str = "canary-secret-1f0e3dad";
const TOKEN: &str = "canary-token-98f13708";

/// A token endpoint: each token has a number at its end.
fn tokens(more: &'static str) -> Receiver {
    let count = AtomicUsize::new(0);
    Receiver::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        json(&format!("{{\"access_token\":\"{TOKEN}-{number}\",\"token_type\":\"Bearer\"{more}}}"))
    })
}

fn json(text: &str) -> Reply {
    Reply::status(200).with_header("content-type", "application/json").with_body(text)
}

/// Keys of `[endpoint]` that ask there.
fn asking(url: &str, more: &str) -> String {
    format!(
        "timeout = \"2s\"\noauth2.token_url = \"{url}\"\noauth2.client_id = \"plug post\"\n\
         oauth2.client_secret = {{ file = \"secrets/client\" }}\n{more}"
    )
}

fn hub(routes: &[(&str, String)]) -> Hub {
    let hub = Hub::new();
    hub.secret("client", SECRET);
    for (name, text) in routes {
        hub.route(name, text);
    }
    hub
}

/// The tokens that a receiver was shown, by their numbers.
fn shown(receiver: &Receiver) -> Vec<String> {
    receiver.received().iter().map(|it| number(it)).collect()
}

fn number(request: &Received) -> String {
    let value = request.header("authorization").unwrap_or_default();
    value.strip_prefix(&format!("Bearer {TOKEN}-")).unwrap_or(value).to_owned()
}

#[track_caller]
fn send(engine: &Engine, route: &str) -> Value {
    let event = engine.send("order.created", "{}");
    engine.ended(&event, route)
}

fn reload(engine: &Engine) {
    let answer = client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_token_is_asked_for_once_and_shown_to_the_receiver_only() {
    let (tokens, receiver) = (tokens(",\"expires_in\":3600"), Receiver::ok());
    let parameters = "oauth2.scope = [\"a:b\", \"c\"]\noauth2.audience = \"https://api.test/\"\n\
                      oauth2.params = { resource = \"x&y\" }";
    let hub = hub(&[
        ("basic", route(&receiver.url("/"), &asking(&tokens.url("/t"), parameters), "")),
        (
            "body",
            route(&receiver.url("/"), &asking(&tokens.url("/b"), "oauth2.auth = \"body\""), ""),
        ),
        (
            "third",
            route(&receiver.url("/3"), &asking(&tokens.url("/b"), "oauth2.auth = \"body\""), ""),
        ),
    ]);
    let engine = Engine::start(&hub);
    let mut said = String::new();
    for route in ["basic", "basic", "body", "body", "third"] {
        let delivery = send(&engine, route);
        assert_eq!(delivery["status"], "delivered", "{delivery}");
        let headers = delivery["attempts"][0]["request"]["headers"].to_string();
        assert!(headers.contains("[\"authorization\",\"***\"]"), "{headers}");
        said.push_str(&delivery.to_string());
    }
    // Each event went to all three; those that ask alike share the token.
    engine.drained();
    assert_eq!(receiver.received().len(), 15);
    assert!(shown(&receiver).iter().all(|it| it == "1" || it == "2"), "{:?}", shown(&receiver));
    assert_eq!(tokens.received().len(), 2);

    let of = |path: &str| {
        let found = tokens.received().into_iter().find(|it| it.path == path);
        found.expect("a request for a token")
    };
    let (basic, body) = (of("/t"), of("/b"));
    let text = |it: &Received| String::from_utf8(it.body.clone()).expect("text");
    // `plug+post` and the secret, as a form has them (RFC 6749, 2.3.1).
    assert_eq!(
        basic.header("authorization"),
        Some("Basic cGx1Zytwb3N0OmNhbmFyeS1zZWNyZXQtMWYwZTNkYWQ=")
    );
    assert_eq!(
        text(&basic),
        "grant_type=client_credentials&scope=a%3Ab+c&audience=https%3A%2F%2Fapi.test%2F&resource=x%26y"
    );
    assert_eq!(basic.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(body.header("authorization"), None);
    assert_eq!(
        text(&body),
        format!("grant_type=client_credentials&client_id=plug+post&client_secret={SECRET}")
    );
    for path in ["/v1/routes", "/metrics", "/v1/plugins", "/v1/deliveries"] {
        said.push_str(engine.get(path).text());
    }
    said.push_str(&engine.stderr());
    assert!(!said.contains("canary") && !said.contains("Y2FuYXJ5"), "{said}");
    let store = hub.store();
    let ended = engine.stop();
    assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    let bytes = std::fs::read(store).expect("the store");
    assert!(!bytes.windows(6).any(|it| it == b"canary"));
}

#[test]
fn what_was_sent_with_a_token_would_be_sent_again() {
    let (tokens, receiver) = (tokens(",\"expires_in\":3600"), Receiver::ok());
    let hub = hub(&[("out", route(&receiver.url("/"), &asking(&tokens.url("/t"), ""), ""))]);
    let engine = Engine::start(&hub);
    assert_eq!(send(&engine, "out")["status"], "delivered");
    assert_eq!(engine.stop().status, Some(0));
    let ran = plugpost(["plan".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(tokens.received().len(), 1, "planning asks for no token");
}

#[test]
fn attempts_at_the_same_time_wait_for_one_request() {
    let gate = Gate::closed();
    let at_token = gate.clone();
    let tokens = Receiver::start(move |_| {
        at_token.pass();
        json(&format!("{{\"access_token\":\"{TOKEN}-1\"}}"))
    });
    let receiver = Receiver::ok();
    let endpoint = asking(&tokens.url("/"), "").replace("\"2s\"", "\"20s\"");
    let hub = hub(&[("out", route(&receiver.url("/"), &endpoint, "schedule = []"))]);
    let engine = Engine::start(&hub);
    let events: Vec<_> = (0..16).map(|_| engine.send("order.created", "{}")).collect();
    tokens.first(1);
    // The others have every reason to ask as well, and time.
    std::thread::sleep(Duration::from_millis(200));
    gate.open();
    for event in &events {
        assert_eq!(engine.ended(event, "out")["status"], "delivered");
    }
    assert_eq!((tokens.received().len(), receiver.received().len()), (1, 16));
}

#[test]
fn attempts_at_the_same_time_share_a_failure() {
    let gate = Gate::closed();
    let at_token = gate.clone();
    let tokens = Receiver::start(move |_| {
        at_token.pass();
        Reply::status(503)
    });
    let receiver = Receiver::ok();
    let endpoint = asking(&tokens.url("/"), "").replace("\"2s\"", "\"20s\"");
    let hub = hub(&[("out", route(&receiver.url("/"), &endpoint, "schedule = []"))]);
    let engine = Engine::start(&hub);
    let events: Vec<_> = (0..16).map(|_| engine.send("order.created", "{}")).collect();
    tokens.first(1);
    std::thread::sleep(Duration::from_millis(200));
    gate.open();
    for event in &events {
        assert_eq!(engine.ended(event, "out")["attempts"][0]["error_code"], "oauth.status");
    }
    // One that came to it late may have asked again.
    assert!(tokens.received().len() <= 2, "{}", tokens.received().len());
    assert_eq!(receiver.received().len(), 0);
}

#[test]
fn a_token_is_renewed_before_it_runs_out() {
    // A tenth of its life before the end: after 1.8 seconds.
    let (tokens, receiver) = (tokens(",\"expires_in\":\"2\""), Receiver::ok());
    let hub = hub(&[("out", route(&receiver.url("/"), &asking(&tokens.url("/"), ""), ""))]);
    let engine = Engine::start(&hub);
    send(&engine, "out");
    send(&engine, "out");
    let early = tokens.received().len();
    std::thread::sleep(Duration::from_millis(1850));
    send(&engine, "out");
    assert_eq!((early, tokens.received().len()), (1, 2));
    assert_eq!(shown(&receiver), ["1", "1", "2"]);
}

#[test]
fn a_token_that_is_refused_is_dropped_once() {
    let tokens = tokens(",\"expires_in\":3600");
    let refusing = Arc::new(AtomicUsize::new(0));
    let of_receiver = refusing.clone();
    // Knows tokens from this number on.
    let receiver = Receiver::start(move |request| {
        let known: usize = number(request).parse().unwrap_or(0);
        Reply::status(if known <= of_receiver.load(Ordering::SeqCst) { 401 } else { 200 })
    });
    let schedule = "schedule = [\"20ms\", \"20ms\", \"20ms\"]\njitter = 0";
    let hub = hub(&[("out", route(&receiver.url("/"), &asking(&tokens.url("/"), ""), schedule))]);
    let engine = Engine::start(&hub);
    assert_eq!(send(&engine, "out")["status"], "delivered");
    // The token is revoked; the next attempt has a new one.
    refusing.store(1, Ordering::SeqCst);
    let delivery = send(&engine, "out");
    assert_eq!(delivery["status"], "delivered", "{delivery}");
    assert_eq!(delivery["attempts"][0]["error_code"], "http.status");
    assert_eq!(shown(&receiver), ["1", "1", "2"]);
    // A receiver that refuses them all does not make the token endpoint suffer.
    refusing.store(usize::MAX, Ordering::SeqCst);
    let delivery = send(&engine, "out");
    assert_eq!(
        (&delivery["status"], delivery["attempts"].as_array().map(Vec::len)),
        (&"dead".into(), Some(4))
    );
    assert_eq!(shown(&receiver)[3..], ["2", "3", "3", "3"]);
    assert_eq!(tokens.received().len(), 3);
}

#[test]
fn a_reload_keeps_the_token_and_a_new_secret_does_not() {
    let (tokens, receiver) = (tokens(""), Receiver::ok());
    let text = route(&receiver.url("/"), &asking(&tokens.url("/"), ""), "");
    let hub = hub(&[("out", text.clone())]);
    let engine = Engine::start(&hub);
    send(&engine, "out");
    // Something else changes: the route is made anew, its token is not.
    hub.route("out", text.replace("\"2s\"", "\"3s\""));
    reload(&engine);
    send(&engine, "out");
    assert_eq!(shown(&receiver), ["1", "1"]);
    hub.secret("client", "canary-secret-of-today");
    reload(&engine);
    send(&engine, "out");
    assert_eq!(shown(&receiver), ["1", "1", "2"]);
    let asked = tokens.received();
    assert_ne!(asked[0].header("authorization"), asked[1].header("authorization"));
    // Gone with its route: it is asked for again when the route is back.
    std::fs::remove_file(hub.path().join("routes/out.toml")).expect("a file");
    reload(&engine);
    hub.route("out", text);
    reload(&engine);
    send(&engine, "out");
    assert_eq!(shown(&receiver), ["1", "1", "2", "3"]);
}

#[test]
fn whatever_a_token_endpoint_does_is_a_named_outcome_and_tells_nothing() {
    // Repeats what it was sent wherever it can.
    let echo = |status: u16| {
        Receiver::start(move |request| {
            let sent = String::from_utf8_lossy(&request.body).into_owned();
            let text = serde_json::json!({
                "error": sent, "error_description": sent, "token_type": sent,
                "access_token": format!("{sent}\r\nx-smuggled: 1"),
            });
            Reply::status(status).with_body(text.to_string()).with_header("x-echo", &sent)
        })
    };
    let says = |text: &'static str| Receiver::start(move |_| json(text));
    let misbehaves = |bytes: &'static [u8], again: &'static [u8]| {
        Receiver::start(move |_| {
            Reply::misbehave(move |stream| {
                use std::io::Write as _;
                stream.write_all(bytes)?;
                while !again.is_empty() {
                    stream.write_all(again)?;
                }
                Ok(())
            })
        })
    };
    let canary = Receiver::ok();
    let to_canary = canary.url("/");
    let cases = [
        (
            "refuses",
            "oauth.status",
            Receiver::start(|_| Reply::status(401).with_body("{\"error\":\"invalid_client\"}")),
        ),
        ("echo-401", "oauth.status", echo(401)),
        ("echo-200", "oauth.answer", echo(200)),
        ("fails", "oauth.status", Receiver::start(|_| Reply::status(500).with_body("no"))),
        (
            "redirects",
            "oauth.status",
            Receiver::start(move |_| Reply::status(307).with_header("location", &to_canary)),
        ),
        ("no-json", "oauth.answer", says("access_token=canary-token")),
        ("no-token", "oauth.answer", says("{}")),
        ("number", "oauth.answer", says("{\"access_token\":1}")),
        ("empty", "oauth.answer", says("{\"access_token\":\"\"}")),
        (
            "other-type",
            "oauth.answer",
            says("{\"access_token\":\"canary-token\",\"token_type\":\"mac\"}"),
        ),
        ("two-lines", "oauth.answer", says("{\"access_token\":\"canary\\r\\nx-smuggled: 1\"}")),
        (
            "long",
            "oauth.answer",
            Receiver::start(|_| json(&format!("{{\"access_token\":\"{}\"}}", "t".repeat(8000)))),
        ),
        ("deep", "oauth.answer", Receiver::start(|_| json(&"[".repeat(60_000)))),
        ("closes", "oauth.http.broken", misbehaves(b"", b"")),
        ("garbage", "oauth.http.broken", misbehaves(b"no http at all\r\n\r\n", b"")),
        (
            "endless",
            "oauth.http.broken",
            misbehaves(b"HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"", b"tttttttt"),
        ),
        ("endless-headers", "oauth.http.broken", misbehaves(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n")),
        (
            "hangs",
            "oauth.timeout",
            Receiver::raw(|stream| std::io::copy(stream, &mut std::io::sink()).map(drop)),
        ),
    ];
    let receiver = Receiver::ok();
    let mut routes = Vec::new();
    let to = |url: &str| {
        route(
            &receiver.url("/"),
            &asking(url, "oauth2.auth = \"body\""),
            "schedule = [\"20ms\"]\njitter = 0",
        )
    };
    for (name, _, tokens) in &cases {
        routes.push((*name, to(&tokens.url("/"))));
    }
    routes.push(("not-there", to("http://127.0.0.1:1/")));
    routes.push(("metadata", to("http://169.254.169.254/token")));
    routes.push(("private", to("https://10.0.0.1/token")));
    let hub = hub(&routes);
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let expected = cases.iter().map(|(name, code, _)| (*name, *code)).chain([
        ("not-there", "oauth.connect.refused"),
        ("metadata", "oauth.connect.forbidden"),
        ("private", "oauth.connect.forbidden"),
    ]);
    for (name, expected) in expected {
        let delivery = engine.ended(&event, name);
        let attempts = delivery["attempts"].as_array().expect("attempts");
        // It is tried again as the schedule says.
        assert_eq!(attempts.len(), 2, "{name}: {delivery}");
        for attempt in attempts {
            assert_eq!(attempt["error_code"], expected, "{name}: {attempt}");
            let duration = Duration::from_micros(attempt["duration_us"].as_u64().expect("µs"));
            assert!(duration < Duration::from_secs(3), "{name}: {duration:?}");
        }
        let said = delivery.to_string();
        assert!(!said.contains("canary") && !said.contains("smuggled"), "{said}");
    }
    let refused = engine.ended(&event, "refuses")["attempts"][0]["error"].clone();
    assert_eq!(refused, "the token endpoint answered 401: invalid_client");
    assert_eq!((receiver.received().len(), canary.received().len()), (0, 0));
    let said = format!("{}{}", engine.stderr(), engine.get("/metrics").text());
    assert!(!said.contains("canary") && !said.contains("panicked"), "{said}");
}

#[test]
fn the_token_comes_out_of_the_endpoints_timeout() {
    let gate = Gate::closed();
    let at_token = gate.clone();
    // Half of the time goes for the token, and the receiver takes more than the rest.
    let tokens = Receiver::start(|_| {
        std::thread::sleep(Duration::from_millis(1200));
        json(&format!("{{\"access_token\":\"{TOKEN}-1\"}}"))
    });
    let receiver = Receiver::start(move |_| {
        at_token.pass();
        Reply::status(200)
    });
    let hub =
        hub(&[("out", route(&receiver.url("/"), &asking(&tokens.url("/"), ""), "schedule = []"))]);
    let engine = Engine::start(&hub);
    let delivery = send(&engine, "out");
    gate.open();
    let attempt = &delivery["attempts"][0];
    assert_eq!(attempt["error_code"], "timeout", "{attempt}");
    let duration = Duration::from_micros(attempt["duration_us"].as_u64().expect("µs"));
    assert!((1950..2900).contains(&duration.as_millis()), "{duration:?}");
}

#[test]
fn a_token_endpoint_is_trusted_by_what_is_said_of_it() {
    let ours = Authority::new("ours");
    let (tokens, receiver) = (tokens(""), Receiver::ok());
    let secure = Secure::before(&tokens, ours.server(&["127.0.0.1"]).serving(&["http/1.1"]));
    let trust = "oauth2.tls.ca = { file = \"secrets/ca\" }";
    let hub = hub(&[
        ("trusted", route(&receiver.url("/"), &asking(&secure.url("/"), trust), "schedule = []")),
        // What the endpoint trusts is not what its token endpoint is trusted by.
        (
            "not",
            route(
                &receiver.url("/"),
                &asking(&secure.url("/"), "tls.ca = { file = \"secrets/ca\" }"),
                "schedule = []",
            ),
        ),
    ]);
    hub.secret("ca", &ours.pem);
    let engine = Engine::start(&hub);
    assert_eq!(send(&engine, "trusted")["status"], "delivered");
    assert_eq!(send(&engine, "not")["attempts"][0]["error_code"], "oauth.connect.tls");
    assert_eq!(tokens.received().len(), 1);
}
