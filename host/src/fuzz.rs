//! What strangers' bytes meet first, one function a parser, each with what must hold
//! of what it makes of them. Only in builds with the feature `fuzz`: `tests/fuzz` has
//! the program that calls them, and the inputs that found something.

use std::fs;
use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::attempt::{Fault, parse_retry_after};
use crate::clock::{LATEST, UnixMs};
use crate::event::{EventId, TypePattern};
use crate::plugin::fuzzed::{self, Parrot, SECRET};
use crate::plugin::{Description, Encoding, Key, OutHeader, Problem};
use crate::retry::{RETRY_AFTER_MAX, RetryPolicy};
use crate::{client, config, ingest, json, pipeline, plugin};

/// A parser by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every parser.
pub const TARGETS: [Target; 9] = [
    ("cloudevents", cloudevents),
    ("json", json_pointer),
    ("retry-after", retry_after),
    ("files", files),
    ("headers", headers),
    ("keys", keys),
    ("component", component),
    ("lifting", lifting),
    ("texts", texts),
];

/// The first byte chooses the way of sending, lines before an empty one are headers.
fn cloudevents(bytes: &[u8]) {
    let Some((way, rest)) = bytes.split_first() else { return };
    let end = rest.windows(2).position(|it| it == b"\n\n").unwrap_or(0);
    let (head, body) = (&rest[..end], &rest[(end + 2).min(rest.len())..]);
    let mut headers = HeaderMap::new();
    for line in head.split(|it| *it == b'\n') {
        let Some(colon) = line.iter().position(|it| *it == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line[colon + 1..])) {
            headers.insert(name, value);
        }
    }
    let media_type = match way % 3 {
        0 => "application/cloudevents+json",
        1 => "application/cloudevents-batch+json",
        _ => "application/json",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    for event_type in ingest::cloud_event_types(&headers, Bytes::copy_from_slice(body)) {
        assert!(!event_type.is_empty());
    }
}

/// A pointer, an empty line, JSON: the value found is the one that a whole tree has.
fn json_pointer(bytes: &[u8]) {
    let end = bytes.windows(2).position(|it| it == b"\n\n").unwrap_or(0);
    let Ok(pointer) = std::str::from_utf8(&bytes[..end]) else { return };
    let text = &bytes[(end + 2).min(bytes.len())..];
    let found = json::field(text, pointer);
    match serde_json::from_slice::<Value>(text) {
        Ok(tree) => {
            assert_eq!(json::error(text), None);
            let found = found.map(|it| serde_json::from_str::<Value>(it).expect("JSON"));
            // The tree's library gives a name of its own to numbers and raw text.
            if !text.windows(2).any(|it| it == b"$s") {
                assert_eq!(found.as_ref(), tree.pointer(pointer), "{pointer:?}");
            }
        }
        // A tree has a number for each number, and no half of a surrogate pair.
        Err(_) => drop(json::error(text)),
    }
}

fn retry_after(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let asked = parse_retry_after(text, UnixMs(1_800_000_000_000));
    let policy = RetryPolicy::default();
    let (wait, least) = (policy.wait(1, asked, 0.5), policy.wait(1, None, 0.5));
    assert!(wait >= least && wait <= Some(RETRY_AFTER_MAX), "{wait:?}");
}

/// The first byte chooses the kind of file.
fn files(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let lines = text.split('\n').count();
    for problem in config::read_one(*kind, text) {
        let (line, column) = problem.at.unwrap_or((1, 1));
        assert!((1..=lines).contains(&line) && column >= 1, "{problem}");
        assert!(!problem.message.is_empty());
    }
}

/// A name, a line end, a value: what passes can neither frame nor split a request.
fn headers(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|it| *it == b'\n') else { return };
    let (Ok(name), Ok(value)) =
        (std::str::from_utf8(&bytes[..end]), std::str::from_utf8(&bytes[end + 1..]))
    else {
        return;
    };
    if let Ok(header) = plugin::checked_header(name, value, false) {
        assert!(!client::frames_the_request(&header.name));
        assert!(!header.value.as_bytes().iter().any(|it| matches!(it, b'\r' | b'\n' | 0)));
    }
}

/// The first byte chooses the encoding.
fn keys(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let names = ["text", "base64", "hex", "standard-webhooks"];
    if let Some(encoding) = Encoding::from_name(names[usize::from(*kind) % names.len()]) {
        let _ = Key::decode(Zeroizing::new(text.to_owned()), encoding);
    }
    let _ = client::tls::trust(text);
    let _ = client::tls::identity(text, text);
}

/// A file that is loaded as a plugin: it is one, or it is said why not, in time.
fn component(bytes: &[u8]) {
    let begun = Instant::now();
    match fuzzed::load(bytes) {
        None => return,
        Some(Ok(component)) => described(component.description()),
        Some(Err(message)) => {
            assert!(!message.is_empty() && !message.contains("did not start"), "{message}");
            shown(&message);
        }
    }
    assert!(begun.elapsed() < LOADING_MAX, "{:?}", begun.elapsed());
    assert_eq!(children(), "", "a compiler that goes on, or that nobody has buried");
}

/// The processes that this one has begun and that are still there.
fn children() -> String {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|it| fs::read_to_string(it.path().join("children")).ok()).collect()
}

/// For a file of some kilobytes, on a machine that does other things as well.
const LOADING_MAX: Duration = Duration::from_secs(4);

/// The first byte chooses a function, the others are the guest's memory from its beginning:
/// the first four say where there what it returns is.
fn lifting(bytes: &[u8]) {
    static PARROT: OnceLock<Parrot> = OnceLock::new();
    let parrot = PARROT.get_or_init(|| Parrot::start().unwrap_or_else(|it| panic!("{it}")));
    let Some((function, told)) = bytes.split_first() else { return };
    match function % 9 {
        0 => match parrot.describe(told) {
            Ok(description) => described(&description),
            Err(message) => shown(&message),
        },
        1 => match parrot.configure(told) {
            Ok(problems) => problems.iter().for_each(|Problem { pointer, message }| {
                shown(pointer);
                shown(message);
            }),
            Err(fault) => faulty(&fault),
        },
        2 => match done(parrot.credentials(told)) {
            Ok(api) => {
                let mut headers = HeaderMap::new();
                headers.insert("authorization", HeaderValue::from_static("Bearer abc"));
                let _ = api.take_token(&mut headers);
            }
            Err(message) => shown(&message),
        },
        3 => match done(parrot.receive(told)) {
            Ok(Ok(_)) => {}
            Ok(Err(rejection)) => shown(&rejection.message),
            Err(fault) => faulty(&fault),
        },
        4 => drop(done(parrot.accept(told)).map_err(|fault| faulty(&fault))),
        5 => match done(parrot.apply(told)) {
            Ok(message) => sent(told, message.headers),
            Err(fault) => faulty(&fault),
        },
        6 => match done(parrot.sign(told)) {
            Ok(headers) => sent(told, headers),
            Err(fault) => faulty(&fault),
        },
        7 => match done(parrot.answer(told)) {
            Ok(answered) => {
                assert!((200..600).contains(&answered.status.as_u16()));
                answered.headers.iter().for_each(|(name, value)| harmless(name, value));
            }
            Err(fault) => faulty(&fault),
        },
        _ => match parrot.ruled(told) {
            Ok(headers) => sent(told, headers),
            Err(fault) => faulty(&fault),
        },
    }
}

fn done<T>(call: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME
        .get_or_init(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
    runtime.block_on(call)
}

/// What a plugin says of itself, and what the host makes of its schema and its rules.
fn described(said: &Description) {
    [&said.name, &said.version, &said.summary].into_iter().for_each(|it| shown(it));
    let _ = config::parse_policy(&said.policy).map_err(|it| shown(&it));
    if let Ok(schema) = jsonschema::validator_for(&said.settings_schema) {
        for settings in ["{}", "[]", "null", "1e400", r#"{"a":{"b":["c",1.5]},"d":""}"#] {
            let Ok(settings) = serde_json::from_str::<Value>(settings) else { continue };
            let _ = schema.iter_errors(&settings).count();
        }
    }
}

/// Headers in a request, and the request in the log: no secret is there.
fn sent(told: &[u8], headers: Vec<OutHeader>) {
    match pipeline::request_with(headers) {
        Ok((headers, logged)) => {
            headers.iter().for_each(|(name, value)| harmless(name, value));
            let hush = SECRET.1.as_bytes();
            let is_told = told.windows(hush.len()).any(|it| it == hush);
            assert!(is_told || !logged.headers.contains(SECRET.1), "{}", logged.headers);
        }
        Err(fault) => faulty(&fault),
    }
}

fn harmless(name: &HeaderName, value: &HeaderValue) {
    assert!(!client::frames_the_request(name), "{name}");
    assert!(!value.as_bytes().iter().any(|it| matches!(it, b'\r' | b'\n' | 0)), "{name}");
}

fn faulty(fault: &Fault) {
    assert!(!fault.code.is_empty() && fault.code.len() <= CODE_BYTES_MAX, "{}", fault.code);
    assert!(!fault.code.contains(char::is_control), "{}", fault.code);
    shown(&fault.message);
}

/// What people and logs are shown has a limit, and no more than lines.
fn shown(text: &str) {
    assert!(text.len() <= SHOWN_BYTES_MAX, "{} bytes: {:.200}", text.len(), text);
    assert!(!text.contains(|it: char| it.is_control() && it != '\n'), "{text:?}");
}

/// What is hard to show grows when it is shown all the same.
const SHOWN_BYTES_MAX: usize = 16 << 10;
const CODE_BYTES_MAX: usize = 512;

fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(moment) = UnixMs::parse(text) {
        assert!(moment <= LATEST, "{moment:?}");
        assert_eq!(UnixMs::parse(&moment.to_string()), Some(moment));
    }
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(pattern) = TypePattern::parse(text) {
        assert_eq!(pattern.to_string(), text);
    }
    config::read_value(text);
}
