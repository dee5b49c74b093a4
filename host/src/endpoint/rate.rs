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
/// which a token bucket with a burst would allow. Its moments are of a clock that nobody
/// sets: else one that is set forward would end the stretch.
#[derive(Debug)]
pub(crate) struct RateWindow {
    limit: RateLimit,
    recent: VecDeque<UnixMs>,
    /// The same as few numbers: by slices, the last moment in each and how many.
    slices: VecDeque<(UnixMs, u64)>,
}

/// How many slices the stretch has: an attempt counts for up to a twentieth longer after
/// another process has taken the lane over.
const SLICES: u32 = 20;

impl RateWindow {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, recent: VecDeque::new(), slices: VecDeque::new() }
    }

    /// Another limit, from now on. What was made under the one before counts.
    pub(crate) fn change(&mut self, limit: RateLimit) {
        if std::mem::replace(&mut self.limit, limit) == limit {
            return;
        }
        self.slices.clear();
        for at in self.recent.clone() {
            self.count(at);
        }
    }

    /// Count an attempt now, or say when one may be made.
    pub(crate) fn take(&mut self, now: UnixMs) -> Result<(), UnixMs> {
        while let Some(&oldest) = self.recent.front() {
            if oldest.plus(self.limit.per) > now {
                break;
            }
            self.recent.pop_front();
        }
        match self.recent.front() {
            Some(&oldest) if self.recent.len() >= self.limit.count as usize => {
                Err(oldest.plus(self.limit.per))
            }
            _ => {
                self.recent.push_back(now);
                self.count(now);
                Ok(())
            }
        }
    }

    fn count(&mut self, now: UnixMs) {
        let width = (self.limit.per / SLICES).as_millis().max(1);
        let slice = |it: UnixMs| u128::from(it.0) / width;
        match self.slices.back_mut() {
            Some((last, count)) if slice(*last) == slice(now) => {
                (*last, *count) = (now, *count + 1)
            }
            _ => self.slices.push_back((now, 1)),
        }
        while self.slices.len() > SLICES as usize + 1 {
            self.slices.pop_front();
        }
    }

    /// The recent past, for another process.
    pub(crate) fn spent(&self) -> Vec<(UnixMs, u64)> {
        self.slices.iter().copied().collect()
    }

    /// What another process has spent; and so many attempts of which only that is known
    /// that they were made before now.
    pub(crate) fn follow(&mut self, spent: &[(UnixMs, u64)], unsure: u64, now: UnixMs) {
        (self.recent, self.slices) = (VecDeque::new(), VecDeque::new());
        for (at, count) in spent.iter().copied().chain([(now, unsure)]) {
            // Another machine's clock may be ahead.
            let at = at.min(now);
            for _ in 0..count.min(self.limit.count.into()) {
                self.recent.push_back(at);
                self.count(at);
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
    fn another_process_spends_no_more_than_was_left() {
        let limit = RateLimit { count: 100, per: Duration::from_secs(1) };
        for unsure in [0, 30] {
            let mut before = RateWindow::new(limit);
            let moments = (0..60).map(|at| UnixMs(10_000 + at * 10));
            moments.for_each(|at| before.take(at).expect("there is room"));
            assert!(before.spent().len() <= 21);
            let mut after = RateWindow::new(limit);
            after.follow(&before.spent(), unsure, UnixMs(10_600));
            let left = (0..100).filter(|_| after.take(UnixMs(10_600)).is_ok()).count();
            assert_eq!(left as u64, 40 - unsure);
            // What was first is forgotten first, a twentieth late.
            assert!(after.take(UnixMs(10_999)).is_err() && after.take(UnixMs(11_060)).is_ok());
        }
        let mut full = RateWindow::new(limit);
        full.follow(&[], u64::MAX, UnixMs(10_000));
        assert!(full.take(UnixMs(10_999)).is_err() && full.take(UnixMs(11_000)).is_ok());
    }

    #[test]
    fn another_limit_counts_what_was_made_under_the_one_before() {
        let per = Duration::from_secs(1);
        let mut window = RateWindow::new(RateLimit { count: 3, per });
        (0..3).for_each(|at| window.take(UnixMs(10_000 + at)).expect("there is room"));
        window.change(RateLimit { count: 4, per });
        assert_eq!(window.take(UnixMs(10_003)), Ok(()));
        window.change(RateLimit { count: 2, per });
        assert!(window.take(UnixMs(11_001)).is_err());
        assert_eq!(window.take(UnixMs(11_002)), Ok(()));
        assert_eq!(window.spent().iter().map(|(_, count)| count).sum::<u64>(), 5);
    }
}
