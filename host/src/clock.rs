//! Time and ids. [`UnixMs`] is a value like any other; [`now`] is the one place
//! that reads the system's clock, [`steady`] is for what is due, [`monotonic`] for how
//! much in how long, and [`IdClock`] the one that makes ids.
//!
//! In a test, a thread can have a time of its own: `simulation/time.rs`.

use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(test)]
use crate::simulation::time as simulation;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnixMs(pub(crate) u64);

/// The latest moment that is written: the end of year 9999, where RFC 3339 ends.
pub(crate) const LATEST: UnixMs = UnixMs(253_402_300_799_999);

/// What the clock says.
pub(crate) fn now() -> UnixMs {
    #[cfg(test)]
    if let Some(wall) = simulation::wall() {
        return wall;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(LATEST.0)).min(LATEST)
}

/// A clock for what is due: it shows what [`now`] does, but never goes back. When the
/// system's clock is set back, it goes on from where it was, so that what waits for ten
/// seconds waits for ten seconds.
pub(crate) fn steady() -> UnixMs {
    let running = running_ms();
    let ahead = ahead_ms(now().0.saturating_sub(running));
    UnixMs(running.saturating_add(ahead)).min(LATEST)
}

/// It was so late once, in this process or one before it: [`steady`] is not earlier.
pub(crate) fn not_before(at: UnixMs) {
    ahead_ms(at.min(LATEST).0.saturating_sub(running_ms()));
}

/// A clock that nobody sets, of this process alone: only how far two of its moments are
/// apart means something. [`steady`] leaps forward with the system's clock.
pub(crate) fn monotonic() -> UnixMs {
    UnixMs(running_ms().saturating_add(MONOTONIC_BEGIN_MS))
}

/// A moment of another process, from before this one began, is none before 1970: a day, for
/// nothing longer is measured by it.
const MONOTONIC_BEGIN_MS: u64 = 86_400_000;

/// By how much the steady clock is ahead of the time that the process runs: from now on at
/// least so much.
fn ahead_ms(at_least: u64) -> u64 {
    #[cfg(test)]
    if let Some(ahead) = simulation::ahead(at_least) {
        return ahead;
    }
    static AHEAD_MS: AtomicU64 = AtomicU64::new(0);
    AHEAD_MS.fetch_max(at_least, Ordering::Relaxed).max(at_least)
}

fn running_ms() -> u64 {
    #[cfg(test)]
    if let Some(running) = simulation::running_ms() {
        return running;
    }
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(LATEST.0)
}

/// Wait.
#[cfg(not(test))]
pub(crate) use tokio::time::sleep;

#[cfg(test)]
pub(crate) use simulation::sleep;

impl UnixMs {
    /// This much later; stops at the end of year 9999.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms)).min(LATEST)
    }

    /// This much earlier; stops at 1970.
    pub(crate) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long until then, from `now`; zero when it has passed.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// An RFC 3339 text as a moment; none when it is not one or lies before 1970.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let ns = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        u64::try_from(ns.div_euclid(1_000_000)).ok().map(Self)
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-05-04T10:00:00.000Z`.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.min(LATEST.0);
        let seconds = i64::try_from(ms / 1000).unwrap_or_default();
        let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            ms % 1000
        )
    }
}

/// Makes ids that grow with time: milliseconds in the high bits, a count in the
/// low [`COUNT_BITS`]. They sort as they were made, so a store only appends.
///
/// Of several nodes on one store each has a number, and its ids have it as their lowest
/// [`NODE_BITS`]: what one makes no other does.
#[derive(Debug)]
pub(crate) struct IdClock {
    last: AtomicU64,
    /// What is added to every id, and how far ids are apart; set when a node joins.
    node: AtomicU64,
    step: AtomicU64,
}

/// 2^20 ids a millisecond, and 43 bits of milliseconds: enough until year 2248.
const COUNT_BITS: u32 = 20;

/// 1,024 nodes; each makes 1,024 ids a millisecond and borrows from the next when it needs
/// more.
const NODE_BITS: u32 = 10;

/// How many nodes can share a store.
pub(crate) const NODES_MAX: u32 = 1 << NODE_BITS;

impl IdClock {
    /// Ids after `last`, the newest in the store, even if the clock was set back.
    pub(crate) fn after(last: u64) -> Self {
        Self { last: AtomicU64::new(last), node: AtomicU64::new(0), step: AtomicU64::new(1) }
    }

    /// From now on, ids of this node; none is before `last`, the newest in the store.
    pub(crate) fn become_node(&self, number: u32, last: u64, now: UnixMs) {
        self.step.store(1 << NODE_BITS, Ordering::SeqCst);
        self.node.store(u64::from(number % NODES_MAX), Ordering::SeqCst);
        // A clock that is far ahead elsewhere is not followed: its ids would never end.
        let ahead = first_id_at(now.plus(AHEAD_MAX));
        self.last.fetch_max(last.min(ahead), Ordering::SeqCst);
    }

    /// An id that no earlier call returned.
    pub(crate) fn next(&self, now: UnixMs) -> u64 {
        let (node, step) = (self.node.load(Ordering::Relaxed), self.step.load(Ordering::Relaxed));
        let floor = first_id_at(now);
        let after = |last: u64| ((last + 1).max(floor).next_multiple_of(step)) + node;
        match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(after(it))) {
            Ok(last) | Err(last) => after(last),
        }
    }
}

/// How far the clocks of nodes may be apart for their ids to be in one order.
pub(crate) const AHEAD_MAX: Duration = Duration::from_mins(1);

/// The smallest id made at or after this moment; the largest id there is for one
/// after the year 2248.
pub(crate) fn first_id_at(at: UnixMs) -> u64 {
    at.0.saturating_mul(1 << COUNT_BITS).min(i64::MAX.cast_unsigned())
}

/// When an id was made.
pub(crate) fn ms_of_id(id: u64) -> UnixMs {
    UnixMs(id >> COUNT_BITS)
}

/// Thirteen characters of Crockford's base32, lower case: no letter that could be
/// read as a digit, and the order of the texts is the order of the ids.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn id_digits(id: u64) -> [u8; 13] {
    let mut place = 65;
    [(); 13].map(|()| {
        place -= 5;
        DIGITS[((id >> place) & 31) as usize]
    })
}

/// An id as its text without prefix.
pub(crate) fn id_text(id: u64) -> String {
    id_digits(id).map(char::from).iter().collect()
}

/// An id behind its prefix of four characters, without memory of its own: each delivery
/// writes several.
pub(crate) struct IdText([u8; 17]);

impl IdText {
    pub(crate) fn new(prefix: &str, id: u64) -> Self {
        let mut text = [0; 17];
        let (before, digits) = text.split_at_mut(4);
        before.iter_mut().zip(prefix.bytes()).for_each(|(place, byte)| *place = byte);
        digits.copy_from_slice(&id_digits(id));
        Self(text)
    }
}

impl Deref for IdText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The id in a text without prefix; none when it is not one.
pub(crate) fn id_from_text(text: &str) -> Option<u64> {
    if text.len() != 13 {
        return None;
    }
    text.bytes().try_fold(0_u64, |id, byte| {
        let digit = DIGITS.iter().position(|&it| it == byte)? as u64;
        // The first digit holds four bits: 13 × 5 is 65.
        (id >> 59 == 0).then_some((id << 5) | digit)
    })
}

/// The first and the last id whose text starts so; none when no id does.
pub(crate) fn id_floor(start: &str) -> Option<(u64, u64)> {
    let rest = 13_usize.checked_sub(start.len())?;
    let first = id_from_text(&format!("{start}{}", "0".repeat(rest)))?;
    let last = id_from_text(&format!("{start}{}", "z".repeat(rest)));
    // `z…` alone is more than 64 bits hold.
    Some((first, last.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        for id in [0, 1, 31, 32, u64::MAX, u64::MAX >> 1, 1_900_000_000_000 << COUNT_BITS] {
            assert_eq!(id_from_text(&id_text(id)), Some(id));
        }
        for not_an_id in ["", "0", "00000000000000", "000000000000i", "zzzzzzzzzzzzz"] {
            assert_eq!(id_from_text(not_an_id), None, "{not_an_id:?}");
        }
    }

    #[test]
    fn ids_grow_even_when_the_clock_goes_back() {
        let ids = IdClock::after(first_id_at(UnixMs(5_000)));
        let first = ids.next(UnixMs(6_000));
        let second = ids.next(UnixMs(1_000));
        assert!(first >= first_id_at(UnixMs(6_000)));
        assert!(second > first);
    }

    #[test]
    fn two_nodes_make_no_id_twice() {
        let nodes = [3, 1023].map(|number| {
            let ids = IdClock::after(0);
            ids.become_node(number, first_id_at(UnixMs(5_000)) + 77, UnixMs(5_000));
            ids
        });
        let mut made = std::collections::HashSet::new();
        for _ in 0..5_000 {
            for ids in &nodes {
                let id = ids.next(UnixMs(5_000));
                assert!(id > first_id_at(UnixMs(5_000)) && made.insert(id), "{id}");
            }
        }
    }

    #[test]
    fn a_moment_beyond_all_ids_is_after_them() {
        assert!(first_id_at(LATEST) > first_id_at(UnixMs(1 << 42)));
        assert_eq!(first_id_at(UnixMs(u64::MAX)), first_id_at(LATEST));
    }

    #[test]
    fn a_moment_survives_its_text() {
        for ms in [0, 1, 1_777_888_999_123, LATEST.0] {
            assert_eq!(UnixMs::parse(&UnixMs(ms).to_string()), Some(UnixMs(ms)));
        }
        assert_eq!(
            UnixMs::parse("2026-05-04T12:00:00+02:00"),
            UnixMs::parse("2026-05-04T10:00:00Z")
        );
        assert_eq!(UnixMs::parse("1969-12-31T23:59:59.9999Z"), None);
    }
}
