//! A case's file: what it may say, and writing what was made into it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::call::{CallCase, ResponseCase};
use super::made::{Made, MadeEvent};
use crate::clock::UnixMs;
use crate::event::Event;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) about: String,
    #[serde(default = "no_settings")]
    pub(super) settings: Value,
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, Versions>,
    pub(super) receive: Option<ReceiveCase>,
    pub(super) send: Option<SendCase>,
    pub(super) call: Option<CallCase>,
    events: Option<Vec<EventCase>>,
    rejection: Option<RejectionCase>,
    request: Option<RequestCase>,
    pub(super) accepted: Option<bool>,
    pub(super) failure: Option<FailureCase>,
    problems: Option<Vec<ProblemCase>>,
    response: Option<ResponseCase>,
}

/// What a case may expect: members of its file, one of which there is.
const EXPECTATIONS: [&str; 7] =
    ["events", "rejection", "request", "accepted", "failure", "problems", "response"];

/// One version of a secret, or several with the newest first.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a secret is a text, or a list of texts with the newest first")]
pub(super) enum Versions {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiveCase {
    pub(super) at: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
    pub(super) body_file: Option<String>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventCase {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file: Option<String>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RejectionCase {
    status: u16,
    message: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendCase {
    pub(super) event: EventCase,
    pub(super) url: String,
    pub(super) at: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestCase {
    pub(super) method: String,
    pub(super) headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_file: Option<String>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailureCase {
    pub(super) stage: String,
    pub(super) code: String,
    pub(super) retry: bool,
    pub(super) message: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ProblemCase {
    pointer: String,
    message: String,
}

fn no_settings() -> Value {
    Value::Object(serde_json::Map::new())
}

impl Case {
    /// What must come out; none while the author has not said.
    pub(super) fn expected(&self, folder: &Path) -> anyhow::Result<Option<Made>> {
        let Self { events, rejection, request, accepted, failure, problems, response, .. } =
            self.clone();
        let mut expected = Vec::new();
        if let Some(events) = events {
            let events = events.into_iter().map(|it| it.made(folder));
            expected.push(Made::Events(events.collect::<anyhow::Result<_>>()?));
        }
        if let Some(RejectionCase { status, message }) = rejection {
            expected.push(Made::Rejection { status, message });
        }
        if let Some(RequestCase { method, headers, body: text, body_file }) = request {
            let headers =
                headers.into_iter().map(|(name, it)| (name.to_ascii_lowercase(), it)).collect();
            let body = body(text, body_file, folder)?.unwrap_or_default();
            expected.push(Made::Request { method, headers, body });
        }
        expected.extend(accepted.map(Made::Accepted));
        if let Some(FailureCase { stage, code, retry, message }) = failure {
            expected.push(Made::Failure { stage, code, retry, message });
        }
        if let Some(problems) = problems {
            let problems = problems.into_iter().map(|it| (it.pointer, it.message));
            expected.push(Made::Problems(problems.collect()));
        }
        if let Some(ResponseCase { status, headers, body: text, body_file }) = response {
            let headers =
                headers.into_iter().map(|(name, it)| (name.to_ascii_lowercase(), it)).collect();
            let body = body(text, body_file, folder)?.unwrap_or_default();
            expected.push(Made::Response { status, headers, body });
        }
        match expected.len() {
            0 | 1 => Ok(expected.pop()),
            _ => bail!("a case expects one thing: one of {}", EXPECTATIONS.join(", ")),
        }
    }

    /// The headers it names in its request.
    pub(super) fn named_headers(&self) -> Vec<String> {
        let names = self.request.iter().flat_map(|it| it.headers.keys());
        names.map(|it| it.to_ascii_lowercase()).collect()
    }

    /// The file's text with what was made in the place of what was expected. Bodies
    /// that lie beside the case are written there.
    pub(super) fn blessed(
        &self,
        text: &str,
        made: &Made,
        file: &Path,
    ) -> anyhow::Result<Option<String>> {
        let (key, value) = match made {
            Made::Taken => bail!("the settings were taken, and the case asks for nothing else"),
            Made::Events(events) => ("events", self.events_as_json(events, file)?),
            Made::Rejection { status, message } => {
                let message = message.clone();
                ("rejection", serde_json::to_value(RejectionCase { status: *status, message })?)
            }
            Made::Request { method, headers, body } => {
                let at = self.request.as_ref().and_then(|it| it.body_file.clone());
                let (body, body_file) = laid_down(body, at, file, "body")?;
                let (method, headers) = (method.clone(), headers.clone());
                let request = RequestCase { method, headers, body, body_file };
                ("request", serde_json::to_value(request)?)
            }
            Made::Response { status, headers, body } => {
                let at = self.response.as_ref().and_then(|it| it.body_file.clone());
                let (body, body_file) = laid_down(body, at, file, "body")?;
                let (status, headers) = (*status, headers.clone());
                let response = ResponseCase { status, headers, body, body_file };
                ("response", serde_json::to_value(response)?)
            }
            Made::Accepted(accepted) => ("accepted", Value::Bool(*accepted)),
            Made::Failure { stage, code, retry, message } => {
                let (stage, code, message) = (stage.clone(), code.clone(), message.clone());
                let failure = FailureCase { stage, code, retry: *retry, message };
                ("failure", serde_json::to_value(failure)?)
            }
            Made::Problems(problems) => {
                let problem = |(pointer, message): &(String, String)| ProblemCase {
                    pointer: pointer.clone(),
                    message: message.clone(),
                };
                let problems: Vec<_> = problems.iter().map(problem).collect();
                ("problems", serde_json::to_value(problems)?)
            }
        };
        let written = with_member(text, &EXPECTATIONS, key, &value)?;
        Ok((written != text).then_some(written))
    }

    fn events_as_json(&self, events: &[MadeEvent], file: &Path) -> anyhow::Result<Value> {
        let expected = self.events.as_deref().unwrap_or_default();
        let mut cases = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let at = expected.get(index).and_then(|it| it.data_file.clone());
            let (data, data_file) = match &event.data {
                Some(data) => laid_down(data, at, file, &format!("data-{index}"))?,
                None => (None, None),
            };
            cases.push(EventCase {
                event_type: event.event_type.clone(),
                subject: event.subject.clone(),
                time: event.time.map(|it| it.to_string()),
                duplicate_key: event.duplicate_key.clone(),
                attributes: event.attributes.clone(),
                data,
                data_file,
                ..EventCase::default()
            });
        }
        Ok(serde_json::to_value(cases)?)
    }
}

impl EventCase {
    fn made(self, folder: &Path) -> anyhow::Result<MadeEvent> {
        Ok(MadeEvent {
            event_type: self.event_type,
            subject: self.subject,
            duplicate_key: self.duplicate_key,
            time: self.time.as_deref().map(time).transpose()?,
            attributes: self.attributes,
            data: body(self.data, self.data_file, folder)?,
        })
    }

    /// The event that is sent.
    pub(super) fn event(self, folder: &Path) -> anyhow::Result<Event> {
        let id = self.id.context("an event to send has an id")?;
        Ok(Event {
            id: id.parse().with_context(|| format!("{id:?} is no event's id"))?,
            source: self.source.unwrap_or_default().into(),
            event_type: self.event_type.into(),
            subject: self.subject.map(Into::into),
            time: time(&self.time.context("an event to send has a time")?)?,
            attributes: (self.attributes.into_iter())
                .map(|(name, it)| (name.into(), it.into()))
                .collect(),
            data: body(self.data, self.data_file, folder)?.unwrap_or_default(),
        })
    }
}

pub(super) fn body(
    text: Option<String>,
    file: Option<String>,
    folder: &Path,
) -> anyhow::Result<Option<Bytes>> {
    match (text, file) {
        (Some(_), Some(_)) => bail!("a body is text or a file, not both"),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(file)) => {
            let bytes = fs::read(folder.join(&file)).with_context(|| format!("reading {file}"))?;
            Ok(Some(bytes.into()))
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn time(text: &str) -> anyhow::Result<UnixMs> {
    UnixMs::parse(text).with_context(|| format!("{text:?} is not an RFC 3339 time"))
}

/// Text stands in the case; in a file beside it stands what did before, and what is no text.
pub(super) fn laid_down(
    bytes: &Bytes,
    at: Option<String>,
    case: &Path,
    what: &str,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let at = match (at, std::str::from_utf8(bytes)) {
        (None, Ok(text)) => return Ok((Some(text.to_owned()), None)),
        (Some(at), _) => at,
        (None, Err(_)) => {
            format!("{}.{what}", case.file_stem().unwrap_or_default().to_string_lossy())
        }
    };
    let path = case.with_file_name(&at);
    if fs::read(&path).ok().as_deref() != Some(bytes) {
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok((None, Some(at)))
}

/// The members of an object, each with its value as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A JSON object's text with one member in the place of what was expected before.
pub(super) fn with_member(
    text: &str,
    expectations: &[&str],
    key: &str,
    value: &Value,
) -> anyhow::Result<String> {
    let Members(members) = serde_json::from_str(text)?;
    let value = format!("{value:#}").replace('\n', "\n  ");
    // A raw value is a part of the text it was read from.
    let span = |raw: &RawValue| {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        (start, start + raw.get().len())
    };
    let expected = members.iter().position(|(name, _)| expectations.contains(&name.as_str()));
    let (from, to, written) = match expected {
        Some(index) => {
            let before = index.checked_sub(1).map_or(0, |it| span(members[it].1).1);
            let (start, end) = span(members[index].1);
            let from = text[before..start].find('"').map_or(start, |it| before + it);
            (from, end, format!("\"{key}\": {value}"))
        }
        None => {
            let (_, last) = members.last().context("the case is empty")?;
            let end = span(last).1;
            (end, end, format!(",\n  \"{key}\": {value}"))
        }
    };
    Ok(format!("{}{written}{}", &text[..from], &text[to..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_expected_is_written_anew() {
        let case = "{\n  \"about\" : \"x\",\n\n  \"accepted\":true ,\n  \"secrets\": {}\n}";
        assert_eq!(
            with_member(case, &EXPECTATIONS, "accepted", &json!(false)).expect("a case"),
            "{\n  \"about\" : \"x\",\n\n  \"accepted\": false ,\n  \"secrets\": {}\n}"
        );
        let failure = with_member(case, &EXPECTATIONS, "failure", &json!({ "stage": "filter" }));
        assert_eq!(
            failure.expect("a case"),
            "{\n  \"about\" : \"x\",\n\n  \"failure\": {\n    \"stage\": \"filter\"\n  } ,\n  \"secrets\": {}\n}"
        );
        assert_eq!(
            with_member("{\n  \"about\": \"x\"\n}\n", &EXPECTATIONS, "events", &json!([]))
                .expect("a case"),
            "{\n  \"about\": \"x\",\n  \"events\": []\n}\n"
        );
    }
}
