//! Who is answered: a browser's page of another site is not, a name of another machine is
//! not, and a token opens a session that no script sees.

use crate::support::client::{self, Answer, Connection, Headers};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, to};
use crate::support::receiver::Receiver;

#[test]
fn every_answer_says_what_a_page_may_do() {
    let engine = Engine::start(&Hub::new());
    for path in ["/", "/deliveries/dlv_1", "/assets/app.js", "/v1/events", "/healthz", "/nowhere"] {
        let answer = engine.get(path);
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(rule), "{path}: {rule} is not in {policy:?}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
    let page = engine.get("/");
    assert!(!page.text().contains("<style") && !page.text().contains("<script>"));
    let tag = page.header("etag").expect("a tag").to_owned();
    let again = client::ask(engine.admin, "GET", "/", &[("if-none-match", &tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn without_tokens_only_names_of_this_machine_are_answered() {
    let engine = Engine::start(&Hub::new());
    for path in ["/v1/events", "/v1/stream", "/metrics"] {
        for host in ["evil.example", "evil.example:8081", "localhost.evil.example", "10.0.0.1"] {
            let mut connection = Connection::open(engine.admin).expect("the engine listens");
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            connection.write(request.as_bytes()).expect("it is sent");
            connection.answer().expect("an answer").problem(403);
        }
    }
    assert_eq!(engine.get("/v1/events").status, 200);
}

#[test]
fn a_request_that_another_sites_page_makes_is_refused() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let disable = |headers: Headers<'_>| {
        client::ask(engine.admin, "POST", "/v1/endpoints/out/disable", headers, b"")
    };
    for headers in [
        [("origin", "http://evil.example")],
        [("origin", "null")],
        [("origin", "http://localhost:3000")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ] {
        disable(&headers).problem(403);
    }
    assert!(engine.get("/v1/endpoints").json()["data"][0]["disabled"].is_null());
    assert_eq!(disable(&[("sec-fetch-site", "same-origin")]).status, 200);
    assert_eq!(disable(&[("origin", "http://localhost")]).status, 200);
    assert_eq!(disable(&[]).status, 200, "a program is no page");
}

#[test]
fn a_token_opens_a_session_and_guessing_is_slowed_down() {
    const TOKENS: &str = "[[token]]\nname = \"runs\"\nsecret = { file = \"secrets/runs\" }\nscopes = [\"operate\"]\n";
    let hub = Hub::with("", TOKENS);
    hub.secret("runs", "runs-0123456789");
    let engine = Engine::start(&hub);
    let log_in = |secret: &str, headers: Headers<'_>| {
        let body = format!("{{\"token\": \"{secret}\"}}");
        client::ask(engine.admin, "POST", "/login", headers, body.as_bytes())
    };
    let with = |method: &str, path: &str, headers: Headers<'_>| -> Answer {
        client::ask(engine.admin, method, path, headers, b"")
    };
    assert_eq!(engine.get("/").status, 200, "the page itself holds nothing");
    engine.get("/v1/events").problem(401);
    log_in("runs-0123456789", &[("origin", "http://evil.example")]).problem(403);
    let answer = log_in("runs-0123456789", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("Secure") && !cookie.contains("runs-"), "{cookie}");
    let secure = log_in("runs-0123456789", &[("origin", "https://localhost")]);
    assert!(secure.header("set-cookie").is_some_and(|it| it.ends_with("; Secure")));
    let cookie = cookie.split(';').next().expect("a pair");
    let session = with("GET", "/v1/session", &[("cookie", cookie)]);
    assert_eq!(
        (&session.json()["token"], &session.json()["operate"]),
        (&"runs".into(), &true.into())
    );
    // A cookie comes with every request; where from, it does not say.
    let foreign = [("cookie", cookie), ("origin", "http://evil.example")];
    with("POST", "/v1/reload", &foreign).problem(403);
    assert_eq!(with("POST", "/v1/reload", &[("cookie", cookie)]).status, 200);
    let forged = cookie.replace('=', "=0");
    with("GET", "/v1/events", &[("cookie", &forged)]).problem(401);
    for _ in 0..10 {
        log_in("guess-0123456789", &[]).problem(401);
    }
    log_in("guess-0123456789", &[]).problem(429);
    log_in("runs-0123456789", &[]).problem(429);
    // Who is in stays in, and so does who brings the token itself.
    assert_eq!(with("GET", "/v1/events", &[("cookie", cookie)]).status, 200);
    let bearer = [("authorization", "Bearer runs-0123456789")];
    assert_eq!(with("GET", "/v1/events", &bearer).status, 200);
    assert_eq!(with("POST", "/logout", &[("cookie", cookie)]).status, 204);
    with("GET", "/v1/events", &[("cookie", cookie)]).problem(401);
}

#[test]
fn what_a_plugin_takes_is_counted() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("hostile");
    let filter = "\n[[filter]]\nplugin = \"hostile\"\nsettings.behaviour = \"decline\"\n";
    hub.route("out", to(&receiver.url("/")) + filter);
    let engine = Engine::start(&hub);
    for _ in 0..3 {
        engine.send("order.created", "{}");
    }
    engine.drained();
    let plugin = engine.get("/v1/plugins").json()["data"][0].clone();
    assert_eq!((&plugin["calls"], &plugin["faults"]), (&3.into(), &0.into()), "{plugin}");
    assert!(plugin["time_us"].as_u64().is_some_and(|it| it > 0), "{plugin}");
    assert!(plugin["memory_bytes_most"].as_u64().is_some_and(|it| it >= 64 << 10), "{plugin}");
}
