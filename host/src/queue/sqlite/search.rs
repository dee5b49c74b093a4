//! Finding rows: by the columns of blocks, newest block first, and by the small
//! indexes of what did not go well. What they give are hints; each row is asked
//! itself before it is shown.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::columns::{Kind, Of, Tails, decode_ids, hash};
use super::hints::{DEAD, FILTERED, LEASED, Mask, STORED, Stream, errors_with, masks};
use super::rows::{DELIVERIES, EVENTS, delivery_row, event_row};
use crate::delivery::{DeliveryId, Status};
use crate::queue::QueueError;
use crate::queue::log::{DeliveryFilter, DeliveryRow, EventFilter, EventRow, Text};
use crate::queue::values::{signed, unsigned};

/// Deliveries, newest first.
pub(super) fn deliveries(
    connection: &Connection,
    tails: &Tails,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>, QueueError> {
    // What is sealed into a block meanwhile is found twice, never missed.
    let tail = tails.rows(Of::Deliveries);
    let transaction = connection.unchecked_transaction()?;
    let (mut first, mut until) = filter.of.ids();
    let mut events = filter.event.map(|it| (it.0, it.0));
    match filter.of.text {
        Some(Text::Deliveries(from, to)) => {
            (first, until) = (first.max(from), until.min(to.saturating_add(1)));
        }
        Some(Text::Events(from, to)) => {
            let (a, b) = events.unwrap_or((from, to));
            events = Some((a.max(from), b.min(to)));
        }
        _ => {}
    }
    let (low, high) = (signed(first), signed(until.min(i64::MAX.cast_unsigned())));
    if let Some((from, to)) = events {
        return of_events(&transaction, filter, (from, to), (low, high));
    }
    let mut search = Search {
        connection: &transaction,
        of: Of::Deliveries,
        masks: masks(&transaction, &filter.of)?,
        streams: Vec::new(),
        except: Vec::new(),
        first,
        until,
        limit: filter.of.limit,
    };
    for (kind, text) in [(Kind::Route, &filter.route), (Kind::Endpoint, &filter.endpoint)] {
        search.masks.extend(text.as_ref().map(|it| (kind, Mask::One(hash(it)))));
    }
    match filter.status {
        None => {}
        Some(Status::Delivered) => {
            search.except = [DEAD, FILTERED, STORED, LEASED].map(Stream::of).into();
        }
        Some(Status::Dead) => search.streams.push(vec![Stream::of(DEAD)]),
        Some(Status::Filtered) => search.streams.push(vec![Stream::of(FILTERED)]),
        Some(Status::Pending) => search.streams.push([STORED, LEASED].map(Stream::of).into()),
    }
    if let Some(Text::Error(words)) = &filter.of.text {
        search.streams.push(errors_with(&transaction, words)?);
    }
    if search.is_by_id_alone() {
        let sql = format!(
            "{DELIVERIES} WHERE d.id >= ?1 AND d.id < ?2 ORDER BY d.id DESC LIMIT {}",
            filter.of.limit
        );
        let mut statement = transaction.prepare_cached(&sql)?;
        let rows = statement.query_map([low, high], delivery_row)?;
        return Ok(rows.collect::<Result<_, _>>()?);
    }
    let sql = format!("{DELIVERIES} WHERE d.id = ?1");
    let mut statement = transaction.prepare_cached(&sql)?;
    let tail = tail.iter().map(|it| (it.id, |kind| it.get(kind)));
    search.run(tail, |id| {
        let row = statement.query_row([signed(id)], delivery_row).optional()?;
        Ok(row.filter(|it| filter.takes(it)))
    })
}

/// Events, newest first.
pub(super) fn events(
    connection: &Connection,
    tails: &Tails,
    filter: &EventFilter,
) -> Result<Vec<EventRow>, QueueError> {
    let tail = tails.rows(Of::Events);
    let transaction = connection.unchecked_transaction()?;
    let (mut first, mut until) = filter.ids();
    match filter.text {
        Some(Text::Events(from, to)) => {
            (first, until) = (first.max(from), until.min(to.saturating_add(1)));
        }
        // An event has no other id and no error.
        Some(_) => return Ok(Vec::new()),
        None => {}
    }
    let search = Search {
        connection: &transaction,
        of: Of::Events,
        masks: masks(&transaction, filter)?,
        streams: Vec::new(),
        except: Vec::new(),
        first,
        until,
        limit: filter.limit,
    };
    if search.is_by_id_alone() {
        let sql = format!(
            "{EVENTS} WHERE e.id >= ?1 AND e.id < ?2 ORDER BY e.id DESC LIMIT {}",
            filter.limit
        );
        let mut statement = transaction.prepare_cached(&sql)?;
        let rows = statement.query_map([signed(first), signed(until)], event_row)?;
        return Ok(rows.collect::<Result<_, _>>()?);
    }
    let sql = format!("{EVENTS} WHERE e.id = ?1");
    let mut statement = transaction.prepare_cached(&sql)?;
    let tail = tail.iter().map(|it| (it.id, |kind| it.get(kind)));
    search.run(tail, |id| {
        let row = statement.query_row([signed(id)], event_row).optional()?;
        Ok(row.filter(|it| filter.takes(&it.event_type, it.subject.as_deref(), &it.source)))
    })
}

/// For a recovery: a page in the order of ids. It reads every row on its way, in the
/// background.
pub(super) fn oldest_first(
    connection: &Connection,
    filter: &DeliveryFilter,
    after: u64,
) -> Result<Vec<DeliveryId>, QueueError> {
    let (first, until) = filter.of.ids();
    // What is dead or filtered is found by an index of its own.
    let status = match filter.status {
        None | Some(Status::Dead) => "d.status <> 1 AND d.status = 3 AND d.leased = 0",
        Some(Status::Filtered) => "d.status <> 1 AND d.status = 2 AND d.leased = 0",
        Some(Status::Delivered) => "d.status = 1",
        Some(Status::Pending) => "d.status = 0",
    };
    let sql = format!(
        "SELECT d.id, s.text FROM deliveries d
             CROSS JOIN events e ON e.id = d.event CROSS JOIN labels s ON s.id = e.source
         WHERE d.id >= ?1 AND d.id < ?2 AND d.id > ?3 AND {status}
           AND (?4 IS NULL OR d.route = (SELECT id FROM labels WHERE text = ?4))
           AND (?5 IS NULL OR d.endpoint = (SELECT id FROM labels WHERE text = ?5))
         ORDER BY d.id"
    );
    let values = params![
        signed(first),
        signed(until.min(i64::MAX.cast_unsigned())),
        signed(after),
        filter.route,
        filter.endpoint
    ];
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(values)?;
    let mut ids = Vec::new();
    while ids.len() < filter.of.limit
        && let Some(row) = found.next()?
    {
        if filter.of.sources.takes(row.get_ref(1)?.as_str().unwrap_or_default()) {
            ids.push(DeliveryId(unsigned(row.get(0)?)));
        }
    }
    Ok(ids)
}

/// The deliveries of a few events.
fn of_events(
    connection: &Connection,
    filter: &DeliveryFilter,
    (from, to): (u64, u64),
    (low, high): (i64, i64),
) -> Result<Vec<DeliveryRow>, QueueError> {
    let sql = format!(
        "{DELIVERIES} WHERE d.event BETWEEN ?1 AND ?2 AND d.id >= ?3 AND d.id < ?4
         ORDER BY d.id DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![signed(from), signed(to), low, high])?;
    let mut rows = Vec::new();
    while rows.len() < filter.of.limit
        && let Some(row) = found.next()?
    {
        rows.extend(Some(delivery_row(row)?).filter(|it| filter.takes(it)));
    }
    Ok(rows)
}

// ---- the search

struct Search<'c> {
    connection: &'c Connection,
    of: Of,
    /// Columns of blocks; all must fit.
    masks: Vec<(Kind, Mask)>,
    /// One stream of each list must have the id.
    streams: Vec<Vec<Stream>>,
    /// None of these may have it.
    except: Vec<Stream>,
    first: u64,
    until: u64,
    limit: usize,
}

struct Block {
    number: i64,
    first: u64,
    last: u64,
}

/// So many are asked for one by one.
const FEW: usize = 16;

impl Search<'_> {
    fn is_by_id_alone(&self) -> bool {
        self.masks.is_empty() && self.streams.is_empty() && self.except.is_empty()
    }

    /// Rows, newest first. Blocks overlap a little: a hit waits until no later block
    /// can hold a newer one.
    fn run<T>(
        &self,
        tail: impl Iterator<Item = (u64, impl Fn(Kind) -> u16)>,
        mut fetch: impl FnMut(u64) -> Result<Option<T>, QueueError>,
    ) -> Result<Vec<T>, QueueError> {
        let mut rows = Vec::new();
        let fits =
            |of: &dyn Fn(Kind) -> u16| self.masks.iter().all(|(it, mask)| mask.takes(of(*it)));
        let hits = tail.filter(|(id, of)| self.admits(*id) && fits(of)).map(|(id, _)| id);
        let mut hits: Vec<u64> = hits.collect();
        hits.sort_unstable();
        self.ask_indexes(&mut hits)?;
        let mut hits = BTreeSet::from_iter(hits);
        let mut blocks = self.blocks()?.into_iter().peekable();
        loop {
            let bound = blocks.peek().map_or(0, |it| it.last);
            while hits.last().is_some_and(|it| *it > bound || blocks.peek().is_none())
                && let Some(id) = hits.pop_last()
            {
                rows.extend(fetch(id)?);
                if rows.len() == self.limit {
                    return Ok(rows);
                }
            }
            let Some(block) = blocks.next() else { return Ok(rows) };
            // The next id that the indexes know, if they say: blocks above it hold nothing.
            if let Some(next) = self.next_indexed(block.last)? {
                if next < block.first {
                    while blocks.next_if(|it| it.first > next).is_some() {}
                    continue;
                }
            } else if !self.streams.is_empty() {
                while blocks.next().is_some() {}
                continue;
            }
            let mut found = self.hits(&block)?;
            self.ask_indexes(&mut found)?;
            hits.extend(found);
        }
    }

    fn admits(&self, id: u64) -> bool {
        (self.first..self.until).contains(&id)
    }

    /// The blocks that may hold something, newest first.
    fn blocks(&self) -> Result<Vec<Block>, QueueError> {
        let sql = "SELECT number, first, last FROM blocks
                   WHERE of = ?1 AND last >= ?2 AND first < ?3 ORDER BY last DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = params![self.of as i64, signed(self.first), signed(self.until)];
        let blocks = statement.query_map(values, |row| {
            let (first, last) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
            Ok(Block { number: row.get(0)?, first, last })
        })?;
        Ok(blocks.collect::<Result<_, _>>()?)
    }

    /// Rows of a block whose columns fit, growing.
    fn hits(&self, block: &Block) -> Result<Vec<u64>, QueueError> {
        let mut places: Option<Vec<usize>> = None;
        let sql = "SELECT data FROM columns WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (kind, mask) in &self.masks {
            let mut rows = statement.query([kind.place(block.number)])?;
            let Some(row) = rows.next()? else { return Ok(Vec::new()) };
            let column = row.get_ref(0)?.as_blob().unwrap_or_default();
            let value = |at: usize| {
                column.get(at * 2..at * 2 + 2).map_or(0, |it| u16::from_le_bytes([it[0], it[1]]))
            };
            if column.len() == 2 {
                match mask.takes(value(0)) {
                    true => continue,
                    false => return Ok(Vec::new()),
                }
            }
            places = Some(match places {
                None => (0..column.len() / 2).filter(|at| mask.takes(value(*at))).collect(),
                Some(places) => places.into_iter().filter(|at| mask.takes(value(*at))).collect(),
            });
            if places.as_ref().is_some_and(Vec::is_empty) {
                return Ok(Vec::new());
            }
        }
        let mut rows = statement.query([Kind::Id.place(block.number)])?;
        let Some(row) = rows.next()? else { return Ok(Vec::new()) };
        let ids = decode_ids(row.get_ref(0)?.as_blob().unwrap_or_default());
        let all = |ids: Vec<u64>| ids.into_iter().filter(|it| self.admits(*it)).collect();
        Ok(match places {
            None => all(ids),
            Some(places) => all(places.iter().filter_map(|at| ids.get(*at).copied()).collect()),
        })
    }

    /// Leave the hits that the indexes agree to. They grow, and so does what is asked of
    /// an index: both are walked once.
    fn ask_indexes(&self, hits: &mut Vec<u64>) -> Result<(), QueueError> {
        for list in &self.streams {
            let have = self.within(list, hits)?;
            hits.retain(|it| have.binary_search(it).is_ok());
        }
        let have = self.within(&self.except, hits)?;
        hits.retain(|it| have.binary_search(it).is_err());
        Ok(())
    }

    /// What one of the streams has of these ids, and maybe more between them.
    fn within(&self, streams: &[Stream], hits: &[u64]) -> Result<Vec<u64>, QueueError> {
        let mut have = Vec::new();
        let (Some(&first), Some(&last)) = (hits.first(), hits.last()) else { return Ok(have) };
        for stream in streams {
            if hits.len() > FEW {
                stream.within(self.connection, first, last, &mut have)?;
                continue;
            }
            for id in hits {
                stream.within(self.connection, *id, *id, &mut have)?;
            }
        }
        have.sort_unstable();
        Ok(have)
    }

    /// The largest id up to `last` that every list of streams may still have; none
    /// when one of them has no more.
    fn next_indexed(&self, last: u64) -> Result<Option<u64>, QueueError> {
        let mut lowest = None;
        for list in &self.streams {
            let mut highest = None;
            for stream in list {
                highest = highest.max(stream.at_most(self.connection, last)?);
            }
            match (lowest, highest) {
                (_, None) => return Ok(None),
                (None, found) => lowest = found,
                (Some(a), Some(b)) => lowest = Some(u64::min(a, b)),
            }
        }
        Ok(lowest)
    }
}
