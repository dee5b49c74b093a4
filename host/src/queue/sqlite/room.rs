//! How much the store may still grow.

use rusqlite::Connection;

use crate::queue::values::{signed, unsigned};
use crate::queue::{NewEvent, QueueError};

/// Above `bytes_max` nothing more is accepted; settling goes on.
#[derive(Debug)]
pub(super) struct Room {
    bytes_max: u64,
    /// What is left, once somebody has asked.
    left: Option<i64>,
}

/// SQLite prepares the question anew each time. Far from the end it is not asked: what is
/// left is counted down, faster than any event can use it up.
const NEAR: i64 = 64 << 20;

/// An event's data, and again in its attempts; rows and indexes.
const COPIES: i64 = 8;
const BYTES_BESIDE: i64 = 64 << 10;

impl Room {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, left: None }
    }

    /// A transaction begins.
    pub(super) fn look_again(&mut self) {
        self.left = self.left.filter(|it| *it >= NEAR);
    }

    /// Refuse events when there is none.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        events: &[NewEvent],
    ) -> Result<(), QueueError> {
        let left = match self.left {
            Some(left) => left,
            None => signed(self.bytes_max).saturating_sub(signed(bytes(connection)?)),
        };
        if left < 0 {
            return Err(QueueError::Full("store.bytes_max is reached".into()));
        }
        let data: usize = events.iter().map(|it| it.event.data.len()).sum();
        let (data, count) = (data as i64, events.len() as i64);
        let used = if left < NEAR { data } else { COPIES * data + BYTES_BESIDE * count };
        self.left = Some(left.saturating_sub(used));
        Ok(())
    }
}

/// What the store takes, without what is free in it.
pub(super) fn bytes(connection: &Connection) -> Result<u64, QueueError> {
    let ask = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    let (pages, free): (i64, i64) = (ask("PRAGMA page_count")?, ask("PRAGMA freelist_count")?);
    let page: i64 = ask("PRAGMA page_size")?;
    Ok(unsigned((pages - free) * page))
}
