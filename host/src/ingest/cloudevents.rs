//! CloudEvents 1.0 over HTTP at `POST /events`: binary, structured and batched.
//! Data that is JSON keeps its text.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::{Draft, duplicate_key};
use crate::clock::UnixMs;
use crate::config::Token;
use crate::event::MEDIA_TYPE;
use crate::problem::HttpProblem;
use crate::snapshot::Snapshot;

/// The events of a request. They belong to the source that their `source`
/// attribute names, if that source admits the token, or else to the source
/// called like the token: a token cannot speak for another's door.
pub(super) fn read(
    snapshot: &Snapshot,
    token: &Token,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Vec<Draft>, HttpProblem> {
    let mut events = parse(headers, &body)?;
    let idempotency_key = headers.get("idempotency-key").and_then(|it| it.to_str().ok());
    for (at, event) in events.iter_mut().enumerate() {
        event.duplicate_key = Some(match idempotency_key {
            Some(key) => {
                duplicate_key(&["idempotency-key", &token.name, key, &at.to_string()], Some(&body))
            }
            // CloudEvents §3.1: the same source and id are the same event.
            None => {
                duplicate_key(&["cloudevent", &token.name, &event.ce_source, &event.ce_id], None)
            }
        });
    }
    Ok(events.into_iter().map(|it| it.draft(snapshot, token)).collect())
}

/// The events as they were written.
pub(super) fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Vec<CloudEvent>, HttpProblem> {
    let content_type = match headers.get(CONTENT_TYPE).map(|it| it.to_str()) {
        Some(Ok(text)) => text,
        Some(Err(_)) => return Err(unsupported("a content type that is not text")),
        None => "",
    };
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/cloudevents+json" => Ok(vec![structured(body)?]),
        "application/cloudevents-batch+json" => batch(body),
        other if other.starts_with("application/cloudevents") => Err(unsupported(other)),
        _ if headers.contains_key("ce-specversion") => {
            Ok(vec![binary(headers, content_type, body.clone())?])
        }
        other => Err(unsupported(other)),
    }
}

/// An event as the sender wrote it.
pub(super) struct CloudEvent {
    ce_id: String,
    ce_source: String,
    pub(super) event_type: String,
    subject: Option<String>,
    time: Option<UnixMs>,
    attributes: Vec<(Box<str>, Box<str>)>,
    data: Bytes,
    duplicate_key: Option<crate::queue::DuplicateKey>,
}

impl CloudEvent {
    /// From its attributes; the data is set by the caller.
    fn from_attributes(mut all: BTreeMap<String, String>) -> Result<Self, HttpProblem> {
        let mut required = |name: &str| {
            all.remove(name).filter(|it| !it.is_empty()).ok_or_else(|| {
                HttpProblem::bad_request(format!("the CloudEvents attribute `{name}` is missing"))
            })
        };
        let version = required("specversion")?;
        if version != "1.0" {
            let detail = format!("specversion {version:?} is not 1.0");
            return Err(HttpProblem::bad_request(detail));
        }
        let (ce_id, ce_source, event_type) =
            (required("id")?, required("source")?, required("type")?);
        let time = match all.remove("time") {
            None => None,
            Some(text) => Some(UnixMs::parse(&text).ok_or_else(|| {
                HttpProblem::bad_request(format!("time {text:?} is not an RFC 3339 time"))
            })?),
        };
        let subject = all.remove("subject").filter(|it| !it.is_empty());
        let mut attributes: Vec<(Box<str>, Box<str>)> =
            all.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        attributes.push(("id".into(), ce_id.as_str().into()));
        attributes.push(("source".into(), ce_source.as_str().into()));
        Ok(Self {
            ce_id,
            ce_source,
            event_type,
            subject,
            time,
            attributes,
            data: Bytes::new(),
            duplicate_key: None,
        })
    }

    fn draft(self, snapshot: &Snapshot, token: &Token) -> Draft {
        let admitted = snapshot.sources.get(self.ce_source.as_str()).filter(|source| {
            source.tokens.as_ref().is_some_and(|tokens| tokens.contains(&token.name))
        });
        let source: Arc<str> = admitted.map_or_else(|| token.name.clone(), |it| it.name.clone());
        Draft {
            source,
            event_type: self.event_type.into(),
            subject: self.subject,
            time: self.time,
            attributes: self.attributes,
            data: self.data,
            duplicate_key: self.duplicate_key,
        }
    }
}

/// Attributes in `ce-` headers, the data as the body.
fn binary(headers: &HeaderMap, content_type: &str, body: Bytes) -> Result<CloudEvent, HttpProblem> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let value = std::str::from_utf8(value.as_bytes()).ok().and_then(percent_decoded);
        let value = value.ok_or_else(|| {
            HttpProblem::bad_request(format!("the header `ce-{name}` is not percent-encoded UTF-8"))
        })?;
        attributes.insert(name.to_owned(), value);
    }
    if !content_type.is_empty() {
        attributes.insert(MEDIA_TYPE.to_owned(), content_type.to_owned());
    }
    Ok(CloudEvent { data: body, ..CloudEvent::from_attributes(attributes)? })
}

/// CloudEvents HTTP binding §3.1.3.2; none when it is not UTF-8.
fn percent_decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after.first_chunk::<2>()) {
            (b'%', Some(digits)) => std::str::from_utf8(digits)
                .ok()
                .filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()))
                .and_then(|it| u8::from_str_radix(it, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

fn batch(body: &[u8]) -> Result<Vec<CloudEvent>, HttpProblem> {
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(|it| not_json(&it))?;
    events.into_iter().map(|it| structured(it.get().as_bytes())).collect()
}

/// Attributes and data in one JSON object.
fn structured(body: &[u8]) -> Result<CloudEvent, HttpProblem> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).map_err(|it| not_json(&it))?;
    let mut attributes = BTreeMap::new();
    let mut data = None;
    let mut data_base64 = None;
    for (name, value) in members {
        match name.as_str() {
            "data" => data = Some(value),
            "data_base64" => data_base64 = Some(value),
            _ => {
                if let Some(value) = attribute_text(&name, value)? {
                    attributes.insert(name, value);
                }
            }
        }
    }
    let json = attributes.get(MEDIA_TYPE).is_none_or(|it| is_json(it));
    let data = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(HttpProblem::bad_request("there are both `data` and `data_base64`"));
        }
        (None, None) => Bytes::new(),
        (None, Some(encoded)) => {
            let text = serde_json::from_str::<String>(encoded.get()).ok();
            let bytes = text.and_then(|it| BASE64_STANDARD.decode(it).ok());
            bytes.ok_or_else(|| HttpProblem::bad_request("`data_base64` is not base64"))?.into()
        }
        (Some(value), None) if json => Bytes::copy_from_slice(value.get().as_bytes()),
        // JSON event format §3.1.1: data of another media type is a JSON string of it.
        (Some(value), None) => match serde_json::from_str::<String>(value.get()) {
            Ok(text) => text.into(),
            Err(_) => Bytes::copy_from_slice(value.get().as_bytes()),
        },
    };
    if !data.is_empty() {
        attributes.entry(MEDIA_TYPE.to_owned()).or_insert_with(|| "application/json".to_owned());
    }
    Ok(CloudEvent { data, ..CloudEvent::from_attributes(attributes)? })
}

/// Strings, numbers and booleans; null is as if it were absent.
fn attribute_text(name: &str, value: &RawValue) -> Result<Option<String>, HttpProblem> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(Some).map_err(|it| not_json(&it)),
        Some(b'n') => Ok(None),
        Some(b'{' | b'[') => {
            let detail = format!("the CloudEvents attribute `{name}` is neither text nor number");
            Err(HttpProblem::bad_request(detail))
        }
        _ => Ok(Some(text.to_owned())),
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn not_json(error: &serde_json::Error) -> HttpProblem {
    HttpProblem::bad_request(format!("the body is not a CloudEvent in JSON: {error}"))
}

fn unsupported(media_type: &str) -> HttpProblem {
    let detail = format!(
        "{media_type:?} is not taken: send application/cloudevents+json, \
         application/cloudevents-batch+json, or any type with ce- headers"
    );
    HttpProblem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_percent_decoded() {
        assert_eq!(
            percent_decoded("Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(),
            Some("Euro € 😀")
        );
        assert_eq!(percent_decoded("100%").as_deref(), Some("100%"));
        assert_eq!(percent_decoded("%zz%2").as_deref(), Some("%zz%2"));
        assert_eq!(percent_decoded("%ff"), None);
    }

    #[test]
    fn data_in_json_keeps_its_text() {
        let body = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"b":1.10,"a":12345678901234567890}}"#;
        let Ok(event) = structured(body) else { panic!("a CloudEvent") };
        assert_eq!(event.data, &br#"{"b":1.10,"a":12345678901234567890}"#[..]);
    }
}
