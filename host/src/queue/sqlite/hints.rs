//! Where a search looks: hashes in the columns of blocks, and ids in the small indexes
//! of what did not go well.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::columns::{Kind, TYPES_MAX, hash};
use crate::event::TypePattern;
use crate::queue::QueueError;
use crate::queue::log::{EventFilter, Sources};
use crate::queue::values::{signed, unsigned};

/// Hashes that are looked for in one column.
pub(super) enum Mask {
    One(u16),
    /// One bit for each hash.
    Some(Box<[u64; 1024]>),
}

impl Mask {
    pub(super) fn takes(&self, hash: u16) -> bool {
        match self {
            Self::One(one) => *one == hash,
            Self::Some(bits) => bits[usize::from(hash >> 6)] >> (hash & 63) & 1 == 1,
        }
    }
}

/// One bit for each hash.
struct Bits(Box<[u64; 1024]>);

impl Default for Bits {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Bits {
    fn add(&mut self, text: &str) {
        let hash = hash(text);
        self.0[usize::from(hash >> 6)] |= 1 << (hash & 63);
    }
}

/// In the order in which they leave least.
pub(super) fn masks(
    connection: &Connection,
    filter: &EventFilter,
) -> Result<Vec<(Kind, Mask)>, QueueError> {
    let mut masks = Vec::new();
    masks.extend(filter.subject.as_ref().map(|it| (Kind::Subject, Mask::One(hash(it)))));
    match &filter.event_type {
        None => {}
        Some(TypePattern::Exactly(name)) => masks.push((Kind::Type, Mask::One(hash(name)))),
        Some(TypePattern::StartingWith(start)) => {
            masks.extend(types_with(connection, start)?.map(|it| (Kind::Type, it)));
        }
    }
    masks.extend(filter.source.as_ref().map(|it| (Kind::Source, Mask::One(hash(it)))));
    masks.extend(mask_of(connection, &filter.sources)?.map(|it| (Kind::Source, it)));
    Ok(masks)
}

/// The sources that are looked at; none when that is all. One hash may be that of several
/// sources, so what is left is named, never what is left out.
fn mask_of(connection: &Connection, sources: &Sources) -> Result<Option<Mask>, QueueError> {
    let mut bits = Bits::default();
    match sources {
        Sources::All => return Ok(None),
        Sources::Only(names) => names.iter().for_each(|it| bits.add(it)),
        Sources::AllBut(_) => {
            let mut statement = connection.prepare_cached("SELECT text FROM labels")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let name = row.get_ref(0)?.as_str().unwrap_or_default();
                if sources.takes(name) {
                    bits.add(name);
                }
            }
        }
    }
    Ok(Some(Mask::Some(bits.0)))
}

/// The types that start so; none when there are too many types to know them.
fn types_with(connection: &Connection, start: &str) -> Result<Option<Mask>, QueueError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM types", [], |row| row.get(0))?;
    if start.is_empty() || count >= TYPES_MAX as i64 {
        return Ok(None);
    }
    let mut bits = Bits::default();
    let mut statement = connection.prepare_cached("SELECT text FROM types WHERE text >= ?1")?;
    let mut rows = statement.query([start])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str().unwrap_or_default();
        if !name.starts_with(start) {
            break;
        }
        bits.add(name);
    }
    Ok(Some(Mask::Some(bits.0)))
}

// ---- small indexes

/// Ids that an index holds for one condition.
pub(super) struct Stream {
    condition: &'static str,
    error: Option<String>,
}

/// Of one status, `leased` or not. The index is taken where its own condition stands.
macro_rules! undelivered {
    ($status:literal, $leased:literal) => {
        concat!(
            "INDEXED BY deliveries_undelivered WHERE status <> 1 AND status = ",
            $status,
            " AND leased = ",
            $leased
        )
    };
}

pub(super) const DEAD: &str = undelivered!(3, 0);
pub(super) const FILTERED: &str = undelivered!(2, 0);
pub(super) const STORED: &str = undelivered!(0, 0);
pub(super) const LEASED: &str = undelivered!(0, 1);
const FAILED: &str = "INDEXED BY deliveries_failed WHERE error = ?3";

/// More different errors than that are not told apart by index.
const ERRORS_MAX: usize = 1000;

impl Stream {
    pub(super) fn of(condition: &'static str) -> Self {
        Self { condition, error: None }
    }

    fn values(&self, a: u64, b: u64) -> Vec<Value> {
        let mut values = vec![Value::Integer(signed(a)), Value::Integer(signed(b))];
        values.extend(self.error.clone().map(Value::Text));
        values
    }

    /// The largest id up to that one.
    pub(super) fn at_most(
        &self,
        connection: &Connection,
        id: u64,
    ) -> Result<Option<u64>, QueueError> {
        let sql = format!(
            "SELECT id FROM deliveries {} AND id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1",
            self.condition
        );
        let found = (connection.prepare_cached(&sql)?)
            .query_row(params_from_iter(self.values(0, id)), |row| row.get(0).map(unsigned))
            .optional()?;
        Ok(found)
    }

    pub(super) fn within(
        &self,
        connection: &Connection,
        first: u64,
        last: u64,
        into: &mut Vec<u64>,
    ) -> Result<(), QueueError> {
        let sql = format!("SELECT id FROM deliveries {} AND id BETWEEN ?1 AND ?2", self.condition);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(self.values(first, last)))?;
        while let Some(row) = rows.next()? {
            into.push(unsigned(row.get(0)?));
        }
        Ok(())
    }
}

/// A stream for each error that holds the words. Errors are few different texts over
/// many deliveries, so the index is walked from one to the next.
pub(super) fn errors_with(connection: &Connection, words: &str) -> Result<Vec<Stream>, QueueError> {
    let sql = "SELECT error FROM deliveries INDEXED BY deliveries_failed
               WHERE error IS NOT NULL AND error > ?1 ORDER BY error LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut streams = Vec::new();
    let mut error = String::new();
    for _ in 0..ERRORS_MAX {
        let next = statement.query_row([&error], |row| row.get(0)).optional()?;
        let Some(next) = next else { break };
        error = next;
        if error.to_lowercase().contains(words) {
            streams.push(Stream { condition: FAILED, error: Some(error.clone()) });
        }
    }
    Ok(streams)
}
