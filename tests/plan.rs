//! `plugpost plan`: nothing changes where nothing was changed, and whatever was
//! changed is shown on what was really sent.

use std::ffi::OsStr;
use std::fs;

use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::hub::Hub;
use crate::support::receiver::{Receiver, Reply};
use crate::support::{Ran, plugpost};

/// A platform, an event type of it, and what its route needs beside a URL.
const PLATFORMS: [(&str, &str, &str); 5] = [
    ("b2b-ninja", "quote.created", "secrets.shared = { file = \"secrets/plain\" }"),
    (
        "bigcommerce-b2b",
        "store/company/created",
        "settings.store_id = \"77\"\nsettings.store_hash = \"abc123\"\n\
         secrets.client_secret = { file = \"secrets/plain\" }",
    ),
    (
        "buildr",
        "opportunity.create",
        "settings.base_url = \"https://crm.example.com\"\nsecrets.key = { file = \"secrets/key\" }",
    ),
    ("nue", "order.activated", "secrets.shared = { file = \"secrets/plain\" }"),
    (
        "ordermentum",
        "order_created",
        "settings.username = \"acme\"\nsecrets.password = { file = \"secrets/plain\" }",
    ),
];

const BODY: &str =
    r#"{"id":"a-1","total":1.10,"lines":[{"sku":"x","count":12345678901234567890}]}"#;

/// A hub that has sent an event of each platform, and several that no platform shaped.
fn sent() -> (Hub, Receiver) {
    let receiver = Receiver::start(|request| {
        Reply::status(if request.path == "/failing" { 500 } else { 200 })
    });
    let hub = Hub::new();
    hub.secret("plain", "shared-0123456789")
        .secret("key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let endpoint = |path: &str| {
        format!("[endpoint]\nurl = \"{}\"\n[retry]\nschedule = [\"10ms\"]\n", receiver.url(path))
    };
    for (platform, event_type, rest) in PLATFORMS {
        hub.plugin(platform);
        let open =
            "https_only = false\nport = 1\n".replace('1', &receiver.address.port().to_string());
        let endpoint = endpoint("/").replace("[retry]", &format!("{open}[retry]"));
        let head = format!(
            "from = \"erp\"\ntypes = [\"{event_type}\"]\nplatform = \"{platform}\"\n{rest}\n"
        );
        hub.route(platform, format!("{head}{endpoint}"));
    }
    hub.plugin("standard-webhooks");
    let signed =
        "[[auth]]\nplugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/key\" }\n";
    let head = "from = \"erp\"\ntypes = [\"plain.*\"]\n";
    hub.route("plain", format!("{head}{signed}{}", endpoint("/")));
    hub.route("failing", format!("{head}{}", endpoint("/failing")));
    let engine = Engine::start(&hub);
    for (_, event_type, _) in PLATFORMS {
        engine.send(event_type, BODY);
    }
    for body in ["{}", "", "no JSON \x1b[2J", "{\"a\": 1.10}"] {
        engine.send("plain.text", body);
    }
    engine.drained();
    assert_eq!(engine.deliveries("status=delivered").len(), PLATFORMS.len() + 4);
    let ended = engine.stop();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    // What was sent tells; no secret is needed to look at it again.
    fs::remove_dir_all(hub.path().join("secrets")).expect("it is there");
    (hub, receiver)
}

fn plan(hub: &Hub, arguments: &[&str]) -> Ran {
    let folder = [OsStr::new("plan"), hub.path().as_os_str()];
    plugpost(folder.into_iter().chain(arguments.iter().map(OsStr::new)))
}

fn differences(hub: &Hub) -> Vec<Value> {
    let ran = plan(hub, &["--json"]);
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let differences = answer["differences"].as_array().expect("a list").clone();
    assert_eq!(ran.status, Some(i32::from(!differences.is_empty())), "{}", ran.stderr);
    differences
}

fn edit(hub: &Hub, file: &str, from: &str, to: &str) {
    let path = hub.path().join(file);
    let before = fs::read_to_string(&path).expect("a file");
    let after = before.replace(from, to);
    assert_ne!(before, after);
    fs::write(path, after).expect("a file");
}

#[test]
pub(crate) fn a_folder_that_was_not_changed_changes_nothing() {
    let (hub, _receiver) = sent();
    let ran = plan(&hub, &[]);
    assert_eq!(ran.stdout, "9 events, 13 deliveries compared: 0 differ\n", "{}", ran.stderr);
    assert_eq!(ran.status, Some(0));
    // And again: nothing remains of the first time.
    assert_eq!(plan(&hub, &["--last", "2"]).stdout, "2 events, 4 deliveries compared: 0 differ\n");
}

#[test]
fn another_setting_is_shown_as_a_diff_of_the_body() {
    let (hub, _receiver) = sent();
    edit(&hub, "routes/bigcommerce-b2b.toml", "\"77\"", "\"78\"");
    let ran = plan(&hub, &[]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
    assert!(ran.stdout.starts_with("route bigcommerce-b2b\n  evt_"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("-  \"store_id\": \"77\",\n    +  \"store_id\": \"78\","),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.ends_with("9 events, 13 deliveries compared: 1 differs\n"),
        "{}",
        ran.stdout
    );
}

#[test]
pub(crate) fn another_url_plugin_or_filter_is_a_difference_and_another_limit_is_none() {
    let (hub, _receiver) = sent();
    edit(&hub, "routes/failing.toml", "[endpoint]", "[endpoint]\nconcurrency = 2");
    assert_eq!(differences(&hub), Vec::<Value>::new());

    edit(&hub, "routes/failing.toml", "/failing", "/elsewhere");
    let moved = differences(&hub);
    assert_eq!(moved.len(), 4);
    assert!(moved.iter().all(|it| it["route"] == "failing"));
    assert!(moved[0]["now"]["url"].as_str().is_some_and(|it| it.ends_with("/elsewhere")));
    edit(&hub, "routes/failing.toml", "/elsewhere", "/failing");

    edit(
        &hub,
        "routes/plain.toml",
        "standard-webhooks\"\n",
        "http-auth\"\nsettings.scheme = \"bearer\"\n",
    );
    edit(&hub, "routes/plain.toml", "secrets.key", "secrets.secret");
    hub.plugin("http-auth");
    let signed = differences(&hub);
    assert_eq!(signed.len(), 4, "{signed:?}");
    assert_eq!(
        signed[0]["then"]["headers"]["webhook-signature"].as_str().map(|it| &it[..3]),
        Some("v1,")
    );
    assert_eq!(signed[0]["now"]["headers"]["authorization"], "***");
}

#[test]
fn a_route_that_is_new_or_gone_is_a_difference() {
    let (hub, _receiver) = sent();
    let text = fs::read_to_string(hub.path().join("routes/failing.toml")).expect("a file");
    hub.route("another", text);
    fs::remove_file(hub.path().join("routes/nue.toml")).expect("it is there");
    let ran = plan(&hub, &[]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.contains("- no delivery\n    + POST http"), "{}", ran.stdout);
    assert!(ran.stdout.contains("+ no delivery"), "{}", ran.stdout);
    assert!(ran.stdout.contains("  and 1 more\n"), "{}", ran.stdout);
}

#[test]
fn a_plugin_that_would_fail_is_shown_with_its_reason() {
    let (hub, _receiver) = sent();
    hub.plugin("hostile");
    let trap = "[[transform]]\nplugin = \"hostile\"\nsettings.behaviour = \"trap\"\n[endpoint]";
    edit(&hub, "routes/failing.toml", "[endpoint]", trap);
    let ran = plan(&hub, &["--show", "1"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.contains("    + plugin.trap: "), "{}", ran.stdout);
}

#[test]
fn a_copy_can_be_held_against_what_another_folder_sent() {
    let (hub, _receiver) = sent();
    let copy = Hub::new();
    for folder in ["routes", "plugins"] {
        for entry in fs::read_dir(hub.path().join(folder)).expect("a folder") {
            let entry = entry.expect("an entry").path();
            let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
            copy.write(format!("{folder}/{name}"), fs::read(&entry).expect("a file"));
        }
    }
    let store = hub.store();
    let ran = plan(&copy, &["--store", store.to_str().expect("text")]);
    assert_eq!(ran.stdout, "9 events, 13 deliveries compared: 0 differ\n", "{}", ran.stderr);
}

#[test]
fn what_cannot_be_planned_says_why() {
    let hub = Hub::new();
    let ran = plan(&hub, &[]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("no event was recorded yet"), "{}", ran.stderr);
    hub.route("out", "from = \"erp\"\n");
    let ran = plan(&hub, &[]);
    assert!(ran.stderr.contains("routes/out.toml:1:1:"), "{}", ran.stderr);
}
