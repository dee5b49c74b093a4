//! What strangers' bytes meet first, one function a parser, each with what must hold
//! of what it makes of them. Only in builds with the feature `fuzz`: `tests/fuzz` has
//! the program that calls them, and the inputs that found something.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::attempt::parse_retry_after;
use crate::clock::{LATEST, UnixMs};
use crate::event::{EventId, TypePattern};
use crate::plugin::{Encoding, Key};
use crate::retry::{RETRY_AFTER_MAX, RetryPolicy};
use crate::{client, config, ingest, json, plugin};

/// A parser by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every parser.
pub const TARGETS: [Target; 8] = [
    ("cloudevents", cloudevents),
    ("json", json_pointer),
    ("retry-after", retry_after),
    ("files", files),
    ("headers", headers),
    ("keys", keys),
    ("component", component),
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

/// What is looked at before a component goes to the compiler.
fn component(bytes: &[u8]) {
    plugin::look_at(bytes);
}

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
