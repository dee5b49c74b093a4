//! What secrets are sealed with: where the key comes from, how it is changed, and that a
//! sealed value is of no use elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rusqlite::Connection as Database;

use super::{KEY, fits, id, path, signed, subscribe};
use crate::support::engine::{Engine, command};
use crate::support::hub::Hub;
use crate::support::receiver::Receiver;
use crate::support::{PATIENCE, Ran};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_plugpost"))
}

fn secret_key(number: u8) -> String {
    BASE64_STANDARD.encode([number; 32])
}

fn serve(hub: &Hub, keys: &str) -> Engine {
    let mut command = command(binary());
    command.env("PLUGPOST_SECRET_KEY", keys).arg("serve").arg(hub.path());
    Engine::start_command(command, hub)
}

fn run(hub: &Hub, keys: &str, arguments: &[&str]) -> Ran {
    let mut command = command(binary());
    command.env("PLUGPOST_SECRET_KEY", keys).args(arguments).arg(hub.path());
    to_its_end(command)
}

/// A command that ends by itself; one that serves after all is killed.
fn to_its_end(mut command: Command) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && child.try_wait().expect("its own child").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait_with_output().expect("its output").into()
}

fn hub() -> Hub {
    let hub = Hub::new();
    hub.plugin("standard-webhooks");
    hub
}

#[test]
fn without_a_key_one_is_made_for_its_owner_alone_and_said() {
    let receiver = Receiver::ok();
    let hub = hub();
    let engine = Engine::start(&hub);
    let file = hub.path().join("plugpost.db.key");
    let mode = fs::metadata(&file).expect("the key's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(engine.stderr().contains("plugpost.db.key"), "{}", engine.stderr());
    subscribe(&engine, &signed(&receiver.url("/"), &KEY));
    engine.kill();
    let engine = Engine::start(&hub);
    engine.send("order.created", "{}");
    assert!(fits(&receiver.first(1)[0], &KEY));
    // Without it, nothing is opened and nothing is lost.
    engine.kill();
    let key = fs::read(&file).expect("the key");
    fs::remove_file(&file).expect("the key");
    let mut serve = command(binary());
    serve.arg("serve").arg(hub.path());
    let ran = to_its_end(serve);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("there is no key"), "{}", ran.stderr);
    assert!(!file.exists());
    fs::write(&file, key).expect("the key");
    Engine::start(&hub).send("order.created", "{}");
    receiver.first(2);
}

#[test]
fn a_key_is_changed_without_losing_a_secret() {
    let receiver = Receiver::ok();
    let hub = hub();
    let (old, new) = (secret_key(1), secret_key(2));
    let engine = serve(&hub, &old);
    assert!(!hub.path().join("plugpost.db.key").exists());
    let made = subscribe(&engine, &signed(&receiver.url("/"), &KEY));
    engine.kill();
    // The wrong one is named, by its id.
    let wrong = run(&hub, &new, &["serve"]);
    assert_eq!(wrong.status, Some(1));
    let sealed_with = sealed_with(&hub);
    assert_eq!(sealed_with.len(), 8);
    for part in [sealed_with.as_str(), id(&made), "`key`"] {
        assert!(wrong.stderr.contains(part), "{part} is not in {}", wrong.stderr);
    }
    for secret in [&old, &new] {
        assert!(!wrong.stderr.contains(secret.as_str()));
    }
    assert_eq!(run(&hub, &new, &["store", "reencrypt"]).status, Some(1));
    let engine = serve(&hub, &format!("{new} {old}"));
    assert_eq!(run(&hub, &format!("{new} {old}"), &["store", "reencrypt"]).status, Some(1));
    engine.stop();
    let changed = run(&hub, &format!("{new}\n{old}"), &["store", "reencrypt"]);
    assert_eq!(changed.status, Some(0), "{}", changed.stderr);
    assert!(changed.stdout.starts_with("1 of 1 secrets"), "{}", changed.stdout);
    assert_ne!(self::sealed_with(&hub), sealed_with);
    let engine = serve(&hub, &new);
    engine.send("order.created", "{}");
    assert!(fits(&receiver.first(1)[0], &KEY));
    engine.kill();
    for wrong in ["", "AAAA", "not base64!"] {
        let ran = run(&hub, wrong, &["check"]);
        assert_eq!(ran.status, Some(1), "{wrong}");
        assert!(ran.stderr.contains("PLUGPOST_SECRET_KEY"), "{}", ran.stderr);
    }
}

fn sealed_with(hub: &Hub) -> String {
    let database = Database::open(hub.store()).expect("the store");
    database.query_row("SELECT key FROM sealed", [], |row| row.get(0)).expect("one value")
}

#[test]
fn the_key_can_come_from_a_file_that_the_hub_names() {
    let hub = hub();
    let text = fs::read_to_string(hub.path().join("plugpost.toml")).expect("the file");
    hub.write(
        "plugpost.toml",
        format!("{text}\n[store]\nsecret_key = {{ file = \"secrets/seal\" }}\n"),
    );
    hub.secret("seal", &secret_key(3));
    let engine = Engine::start(&hub);
    let made = subscribe(&engine, &signed("https://example.com/", &KEY));
    engine.kill();
    hub.secret("seal", &format!("{}\n{}", secret_key(4), secret_key(3)));
    assert_eq!(Engine::start(&hub).get(&path(&made)).json(), made);
}

#[test]
fn a_sealed_value_that_was_moved_does_not_open() {
    let hub = hub();
    let engine = serve(&hub, &secret_key(1));
    subscribe(&engine, &signed("https://example.com/", &KEY));
    subscribe(&engine, &signed("https://example.com/", &[8; 24]));
    engine.kill();
    let database = Database::open(hub.store()).expect("the store");
    let moved = "UPDATE sealed SET value = (SELECT value FROM sealed ORDER BY owner LIMIT 1)";
    assert_eq!(database.execute(moved, []).expect("both rows"), 2);
    drop(database);
    let ran = run(&hub, &secret_key(1), &["serve"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("moved or damaged"), "{}", ran.stderr);
}
