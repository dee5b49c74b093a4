//! Plugins that were compiled for a released version of `wit/` load and work for as
//! long as its 0.x goes on. Never build the `.wasm` of a released version anew to make
//! this pass: then plugins out there are broken.
//!
//! A released version has a folder: its `wit/` as it was, a `.wat` for each role, and
//! the component that `RELEASED_WRITE=1 cargo test released::` made of the two then.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use wit_component::ComponentEncoder;

use crate::support::guest::typed;
use crate::support::{files, plugpost, root};

const WRITE: &str = "RELEASED_WRITE";

#[test]
fn a_plugin_compiled_for_a_released_version_still_works() {
    let versions = versions();
    assert!(versions.iter().any(|it| it.ends_with("0.1.0")), "{versions:?}");
    for version in versions {
        let texts = files(&version, "wat");
        for text in &texts {
            let wasm = text.with_extension("wasm");
            if env::var_os(WRITE).is_some() && !wasm.exists() {
                fs::write(&wasm, component(&version, text)).expect("a file");
            }
            let role = text.file_stem().expect("a name").to_string_lossy().into_owned();
            let cases = version.join("cases").join(&role);
            let count = files(&cases, "json").len();
            let ran =
                plugpost(["plugin".as_ref(), "test".as_ref(), wasm.as_os_str(), cases.as_os_str()]);
            assert_eq!(ran.status, Some(0), "{}: {ran:?}", wasm.display());
            assert!(
                ran.stdout.ends_with(&format!("{role}: {count} passed, 0 failed\n")),
                "{ran:?}"
            );
        }
        assert_eq!(texts.len(), ROLES, "a plugin for each role");
    }
}

const ROLES: usize = 4;

/// What lies there was made of what lies beside it: the interfaces are the same.
#[test]
fn the_compiled_plugins_are_those_of_their_text() {
    for version in versions() {
        for text in files(&version, "wat") {
            let committed = fs::read(text.with_extension("wasm")).expect("a component");
            let interfaces = |bytes: &[u8]| {
                let decoded = wit_component::decode(bytes).expect("a component");
                let mut printer = wit_component::WitPrinter::default();
                printer.print(decoded.resolve(), decoded.package(), &[]).expect("it prints");
                printer.output.to_string()
            };
            assert_eq!(interfaces(&committed), interfaces(&component(&version, &text)));
        }
    }
}

/// The control: host and plugin that differ in one member of one record are noticed.
#[test]
fn a_record_that_was_changed_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for version in versions() {
        for (role, stands, other) in [
            ("source", "status: u16,", "status: u32,"),
            ("filter", "retry: bool,", "retry: bool, wait: bool,"),
            ("transform", "method: string,\n    /// Headers;", "verb: string,\n    /// Headers;"),
            ("auth", "event-type: func()", "kind: func()"),
        ] {
            let text = version.join(role).with_extension("wat");
            let changed = built(&version, &text, |it| {
                assert!(it.contains(stands), "{stands}");
                it.replace(stands, other)
            });
            let wasm = folder.path().join("changed.wasm");
            fs::write(&wasm, changed).expect("a file");
            let ran = plugpost(["plugin".as_ref(), "inspect".as_ref(), wasm.as_os_str()]);
            assert_eq!(ran.status, Some(1), "{role}: {ran:?}");
            assert!(ran.stderr.contains("in another shape"), "{role}: {ran:?}");
        }
    }
}

fn versions() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/released")).expect("a folder");
    entries.map(|it| it.expect("an entry").path()).collect()
}

fn component(version: &Path, text: &Path) -> Vec<u8> {
    built(version, text, str::to_owned)
}

/// With interfaces, and a text, that are not quite those.
fn built(version: &Path, text: &Path, change: impl Fn(&str) -> String) -> Vec<u8> {
    let role = text.file_stem().expect("a name").to_string_lossy();
    // The package says its name before anything else.
    let mut wit = files(&version.join("wit"), "wit");
    wit.sort_by_key(|it| !it.ends_with("types.wit"));
    let wit: String = wit.iter().map(|it| fs::read_to_string(it).expect("a text")).collect();
    let wit = change(&format!("{wit}world guest {{ include base; include {role}-role; }}"));
    let module = fs::read_to_string(text).expect("a text");
    let module = typed(&module.replace("outgoing.event-type", &event_type(&wit)), &wit);
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut it| it.encode()).unwrap_or_else(|it| panic!("{role}: {it:#}"))
}

/// What the interfaces call it.
fn event_type(wit: &str) -> String {
    let name = if wit.contains("kind: func()") { "kind" } else { "event-type" };
    format!("outgoing.{name}")
}
