//! Plugins: their golden cases through the real host, and what they sign checked
//! by the libraries that receivers use.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::client::Connection;
use crate::support::engine::Engine;
use crate::support::hub::Hub;
use crate::support::receiver::{Received, Receiver};
use crate::support::{beside_the_engine, files, plugin, plugpost, root};

#[test]
fn every_golden_case_holds_in_the_real_host() {
    let folders = plugin_folders();
    assert!(folders.len() >= 11, "{folders:?}");
    for (name, cases) in folders {
        let count = files(&cases, "json").len();
        let ran = plugpost(["plugin".into(), "test".into(), plugin(&name), cases]);
        assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
        let last = format!("{name}: {count} passed, 0 failed\n");
        assert!(ran.stdout.ends_with(&last), "{}", ran.stdout);
    }
}

#[test]
fn a_case_that_does_not_hold_is_told_by_name() {
    let case = root().join("plugins/http-auth/cases/a-bearer-token-fits.json");
    let mut altered: Value =
        serde_json::from_slice(&fs::read(case).expect("the case")).expect("JSON");
    altered["events"][0]["type"] = json!("stock.lost");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("altered.json"), altered.to_string()).expect("a file");
    let ran = plugpost(["plugin".into(), "test".into(), plugin("http-auth"), folder.path().into()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("FAILED altered: "), "{ran:?}");
    assert!(ran.stdout.contains("-event: stock.lost\n    +event: stock.counted\n"), "{ran:?}");
}

#[test]
fn a_folder_without_cases_shows_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ran = plugpost(["plugin".into(), "test".into(), plugin("nue"), folder.path().into()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
}

/// Name and cases of every plugin. A folder without cases is a failure of the reader.
fn plugin_folders() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(root().join("plugins")).expect("the folder of plugins");
    let mut folders: Vec<_> = entries
        .map(|it| it.expect("a readable entry").path())
        .filter(|it| it.join("Cargo.toml").is_file() && !it.ends_with("sdk"))
        .map(|it| {
            let name = it.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            (name, it.join("cases"))
        })
        .collect();
    folders.sort();
    folders
}

#[test]
fn a_published_vector_with_one_bit_changed_is_refused() {
    let mut vectors = Vec::new();
    for (name, cases) in plugin_folders() {
        let published = files(&cases, "json").into_iter().filter(|it| {
            let stem = it.file_stem().unwrap_or_default().to_string_lossy();
            stem.contains("published") && stem.contains("vector")
        });
        vectors.extend(published.map(|it| (name.clone(), it)));
    }
    // Standard Webhooks v1, Svix v1 (twice: two plugins speak it), v1a with either half of the pair.
    assert!(vectors.len() >= 5, "{vectors:?}");
    for (name, file) in vectors {
        let case: Value =
            serde_json::from_slice(&fs::read(&file).expect("the case")).expect("JSON");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut count = 0;
        for (at, mutant) in mutants_of_case(&case).enumerate() {
            fs::write(folder.path().join(format!("{at:04}.json")), mutant.to_string())
                .expect("a file");
            count = at + 1;
        }
        // 44 characters of a code, about 30 of an id and 20 of a body: most bits leave them text.
        assert!(count > 400, "{}: {count}", file.display());
        let ran = plugpost(["plugin".into(), "test".into(), plugin(&name), folder.path().into()]);
        assert_eq!(ran.status, Some(0), "{}: {}{}", file.display(), ran.stdout, ran.stderr);
        let last = format!("{name}: {count} passed, 0 failed\n");
        assert!(ran.stdout.ends_with(&last), "{}", ran.stdout);
    }
}

/// The case with one bit of its signature, its id or its body changed, wherever
/// that leaves visible ASCII, which a case can hold.
fn mutants_of_case(case: &Value) -> impl Iterator<Item = Value> {
    let headers = case["receive"]["headers"].as_object().expect("headers");
    let ending = |end: &str| {
        let name = headers.keys().find(|it| it.ends_with(end)).expect("a signed request");
        format!("/receive/headers/{name}")
    };
    let places = [ending("-signature"), ending("-id"), "/receive/body".to_owned()];
    let mut mutants = Vec::new();
    for place in places {
        let text = case.pointer(&place).and_then(Value::as_str).expect("a text");
        for changed in one_bit_changes(text.as_bytes()) {
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if changed.contains(|it: char| !matches!(it, ' '..='~')) {
                continue;
            }
            // A full stop would shift the border between id and timestamp.
            let message = match place.ends_with("-id") && changed.contains('.') {
                true => "the message id contains a full stop",
                false => "no signature fits",
            };
            let mut mutant = case.clone();
            *mutant.pointer_mut(&place).expect("the same place") = json!(changed);
            let mutant_object = mutant.as_object_mut().expect("an object");
            mutant_object.remove("events");
            mutant_object.insert("rejection".into(), json!({ "status": 401, "message": message }));
            mutants.push(mutant);
        }
    }
    mutants.into_iter()
}

fn one_bit_changes(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at / 8] ^= 1 << (at % 8);
        changed
    })
}

#[test]
fn a_published_example_with_one_bit_changed_is_refused() {
    let mut examples = Vec::new();
    for (name, cases) in plugin_folders() {
        let published = files(&cases, "json").into_iter().filter(|it| {
            let stem = it.file_stem().unwrap_or_default().to_string_lossy();
            stem.contains("published") && stem.contains("example") && stem.ends_with("accepted")
        });
        examples.extend(published.map(|it| (name.clone(), it)));
    }
    // GitHub, Slack, two of Twilio's forms and its JSON.
    assert!(examples.len() >= 5, "{examples:?}");
    for (name, file) in examples {
        let case: Value =
            serde_json::from_slice(&fs::read(&file).expect("the case")).expect("JSON");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mutants = mutants_of_example(&case);
        assert!(mutants.len() > 150, "{}: {}", file.display(), mutants.len());
        for (at, mutant) in mutants.iter().enumerate() {
            let path = folder.path().join(format!("{at:04}.json"));
            fs::write(path, mutant.to_string()).expect("a file");
        }
        let ran = plugpost(["plugin".into(), "test".into(), plugin(&name), folder.path().into()]);
        // Each still expects its events, and is told that it was rejected.
        let refused = ["    +rejection: 400 ", "    +rejection: 401 "];
        let lines = ran.stdout.lines();
        let count = lines.filter(|line| refused.iter().any(|it| line.starts_with(it))).count();
        assert_eq!(count, mutants.len(), "{}: {}", file.display(), ran.stdout);
    }
}

/// The case with one bit of its signature or its body changed, wherever that
/// leaves visible ASCII, which a case can hold.
fn mutants_of_example(case: &Value) -> Vec<Value> {
    let headers = case["receive"]["headers"].as_object().expect("headers");
    let name = headers.keys().find(|it| it.contains("signature"));
    let places = [
        format!("/receive/headers/{}", name.expect("a signed request")),
        "/receive/body".to_owned(),
    ];
    let mut mutants = Vec::new();
    for place in places {
        let text = case.pointer(&place).and_then(Value::as_str).expect("a text");
        for changed in one_bit_changes(text.as_bytes()) {
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let is_same = is_same_hexadecimal(text, &changed);
            if is_same || changed.contains(|it: char| !matches!(it, ' '..='~')) {
                continue;
            }
            let mut mutant = case.clone();
            *mutant.pointer_mut(&place).expect("the same place") = json!(changed);
            mutants.push(mutant);
        }
    }
    mutants
}

/// True where only the case of a hexadecimal digit differs, of a code or of `%2f`.
fn is_same_hexadecimal(one: &str, other: &str) -> bool {
    let differing = one.bytes().zip(other.bytes()).find(|(a, b)| a != b);
    let is_base64 = one.ends_with('=');
    !is_base64
        && differing.is_some_and(|(a, b)| a.eq_ignore_ascii_case(&b) && a.is_ascii_hexdigit())
}

const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[test]
fn what_goes_out_verifies_with_the_receivers_own_libraries_and_no_changed_bit_does() {
    let receiver = Receiver::ok();
    let hub = signing_hub(&receiver);
    let engine = Engine::start(&hub);
    let mut library = Library::start();

    let mut random = fastrand::Rng::with_seed(7);
    let bodies: Vec<_> = (0..3).map(|_| body(&mut random)).collect();
    for body in &bodies {
        engine.send("opportunity.create", body);
    }
    let received = receiver.first(bodies.len() * 2);

    let mut verified = [0; 2];
    for request in &received {
        let message = Message::of(request);
        verified[usize::from(message.library == "svix")] += 1;
        assert_eq!(library.verify(&message), "ok", "{message:?}");
        // The same message comes in by a source that holds the same key.
        assert_eq!(post(&engine, &mut None, &message), 202, "{message:?}");
        let mut kept = None;
        for mutant in message.mutants() {
            assert_ne!(library.verify(&mutant), "ok", "{mutant:?}");
            let status = post(&engine, &mut kept, &mutant);
            // 400 is HTTP's own: a byte that no header may hold.
            assert!(matches!(status, 400 | 401), "{status}: {mutant:?}");
        }
    }
    assert_eq!(verified, [bodies.len(); 2], "by each library");
    let events_of_sources = engine.deliveries("source=buildr").len()
        + engine.deliveries("source=standard-webhooks").len();
    assert_eq!(events_of_sources, 0, "these sources have no route");
}

/// One route for each way to sign, and a source for each with the same key.
fn signing_hub(receiver: &Receiver) -> Hub {
    let hub = Hub::new();
    hub.plugin("buildr").plugin("standard-webhooks").secret("key", KEY);
    let from_erp = "from = \"erp\"\ntypes = [\"*\"]\n";
    let key = "secrets.key = { file = \"secrets/key\" }\n";
    let endpoint = |path: &str| format!("[endpoint]\nurl = \"{}\"\n", receiver.url(path));
    let svix = format!("{from_erp}platform = \"buildr\"\n{key}{}", endpoint("/svix"));
    hub.route("svix", svix);
    let auth = format!("[[auth]]\nplugin = \"standard-webhooks\"\n{key}");
    hub.route("standard", format!("{from_erp}{auth}{}", endpoint("/standardwebhooks")));
    for name in ["buildr", "standard-webhooks"] {
        hub.source(name, &format!("plugin = \"{name}\"\n{key}"));
    }
    hub
}

#[test]
fn settings_alone_verify_filter_shape_and_sign() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("hmac").plugin("cel").plugin("jq").secret("shop", "hush").secret("partner", "psst");
    hub.source(
        "shop",
        "plugin = \"hmac\"\nsettings.scheme = \"shopify\"\nsecrets.key = { file = \"secrets/shop\" }",
    );
    let route = r#"
from = "shop"
types = ["*"]

[[filter]]
plugin = "cel"
settings.expression = "data.total > 1 && type == 'orders/create'"

[[transform]]
plugin = "jq"
settings.program = "del(.token) | .kind = $event.type"

[[auth]]
plugin = "hmac"
settings.scheme = "github"
secrets.key = { file = "secrets/partner" }

[endpoint]
"#;
    hub.route("out", format!("{route}url = \"{}\"\n", receiver.url("/hook")));
    let engine = Engine::start(&hub);

    let post = |body: &str, key: &str| {
        let code = base64(&hmac_sha256(key, body.as_bytes()));
        let headers = [
            ("content-type", "application/json"),
            ("x-shopify-topic", "orders/create"),
            ("x-shopify-hmac-sha256", code.as_str()),
        ];
        engine.post("/in/shop", &headers, body.as_bytes())
    };
    let body = r#"{"z":1,"token":"x","total":1.10,"nr":1234567890123456789012345678901234567890}"#;
    assert_eq!(post(body, "another").status, 401);
    let declined = post(r#"{"total":1}"#, "hush").event_ids().remove(0);
    assert_eq!(engine.ended(&declined, "out")["status"], "filtered");
    let accepted = post(body, "hush").event_ids().remove(0);
    assert_eq!(engine.ended(&accepted, "out")["status"], "delivered");

    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:?}");
    let expected = r#"{"z":1,"total":1.10,"nr":1234567890123456789012345678901234567890,"kind":"orders/create"}"#;
    assert_eq!(String::from_utf8_lossy(&received[0].body), expected);
    let signature = format!("sha256={}", hex::encode(hmac_sha256("psst", expected.as_bytes())));
    assert_eq!(received[0].header("x-hub-signature-256"), Some(signature.as_str()));
}

fn hmac_sha256(key: &str, bytes: &[u8]) -> Vec<u8> {
    use hmac::{KeyInit as _, Mac as _};
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("any length");
    mac.chain_update(bytes).finalize().into_bytes().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// What Buildr sends, with letters of many alphabets in it.
fn body(random: &mut fastrand::Rng) -> String {
    let alphabet: Vec<char> = "aZ0 \"\\/äß☕水😀\u{7f}\u{200f}".chars().collect();
    let text: String =
        (0..random.usize(1..12)).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
    json!({ "id": random.u32(..), "url": format!("https://example.com/{text}") }).to_string()
}

/// A signed message.
#[derive(Clone, Debug)]
struct Message {
    library: &'static str,
    source: &'static str,
    prefix: &'static str,
    id: Vec<u8>,
    timestamp: Vec<u8>,
    signature: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    fn of(request: &Received) -> Self {
        let (library, source, prefix) = match request.path.as_str() {
            "/svix" => ("svix", "buildr", "svix"),
            "/standardwebhooks" => ("standardwebhooks", "standard-webhooks", "webhook"),
            path => panic!("{path}"),
        };
        let header = |name: &str| {
            let name = format!("{prefix}-{name}");
            request.header(&name).unwrap_or_else(|| panic!("no {name}")).as_bytes().to_vec()
        };
        Self {
            library,
            source,
            prefix,
            id: header("id"),
            timestamp: header("timestamp"),
            signature: header("signature"),
            body: request.body.clone(),
        }
    }

    /// The same with one bit changed, for every bit.
    fn mutants(&self) -> impl Iterator<Item = Self> {
        let ids = one_bit_changes(&self.id).map(|id| Self { id, ..self.clone() });
        let timestamps =
            one_bit_changes(&self.timestamp).map(|timestamp| Self { timestamp, ..self.clone() });
        let signatures =
            one_bit_changes(&self.signature).map(|signature| Self { signature, ..self.clone() });
        let bodies = one_bit_changes(&self.body).map(|body| Self { body, ..self.clone() });
        ids.chain(timestamps).chain(signatures).chain(bodies)
    }
}

/// Post a message to the source that must know it; `kept` is a connection for
/// many, which the engine closes after a request that is no HTTP.
fn post(engine: &Engine, kept: &mut Option<Connection>, message: &Message) -> u16 {
    let mut request =
        format!("POST /in/{}/opportunity.create HTTP/1.1\r\nhost: engine\r\n", message.source)
            .into_bytes();
    let length = message.body.len().to_string().into_bytes();
    let names = ["id", "timestamp", "signature"].map(|it| format!("{}-{it}", message.prefix));
    let values = [&message.id, &message.timestamp, &message.signature];
    let headers = names.into_iter().zip(values).chain([("content-length".to_owned(), &length)]);
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&message.body);

    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(engine.public).expect("the engine listens"),
    };
    connection.write(&request).expect("the engine reads");
    let status = connection.answer().expect("the engine answers").status;
    if status != 400 {
        *kept = Some(connection);
    }
    status
}

/// The public libraries, in a program of their own.
struct Library {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Library {
    fn start() -> Self {
        let program = beside_the_engine("verify", "cargo build --release --package verify");
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    /// `ok`, or why not. What is not text has no JSON, and the libraries refuse it
    /// as well.
    fn verify(&mut self, message: &Message) -> String {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        let texts = [&message.id, &message.timestamp, &message.signature, &message.body];
        let texts: Result<Vec<_>, _> = texts.into_iter().map(|it| text(it)).collect();
        let Ok(texts) = texts else { return "not UTF-8".into() };
        let [id, timestamp, signature, body] = texts.try_into().expect("four");
        let prefix = message.prefix;
        let question = json!({
            "library": message.library,
            "secret": KEY,
            "headers": {
                (format!("{prefix}-id")): id,
                (format!("{prefix}-timestamp")): timestamp,
                (format!("{prefix}-signature")): signature,
            },
            "body": body,
        });
        writeln!(self.stdin, "{question}").expect("the program reads");
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("the program answers");
        answer.trim_end().to_owned()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
