//! An event: one fact received, immutable. Knows nothing of where it goes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::{IdText, UnixMs, id_from_text};

/// Names an event, `evt_…` in text. Receivers know it as `webhook-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EventId(pub(crate) u64);

/// One fact received.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Stays the same over all attempts and resends.
    pub(crate) id: EventId,
    /// The source it came in by.
    pub(crate) source: Arc<str>,
    /// Such as `invoice.activated`.
    pub(crate) event_type: Arc<str>,
    /// The id of the resource it is about.
    pub(crate) subject: Option<Box<str>>,
    /// When it happened or, where the sender does not say, when it was received.
    pub(crate) time: UnixMs,
    /// What the source noted beside the data, by lower-case name.
    pub(crate) attributes: Vec<(Box<str>, Box<str>)>,
    /// The data, as received.
    pub(crate) data: Bytes,
}

/// The source of what the engine itself has to tell. Only routes that name it take
/// its events; no file and no token can have its name.
pub(crate) const OWN_SOURCE: &str = "plugpost";

/// Before the name of a tenant, the source of what the engine tells that tenant alone:
/// `plugpost/acme`. So an event's source says whose it is; no other name has a `/`.
pub(crate) const OWN_SOURCE_OF: &str = "plugpost/";

/// Is the source the engine itself, whomever it tells?
pub(crate) fn is_own(source: &str) -> bool {
    source == OWN_SOURCE || source.starts_with(OWN_SOURCE_OF)
}

/// The attribute that holds the media type of the data.
pub(crate) const MEDIA_TYPE: &str = "datacontenttype";

impl Event {
    /// The first attribute of that name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(it, _)| &**it == name).map(|(_, value)| &**value)
    }
}

const PREFIX: &str = "evt_";

impl EventId {
    pub(crate) fn text(self) -> IdText {
        IdText::new(PREFIX, self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for EventId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.strip_prefix(PREFIX).and_then(id_from_text).map(Self).ok_or(NotAnId)
    }
}

/// The text is not an id of that kind.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not an id of that kind")]
pub(crate) struct NotAnId;

/// Which event types: a name, or the start of one before a trailing `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TypePattern {
    /// Exactly this type.
    Exactly(Arc<str>),
    /// Every type that starts so; `*` alone is every type.
    StartingWith(Arc<str>),
}

impl TypePattern {
    /// Read a pattern; `*` may only be its last character.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_suffix('*') {
            _ if text.is_empty() => Err("an event type is not empty".into()),
            Some(start) if !start.contains('*') => Ok(Self::StartingWith(start.into())),
            None if !text.contains('*') => Ok(Self::Exactly(text.into())),
            _ => Err(format!("`{text}`: a `*` stands only at the end of an event type")),
        }
    }

    /// Does the type fit?
    pub(crate) fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exactly(name) => **name == *event_type,
            Self::StartingWith(start) => event_type.starts_with(&**start),
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::StartingWith(start) => write!(f, "{start}*"),
        }
    }
}
