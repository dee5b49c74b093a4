//! Changing a hub while it runs: what is whole and right goes live, what is not
//! changes nothing, and no delivery is lost by either.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::client::{self, Answer};
use crate::support::engine::Engine;
use crate::support::hub::{Hub, route, to};
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{eventually, plugin, shell};

/// How soon a change is in force that the system tells of.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// How soon one is that it tells nothing of.
const FOUND_WITHIN: Duration = Duration::from_secs(10);

// ---- what is right

#[test]
fn a_plugin_and_a_route_that_are_dropped_in_go_live() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    let engine = start(&hub);
    assert_eq!(snapshot(&engine), 1);
    assert_eq!(plugins(&engine)["data"], json!([]));

    hub.plugin("standard-webhooks").secret("key", &key_text(1));
    hub.route("out", signed(&receiver));
    eventually("the route to be in force", || route_urls(&engine).pop());
    let number = snapshot(&engine);
    assert!(number > 1, "{number}");
    assert_eq!(plugins(&engine)["data"][0]["name"], "standard-webhooks");

    let event = engine.send("order.created", "{}");
    let delivery = engine.ended(&event, "out");
    assert_eq!(delivery["status"], "delivered", "{delivery}");
    assert_eq!(delivery["attempts"][0]["snapshot"], number, "{delivery}");
    let plugins = delivery["attempts"][0]["plugins"][0].as_str().expect("a plugin");
    assert!(plugins.starts_with("standard-webhooks"), "{delivery}");
    assert!(fits(&receiver.received()[0], 1));
}

#[test]
fn an_attempt_tells_which_snapshot_it_was_made_with() {
    let (before, after) = (Receiver::ok(), Receiver::ok());
    let hub = Hub::new();
    hub.route("out", to(&before.url("/")));
    let engine = start(&hub);
    let first = engine.ended(&engine.send("order.created", "1"), "out");
    hub.route("out", to(&after.url("/")));
    eventually("the new endpoint to be in force", || (snapshot(&engine) == 2).then_some(()));
    let second = engine.ended(&engine.send("order.created", "2"), "out");
    let numbers = |it: &Value| it["attempts"][0]["snapshot"].clone();
    assert_eq!((numbers(&first), numbers(&second)), (json!(1), json!(2)));
    assert_eq!((before.received().len(), after.received().len()), (1, 1));
}

#[test]
fn sighup_reloads() {
    let hub = Hub::new();
    let file = hub.path().join("pid");
    let line = "echo $$ > \"$1\"; exec \"$2\" serve \"$3\"";
    let binary = env!("CARGO_BIN_EXE_plugpost");
    let command = shell(line, &[file.as_ref(), binary.as_ref(), hub.path().as_ref()]);
    let engine = Engine::start_command(command, &hub);
    // Nothing has changed, so nothing but the signal can be the reason.
    assert_eq!(plugins(&engine)["last_reload"], Value::Null);
    let pid = fs::read_to_string(&file).expect("the shell wrote it");
    let sent = shell("kill -HUP \"$1\"", &[pid.trim().as_ref()]).status();
    assert!(sent.is_ok_and(|it| it.success()), "SIGHUP to {pid}");
    let last = eventually("a reload", || plugins(&engine)["last_reload"].as_object().cloned());
    assert_eq!(last["problems"], json!([]));
    assert_eq!(snapshot(&engine), 1);
}

#[test]
fn post_reload_tells_which_files_changed() {
    let hub = Hub::new();
    let engine = start(&hub);
    let answer = reload(&engine);
    assert_eq!((answer.status, answer.json()), (200, json!({ "snapshot": 1 })));
    hub.route("out", to("http://127.0.0.1:9/"));
    // Either this finds the file or the watch has: what is in force is the same.
    let answer = reload(&engine);
    assert_eq!((answer.status, &answer.json()["snapshot"]), (200, &json!(2)), "{}", answer.text());
    if let Some(added) = answer.json().get("added") {
        assert_eq!(*added, json!(["routes/out.toml"]));
    }
}

#[test]
fn a_changed_secret_changes_the_signature() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("standard-webhooks").secret("key", &key_text(1)).route("out", signed(&receiver));
    let engine = start(&hub);
    engine.ended(&engine.send("order.created", "{}"), "out");
    hub.secret("key", &key_text(2));
    eventually("the new secret to be in force", || (snapshot(&engine) == 2).then_some(()));
    engine.ended(&engine.send("order.created", "{}"), "out");
    let fitting: Vec<_> = receiver.received().iter().map(|it| (fits(it, 1), fits(it, 2))).collect();
    assert_eq!(fitting, [(true, false), (false, true)]);
}

// ---- what is not

#[test]
fn a_broken_route_changes_nothing_and_heals_when_it_is_removed() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.route("good", to(&receiver.url("/")));
    let engine = start(&hub);
    let problems = || plugins(&engine)["last_reload"]["problems"].clone();

    hub.route("broken", "from = \"erp\"\ntypes = [\"*\"]\n\n[endpoint]\nurl = \"nowhere\"\n");
    let told = eventually("the problem to be told", || {
        Some(problems()).filter(|it| it.as_array().is_some_and(|it| !it.is_empty()))
    });
    let [problem] = told.as_array().expect("a list").as_slice() else { panic!("{told}") };
    assert_eq!(problem["file"], "routes/broken.toml");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(5), &json!(7)));
    assert!(problem["message"].as_str().is_some_and(|it| it.contains("nowhere")), "{problem}");

    let answer = reload(&engine);
    answer.problem(422);
    assert_eq!(answer.json()["problems"], told);
    assert_eq!(snapshot(&engine), 1);
    assert_eq!(route_urls(&engine), [receiver.url("/")]);
    let delivery = engine.ended(&engine.send("order.created", "{}"), "good");
    assert_eq!(delivery["status"], "delivered", "{delivery}");
    assert_eq!(delivery["attempts"][0]["snapshot"], 1, "{delivery}");

    fs::remove_file(hub.path().join("routes/broken.toml")).expect("the file goes");
    eventually("the problem to be gone", || (problems() == json!([])).then_some(()));
    assert_eq!(reload(&engine).status, 200);
    assert_eq!(snapshot(&engine), 1);
}

#[test]
fn a_removed_route_keeps_what_waits_until_it_is_put_back() {
    let is_up = Arc::new(AtomicBool::new(false));
    let receiver = Receiver::start({
        let is_up = is_up.clone();
        move |_| Reply::status(if is_up.load(Ordering::SeqCst) { 200 } else { 503 })
    });
    let hub = Hub::new();
    let schedule = vec!["\"1s\""; 60].join(", ");
    let text = route(&receiver.url("/"), "", &format!("schedule = [{schedule}]\njitter = 0"));
    hub.route("out", &text);
    let engine = start(&hub);
    let event = engine.send("order.created", "{}");
    engine.delivery_when(&event, "out", "attempted", |it| it["attempts"] != 0);

    fs::remove_file(hub.path().join("routes/out.toml")).expect("the file goes");
    eventually("the route to be gone", || route_urls(&engine).is_empty().then_some(()));
    is_up.store(true, Ordering::SeqCst);
    let waiting = engine.delivery_when(&event, "out", "waiting", |it| it["status"] == "pending");
    let arrived = receiver.received().len();
    // Twice as long as the schedule says: nobody attempts what has no route.
    let gone = Instant::now();
    eventually("its attempt to be due", || (gone.elapsed() > Duration::from_secs(2)).then_some(()));
    let still = engine.delivery(waiting["id"].as_str().expect("an id"));
    assert_eq!(still["status"], "pending", "{still}");
    assert!(receiver.received().len() <= arrived + 1, "attempts go on without a route");
    let attempts = receiver.received().len();

    hub.route("out", &text);
    let delivery = engine.ended(&event, "out");
    assert_eq!(delivery["status"], "delivered", "{delivery}");
    assert_eq!(receiver.received().len(), attempts + 1);
    assert!(receiver.received().iter().all(|it| it.webhook_id() == event));
    let made_with: Vec<_> = delivery["attempts"].as_array().expect("a list").iter().collect();
    assert_eq!(made_with.first().expect("one")["snapshot"], 1, "{delivery}");
    assert_eq!(made_with.last().expect("one")["snapshot"], 3, "{delivery}");
}

// ---- however it is written

#[test]
fn what_a_removed_route_left_behind_can_be_cancelled() {
    let receiver = Receiver::start(|_| Reply::status(500));
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "", "schedule = [\"1h\"]"));
    let engine = start(&hub);
    let event = engine.send("order.created", "{}");
    engine.delivery_when(&event, "out", "waiting", |it| it["attempts"] == 1);
    fs::remove_file(hub.path().join("routes/out.toml")).expect("it is there");
    assert_eq!(reload(&engine).status, 200);
    let [delivery] = &engine.deliveries("status=pending")[..] else { panic!("it waits") };
    let path = format!("/v1/deliveries/{}/cancel", delivery["id"].as_str().expect("an id"));
    let answer = client::ask(engine.admin, "POST", &path, &[], b"");
    assert_eq!((answer.status, &answer.json()["status"]), (200, &"dead".into()));
    assert_eq!(engine.deliveries("status=pending").len(), 0);
    assert_eq!(engine.deliveries("status=dead")[0]["last_error"], "cancelled");
}

#[test]
fn a_route_is_seen_however_it_is_written() {
    let hub = Hub::new();
    let text = |version: u8| {
        // Half of the file is a route already.
        let comment = "# what stands here does not matter\n".repeat(40);
        format!("{}{comment}", to(&format!("http://127.0.0.1:9/{version}"))).into_bytes()
    };
    hub.route("out", text(0));
    let engine = start(&hub);
    every_way(&hub, &engine, "routes/out.toml", text, |version, _| {
        route_urls(&engine) == [format!("http://127.0.0.1:9/{version}")]
    });
}

#[test]
fn a_plugin_is_seen_however_it_is_written() {
    let hub = Hub::new();
    let whole = fs::read(plugin("nue")).expect("the plugin can be read");
    // A custom section at its end makes another file of the same plugin.
    let bytes = |version: u8| [whole.as_slice(), &[0, 3, 1, b'v', version]].concat();
    hub.write("plugins/nue.wasm", bytes(0));
    let engine = start(&hub);
    every_way(&hub, &engine, "plugins/nue.wasm", bytes, |_, bytes| {
        plugins(&engine)["data"][0]["sha256"] == hex::encode(Sha256::digest(bytes))
    });
}

#[test]
fn a_source_is_seen_however_it_is_written() {
    let other =
        "[[token]]\nname = \"two\"\nsecret = { file = \"secrets/other\" }\nscopes = [\"ingest\"]";
    let hub = Hub::with("", other);
    hub.secret("other", "other-0123456789-token");
    let text = |version: u8| {
        let token = if version.is_multiple_of(2) { "erp" } else { "two" };
        let comment = "# what stands here does not matter\n".repeat(40);
        format!("tokens = [\"{token}\"]\n{comment}# {version}\n").into_bytes()
    };
    hub.write("sources/shop.toml", text(0));
    let engine = start(&hub);
    every_way(&hub, &engine, "sources/shop.toml", text, |version, _| {
        let status = engine.post("/in/shop/order.created", &[], b"{}").status;
        status == if version.is_multiple_of(2) { 202 } else { 403 }
    });
}

#[test]
fn a_secret_is_seen_however_it_is_written() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("standard-webhooks").secret("key", &key_text(0)).route("out", signed(&receiver));
    let engine = start(&hub);
    let text = |version: u8| key_text(version).into_bytes();
    every_way(&hub, &engine, "secrets/key", text, |version, _| {
        let event = engine.send("order.created", "{}");
        let arrived = receiver
            .until("the event", |all| all.iter().find(|it| it.webhook_id() == event).cloned());
        fits(&arrived, version)
    });
}

/// Writes a file that is there anew, and calls in between what must hold until it is whole.
type Way = fn(&Path, &[u8], &dyn Fn());

const WAYS: [(&str, Way, Duration); 8] = [
    ("in place", in_place, SEEN_WITHIN),
    ("slowly, in pieces", slowly, SEEN_WITHIN),
    ("renamed over", renamed_over, SEEN_WITHIN),
    ("deleted and created", deleted_and_created, SEEN_WITHIN),
    ("through a hard link elsewhere", through_a_hard_link, FOUND_WITHIN),
    ("with the same size and time", same_size_and_time, SEEN_WITHIN),
    ("as editors do, with a backup", with_a_backup, SEEN_WITHIN),
    ("as Kubernetes does, with symbolic links", swapped_links, SEEN_WITHIN),
];

fn every_way(
    hub: &Hub,
    engine: &Engine,
    file: &str,
    content: impl Fn(u8) -> Vec<u8>,
    is_in_force: impl Fn(u8, &[u8]) -> bool,
) {
    for (version, (name, write, within)) in (1..).zip(WAYS) {
        let bytes = content(version);
        let before = snapshot(engine);
        write(&hub.path().join(file), &bytes, &|| {
            let now = plugins(engine);
            assert_eq!(now["snapshot"], before, "{name}: half of {file} is in force: {now}");
            let problems = &now["last_reload"]["problems"];
            assert!(problems.as_array().is_none_or(Vec::is_empty), "{name}: {now}");
        });
        let written = Instant::now();
        eventually(&format!("{file}, {name}"), || is_in_force(version, &bytes).then_some(()));
        let took = written.elapsed();
        assert!(took < within, "{file}, {name}: seen after {took:?}");
        assert!(snapshot(engine) > before, "{file}, {name}");
    }
}

fn in_place(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    fs::write(file, bytes).expect("a file");
}

fn slowly(file: &Path, bytes: &[u8], not_yet: &dyn Fn()) {
    let mut open = File::create(file).expect("a file");
    for piece in bytes.chunks(bytes.len().div_ceil(4)) {
        // The writer is slow; nobody waits for anything here.
        thread::sleep(Duration::from_millis(300));
        not_yet();
        open.write_all(piece).expect("a piece");
    }
    not_yet();
}

fn renamed_over(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    let new = beside(file, ".new");
    fs::write(&new, bytes).expect("a file");
    fs::rename(&new, file).expect("a rename");
}

fn deleted_and_created(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    fs::remove_file(file).expect("the file goes");
    fs::write(file, bytes).expect("a file");
}

/// Nothing happens in the folder that is watched: the system tells nothing.
fn through_a_hard_link(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    let hub = file.ancestors().nth(2).expect("a file of a hub");
    let link = hub.join("elsewhere");
    fs::hard_link(file, &link).expect("a link");
    fs::write(&link, bytes).expect("a file");
}

fn same_size_and_time(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    let before = fs::metadata(file).expect("it is there");
    let written = before.modified().expect("a time");
    fs::write(file, bytes).expect("a file");
    let open = File::options().append(true).open(file).expect("it is there");
    open.set_modified(written).expect("its time can be set");
    let now = fs::metadata(file).expect("it is there");
    assert_eq!((now.len(), now.modified().expect("a time")), (before.len(), written));
}

fn with_a_backup(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    let backup = beside(file, "~");
    fs::rename(file, &backup).expect("a rename");
    fs::write(file, bytes).expect("a file");
    fs::remove_file(&backup).expect("the backup goes");
}

/// `file` → `..data/file`, `..data` → a folder; another folder replaces that.
fn swapped_links(file: &Path, bytes: &[u8], _: &dyn Fn()) {
    let (folder, name) = (file.parent().expect("a folder"), file.file_name().expect("a name"));
    let swap = |to: &str| {
        symlink(to, folder.join("..data_new")).expect("a link");
        fs::rename(folder.join("..data_new"), folder.join("..data")).expect("a rename");
    };
    fs::create_dir(folder.join("..first")).expect("a folder");
    fs::copy(file, folder.join("..first").join(name)).expect("a copy");
    swap("..first");
    let link = beside(file, ".new");
    symlink(Path::new("..data").join(name), &link).expect("a link");
    fs::rename(&link, file).expect("a rename");

    fs::create_dir(folder.join("..second")).expect("a folder");
    fs::write(folder.join("..second").join(name), bytes).expect("a file");
    swap("..second");
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

// ---- what is in force

/// Start, and wait until the watch has looked at the folder once: an answer to
/// `POST /v1/reload` comes from it.
fn start(hub: &Hub) -> Engine {
    let engine = Engine::start(hub);
    assert_eq!(reload(&engine).json(), json!({ "snapshot": 1 }));
    engine
}

fn plugins(engine: &Engine) -> Value {
    engine.get("/v1/plugins").json()
}

fn snapshot(engine: &Engine) -> u64 {
    plugins(engine)["snapshot"].as_u64().expect("a number")
}

fn route_urls(engine: &Engine) -> Vec<String> {
    let routes = engine.get("/v1/routes").json();
    let routes = routes["data"].as_array().expect("a list");
    routes.iter().map(|it| it["endpoint"]["url"].as_str().expect("a URL").to_owned()).collect()
}

fn reload(engine: &Engine) -> Answer {
    client::ask(engine.admin, "POST", "/v1/reload", &[], b"")
}

// ---- signatures

fn signed(receiver: &Receiver) -> String {
    let auth = "[[auth]]\nplugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/key\" }";
    format!("{}\n{auth}\n", to(&receiver.url("/")))
}

fn key(version: u8) -> [u8; 32] {
    [version; 32]
}

fn key_text(version: u8) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(key(version)))
}

/// True when the key of that version signed it.
fn fits(received: &Received, version: u8) -> bool {
    let timestamp = received.header("webhook-timestamp").expect("a timestamp");
    let mut code = Hmac::<Sha256>::new_from_slice(&key(version)).expect("a key of any length");
    code.update(format!("{}.{timestamp}.", received.webhook_id()).as_bytes());
    code.update(&received.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(code.finalize().into_bytes()));
    received.header("webhook-signature") == Some(&expected)
}
