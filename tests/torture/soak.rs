//! Time, compressed: five platforms' plugins, endpoints that fail and dawdle,
//! reloads, resends, recoveries and a log that is as long as it may be. In the end
//! memory, files, threads and the store are what they were, and nothing is lost.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Run;
use crate::support::client::{self, Connection};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, route};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{eventually, files, measuring, root};

/// The plugins, what their secrets are called, and what else their routes say.
const PLATFORMS: [(&str, &str, &str); 5] = [
    ("b2b-ninja", "shared", ""),
    ("bigcommerce-b2b", "client_secret", "settings.store_id = \"1\"\nsettings.store_hash = \"s\""),
    ("buildr", "key", "settings.base_url = \"https://app.example.com\""),
    ("nue", "shared", ""),
    ("ordermentum", "password", "settings.username = \"orchard\""),
];

/// 32 characters, which is a key for each of them.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Each with one event under way.
const SENDERS: usize = 4;

const PAUSE: Duration = Duration::from_millis(4);

/// Above it the log loses its oldest events.
const LOG_BYTES: u64 = 48 << 20;

/// How often it is looked at.
const LOOKS: u32 = 12;

/// What an engine holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident: u64,
    handles: usize,
    threads: usize,
    store: u64,
}

#[test]
fn hours_of_everything_leave_it_as_it_was() {
    let _measuring = measuring();
    let run = Run::begin("soak, seconds", 5, 600);
    let receiver = Receiver::start(|it| {
        if it.path == "/slow" {
            thread::sleep(Duration::from_millis(20));
        }
        let fails = it.path == "/failing" || (it.path == "/flaky" && fastrand::u8(..3) == 0);
        Reply::status(if fails { 500 } else { 200 })
    });
    let tables = format!("[store]\nretention_bytes = {LOG_BYTES}");
    let hub = Hub::with("", &tables);
    let events = events();
    for (platform, secret, more) in PLATFORMS {
        let types: Vec<_> = events.iter().filter(|it| it.0 == platform).map(|it| &*it.1).collect();
        hub.plugin(platform).secret(platform, SECRET).route(
            platform,
            format!(
                "from = \"erp\"\ntypes = {types:?}\nplatform = \"{platform}\"\n{more}\n\
                 secrets.{secret} = {{ file = \"secrets/{platform}\" }}\n\n\
                 [endpoint]\nurl = \"{}\"\nhttps_only = false\n{}\nconcurrency = 16\n\
                 rate_limit = \"10000/s\"\n",
                receiver.url(&format!("/{platform}")),
                match platform {
                    "bigcommerce-b2b" => format!("port = {}", receiver.address.port()),
                    _ => String::new(),
                }
            ),
        );
    }
    // What fails ends soon: a backlog that grows would be no leak.
    let retry = "schedule = [\"200ms\", \"500ms\"]\n[breaker]\nenabled = false";
    for path in ["/failing", "/flaky", "/slow"] {
        hub.route(
            &path[1..],
            route(&receiver.url(path), "", retry).replace("\"*\"]", "\"order*\"]"),
        );
    }
    let engine = Engine::start(&hub);

    let (stopped, reloads, steps, recovered) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    let acknowledged = Mutex::new(HashMap::new());
    let mut held = Vec::new();
    let go_on = &|| !stopped.load(Ordering::SeqCst);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (engine, events, acknowledged) = (&engine, &events, &acknowledged);
            scope.spawn(move || {
                let mut connection = Connection::open(engine.public).expect("it listens");
                let token = format!("Bearer {TOKEN}");
                let headers =
                    [("authorization", token.as_str()), ("content-type", "application/json")];
                for (platform, kind, data) in events.iter().cycle().skip(sender) {
                    let path = format!("/in/erp/{kind}");
                    let answer = connection.ask("POST", &path, &headers, data);
                    let id = answer.expect("it answers").event_ids().remove(0);
                    acknowledged.lock().expect("no sender panicked").insert(id, platform);
                    thread::sleep(PAUSE);
                    if !go_on() {
                        return;
                    }
                }
            });
        }
        scope.spawn(|| {
            while go_on() {
                let limit = 8 + reloads.fetch_add(1, Ordering::SeqCst) % 2;
                let endpoint = format!("concurrency = {limit}");
                let text = route(&receiver.url("/slow"), &endpoint, retry);
                hub.route("slow", text.replace("\"*\"]", "\"order*\"]"));
                let answer = client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
                assert_eq!(answer.status, 200, "{}", answer.text());
                thread::sleep(Duration::from_millis(500));
            }
        });
        scope.spawn(|| {
            while go_on() {
                for row in engine.deliveries("status=dead&limit=5") {
                    let path =
                        format!("/v1/deliveries/{}/resend", row["id"].as_str().expect("an id"));
                    let answer = client::ask(engine.admin, "POST", &path, &[], b"");
                    // It may have gone with the oldest of the log.
                    assert!(
                        matches!(answer.status, 200..=202 | 404 | 409 | 410),
                        "{}",
                        answer.text()
                    );
                    steps.fetch_add(1, Ordering::SeqCst);
                }
                recovered.fetch_add(recover(&engine), Ordering::SeqCst);
                for path in ["/metrics", "/v1/stats", "/v1/endpoints", "/v1/events?limit=50"] {
                    assert_eq!(engine.get(path).status, 200, "{path}");
                }
                thread::sleep(Duration::from_millis(300));
            }
        });
        let pause = Duration::from_secs(run.rounds as u64) / LOOKS;
        for _ in 0..LOOKS {
            thread::sleep(pause);
            held.push(Held::by(&engine, &hub));
        }
        stopped.store(true, Ordering::SeqCst);
    });
    let acknowledged = acknowledged.into_inner().expect("no sender panicked");
    let lost = lost(&receiver, &acknowledged);
    let dead = |platform: &str| engine.deliveries(&format!("status=dead&route={platform}&limit=1"));
    let dead: Vec<_> = PLATFORMS.iter().flat_map(|it| dead(it.0)).collect();
    assert!(dead.is_empty(), "{dead:?}");
    let ended = engine.stop();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let (reloads, steps) = (reloads.into_inner(), steps.into_inner());
    let recovered = recovered.into_inner();
    let counts = ("reloads", reloads, "resent", steps, "recovered", recovered);
    run.end((acknowledged.len(), "lost", lost, counts, &held));
    assert_eq!(lost, 0);
    assert!(reloads > 2 && acknowledged.len() > 100 && recovered > 0);
    let steady = run.rounds >= STEADY_AFTER;
    assert!(!steady || grown(&held).is_empty(), "{:?}: {held:?}", grown(&held));
}

/// Seconds after which it has met everything once and the log is full.
const STEADY_AFTER: usize = 300;

/// Recover what the flaky endpoint did not take lately; how much was sent again.
fn recover(engine: &Engine) -> u64 {
    let dead = engine.deliveries("status=dead&route=flaky&limit=10");
    let Some(oldest) = dead.last() else { return 0 };
    let range = json!({ "route": "flaky", "since": oldest["created_at"] }).to_string();
    let begun = client::ask(engine.admin, "POST", "/v1/recover", &[], range.as_bytes());
    assert_eq!(begun.status, 202, "{}", begun.text());
    let path = format!("/v1/recover/{}", begun.json()["id"].as_str().expect("an id"));
    let run = eventually("a recovery to end", || {
        Some(engine.get(&path).json()).filter(|it| it["state"] != "running")
    });
    assert_eq!(run["state"], "done", "{run}");
    run["resent"].as_u64().expect("a number")
}

/// The platform, the type and the data of each event that an example's cases have.
fn events() -> Vec<(&'static str, String, Vec<u8>)> {
    let read = |file| -> Value {
        serde_json::from_slice(&fs::read(file).expect("a case")).expect("a case is JSON")
    };
    let cases = files(&root().join("examples/senders-hub/tests"), "json");
    let events: Vec<_> = cases
        .iter()
        .map(|file| {
            let name = file.file_stem().expect("a name").to_string_lossy();
            let is_of = |it: &str| name.contains(it.split('-').next().unwrap_or(it));
            let (platform, ..) = *PLATFORMS
                .iter()
                .find(|it| is_of(it.0))
                .unwrap_or_else(|| panic!("{name} is of no platform"));
            let event = &read(file)["event"];
            let text = |of: &str| event[of].as_str().expect("text").to_owned();
            // Nothing else says which opportunity it is.
            let data = match event["subject"].as_str() {
                Some(subject) => format!("{{\"id\": \"{subject}\"}}"),
                None => text("data"),
            };
            (platform, text("type"), data.into_bytes())
        })
        .collect();
    let platforms: HashSet<_> = events.iter().map(|it| it.0).collect();
    assert_eq!(platforms.len(), PLATFORMS.len(), "{platforms:?}");
    events
}

/// Acknowledged, and not at its platform's endpoint after a while.
fn lost(receiver: &Receiver, acknowledged: &HashMap<String, &&'static str>) -> usize {
    let begun = Instant::now();
    loop {
        let received = receiver.received();
        let arrived: HashSet<_> =
            received.iter().map(|it| (it.path.trim_start_matches('/'), it.webhook_id())).collect();
        let missing = |it: &&(&String, &&&'static str)| !arrived.contains(&(**it.1, it.0.as_str()));
        let lost = acknowledged.iter().collect::<Vec<_>>().iter().filter(missing).count();
        if lost == 0 || begun.elapsed() > crate::support::PATIENCE {
            return lost;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

impl Held {
    fn by(engine: &Engine, hub: &Hub) -> Self {
        let count = |of: &str| {
            let folder = format!("/proc/{}/{of}", engine.pid());
            fs::read_dir(folder).map_or(0, Iterator::count)
        };
        let size = |suffix: &str| {
            let path = hub.path().join(format!("plugpost.db{suffix}"));
            fs::metadata(path).map_or(0, |it| it.len())
        };
        Self {
            resident: engine.resident_bytes(),
            handles: count("fd"),
            threads: count("task"),
            store: size("") + size("-wal"),
        }
    }
}

/// What is looked at, and how much more of it is no growth.
type Check = (&'static str, fn(&Held) -> u64, u64);

/// What is never as little in the last third as it was in the second.
fn grown(held: &[Held]) -> Vec<&'static str> {
    let third = held.len() / 3;
    let least = |of: fn(&Held) -> u64, range: &[Held]| range.iter().map(of).min().unwrap_or(0);
    let (second, last) = (&held[third..2 * third], &held[2 * third..]);
    let checks: [Check; 4] = [
        ("memory", |it| it.resident, 8 << 20),
        ("handles", |it| it.handles as u64, 8),
        ("threads", |it| it.threads as u64, 4),
        ("the store", |it| it.store, 8 << 20),
    ];
    let more = |(_, of, some): &Check| {
        let before = least(*of, second);
        least(*of, last) > before + before / 20 + some
    };
    checks.iter().filter(|it| more(it)).map(|it| it.0).collect()
}

#[test]
fn what_grows_and_does_not_stop_is_seen() {
    let held =
        |step: u64| Held { resident: (64 << 20) + step, handles: 40, threads: 9, store: 48 << 20 };
    let steady: Vec<_> = (0..12).map(|_| held(0)).collect();
    let grows: Vec<_> = (0..12).map(|it| held(it << 22)).collect();
    assert_eq!(grown(&steady), [""; 0]);
    assert_eq!(grown(&grows), ["memory"]);
}
