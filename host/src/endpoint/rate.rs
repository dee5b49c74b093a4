//! How many attempts a lane may make in a stretch of time.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::clock::UnixMs;

/// A number of attempts in a stretch of time, such as `60/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// At least 1.
    pub(crate) count: u32,
    /// A second, a minute or an hour.
    pub(crate) per: Duration,
}

/// The largest rate limit: 10,000 moments a lane remembers are 80 KB.
const RATE_COUNT_MAX: u32 = 10_000;

impl RateLimit {
    /// Read `60/m`; the units are `s`, `m` and `h`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate such as `10/s`, `60/m` or `1000/h`");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(wrong()),
        };
        match count.trim().parse::<u32>() {
            Ok(count @ 1..=RATE_COUNT_MAX) => Ok(Self { count, per }),
            Ok(_) => Err(format!("`{text}`: the count goes from 1 to {RATE_COUNT_MAX}")),
            Err(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// The recent past of a rate-limited lane. It remembers every attempt that still
/// counts, so that in *no* stretch of that length there are more than the limit,
/// which a token bucket with a burst would allow.
#[derive(Debug)]
pub(crate) struct RateWindow {
    limit: RateLimit,
    recent: VecDeque<UnixMs>,
}

impl RateWindow {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, recent: VecDeque::new() }
    }

    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Count an attempt now, or say when one may be made.
    pub(crate) fn take(&mut self, now: UnixMs) -> Result<(), UnixMs> {
        while let Some(&oldest) = self.recent.front() {
            // A clock that was set back must not block the lane: what lies ahead is dropped.
            if oldest.plus(self.limit.per) <= now || oldest > now {
                self.recent.pop_front();
            } else {
                break;
            }
        }
        match self.recent.front() {
            Some(&oldest) if self.recent.len() >= self.limit.count as usize => {
                Err(oldest.plus(self.limit.per))
            }
            _ => {
                self.recent.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_survives_its_text() {
        for text in ["1/s", "60/m", "1000/h"] {
            assert_eq!(RateLimit::parse(text).map(|it| it.to_string()).as_deref(), Ok(text));
        }
        for nonsense in ["", "60", "0/m", "60/d", "-1/s", "1.5/s", "99999999999/s"] {
            assert!(RateLimit::parse(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn no_window_holds_more_than_the_limit() {
        let limit = RateLimit { count: 3, per: Duration::from_secs(1) };
        let mut window = RateWindow::new(limit);
        let mut taken = Vec::new();
        for ms in (0..5_000).step_by(7) {
            if window.take(UnixMs(ms)).is_ok() {
                taken.push(ms);
            }
        }
        assert!(taken.len() >= 14, "{taken:?}");
        for run in taken.windows(4) {
            assert!(run[3] - run[0] >= 1_000, "{run:?}");
        }
    }

    #[test]
    fn a_clock_set_back_does_not_block_a_lane() {
        let mut window = RateWindow::new(RateLimit { count: 1, per: Duration::from_mins(1) });
        assert_eq!(window.take(UnixMs(10_000_000)), Ok(()));
        assert_eq!(window.take(UnixMs(1_000)), Ok(()));
    }
}
