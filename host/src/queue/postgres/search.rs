//! Finding rows, by plain indexes. The answers are those of the other store.

use std::fmt::Write as _;

use tokio_postgres::types::ToSql;

use super::connection::{Session, get};
use super::rows::{DELIVERIES, EVENTS, delivery_row, event_row, text};
use crate::delivery::{DeliveryId, Status};
use crate::event::{OWN_SOURCE_OF, TypePattern};
use crate::queue::QueueError;
use crate::queue::log::{DeliveryFilter, DeliveryRow, EventFilter, EventRow, Sources, Text};
use crate::queue::values::{signed, status_number, unsigned};

/// More different errors than that are not told apart by index.
const ERRORS_MAX: usize = 1000;

/// Conditions and what they hold.
#[derive(Default)]
struct Where {
    sql: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Where {
    /// `?` in the condition is the value.
    fn and(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        self.values.push(Box::new(value));
        let place = format!("${}", self.values.len());
        let join = if self.sql.is_empty() { "WHERE" } else { "AND" };
        let _ = write!(self.sql, " {join} {}", condition.replace('?', &place));
    }

    async fn rows(
        &self,
        session: &Session,
        select: &str,
        rest: &str,
    ) -> Result<Vec<tokio_postgres::Row>, QueueError> {
        let values: Vec<&(dyn ToSql + Sync)> =
            self.values.iter().map(|it| &**it as &(dyn ToSql + Sync)).collect();
        let sql = format!("{select}{} {rest}", self.sql);
        Ok(session.client.query(&sql, &values).await?)
    }

    fn ids(&mut self, column: &str, (first, until): (u64, u64)) {
        self.and(&format!("{column} >= ?"), signed(first));
        self.and(&format!("{column} < ?"), signed(until.min(i64::MAX.cast_unsigned())));
    }

    fn label(&mut self, column: &str, label: Option<&String>) {
        if let Some(label) = label {
            let condition =
                format!("{column} = (SELECT id FROM labels WHERE md5(text) = md5(?::text))");
            self.and(&condition, text(label).into_owned());
        }
    }

    /// In the condition, `{test}` stands for an event of one of the sources.
    fn sources(&mut self, condition: &str, sources: &Sources) {
        let named = "md5(text) IN (SELECT md5(name) FROM unnest(?::text[]) name)";
        let (test, names) = match sources {
            Sources::All => return,
            Sources::Only(names) => {
                (format!("e.source = ANY(ARRAY(SELECT id FROM labels WHERE {named}))"), names)
            }
            Sources::AllBut(names) => {
                let others = format!("{named} OR starts_with(text, '{OWN_SOURCE_OF}')");
                (format!("e.source <> ALL(ARRAY(SELECT id FROM labels WHERE {others}))"), names)
            }
        };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.and(&condition.replace("{test}", &test), names);
    }

    /// What an event is found by.
    fn event(&mut self, filter: &EventFilter) {
        match &filter.event_type {
            None => {}
            Some(TypePattern::Exactly(name)) => {
                let condition = "left(e.type, 200) = left(?::text, 200) AND e.type = ?::text";
                self.and(condition, text(name).into_owned());
            }
            Some(TypePattern::StartingWith(start)) if start.is_empty() => {}
            Some(TypePattern::StartingWith(start)) => {
                self.and("starts_with(e.type, ?::text)", text(start).into_owned());
            }
        }
        if let Some(subject) = &filter.subject {
            let condition = "left(e.subject, 200) = left(?::text, 200) AND e.subject = ?::text";
            self.and(condition, text(subject).into_owned());
        }
        self.label("e.source", filter.source.as_ref());
        self.sources("{test}", &filter.sources);
    }
}

/// Deliveries, newest first.
pub(super) async fn deliveries(
    session: &Session,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>, QueueError> {
    let mut wanted = Where::default();
    wanted.ids("d.id", filter.of.ids());
    if let Some(event) = filter.event {
        wanted.and("d.event = ?", signed(event.0));
    }
    match &filter.of.text {
        None => {}
        Some(Text::Deliveries(from, to)) => wanted.ids("d.id", (*from, to.saturating_add(1))),
        Some(Text::Events(from, to)) => wanted.ids("d.event", (*from, to.saturating_add(1))),
        Some(Text::Error(words)) => {
            let errors = errors_with(session, words).await?;
            let starts: Vec<String> =
                errors.iter().map(|it| it.chars().take(200).collect()).collect();
            wanted.and("left(d.error, 200) = ANY(?)", starts);
            wanted.and("d.error = ANY(?)", errors);
        }
    }
    wanted.event(&filter.of);
    wanted.label("d.route", filter.route.as_ref());
    wanted.label("d.endpoint", filter.endpoint.as_ref());
    // The literal lets the planner take the status's own small index.
    let status = filter.status.map(|it| format!("AND d.status = {}", status_number(it)));
    let rest =
        format!("{} ORDER BY d.id DESC LIMIT {}", status.unwrap_or_default(), filter.of.limit);
    let rows = wanted.rows(session, DELIVERIES, &rest).await?;
    rows.iter().map(delivery_row).collect()
}

/// Events, newest first.
pub(super) async fn events(
    session: &Session,
    filter: &EventFilter,
) -> Result<Vec<EventRow>, QueueError> {
    let mut wanted = Where::default();
    wanted.ids("e.id", filter.ids());
    match &filter.text {
        None => {}
        Some(Text::Events(from, to)) => wanted.ids("e.id", (*from, to.saturating_add(1))),
        // An event has no other id and no error.
        Some(_) => return Ok(Vec::new()),
    }
    wanted.event(filter);
    let rest = format!("ORDER BY e.id DESC LIMIT {}", filter.limit);
    let rows = wanted.rows(session, EVENTS, &rest).await?;
    rows.iter().map(event_row).collect()
}

/// For a recovery: a page in the order of ids.
pub(super) async fn oldest_first(
    session: &Session,
    filter: &DeliveryFilter,
    after: u64,
) -> Result<Vec<DeliveryId>, QueueError> {
    let mut wanted = Where::default();
    wanted.ids("d.id", filter.of.ids());
    wanted.and("d.id > ?", signed(after));
    wanted.label("d.route", filter.route.as_ref());
    wanted.label("d.endpoint", filter.endpoint.as_ref());
    let own = "EXISTS (SELECT 1 FROM events e WHERE e.id = d.event AND {test})";
    wanted.sources(own, &filter.of.sources);
    let status = status_number(filter.status.unwrap_or(Status::Dead));
    let rest = format!("AND d.status = {status} ORDER BY d.id LIMIT {}", filter.of.limit);
    let rows = wanted.rows(session, "SELECT d.id FROM deliveries d", &rest).await?;
    rows.iter().map(|row| Ok(DeliveryId(unsigned(get(row, 0)?)))).collect()
}

/// The errors that hold the words, whatever their case. Errors are few different texts over
/// many deliveries, so they are looked at, not the deliveries.
async fn errors_with(session: &Session, words: &str) -> Result<Vec<String>, QueueError> {
    let sql = format!(
        "WITH RECURSIVE each AS (
             (SELECT error FROM deliveries WHERE error IS NOT NULL
              ORDER BY left(error, 200), error LIMIT 1)
             UNION ALL
             SELECT next.error FROM each CROSS JOIN LATERAL (
                 SELECT error FROM deliveries
                 WHERE error IS NOT NULL AND left(error, 200) >= left(each.error, 200)
                     AND (left(error, 200), error) > (left(each.error, 200), each.error)
                 ORDER BY left(error, 200), error LIMIT 1) next)
         SELECT error FROM each LIMIT {ERRORS_MAX}"
    );
    let rows = session.client.query(&sql, &[]).await?;
    let mut errors = Vec::new();
    for row in &rows {
        let error: String = get(row, 0)?;
        if error.to_lowercase().contains(words) {
            errors.push(error);
        }
    }
    Ok(errors)
}
