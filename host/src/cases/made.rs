//! What came out of a plugin or a route, in a form that is compared, shown and
//! written into a case.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::clock::UnixMs;
use crate::plugin::{Body, Received};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// The settings were taken; nothing more was asked.
    Taken,
    Events(Vec<MadeEvent>),
    Rejection {
        status: u16,
        message: String,
    },
    Request {
        method: String,
        headers: BTreeMap<String, String>,
        body: Bytes,
    },
    /// Of a platform's API.
    Response {
        status: u16,
        headers: BTreeMap<String, String>,
        body: Bytes,
    },
    Accepted(bool),
    Failure {
        stage: String,
        code: String,
        retry: bool,
        message: String,
    },
    /// Pointer and message of each.
    Problems(Vec<(String, String)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MadeEvent {
    pub(super) event_type: String,
    pub(super) subject: Option<String>,
    pub(super) duplicate_key: Option<String>,
    pub(super) time: Option<UnixMs>,
    pub(super) attributes: BTreeMap<String, String>,
    /// None: the request's own body.
    pub(super) data: Option<Bytes>,
}

impl MadeEvent {
    pub(super) fn of(received: Received) -> Self {
        Self {
            event_type: received.type_,
            subject: received.subject,
            duplicate_key: received.duplicate_key,
            time: received.time.map(UnixMs),
            attributes: received.attributes.into_iter().collect(),
            data: match received.data {
                Body::Unchanged => None,
                Body::Bytes(bytes) => Some(bytes.into()),
            },
        }
    }
}

impl Made {
    /// On lines, for a person; how a body looks is the caller's.
    pub(crate) fn lines(&self, body_lines: &dyn Fn(&[u8]) -> String) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = match self {
            Self::Taken => writeln!(text, "settings taken, without problems"),
            Self::Accepted(accepted) => writeln!(text, "accepted: {accepted}"),
            Self::Rejection { status, message } => {
                writeln!(text, "rejection: {status} {message:?}")
            }
            Self::Failure { stage, code, retry, message } => {
                writeln!(text, "failure in {stage}: {code}\nretry: {retry}\nmessage: {message:?}")
            }
            Self::Problems(problems) => problems.iter().try_for_each(|(pointer, message)| {
                writeln!(text, "problem at {pointer:?}: {message:?}")
            }),
            Self::Request { method, headers, body } => {
                let head = headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
                let head: String = head.collect();
                writeln!(text, "request: {method}\n{head}\n{}", body_lines(body))
            }
            Self::Response { status, headers, body } => {
                let head = headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
                let head: String = head.collect();
                writeln!(text, "response: {status}\n{head}\n{}", body_lines(body))
            }
            Self::Events(events) if events.is_empty() => writeln!(text, "no events"),
            Self::Events(events) => {
                events.iter().try_for_each(|it| writeln!(text, "{}", it.lines(body_lines)))
            }
        };
        text
    }
}

impl MadeEvent {
    fn lines(&self, body_lines: &dyn Fn(&[u8]) -> String) -> String {
        let mut text = format!("event: {}\n", self.event_type);
        let time = self.time.map(|it| it.to_string());
        let members =
            [("subject", &self.subject), ("duplicate_key", &self.duplicate_key), ("time", &time)];
        for (name, value) in members {
            if let Some(value) = value {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        for (name, value) in &self.attributes {
            let _ = writeln!(text, "attribute {name}: {value}");
        }
        if let Some(data) = &self.data {
            let _ = writeln!(text, "data:\n{}", body_lines(data));
        }
        text
    }
}
