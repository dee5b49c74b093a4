//! What a plugin's author types: a plugin begun, built, tested, measured and read
//! about in each language, cases that find what does not hold, and a hub's own cases.

use std::fs;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::{Ran, eventually_within, files, plugin, plugpost, root};

// ---- plugin test

/// A folder with cases of the plugin that remembers.
struct Cases(tempfile::TempDir);

impl Cases {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.json"))
    }

    fn case(&self, name: &str, remembers: &str, rest: Value) -> &Self {
        let event = json!({
            "id": "evt_1kqs6wa0y0007", "type": "order.created",
            "time": "2026-05-04T09:59:58.750Z", "data": "{}",
        });
        let mut case = json!({
            "about": "What is remembered.",
            "settings": { "remembers": remembers },
            "send": {
                "event": event, "url": "https://acme.example.com/", "at": "2026-05-04T10:00:00Z"
            },
        });
        let members = rest.as_object().expect("an object").clone();
        case.as_object_mut().expect("an object").extend(members);
        fs::write(self.file(name), format!("{case:#}")).expect("a file");
        self
    }

    fn test(&self, arguments: &[&str]) -> Ran {
        let plugin = plugin("stateful");
        let fixed =
            ["plugin".as_ref(), "test".as_ref(), plugin.as_os_str(), self.0.path().as_os_str()];
        plugpost(fixed.into_iter().chain(arguments.iter().map(|it| it.as_ref())))
    }
}

/// What the plugin makes on an instance that nobody has called.
fn remembered(what: u64) -> Value {
    json!({ "request": {
        "method": "POST",
        "headers": { "content-type": "application/json" },
        "body": format!("{{\"remembered\":{what}}}"),
    }})
}

#[test]
fn what_an_instance_remembers_is_found() {
    // One case is enough: it is its own predecessor.
    for (remembers, fresh) in [("counter", 0), ("dice", 8_748_534_153_485_358_512)] {
        let cases = Cases::new();
        cases.case("one", remembers, remembered(fresh));
        let ran = cases.test(&[]);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.stdout.contains("FAILED one: What is remembered."), "{ran:?}");
        assert!(ran.stdout.contains("hidden state: after `one` on the same instance"), "{ran:?}");
        assert!(ran.stdout.contains(&format!("-  \"remembered\": {fresh}")), "{ran:?}");
        // It is not a wrong expectation, and no blessing makes it right.
        let before = fs::read(cases.file("one")).expect("the case");
        assert_eq!(cases.test(&["--bless"]).status, Some(1));
        assert_eq!(fs::read(cases.file("one")).expect("the case"), before);
    }
    let cases = Cases::new();
    cases.case("one", "nothing", remembered(0)).case("two", "nothing", remembered(0));
    let ran = cases.test(&[]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("stateful: 2 passed, 0 failed\n"), "{ran:?}");
}

#[test]
fn the_order_that_found_it_can_be_repeated() {
    let cases = Cases::new();
    for name in ["a", "b", "c", "d"] {
        cases.case(name, "counter", remembered(0));
    }
    let first = cases.test(&["--seed", "7"]).stdout;
    assert!(first.contains("--seed 7"), "{first}");
    let without_times = |text: &str| {
        let lines = text.lines().filter(|it| !it.starts_with("ok")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert_eq!(without_times(&first), without_times(&cases.test(&["--seed", "7"]).stdout));
}

#[test]
fn a_blessing_writes_the_expectation_and_nothing_else() {
    let cases = Cases::new();
    cases.case("wrong", "nothing", remembered(7)).case("new", "nothing", json!({}));
    let odd = fs::read_to_string(cases.file("wrong")).expect("the case").replacen(
        "\"about\":",
        "\"about\"   :",
        1,
    );
    fs::write(cases.file("wrong"), &odd).expect("a file");
    let ran = cases.test(&[]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("-  \"remembered\": 7"), "{ran:?}");
    assert!(ran.stdout.contains("+  \"remembered\": 0"), "{ran:?}");
    assert!(ran.stdout.contains("the case does not say what is expected"), "{ran:?}");

    let ran = cases.test(&["--bless"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("2 blessed"), "{ran:?}");
    let blessed = fs::read_to_string(cases.file("wrong")).expect("the case");
    assert_eq!(blessed, odd.replace("remembered\\\":7", "remembered\\\":0"));
    assert_eq!(cases.test(&[]).status, Some(0));
}

#[test]
fn each_case_says_what_it_took() {
    let cases = Cases::new();
    cases.case("one", "nothing", remembered(0));
    let ran = cases.test(&["--verbose"]);
    assert!(ran.stdout.contains("info: shaping evt_1kqs6wa0y0007"), "{ran:?}");
    let answer: Value = serde_json::from_str(&cases.test(&["--json"]).stdout).expect("JSON");
    assert_eq!((&answer["passed"], &answer["failed"]), (&json!(1), &json!(0)), "{answer}");
    let case = &answer["cases"][0];
    assert!(case["memory_bytes"].as_u64() >= Some(64 << 10), "{answer}");
    assert!(case["memory_bytes"].as_u64() < answer["limits"]["memory_bytes"].as_u64(), "{answer}");
    // POST, content-type, application/json and the body.
    assert_eq!(case["output_bytes"], json!(4 + 12 + 16 + 16), "{answer}");
    assert_eq!(case["log"][0]["message"], "shaping evt_1kqs6wa0y0007", "{answer}");
}

// ---- plugin bench, inspect, doc

#[test]
fn a_plugin_is_measured_and_read_about() {
    let cases = root().join("plugins/hmac/cases");
    let run = |arguments: &[&str], more: &[&Path]| {
        let plugin = plugin("hmac");
        let fixed = ["plugin".as_ref(), arguments[0].as_ref(), plugin.as_os_str()];
        let more = more.iter().map(|it| it.as_os_str());
        let ran = plugpost(
            fixed.into_iter().chain(more).chain(arguments[1..].iter().map(|it| it.as_ref())),
        );
        assert_eq!(ran.status, Some(0), "{ran:?}");
        ran.stdout
    };
    let bench: Value =
        serde_json::from_str(&run(&["bench", "--calls", "20", "--json"], &[&cases])).expect("JSON");
    let first = &bench["cases"][0];
    assert!(first["p50_ns"].as_u64() > Some(0), "{bench}");
    assert!(first["p99_ns"].as_u64() >= first["p50_ns"].as_u64(), "{bench}");
    assert!(first["fresh_p50_ns"].as_u64() > Some(0), "{bench}");
    assert!(run(&["bench", "--calls", "5"], &[&cases]).contains("call p50"));

    let inspect: Value = serde_json::from_str(&run(&["inspect", "--json"], &[])).expect("JSON");
    assert_eq!(inspect["name"], "hmac");
    let words = run(&["inspect"], &[]);
    for part in ["roles         source, auth", "signs and compares with secrets", "key (required, "]
    {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(words.contains(inspect["sha256"].as_str().expect("a text")), "{words}");
    let page = run(&["doc"], &[]);
    for part in ["# hmac\n", "## Settings\n", "| `key` | yes |", "```toml\n"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

// ---- plugin new, build; dev

/// Each language's name on the command line, its folder among the examples, its
/// files, and what fetching takes long for.
const LANGUAGES: [(&str, &str, &[&str], &str); 4] = [
    ("rust", "rust", &["src/lib.rs"], "target"),
    ("js", "javascript", &["plugin.js", "build.mjs", "package.json"], "node_modules"),
    ("python", "python", &["app.py", "pyproject.toml"], ".venv"),
    ("go", "go", &["plugin/plugin.go", "main.go", "go.mod"], "nothing"),
];
const NAME: &str = "parcel-radar";

/// What was fetched is for one test at a time.
fn fetched() -> MutexGuard<'static, ()> {
    static FETCHED: Mutex<()> = Mutex::new(());
    FETCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn examples() -> PathBuf {
    root().join("examples/plugins-in-four-languages")
}

/// A plugin as `plugin new` makes it, in a folder that keeps what was fetched.
fn begun(language: &str, kept: &str) -> PathBuf {
    let folder = root().join("target/authoring").join(language);
    fs::create_dir_all(&folder).expect("a folder");
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with(kept) {
            fs::remove_dir_all(path).expect("it goes");
        } else if path.is_file() {
            fs::remove_file(path).expect("it goes");
        }
    }
    let new = tempfile::tempdir().expect("a temporary folder");
    let dir = new.path().join("new");
    let ran = plugpost([
        "plugin".as_ref(),
        "new".as_ref(),
        NAME.as_ref(),
        "--lang".as_ref(),
        language.as_ref(),
        "--dir".as_ref(),
        dir.as_os_str(),
    ]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let copied = Command::new("cp").arg("-R").arg(dir.join(".")).arg(&folder).status();
    assert!(copied.expect("cp is there").success());
    folder
}

fn build(folder: &Path) -> Ran {
    plugpost(["plugin".as_ref(), "build".as_ref(), folder.as_os_str()])
}

#[test]
fn a_new_plugin_builds_tests_and_loads_in_every_language() {
    let _fetched = fetched();
    let (mut made, mut missing) = (Vec::new(), Vec::new());
    for (language, example, sources, kept) in LANGUAGES {
        if let Err(tool) = toolchain(language) {
            missing.push(format!("{language} (no {tool})"));
            continue;
        }
        let folder = begun(language, kept);
        // The same files as the example, under another name.
        for source in sources {
            let example = examples().join(example).join(source);
            let example =
                fs::read_to_string(example).expect("the example").replace("parcels", NAME);
            assert_eq!(fs::read_to_string(folder.join(source)).expect("a file"), example);
        }
        let ran = build(&folder);
        assert_eq!(ran.status, Some(0), "{language}: {ran:?}");
        let wasm = folder.join(format!("{NAME}.wasm"));
        let cases = folder.join("cases");
        let ran =
            plugpost(["plugin".as_ref(), "test".as_ref(), wasm.as_os_str(), cases.as_os_str()]);
        assert_eq!(ran.status, Some(0), "{language}: {ran:?}");
        let count = files(&examples().join("cases"), "json").len();
        let last = format!("{NAME}: {count} passed, 0 failed\n");
        assert!(ran.stdout.ends_with(&last), "{language}: {ran:?}");

        let hub = Hub::new();
        hub.write(format!("plugins/{NAME}.wasm"), fs::read(&wasm).expect("the plugin"));
        hub.secret("key", "parcel-tulip-7312");
        let key = "secrets.key = { file = \"secrets/key\" }\n";
        hub.source(NAME, &format!("plugin = \"{NAME}\"\n{key}"));
        let check = || plugpost(["check".as_ref(), hub.path().as_os_str()]);
        let ran = check();
        assert_eq!(ran.status, Some(0), "{language}: {ran:?}");
        what_is_wrong_is_said(language, &hub, key, check);
        an_exception_is_told(language, &folder);
        made.push(language);
    }
    // Past the harness, which keeps what a passing test prints.
    let all = LANGUAGES.len();
    let _ = writeln!(
        stderr(),
        "plugins built and tested in {} of {all} languages: {}; NOT TESTED: {}",
        made.len(),
        made.join(", "),
        if missing.is_empty() { "none".to_owned() } else { missing.join(", ") }
    );
    assert!(made.contains(&"rust"));
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "{missing:?}");
}

/// Wrong settings and a missing secret, in the file, at the field, with the fix.
fn what_is_wrong_is_said(language: &str, hub: &Hub, key: &str, check: impl Fn() -> Ran) {
    let route = |settings: &str| {
        format!(
            "from = \"{NAME}\"\ntypes = [\"parcel.*\"]\nplatform = \"{NAME}\"\n{settings}\n{key}\
             [endpoint]\nurl = \"https://shop.example.com/\"\n"
        )
    };
    hub.source(NAME, &format!("plugin = \"{NAME}\"\n"));
    hub.route("a", route("settings.tracking_url = 7"));
    hub.route("b", route("settings.tracking_url = \"http://track.example.com\""));
    hub.route("c", route("settings.tracking-url = \"https://track.example.com\""));
    let ran = check();
    assert_eq!(ran.status, Some(1), "{language}: {ran:?}");
    let says = [
        "routes/a.toml:4:25: settings.tracking_url: 7 is not of type \"string\"",
        "routes/b.toml:4:25: settings.tracking_url: is not an https:// URL",
        "routes/c.toml:4:1: settings: Additional properties are not allowed ('tracking-url' was \
         unexpected)",
        "sources/parcel-radar.toml:1:10: `parcel-radar` needs the secret `key` (signs every \
         request): secrets.key = { env = \"NAME\" }",
        "error: 4 problems",
    ];
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), says, "{language}");
}

/// What is thrown, and no answer: the attempt says the words and the line.
fn an_exception_is_told(language: &str, folder: &Path) {
    let (file, before, throws, says): (_, _, _, &[&str]) = match language {
        "js" => (
            "plugin.js",
            "    const parcel = ",
            "    if (event.id()) throw new TypeError(\"no scales\");\n",
            &["TypeError: no scales"],
        ),
        "python" => (
            "app.py",
            "        parcel = event",
            "        raise ValueError(\"no scales\")\n",
            &["ValueError: no scales", "app.py\\\", line "],
        ),
        "go" => (
            "plugin/plugin.go",
            "\tparcel := event",
            "\tpanic(\"no scales\")\n",
            &["panic: no scales", "plugin/plugin.go:"],
        ),
        _ => (
            "src/lib.rs",
            "        let parcel = event",
            "        assert_eq!(event.id(), \"\", \"no scales\");\n",
            &["no scales", "panicked at src/lib.rs:"],
        ),
    };
    let source = fs::read_to_string(folder.join(file)).expect("the plugin");
    let broken = source.replacen(before, &format!("{throws}{before}"), 1);
    assert_ne!(source, broken, "{language}");
    fs::write(folder.join(file), broken).expect("a file");
    let ran = build(folder);
    assert_eq!(ran.status, Some(0), "{language}: {ran:?}");
    let wasm = folder.join(format!("{NAME}.wasm"));
    let cases = folder.join("cases");
    let ran = plugpost(["plugin".as_ref(), "test".as_ref(), wasm.as_os_str(), cases.as_os_str()]);
    assert_eq!(ran.status, Some(1), "{language}: {ran:?}");
    for part in ["+failure in transform: plugin.trap"].iter().chain(says) {
        assert!(ran.stdout.contains(part), "{language}: {part}: {}", ran.stdout);
    }
}

/// The tool a language needs that is not there.
fn toolchain(language: &str) -> Result<(), &'static str> {
    let (tool, version) = match language {
        "js" => ("node", "--version"),
        "python" => ("python3", "--version"),
        "go" => ("go", "version"),
        _ => ("cargo", "--version"),
    };
    let found = Command::new(tool).arg(version).output().is_ok_and(|it| it.status.success());
    if found { Ok(()) } else { Err(tool) }
}

#[test]
fn a_plugin_is_not_begun_over_another_nor_under_a_name_that_is_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let new = |name: &str, dir: &Path| {
        plugpost(["plugin", "new", name, "--lang", "js", "--dir", dir.to_str().expect("UTF-8")])
    };
    fs::write(folder.path().join("mine"), "").expect("a file");
    let ran = new("radar", folder.path());
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("is not empty: give another folder with --dir"), "{ran:?}");
    for name in ["../radar", "Radar", "", "7radar", "radar-", "a b"] {
        let ran = new(name, &folder.path().join("new"));
        assert_eq!(ran.status, Some(1), "{name}: {ran:?}");
        assert!(ran.stderr.contains("is no name for a plugin"), "{name}: {ran:?}");
    }
    assert!(!folder.path().join("new").exists());
}

#[test]
fn what_is_missing_to_build_is_said_with_the_way_to_get_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ran = build(folder.path());
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("none of Cargo.toml, package.json, pyproject.toml, go.mod"),
        "{ran:?}"
    );
    let empty = tempfile::tempdir().expect("a temporary folder");
    for (example, says) in [
        ("rust", "Rust is missing: https://rustup.rs"),
        ("javascript", "Node.js is missing: https://nodejs.org"),
        ("python", "Python is missing: https://python.org"),
        ("go", "Go is missing: https://go.dev/dl"),
    ] {
        let copy = folder.path().join(example);
        let copied = Command::new("cp").arg("-R").arg(examples().join(example)).arg(&copy).status();
        assert!(copied.expect("cp is there").success());
        let output = Command::new(env!("CARGO_BIN_EXE_plugpost"))
            .args(["plugin", "build"])
            .arg(&copy)
            .env("PATH", empty.path())
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

/// A running `plugpost dev`.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_save_is_built_tested_and_loaded() {
    if let Err(tool) = toolchain("js") {
        let _ = writeln!(stderr(), "NOT TESTED: `plugpost dev` (no {tool})");
        assert!(std::env::var_os("CI").is_none());
        return;
    }
    let _fetched = fetched();
    let cache = root().join("target/authoring/js/node_modules");
    if !cache.is_dir() {
        let ran = build(&begun("js", "node_modules"));
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin = folder.path().join("plugin");
    let ran = plugpost([
        "plugin".as_ref(),
        "new".as_ref(),
        NAME.as_ref(),
        "--lang".as_ref(),
        "js".as_ref(),
        "--dir".as_ref(),
        plugin.as_os_str(),
    ]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    std::os::unix::fs::symlink(&cache, plugin.join("node_modules")).expect("a link");
    let hub = Hub::new();
    hub.secret("key", "parcel-tulip-7312");
    hub.source(NAME, &format!("plugin = \"{NAME}\"\nsecrets.key = {{ file = \"secrets/key\" }}\n"));
    let log = folder.path().join("log");
    let out = fs::File::create(&log).expect("a file");
    let errors = out.try_clone().expect("a file");
    let _dev = Dev(Command::new(env!("CARGO_BIN_EXE_plugpost"))
        .arg("dev")
        .arg(&plugin)
        .arg("--hub")
        .arg(hub.path())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .spawn()
        .expect("the binary starts"));
    let said = |what: &str| {
        // It compiles several megabytes, below everybody else on the machine.
        eventually_within(Duration::from_mins(10), what, || {
            let text = fs::read_to_string(&log).expect("the log");
            text.contains(what).then_some(())
        });
    };
    said("5 passed, 0 failed");
    said("events at http://127.0.0.1:");
    let source = plugin.join("plugin.js");
    let text = fs::read_to_string(&source).expect("the plugin");
    // What breaks a case is not loaded; what holds is.
    fs::write(&source, text.replace("no signature fits", "go away")).expect("a file");
    said("not loaded: what ran before goes on");
    fs::write(&source, text.replace("version: \"0.1.0\"", "version: \"0.2.0\"")).expect("a file");
    said("published a new snapshot");
}

// ---- test: a hub's cases

fn hub_with_cases() -> Hub {
    let hub = Hub::new();
    hub.plugin("cel").plugin("hmac");
    let filter = "[[filter]]\nplugin = \"cel\"\nsettings.expression = \"data.total > 10\"\n";
    let auth = "[[auth]]\nplugin = \"hmac\"\nsettings.scheme = \"github\"\nsecrets.key = { env = \"NOT_SET_ANYWHERE\" }\n";
    let endpoint = "[endpoint]\nurl = \"https://acme.example.com/hook\"\n";
    let from = "from = \"erp\"\ntypes = [\"order.*\"]\n";
    hub.route("signed", format!("{from}{auth}{endpoint}"));
    hub.route("large", format!("{from}{filter}{endpoint}"));
    let case = json!({
        "about": "A small order.",
        "event": {
            "id": "evt_1kqs6wa0y0007", "type": "order.created", "source": "erp",
            "time": "2026-05-04T09:59:58.750Z", "data": "{\"total\":5}",
            "attributes": { "datacontenttype": "application/json" },
        },
        "at": "2026-05-04T10:00:00Z",
        "secrets": { "signed": { "key": "psst" } },
        "routes": {
            "large": { "filtered": true },
            "signed": { "request": {
                "method": "POST",
                "url": "https://acme.example.com/hook",
                "headers": {
                    "content-type": "application/json",
                    "webhook-id": "evt_1kqs6wa0y0007",
                    // printf '{"total":5}' | openssl dgst -sha256 -hmac psst
                    "x-hub-signature-256": "sha256=SIGNATURE",
                },
                "body": "{\"total\":5}",
            }},
        },
    });
    let signature = {
        use hmac::{KeyInit as _, Mac as _};
        let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"psst").expect("any length");
        hex::encode(mac.chain_update(b"{\"total\":5}").finalize().into_bytes())
    };
    hub.write("tests/small.json", format!("{case:#}").replace("SIGNATURE", &signature));
    hub
}

fn hub_test(hub: &Hub, arguments: &[&str]) -> Ran {
    let fixed = ["test".as_ref(), hub.path().as_os_str()];
    plugpost(fixed.into_iter().chain(arguments.iter().map(|it| it.as_ref())))
}

#[test]
fn a_hub_is_tested_without_its_secrets() {
    let hub = hub_with_cases();
    let ran = hub_test(&hub, &[]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("1 passed, 0 failed\n"), "{ran:?}");

    // Another threshold lets it pass: the case tells by which route.
    let route = hub.path().join("routes/large.toml");
    let text = fs::read_to_string(&route).expect("the route").replace("> 10", "> 1");
    fs::write(&route, text).expect("a file");
    let ran = hub_test(&hub, &[]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("FAILED  small: A small order."), "{ran:?}");
    assert!(ran.stdout.contains("-route large: filtered"), "{ran:?}");
    assert!(ran.stdout.contains("+route large: POST https://acme.example.com/hook"), "{ran:?}");
    let answer: Value = serde_json::from_str(&hub_test(&hub, &["--json"]).stdout).expect("JSON");
    assert_eq!(answer["failed"], 1, "{answer}");

    assert_eq!(hub_test(&hub, &["--bless"]).status, Some(0));
    assert_eq!(hub_test(&hub, &[]).status, Some(0));
    let case = fs::read_to_string(hub.path().join("tests/small.json")).expect("the case");
    assert!(case.contains("\"about\": \"A small order.\""), "{case}");
    assert!(!case.contains("filtered"), "{case}");
}

#[test]
fn a_hub_without_cases_or_with_wrong_ones_does_not_pass() {
    let hub = hub_with_cases();
    let case = fs::read_to_string(hub.path().join("tests/small.json")).expect("the case");
    let with = |from: &str, to: &str| {
        hub.write("tests/small.json", case.replace(from, to));
        let ran = hub_test(&hub, &[]);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        ran.stdout
    };
    let said = with("\"key\": \"psst\"", "\"kee\": \"psst\"");
    assert!(said.contains("no plugin of the route `signed` has the secret `kee`"), "{said}");
    let said = with("\"signed\": {\n      \"key\"", "\"singed\": {\n      \"key\"");
    assert!(said.contains("names the route `singed`, which is not there"), "{said}");
    // Without the case's own key another stands in, and the signature is another.
    let said = with("\"key\": \"psst\"", "\"key\": \"tsst\"");
    assert!(said.contains("+x-hub-signature-256: sha256="), "{said}");
    fs::remove_file(hub.path().join("tests/small.json")).expect("it goes");
    assert_eq!(hub_test(&hub, &[]).status, Some(1));
}
