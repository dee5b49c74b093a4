//! The traits a plugin implements: [`Plugin`] always, and one per role.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bindings::base::plugpost::plugin::logging;
use crate::rules::Rule;
use crate::{
    Body, Description, Event, Failure, Header, HeaderValue, Inbound, Message, Outgoing, Problem,
    Received, Rejection,
};

/// What every plugin is: a type made from its settings.
pub trait Plugin: Sized + 'static {
    /// The settings, as a route file writes them under `settings`;
    /// [`NoSettings`] when there are none.
    type Settings: DeserializeOwned;

    /// Who the plugin is. Called without settings.
    fn describe() -> Description;

    /// Take the settings, or say everything that is wrong with them.
    fn new(settings: Self::Settings) -> Result<Self, Vec<Problem>>;
}

/// For a plugin that has nothing to set.
#[derive(Debug, Deserialize)]
pub struct NoSettings {}

/// Takes requests in.
pub trait Source: Plugin {
    /// Refuse what is not from the sender. The default refuses nothing.
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        let _ = request;
        Ok(())
    }

    /// Turn a verified request into events.
    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection>;
}

/// Accepts or declines.
pub trait Filter: Plugin {
    /// True to deliver the event.
    fn accept(&self, event: &Event) -> Result<bool, Failure>;
}

/// Shapes events.
pub trait Transform: Plugin {
    /// What to send for this event. Same event and settings, same bytes.
    fn apply(&self, event: &Event) -> Result<Message, Failure>;
}

/// Signs requests.
pub trait Auth: Plugin {
    /// The headers to add. Called last: what it sees is what is sent.
    fn sign(&self, request: &Outgoing) -> Result<Vec<Header>, Failure>;
}

/// Signs requests as well, where the settings alone decide how: the host follows the rules
/// and calls nobody.
pub trait AuthRules: Plugin {
    /// The headers to add. None when the settings ask for what no rule can say: then
    /// [`Auth`] is called for each request. Asked once, after [`Plugin::new`].
    fn rules(&self) -> Option<Vec<Rule>>;
}

impl Received {
    /// An event of this type whose data is the request's body as it came.
    pub fn unchanged(event_type: impl Into<String>) -> Self {
        Self {
            type_: event_type.into(),
            subject: None,
            time: None,
            duplicate_key: None,
            attributes: Vec::new(),
            data: Body::Unchanged,
        }
    }
}

impl Rejection {
    /// 400: the request is not what this source takes.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into() }
    }

    /// 401: the sender did not prove who it is.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self { status: 401, message: message.into() }
    }

    /// 500: the fault is on this side. The operator's log says which; the sender
    /// is not told.
    pub fn misconfigured(reason: &str) -> Self {
        logging::log("error", reason);
        Self { status: 500, message: "this source is not set up; its log says why".into() }
    }
}

impl Message {
    /// A POST of the event's data as it is.
    pub fn unchanged() -> Self {
        Self { method: "POST".into(), headers: Vec::new(), body: Body::Unchanged }
    }

    /// A POST of this JSON text.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST".into(),
            headers: vec![Header::text("content-type", "application/json")],
            body: Body::Bytes(body.into()),
        }
    }
}

impl Header {
    /// A header with a plain value.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: HeaderValue::Text(value.into()) }
    }
}

impl Failure {
    /// No later attempt can succeed: the delivery becomes a dead letter.
    pub fn reject(code: &str, message: impl Into<String>) -> Self {
        Self { retry: false, code: code.into(), message: message.into() }
    }

    /// The platform has no such event type, so its receivers would not know it.
    pub fn unknown_type(platform: &str, event_type: &str) -> Self {
        Self::reject("unknown-type", format!("{platform} has no event type {event_type}"))
    }

    /// The event's data is not JSON, and no later attempt will find it so.
    pub fn not_json() -> Self {
        Self::reject("not-json", "the event's data is not JSON")
    }

    /// A later attempt may succeed.
    pub fn retry(code: &str, message: impl Into<String>) -> Self {
        Self { retry: true, code: code.into(), message: message.into() }
    }
}

impl Problem {
    /// A problem at a JSON pointer into the settings.
    pub fn at(pointer: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}
