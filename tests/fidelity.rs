//! Bytes are sacred: without a transform, what came in goes out, byte for byte.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, to};
use crate::support::receiver::{Received, Receiver, Reply};

/// What careless hands change: numbers, order, spaces, escapes, endings.
const DELICATE: &[&[u8]] = &[
    b"",
    b"\0",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"1.10",
    b"1234567890123456789012345678901234567890",
    b"-0",
    b"1E400",
    br#"{"b":1,"a":2,"b":3,"":null}"#,
    br#"{ "a" :	[ 1 , 2 ]  }  "#,
    br#""\ud800 \u0041 \/ ""#,
    b"{\"a\":\"\xed\xa0\x80\"}",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b"\xf0\x9f\x98\x80 \xc3(",
    b"a=1&b=%20+",
    b"\x1f\x8b\x08\0not really gzip",
];

#[test]
pub(crate) fn without_a_transform_any_bytes_are_delivered_as_they_came() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let bodies = DELICATE.iter().map(|it| it.to_vec()).chain(random_bodies(&mut random));
    let sent: HashMap<_, _> = bodies.map(|body| (engine.send("any", &body), body)).collect();
    assert!(sent.len() >= DELICATE.len() + 100, "{}", sent.len());
    arrive_unchanged(&receiver, &sent, seed);
}

#[test]
pub(crate) fn the_content_type_is_delivered_as_it_came() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let check = |content_type: Option<&str>| {
        let headers: Vec<_> = content_type.iter().map(|it| ("content-type", *it)).collect();
        let event = engine.post("/in/erp/any", &headers, b"abc").event_ids().remove(0);
        let request = arrival(&receiver, &event);
        assert_eq!(request.header("content-type"), content_type);
        assert_eq!(request.header("content-encoding"), None);
        assert_eq!(request.header("transfer-encoding"), None);
    };
    check(None);
    check(Some("application/json"));
    check(Some("application/json; charset=\"utf-8\"; x=\",\""));
    check(Some("text/csv;header=present"));
    check(Some("application/octet-stream"));
    check(Some("multipart/form-data; boundary=----a"));
    check(Some("nonsense"));
}

#[test]
fn a_cloud_event_s_data_is_delivered_as_it_came() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let data = r#"{ "b": 1.10, "a": 1234567890123456789012345678901234567890, "b": "\u0041" }"#;
    let body =
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data" : {data} }}"#);
    let headers = [("content-type", "application/cloudevents+json")];
    let event = engine.post("/events", &headers, body.as_bytes()).event_ids().remove(0);
    let request = arrival(&receiver, &event);
    assert_eq!(String::from_utf8_lossy(&request.body), data);
    assert_eq!(request.header("content-type"), Some("application/json"));
}

#[test]
fn a_platform_whose_body_goes_on_as_it_is_changes_none() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    for (name, types) in [("b2b-ninja", "quote.*"), ("nue", "order.*")] {
        hub.plugin(name).source(name, &format!("plugin = \"{name}\""));
        let route = format!(
            "from = \"{name}\"\ntypes = [\"{types}\"]\nplatform = \"{name}\"\n\
             [endpoint]\nurl = \"{}\"\nhttps_only = false\n",
            receiver.url("/")
        );
        hub.route(name, route);
    }
    let engine = Engine::start(&hub);
    let send = |path: &str, body: &[u8]| {
        let headers = [("content-type", "application/json")];
        client::ask(engine.public, "POST", path, &headers, body).event_ids().remove(0)
    };
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent = HashMap::new();
    for body in DELICATE.iter().map(|it| it.to_vec()).chain(random_bodies(&mut random).take(20)) {
        sent.insert(send("/in/b2b-ninja/quote-created", &body), body);
    }
    // Nue's are JSON, or they are not taken.
    for _ in 0..20 {
        let body = random_json(&mut random, 4).into_bytes();
        sent.insert(send("/in/nue/order.activated", &body), body);
    }
    arrive_unchanged(&receiver, &sent, seed);
}

#[test]
pub(crate) fn what_was_sent_is_in_the_log_as_it_was_sent() {
    let receiver = Receiver::start(|request| {
        Reply::status(if request.path == "/failing" { 500 } else { 200 })
    });
    let hub = Hub::new();
    hub.plugin("jq");
    let programs = [
        ("around", "{v: 1, order: ., w: [2]}"),
        ("twice", "[., .]"),
        ("part", ".lines"),
        ("bare", "."),
        ("failing", "{order: .}"),
    ];
    for (name, program) in programs {
        let made = format!("[[transform]]\nplugin = \"jq\"\nsettings.program = \"{program}\"\n\n");
        let route = to(&receiver.url(&format!("/{name}")));
        hub.route(name, route.replace("[endpoint]", &format!("{made}[endpoint]")));
    }
    let engine = Engine::start(&hub);
    let data = r#"{"id":2279,"name":"Brücke 水","lines":[{"sku":"TULIP-1","quantity":3}]}"#;
    let event = engine.send("any", format!("\n {data} \n"));
    for (name, _) in programs {
        let delivery = engine.ended(&event, name);
        let attempts = delivery["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), if name == "failing" { 2 } else { 1 }, "{delivery}");
        let path = format!("/{name}");
        let sent = receiver.received().into_iter().find(|it| it.path == path).expect("one");
        let sent = std::str::from_utf8(&sent.body).expect("UTF-8");
        assert_eq!(sent.contains(data), name != "part");
        for attempt in attempts {
            assert_eq!(attempt["request"]["body"], sent, "{name}");
        }
    }
}

/// Mostly short, up to 200 KB.
fn random_bodies(random: &mut fastrand::Rng) -> impl Iterator<Item = Vec<u8>> {
    (0..120).map(|at| {
        let length = random.usize(..=if at % 10 == 0 { 200_000 } else { 2_000 });
        (0..length).map(|_| random.u8(..)).collect()
    })
}

/// JSON as no serializer would write it.
fn random_json(random: &mut fastrand::Rng, depth: u32) -> String {
    let space = |random: &mut fastrand::Rng| [" ", "", "\n", "\t", "\r\n"][random.usize(..5)];
    let digits = |random: &mut fastrand::Rng, count: usize| {
        (0..count).map(|_| char::from(random.u8(b'0'..=b'9'))).collect::<String>()
    };
    let (before, after) = (space(random), space(random));
    let value = match random.u32(..if depth == 0 { 4 } else { 6 }) {
        0 => format!("{}.{}0e-{}", random.u8(1..), digits(random, 40), random.u8(..)),
        1 => format!("-{}{}", random.u8(1..10), digits(random, 40)),
        2 => r#""\u00e4ä\/\"\ud83d\ude00 水""#.into(),
        3 => "null".into(),
        4 => {
            let items: Vec<_> =
                (0..random.usize(..4)).map(|_| random_json(random, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let member = |random: &mut fastrand::Rng| {
                let name = ["a", "b", "\\u0061", ""][random.usize(..4)];
                format!("{before}\"{name}\"{after}:{}", random_json(random, depth - 1))
            };
            let members: Vec<_> = (1..random.usize(2..5)).map(|_| member(random)).collect();
            format!("{{{}}}", members.join(","))
        }
    };
    format!("{before}{value}{after}")
}

fn arrive_unchanged(receiver: &Receiver, sent: &HashMap<String, Vec<u8>>, seed: u64) {
    let received = receiver.first(sent.len());
    let ids: HashSet<_> = received.iter().map(|it| it.webhook_id()).collect();
    assert_eq!(ids.len(), sent.len(), "each arrives once");
    for request in &received {
        let id = request.webhook_id();
        let body = sent.get(id).unwrap_or_else(|| panic!("{id} was not sent"));
        assert!(request.body == *body, "{id} is changed: {:?}, seed {seed}", request.body);
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
}

fn arrival(receiver: &Receiver, event: &str) -> Arc<Received> {
    receiver.until(event, |it| it.iter().find(|it| it.webhook_id() == event).cloned())
}
