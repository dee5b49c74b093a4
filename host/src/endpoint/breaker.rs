//! Leaving an endpoint alone for a while when too few attempts succeed. Pure: the
//! time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::UnixMs;

/// When to leave an endpoint alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BreakerRule {
    /// The stretch of the recent past that counts.
    pub(crate) window: Duration,
    /// With fewer attempts in the window nothing is concluded.
    pub(crate) requests: u32,
    /// Below this share of successes, from 0 to 1, the endpoint gets a rest.
    pub(crate) success_ratio: f64,
    /// How long.
    pub(crate) rest: Duration,
}

impl Default for BreakerRule {
    /// For endpoints of which nothing else is said: more failures than successes.
    fn default() -> Self {
        Self {
            window: Duration::from_mins(2),
            requests: 100,
            success_ratio: 0.5,
            rest: Duration::from_secs(30),
        }
    }
}

/// The recent past of an endpoint: attempts that came to an end, in slices of the
/// window.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    slices: VecDeque<Slice>,
    good: u32,
    bad: u32,
    /// The next attempt decides alone: it is the first after a rest.
    trial: bool,
}

#[derive(Debug)]
struct Slice {
    number: u64,
    good: u32,
    bad: u32,
}

/// How many slices a window has: it moves by a twentieth of its length.
const SLICES: u64 = 20;

impl Breaker {
    /// An attempt came to its end; true when the endpoint now needs a rest.
    pub(super) fn ended(&mut self, good: bool, rule: &BreakerRule, now: UnixMs) -> bool {
        if std::mem::take(&mut self.trial) && !good {
            return self.trip();
        }
        self.count(good, rule, now);
        let all = self.good + self.bad;
        // Never after a success: a rest begins with a failure, which names the reason.
        let poor = f64::from(self.good) < f64::from(all) * rule.success_ratio;
        !good && all >= rule.requests.max(1) && poor && self.trip()
    }

    /// As it is in a rest.
    pub(super) fn tripped() -> Self {
        Self { trial: true, ..Self::default() }
    }

    fn count(&mut self, good: bool, rule: &BreakerRule, now: UnixMs) {
        let width = u64::try_from(rule.window.as_millis()).unwrap_or(u64::MAX) / SLICES;
        let number = now.0 / width.max(1);
        // What lies ahead was counted before the clock was set back.
        while let Some(oldest) = self.slices.front()
            && (oldest.number + SLICES <= number || oldest.number > number)
        {
            self.good -= oldest.good;
            self.bad -= oldest.bad;
            self.slices.pop_front();
        }
        if self.slices.back().is_none_or(|it| it.number != number) {
            self.slices.push_back(Slice { number, good: 0, bad: 0 });
        }
        if let Some(slice) = self.slices.back_mut() {
            let (of_slice, of_all) = match good {
                true => (&mut slice.good, &mut self.good),
                false => (&mut slice.bad, &mut self.bad),
            };
            *of_slice += 1;
            *of_all += 1;
        }
    }

    /// What is past counts no more; the first attempt after the rest decides.
    fn trip(&mut self) -> bool {
        *self = Self::tripped();
        true
    }

    /// The share of successes in the window, and of how many attempts.
    pub(super) fn ratio(&self) -> Option<(f64, u32)> {
        let all = self.good + self.bad;
        (all > 0).then(|| (f64::from(self.good) / f64::from(all), all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: BreakerRule = BreakerRule {
        window: Duration::from_mins(2),
        requests: 100,
        success_ratio: 0.9,
        rest: Duration::from_mins(3),
    };

    fn ended(breaker: &mut Breaker, good: u32, bad: u32, now: u64) -> bool {
        (0..good + bad).any(|at| breaker.ended(at < good, &RULE, UnixMs(now)))
    }

    #[test]
    fn nine_in_ten_are_enough_and_fewer_are_not() {
        assert!(!ended(&mut Breaker::default(), 90, 10, 1_000_000));
        assert!(ended(&mut Breaker::default(), 89, 11, 1_000_000));
    }

    #[test]
    fn too_few_attempts_say_nothing() {
        assert!(!ended(&mut Breaker::default(), 0, 99, 1_000_000));
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut breaker = Breaker::default();
        assert!(!ended(&mut breaker, 0, 99, 1_000_000));
        assert!(!ended(&mut breaker, 0, 99, 1_000_000 + 121_000));
        assert_eq!(breaker.ratio(), Some((0.0, 99)));
        assert!(ended(&mut breaker, 0, 1, 1_000_000 + 122_000));
    }

    #[test]
    fn the_first_attempt_after_a_rest_decides() {
        let mut breaker = Breaker::default();
        assert!(ended(&mut breaker, 0, 100, 1_000_000));
        assert!(ended(&mut breaker, 0, 1, 2_000_000));
        assert!(!ended(&mut breaker, 1, 98, 3_000_000));
    }

    #[test]
    fn a_clock_set_back_forgets_and_does_not_block() {
        let mut breaker = Breaker::default();
        assert!(!ended(&mut breaker, 0, 99, 9_000_000));
        assert!(!ended(&mut breaker, 0, 99, 1_000_000));
        assert_eq!(breaker.ratio(), Some((0.0, 99)));
    }
}
