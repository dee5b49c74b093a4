//! What makes the log searchable: for every thousand rows, a block of columns that
//! hold two bytes of a hash for each row's type, source, subject, route and endpoint.
//!
//! An index per column would cost each delivery a random write per index; a block
//! costs six appends per thousand. Searching reads one column of every block, 2 KB
//! each, and looks at the rows whose hash fits (`search.rs`). It decides nothing
//! about what a row holds now: a hit is a hint, and the row itself is asked.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::Store;
use crate::delivery::DeliveryId;
use crate::event::Event;
use crate::queue::QueueError;
use crate::queue::values::{signed, unsigned};

/// Rows of a block. Two columns of 2,000 bytes fit a page of 4 KiB.
const BLOCK_ROWS: usize = 1000;

/// More types than that come from a sender that makes them up: from then on the
/// start of a type is looked for in the rows.
pub(super) const TYPES_MAX: usize = 10_000;

/// Ids are given before the commit that writes them, so a row can come after one
/// with a larger id; never by as much as this.
const DISORDER_MS_MAX: u64 = 5_000;

/// Which rows a block is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Deliveries,
    Events,
}

/// A column of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Subject,
    Type,
    Source,
    Route,
    Endpoint,
}

const HASHED: [Kind; 5] = [Kind::Subject, Kind::Type, Kind::Source, Kind::Route, Kind::Endpoint];

/// One row, as the columns have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    pub(super) id: u64,
    /// In the order of [`HASHED`]; events have the first three.
    of: [u16; 5],
}

/// Rows that are in no block yet; shared with those who search.
#[derive(Debug, Default)]
pub(in crate::queue) struct Tails([Mutex<Tail>; 2]);

#[derive(Debug, Default)]
struct Tail {
    rows: Vec<Hashes>,
    /// The first so many are in a block that is not committed yet.
    sealed: usize,
    /// How many stay when the transaction is rolled back.
    committed: usize,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) tails: Arc<Tails>,
    types: HashSet<Arc<str>>,
    blocks: i64,
}

impl Of {
    const ALL: [Self; 2] = [Self::Deliveries, Self::Events];

    fn columns(self) -> &'static [Kind] {
        match self {
            Self::Deliveries => &HASHED,
            Self::Events => &HASHED[..3],
        }
    }
}

impl Kind {
    /// The row of `columns` that holds this column of a block.
    pub(super) fn place(self, block: i64) -> i64 {
        ((self as i64) << 40) | block
    }
}

/// What a row of an event's delivery has of the event.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventHashes([u16; 3]);

impl Hashes {
    fn of(id: u64, texts: [Option<&str>; 5]) -> Self {
        Self { id, of: texts.map(|it| it.map_or(0, hash)) }
    }

    pub(super) fn get(&self, kind: Kind) -> u16 {
        let at = HASHED.iter().position(|it| *it == kind);
        at.map_or(0, |it| self.of[it])
    }
}

/// Two bytes of FNV-1a: stored, so it never changes.
pub(super) fn hash(text: &str) -> u16 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16
}

impl Tails {
    /// A copy. Taken before a search begins to read: what is sealed meanwhile is found
    /// twice, never missed.
    pub(super) fn rows(&self, of: Of) -> Vec<Hashes> {
        self.0[of as usize].lock().rows.clone()
    }
}

impl Columns {
    /// Read what is known, and make blocks of what an older version or a crash left.
    pub(super) fn open(connection: &mut Connection) -> Result<Self, QueueError> {
        let types = (connection.prepare("SELECT text FROM types")?)
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let sql = "SELECT coalesce(max(number), 0) FROM blocks";
        let blocks = connection.query_row(sql, [], |row| row.get(0))?;
        let mut columns = Self { tails: Arc::default(), types, blocks };
        for of in Of::ALL {
            columns.catch_up(connection, of)?;
        }
        Ok(columns)
    }

    fn catch_up(&mut self, connection: &mut Connection, of: Of) -> Result<(), QueueError> {
        let sql = "SELECT max(last) FROM blocks WHERE of = ?1";
        let last: Option<i64> = connection.query_row(sql, [of as i64], |row| row.get(0))?;
        let mut from = last.map_or(0, |it| it - (signed(DISORDER_MS_MAX) << 20));
        let mut known = HashSet::new();
        {
            let sql = "SELECT c.data FROM blocks b JOIN columns c ON c.id = b.number
                       WHERE b.of = ?1 AND b.last >= ?2";
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query(params![of as i64, from])?;
            while let Some(row) = rows.next()? {
                known.extend(decode_ids(row.get_ref(0)?.as_blob().unwrap_or_default()));
            }
        }
        let sql = match of {
            Of::Deliveries => {
                "SELECT d.id, e.subject, e.type, s.text, r.text, u.text
                 FROM deliveries d JOIN events e ON e.id = d.event
                 JOIN labels s ON s.id = e.source JOIN labels r ON r.id = d.route
                 JOIN labels u ON u.id = d.endpoint
                 WHERE d.id > ?1 ORDER BY d.id LIMIT ?2"
            }
            Of::Events => {
                "SELECT e.id, e.subject, e.type, s.text, '', ''
                 FROM events e JOIN labels s ON s.id = e.source
                 WHERE e.id > ?1 ORDER BY e.id LIMIT ?2"
            }
        };
        loop {
            let transaction = connection.transaction()?;
            let mut found = 0;
            {
                let mut statement = transaction.prepare_cached(sql)?;
                let mut rows = statement.query(params![from, CATCH_UP_ROWS])?;
                while let Some(row) = rows.next()? {
                    from = row.get(0)?;
                    found += 1;
                    if known.contains(&unsigned(from)) {
                        continue;
                    }
                    let event_type: Arc<str> = row.get(2)?;
                    let text =
                        |at| row.get_ref(at).map(|it| it.as_str_or_null().unwrap_or_default());
                    let texts = [text(1)?, Some(&event_type), text(3)?, text(4)?, text(5)?];
                    self.add(&transaction, of, Hashes::of(unsigned(from), texts))?;
                    self.learn(&transaction, &event_type)?;
                }
            }
            transaction.commit()?;
            self.committed();
            if found < CATCH_UP_ROWS {
                return Ok(());
            }
        }
    }

    /// An event is being written.
    pub(super) fn event(
        &mut self,
        connection: &Connection,
        event: &Event,
    ) -> Result<EventHashes, QueueError> {
        self.learn(connection, &event.event_type)?;
        let texts =
            [event.subject.as_deref(), Some(&event.event_type), Some(&event.source), None, None];
        let row = Hashes::of(event.id.0, texts);
        self.add(connection, Of::Events, row)?;
        let [subject, event_type, source, ..] = row.of;
        Ok(EventHashes([subject, event_type, source]))
    }

    /// A delivery of this event is being written.
    pub(super) fn delivery(
        &mut self,
        connection: &Connection,
        id: DeliveryId,
        EventHashes([subject, event_type, source]): EventHashes,
        route: &str,
        endpoint: &str,
    ) -> Result<(), QueueError> {
        let of = [subject, event_type, source, hash(route), hash(endpoint)];
        self.add(connection, Of::Deliveries, Hashes { id: id.0, of })
    }

    fn add(&mut self, connection: &Connection, of: Of, row: Hashes) -> Result<(), QueueError> {
        let mut tail = self.tails.0[of as usize].lock();
        tail.rows.push(row);
        let from = tail.sealed;
        if tail.rows.len() - from < BLOCK_ROWS {
            return Ok(());
        }
        tail.sealed += BLOCK_ROWS;
        let mut rows = tail.rows[from..].to_vec();
        drop(tail);
        rows.sort_unstable_by_key(|it| it.id);
        self.blocks += 1;
        write(connection, of, self.blocks, &rows)
    }

    fn learn(&mut self, connection: &Connection, event_type: &Arc<str>) -> Result<(), QueueError> {
        if self.types.len() < TYPES_MAX && !self.types.contains(event_type) {
            let sql = "INSERT INTO types (text) VALUES (?1) ON CONFLICT DO NOTHING";
            connection.prepare_cached(sql)?.execute([event_type])?;
            self.types.insert(event_type.clone());
        }
        Ok(())
    }

    /// What was added is on disk.
    pub(super) fn committed(&mut self) {
        for tail in &self.tails.0 {
            let mut tail = tail.lock();
            let sealed = std::mem::take(&mut tail.sealed);
            tail.rows.drain(..sealed);
            tail.committed = tail.rows.len();
        }
    }

    /// What was added since the last commit was not written.
    pub(super) fn rolled_back(&mut self) {
        for tail in &self.tails.0 {
            let mut tail = tail.lock();
            let committed = tail.committed;
            tail.rows.truncate(committed);
            tail.sealed = 0;
        }
        // Which of them were written is not known here: they are written again.
        self.types.clear();
    }
}

/// Rows one transaction takes when blocks are made of what is there already.
const CATCH_UP_ROWS: i64 = 10_000;

impl Store {
    /// A delivery was copied, and its event too if `event` is given.
    pub(super) fn index_copy(
        &mut self,
        delivery: DeliveryId,
        new_event: Option<i64>,
    ) -> Result<(), QueueError> {
        let sql = "SELECT e.subject, e.type, s.text, r.text, u.text
                   FROM deliveries d JOIN events e ON e.id = d.event
                   JOIN labels s ON s.id = e.source JOIN labels r ON r.id = d.route
                   JOIN labels u ON u.id = d.endpoint WHERE d.id = ?1";
        let texts = (self.connection.prepare_cached(sql)?)
            .query_row([signed(delivery.0)], |row| {
                let text = |at| row.get::<_, Option<String>>(at);
                Ok([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?])
            })
            .optional()?;
        let Some(texts) = texts else { return Ok(()) };
        let texts = texts.each_ref().map(Option::as_deref);
        self.columns.add(&self.connection, Of::Deliveries, Hashes::of(delivery.0, texts))?;
        if let Some(event) = new_event {
            let [subject, event_type, source, ..] = texts;
            let texts = [subject, event_type, source, None, None];
            let row = Hashes::of(unsigned(event), texts);
            self.columns.add(&self.connection, Of::Events, row)?;
        }
        Ok(())
    }
}

impl Store {
    /// A block's rows are gone, and its columns with them.
    pub(super) fn drop_columns(&mut self, block: i64) -> Result<(), QueueError> {
        let sql = "DELETE FROM columns WHERE id = ?1";
        let mut delete = self.connection.prepare_cached(sql)?;
        for kind in HASHED.into_iter().chain([Kind::Id]) {
            delete.execute([kind.place(block)])?;
        }
        Ok(())
    }
}

fn write(connection: &Connection, of: Of, block: i64, rows: &[Hashes]) -> Result<(), QueueError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    (connection
        .prepare_cached("INSERT INTO blocks (number, of, first, last) VALUES (?1, ?2, ?3, ?4)")?)
    .execute(params![block, of as i64, signed(first.id), signed(last.id)])?;
    let mut insert = connection.prepare_cached("INSERT INTO columns (id, data) VALUES (?1, ?2)")?;
    insert.execute(params![Kind::Id.place(block), encode_ids(rows)])?;
    for kind in of.columns() {
        let one = rows[0].get(*kind);
        // A column that says the same of all rows is that one value.
        let column: Vec<u8> = match rows.iter().all(|it| it.get(*kind) == one) {
            true => one.to_le_bytes().to_vec(),
            false => rows.iter().flat_map(|it| it.get(*kind).to_le_bytes()).collect(),
        };
        insert.execute(params![kind.place(block), column])?;
    }
    Ok(())
}

/// Each id as its distance from the one before, seven bits a byte.
fn encode_ids(rows: &[Hashes]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 3);
    let mut before = 0;
    for row in rows {
        let mut step = row.id - before;
        before = row.id;
        while step >= 0x80 {
            bytes.push(step as u8 | 0x80);
            step >>= 7;
        }
        bytes.push(step as u8);
    }
    bytes
}

/// The ids of a block, growing. Bytes that were damaged give wrong ids, whose rows
/// are not there.
pub(super) fn decode_ids(bytes: &[u8]) -> Vec<u64> {
    let mut ids = Vec::with_capacity(BLOCK_ROWS);
    let (mut before, mut step, mut shift) = (0_u64, 0_u64, 0_u32);
    for byte in bytes {
        step |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        shift += 7;
        if byte & 0x80 == 0 {
            before = before.wrapping_add(step);
            ids.push(before);
            (step, shift) = (0, 0);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_column() {
        let ids = [1, 2, 127, 128, 300, 1 << 20, 1_900_000_000_000 << 20, u64::MAX >> 1];
        let rows = ids.map(|id| Hashes { id, of: [0; 5] });
        assert_eq!(decode_ids(&encode_ids(&rows)), ids);
        assert!(decode_ids(&[0xff; 40]).is_empty(), "damaged");
    }
}
