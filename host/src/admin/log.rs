//! `/v1/events` and `/v1/deliveries`: the log, newest first, a page at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::PAGE_MAX;
use super::list::Page;
use super::query::{Asked, limit, moment, parsed, wrong};
use super::session::Caller;
use crate::delivery::{DeliveryId, Status};
use crate::engine::Engine;
use crate::event::{EventId, TypePattern};
use crate::problem::HttpProblem;
use crate::queue::log::{
    AttemptRow, DeliveryFilter, DeliveryRow, EventDetail, EventFilter, EventRow, Sources, Text,
};

/// Which events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    /// An event type, or the start of one before a trailing `*`.
    #[serde(rename = "type")]
    #[param(pattern = "^[^*]+\\*?$|^\\*$")]
    event_type: Option<String>,
    /// The id of the resource the event is about.
    subject: Option<String>,
    /// Where the event came in.
    source: Option<String>,
    /// From then on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before then.
    #[param(format = DateTime)]
    until: Option<String>,
    /// An event's id, or at least eight characters of its start after `evt_`.
    #[param(min_length = 1)]
    q: Option<String>,
    /// `next` of the page before.
    #[param(pattern = "^evt_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    cursor: Option<String>,
    /// Rows of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<String>,
}

/// Which deliveries.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryQuery {
    /// Where it stands: `pending`, `delivered`, `filtered` or `dead`.
    #[param(pattern = "^(pending|delivered|filtered|dead)$")]
    status: Option<String>,
    /// An event type, or the start of one before a trailing `*`.
    #[serde(rename = "type")]
    #[param(pattern = "^[^*]+\\*?$|^\\*$")]
    event_type: Option<String>,
    /// The id of the resource the event is about.
    subject: Option<String>,
    /// Where the event came in.
    source: Option<String>,
    /// A route's name.
    route: Option<String>,
    /// An endpoint's URL.
    endpoint: Option<String>,
    /// Deliveries of this event.
    #[param(pattern = "^evt_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    event_id: Option<String>,
    /// From then on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before then.
    #[param(format = DateTime)]
    until: Option<String>,
    /// A delivery's or an event's id or the start of one (of an event's, eight characters
    /// after `evt_`), or words that the last error holds, in any case.
    #[param(min_length = 1)]
    q: Option<String>,
    /// `next` of the page before.
    #[param(pattern = "^dlv_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    cursor: Option<String>,
    /// Rows of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<String>,
}

pub(super) fn type_pattern(value: Option<&String>) -> Result<Option<TypePattern>, HttpProblem> {
    parsed("type", value, "an event type; a `*` stands only at its end", |text| {
        TypePattern::parse(text).ok()
    })
}

pub(super) fn status(value: Option<&String>) -> Result<Option<Status>, HttpProblem> {
    parsed("status", value, "pending, delivered, filtered or dead", Status::from_name)
}

fn words(value: Option<&String>) -> Result<Option<Text>, HttpProblem> {
    match value {
        None => Ok(None),
        Some(text) if text.is_empty() => Err(wrong("q", text, "an id or words of an error")),
        Some(text) => match Text::parse(text) {
            Ok(text) => Ok(Some(text)),
            Err(wanted) => Err(wrong("q", text, &wanted)),
        },
    }
}

impl EventQuery {
    fn filter(self) -> Result<EventFilter, HttpProblem> {
        let cursor = |text: &str| text.parse::<EventId>().ok();
        Ok(EventFilter {
            event_type: type_pattern(self.event_type.as_ref())?,
            since: moment("since", self.since.as_ref())?,
            until: moment("until", self.until.as_ref())?,
            text: words(self.q.as_ref())?,
            before: parsed("cursor", self.cursor.as_ref(), "a cursor", cursor)?.map(|it| it.0),
            limit: limit(self.limit.as_ref())?,
            subject: self.subject,
            source: self.source,
            sources: Sources::All,
        })
    }
}

impl DeliveryQuery {
    fn filter(self) -> Result<DeliveryFilter, HttpProblem> {
        let cursor = |text: &str| text.parse::<DeliveryId>().ok();
        let event = |text: &str| text.parse::<EventId>().ok();
        Ok(DeliveryFilter {
            status: status(self.status.as_ref())?,
            event: parsed("event_id", self.event_id.as_ref(), "an id evt_…", event)?,
            of: EventFilter {
                event_type: type_pattern(self.event_type.as_ref())?,
                since: moment("since", self.since.as_ref())?,
                until: moment("until", self.until.as_ref())?,
                text: words(self.q.as_ref())?,
                before: parsed("cursor", self.cursor.as_ref(), "a cursor", cursor)?.map(|it| it.0),
                limit: limit(self.limit.as_ref())?,
                subject: self.subject,
                source: self.source,
                sources: Sources::All,
            },
            route: self.route,
            endpoint: self.endpoint,
        })
    }
}

/// Events, newest first
#[utoipa::path(get, path = "/v1/events", tag = "log", params(EventQuery),
    responses((status = 200, description = "A page of events", body = Page<EventRow>)))]
pub(super) async fn events(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<EventQuery>,
) -> Result<Json<Page<EventRow>>, HttpProblem> {
    let mut filter = query.filter()?;
    let limit = filter.limit;
    filter.limit += 1;
    filter.sources = caller.sources(&engine.snapshot());
    let rows = engine.queue.log().events(filter).await?;
    Ok(Json(Page::of(rows, limit, |it| it.id.clone())))
}

/// Deliveries, newest first
#[utoipa::path(get, path = "/v1/deliveries", tag = "log", params(DeliveryQuery),
    responses((status = 200, description = "A page of deliveries", body = Page<DeliveryRow>)))]
pub(super) async fn deliveries(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<DeliveryQuery>,
) -> Result<Json<Page<DeliveryRow>>, HttpProblem> {
    let mut filter = query.filter()?;
    let limit = filter.of.limit;
    filter.of.limit += 1;
    filter.of.sources = caller.sources(&engine.snapshot());
    let rows = engine.queue.log().deliveries(filter).await?;
    Ok(Json(Page::of(rows, limit, |it| it.id.clone())))
}

/// A delivery with every attempt.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryDetail {
    /// `dlv_…`
    id: String,
    /// `evt_…`
    event_id: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    source: String,
    route: String,
    /// The URL it was promised to.
    endpoint: String,
    /// `pending`, `delivered`, `filtered` or `dead`
    status: &'static str,
    /// Oldest first.
    attempts: Vec<AttemptRow>,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it is pending.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    last_status_code: Option<u16>,
    last_error: Option<String>,
}

/// A delivery with every attempt
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "log", params(super::steer::DeliveryPath),
    responses(
        (status = 200, description = "The delivery", body = DeliveryDetail),
        (status = 404, description = "There is none of that id"),
    ))]
pub(super) async fn delivery(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DeliveryDetail>, HttpProblem> {
    let (row, attempts) = find(&engine, &caller, delivery_id(&id)?).await?;
    Ok(Json(DeliveryDetail {
        attempts,
        id: row.id,
        event_id: row.event_id,
        event_type: row.event_type,
        subject: row.subject,
        source: row.source,
        route: row.route,
        endpoint: row.endpoint,
        status: row.status,
        created_at: row.created_at,
        next_attempt_at: row.next_attempt_at,
        last_status_code: row.last_status_code,
        last_error: row.last_error,
    }))
}

/// An event as it came in.
#[derive(Serialize, ToSchema)]
pub(super) struct WholeEvent {
    /// `evt_…`
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    #[schema(format = DateTime)]
    time: String,
    #[schema(format = DateTime)]
    received_at: String,
    /// What the source noted beside the data.
    attributes: BTreeMap<String, String>,
    /// The newest 500.
    deliveries: Vec<DeliveryRow>,
    /// True when the retention of payloads has taken the data.
    data_pruned: bool,
    /// The data, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    data: Option<String>,
    /// The data, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    data_base64: Option<String>,
}

/// An event as it came in
#[utoipa::path(get, path = "/v1/events/{id}", tag = "log",
    params(("id" = String, Path, pattern = "^evt_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")),
    responses(
        (status = 200, description = "The event", body = WholeEvent),
        (status = 404, description = "There is none of that id"),
    ))]
pub(super) async fn event(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<WholeEvent>, HttpProblem> {
    let id: EventId = id.parse().map_err(|_| HttpProblem::bad_request("an event's id is evt_…"))?;
    let found = engine.queue.log().event(id).await?;
    let found = found.filter(|it| caller.sees_event(&engine.snapshot(), &it.row.source));
    let found = found.ok_or_else(|| no_such("event"))?;
    let EventDetail { row, attributes, data, data_pruned } = found;
    let of = EventFilter { limit: PAGE_MAX, ..EventFilter::default() };
    let filter = DeliveryFilter { event: Some(id), of, ..DeliveryFilter::default() };
    let deliveries = engine.queue.log().deliveries(filter).await?;
    let (data, data_base64) = match String::from_utf8(data) {
        _ if data_pruned => (None, None),
        Ok(text) => (Some(text), None),
        Err(other) => {
            use base64::prelude::{BASE64_STANDARD, Engine as _};
            (None, Some(BASE64_STANDARD.encode(other.as_bytes())))
        }
    };
    Ok(Json(WholeEvent {
        id: row.id,
        source: row.source,
        event_type: row.event_type,
        subject: row.subject,
        time: row.time,
        received_at: row.received_at,
        attributes: attributes.into_iter().map(|(name, it)| (name.into(), it.into())).collect(),
        deliveries,
        data_pruned,
        data,
        data_base64,
    }))
}

/// A delivery of an event that is the caller's affair; any other is not there.
pub(super) async fn find(
    engine: &Engine,
    caller: &Caller,
    id: DeliveryId,
) -> Result<(DeliveryRow, Vec<AttemptRow>), HttpProblem> {
    let found = engine.queue.log().delivery(id).await?;
    let found = found.filter(|(row, _)| caller.sees_event(&engine.snapshot(), &row.source));
    found.ok_or_else(|| no_such("delivery"))
}

pub(super) fn delivery_id(id: &str) -> Result<DeliveryId, HttpProblem> {
    id.parse().map_err(|_| HttpProblem::bad_request("a delivery's id is dlv_…"))
}

pub(super) fn no_such(what: &str) -> HttpProblem {
    HttpProblem::not_found(format!("there is no {what} of that id"))
}
