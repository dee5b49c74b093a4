//! Where the engine does not go: nothing that is not a public address, in no
//! spelling and no disguise, whatever a name says at the second look; and to a
//! cloud's metadata never. A canary listens where an engine that went would arrive.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::engine::{Engine, command};
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{root, shell};

/// IANA IPv4 Special-Purpose Address Registry, what is not globally reachable,
/// with multicast and the deprecated relays of 6to4.
const BLOCKS_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same of IPv6, with what is multicast, site local or not given out.
const BLOCKS_V6: [(&str, u8); 24] = [
    ("::", 128),
    ("::1", 128),
    ("::", 96),
    ("::ffff:0:0", 96),
    ("::ffff:0:0:0", 96),
    ("64:ff9b::", 96),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("100:0:0:1::", 64),
    ("200::", 7),
    ("400::", 6),
    ("1000::", 4),
    ("2001::", 32),
    ("2001:2::", 48),
    ("2001:10::", 28),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("3fff::", 20),
    ("4000::", 3),
    ("5f00::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("fec0::", 10),
    ("ff00::", 8),
];

/// What the clouds document, for IPv4 and for IPv6.
const METADATA_V4: [[u8; 4]; 9] = [
    [169, 254, 169, 254],
    [169, 254, 169, 253],
    [169, 254, 170, 2],
    [169, 254, 170, 23],
    [169, 254, 0, 23],
    [169, 254, 42, 42],
    [168, 63, 129, 16],
    [100, 100, 100, 200],
    [192, 0, 0, 192],
];
const METADATA_V6: [&str; 8] = [
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fd00:100::100:200",
    "fe80::a9fe:a9fe",
];

/// The first, the last and another member of a block.
fn members_v4((start, prefix): ([u8; 4], u8)) -> [Ipv4Addr; 3] {
    let (start, size) = (u32::from(Ipv4Addr::from(start)), u32::MAX >> prefix);
    [0, size, fastrand::u32(0..=size)].map(|it| Ipv4Addr::from(start + it))
}

fn members_v6((start, prefix): (&str, u8)) -> [Ipv6Addr; 3] {
    let start = u128::from(start.parse::<Ipv6Addr>().expect("an address"));
    let size = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
    [0, size, fastrand::u128(0..=size)].map(|it| Ipv6Addr::from(start + it))
}

/// An IPv4 address in every form of IPv6 that stands for one.
fn disguises(address: Ipv4Addr) -> Vec<Ipv6Addr> {
    let it = u128::from(u32::from(address));
    let [a, b, c, d] = address.octets();
    let at = |start: &str| u128::from(start.parse::<Ipv6Addr>().expect("an address"));
    let local = |places: [usize; 4]| {
        let mut octets = "64:ff9b:1::".parse::<Ipv6Addr>().expect("an address").octets();
        for (place, octet) in places.into_iter().zip([a, b, c, d]) {
            octets[place] = octet;
        }
        u128::from(Ipv6Addr::from(octets))
    };
    let all = [
        // Mapped, compatible, translated, NAT64.
        at("::ffff:0:0") | it,
        it,
        at("::ffff:0:0:0") | it,
        at("64:ff9b::") | it,
        // NAT64 of one's own: prefixes of 48, 56, 64 and 96 bits.
        local([6, 7, 9, 10]),
        local([7, 9, 10, 11]),
        local([9, 10, 11, 12]),
        local([12, 13, 14, 15]),
        // 6to4; Teredo's client and its server.
        at("2002::1") | (it << 80),
        at("2001:0:808:808::") | (!it & 0xffff_ffff),
        at("2001::f7f7:f7f7") | (it << 64),
        // ISATAP in a public, a unique local and a link-local network.
        at("2a00::5efe:0:0") | it,
        at("2a00::200:5efe:0:0") | it,
        at("fd12::5efe:0:0") | it,
        at("fe80::5efe:0:0") | it,
    ];
    all.map(Ipv6Addr::from).to_vec()
}

/// Every address of this machine at one port; counts who comes.
struct Canary {
    port: u16,
    arrived: Arc<AtomicUsize>,
}

impl Canary {
    fn everywhere() -> Self {
        let v4 = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = v4.local_addr().expect("an address").port();
        let canary = Self { port, arrived: Arc::default() };
        canary.listen(v4);
        // Where there is no IPv6, or one listener for both, there is one less.
        if let Ok(v6) = TcpListener::bind(("::1", port)) {
            canary.listen(v6);
        }
        canary
    }

    fn at(address: &str, port: u16) -> Self {
        let canary = Self { port, arrived: Arc::default() };
        canary.listen(TcpListener::bind((address, port)).expect("an address of this machine"));
        canary
    }

    /// Until the test ends: a thread that waits costs nothing.
    fn listen(&self, listener: TcpListener) {
        let arrived = self.arrived.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                arrived.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
    }

    fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }
}

/// A folder whose endpoints may be in these networks.
fn hub(allow: &str) -> Hub {
    let hub = Hub::new();
    let text = std::fs::read_to_string(hub.path().join("plugpost.toml")).expect("a file");
    let ours = "allow_networks = [\"127.0.0.0/8\"]";
    assert!(text.contains(ours), "{text}");
    hub.write("plugpost.toml", text.replace(ours, &format!("allow_networks = [{allow}]")));
    hub
}

/// The outcome of one attempt at each URL, in the same order.
fn outcomes(hub: &Hub, urls: &[String]) -> Vec<(String, Value)> {
    for (number, url) in urls.iter().enumerate() {
        hub.route(&format!("r{number}"), route(url, "timeout = \"2s\"", "schedule = []"));
    }
    let engine = Engine::start(hub);
    let event = engine.send("order.created", "{}");
    engine.drained();
    let of = |number| {
        let delivery = engine.ended(&event, &format!("r{number}"));
        let attempt = delivery["attempts"][0].clone();
        let said = attempt["error_code"].as_str().or(attempt["outcome"].as_str());
        (said.expect("an outcome").to_owned(), attempt)
    };
    (0..urls.len()).map(of).collect()
}

fn all_forbidden(hub: &Hub, urls: &[String]) {
    let outcomes = outcomes(hub, urls);
    let wrong: Vec<_> =
        urls.iter().zip(&outcomes).filter(|(_, it)| it.0 != "connect.forbidden").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_that_is_not_public_is_dialled_in_any_disguise() {
    let canary = Canary::everywhere();
    let port = canary.port;
    let mut urls = Vec::new();
    for member in BLOCKS_V4.into_iter().flat_map(members_v4) {
        urls.push(format!("http://{member}:{port}/"));
        urls.extend(disguises(member).iter().map(|it| format!("http://[{it}]:{port}/")));
    }
    let members = BLOCKS_V6.into_iter().flat_map(members_v6);
    urls.extend(members.map(|it| format!("http://[{it}]:{port}/")));
    assert!(urls.len() > 700, "{}", urls.len());
    all_forbidden(&hub(""), &urls);
    assert_eq!(canary.arrived(), 0);
}

#[test]
fn another_spelling_is_the_same_address() {
    let canary = Canary::everywhere();
    let port = canary.port;
    let spellings = [
        "localhost",
        "LOCALHOST",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "0",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
    ];
    let urls: Vec<_> = spellings.iter().map(|it| format!("http://{it}:{port}/")).collect();
    all_forbidden(&hub(""), &urls);
    assert_eq!(canary.arrived(), 0);
    // The canary sings: where the range is allowed, the same spellings arrive.
    let loopback = ["127.1", "0x7f000001", "2130706433", "127.0.0.1."];
    let urls: Vec<_> = loopback.iter().map(|it| format!("http://{it}:{port}/")).collect();
    for (found, attempt) in outcomes(&hub("\"127.0.0.0/8\""), &urls) {
        assert_eq!(found, "http.broken", "{attempt}");
    }
    assert_eq!(canary.arrived(), 4);
}

#[test]
fn metadata_is_never_dialled_whatever_is_allowed() {
    let mut urls = Vec::new();
    for address in METADATA_V4.map(Ipv4Addr::from) {
        urls.push(format!("http://{address}/"));
        urls.extend(disguises(address).iter().map(|it| format!("http://[{it}]/")));
    }
    urls.extend(METADATA_V6.map(|it| format!("https://[{it}]/")));
    assert!(urls.len() > 140, "{}", urls.len());
    all_forbidden(&hub("\"0.0.0.0/0\", \"::/0\""), &urls);
    // Nor when the range is named that it lies in.
    let ranges =
        "\"169.254.0.0/16\", \"fd00::/8\", \"64:ff9b::/96\", \"::ffff:0:0/96\", \"2002::/16\"";
    all_forbidden(&hub(ranges), &urls);
}

#[test]
fn a_redirect_is_not_followed() {
    let canary = Canary::everywhere();
    let elsewhere = [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://127.0.0.1:{}/", canary.port),
        "//10.0.0.1/".to_owned(),
        "/elsewhere".to_owned(),
    ];
    let statuses = [301, 302, 303, 307, 308];
    let receiver = Receiver::start(move |request| {
        let mut parts = request.path.split('/').skip(1);
        let mut number = || parts.next().and_then(|it| it.parse::<usize>().ok());
        let (Some(status), Some(to)) = (number(), number()) else { return Reply::status(200) };
        Reply::status(u16::try_from(status).expect("a status"))
            .with_header("location", &elsewhere[to])
    });
    let mut urls = Vec::new();
    for status in statuses {
        urls.extend((0..4).map(|to| receiver.url(&format!("/{status}/{to}"))));
    }
    for (found, attempt) in outcomes(&hub("\"127.0.0.0/8\""), &urls) {
        assert_eq!(found, "http.redirect", "{attempt}");
    }
    assert_eq!((receiver.received().len(), canary.arrived()), (urls.len(), 0));
}

#[test]
fn a_range_that_is_no_longer_allowed_is_left_at_once() {
    let receiver = Receiver::ok();
    let hub = hub("\"127.0.0.0/8\"");
    hub.route("out", route(&receiver.url("/"), "", "schedule = []"));
    let engine = Engine::start(&hub);
    let outcome = || {
        let event = engine.send("order.created", "{}");
        engine.ended(&event, "out")["attempts"][0].clone()
    };
    assert_eq!(outcome()["outcome"], "delivered");
    let text = std::fs::read_to_string(hub.path().join("plugpost.toml")).expect("a file");
    hub.write("plugpost.toml", text.replace("127.0.0.0/8", "127.0.0.2/32"));
    let answer = crate::support::client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The connection that was there is not used either.
    assert_eq!(outcome()["error_code"], "connect.forbidden");
    assert_eq!(receiver.received().len(), 1);
}

/// The engine with a resolver in front of the system's.
#[cfg(target_os = "linux")]
fn with_resolver(hub: &Hub) -> Engine {
    let library = hub.path().join("resolver.so");
    let source = root().join("tests/guard/resolver.c");
    let line = "${CC:-cc} -shared -fPIC -o \"$1\" \"$2\" -ldl";
    let built = shell(line, &[library.as_os_str(), source.as_os_str()]).status();
    assert!(built.is_ok_and(|it| it.success()), "a C compiler makes {}", source.display());
    let mut command = command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    command.env("LD_PRELOAD", library).arg("serve").arg(hub.path());
    Engine::start_command(command, hub)
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_is_looked_up_once_and_what_was_vetted_is_dialled() {
    let receiver = Receiver::start(|_| Reply::status(200).with_header("connection", "close"));
    let port = receiver.address.port();
    let canary = Canary::at("127.0.0.2", port);
    let hub = hub("\"127.0.0.1/32\"");
    hub.route("turning", route(&format!("http://turning.test:{port}/"), "", "schedule = []"));
    let engine = with_resolver(&hub);
    let mut found = Vec::new();
    for _ in 0..20 {
        let event = engine.send("order.created", "{}");
        let attempt = engine.ended(&event, "turning")["attempts"][0].clone();
        let said = attempt["error_code"].as_str().or(attempt["outcome"].as_str());
        found.push(said.expect("an outcome").to_owned());
    }
    // Every answer was the last word: the good ones arrived, the bad ones ended there.
    assert_eq!(found, ["delivered", "connect.forbidden"].repeat(10));
    assert_eq!(engine.stderr().matches("looked up turning.test").count(), 20);
    assert_eq!((receiver.received().len(), canary.arrived()), (10, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn one_address_that_is_not_public_condemns_a_name() {
    let receiver = Receiver::ok();
    let port = receiver.address.port();
    let canary = Canary::at("127.0.0.2", port);
    let hub = hub("\"127.0.0.1/32\", \"169.254.0.0/16\"");
    for name in ["mixed", "mapped", "metadata"] {
        let url = format!("http://{name}.test:{port}/");
        hub.route(name, route(&url, "", "schedule = []"));
        let proxy = format!("proxy.url = \"{}\"", url.trim_end_matches('/'));
        hub.route(&format!("proxy-{name}"), route("http://example.com/", &proxy, "schedule = []"));
        let token = format!(
            "oauth2.token_url = \"{url}\"\noauth2.client_id = \"a\"\n\
             oauth2.client_secret = {{ file = \"secrets/erp\" }}"
        );
        hub.route(&format!("token-{name}"), route(&receiver.url("/"), &token, "schedule = []"));
    }
    let engine = with_resolver(&hub);
    let event = engine.send("order.created", "{}");
    for name in ["mixed", "mapped", "metadata"] {
        let code =
            |route: String| engine.ended(&event, &route)["attempts"][0]["error_code"].clone();
        assert_eq!(code(name.to_owned()), "connect.forbidden", "{name}");
        assert_eq!(code(format!("proxy-{name}")), "proxy.connect.forbidden", "{name}");
        assert_eq!(code(format!("token-{name}")), "oauth.connect.forbidden", "{name}");
        assert_eq!(engine.stderr().matches(&format!("looked up {name}.test")).count(), 3);
    }
    assert_eq!((receiver.received().len(), canary.arrived()), (0, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_silent_does_not_keep_a_name_from_being_reached() {
    let receiver = Receiver::start(|_| Reply::status(200).with_header("connection", "close"));
    let port = receiver.address.port();
    // A listener whose queue is full and stays so: who comes then gets no answer.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _silent = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 3], port).into()).expect("an address of this machine");
        socket.listen(1).expect("a listener")
    });
    let mut queued = Vec::new();
    let address = ([127, 0, 0, 3], port).into();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 1000, "its queue has no end");
    }
    let hub = hub("\"127.0.0.0/8\"");
    hub.route("out", route(&format!("http://silent.test:{port}/"), "", "schedule = []"));
    hub.route(
        "alone",
        route(&format!("http://127.0.0.3:{port}/"), "timeout = \"1s\"", "schedule = []"),
    );
    let engine = with_resolver(&hub);
    let event = engine.send("order.created", "{}");
    let attempt = engine.ended(&event, "out")["attempts"][0].clone();
    assert_eq!(attempt["outcome"], "delivered", "{attempt}");
    // Silent it is.
    assert_eq!(engine.ended(&event, "alone")["attempts"][0]["error_code"], "timeout");
    assert_eq!(receiver.received().len(), 1);
}
