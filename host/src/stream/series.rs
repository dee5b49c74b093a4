//! Counts over time in rings of fixed size: the last quarter of an hour by ten
//! seconds, the last day by ten minutes. Pure: the time is an argument.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::UnixMs;

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// 90 intervals of 10 s.
    Quarter,
    /// 144 intervals of 10 min.
    Day,
}

pub(super) const FIVE_MINUTES: Duration = Duration::from_mins(5);

impl Window {
    const fn steps(self) -> u64 {
        match self {
            Self::Quarter => 90,
            Self::Day => 144,
        }
    }

    pub(crate) const fn step(self) -> Duration {
        match self {
            Self::Quarter => Duration::from_secs(10),
            Self::Day => Duration::from_mins(10),
        }
    }

    pub(crate) const fn span(self) -> Duration {
        Duration::from_secs(self.step().as_secs() * self.steps())
    }

    /// Which step since 1970 a moment is in.
    fn at(self, now: UnixMs) -> u64 {
        now.0 / (self.step().as_secs() * 1000)
    }
}

/// What happened in one interval.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Interval {
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    attempts: u64,
    delivered: u64,
    failed: u64,
    /// Milliseconds within which half of the attempts ended; null without attempts, for one route, and for
    /// a tenant.
    p50_ms: Option<f64>,
    /// Milliseconds within which 99 of 100 ended.
    p99_ms: Option<f64>,
}

/// What an interval gathers.
pub(super) trait Gathers: Clone + Default + std::fmt::Debug {
    fn add(&mut self, good: bool, took: Duration);
    fn counts(&self) -> Counts;
    /// The duration that this share of all is within.
    fn quantile(&self, share: f64) -> Option<f64>;
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    delivered: u32,
    failed: u32,
}

/// Two buckets a doubling, from 64 µs to 4.5 min: an error of at most 41 %,
/// 50 numbers an interval.
const BUCKETS: usize = 45;
const FIRST_US: f64 = 64.0;

#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: Counts,
    buckets: [u32; BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: Counts::default(), buckets: [0; BUCKETS] }
    }
}

impl Gathers for Counts {
    fn add(&mut self, good: bool, _took: Duration) {
        let count = if good { &mut self.delivered } else { &mut self.failed };
        *count = count.saturating_add(1);
    }

    fn counts(&self) -> Counts {
        *self
    }

    fn quantile(&self, _share: f64) -> Option<f64> {
        None
    }
}

impl Gathers for Latencies {
    fn add(&mut self, good: bool, took: Duration) {
        self.counts.add(good, took);
        let doublings = (took.as_micros() as f64 / FIRST_US).max(1.0).log2();
        let at = ((doublings * 2.0) as usize).min(BUCKETS - 1);
        self.buckets[at] = self.buckets[at].saturating_add(1);
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.buckets.iter().map(|it| u64::from(*it)).sum();
        let wanted = (all as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|it| {
            seen += u64::from(*it);
            seen >= wanted
        })?;
        // The upper end of the bucket.
        Some(FIRST_US * 2_f64.powf((at as f64 + 1.0) / 2.0) / 1000.0)
    }
}

/// Both windows.
#[derive(Clone, Debug)]
pub(super) struct Rings<T> {
    quarter: Ring<T>,
    day: Ring<T>,
}

#[derive(Clone, Debug)]
struct Ring<T> {
    window: Window,
    /// Each with the step since 1970 it is of; made with the first attempt.
    places: Vec<(u64, T)>,
}

impl<T: Gathers> Default for Rings<T> {
    fn default() -> Self {
        let ring = |window| Ring { window, places: Vec::new() };
        Self { quarter: ring(Window::Quarter), day: ring(Window::Day) }
    }
}

impl<T: Gathers> Rings<T> {
    pub(super) fn add(&mut self, now: UnixMs, good: bool, took: Duration) {
        self.quarter.now(now).add(good, took);
        self.day.now(now).add(good, took);
    }

    fn of(&self, window: Window) -> &Ring<T> {
        match window {
            Window::Quarter => &self.quarter,
            Window::Day => &self.day,
        }
    }

    pub(super) fn intervals(&self, window: Window, now: UnixMs) -> Vec<Interval> {
        let step_ms = window.step().as_secs() * 1000;
        let interval = |(step, found): (u64, Option<&T>)| {
            let Counts { delivered, failed } = found.map(T::counts).unwrap_or_default();
            let (delivered, failed) = (u64::from(delivered), u64::from(failed));
            Interval {
                at: UnixMs(step * step_ms).to_string(),
                attempts: delivered + failed,
                delivered,
                failed,
                p50_ms: found.and_then(|it| it.quantile(0.5)),
                p99_ms: found.and_then(|it| it.quantile(0.99)),
            }
        };
        self.of(window).last(window.steps(), now).map(interval).collect()
    }

    /// Delivered and failed in the last part of a window.
    pub(super) fn sum(&self, window: Window, span: Duration, now: UnixMs) -> (u64, u64) {
        let steps = span.as_secs() / window.step().as_secs();
        let found = self.of(window).last(steps, now).filter_map(|(_, it)| it);
        found.map(T::counts).fold((0, 0), |(good, bad), it| {
            (good + u64::from(it.delivered), bad + u64::from(it.failed))
        })
    }
}

/// What several gathered, as one.
pub(super) fn together<'r>(
    all: impl IntoIterator<Item = &'r Rings<Counts>>,
    window: Window,
    now: UnixMs,
) -> Vec<Interval> {
    let mut sum = Rings::<Counts>::default().intervals(window, now);
    for rings in all {
        for (sum, it) in sum.iter_mut().zip(rings.intervals(window, now)) {
            sum.attempts += it.attempts;
            sum.delivered += it.delivered;
            sum.failed += it.failed;
        }
    }
    sum
}

impl<T: Gathers> Ring<T> {
    fn now(&mut self, now: UnixMs) -> &mut T {
        let steps = self.window.steps();
        if self.places.is_empty() {
            self.places = vec![(0, T::default()); steps as usize];
        }
        let step = self.window.at(now);
        let place = &mut self.places[(step % steps) as usize];
        if place.0 != step {
            *place = (step, T::default());
        }
        &mut place.1
    }

    /// The last so many steps, oldest first, with what they gathered.
    fn last(&self, count: u64, now: UnixMs) -> impl Iterator<Item = (u64, Option<&T>)> {
        let end = self.window.at(now) + 1;
        (end.saturating_sub(count)..end).map(|step| {
            let place = self.places.get((step % self.window.steps()) as usize);
            (step, place.filter(|(of, _)| *of == step).map(|(_, it)| it))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_forgets_what_is_older_than_its_window() {
        let mut rings = Rings::<Latencies>::default();
        let begin = UnixMs(1_777_888_000_000);
        let ms = Duration::from_millis;
        rings.add(begin, true, ms(5));
        rings.add(begin, false, ms(5));
        let at = |window, after: Duration| rings.sum(window, window.span(), begin.plus(after));
        assert_eq!(at(Window::Quarter, ms(0)), (1, 1));
        assert_eq!(at(Window::Quarter, Window::Quarter.span() + ms(20_000)), (0, 0));
        assert_eq!(at(Window::Day, Window::Quarter.span() + ms(20_000)), (1, 1));
        assert_eq!(at(Window::Day, Window::Day.span() + ms(1_200_000)), (0, 0));
        let later = begin.plus(Window::Quarter.span());
        rings.add(later, true, ms(5));
        assert_eq!(rings.sum(Window::Quarter, FIVE_MINUTES, later), (1, 0));
    }

    #[test]
    fn a_quantile_is_not_below_what_it_stands_for_and_not_far_above() {
        let mut latencies = Latencies::default();
        for ms in 1..=1000 {
            latencies.add(true, Duration::from_millis(ms));
        }
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = latencies.quantile(share).expect("there are some");
            assert!((ms..ms * 1.42).contains(&found), "{share}: {found}");
        }
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
