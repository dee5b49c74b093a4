//! What a guest's calls take, beside the same source compiled natively: round by
//! round, one after the other, so that what else the machine does hits both.
//!
//! Both measure each call by itself and count the host's part, which is the same code:
//! finding fields, the HMAC. Making and configuring an instance is not in it.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use native::bindings::base::plugpost::plugin::secrets::HELD;
use native::{Auth, Body, Event, Outgoing, Transform, buildr, signing};
use serde_json::{Value, json};

use crate::results::{Section, figure};
use crate::{Bench, engine, median};

const ROUNDS: usize = 7;
const CALLS: usize = 3000;
const KEY: &[u8] = b"a key of thirty-two bytes, or so";
const SIZES: [(&str, usize); 2] = [("350 B", 350), ("8 KiB", 8192)];

pub(crate) fn measure(_: &Bench, section: &mut Section) {
    for (size, bytes) in SIZES {
        let data = payload(bytes);
        let name = |what: &str| format!("{what}, {size}");
        cost(section, name("buildr transform and sign"), "buildr", &data, shape());
        cost(section, name("standard-webhooks sign"), "standard-webhooks", &data, sign());
    }
}

/// One call, natively.
type Call = Box<dyn Fn(&Event)>;

fn shape() -> Call {
    let plugin = buildr::shaping("{}");
    Box::new(move |event| {
        let message = plugin.apply(event).unwrap_or_else(|it| panic!("{it:?}"));
        let Body::Bytes(body) = message.body else { panic!("the body is its own") };
        HELD.with_borrow_mut(|held| held.1 = body);
        black_box(plugin.sign(&outgoing()).is_ok());
    })
}

fn sign() -> Call {
    let plugin = signing::made("{}");
    Box::new(move |_| {
        black_box(plugin.sign(&outgoing()).is_ok());
    })
}

fn outgoing() -> Outgoing {
    Outgoing { id: "evt_1kqs6wa0y0007".into(), time: 1_777_888_800_000 }
}

fn cost(section: &mut Section, name: String, plugin: &str, data: &str, call: Call) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let case = json!({
        "about": "Measured.",
        "secrets": { "key": format!("whsec_{}", BASE64_STANDARD.encode(KEY)) },
        "send": {
            "event": {
                "id": "evt_1kqs6wa0y0007", "type": "opportunity.create", "source": "erp",
                "time": "2026-05-04T09:59:58.750Z", "data": data,
                "attributes": { "datacontenttype": "application/json" },
            },
            "url": "https://receiver.example.com/", "at": "2026-05-04T10:00:00Z",
        },
    });
    fs::write(folder.path().join("case.json"), case.to_string()).expect("a file");
    let event = Event { event_type: "opportunity.create".into(), data: data.as_bytes().into() };
    HELD.with_borrow_mut(|held| *held = (KEY.into(), data.as_bytes().into()));
    let (mut guests, mut natives) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        guests.push(guest(plugin, folder.path()));
        natives.push(native(&event, &call));
    }
    let micros = |all: Vec<Duration>| median(all, Duration::cmp).as_secs_f64() * 1e6;
    let (guest, native) = (micros(guests), micros(natives));
    section.row(vec![
        ("call", json!(name)),
        ("guest_us", figure(guest)),
        ("native_us", figure(native)),
        ("ratio", figure(guest / native)),
    ]);
}

fn guest(plugin: &str, cases: &Path) -> Duration {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    let mut command = Command::new(engine::binary());
    command.args(["plugin", "bench", "--json", "--calls", &CALLS.to_string()]);
    let output = command.arg(file.join(plugin).with_extension("wasm")).arg(cases).output();
    let output = output.expect("the binary starts");
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Duration::from_nanos(answer["cases"][0]["p50_ns"].as_u64().expect("a case"))
}

fn native(event: &Event, call: &Call) -> Duration {
    let times = (0..CALLS).map(|_| {
        let begun = Instant::now();
        call(black_box(event));
        begun.elapsed()
    });
    median(times, Duration::cmp)
}

/// JSON of about so many bytes, as orders are: a few members, and lines.
fn payload(bytes: usize) -> String {
    let line = |number: usize| json!({ "nr": number, "sku": format!("TULIP-{number:04}"), "quantity": 3, "price": 12.5 });
    let with = |lines: usize| {
        json!({
            "id": 2279, "name": "Harbour hall", "url": "https://app.example.com/opportunities/2279",
            "currency": "EUR", "lines": (0..lines).map(line).collect::<Vec<_>>(),
        })
        .to_string()
    };
    let lines = (1..).find(|it| with(*it).len() > bytes).expect("it grows");
    with(lines - 1)
}
