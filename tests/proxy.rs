//! Endpoints behind a proxy: it is asked to CONNECT, for http and https alike,
//! and whatever else it does is a named outcome.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::Receiver;
use crate::support::tls::{Authority, Secure};

/// A proxy that does what it is asked, and what it was asked.
struct Proxy {
    listener: Receiver,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Goes on to this address, whatever it is asked for.
    fn to(address: std::net::SocketAddr) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let of_listener = asked.clone();
        let listener = Receiver::raw(move |stream| {
            let head = head(stream)?;
            of_listener.lock().expect("nobody panics with it").push(head);
            let there = TcpStream::connect(address)?;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")?;
            join(stream, &there)
        });
        Self { listener, asked }
    }

    fn url(&self) -> String {
        self.listener.url("")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

/// A request's head, to the byte.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// Both ways, until both have ended.
fn join(here: &TcpStream, there: &TcpStream) -> io::Result<()> {
    let one_way = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| one_way(here, there));
        one_way(there, here);
    });
    Ok(())
}

fn through(proxy: &str) -> String {
    format!("timeout = \"2s\"\nproxy.url = \"{proxy}\"")
}

fn attempt(engine: &Engine, event: &str, route: &str) -> (String, Value) {
    let delivery = engine.ended(event, route);
    let attempt = delivery["attempts"][0].clone();
    let said = attempt["error_code"].as_str().or(attempt["outcome"].as_str());
    (said.expect("an outcome").to_owned(), attempt)
}

#[test]
fn http_and_https_go_through_connect_and_the_name_is_the_proxys_affair() {
    let ours = Authority::new("ours");
    let plain = Receiver::ok();
    let secure = Secure::before(&plain, ours.server(&["secure.test"]).serving(&["http/1.1"]));
    let (to_plain, to_secure) = (Proxy::to(plain.address), Proxy::to(secure.address));
    let hub = Hub::new();
    hub.secret("ca", &ours.pem).secret("password", "canary-password-9b74c989");
    // Names that nobody here can look up.
    hub.route("plain", route("http://plain.test/a", &through(&to_plain.url()), ""));
    hub.route("port", route("http://plain.test:81/b", &through(&to_plain.url()), ""));
    let tls = "\ntls.ca = { file = \"secrets/ca\" }\nproxy.username = \"plugpost\"\n\
               proxy.password = { file = \"secrets/password\" }";
    hub.route("secure", route("https://secure.test/c", &(through(&to_secure.url()) + tls), ""));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{\"n\":1}");
    for name in ["plain", "port", "secure"] {
        let (found, attempt) = attempt(&engine, &event, name);
        assert_eq!(found, "delivered", "{name}: {attempt}");
        assert!(!attempt.to_string().contains("canary"), "{attempt}");
    }
    let mut paths: Vec<_> = plain.received().iter().map(|it| it.path.clone()).collect();
    paths.sort();
    assert_eq!(paths, ["/a", "/b", "/c"]);
    let asked = to_plain.asked();
    let of = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    assert_eq!(asked.len(), 2);
    assert!(
        asked.contains(&of("plain.test:80")) && asked.contains(&of("plain.test:81")),
        "{asked:?}"
    );
    let [asked] = &to_secure.asked()[..] else { panic!("{:?}", to_secure.asked()) };
    assert!(asked.starts_with("CONNECT secure.test:443 HTTP/1.1\r\n"), "{asked}");
    // `plugpost:` and the password.
    let basic = "proxy-authorization: Basic cGx1Z3Bvc3Q6Y2FuYXJ5LXBhc3N3b3JkLTliNzRjOTg5\r\n";
    assert!(asked.contains(basic), "{asked}");
    // Neither the engine nor the receiver's request says it.
    let said = format!("{}{}", engine.stderr(), engine.get("/v1/routes").text());
    assert!(!said.contains("canary") && !said.contains("cGx1Z3Bvc3Q6"), "{said}");
    assert!(plain.received().iter().all(|it| it.header("proxy-authorization").is_none()));
}

#[test]
fn the_guard_vets_the_proxy_and_an_address_behind_it() {
    let canary = Receiver::ok();
    let proxy = Proxy::to(canary.address);
    let hub = Hub::new();
    let targets = [
        "http://10.0.0.1/",
        "https://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fd00:ec2::254]/",
        "http://192.168.1.1:8080/",
    ];
    for (number, target) in targets.iter().enumerate() {
        let name = format!("target-{number}");
        hub.route(&name, route(target, &through(&proxy.url()), "schedule = []"));
    }
    let url = canary.url("/");
    let metadata = through("http://169.254.169.254:3128");
    hub.route("metadata", route(&url, &metadata, "schedule = []"));
    hub.route("private", route(&url, &through("http://10.0.0.1:3128"), "schedule = []"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    for (number, target) in targets.iter().enumerate() {
        let (found, attempt) = attempt(&engine, &event, &format!("target-{number}"));
        assert_eq!(found, "connect.forbidden", "{target}: {attempt}");
    }
    for name in ["metadata", "private"] {
        let (found, attempt) = attempt(&engine, &event, name);
        assert_eq!(found, "proxy.connect.forbidden", "{attempt}");
    }
    assert_eq!(proxy.asked(), Vec::<String>::new());
    assert_eq!(canary.received().len(), 0);
}

#[test]
fn whatever_a_proxy_does_is_a_named_outcome_in_time() {
    let says = |bytes: &'static [u8]| {
        Receiver::raw(move |stream| {
            head(stream)?;
            stream.write_all(bytes)
        })
    };
    let endless = |start: &'static [u8], again: &'static [u8]| {
        Receiver::raw(move |stream| {
            head(stream)?;
            stream.write_all(start)?;
            loop {
                stream.write_all(again)?;
            }
        })
    };
    let hangs = || Receiver::raw(|stream| io::copy(stream, &mut io::sink()).map(drop));
    let mut cases = vec![
        (
            "asks-for-a-password",
            "proxy.status",
            says(b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic\r\n\r\n"),
        ),
        ("refuses", "proxy.status", says(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")),
        (
            "cannot",
            "proxy.status",
            says(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nabc"),
        ),
        (
            "redirects",
            "proxy.status",
            says(b"HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1/\r\n\r\n"),
        ),
        (
            "switches",
            "proxy.status",
            says(b"HTTP/1.1 101 Go\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        ),
        ("closes", "proxy.broken", says(b"")),
        ("half-a-head", "proxy.broken", says(b"HTTP/1.1 200 OK\r\nvia: ")),
        ("garbage", "proxy.broken", says(b"\x16\x03\x01 no proxy at all\r\n\r\n")),
        ("says-more", "proxy.broken", says(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")),
        ("endless-headers", "proxy.broken", endless(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n")),
        ("endless-header", "proxy.broken", endless(b"HTTP/1.1 200 OK\r\nx-a: ", b"bbbbbbbb")),
        ("endless-hints", "timeout", endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")),
        ("hangs", "timeout", hangs()),
        ("goes-nowhere", "http.broken", says(b"HTTP/1.1 200 OK\r\n\r\n")),
    ];
    // Hangs when the tunnel is there.
    let after = Receiver::raw(|stream| {
        head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        io::copy(stream, &mut io::sink()).map(drop)
    });
    cases.push(("hangs-after", "timeout", after));
    let hub = Hub::new();
    for (name, _, proxy) in &cases {
        hub.route(name, route("http://receiver.test/", &through(&proxy.url("")), "schedule = []"));
    }
    let url = "http://receiver.test/";
    hub.route("not-there", route(url, &through("http://127.0.0.1:1"), "schedule = []"));
    hub.route("no-name", route(url, &through("http://proxy.invalid:1"), "schedule = []"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let expected = cases.iter().map(|(name, code, _)| (*name, *code));
    let expected =
        expected.chain([("not-there", "proxy.connect.refused"), ("no-name", "proxy.connect.dns")]);
    for (name, expected) in expected {
        let (found, attempt) = attempt(&engine, &event, name);
        assert_eq!(found, expected, "{name}: {attempt}");
        let duration = Duration::from_micros(attempt["duration_us"].as_u64().expect("µs"));
        assert!(duration < Duration::from_secs(3), "{name}: {duration:?}");
    }
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}

#[test]
fn a_proxys_password_that_changes_is_used_without_a_restart() {
    let plain = Receiver::ok();
    let proxy = Proxy::to(plain.address);
    let hub = Hub::new();
    hub.secret("password", "one");
    let login = "proxy.username = \"p\"\nproxy.password = { file = \"secrets/password\" }";
    let endpoint = format!("{}\n{login}", through(&proxy.url()));
    hub.route("out", route("http://receiver.test/", &endpoint, "schedule = []"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    assert_eq!(attempt(&engine, &event, "out").0, "delivered");
    hub.secret("password", "two");
    let answer = client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let event = engine.send("order.created", "{}");
    assert_eq!(attempt(&engine, &event, "out").0, "delivered");
    // `p:one`, and then `p:two` over a connection of its own.
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].contains("Basic cDpvbmU=") && asked[1].contains("Basic cDp0d28="),
        "{asked:?}"
    );
}
