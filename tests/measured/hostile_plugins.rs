//! Plugins that no SDK would build, made here by hand. What cannot be a plugin is
//! refused in words; what breaks the rules while it runs is an outcome with a
//! name; and the routes beside it do not notice.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{self, Connection};
use crate::support::engine::Engine;
use crate::support::guest::{self, Guest, RESULT, ROOM, header, secret_header, words};
use crate::support::hub::{Hub, TOKEN, route, to};
use crate::support::receiver::{Received, Receiver};
use crate::support::{measuring, plugpost};

const EVENTS: &str = "plugpost:plugin/events@0.1.0";
const LOGGING: &str = "plugpost:plugin/logging@0.1.0";

/// A file that is refused when it is loaded, and what is said of it.
type Refused = (&'static str, Vec<u8>, &'static str);

fn refused() -> Vec<Refused> {
    let filter = || Guest::new("filter");
    let million = "(memory (export \"memory\") 600)";
    let doubling: String = (0..40)
        .map(|at| {
            format!(
                r##""d{at}":{{"allOf":[{{"$ref":"#/$defs/d{}"}},{{"$ref":"#/$defs/d{0}"}}]}},"##,
                at + 1
            )
        })
        .collect();
    let doubling = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{doubling}"d40":{{}}}}}}"##);
    vec![
        // While it says who it is.
        ("describe-spins", filter().describe("(loop (br 0)) unreachable").build(), "plugin.timeout"),
        ("describe-traps", filter().describe("unreachable").build(), "plugin.trap"),
        ("describe-recurses", filter().describe("(call $describe) (drop) (call $describe)").build(), "plugin.stack"),
        (
            "describe-grows",
            filter().describe("(loop (br_if 0 (i32.ne (memory.grow (i32.const 64)) (i32.const -1)))) (loop (br 0)) unreachable").build(),
            "plugin.memory",
        ),
        ("describe-beyond-memory", filter().describe("i32.const 0x7ffffff0").build(), "plugin.trap"),
        ("name-not-utf-8", filter().more(guest::data(256, &[0xff; 5])).build(), "plugin.trap"),
        ("name-with-escapes", filter().more(guest::text(256, "a\u{1b}[2J")).build(), "is not 1 to 64 visible ASCII"),
        ("million-secrets", filter().memory(million).secrets(65_536, 1_000_000).build(), "plugin.output"),
        ("hundred-secrets", filter().secrets(20_000, 100).build(), "100 secrets are more than the 64"),
        ("schema-that-is-none", filter().schema("{").build(), "the settings' schema is not JSON"),
        ("schema-without-end", filter().schema(r##"{"$ref":"#"}"##).build(), "endless"),
        ("schema-doubling", filter().schema(doubling).build(), "more than 10000 parts"),
        ("schema-elsewhere", filter().schema(r#"{"$ref":"file:///etc/passwd"}"#).build(), "leads to #/"),
        // While it is instantiated.
        ("start-spins", filter().more("(func $s (loop (br 0))) (start $s)").build(), "plugin.timeout"),
        ("start-traps", filter().more("(func $s unreachable) (start $s)").build(), "plugin.trap"),
        ("memory-of-4-gib", filter().memory("(memory (export \"memory\") 65535)").build(), "memory"),
        ("table-of-ten-million", filter().more("(table 10000000 funcref)").build(), "table"),
        ("thirty-memories", filter().more("(memory 1)".repeat(30)).build(), "memories"),
        ("hundred-instances", instances(100), "instances"),
        // What it takes the host for.
        (
            "built-for-0.2.0",
            filter().wit("package plugpost:plugin@0.1.0;", "package plugpost:plugin@0.2.0;").build(),
            "built for plugpost:plugin@0.2.0, this host speaks 0.1.0",
        ),
        (
            "role-in-another-shape",
            filter().wit("accept: func(event: borrow<event>) -> result<bool, failure>", "accept: func(event: borrow<event>) -> u32").build(),
            "exports an interface of plugpost:plugin in another shape than in 0.1.0",
        ),
        (
            "describe-in-another-shape",
            filter().wit("summary: string,\n    /// JSON Schema", "/// JSON Schema").build(),
            "exports an interface of plugpost:plugin in another shape than in 0.1.0",
        ),
        (
            "import-in-another-shape",
            filter()
                .wit("log: func(level: string, message: string);", "log: func(level: u32, message: u32);")
                .import(LOGGING, "log", "$log (param i32 i32)")
                .build(),
            "imports an interface in another shape",
        ),
        (
            "import-of-nobody",
            filter()
                .wit("interface logging {", "interface network { dial: func(port: u32); } interface logging {")
                .wit("import logging;", "import network; import logging;")
                .import("plugpost:plugin/network@0.1.0", "dial", "$dial (param i32)")
                .build(),
            "imports `plugpost:plugin/network@0.1.0`, which no plugin may have",
        ),
        ("import-of-http", wat::parse_str("(component (import \"wasi:http/outgoing-handler@0.2.0\" (instance (export \"handle\" (func)))))").expect("text"), "wasi:http/outgoing-handler@0.2.0"),
        ("import-of-sockets", wat::parse_str("(component (import \"wasi:sockets/raw@0.2.0\" (instance (export \"open\" (func)))))").expect("text"), "wasi:sockets/raw"),
        // What the compiler is not asked for.
        ("sixty-thousand-functions", filter().more("(func)".repeat(60_000)).build(), "functions are more than the 50000"),
        ("function-of-2-mib", filter().more(format!("(func {})", "nop ".repeat(2 << 20))).build(), "bytes in one function are more than the 1048576"),
        ("components-in-components", nested(20), "components one in the other are more than the 8"),
        ("three-thousand-instances", instances(3000), "instances are more than the 2000"),
        ("thousand-modules", wat::parse_str(format!("(component {})", "(core module)".repeat(1000))).expect("text"), "modules are more than the 256"),
        ("thirty-thousand-types", wat::parse_str(format!("(component {})", "(type u32)".repeat(30_000))).expect("text"), "types are more than the 20000"),
        // What the compiler refuses, in its own process.
        ("types-in-types", types(5000), "did not compile"),
        ("not-valid", wat::parse_str("(component (core module (func (result i32))))").expect("text"), "did not compile"),
        (
            "branches-to-too-many",
            filter().more(format!("(func (br_table {} (i32.const 0)))", "0 ".repeat(100_000))).build(),
            "did not compile",
        ),
        ("branches-to-nowhere", filter().more("(func (br_table 9 9 (i32.const 0)))").build(), "did not compile"),
    ]
}

fn nested(levels: usize) -> Vec<u8> {
    let text = "(component ".repeat(levels) + &")".repeat(levels);
    wat::parse_str(text).expect("text")
}

fn instances(count: usize) -> Vec<u8> {
    let one = "(core instance (instantiate $m))";
    wat::parse_str(format!("(component (core module $m) {})", one.repeat(count))).expect("text")
}

/// A list of lists of lists.
fn types(levels: usize) -> Vec<u8> {
    let mut text = "(component (type $t0 (list u8))".to_owned();
    for level in 0..levels {
        text += &format!("(type $t{} (list $t{level}))", level + 1);
    }
    wat::parse_str(text + ")").expect("text")
}

#[test]
fn what_cannot_be_a_plugin_is_refused_in_words_at_once() {
    let _alone = measuring();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let hub = Hub::new();
    let mut refused = refused();
    let remote = format!(r#"{{"$ref":"http://{address}/schema.json"}}"#);
    refused.push((
        "schema-on-another-host",
        Guest::new("filter").schema(remote).build(),
        "leads to #/",
    ));
    for (name, bytes, _) in &refused {
        hub.write(format!("plugins/{name}.wasm"), bytes);
    }
    // What is a plugin, and not with these settings.
    let filter = || Guest::new("filter");
    let backwards = r#"{"properties":{"name":{"pattern":"^(a|aa|a?)+(?=b)\\1c$"}}}"#;
    let unfit = [
        ("configure-spins", filter().configure("(loop (br 0)) unreachable"), "plugin.timeout"),
        ("configure-traps", filter().configure("unreachable"), "plugin.trap"),
        ("problems-beyond-memory", filter().configure("i32.const 0x7ffffff0"), "plugin.trap"),
        ("settings-to-nowhere", filter().realloc("i32.const 0xfffffff0"), "plugin.trap"),
        ("pattern-that-looks-back", filter().schema(backwards), "settings.name"),
        ("rules-that-are-none", Guest::new("auth-rules"), "has no `auth` that could be called"),
        (
            "rules-beyond-memory",
            Guest::new("auth-rules").call("i32.const 0x7ffffff0"),
            "plugin.trap",
        ),
    ];
    for (name, guest, _) in &unfit {
        hub.write(format!("plugins/{name}.wasm"), guest.build());
        let name_40 = "a".repeat(40);
        let role = if name.starts_with("rules-") { "auth" } else { "filter" };
        let uses = format!("[[{role}]]\nplugin = \"{name}\"\nsettings.name = \"{name_40}\"\n");
        hub.route(name, format!("{}\n{uses}", to("http://127.0.0.1:9/")));
    }
    // Nothing of it is on the disk.
    let large = File::create(hub.path().join("plugins/hundred-megabytes.wasm")).expect("a file");
    large.set_len(100 << 20).expect("a length");
    refused.push(("hundred-megabytes", Vec::new(), "104857600 bytes are more than the 67108864"));

    let begun = Instant::now();
    let ran = plugpost(["check".as_ref(), hub.path().as_os_str()]);
    let took = begun.elapsed();
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let mut wrong = Vec::new();
    let refused =
        refused.iter().map(|(name, _, reason)| (format!("plugins/{name}.wasm: "), reason));
    let unfit = unfit.iter().map(|(name, _, reason)| (format!("routes/{name}.toml:"), reason));
    let all: Vec<_> = refused.chain(unfit).collect();
    for (start, reason) in &all {
        let said = ran.stderr.lines().find(|it| it.starts_with(start)).unwrap_or_default();
        if !said.contains(**reason) || said.len() > 1024 || said.contains(char::is_control) {
            wrong.push(format!("{start}{reason:?} is not said: {said:.1500}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran.stderr.ends_with(&format!("error: {} problems\n", all.len())), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert!(took < Duration::from_secs(30), "{} files took {took:?}", all.len());
    assert!(listener.accept().is_err(), "nobody fetches a schema");
    eprintln!("{} plugins refused in {took:?}", all.len());
}

/// A plugin of a role whose one attempt ends so.
type Ends = (&'static str, &'static str, Guest, &'static str);

fn ends() -> Vec<Ends> {
    let filter = || Guest::new("filter");
    let transform = || Guest::new("transform");
    let auth = || Guest::new("auth");
    let id = |guest: Guest| {
        guest.import(EVENTS, "[method]event.id", "$id (param i32 i32)").import(
            EVENTS,
            "[method]event.data",
            "$data (param i32 i32)",
        )
    };
    // A transform's answer: the method POST, so many headers that lie there, the body unchanged.
    let message = |headers: [u32; 2]| {
        let answer = [0, ROOM, 4, headers[0], headers[1], 0, 0, 0];
        transform().more(words(RESULT, &answer)).more(guest::text(ROOM, "POST"))
    };
    let with_header = |record: [u32; 7], name: &str, value: &[u8]| {
        message([ROOM + 64, 1])
            .more(words(ROOM + 64, &record))
            .more(guest::text(ROOM + 256, name))
            .more(guest::data(ROOM + 512, value))
    };
    let named = |name: &str, value: &[u8]| {
        let record = header((ROOM + 256, name.len() as u32), (ROOM + 512, value.len() as u32));
        with_header(record, name, value)
    };
    let secret = |name: &str| {
        let record = secret_header((ROOM + 256, 8), (ROOM + 512, name.len() as u32));
        with_header(record, "x-secret", name.as_bytes())
    };
    let spin = "(loop (br 0)) unreachable";
    let large = "(memory (export \"memory\") 600)";
    vec![
        ("accept-traps", "filter", filter().call("unreachable"), "plugin.trap"),
        ("apply-traps", "transform", transform().call("unreachable"), "plugin.trap"),
        ("sign-traps", "auth", auth().call("unreachable"), "plugin.trap"),
        ("accept-spins", "filter", filter().call(spin), "plugin.timeout"),
        ("apply-spins", "transform", transform().call(spin), "plugin.timeout"),
        ("sign-spins", "auth", auth().call(spin), "plugin.timeout"),
        ("recurses", "filter", filter().call("(call $call (local.get 0)) (drop) (call $call (local.get 0))"), "plugin.stack"),
        (
            "grows",
            "filter",
            filter().call("(loop (drop (memory.grow (i32.const 64))) (br 0)) unreachable"),
            "plugin.memory",
        ),
        ("grows-a-table", "filter", filter().more("(table $t 1 funcref)").call("(loop (drop (table.grow $t (ref.null func) (i32.const 30000))) (br 0)) unreachable"), "plugin.trap"),
        ("divides-by-zero", "filter", filter().call("(i32.div_u (i32.const 1) (i32.const 0))"), "plugin.trap"),
        // At the boundary.
        ("result-beyond-memory", "filter", filter().call("(call $drop (local.get 0)) (i32.const 0x7ffffff0)"), "plugin.trap"),
        ("result-unaligned", "filter", filter().call("(call $drop (local.get 0)) (i32.const 2049)"), "plugin.trap"),
        ("result-neither-nor", "filter", filter().more(words(RESULT, &[9, 9])), "plugin.trap"),
        ("method-beyond-memory", "transform", message([0, 0]).more(words(RESULT, &[0, 0x7fff_ff00, 4, 0, 0, 0, 0, 0])), "plugin.trap"),
        ("headers-beyond-memory", "transform", message([ROOM, 100_000]), "plugin.trap"),
        ("million-headers", "transform", message([65_536, 1_000_000]).memory(large), "plugin.output"),
        ("body-of-30-mb", "transform", message([0, 0]).memory(large).more(words(RESULT, &[0, ROOM, 4, 0, 0, 1, 65_536, 30_000_000])), "plugin.output"),
        ("body-neither-nor", "transform", message([0, 0]).more(words(RESULT, &[0, ROOM, 4, 0, 0, 7, 0, 0])), "plugin.trap"),
        ("header-not-utf-8", "transform", named("x-note", &[0xff, 0xfe]), "plugin.trap"),
        ("header-injection", "transform", named("x-note", b"a\r\nx-injected: yes"), "plugin.header"),
        ("content-length", "transform", named("content-length", b"1"), "plugin.header"),
        ("transfer-encoding", "transform", named("transfer-encoding", b"chunked"), "plugin.header"),
        ("secret-it-was-not-given", "transform", secret("erp"), "plugin.header"),
        // Handles.
        ("handle-forged", "filter", id(filter()).call("(call $id (i32.const 77) (i32.const 4096)) unreachable"), "plugin.trap"),
        ("handle-used-after-drop", "filter", id(filter()).call("(call $drop (local.get 0)) (call $id (local.get 0) (i32.const 4096)) unreachable"), "plugin.trap"),
        ("handle-dropped-twice", "filter", filter().call("(call $drop (local.get 0)) (call $drop (local.get 0)) unreachable"), "plugin.trap"),
        ("handle-kept", "filter", filter().call(format!("(i32.const {RESULT})")), "plugin.trap"),
        // Memory it gives the host to write to.
        ("answer-beyond-memory", "filter", id(filter()).call("(call $id (local.get 0) (i32.const 0x7ffffff0)) unreachable"), "plugin.trap"),
        (
            "memory-that-is-none",
            "filter",
            id(filter()).more("(global $evil (mut i32) (i32.const 0))").call("(global.set $evil (i32.const 1)) (call $id (local.get 0) (i32.const 4096)) unreachable")
                .realloc("(if (result i32) (global.get $evil) (then (i32.const 0xfffffff0)) (else (i32.const 40000)))"),
            "plugin.trap",
        ),
        (
            "allocating-without-end",
            "filter",
            id(filter()).more("(global $evil (mut i32) (i32.const 0))").call("(global.set $evil (i32.const 1)) (call $id (local.get 0) (i32.const 4096)) unreachable")
                .realloc("(if (global.get $evil) (then (loop (br 0)))) (i32.const 40000)"),
            "plugin.timeout",
        ),
        (
            "calling-while-allocating",
            "filter",
            id(filter()).more("(global $evil (mut i32) (i32.const 0))").call("(global.set $evil (i32.const 1)) (call $id (local.get 0) (i32.const 4096)) unreachable")
                .realloc("(if (global.get $evil) (then (call $id (i32.const 1) (i32.const 4096)))) (i32.const 40000)"),
            "plugin.trap",
        ),
        (
            "storm-of-calls",
            "filter",
            id(filter()).realloc("(i32.const 40000)").call("(loop (call $data (local.get 0) (i32.const 4096)) (br 0)) unreachable"),
            "plugin.timeout",
        ),
        (
            "flood-of-lines",
            "filter",
            filter().import(LOGGING, "log", "$log (param i32 i32 i32 i32)").call("(loop (call $log (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 5)) (br 0)) unreachable"),
            "plugin.timeout",
        ),
        // Large, and allowed: it costs the compiler, not the host.
        (
            "blocks-in-blocks",
            "filter",
            filter().more(format!("(func {} {})", "block ".repeat(20_000), "end ".repeat(20_000))),
            "delivered",
        ),
        (
            "branches-to-everywhere",
            "filter",
            filter().more(format!("(func {} (br_table {} (i32.const 0)) {})", "block ".repeat(100), (0..60_000).map(|it| (it % 100).to_string()).collect::<Vec<_>>().join(" "), "end ".repeat(100))),
            "delivered",
        ),
    ]
}

fn hub_of(ends: &[Ends], receiver: &Receiver) -> Hub {
    let hub = Hub::new();
    for (name, role, guest, _) in ends {
        hub.write(format!("plugins/{name}.wasm"), guest.build());
        let text = route(&receiver.url("/hostile"), "", "schedule = []");
        let text = format!("{text}\n[[{role}]]\nplugin = \"{name}\"\n");
        let all = text.replace("types = [\"*\"]", "types = [\"hostile\"]");
        hub.route(name, all);
        // Several, so that none is called often enough to be given a rest.
        for at in 0..ROUTES {
            let types = format!("types = [\"{name}-{at}\"]");
            hub.route(&format!("{name}-{at}"), text.replace("types = [\"*\"]", &types));
        }
    }
    let tame = Guest::new("filter").more(words(RESULT, &[0, 1])).build();
    hub.write("plugins/tame.wasm", tame);
    let text = to(&receiver.url("/tame")).replace("types = [\"*\"]", "types = [\"tame\"]");
    hub.route("tame", format!("{text}\n[[filter]]\nplugin = \"tame\"\n"));
    hub.route("good", to(&receiver.url("/good")).replace("types = [\"*\"]", "types = [\"good\"]"));
    hub
}

#[test]
fn whatever_a_plugin_does_at_the_boundary_is_an_outcome_and_the_route_beside_it_goes_on() {
    let _alone = measuring();
    let receiver = Receiver::ok();
    let ends = ends();
    // A filter that lets everything pass answers `true`.
    let ends: Vec<Ends> = ends
        .into_iter()
        .map(|(name, role, guest, end)| match end {
            "delivered" => (name, role, guest.more(words(RESULT, &[0, 1])), end),
            _ => (name, role, guest, end),
        })
        .collect();
    let hub = hub_of(&ends, &receiver);
    hub.write("plugins/receive-traps.wasm", Guest::new("source").call("unreachable").build());
    hub.source("receive-traps", "plugin = \"receive-traps\"\n");
    let engine = Engine::start(&hub);
    client::ask(engine.public, "POST", "/in/receive-traps", &[], b"{}").problem(503);

    let event = engine.send("hostile", "{\"n\":1}");
    let mut wrong = Vec::new();
    for (name, _, _, expected) in &ends {
        let delivery = engine.ended(&event, name);
        let attempt = &delivery["attempts"][0];
        let found = attempt["error_code"].as_str().or_else(|| attempt["outcome"].as_str());
        if found != Some(expected) {
            wrong.push(format!("{name}: {found:?}, not {expected}: {}", attempt["error"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Everything has been called once. From here on only the load differs.
    engine.fill_the_store();
    let settled = |engine: &Engine| {
        engine.drained();
        client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
        engine.resident_bytes()
    };
    let of_all = |at| ends.iter().map(move |(name, ..)| format!("{name}-{at}"));
    let names: Vec<_> = (0..ROUTES).flat_map(of_all).collect();
    // Each round goes on where the one before ended.
    let mut hostile = names.iter().map(String::as_str).cycle();
    (0..3).for_each(|_| one_after_the_other(&engine, &mut hostile));
    let mut before = settled(&engine);
    let mut tries = Vec::new();
    // Others use this machine as well: a try in which they did more than we is made again.
    let well = (0..TRIES).any(|_| {
        let beside_each = |names: &mut (dyn Iterator<Item = &str> + Send)| {
            thread::scope(|scope| {
                scope.spawn(|| one_after_the_other(&engine, names));
                p99(&engine, &receiver)
            })
        };
        let alone = beside_each(&mut std::iter::repeat("tame"));
        let beside = beside_each(&mut hostile);
        tries.push((alone, beside));
        beside <= alone.mul_f64(1.5).max(alone + FLOOR)
    });
    eprintln!("p99 alone and beside: {tries:?}");
    assert!(well, "p99 alone and beside hostile plugins: {tries:?}");
    // What a failure leaves behind it leaves behind every time: it grows in every round.
    let grows = (0..ROUNDS).all(|_| {
        one_after_the_other(&engine, &mut hostile);
        refused_files_come_and_go(&hub, &engine);
        let after = settled(&engine);
        eprintln!("{} and {} MiB", before >> 20, after >> 20);
        let grew = after > before + before / 20;
        before = after;
        grew
    });
    assert!(!grows, "{before} bytes at last");
    assert!(!engine.stderr().contains("panicked"), "{}", engine.stderr());
}

/// Routes of each hostile plugin, called in turn.
const ROUTES: usize = 8;

/// Of the comparison with the harmless.
const TRIES: usize = 9;

/// After each of which memory may have grown, and not after all.
const ROUNDS: usize = 3;

/// What is below the noise of two processors that others use too.
const FLOOR: Duration = Duration::from_millis(1);

/// A hundred calls in three seconds, by the routes of these names in turn.
fn one_after_the_other(engine: &Engine, names: &mut (dyn Iterator<Item = &str> + Send)) {
    for name in names.take(100) {
        engine.send(name, "{\"n\":1}");
        thread::sleep(Duration::from_millis(30));
    }
}

fn refused_files_come_and_go(hub: &Hub, engine: &Engine) {
    let spins = Guest::new("filter").describe("(loop (br 0)) unreachable").build();
    for _ in 0..4 {
        hub.write("plugins/bad.wasm", &spins);
        client::ask(engine.admin, "POST", "/v1/reload", &[], b"").problem(422);
        fs::remove_file(hub.path().join("plugins/bad.wasm")).expect("it is there");
        client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    }
}

/// Of 600 events at 200 a second, from the request to the arrival at the receiver.
fn p99(engine: &Engine, receiver: &Receiver) -> Duration {
    let mut connection = Connection::open(engine.public).expect("the engine listens");
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let begun = Instant::now();
    let sent: HashMap<String, Instant> = (0..600)
        .map(|turn| {
            let due = begun + Duration::from_millis(5) * turn;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            let answer = connection.ask("POST", "/in/erp/good", &headers, b"{}");
            (answer.expect("the engine answers").event_ids().remove(0), asked)
        })
        .collect();
    receiver.until("the good ones", |all| {
        let took = |it: &Arc<Received>| Some(it.at.duration_since(*sent.get(it.webhook_id())?));
        let mut took: Vec<_> = all.iter().filter_map(took).collect();
        took.sort_unstable();
        (took.len() == sent.len()).then(|| took[took.len() * 99 / 100])
    })
}
