//! The delivery log, read-only: what people ask of the store. It never waits for
//! the writer, and the writer never waits for it.

mod rows;
mod sources;

use super::recorded::Recorded;
use super::{Location, QueueError, postgres, sqlite};
use crate::clock::{UnixMs, first_id_at, id_floor, id_from_text};
use crate::delivery::{DeliveryId, Status};
use crate::event::{EventId, TypePattern};

pub(crate) use rows::{AttemptRow, DeliveryRow, EventDetail, EventRow};
pub(super) use rows::{RequestRow, as_text};
pub(crate) use sources::Sources;

/// Reads a store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    Sqlite(sqlite::log::Log),
    Postgres(postgres::log::Log),
}

/// Which events, and which deliveries by their event.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    pub(crate) event_type: Option<TypePattern>,
    pub(crate) subject: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) sources: Sources,
    pub(crate) since: Option<UnixMs>,
    pub(crate) until: Option<UnixMs>,
    pub(crate) text: Option<Text>,
    /// Only what is older than this id.
    pub(crate) before: Option<u64>,
    pub(crate) limit: usize,
}

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeliveryFilter {
    pub(crate) of: EventFilter,
    pub(crate) status: Option<Status>,
    pub(crate) route: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) event: Option<EventId>,
}

/// What waits for a route.
#[derive(Clone, Debug)]
pub(crate) struct Backlog {
    pub(crate) route: String,
    pub(crate) deliveries: u64,
    /// When the oldest of them was made.
    pub(crate) oldest: UnixMs,
}

/// What `q` looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Ids of deliveries from the first to the last.
    Deliveries(u64, u64),
    /// Ids of events from the first to the last.
    Events(u64, u64),
    /// Words of an error.
    Error(String),
}

/// The shortest start of an event's id that is looked for: events of half a minute.
const EVENT_START_MIN: usize = 8;

impl Text {
    /// An id or the start of one, or words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(start) = text.strip_prefix("dlv_")
            && let Some((first, last)) = id_floor(start)
        {
            return Ok(Self::Deliveries(first, last));
        }
        if let Some(start) = text.strip_prefix("evt_")
            && let Some((first, last)) = id_floor(start)
        {
            return match start.len() < EVENT_START_MIN {
                true => Err(format!("at least {EVENT_START_MIN} characters after evt_")),
                false => Ok(Self::Events(first, last)),
            };
        }
        // Thirteen characters without their prefix are an event's id: what receivers see.
        match id_from_text(text) {
            Some(id) => Ok(Self::Events(id, id)),
            None => Ok(Self::Error(text.to_lowercase())),
        }
    }
}

impl EventFilter {
    /// The ids it admits: from the first, before the second.
    pub(super) fn ids(&self) -> (u64, u64) {
        let since = self.since.map_or(0, first_id_at);
        let until = self.until.map_or(i64::MAX.cast_unsigned(), first_id_at);
        (since, until.min(self.before.unwrap_or(u64::MAX)))
    }

    pub(super) fn takes(&self, event_type: &str, subject: Option<&str>, source: &str) -> bool {
        self.event_type.as_ref().is_none_or(|it| it.matches(event_type))
            && self.subject.as_deref().is_none_or(|it| subject == Some(it))
            && self.source.as_deref().is_none_or(|it| source == it)
            && self.sources.takes(source)
    }
}

impl DeliveryFilter {
    pub(super) fn takes(&self, row: &DeliveryRow) -> bool {
        let has_words = |words: &str| {
            row.last_error.as_ref().is_some_and(|it| it.to_lowercase().contains(words))
        };
        self.of.takes(&row.event_type, row.subject.as_deref(), &row.source)
            && self.status.is_none_or(|it| row.status == it.as_str())
            && self.route.as_ref().is_none_or(|it| row.route == *it)
            && self.endpoint.as_ref().is_none_or(|it| row.endpoint == *it)
            && match &self.of.text {
                Some(Text::Error(words)) => has_words(words),
                _ => true,
            }
    }
}

impl Log {
    /// A store that may be in use by an engine, for what was recorded in it.
    pub(crate) async fn of(location: &Location) -> Result<Self, QueueError> {
        match location {
            Location::Sqlite(path) => Ok(Self::Sqlite(sqlite::log::Log::of_file(path)?)),
            Location::Postgres(address) => {
                Ok(Self::Postgres(postgres::log::Log::open(address).await?))
            }
        }
    }

    /// Deliveries, newest first.
    pub(crate) async fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> Result<Vec<DeliveryRow>, QueueError> {
        match self {
            Self::Sqlite(it) => it.deliveries(filter).await,
            Self::Postgres(it) => it.deliveries(filter).await,
        }
    }

    /// Events, newest first.
    pub(crate) async fn events(&self, filter: EventFilter) -> Result<Vec<EventRow>, QueueError> {
        match self {
            Self::Sqlite(it) => it.events(filter).await,
            Self::Postgres(it) => it.events(filter).await,
        }
    }

    /// One delivery with its attempts, oldest first.
    pub(crate) async fn delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, QueueError> {
        match self {
            Self::Sqlite(it) => it.delivery(id).await,
            Self::Postgres(it) => it.delivery(id).await,
        }
    }

    /// One event with its data.
    pub(crate) async fn event(&self, id: EventId) -> Result<Option<EventDetail>, QueueError> {
        match self {
            Self::Sqlite(it) => it.event(id).await,
            Self::Postgres(it) => it.event(id).await,
        }
    }

    /// Deliveries that a recovery is about, oldest first, after that one and up to `until`.
    pub(crate) async fn to_recover(
        &self,
        filter: DeliveryFilter,
        after: u64,
    ) -> Result<Vec<DeliveryId>, QueueError> {
        match self {
            Self::Sqlite(it) => it.to_recover(filter, after).await,
            Self::Postgres(it) => it.to_recover(filter, after).await,
        }
    }

    /// What waits in the store, by route.
    pub(crate) async fn backlog(&self) -> Result<Vec<Backlog>, QueueError> {
        match self {
            Self::Sqlite(it) => it.backlog().await,
            Self::Postgres(it) => it.backlog().await,
        }
    }

    /// Does the store answer?
    pub(crate) async fn answers(&self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(it) => it.answers().await,
            Self::Postgres(it) => it.answers().await,
        }
    }

    /// The last events, newest first, each with its deliveries; handed over one by one.
    pub(crate) async fn recorded(
        &self,
        last: usize,
        each: impl FnMut(Recorded) + Send + 'static,
    ) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(it) => it.recorded(last, each).await,
            Self::Postgres(it) => it.recorded(last, each).await,
        }
    }
}
