//! Portal links: one tenant's share of the dashboard, for a while, without a token.

use std::fs;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{call, ended, get, hub, receiver, rows, secret, send, tenant_of, token};
use crate::support::client::{self, Answer};
use crate::support::engine::{Engine, command};
use crate::support::eventually;
use crate::support::hub::Hub;

/// A link for a tenant, made by who may: what stands behind its `#`.
fn link(engine: &Engine, tenant: &str, more: &Value) -> String {
    let mut wanted = more.clone();
    wanted["tenant"] = json!(tenant);
    let made = call(engine, &token("root"), "POST", "/v1/portal", &wanted);
    assert_eq!(made.status, 201, "{}", made.text());
    let url = made.json()["url"].as_str().expect("a URL").to_owned();
    let (page, link) = url.split_once('#').expect("what no browser sends");
    assert_eq!(page, "http://localhost/portal");
    link.to_owned()
}

fn open(engine: &Engine, link: &str) -> Answer {
    let body = json!({ "link": link }).to_string();
    client::ask(engine.admin, "POST", "/portal", &[], body.as_bytes())
}

/// The headers of who came by a link.
pub(super) fn entered(engine: &Engine, tenant: &str, more: &Value) -> Vec<(&'static str, String)> {
    cookie(&open(engine, &link(engine, tenant, more)))
}

fn cookie(answer: &Answer) -> Vec<(&'static str, String)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    vec![("cookie", cookie.split(';').next().expect("a pair").to_owned())]
}

#[test]
fn a_link_shows_one_tenant_and_outlives_the_process() {
    let receiver = receiver();
    let hub = hub(&receiver);
    let engine = Engine::start(&hub);
    for who in ["a-in", "b-in"] {
        send(&engine, &secret(who), &["t"]);
    }
    ended(&engine, 4);
    let link = link(&engine, "a", &json!({ "expires_in": "30m" }));
    let opened = open(&engine, &link);
    let age = opened.header("set-cookie").and_then(|it| it.split("Max-Age=").nth(1));
    let age: u64 =
        age.and_then(|it| it.split(';').next()).and_then(|it| it.parse().ok()).expect("an age");
    assert!((1700..=1800).contains(&age), "{age}");
    let customer = cookie(&opened);
    let ask = |method: &str, path: &str| call(&engine, &customer, method, path, &Value::Null);
    let session = ask("GET", "/v1/session").json();
    assert_eq!((&session["tenant"], &session["engine"]), (&json!("a"), &json!(false)));
    assert_eq!((&session["operate"], &session["token"]), (&json!(true), &Value::Null));
    assert!(session["until"].is_string());
    let own = ask("GET", "/v1/deliveries").json()["data"].as_array().expect("a list").clone();
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|it| tenant_of(it) == "a"));
    let path = format!("/v1/deliveries/{}/resend", own[0]["id"].as_str().expect("an id"));
    assert_eq!(ask("POST", &path).status, 202);
    let theirs = rows(&engine, "b-op", "/v1/deliveries");
    let path = format!("/v1/deliveries/{}/resend", theirs[0]["id"].as_str().expect("an id"));
    ask("POST", &path).problem(404);
    // It makes no other, and the engine is not its affair.
    let again = call(&engine, &customer, "POST", "/v1/portal", &json!({ "tenant": "a" }));
    again.problem(403);
    ask("POST", "/v1/reload").problem(403);
    ask("GET", "/metrics").problem(403);
    engine.kill();
    let engine = Engine::start(&hub);
    call(&engine, &customer, "GET", "/v1/events", &Value::Null).problem(401);
    let customer = cookie(&open(&engine, &link));
    assert_eq!(call(&engine, &customer, "GET", "/v1/events", &Value::Null).status, 200);
    let gone = call(&engine, &customer, "POST", "/logout", &Value::Null);
    assert_eq!(gone.status, 204);
    call(&engine, &customer, "GET", "/v1/events", &Value::Null).problem(401);
}

#[test]
fn a_link_for_looking_changes_nothing() {
    let receiver = receiver();
    let engine = Engine::start(&hub(&receiver));
    let customer = entered(&engine, "a", &json!({ "read_only": true }));
    assert_eq!(
        call(&engine, &customer, "GET", "/v1/session", &Value::Null).json()["operate"],
        false
    );
    for path in ["/v1/endpoints/of-a/disable", "/v1/endpoints/of-a/test", "/v1/subscriptions"] {
        call(&engine, &customer, "POST", path, &Value::Null).problem(403);
    }
}

#[test]
fn only_who_may_makes_a_link_and_only_within_bounds() {
    let receiver = receiver();
    let engine = Engine::start(&hub(&receiver));
    let make = |who: &str, wanted: Value| call(&engine, &token(who), "POST", "/v1/portal", &wanted);
    assert_eq!(make("a-op", json!({ "tenant": "a" })).status, 201);
    for (who, status) in [("a-op", 403), ("ops", 403), ("root-read", 403), ("b-in", 403)] {
        make(who, json!({ "tenant": "b" })).problem(status);
    }
    for wrong in [json!({}), json!({ "tenant": "a", "until": "2030-01-01T00:00:00Z" })] {
        make("root", wrong).problem(400);
    }
    for wrong in [
        json!({ "tenant": "a b" }),
        json!({ "tenant": "a", "expires_in": "59s" }),
        json!({ "tenant": "a", "expires_in": "8d" }),
        json!({ "tenant": "a", "expires_in": "soon" }),
        json!({ "tenant": "a", "base": "javascript:alert(1)" }),
        json!({ "tenant": "a", "base": "https://me:secret@hooks.example.com" }),
        json!({ "tenant": "a", "base": "https://hooks.example.com/elsewhere" }),
    ] {
        make("root", wrong).problem(422);
    }
    let made = make("root", json!({ "tenant": "a", "base": "https://hooks.example.com" })).json();
    let url = made["url"].as_str().expect("a URL");
    assert!(url.starts_with("https://hooks.example.com/portal#"), "{url}");
    // Where everybody may do all, nobody is limited.
    let open = Engine::start(&Hub::new());
    let wanted = json!({ "tenant": "a" });
    assert!(call(&open, &[], "POST", "/v1/portal", &wanted).problem(409).contains("[[token]]"));
}

#[test]
fn a_link_that_is_forged_over_or_withdrawn_opens_nothing() {
    let receiver = receiver();
    let hub = hub(&receiver);
    let key = [9; 32];
    let serve = |key: [u8; 32]| {
        let mut serve = command(std::path::Path::new(env!("CARGO_BIN_EXE_plugpost")));
        serve.env("PLUGPOST_SECRET_KEY", BASE64_STANDARD.encode(key));
        serve.env("PLUGPOST_LOG", "trace").arg("serve").arg(hub.path());
        Engine::start_command(serve, &hub)
    };
    let engine = serve(key);
    let link = link(&engine, "a", &json!({}));
    // With any of its characters another.
    for at in (0..link.len()).step_by(7) {
        let mut forged = link.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        open(&engine, &String::from_utf8(forged).expect("ASCII")).problem(401);
    }
    for forged in ["", "AAAA", &link[1..], &format!("{link}{link}"), &"A".repeat(5000)] {
        open(&engine, forged).problem(401);
    }
    // Sealed as the engine seals, so that what it refuses is what it reads.
    let digest = |name: &str| hex::encode(Sha256::digest(secret(name)));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis() as u64;
    let said = |token: &str, until: u64| json!({ "tenant": "a", "operate": true, "until": until, "token": token });
    let (soon, over) = (now + 60_000, now - 1);
    assert_eq!(open(&engine, &sealed(key, "portal", &said(&digest("root"), soon))).status, 200);
    let ended = open(&engine, &sealed(key, "portal", &said(&digest("root"), over))).problem(401);
    assert!(ended.contains("ended at"), "{ended}");
    for forged in [
        sealed([8; 32], "portal", &said(&digest("root"), soon)),
        sealed(key, "secret", &said(&digest("root"), soon)),
        // By nobody, by who may not, and for another's tenant.
        sealed(key, "portal", &said(&digest("nobody"), soon)),
        sealed(key, "portal", &said(&digest("root-read"), soon)),
        sealed(key, "portal", &said(&digest("b-op"), soon)),
    ] {
        let why = open(&engine, &forged).problem(401);
        assert!(why.contains("no link of this engine"), "{why}");
    }
    let foreign = json!({ "link": link }).to_string();
    let origin = [("origin", "http://evil.example")];
    client::ask(engine.admin, "POST", "/portal", &origin, foreign.as_bytes()).problem(403);
    // A link goes with the token of whoever made it, and so does who came by it.
    let customer = cookie(&open(&engine, &link));
    hub.secret("root", "another-secret-of-root");
    eventually("the token to be another", || {
        (call(&engine, &customer, "GET", "/v1/events", &Value::Null).status == 401).then_some(())
    });
    open(&engine, &link).problem(401);
    hub.secret("root", &secret("root"));
    eventually("the token to be back", || (open(&engine, &link).status == 200).then_some(()));
    // It is kept nowhere.
    let said = engine.kill().stderr;
    let on_disk = fs::read_dir(hub.path()).expect("the hub").flatten().map(|it| it.path());
    for file in on_disk.filter(|it| it.is_file()) {
        let bytes = fs::read(&file).expect("a file");
        let found = bytes.windows(40).any(|it| it == &link.as_bytes()[..40]);
        assert!(!found, "{}", file.display());
    }
    assert!(said.contains("made a portal link") && !said.contains(&link[..40]), "{said}");
    // With another key, it is none.
    open(&serve([8; 32]), &link).problem(401);
}

/// A link as the engine makes it, with any key, for any purpose, saying anything.
fn sealed(key: [u8; 32], purpose: &str, said: &Value) -> String {
    let id = Sha256::new().chain_update("plugpost key id").chain_update(key).finalize();
    let mut place = 0_u128.to_be_bytes().to_vec();
    for part in [purpose, "link"] {
        place.extend((part.len() as u64).to_be_bytes());
        place.extend(part.as_bytes());
    }
    let nonce = [3; 24];
    let said = said.to_string();
    let payload = Payload { msg: said.as_bytes(), aad: &place };
    let cipher = XChaCha20Poly1305::new((&key).into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).expect("a short text");
    let id = hex::encode(&id[..4]);
    BASE64_URL_SAFE_NO_PAD.encode([id.as_bytes(), &nonce, &sealed].concat())
}

#[test]
fn a_link_is_made_from_a_terminal() {
    let receiver = receiver();
    let engine = Engine::start(&hub(&receiver));
    let run = |arguments: &[&str], who: &str| {
        let mut command = command(std::path::Path::new(env!("CARGO_BIN_EXE_plugpost")));
        let admin = format!("http://{}", engine.admin);
        let command = command.arg("portal").args(arguments).args(["--admin", &admin]);
        crate::support::Ran::from(
            command.env("PLUGPOST_TOKEN", secret(who)).output().expect("it runs"),
        )
    };
    let made = run(&["b", "--expires-in", "2h", "--read-only"], "root");
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let (_, link) = made.stdout.trim().split_once("/portal#").expect("a link");
    let customer = cookie(&open(&engine, link));
    assert_eq!(call(&engine, &customer, "GET", "/v1/session", &Value::Null).json()["tenant"], "b");
    let refused = run(&["b"], "a-op");
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("tenant"), "{}", refused.stderr);
    assert_eq!(get(&engine, "b-read", "/v1/session")["until"], Value::Null);
}
