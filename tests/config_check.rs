//! `plugpost check`: what is wrong with a folder is told at once, in words, with
//! the place. Each folder of `tests/config/invalid` stands beside what is said of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::folder::copy_with_plugins;
use crate::support::hub::Hub;
use crate::support::{Ran, files, plugin, plugpost, root};

#[test]
fn every_wrong_folder_is_told_what_is_wrong_with_it() {
    let expectations = files(&invalid(), "err");
    assert!(expectations.len() >= 15, "{expectations:?}");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(file) = expectations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = says_what_is_expected(file) {
                        failures.lock().expect("no thread panics with it").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics with it");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_wrong_folder_stands_beside_what_is_said_of_it() {
    let mut folders: Vec<_> = fs::read_dir(invalid()).expect("the folder").collect();
    folders.retain(|it| it.as_ref().is_ok_and(|it| it.path().is_dir()));
    for folder in &folders {
        let folder = folder.as_ref().expect("a readable entry").path();
        assert!(folder.with_extension("err").is_file(), "{} has no .err", folder.display());
    }
    assert_eq!(folders.len(), files(&invalid(), "err").len());
}

#[test]
fn a_different_expectation_is_a_failure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    let file = folder.path().join("empty.err");
    fs::write(&file, "error: 1 problem\n").expect("a file");
    let failure = says_what_is_expected(&file).expect_err("nothing is wrong with an empty folder");
    assert!(failure.contains("error: 1 problem\n"), "{failure}");
}

#[test]
fn the_problems_are_the_same_as_json() {
    let folder = copy_with_plugins(&invalid().join("several-files"));
    let ran = check(&folder, &["--json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let problems = answer["problems"].as_array().expect("a list");
    let line = |it: &Value| {
        let text = |name: &str| it[name].as_str().expect("a text").to_owned();
        format!("{}:{}:{}: {}\n", text("file"), it["line"], it["column"], text("message"))
    };
    let mut text: String = problems.iter().map(line).collect();
    text.push_str(&format!("error: {} problems\n", problems.len()));
    let expected = fs::read_to_string(invalid().join("several-files.err")).expect("a file");
    assert_eq!(text, expected);
}

#[test]
fn the_example_is_valid() {
    let folder = copy_with_plugins(&root().join("examples/five-platforms"));
    let ran = check(&folder, &[]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.ends_with("\nall is well\n"), "{}", ran.stdout);
    let count = |kind: &str| ran.stdout.lines().filter(|it| it.starts_with(kind)).count();
    assert_eq!((count("plugin "), count("source "), count("route ")), (9, 5, 5), "{}", ran.stdout);
    let ran = check(&folder, &["--json"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(answer, json!({ "problems": [] }));
}

#[test]
fn a_file_that_is_no_plugin_is_a_problem_with_its_name() {
    let whole = fs::read(plugin("nue")).expect("the plugin can be read");
    let random: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
    let check_one = |name: &str, bytes: &[u8]| {
        let hub = Hub::new();
        hub.write(format!("plugins/{name}.wasm"), bytes);
        let ran = plugpost(["check".into(), hub.path().to_owned()]);
        assert_eq!(ran.status, Some(1), "{name}: {ran:?}");
        let problem = ran.stderr.strip_suffix("\nerror: 1 problem\n").unwrap_or_default();
        let message = problem.strip_prefix(&format!("plugins/{name}.wasm: "));
        assert!(message.is_some_and(|it| !it.is_empty()), "{name}: {ran:?}");
    };
    check_one("truncated", &whole[..whole.len() / 2]);
    check_one("nearly-whole", &whole[..whole.len() - 1]);
    check_one("random", &random);
    check_one("empty", b"");
    check_one("without-a-component-type", b"\0asm\x01\0\0\0");
}

#[test]
fn several_files_that_are_no_plugins_are_each_a_problem() {
    let hub = Hub::new();
    hub.write("plugins/b.wasm", "").write("plugins/a.wasm", "no").plugin("nue");
    hub.route("out", "from = \"*\"\ntypes = [\"*\"]\nplatform = \"a\"\n[endpoint]\nurl = \"https://example.com\"");
    let ran = plugpost(["check".into(), hub.path().to_owned()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let lines: Vec<_> = ran.stderr.lines().collect();
    // The route's only problem is the plugin's.
    let [first, second, "error: 2 problems"] = lines.as_slice() else { panic!("{ran:?}") };
    assert!(first.starts_with("plugins/a.wasm: "), "{first}");
    assert!(second.starts_with("plugins/b.wasm: "), "{second}");
}

fn invalid() -> PathBuf {
    root().join("tests/config/invalid")
}

fn check(folder: &TempDir, options: &[&str]) -> Ran {
    let mut arguments = vec!["check".as_ref(), folder.path().as_os_str()];
    arguments.extend(options.iter().map(|it| std::ffi::OsStr::new(*it)));
    plugpost(arguments)
}

/// Check the folder beside an expectation.
fn says_what_is_expected(file: &Path) -> Result<(), String> {
    let folder = copy_with_plugins(&file.with_extension(""));
    let expected = fs::read_to_string(file).expect("an expectation is text");
    let ran = check(&folder, &[]);
    if ran.status == Some(1) && ran.stdout.is_empty() && ran.stderr == expected {
        return Ok(());
    }
    Err(format!(
        "{}: expected status 1 and\n{expected}\nthere was status {:?} and\n{}{}",
        file.display(),
        ran.status,
        ran.stdout,
        ran.stderr
    ))
}
