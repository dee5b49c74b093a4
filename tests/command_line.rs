//! What a person types at a running engine: following, receiving, sending a range
//! again, and what packagers install.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use crate::support::engine::{Engine, command};
use crate::support::hub::{Hub, once, to};
use crate::support::receiver::{Receiver, Reply};
use crate::support::{PATIENCE, files, plugpost};

/// A command that goes on until it is killed, and its lines.
struct Going {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

impl Going {
    fn start(arguments: &[&str]) -> Self {
        let mut command = command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
        command.args(arguments).stdin(Stdio::null());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).expect("a line")
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|it| sender.send(it))
    });
    receiver
}

#[test]
fn tail_follows_and_events_and_recover_say_what_the_api_says() {
    let receiver = Receiver::start(|_| Reply::status(418));
    let hub = Hub::new();
    hub.route("out", once(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let admin = format!("http://{}", engine.admin);
    let plain = Going::start(&["tail", "--admin", &admin]);
    let json = Going::start(&["tail", "--json", "--status", "dead", "--admin", &admin]);
    // They listen when one has heard something: what is sent before that is not for them.
    let heard = crate::support::eventually("both to listen", || {
        engine.send("order.created", "{}");
        let told = json.stdout.recv_timeout(std::time::Duration::from_millis(50)).ok()?;
        plain.stdout.recv_timeout(std::time::Duration::from_millis(50)).ok().map(|it| (told, it))
    });
    let told: Value = serde_json::from_str(&heard.0).expect("JSON");
    assert_eq!(told["status"], "dead");
    assert!(heard.1.contains("418"), "{heard:?}");
    assert!(!heard.1.contains('\u{1b}'), "no colours outside of a terminal: {heard:?}");
    engine.drained();

    let event = engine.send("invoice.paid", "{}");
    engine.ended(&event, "out");
    let ran = plugpost(["events", "--type", "invoice.*", "--admin", &admin]);
    assert!(ran.stdout.starts_with(&event) && ran.stdout.lines().count() == 1, "{ran:?}");
    let ran = plugpost(["events", &event, "--admin", &admin]);
    let shown: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&shown["id"], &shown["data"]), (&event.into(), &"{}".into()));

    let all = engine.deliveries("limit=500").len();
    let recover = ["recover", "--route", "out", "--since", "2020-01-01T00:00:00Z"];
    let recover = |more: &[&str]| plugpost(recover.iter().chain(&["--admin", &admin]).chain(more));
    let ran = recover(&["--json"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let run: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&run["state"], &run["resent"]), (&"done".into(), &all.into()));
    let ran = recover(&["--until", "2020-01-02T00:00:00Z"]);
    assert!(ran.stdout.contains("done  0 sent again"), "{ran:?}");
    assert_eq!(recover(&["--until", "tomorrow"]).status, Some(1));
    assert_eq!(plugpost(["recover", "--since", "2020-01-01T00:00:00Z"]).status, Some(2));
    let ended = plugpost(["tail", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
}

#[test]
fn listen_shows_what_arrives_and_says_whether_it_is_signed() {
    const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
    let start = |more: &[&str]| {
        let mut arguments = vec!["listen", "--addr", "127.0.0.1:0", "--json"];
        arguments.extend(more);
        let listening = Going::start(&arguments);
        let line = listening.stderr.recv_timeout(PATIENCE).expect("a line");
        let url = line.strip_prefix("listening at ").expect("where it listens").to_owned();
        (listening, url)
    };
    let (good, good_url) = start(&["--key", KEY, "--status", "202"]);
    let (bad, bad_url) = start(&["--key", "another"]);
    let (open, open_url) = start(&[]);
    let hub = Hub::new();
    hub.plugin("standard-webhooks").secret("key", KEY);
    for (name, url) in [("good", &good_url), ("bad", &bad_url), ("open", &open_url)] {
        let auth = "[[auth]]\nplugin = \"standard-webhooks\"\n\
                    secrets.key = { file = \"secrets/key\" }\n";
        hub.route(name, to(url) + "\n" + auth);
    }
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{\"n\":1}");
    let arrived = |it: &Going| serde_json::from_str::<Value>(&it.line()).expect("JSON");
    let request = arrived(&good);
    assert_eq!((&request["verified"], &request["body"]), (&true.into(), &"{\"n\":1}".into()));
    assert_eq!(arrived(&bad)["verified"], false);
    assert_eq!(arrived(&open)["verified"], Value::Null);
    assert_eq!(engine.ended(&event, "good")["last_status_code"], 202);
    assert_eq!(engine.ended(&event, "bad")["last_status_code"], 401);
    assert_eq!(engine.ended(&event, "open")["last_status_code"], 200);
}

#[test]
fn shells_and_manuals_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = plugpost(["completions", shell]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(ran.stdout.contains("recover") && ran.stdout.contains("listen"), "{shell}");
    }
    assert_eq!(plugpost(["completions", "cmd"]).status, Some(2));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let man = folder.path().join("man1");
    let ran = plugpost(["man".as_ref(), man.as_os_str()]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let pages = files(&man, "1");
    assert!(pages.iter().any(|it| it.ends_with("plugpost-tail.1")), "{pages:?}");
}
