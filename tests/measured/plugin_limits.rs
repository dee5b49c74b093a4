//! What a plugin does that no plugin should ends as an outcome with a name. It
//! costs one instance, and nobody else notices.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{self, Connection};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::{Received, Receiver};
use crate::support::{eventually, measuring, plugin, plugpost};

/// A use of the hostile plugin, as a table of a route or a source has it.
fn uses(behaviour: &str, count: usize) -> String {
    format!(
        "plugin = \"hostile\"\nsettings = {{ behaviour = \"{behaviour}\", count = {count} }}\n\
         secrets.key = {{ file = \"secrets/key\" }}\nsecrets.pair = {{ file = \"secrets/pair\" }}\n"
    )
}

fn hub() -> Hub {
    hub_with("")
}

fn hub_with(tables: &str) -> Hub {
    let hub = Hub::with("", tables);
    hub.plugin("hostile").secret("key", "a-key");
    hub.secret("pair", "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==");
    hub
}

/// One attempt by a route with this behaviour in a role: `delivered`, or the
/// code of the error.
struct Case {
    role: &'static str,
    behaviour: &'static str,
    count: usize,
    expected: &'static str,
}

const fn case(
    role: &'static str,
    behaviour: &'static str,
    count: usize,
    expected: &'static str,
) -> Case {
    Case { role, behaviour, count, expected }
}

const CASES: &[Case] = &[
    case("filter", "spin", 0, "plugin.timeout"),
    case("transform", "spin", 0, "plugin.timeout"),
    case("auth", "spin", 0, "plugin.timeout"),
    case("filter", "calls", 0, "plugin.timeout"),
    case("transform", "calls", 0, "plugin.timeout"),
    case("auth", "calls", 0, "plugin.timeout"),
    case("filter", "recurse", 0, "plugin.stack"),
    case("transform", "recurse", 0, "plugin.stack"),
    case("auth", "recurse", 0, "plugin.stack"),
    case("filter", "grow", 0, "plugin.memory"),
    case("transform", "grow", 0, "plugin.memory"),
    case("auth", "grow", 0, "plugin.memory"),
    case("filter", "trap", 0, "plugin.trap"),
    case("transform", "trap", 0, "plugin.trap"),
    case("auth", "trap", 0, "plugin.trap"),
    // The size a message may have, one that is too large, one that does not even fit
    // into the guest's memory.
    case("transform", "output", 3_000_000, "delivered"),
    case("transform", "output", 20_000_000, "plugin.output"),
    case("transform", "output", 100_000_000, "plugin.memory"),
    case("transform", "pointers", 2, "delivered"),
    case("transform", "pointers", 3, "plugin.output"),
    case("transform", "absent-pointers", 64, "delivered"),
    case("transform", "absent-pointers", 65, "plugin.output"),
    case("transform", "method", 0, "plugin.method"),
    case("transform", "method-injection", 0, "plugin.method"),
    case("transform", "no-method", 0, "plugin.method"),
    case("filter", "refuse", 0, "hostile.refused"),
    case("transform", "refuse", 0, "hostile.refused"),
    case("auth", "refuse", 0, "hostile.refused"),
    case("filter", "wait", 0, "hostile.not-yet"),
    case("transform", "wait", 0, "hostile.not-yet"),
    case("auth", "wait", 0, "hostile.not-yet"),
    // A nuisance, and no failure.
    case("filter", "log", 1000, "delivered"),
    case("transform", "log", 1000, "delivered"),
    case("auth", "log-empty", 10_000, "delivered"),
    case("auth", "rules-many-headers", 32, "delivered"),
    case("auth", "rules-webhook-id", 0, "plugin.header"),
    case("auth", "rules-schemes", 8, "delivered"),
];

/// What a plugin may not send, whether it shapes or signs.
const HEADERS: &[(&str, usize, &str)] = &[
    ("header-injection", 0, "plugin.header"),
    ("header-newline", 0, "plugin.header"),
    ("header-nul", 0, "plugin.header"),
    ("header-name", 0, "plugin.header"),
    ("content-length", 0, "plugin.header"),
    ("transfer-encoding", 0, "plugin.header"),
    ("connection", 0, "plugin.header"),
    ("host", 0, "plugin.header"),
    ("webhook-id", 0, "plugin.header"),
    ("unknown-secret", 0, "plugin.header"),
    ("many-headers", 40, "delivered"),
    ("many-headers", 100, "plugin.header"),
    ("many-headers", 40_000, "plugin.header"),
    ("many-headers", 200_000, "plugin.output"),
    ("long-header", 10_000, "delivered"),
    ("long-header", 100_000, "plugin.header"),
    ("long-header", 5_000_000, "plugin.output"),
];

#[test]
fn whatever_a_plugin_does_is_a_named_outcome() {
    let receiver = Receiver::ok();
    let mut cases: Vec<_> =
        CASES.iter().map(|it| (it.role, it.behaviour, it.count, it.expected)).collect();
    for role in ["transform", "auth"] {
        cases.extend(
            HEADERS.iter().map(|&(behaviour, count, expected)| (role, behaviour, count, expected)),
        );
    }
    // Time enough for what is to end by another limit, on a slow machine too.
    let hub = hub_with("[limits]\nplugin_deadline = \"1s\"");
    for (role, behaviour, count, _) in &cases {
        let name = format!("{role}-{behaviour}-{count}");
        let text = route(&receiver.url(&format!("/{name}")), "", "schedule = []");
        hub.route(&name, format!("{text}\n[[{role}]]\n{}", uses(behaviour, *count)));
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{\"n\":1}");

    let mut wrong = String::new();
    let mut delivered = 0;
    for (role, behaviour, count, expected) in &cases {
        let name = format!("{role}-{behaviour}-{count}");
        let delivery = engine.ended(&event, &name);
        let attempt = &delivery["attempts"][0];
        let found = attempt["error_code"].as_str().or_else(|| attempt["outcome"].as_str());
        if found != Some(expected) {
            let _ = writeln!(wrong, "{name}: {found:?}, not {expected}: {}", attempt["error"]);
        }
        let outcome = match *expected {
            "delivered" => "delivered",
            "hostile.refused" => "reject",
            _ => "retry",
        };
        if attempt["outcome"] != outcome {
            let _ = writeln!(wrong, "{name}: {} is not {outcome}", attempt["outcome"]);
        }
        if *expected == "delivered" {
            delivered += 1;
        } else if !attempt["request"].is_null() {
            let _ = writeln!(wrong, "{name}: a request is in the log: {}", attempt["request"]);
        }
        if !attempt["plugins"].to_string().contains("hostile@") {
            let _ = writeln!(wrong, "{name}: {} does not name it", attempt["plugins"]);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(receiver.received().len(), delivered, "only what is fit to be sent was sent");
    // A guest that panics says so in the log; a thread of ours would say it of itself.
    assert!(!engine.stderr().contains("\nthread '"), "{}", engine.stderr());
}

#[test]
fn a_failure_is_retried_or_not_as_the_plugin_says() {
    let receiver = Receiver::ok();
    let hub = hub();
    for behaviour in ["refuse", "wait", "trap", "decline"] {
        let text = route(&receiver.url("/"), "", "schedule = [\"10ms\", \"10ms\"]\njitter = 0");
        hub.route(behaviour, format!("{text}\n[[filter]]\n{}", uses(behaviour, 0)));
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    let check = |name: &str, status: &str, attempts: usize| {
        let delivery = engine.ended(&event, name);
        assert_eq!(delivery["status"], status, "{name}");
        assert_eq!(delivery["attempts"].as_array().map(Vec::len), Some(attempts), "{name}");
    };
    check("refuse", "dead", 1);
    check("wait", "dead", 3);
    check("trap", "dead", 3);
    check("decline", "filtered", 0);
    assert_eq!(receiver.received().len(), 0);
}

#[test]
fn what_a_plugin_says_is_short_and_harmless_wherever_it_is_shown() {
    let hub = hub();
    for (behaviour, count) in [("long-failure", 1_000_000), ("forged-failure", 0)] {
        let text = route("http://127.0.0.1:9/", "", "schedule = []");
        hub.route(behaviour, format!("{text}\n[[transform]]\n{}", uses(behaviour, count)));
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    for route in ["long-failure", "forged-failure"] {
        let delivery = engine.ended(&event, route);
        let attempt = &delivery["attempts"][0];
        for (text, bytes_max) in [
            (&attempt["error_code"], 128),
            (&attempt["error"], 8 << 10),
            (&delivery["last_error"], 8 << 10),
        ] {
            let text = text.as_str().expect("a text");
            assert!(text.len() <= bytes_max, "{route}: {} bytes", text.len());
            assert!(!text.contains(char::is_control), "{route}: {text:?}");
        }
    }
    let admin = format!("http://{}", engine.admin);
    let ran = plugpost(["deliveries", "--admin", &admin]);
    assert_eq!(ran.stdout.lines().count(), 2, "{:?}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
}

#[test]
fn a_plugin_cannot_flood_the_log() {
    let receiver = Receiver::ok();
    let hub = hub();
    for (behaviour, count) in [("log", 2000), ("log-empty", 20_000)] {
        let text = route(&receiver.url("/"), "", "schedule = []");
        hub.route(behaviour, format!("{text}\n[[filter]]\n{}", uses(behaviour, count)));
    }
    let engine = Engine::start(&hub);
    let calls = 10;
    for _ in 0..calls {
        engine.send("order.created", "{}");
    }
    engine.drained();
    let stderr = engine.stderr();
    assert!(stderr.contains("flood"), "it may say something");
    assert!(stderr.contains("[cut]"), "and what is cut is marked");
    // 16 KiB of its own a call, what stands before each line, and a call that was
    // made again on another thread because it took long: twice that.
    let bytes = stderr.len() / (calls * 2);
    assert!(bytes < 128 << 10, "{bytes} bytes a call");
}

#[test]
fn one_call_on_the_host_cannot_make_it_work_for_long() {
    let _alone = measuring();
    let receiver = Receiver::ok();
    let hub = hub();
    // 4 GB to digest, or to put into one piece of memory, for 20,000 small words; a
    // path of a million steps.
    let cases = [
        ("auth", "hmac-of-much", 20_000),
        ("auth", "signature-of-much", 20_000),
        ("auth", "verify-much", 20_000),
        ("transform", "long-pointer", 1_000_000),
    ];
    for (role, behaviour, count) in cases {
        let text = route(&receiver.url("/"), "", "schedule = []");
        hub.route(behaviour, format!("{text}\n[[{role}]]\n{}", uses(behaviour, count)));
    }
    let engine = Engine::start(&hub);
    let before = engine.resident_bytes_most();
    let event = engine.send("order.created", vec![b'a'; 200_000]);
    for (_, behaviour, _) in cases {
        let delivery = engine.ended(&event, behaviour);
        let duration = delivery["attempts"][0]["duration_us"].as_u64().expect("µs");
        assert!(duration < 2_000_000, "{behaviour}: {duration} µs");
    }
    let grown = engine.resident_bytes_most().saturating_sub(before) >> 20;
    assert!(grown < 200, "{grown} MiB more than before");
}

#[test]
fn a_source_that_goes_wrong_refuses_what_it_was_asked() {
    let receiver = Receiver::ok();
    let hub = hub();
    hub.route("out", route(&receiver.url("/"), "", "schedule = []"));
    let check_all = [
        ("spin", 0, 503, "plugin.timeout"),
        ("calls", 0, 503, "plugin.timeout"),
        ("recurse", 0, 503, "plugin.stack"),
        ("grow", 0, 503, "plugin.memory"),
        ("trap", 0, 503, "plugin.trap"),
        ("refuse", 0, 400, "never"),
        ("many-events", 1001, 413, "more than 1000 events"),
        ("many-events", 1_000_000, 503, "plugin."),
        ("forged-type", 0, 400, "no control characters"),
        ("long-type", 1025, 400, "1024 bytes"),
        // A rejection is one, whatever its number says.
        ("accepting-rejection", 0, 400, "taken"),
        ("odd-rejection", 0, 400, "a"),
        ("long-rejection", 1_000_000, 400, "mmm"),
    ];
    for (behaviour, count, ..) in check_all {
        hub.source(&format!("{behaviour}-{count}"), &uses(behaviour, count));
    }
    for behaviour in ["fine", "forged-media-type", "end-of-time"] {
        hub.source(behaviour, &uses(behaviour, 0));
    }
    let engine = Engine::start(&hub);
    let post = |name: &str| {
        client::ask(
            engine.public,
            "POST",
            &format!("/in/{name}"),
            &[("content-type", "text/a")],
            b"{}",
        )
    };
    for (behaviour, count, status, detail) in check_all {
        let answer = post(&format!("{behaviour}-{count}"));
        let found = answer.problem(status);
        assert!(found.contains(detail), "{behaviour}: {found:.200}");
        assert!(found.len() < 8 << 10, "{behaviour}: {} bytes", found.len());
        assert!(!found.contains(char::is_control), "{behaviour}: {found:.200}");
        if status == 503 {
            assert!(answer.header("retry-after").is_some(), "{behaviour}");
        }
    }
    assert_eq!(engine.deliveries(""), Vec::<Value>::new(), "nothing of it was kept");

    let arrival = |name: &str| {
        let event = post(name).event_ids().remove(0);
        receiver.until(name, |all| all.iter().find(|it| it.webhook_id() == event).cloned())
    };
    assert_eq!(arrival("fine").header("content-type"), Some("text/a"));
    let forged = arrival("forged-media-type");
    assert_eq!(forged.header("x-injected"), None);
    assert_eq!(forged.header("content-type"), None);
    let late = arrival("end-of-time");
    let event = engine.get(&format!("/v1/events/{}", late.webhook_id())).json();
    assert_eq!(event["time"], "9999-12-31T23:59:59.999Z");
}

#[test]
fn a_plugin_that_spins_delays_neither_other_routes_nor_ingest() {
    let _alone = measuring();
    let receiver = Receiver::ok();
    let hub = hub();
    let of_type = |event_type: &str, path: &str| {
        let text = route(&receiver.url(path), "", "schedule = []");
        text.replace("types = [\"*\"]", &format!("types = [\"{event_type}\"]"))
    };
    hub.route("good", of_type("good", "/good"));
    for role in ["filter", "transform", "auth"] {
        let text = of_type("spin", "/spin");
        hub.route(role, format!("{text}\n[[{role}]]\n{}", uses("spin", 0)));
    }
    hub.source("spin", &uses("spin", 0));
    let engine = Engine::start(&hub);
    let before = pace(&engine, &receiver);
    let resident = engine.resident_bytes();

    let beside = thread::scope(|scope| {
        let engine = &engine;
        for _ in 0..20 {
            scope.spawn(|| engine.send("spin", "{}"));
            scope.spawn(|| client::ask(engine.public, "POST", "/in/spin", &[], b"{}").problem(503));
        }
        eventually("the first to spin", || {
            (!engine.deliveries("type=spin&limit=1").is_empty()).then_some(())
        });
        pace(engine, &receiver)
    });
    // Eighty calls of 100 ms, two or four at a time: spinning where requests are taken in
    // and sent out would hold each of these up for as long.
    let is_well = |it: &Pace| {
        it.answers < before.answers * 4 + Duration::from_secs(1)
            && it.arrival < before.arrival * 5 + Duration::from_millis(500)
    };
    assert!(is_well(&beside), "{beside:?}, before {before:?}");

    engine.drained();
    let dead = engine.deliveries("type=spin&status=dead&limit=500");
    assert_eq!(dead.len(), 60);
    assert!(dead.iter().all(|it| it["last_error"].to_string().contains("plugin.timeout")));
    let grown = engine.resident_bytes().saturating_sub(resident) >> 20;
    assert!(grown < 32, "{grown} MiB more than before");
    let after = pace(&engine, &receiver);
    assert!(is_well(&after), "{after:?}, before {before:?}");
}

/// How long a hundred events take, one after the other.
#[derive(Debug)]
struct Pace {
    /// From the first request to the last acknowledgement.
    answers: Duration,
    /// From an acknowledgement to the delivery, at worst.
    arrival: Duration,
}

fn pace(engine: &Engine, receiver: &Receiver) -> Pace {
    let begun = Instant::now();
    let sent: HashMap<_, _> =
        (0..100).map(|_| (engine.send("good", "{}"), Instant::now())).collect();
    let answers = begun.elapsed();
    let arrival = receiver.until("the good ones", |all| {
        let late = |it: &Arc<Received>| {
            let sent = sent.get(it.webhook_id())?;
            Some(it.at.saturating_duration_since(*sent))
        };
        let late: Vec<_> = all.iter().filter_map(late).collect();
        if late.len() == sent.len() { late.into_iter().max() } else { None }
    });
    Pace { answers, arrival }
}

#[test]
fn what_goes_wrong_costs_one_instance_and_no_memory() {
    let _alone = measuring();
    let receiver = Receiver::ok();
    let hub = hub();
    let behaviours = ["trap", "recurse", "grow", "output"];
    for behaviour in behaviours {
        let text = route(&receiver.url("/"), "", "schedule = []");
        let text = format!("{text}\n[[transform]]\n{}", uses(behaviour, 20_000_000));
        // Many, so that none is given a rest.
        for at in 0..30 {
            hub.route(&format!("{behaviour}-{at}"), &text);
        }
    }
    let engine = Engine::start(&hub);
    let attempt_all = |count: usize| {
        for _ in 0..count {
            engine.send("order.created", "{}");
        }
        engine.drained();
        engine.resident_bytes() >> 20
    };
    // The first few fill the pools that are there to be filled.
    let before = attempt_all(1);
    let after = attempt_all(3);
    assert!(after < before + 48, "{after} MiB, before {before} MiB");
    assert_eq!(engine.deliveries("status=dead&route=trap-7").len(), 4);
    assert_eq!(receiver.received().len(), 0);
}

#[test]
fn a_plugin_that_goes_wrong_while_it_is_set_up_is_a_problem_of_the_file() {
    let hub = hub();
    let cases = [
        ("configure-spin", 0, "plugin.timeout"),
        ("configure-recurse", 0, "plugin.stack"),
        ("configure-grow", 0, "plugin.memory"),
        ("configure-trap", 0, "plugin.trap"),
        ("rules-spin", 0, "plugin.timeout"),
        ("rules-recurse", 0, "plugin.stack"),
        ("rules-grow", 0, "plugin.memory"),
        ("rules-trap", 0, "plugin.trap"),
        ("rules-many-headers", 33, "33 rules are more than 32"),
        ("rules-many-headers", 200_000, "plugin.output"),
        ("rules-long-header", 70_000, "70006 bytes of rules are more than 65536"),
        ("rules-long-header", 5_000_000, "plugin.output"),
        ("rules-schemes", 9, "9 ways to sign are more than 8"),
        ("rules-pieces", 17, "x-signature\": 17 pieces are more than 16"),
        ("rules-pieces", 3, "x-signature\": the body 3 times is more than 2"),
        ("rules-stretches", 17, "x-id\": 17 pieces are more than 16"),
        ("rules-text", 0, "has bytes that a header cannot hold"),
        ("rules-before", 0, "has bytes that a header cannot hold"),
        ("rules-between", 0, "has bytes that a header cannot hold"),
        ("rules-needs", 0, "x-time\": its description has no secret \"of-another-route\""),
        ("rules-unknown-secret", 0, "x-secret\": its description has no secret"),
        ("rules-prefix", 0, "has bytes that a header cannot hold"),
        ("rules-user-name", 0, "a user name for Basic has no colon"),
        ("rules-header-injection", 0, "has bytes that a header cannot hold"),
        ("rules-header-nul", 0, "has bytes that a header cannot hold"),
        ("rules-header-name", 0, "is not a header name"),
        ("rules-content-length", 0, "a plugin cannot set the header `content-length`"),
        ("rules-host", 0, "a plugin cannot set the header `host`"),
    ];
    for (behaviour, count, _) in cases {
        let text = route("http://127.0.0.1:9/", "", "schedule = []");
        let name = format!("{behaviour}-{count}");
        hub.route(&name, format!("{text}\n[[filter]]\n{}", uses(behaviour, count)));
    }
    let ran = plugpost(["check".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for (behaviour, count, what) in cases {
        let start = format!("routes/{behaviour}-{count}.toml:12:10: ");
        let line = ran.stderr.lines().find(|it| it.starts_with(&start));
        assert!(line.is_some_and(|it| it.contains(what)), "{behaviour}: {}", ran.stderr);
    }
    assert!(ran.stderr.ends_with(&format!("error: {} problems\n", cases.len())), "{}", ran.stderr);
}

#[test]
fn what_is_no_plugin_is_refused_by_name_with_the_reason() {
    let good = fs::read(plugin("http-auth")).expect("the plugin can be read");
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..4096).map(|_| random.u8(..)).collect();
    let module = b"\0asm\x01\0\0\0".to_vec();
    // A type, and an import of that type: `env.f`.
    let imports = b"\x01\x04\x01\x60\0\0\x02\x09\x01\x03env\x01f\0\0";
    let untyped = [module.as_slice(), imports].concat();
    let component = b"\0asm\x0d\0\x01\0".to_vec();
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("empty", Vec::new(), "not WebAssembly"),
        ("noise", noise.clone(), "not WebAssembly"),
        ("text", b"(module)".to_vec(), "not WebAssembly"),
        ("truncated", good[..good.len() / 2].to_vec(), "not WebAssembly"),
        ("noisy", [module.clone(), noise].concat(), "not WebAssembly"),
        ("module", module, "does not export plugpost:plugin/plugin@0.1.0"),
        ("untyped", untyped, "a core module without a component type"),
        ("component", component, "does not export plugpost:plugin/plugin@0.1.0"),
        ("machine-code", machine_code(), "compiled machine code (.cwasm), which is never loaded"),
        (
            "newer",
            with_version(&good, b"0.2.0"),
            "built for plugpost:plugin@0.2.0, this host speaks 0.1.0",
        ),
        ("large", vec![0; (64 << 20) + 1], "67108865 bytes are more than"),
    ];
    let hub = Hub::new();
    for (name, bytes, _) in &cases {
        hub.write(format!("plugins/{name}.wasm"), bytes);
    }
    // A route that uses one of them: its own problem is enough.
    hub.route("out", route("http://127.0.0.1:9/", "", "") + "[[filter]]\nplugin = \"noise\"\n");
    let ran = plugpost(["check".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for (name, _, reason) in &cases {
        let start = format!("plugins/{name}.wasm: ");
        let line = ran.stderr.lines().find(|it| it.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{name} is not named in {}", ran.stderr));
        assert!(line.contains(reason), "{line}");
    }
    assert!(ran.stderr.ends_with(&format!("error: {} problems\n", cases.len())), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn a_plugin_with_any_byte_changed_is_loaded_or_refused_and_never_more() {
    // Most of these are refused when they are read, some when they are compiled, some
    // describe themselves wrongly, and a few are as good as before.
    let good = fs::read(plugin("http-auth")).expect("the plugin can be read");
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let hub = Hub::new();
    let count = 40;
    for at in 0..count {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        hub.write(format!("plugins/p{at:02}.wasm"), bytes);
    }
    let ran = plugpost(["check".as_ref(), hub.path().as_os_str()]);
    let lines = ran.stderr.lines().filter(|it| it.starts_with("plugins/p")).count();
    match lines {
        0 => assert_eq!(ran.status, Some(0), "seed {seed}: {ran:?}"),
        _ => assert_eq!(ran.status, Some(1), "seed {seed}: {ran:?}"),
    }
    assert!(!ran.stderr.contains("panicked"), "seed {seed}: {}", ran.stderr);
}

/// The head of an ELF file as wasmtime writes it, and nothing behind it.
fn machine_code() -> Vec<u8> {
    let mut elf = vec![0; 64];
    // Magic; 64 bits, little-endian, version 1, and the ABI that is wasmtime's own.
    elf[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 200]);
    elf[16..20].copy_from_slice(&[1, 0, 62, 0]);
    elf[20] = 1;
    // The flag for a component.
    elf[48] = 2;
    elf[52] = 64;
    elf
}

/// The same plugin, built for another version of the interfaces.
fn with_version(plugin: &[u8], version: &[u8; 5]) -> Vec<u8> {
    let mut bytes = plugin.to_vec();
    let mut count = 0;
    for at in 0..bytes.len() - 6 {
        if &bytes[at..at + 6] == b"@0.1.0" {
            bytes[at + 1..at + 6].copy_from_slice(version);
            count += 1;
        }
    }
    assert!(count > 0, "the version stands in a plugin");
    bytes
}

#[test]
fn a_connection_to_a_source_that_spins_can_still_be_used_for_another() {
    let hub = hub();
    hub.source("spin", &uses("spin", 0)).source("fine", &uses("fine", 0));
    let engine = Engine::start(&hub);
    let mut connection = Connection::open(engine.public).expect("the engine listens");
    for _ in 0..3 {
        let mut ask = |path| connection.ask("POST", path, &[], b"{}").expect("the engine answers");
        ask("/in/spin").problem(503);
        assert_eq!(ask("/in/fine").status, 202);
    }
}
