//! What is not HTTP, or HTTP as nobody should write it: it costs its own
//! connection and nothing else.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::client::{self, Connection};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN};

/// What each of these is sent as: the start of a request that would be taken.
fn start_of_request(headers: &str) -> Vec<u8> {
    format!(
        "POST /in/erp/order.created HTTP/1.1\r\nhost: engine\r\n\
         authorization: Bearer {TOKEN}\r\n{headers}"
    )
    .into_bytes()
}

#[test]
fn what_is_no_request_is_refused_and_the_engine_goes_on() {
    let engine = Engine::start(&Hub::new());
    let check = |what: &str, bytes: &[u8], expected: &[u16]| {
        let status = status_of(&engine, bytes);
        assert!(
            status.map_or(expected.is_empty(), |it| expected.contains(&it)),
            "{what}: {status:?} is not of {expected:?}"
        );
    };
    let with = |headers: &str, body: &str| [start_of_request(headers), body.into()].concat();

    check("ten thousand headers", &with(&"x-a: b\r\n".repeat(10_000), "\r\n"), &[431]);
    check("101 headers", &with(&"x-a: b\r\n".repeat(101), "content-length: 0\r\n\r\n"), &[431]);
    check("a header of 1 MB", &with(&format!("x-a: {}\r\n", "b".repeat(1 << 20)), "\r\n"), &[431]);
    let path = "a".repeat(1 << 20);
    check("a path of 1 MB", format!("POST /{path} HTTP/1.1\r\n\r\n").as_bytes(), &[414, 431, 400]);
    check("headers without an end", &with("x-a: b", ""), &[]);
    check("a header without a colon", &with("nonsense\r\n", "\r\n"), &[400]);
    check("a space before the colon", &with("content-length : 3\r\n", "\r\nabc"), &[400]);
    check("a NUL in a header", &with("x-a: \0\r\n", "\r\n"), &[400]);
    check("a line of its own", b"POST\r\n\r\n", &[400]);
    check("HTTP of another age", b"POST /in/erp/a HTTP/0.9\r\n\r\n", &[400, 505]);
    check("HTTP of an age to come", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]);
    check("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]);

    check("a length that is no number", &with("content-length: three\r\n", "\r\nabc"), &[400]);
    check("a negative length", &with("content-length: -1\r\n", "\r\nabc"), &[400]);
    check("a length with a sign", &with("content-length: +3\r\n", "\r\nabc"), &[400]);
    check("two lengths", &with("content-length: 3\r\ncontent-length: 4\r\n", "\r\nabcd"), &[400]);
    check(
        "a length beyond all",
        &with("content-length: 18446744073709551616\r\n", "\r\n"),
        &[400, 413],
    );
    check("less than was announced", &with("content-length: 9\r\n", "\r\nabc"), &[400]);
    let chunked = |body: &str| with("transfer-encoding: chunked\r\n", &format!("\r\n{body}"));
    check("a chunk without a length", &chunked("zz\r\nabc\r\n0\r\n\r\n"), &[400]);
    check("a chunk that is too long for its length", &chunked("1\r\nabc\r\n0\r\n\r\n"), &[400]);
    check("a chunk beyond all", &chunked("ffffffffffffffffff\r\nabc\r\n"), &[400, 413]);
    check("chunks without an end", &chunked("3\r\nabc\r\n"), &[400]);
    check("a coding nobody knows", &with("transfer-encoding: brotli\r\n", "\r\nabc"), &[400, 501]);
    let smuggled = "0\r\n\r\nPOST /in/erp/smuggled HTTP/1.1\r\n\r\n";
    let both =
        with("content-length: 60\r\ntransfer-encoding: chunked\r\n", &format!("\r\n{smuggled}"));
    // RFC 9112 §6.1 leaves both to the server: refuse, or take the chunks and close.
    check("both a length and chunks", &both, &[202, 400]);

    let types: Vec<_> = engine.deliveries("").iter().map(|it| it["type"].clone()).collect();
    assert_eq!(types, Vec::<serde_json::Value>::new());
    is_well(&engine);
}

#[test]
fn a_thousand_random_requests_harm_nobody() {
    let engine = Engine::start(&Hub::new());
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let whole = [start_of_request("content-length: 3\r\n"), b"\r\nabc".to_vec()].concat();
    let mut taken = 0;
    for _ in 0..1000 {
        // Half is noise, half is a request with some bytes that do not belong there.
        let bytes = match random.bool() {
            true => (0..random.usize(1..4000)).map(|_| random.u8(..)).collect(),
            false => {
                let mut bytes = whole.clone();
                for _ in 0..random.usize(1..8) {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
                bytes
            }
        };
        match status_of(&engine, &bytes) {
            Some(202) => taken += 1,
            Some(status) => assert!((400..500).contains(&status), "{status}, seed {seed}"),
            None => {}
        }
    }
    assert!(taken < 500, "{taken}");
    is_well(&engine);
}

#[test]
fn a_sender_that_is_slow_or_goes_away_holds_nobody_up() {
    let engine = Engine::start(&Hub::new());
    let open = |bytes: &[u8]| {
        let mut connection = Connection::open(engine.public).expect("the engine listens");
        connection.write(bytes).expect("the engine reads");
        connection
    };
    let begun = Instant::now();
    let slow: Vec<_> = (0..50).map(|_| open(&start_of_request("x-a: "))).collect();
    let silent: Vec<_> = (0..50).map(|_| open(b"")).collect();
    // Gone in the middle of a header, of a body, of an answer.
    for at in 0..50 {
        drop(open(&start_of_request("x-a: ")));
        drop(open(&[start_of_request("content-length: 99\r\n\r\n"), b"abc".to_vec()].concat()));
        if at < 10 {
            drop(open(&[start_of_request("content-length: 3\r\n\r\n"), b"abc".to_vec()].concat()));
        }
    }
    is_well(&engine);
    // Headers that do not come to their end are not waited for.
    for connection in slow.into_iter().chain(silent) {
        match connection.rest() {
            Ok(answer) => assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(40), "{waited:?}");
    is_well(&engine);
}

/// The status of what comes back; none when the connection was closed without an
/// answer.
fn status_of(engine: &Engine, bytes: &[u8]) -> Option<u16> {
    let mut connection = Connection::open(engine.public).expect("the engine listens");
    // The engine may have heard enough before all is said.
    let _ = connection.write(bytes);
    let _ = connection.end_of_requests();
    let mut status = None;
    while let Ok(answer) = connection.answer() {
        status = status.or(Some(answer.status));
    }
    status
}

#[track_caller]
fn is_well(engine: &Engine) {
    assert_eq!(client::ask(engine.admin, "GET", "/healthz", &[], b"").status, 200);
    let event = engine.send("order.created", "{}");
    assert_eq!(engine.get(&format!("/v1/events/{event}")).status, 200);
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}
