//! Endpoints over TLS: whom the engine trusts, who it is, and whose connections
//! it uses; and receivers that misbehave once the handshake is done.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::Receiver;
use crate::support::tls::{Authority, Identity, Secure, Stream};
use crate::support::{eventually, plugpost};

const HERE: &[&str] = &["127.0.0.1"];
const HTTP1: &[&str] = &["http/1.1"];
const HTTP2: &[&str] = &["h2"];

/// Trust the authority in `secrets/ca`.
const CA: &str = "tls.ca = { file = \"secrets/ca\" }";

/// And show the certificate in `secrets/certificate`.
const MUTUAL: &str = "tls.ca = { file = \"secrets/ca\" }\n\
    tls.certificate = { file = \"secrets/certificate\" }\ntls.key = { file = \"secrets/key\" }";

fn identify(hub: &Hub, identity: &Identity) {
    hub.secret("certificate", &identity.certificate).secret("key", &identity.key);
}

/// `delivered`, or the code of the error of the only attempt.
#[track_caller]
fn outcome(engine: &Engine, event: &str, route: &str) -> (String, Value) {
    let delivery = engine.ended(event, route);
    let attempts = delivery["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 1, "{route}: {delivery}");
    let attempt = attempts[0].clone();
    let said = attempt["error_code"].as_str().or(attempt["outcome"].as_str());
    (said.expect("an outcome").to_owned(), attempt)
}

#[test]
fn a_receiver_is_trusted_by_its_certificate_and_nothing_else() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let plain = Receiver::ok();
    let fine = ours.server(HERE);
    let before = |config| Secure::before(&plain, config);
    let receivers = [
        ("trusted", "delivered", CA, before(fine.serving(HTTP1))),
        ("no-protocol-named", "delivered", CA, before(fine.serving(&[]))),
        ("not-trusted", "connect.tls", "", before(fine.serving(HTTP1))),
        ("other-authority", "connect.tls", CA, before(others.server(HERE).serving(HTTP1))),
        ("other-name", "connect.tls", CA, before(ours.server(&["other.example"]).serving(HTTP1))),
        ("other-address", "connect.tls", CA, before(ours.server(&["127.0.0.2"]).serving(HTTP1))),
        ("expired", "connect.tls", CA, before(ours.expired(HERE).serving(HTTP1))),
        ("not-yet-valid", "connect.tls", CA, before(ours.not_yet_valid(HERE).serving(HTTP1))),
        ("a-client-s", "connect.tls", CA, before(ours.client("127.0.0.1").serving(HTTP1))),
        ("other-protocol", "connect.tls", CA, before(fine.serving(&["spdy/3"]))),
    ];
    let hub = Hub::new();
    hub.secret("ca", &ours.pem);
    for (name, _, tls, receiver) in &receivers {
        hub.route(name, route(&receiver.url("/hook"), tls, "schedule = []"));
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{\"n\":1}");
    for (name, expected, ..) in &receivers {
        let (found, attempt) = outcome(&engine, &event, name);
        assert_eq!(found, *expected, "{name}: {attempt}");
    }
    // Who was not trusted got nothing.
    assert_eq!(plain.received().len(), 2);
    assert_eq!(plain.received()[0].body, b"{\"n\":1}");
}

#[test]
fn a_receiver_that_asks_who_it_is_is_shown_the_certificate() {
    let (ours, theirs, others) =
        (Authority::new("ours"), Authority::new("theirs"), Authority::new("others"));
    let plain = Receiver::ok();
    let receiver = Secure::before(&plain, ours.server(HERE).knowing(&theirs, true));
    let attempt_as = |identity: Option<Identity>| {
        let hub = Hub::new();
        hub.secret("ca", &ours.pem);
        if let Some(identity) = &identity {
            identify(&hub, identity);
        }
        let tls = if identity.is_some() { MUTUAL } else { CA };
        hub.route("out", route(&receiver.url("/"), tls, "schedule = []"));
        let engine = Engine::start(&hub);
        let event = engine.send("order.created", "{}");
        let (found, attempt) = outcome(&engine, &event, "out");
        // The key is nowhere to be read.
        let said = format!("{attempt}{}{}", engine.get("/v1/routes").text(), engine.stderr());
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        found
    };
    assert_eq!(attempt_as(None), "connect.tls");
    assert_eq!(attempt_as(Some(others.client("plugpost"))), "connect.tls");
    assert_eq!(plain.received().len(), 0);
    assert_eq!(attempt_as(Some(theirs.client("plugpost"))), "delivered");
    assert_eq!(plain.received().len(), 1);
}

#[test]
fn a_connection_is_used_only_by_who_it_was_made_for() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let plain = Receiver::ok();
    let receiver = Secure::before(&plain, ours.server(HERE).knowing(&theirs, false));
    let hub = Hub::new();
    hub.secret("ca", &ours.pem);
    identify(&hub, &theirs.client("plugpost"));
    let endpoint = |tls: &str| route(&receiver.url("/"), tls, "schedule = []");
    // One type each, so that there is one attempt at a time.
    let only = |text: String, kind: &str| {
        text.replace("types = [\"*\"]", &format!("types = [\"{kind}\"]"))
    };
    hub.route("unnamed", only(endpoint(CA), "a"));
    hub.route("named", only(endpoint(MUTUAL), "b"));
    hub.route("named-too", only(endpoint(MUTUAL), "c"));
    let engine = Engine::start(&hub);
    for (kind, route) in [("a", "unnamed"), ("b", "named"), ("c", "named-too")].repeat(3) {
        let event = engine.send(kind, "{}");
        assert_eq!(outcome(&engine, &event, route).0, "delivered");
    }
    assert_eq!(plain.received().len(), 9);
    // One for those who are nobody, one for the two who are the same.
    assert_eq!((receiver.handshakes(), receiver.open()), (2, 2));

    // A reload that does not touch it keeps the connection; the last route takes it along.
    let reload = || client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    std::fs::remove_file(hub.path().join("routes/named.toml")).expect("a file");
    assert_eq!(reload().status, 200);
    let event = engine.send("c", "{}");
    assert_eq!(outcome(&engine, &event, "named-too").0, "delivered");
    assert_eq!(receiver.handshakes(), 2);
    std::fs::remove_file(hub.path().join("routes/named-too.toml")).expect("a file");
    assert_eq!(reload().status, 200);
    eventually("its connection to be closed", || (receiver.open() == 1).then_some(()));
}

#[test]
fn a_certificate_that_is_renewed_is_used_without_a_restart() {
    let (ours, old, new) = (Authority::new("ours"), Authority::new("old"), Authority::new("new"));
    let plain = Receiver::ok();
    let receiver = Secure::before(&plain, ours.server(HERE).knowing(&new, true));
    let hub = Hub::new();
    hub.secret("ca", &ours.pem);
    identify(&hub, &old.client("plugpost"));
    hub.route("out", route(&receiver.url("/"), MUTUAL, "schedule = []"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    assert_eq!(outcome(&engine, &event, "out").0, "connect.tls");
    // Nobody asks for the reload: the files are watched.
    let snapshot = || engine.get("/v1/plugins").json()["snapshot"].clone();
    let before = snapshot();
    identify(&hub, &new.client("plugpost"));
    eventually("the new certificate to be read", || (snapshot() != before).then_some(()));
    let event = engine.send("order.created", "{}");
    assert_eq!(outcome(&engine, &event, "out").0, "delivered");
}

#[test]
fn a_key_that_does_not_fit_is_found_before_anything_is_sent() {
    let ours = Authority::new("ours");
    let (one, two) = (ours.client("one"), ours.client("two"));
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let no_key = "this is no private key in PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted";
    let no_certificate =
        "this is no certificate in PEM: -----BEGIN CERTIFICATE----- and what follows";
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let unusable = "the key cannot be used: RSA of 2048 bits and more, P-256, P-384, Ed25519";
    let cases = [
        (&one.certificate, two.key.as_str(), "9:7", "the key does not belong to the certificate"),
        (&one.certificate, &encrypted, "9:7", no_key),
        (&one.certificate, &one.certificate, "9:7", no_key),
        (&one.certificate, broken, "9:7", unusable),
        (&one.key, &one.key, "8:15", no_certificate),
    ];
    let said = |certificate: &str, key: &str| {
        let hub = Hub::new();
        identify(&hub, &Identity { certificate: certificate.into(), key: key.into() });
        let tls = "[endpoint.tls]\ncertificate = { file = \"secrets/certificate\" }\n\
                   key = { file = \"secrets/key\" }";
        hub.route("out", format!(
            "from = \"*\"\ntypes = [\"*\"]\n\n[endpoint]\nurl = \"https://example.com/\"\n\n{tls}\n"
        ));
        plugpost(["check".into(), hub.path().to_owned()])
    };
    for (certificate, key, at, message) in cases {
        let ran = said(certificate, key);
        assert_eq!(ran.stderr, format!("routes/out.toml:{at}: {message}\nerror: 1 problem\n"));
    }
    // What fits is fine, with the authority's behind it too, and nothing of it is shown.
    let ran = said(&format!("{}{}", one.certificate, ours.pem), &one.key);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(!ran.stdout.contains("BEGIN"), "{}", ran.stdout);
}

// ---- HTTP/2

#[test]
fn http2_delivers_many_at_once_over_one_connection() {
    let ours = Authority::new("ours");
    let receiver = Secure::http2(ours.server(HERE).serving(&["h2", "http/1.1"]));
    let hub = Hub::new();
    hub.secret("ca", &ours.pem);
    hub.route("out", route(&receiver.url("/"), CA, "schedule = []"));
    let engine = Engine::start(&hub);
    // The first opens the connection, and a body that takes several frames.
    let first = engine.send("order.created", "b".repeat(300_000));
    assert_eq!(outcome(&engine, &first, "out").0, "delivered");
    let events: Vec<_> = (0..50).map(|_| engine.send("order.created", "{}")).collect();
    for event in &events {
        assert_eq!(outcome(&engine, event, "out").0, "delivered");
    }
    assert_eq!((receiver.requests(), receiver.handshakes()), (51, 1));
}

/// The timeout of every endpoint here.
const TIMEOUT: Duration = Duration::from_secs(2);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// `:status: 200`, in HPACK's static table.
const STATUS_200: &[u8] = &[0x88];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header that is in no table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("short");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// Everything up to the request's headers is read; then this is said once, and
/// then that again and again, if there is any.
struct Script {
    name: &'static str,
    expected: &'static str,
    once: Vec<u8>,
    again: Vec<u8>,
}

fn scripts() -> Vec<Script> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let mut scripts = Vec::new();
    let mut says = |name, expected, once: &[Vec<u8>], again: Vec<u8>| {
        let mut all = settings.clone();
        all.extend(once.concat());
        scripts.push(Script { name, expected, once: all, again });
    };
    let ok = frame(HEADERS, END_HEADERS, 1, STATUS_200);
    let goaway = |last: u8, code: u8| frame(GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, code]);
    let setting = |id: u8, value: u32| {
        frame(SETTINGS, 0, 0, &[&[0, id], value.to_be_bytes().as_slice()].concat())
    };

    says("h2-silence", "timeout", &[], vec![]);
    says("h2-goaway", "http.broken", &[goaway(0, 0)], vec![]);
    says("h2-goaway-error", "http.broken", &[goaway(0, 11)], vec![]);
    // It says that it takes no more, but this one: and then it does not.
    says("h2-goaway-after-this", "timeout", &[goaway(1, 0)], vec![]);
    says("h2-reset", "http.broken", &[frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])], vec![]);
    says("h2-reset-refused", "http.broken", &[frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])], vec![]);
    says("h2-no-streams", "timeout", &[setting(3, 0)], vec![]);
    says("h2-no-window", "timeout", &[setting(4, 0)], vec![]);
    says("h2-window-overflow", "http.broken", &[setting(4, u32::MAX)], vec![]);
    says(
        "h2-window-updates-overflow",
        "http.broken",
        &[frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
        vec![],
    );
    says("h2-settings-flood", "timeout", &[], settings.repeat(100));
    says("h2-ping-flood", "timeout", &[], frame(PING, 0, 0, &[7; 8]).repeat(50));
    says("h2-unknown-flood", "timeout", &[], frame(0x77, 0, 0, &[7; 100]).repeat(10));
    says("h2-hints-flood", "timeout", &[], {
        frame(HEADERS, END_HEADERS, 1, &literal(":status", "103")).repeat(10)
    });
    says("h2-endless-continuation", "http.broken", &[frame(HEADERS, 0, 1, STATUS_200)], {
        frame(CONTINUATION, 0, 1, &literal("x-a", &"b".repeat(100)).repeat(100))
    });
    says("h2-empty-continuations", "http.broken", &[frame(HEADERS, 0, 1, STATUS_200)], {
        frame(CONTINUATION, 0, 1, &[]).repeat(100)
    });
    says("h2-header-bomb", "http.broken", &[], {
        // One header of 120 bytes into the table, and then by its number, 16,000 times.
        let mut bomb = STATUS_200.to_vec();
        bomb.extend([&[0x40, 3][..], b"x-a", &[110], "b".repeat(110).as_bytes()].concat());
        bomb.extend([0xbe].repeat(16_000));
        frame(HEADERS, END_HEADERS, 1, &bomb)
    });
    says("h2-bad-hpack", "http.broken", &[frame(HEADERS, END_HEADERS, 1, &[0xff; 9])], vec![]);
    says(
        "h2-no-status",
        "http.broken",
        &[frame(HEADERS, END_HEADERS, 1, &literal("a", "b"))],
        vec![],
    );
    says("h2-body-first", "http.broken", &[frame(DATA, 0, 1, b"abc")], vec![]);
    says("h2-other-stream", "http.broken", &[frame(HEADERS, END_HEADERS, 7, STATUS_200)], vec![]);
    says(
        "h2-push",
        "http.broken",
        &[frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])],
        vec![],
    );
    says("h2-oversized-frame", "http.broken", &[frame(DATA, 0, 1, &vec![0; 100_000])], vec![]);
    says("h2-no-frames", "http.broken", &[b"HTTP/1.1 200 OK\r\n\r\n".repeat(9)], vec![]);
    // The status has come; of the body only the start counts, if it comes.
    says(
        "h2-endless-body",
        "delivered",
        std::slice::from_ref(&ok),
        frame(DATA, 0, 1, &[b'b'; 16_000]),
    );
    says(
        "h2-empty-body-frames",
        "delivered",
        std::slice::from_ref(&ok),
        frame(DATA, 0, 1, &[]).repeat(100),
    );
    says("h2-no-body", "timeout", &[ok], vec![]);
    scripts
}

#[test]
fn whatever_is_said_after_a_handshake_is_a_named_outcome_in_time() {
    let ours = Authority::new("ours");
    let server = ours.server(HERE);
    let scripts = scripts();
    let hub = Hub::new();
    hub.secret("ca", &ours.pem);
    let endpoint = format!("timeout = \"{}ms\"\n{CA}", TIMEOUT.as_millis());
    let receivers: Vec<_> = scripts
        .iter()
        .map(|it| {
            let (once, again) = (it.once.clone(), it.again.clone());
            let receiver = Secure::start(server.serving(HTTP2), move |stream| {
                say(stream, once.clone(), again.clone())
            });
            hub.route(it.name, route(&receiver.url("/"), &endpoint, "schedule = []"));
            receiver
        })
        .collect();
    let good = Secure::http2(server.serving(HTTP2));
    hub.route("good", route(&good.url("/"), &endpoint, "schedule = []"));
    let engine = Engine::start(&hub);
    let before = engine.resident_bytes();
    let event = engine.send("order.created", "{\"n\":1}");
    assert_eq!(outcome(&engine, &event, "good").0, "delivered");

    let mut wrong = Vec::new();
    for Script { name, expected, .. } in &scripts {
        let (found, attempt) = outcome(&engine, &event, name);
        if found != *expected {
            wrong.push(format!("{name}: {found}, not {expected}: {attempt}"));
        }
        let duration = Duration::from_micros(attempt["duration_us"].as_u64().expect("µs"));
        if duration > TIMEOUT + Duration::from_secs(1) {
            wrong.push(format!("{name}: took {duration:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(receivers.iter().all(|it| it.handshakes() > 0));
    let grown = engine.resident_bytes_most().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}

async fn say(mut stream: Stream, once: Vec<u8>, again: Vec<u8>) -> io::Result<()> {
    let mut read = Vec::new();
    while !has_headers(&read) {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(&once).await?;
    stream.flush().await?;
    if again.is_empty() {
        return tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop);
    }
    // What is answered is read, so that nobody waits for room.
    let (mut from, mut to) = tokio::io::split(stream);
    let flood = async {
        loop {
            to.write_all(&again).await?;
        }
    };
    let mut sink = tokio::io::sink();
    tokio::select! {
        end = flood => end,
        end = tokio::io::copy(&mut from, &mut sink) => end.map(drop),
    }
}

/// Whether the preface and frames up to HEADERS are there.
fn has_headers(read: &[u8]) -> bool {
    let mut rest = read.get(24..).unwrap_or_default();
    while let [a, b, c, kind, ..] = rest {
        if *kind == HEADERS {
            return true;
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    false
}
