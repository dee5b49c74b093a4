//! Receivers as they are on bad days: each is an outcome with a name, costs
//! bounded time and memory, and nobody else notices.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Receiver, Reply};

/// What a receiver does, and what the log must say of it.
struct Case {
    name: &'static str,
    url: String,
    /// `delivered`, or the code of the error.
    expected: &'static str,
    _receiver: Option<Receiver>,
}

/// The timeout of every endpoint here: enough for a machine that has all of these
/// to do at once.
const TIMEOUT: Duration = Duration::from_secs(2);

#[test]
fn whatever_a_receiver_does_is_a_named_outcome_and_harms_nobody() {
    let good = Receiver::ok();
    let cases = cases();
    let hub = Hub::new();
    hub.route("good", route(&good.url("/"), "", "schedule = []"));
    for case in &cases {
        let endpoint = format!("timeout = \"{}ms\"", TIMEOUT.as_millis());
        hub.route(case.name, route(&case.url, &endpoint, "schedule = []"));
    }
    let engine = Engine::start(&hub);
    let before = engine.resident_bytes();
    let begun = Instant::now();
    let events: Vec<_> = (0..3).map(|_| engine.send("order.created", "{\"n\":1}")).collect();
    // Good ones arrive while the bad ones are still at it.
    good.first(events.len());
    let arrived = begun.elapsed();

    let mut wrong = Vec::new();
    for case in &cases {
        for event in &events {
            let delivery = engine.ended(event, case.name);
            let attempts = delivery["attempts"].as_array().expect("attempts");
            assert_eq!(attempts.len(), 1, "{}", case.name);
            let found = match &attempts[0]["error_code"] {
                Value::String(code) => code,
                _ => attempts[0]["outcome"].as_str().expect("an outcome"),
            };
            if found != case.expected {
                wrong.push(format!(
                    "{}: {found}, not {}: {}",
                    case.name, case.expected, attempts[0]
                ));
            }
            let duration = Duration::from_micros(attempts[0]["duration_us"].as_u64().expect("µs"));
            if duration > TIMEOUT + Duration::from_secs(1) {
                wrong.push(format!("{}: took {duration:?}", case.name));
            }
            let excerpt = attempts[0]["response_excerpt"].as_str().unwrap_or_default();
            // Bytes that are no text take three each.
            if excerpt.len() > 3 * (4 << 10) {
                wrong.push(format!("{}: keeps {} bytes", case.name, excerpt.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = engine.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert!(arrived < Duration::from_secs(10), "{arrived:?}");
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut at = |name, expected, url: String, receiver| {
        cases.push(Case { name, url, expected, _receiver: receiver });
    };

    // No connection.
    at("refused", "connect.refused", refused_url(), None);
    at("private", "connect.forbidden", "http://10.0.0.1/".into(), None);
    at("metadata", "connect.forbidden", "http://169.254.169.254/latest/meta-data/".into(), None);
    at("mapped", "connect.forbidden", "http://[::ffff:127.0.0.1]:9/".into(), None);

    // No TLS.
    let mut secure = |name, expected, receiver: Receiver| {
        at(name, expected, format!("https://{}/", receiver.address), Some(receiver));
    };
    secure(
        "tls-garbage",
        "connect.tls",
        Receiver::raw(|stream| {
            let _ = stream.read(&mut [0; 512])?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        }),
    );
    secure("tls-silence", "timeout", Receiver::raw(until_closed));
    secure(
        "tls-alert",
        "connect.tls",
        Receiver::raw(|stream| {
            let _ = stream.read(&mut [0; 512])?;
            // A fatal alert: handshake failure.
            stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40])?;
            until_closed(stream)
        }),
    );

    let mut plain = |name, expected, reply: fn() -> Reply| {
        let receiver = Receiver::start(move |_| reply());
        at(name, expected, receiver.url("/"), Some(receiver));
    };
    // No answer, or none that is one.
    plain("silence", "timeout", || Reply::misbehave(until_closed));
    plain("closed", "http.broken", || Reply::misbehave(|_| Ok(())));
    plain("half-a-head", "http.broken", || bytes(b"HTTP/1.1 200 OK\r\ncontent-"));
    plain("no-http", "http.broken", || bytes(b"220 mail.example.com ESMTP\r\n\r\n"));
    plain("http-0-9", "http.broken", || bytes(b"<html>hello</html>\r\n\r\n"));
    plain("http-9", "http.broken", || bytes(b"HTTP/9.9 200 OK\r\n\r\n"));
    plain("status-0", "http.broken", || bytes(b"HTTP/1.1 0 No\r\n\r\n"));
    plain("status-words", "http.broken", || bytes(b"HTTP/1.1 two OK\r\n\r\n"));
    plain("slow-head", "timeout", || drip(b"HTTP/1.1 200 OK\r\nx-a: ", b"a"));
    plain("endless-headers", "http.broken", || endless(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"));
    plain("endless-header", "http.broken", || endless(b"HTTP/1.1 200 OK\r\nx-a: ", b"b"));
    plain("endless-status", "http.broken", || endless(b"HTTP/1.1 200 ", b"O"));
    plain("many-headers", "http.broken", || {
        let headers: String = (0..5000).map(|it| format!("x-{it}: a\r\n")).collect();
        bytes(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes())
    });
    plain("endless-hints", "timeout", || drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"));
    plain("flood-of-hints", "timeout", || endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"));
    plain("two-lengths", "http.broken", || {
        bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab")
    });
    plain("negative-length", "http.broken", || {
        bytes(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n")
    });
    plain("length-and-more", "http.broken", || {
        bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999999\r\n\r\n")
    });
    plain("nul-in-a-header", "http.broken", || bytes(b"HTTP/1.1 200 OK\r\nx-a: \0\r\n\r\n"));
    plain("folded-header", "http.broken", || bytes(b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\n\r\n"));
    plain("space-in-a-name", "http.broken", || bytes(b"HTTP/1.1 200 OK\r\nx a: b\r\n\r\n"));
    plain("http-2-unasked", "http.broken", || bytes(b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0"));
    plain("only-line-ends", "http.broken", || endless(b"", b"\r\n"));
    plain("upgrade", "http.status", || {
        bytes(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
    });

    // The deadline reaches to the last byte.
    plain("slow-body", "timeout", || {
        drip(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", b"a")
    });

    plain("slow-trailers", "timeout", || {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
        drip(head, b"x-a: b\r\n")
    });
    plain("slow-chunk-size", "timeout", || {
        drip(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0")
    });

    // It says something of what is next, and that is not followed.
    plain("redirect-to-metadata", "http.redirect", || {
        Reply::status(307).with_header("location", "http://169.254.169.254/latest/meta-data/")
    });
    plain("redirect-to-a-file", "http.redirect", || {
        Reply::status(302).with_header("location", "file:///etc/passwd")
    });
    // On 429 or 503 it would rest the whole lane.
    plain("later-than-ever", "http.status", || {
        Reply::status(500).with_header("retry-after", "99999999999999999999999999")
    });
    plain("before-it-began", "http.status", || {
        Reply::status(429).with_header("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")
    });
    plain("later-in-nonsense", "http.status", || {
        Reply::status(503).with_header("retry-after", "1e308, -inf, NaN")
    });
    plain("asks-for-a-password", "http.status", || {
        Reply::status(401).with_header("www-authenticate", "Basic realm=\"here\"")
    });

    // The status has come; of the body only the start counts.
    plain("endless-trailers", "delivered", || {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
        endless(head, b"x-a: b\r\n")
    });
    plain("endless-chunk-extension", "delivered", || {
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=", b"b")
    });
    plain("chunk-too-large-to-count", "delivered", || {
        bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n")
    });
    plain("hints", "delivered", || {
        bytes(
            &[
                b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20),
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
            ]
            .concat(),
        )
    });
    plain("endless-body", "delivered", || endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'b'; 1000]));
    plain("endless-chunks", "delivered", || {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        endless(head, format!("400\r\n{}\r\n", "c".repeat(0x400)).as_bytes())
    });
    plain("announced-terabyte", "delivered", || {
        endless(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n", &[b'b'; 1000])
    });
    plain("body-breaks-off", "delivered", || {
        bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nabc")
    });
    plain("bad-chunks", "delivered", || {
        bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n")
    });
    plain("gzip", "delivered", || {
        Reply::status(200).with_header("content-encoding", "gzip").with_body(b"\x1f\x8b\x08\0")
    });
    plain("nonsense-body", "delivered", || Reply::status(200).with_body([0xff, 0, 0xfe, b'\r']));
    plain("failed-endless-body", "http.status", || {
        endless(b"HTTP/1.1 500 No\r\n\r\n", &[b'b'; 1000])
    });

    let names: std::collections::HashSet<_> = cases.iter().map(|it| it.name).collect();
    assert_eq!(names.len(), cases.len(), "two routes of one name");
    cases
}

/// A port that nobody listens on: it was given to us and given back.
fn refused_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}/", listener.local_addr().expect("an address"))
}

fn bytes(bytes: &[u8]) -> Reply {
    let bytes = bytes.to_vec();
    Reply::misbehave(move |stream| stream.write_all(&bytes))
}

/// As fast as it is taken, until it is not.
fn endless(start: &[u8], again: &[u8]) -> Reply {
    let (start, again) = (start.to_vec(), again.repeat(1000 / again.len().min(1000)));
    Reply::misbehave(move |stream| {
        stream.write_all(&start)?;
        loop {
            stream.write_all(&again)?;
        }
    })
}

/// A piece now and then, so that something always comes.
fn drip(start: &[u8], again: &[u8]) -> Reply {
    let (start, again) = (start.to_vec(), again.to_vec());
    Reply::misbehave(move |stream| {
        stream.write_all(&start)?;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(&again)?;
        }
    })
}

/// Say nothing more, and stay.
fn until_closed(stream: &mut TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 512])? > 0 {}
    Ok(())
}

#[test]
fn a_compressed_answer_is_kept_as_it_came() {
    // Nobody asked for it, so nobody unpacks it, however much it would become.
    let receiver = Receiver::start(|_| {
        let reply = Reply::status(500).with_header("content-encoding", "gzip");
        reply.with_body([b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice(), &[b'z'; 9000]].concat())
    });
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "", "schedule = []"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let delivery = engine.ended(&event, "out");
    let excerpt = delivery["attempts"][0]["response_excerpt"].as_str().expect("an excerpt");
    assert!(excerpt.starts_with("\u{1f}\u{fffd}\u{8}"), "{excerpt:?}");
    // The start of what came, 4 KiB of it.
    assert_eq!(excerpt.matches('z').count(), (4 << 10) - 10);
    let request = &receiver.received()[0];
    assert_eq!(request.header("accept-encoding"), None);
}

#[test]
fn a_connection_is_kept_and_one_that_the_receiver_closed_costs_nothing() {
    // Says that it keeps the connection, and does not.
    let receiver = Receiver::start(|_| bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "concurrency = 1", "schedule = []"));
    let engine = Engine::start(&hub);
    for _ in 0..50 {
        let event = engine.send("order.created", "{}");
        let delivery = engine.ended(&event, "out");
        assert_eq!(delivery["status"], "delivered", "{delivery}");
    }
    assert_eq!(receiver.received().len(), 50);
}

#[test]
fn an_answer_that_nobody_asked_for_is_nobodys() {
    // Two answers to one request: the second would be taken for that of the next.
    let receiver = Receiver::start(|_| {
        Reply::misbehave(|stream| {
            let two = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\
                        HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(two)?;
            until_closed(stream)
        })
    });
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "concurrency = 1", "schedule = []"));
    let engine = Engine::start(&hub);
    for _ in 0..20 {
        let event = engine.send("order.created", "{}");
        let delivery = engine.ended(&event, "out");
        assert_eq!(delivery["status"], "delivered", "{delivery}");
    }
    assert_eq!(receiver.received().len(), 20);
}
