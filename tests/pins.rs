//! The list of plugins that may be loaded.

use std::ffi::OsStr;

use sha2::{Digest as _, Sha256};

use crate::support::hub::{Hub, route};
use crate::support::{Ran, plugin, plugpost};

fn check(tables: &str) -> Ran {
    let hub = Hub::with("", tables);
    hub.plugin("standard-webhooks").secret("key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let auth =
        "[[auth]]\nplugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/key\" }\n";
    hub.route("out", format!("{}\n{auth}", route("https://receiver.example/", "", "")));
    plugpost([OsStr::new("check"), hub.path().as_os_str()])
}

fn digest() -> String {
    let bytes = std::fs::read(plugin("standard-webhooks")).expect("it can be read");
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn the_plugin_that_is_pinned_is_loaded() {
    let pins =
        format!("[plugins]\nrequire_pins = true\nsha256.standard-webhooks = \"{}\"", digest());
    let ran = check(&pins);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let other = "00".repeat(32);
    let pins = format!("[plugins.sha256]\nstandard-webhooks = [\"{other}\", \"{}\"]", digest());
    assert_eq!(check(&pins).status, Some(0));
}

#[test]
fn another_plugin_of_that_name_is_one_problem_at_the_pin() {
    let ran = check(&format!("[plugins.sha256]\nstandard-webhooks = \"{}\"", "00".repeat(32)));
    assert_eq!(ran.status, Some(1));
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    assert!(
        lines[0].starts_with("plugpost.toml:15:1: plugins.sha256.standard-webhooks"),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains(&digest()), "{}", lines[0]);
}

#[test]
fn where_pins_are_required_a_plugin_without_one_is_refused() {
    let ran = check("[plugins]\nrequire_pins = true");
    assert_eq!(ran.status, Some(1));
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    assert!(lines[0].starts_with("plugins/standard-webhooks.wasm: not pinned"), "{}", lines[0]);
    assert!(lines[0].contains(&digest()), "{}", lines[0]);
}

#[test]
fn what_is_no_digest_is_a_problem() {
    let ran = check("[plugins.sha256]\nstandard-webhooks = \"abc\"");
    assert!(ran.stderr.contains("`abc` is not a SHA-256: 64 hexadecimal digits"), "{}", ran.stderr);
}
