//! What one endpoint bears at the moment: how many at once, how many in how long, and
//! whether it is to be left alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Ended, MILLISECOND, Wrong};
use crate::clock::UnixMs;
use crate::endpoint::{BreakerRule, HealthRecord};
use crate::simulation::Figures;
use crate::simulation::endpoint::Settings;
use crate::simulation::time::Moment;

/// The longest rest there is: what an endpoint asks for.
pub(super) const REST_MAX: Duration = Duration::from_mins(15);

#[derive(Debug)]
pub(super) struct Limits {
    pub(super) settings: Arc<Settings>,
    /// What is on disk of it: the next process knows that, and nothing else.
    pub(super) kept: HealthRecord,
    /// It was switched off once, by a person or by its own 410.
    pub(super) was_off: bool,
    present: bool,
    off: bool,
    /// Since when, and until when. What begins in the very moment may have had its turn
    /// before.
    rest: Option<(Duration, UnixMs)>,
    under_way: usize,
    /// When the attempts that count for the rate began.
    recent: VecDeque<Duration>,
    breaker: Breaker,
}

impl Limits {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            kept: HealthRecord::default(),
            was_off: false,
            present: true,
            off: false,
            rest: None,
            under_way: 0,
            recent: VecDeque::new(),
            breaker: Breaker::default(),
        }
    }

    pub(super) fn configure(&mut self, settings: Arc<Settings>, present: bool) {
        self.present = present;
        let stretch = |it: &Settings| it.rate.map(|(_, stretch)| stretch);
        if stretch(&settings) != stretch(&self.settings) {
            // A limit of another kind begins to count anew.
            self.recent.clear();
        }
        self.settings = settings;
    }

    pub(super) fn switch(&mut self, off: bool) {
        self.off = off;
        self.was_off |= off;
        if !off {
            (self.rest, self.breaker) = (None, Breaker::default());
        }
    }

    pub(super) fn process_has_ended(&mut self) {
        (self.under_way, self.off) = (0, self.kept.disabled.is_some());
        self.recent.clear();
        (self.rest, self.breaker) = (None, Breaker::default());
    }

    /// Between two attempts, when it bears no more than that.
    pub(super) fn pause(&self) -> Duration {
        let by_rate = self.settings.rate.map(|(count, stretch)| stretch / count as u32);
        by_rate.unwrap_or_default().max(Duration::from_millis(100))
    }

    pub(super) fn begins(&mut self, now: Moment, figures: &mut Figures) -> Vec<(Wrong, String)> {
        let mut found = Vec::new();
        self.under_way += 1;
        let most = self.settings.concurrency;
        if self.under_way == most {
            figures.count("as many at once as may be", 1);
        }
        if self.under_way > most {
            found.push((Wrong::TooMany, format!("{} at once, not {most}", self.under_way)));
        }
        if let Some((count, stretch)) = self.settings.rate {
            // Two floors of a millisecond can be one apart.
            let past = |it: &Duration| *it + stretch <= now.passed + MILLISECOND;
            while self.recent.pop_front_if(|it| past(it)).is_some() {}
            if self.recent.len() >= count {
                let text = format!("{} within {stretch:?}, not {count}", self.recent.len() + 1);
                found.push((Wrong::TooFast, text));
            }
            self.recent.push_back(now.passed);
            if self.recent.len() == count {
                figures.count("as many in a time as may be", 1);
            }
        }
        if let Some((since, until)) = self.rest
            && since < now.passed
            && until > now.steady
        {
            let left = until.since(now.steady);
            found.push((Wrong::Resting, format!("its rest has {left:?} left")));
        }
        if self.off {
            found.push((Wrong::SwitchedOff, "it is switched off".into()));
        }
        if !self.present {
            found.push((Wrong::Removed, "its route is not there".into()));
        }
        found
    }

    pub(super) fn ends(
        &mut self,
        settings: &Settings,
        ended: Ended,
        now: Moment,
        figures: &mut Figures,
    ) {
        self.under_way = self.under_way.saturating_sub(1);
        let mut rests = |until: UnixMs| match &mut self.rest {
            Some((_, all)) if *all > now.steady => *all = until.max(*all),
            over => *over = Some((now.passed, until)),
        };
        if let Ended::Failed { status: Some(429 | 503), retry_after: Some(asked) } = ended {
            figures.count("asked for a rest", 1);
            rests(now.steady.plus(asked.min(REST_MAX)));
        }
        if let Ended::Failed { status: Some(410), .. } = ended {
            return self.switch(true);
        }
        if let Some(rule) = &settings.breaker
            && self.breaker.opens(ended == Ended::Taken, rule, now.steady)
        {
            figures.count("breaker opened", 1);
            rests(now.steady.plus(rule.rest));
        }
    }
}

/// What the breaker's rule says, as the documentation has it: the share of successes in
/// a window that moves by a twentieth; after a rest one failure is enough.
#[derive(Debug, Default)]
struct Breaker {
    ended: Vec<(u64, bool)>,
    trial: bool,
}

impl Breaker {
    fn opens(&mut self, good: bool, rule: &BreakerRule, now: UnixMs) -> bool {
        let slice = now.0 / (rule.window.as_millis() as u64 / 20);
        let trial = std::mem::take(&mut self.trial);
        self.ended.retain(|(it, _)| *it + 20 > slice && *it <= slice);
        self.ended.push((slice, good));
        let all = self.ended.len() as f64;
        let goods = self.ended.iter().filter(|(_, good)| *good).count() as f64;
        let poor = all >= f64::from(rule.requests) && goods < all * rule.success_ratio;
        let opens = !good && (trial || poor);
        if opens {
            *self = Self { trial: true, ended: Vec::new() };
        }
        opens
    }
}
