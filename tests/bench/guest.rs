//! What the call of a guest takes, beside the same source compiled natively: round by
//! round, one after the other, so that what else the machine does hits both.
//!
//! Both measure each call by itself and count the host's part, which is the same code:
//! finding fields. Signing is not in it: the host follows these plugins' rules. Nor is
//! making and configuring an instance. Of the rounds the quickest counts: others on the
//! machine can only add to a call.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use native::{Body, Event, Transform, bigcommerce_b2b, buildr, ordermentum};
use serde_json::{Value, json};

use crate::results::{Section, figure};
use crate::{Bench, engine, median};

const ROUNDS: usize = 25;
const CALLS: usize = 3000;
const SIZES: [(&str, usize); 2] = [("350 B", 350), ("8 KiB", 8192)];

/// What is measured, of one plugin.
struct Plugin {
    name: &'static str,
    settings: &'static str,
    event_type: &'static str,
    /// Its name and its text.
    secret: (&'static str, &'static str),
    /// One call, natively.
    call: fn(&str) -> Call,
}

type Call = Box<dyn Fn(&Event)>;

const WHSEC: &str = "whsec_YSBrZXkgb2YgdGhpcnR5LXR3byBieXRlcywgb3Igc28=";

const PLUGINS: [Plugin; 3] = [
    Plugin {
        name: "bigcommerce-b2b",
        settings: r#"{"store_id":"1025646","store_hash":"example"}"#,
        event_type: "store/company/created",
        secret: ("client_secret", "a secret of some bytes"),
        call: |settings| shape(bigcommerce_b2b::shaping(settings)),
    },
    Plugin {
        name: "buildr",
        settings: "{}",
        event_type: "opportunity.create",
        secret: ("key", WHSEC),
        call: |settings| shape(buildr::shaping(settings)),
    },
    Plugin {
        name: "ordermentum",
        settings: r#"{"username":"erp"}"#,
        event_type: "order_created",
        secret: ("password", "a password"),
        call: |settings| shape(ordermentum::shaping(settings)),
    },
];

pub(crate) fn measure(_: &Bench, section: &mut Section) {
    for (size, bytes) in SIZES {
        let data = payload(bytes);
        for plugin in &PLUGINS {
            cost(section, plugin, size, &data);
        }
    }
}

fn shape(plugin: impl Transform + 'static) -> Call {
    Box::new(move |event| {
        let message = plugin.apply(event).unwrap_or_else(|it| panic!("{it:?}"));
        assert!(matches!(black_box(message).body, Body::Bytes(_)), "the body is its own");
    })
}

fn cost(section: &mut Section, plugin: &Plugin, size: &str, data: &str) {
    let (secret, text) = plugin.secret;
    let settings: Value = serde_json::from_str(plugin.settings).expect("settings");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let case = json!({
        "about": "Measured.",
        "settings": settings,
        "secrets": { secret: text },
        "send": {
            "event": {
                "id": "evt_1kqs6wa0y0007", "type": plugin.event_type, "source": "erp",
                "time": "2026-05-04T09:59:58.750Z", "data": data,
                "attributes": { "datacontenttype": "application/json" },
            },
            "url": "https://receiver.example.com/", "at": "2026-05-04T10:00:00Z",
        },
    });
    fs::write(folder.path().join("case.json"), case.to_string()).expect("a file");
    let event = Event {
        id: "evt_1kqs6wa0y0007".into(),
        event_type: plugin.event_type.into(),
        time: 1_777_888_798_750,
        data: data.as_bytes().into(),
    };
    let call = (plugin.call)(plugin.settings);
    let rounds = (0..ROUNDS).map(|_| (guest(plugin.name, folder.path()), native(&event, &call)));
    let (guests, natives): (Vec<_>, Vec<_>) = rounds.unzip();
    let micros = |all: Vec<Duration>| all.into_iter().min().unwrap_or_default().as_secs_f64() * 1e6;
    let (guest, native) = (micros(guests), micros(natives));
    section.row(vec![
        ("call", json!(format!("{}, {size}", plugin.name))),
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
