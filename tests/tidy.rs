//! The rules of the house, held against the source. Each rule takes files and
//! returns what breaks it, so that each can be shown to find something.

use std::fs;

use crate::support::{files_below, root};

/// A file of the source, by its path in the repository.
struct Source {
    path: String,
    text: String,
}

// ---- the rules hold

#[test]
fn each_store_alone_knows_its_database() {
    assert_eq!(outside(&host(), "rusqlite", &SQLITE), NOTHING);
    assert_eq!(outside(&host(), "tokio_postgres", &POSTGRES), NOTHING);
    assert_eq!(outside(&host(), "tokio_postgres_rustls", &POSTGRES), NOTHING);
}

#[test]
fn only_plugin_knows_the_runtime() {
    assert_eq!(outside(&host(), "wasmtime", &PLUGIN), NOTHING);
    assert_eq!(outside(&host(), "wasmtime_wasi", &PLUGIN), NOTHING);
}

#[test]
fn only_reload_watches_files() {
    assert_eq!(outside(&host(), "notify", &["host/src/reload.rs"]), NOTHING);
}

#[test]
fn the_host_names_no_platform() {
    assert_eq!(platforms_named(&host()), NOTHING);
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    assert_eq!(without_a_purpose(&everything()), NOTHING);
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    assert_eq!(unfinished(&everything()), NOTHING);
}

#[test]
fn a_file_of_the_host_is_read_in_one_go() {
    let exceptions: Vec<_> = LONG.iter().map(|(path, _)| *path).collect();
    assert_eq!(longer_than(&host(), LINES_MAX), exceptions, "LONG says which may be, and why");
    assert!(LONG.iter().all(|(_, reason)| !reason.is_empty()));
}

#[test]
fn the_host_unwraps_nothing() {
    assert_eq!(unwraps(&host()), NOTHING);
}

// ---- the rules find what they are for

#[test]
fn a_crate_in_the_wrong_place_is_found() {
    let plant = |path: &str, text: &str| [planted(path, text)];
    let database = "use rusqlite::Connection;\n";
    assert_eq!(outside(&plant("host/src/admin.rs", database), "rusqlite", &SQLITE).len(), 1);
    assert_eq!(outside(&plant("host/src/queue/log.rs", database), "rusqlite", &SQLITE).len(), 1);
    let inside = plant("host/src/queue/sqlite/log.rs", database);
    assert_eq!(outside(&inside, "rusqlite", &SQLITE), NOTHING);
    assert_eq!(outside(&plant("host/src/queued.rs", database), "rusqlite", &SQLITE).len(), 1);
    for text in
        ["fn f() -> wasmtime::Result<()> {}", "use wasmtime as w;", "extern crate wasmtime;"]
    {
        let found = |path: &str| outside(&plant(path, text), "wasmtime", &PLUGIN).len();
        assert_eq!((found("host/src/lane.rs"), found("host/src/plugin.rs")), (1, 0), "{text}");
        assert_eq!(found("host/src/plugin/warm.rs"), 0, "{text}");
    }
    // A word in a sentence is no use of a crate, nor is another crate's name.
    let words = plant("host/src/lane.rs", "// wasmtime is not used here\nmy_wasmtime::f();");
    assert_eq!(outside(&words, "wasmtime", &PLUGIN), NOTHING);
}

#[test]
fn a_platform_by_any_spelling_is_found() {
    for text in [
        "// as Nue does",
        "\"nue\"",
        "nue_header",
        "B2B Ninja",
        "b2b_ninja",
        "B2bNinja",
        "b2b-ninja",
        "BigCommerce",
        "Big Commerce",
        "bigcommerce-b2b",
        "Ordermentum",
        "a BUILDR webhook",
    ] {
        assert_eq!(platforms_named(&[planted("host/src/a.rs", text)]).len(), 1, "{text}");
    }
    assert_eq!(platforms_named(&[planted("host/src/nue.rs", "")]).len(), 1);
    for text in ["an avenue", "the builder", "continue;", "revenue", "a ninja", "commerce"] {
        assert_eq!(platforms_named(&[planted("host/src/a.rs", text)]), NOTHING, "{text}");
    }
}

#[test]
fn a_file_without_a_purpose_is_found() {
    let files = [planted("a.rs", "use std::fs;\n//! Late.\n"), planted("b.rs", "//! What for.\n")];
    assert_eq!(without_a_purpose(&files), ["a.rs"]);
}

#[test]
fn what_is_unfinished_or_switched_off_is_found() {
    for (start, end) in UNFINISHED {
        let text = format!("fn f() {{}}\n    {start}{end}\n");
        assert_eq!(unfinished(&[planted("a.rs", &text)]).len(), 1, "{text}");
    }
    let switched_off = format!("#[{} = \"slow\"]", "ignore");
    assert_eq!(unfinished(&[planted("a.rs", &switched_off)]), ["a.rs:1"]);
}

#[test]
fn a_long_file_is_found() {
    let lines = |count: usize| "//\n".repeat(count);
    let files = [planted("a.rs", &lines(500)), planted("b.rs", &lines(501))];
    assert_eq!(longer_than(&files, LINES_MAX), ["b.rs"]);
}

#[test]
fn an_unwrap_is_found_outside_tests() {
    let call = concat!(".unwrap", "()");
    let files = [
        planted("a.rs", &format!("fn f() {{ g(){call}; }}")),
        planted("b.rs", &format!("fn f() {{}}\n\n#[cfg(test)]\nmod tests {{ g(){call}; }}")),
        planted("c.rs", "fn f() { g().unwrap_or_default(); }"),
        planted("d.rs", &format!("#[cfg(test)]\nuse a::b;\n\nfn f() {{ g(){call} }}")),
    ];
    assert_eq!(unwraps(&files), ["a.rs:1", "d.rs:4"]);
}

#[test]
fn the_whole_source_is_read() {
    let paths: Vec<_> = everything().into_iter().map(|it| it.path).collect();
    for path in
        ["host/src/lib.rs", "host/src/queue/sqlite.rs", "plugins/sdk/src/lib.rs", "tests/tidy.rs"]
    {
        assert!(paths.iter().any(|it| it == path), "{path} is not in {paths:?}");
    }
}

// ---- the rules

const NOTHING: [&str; 0] = [];
const SQLITE: [&str; 2] = ["host/src/queue/sqlite.rs", "host/src/queue/sqlite/"];
const POSTGRES: [&str; 2] = ["host/src/queue/postgres.rs", "host/src/queue/postgres/"];
const PLUGIN: [&str; 2] = ["host/src/plugin/", "host/src/plugin.rs"];
const LINES_MAX: usize = 500;

/// Longer all the same, and why.
const LONG: [(&str, &str); 0] = [];

/// Names without what may stand between their parts.
const PLATFORMS: [&str; 5] = ["b2bninja", "bigcommerce", "ordermentum", "buildr", "nue"];

/// In two parts, so that they do not stand here.
const UNFINISHED: [(&str, &str); 4] =
    [("#[", "ignore"), ("todo", "!"), ("dbg", "!"), ("unimplemented", "!")];

/// Lines that use a crate in files that are none of the places.
fn outside(files: &[Source], name: &str, places: &[&str]) -> Vec<String> {
    let is_place = |path: &str| {
        places.iter().any(|it| if it.ends_with('/') { path.starts_with(it) } else { path == *it })
    };
    let path = format!("{name}::");
    let uses = |line: &str| {
        let mut rest = line;
        while let Some(at) = rest.find(&path) {
            let before = rest[..at].chars().next_back();
            if !before.is_some_and(|it| it.is_alphanumeric() || it == '_') {
                return true;
            }
            rest = &rest[at + path.len()..];
        }
        let words: Vec<_> = line.split(|it: char| !it.is_alphanumeric() && it != '_').collect();
        words.windows(2).any(|it| matches!(it[0], "use" | "crate") && it[1] == name)
    };
    lines_where(files.iter().filter(|it| !is_place(&it.path)), uses)
}

/// Files that name a platform: in any case, with anything between the parts of its name.
fn platforms_named(files: &[Source]) -> Vec<String> {
    let names_one = |text: &str| {
        let text = text.to_lowercase();
        let words: Vec<_> =
            text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty()).collect();
        words.iter().any(|it| PLATFORMS.contains(it))
            || words.windows(2).any(|it| PLATFORMS.contains(&it.concat().as_str()))
    };
    let named = files.iter().filter(|it| names_one(&it.path) || names_one(&it.text));
    named.map(|it| it.path.clone()).collect()
}

fn without_a_purpose(files: &[Source]) -> Vec<String> {
    let files = files.iter().filter(|it| !it.text.starts_with("//!"));
    files.map(|it| it.path.clone()).collect()
}

fn unfinished(files: &[Source]) -> Vec<String> {
    let marks = UNFINISHED.map(|(start, end)| format!("{start}{end}"));
    lines_where(files.iter(), |line| marks.iter().any(|it| line.contains(it)))
}

fn longer_than(files: &[Source], lines_max: usize) -> Vec<String> {
    let files = files.iter().filter(|it| it.text.lines().count() > lines_max);
    files.map(|it| it.path.clone()).collect()
}

/// Tests stand at the end of a file and may.
fn unwraps(files: &[Source]) -> Vec<String> {
    let code = files.iter().map(|it| {
        let end = it.text.find("#[cfg(test)]\nmod ").unwrap_or(it.text.len());
        planted(&it.path, &it.text[..end])
    });
    let code: Vec<_> = code.collect();
    lines_where(code.iter(), |line| line.contains(concat!(".unwrap", "()")))
}

fn lines_where<'s>(
    files: impl Iterator<Item = &'s Source>,
    is_wrong: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (line, text) in (1..).zip(file.text.lines()) {
            if is_wrong(text) {
                found.push(format!("{}:{line}", file.path));
            }
        }
    }
    found
}

// ---- the source

fn planted(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

fn host() -> Vec<Source> {
    below("host/src")
}

/// The host, the plugins and the tests.
fn everything() -> Vec<Source> {
    ["host/src", "plugins", "tests"].into_iter().flat_map(below).collect()
}

fn below(folder: &str) -> Vec<Source> {
    let files = files_below(&root().join(folder), "rs");
    let read = files.iter().map(|file| {
        let path = file.strip_prefix(root()).expect("a file of the repository");
        let text = fs::read_to_string(file).expect("source is text");
        planted(path.to_str().expect("UTF-8"), &text)
    });
    read.collect()
}
