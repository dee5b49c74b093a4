//! What a lane learns from how its attempts end: slow down, take a rest, give up.
//! Pure: the time is an argument.

use std::sync::Arc;
use std::time::Duration;

use super::Endpoint;
use super::breaker::Breaker;
use crate::clock::UnixMs;

/// What an attempt tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The endpoint has it.
    Good,
    /// The endpoint answered something else, or did not answer.
    Bad {
        /// It has too much to do: 429, 502, 503, 504.
        busy: bool,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It is gone for good: 410.
    Gone,
    /// A plugin broke before anything was sent: nothing is known of the endpoint.
    PluginBroke,
    /// Nothing was sent for another reason.
    Nothing,
}

/// Why a lane makes no attempts at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Too few attempts succeeded.
    Breaker,
    /// The endpoint is busy, or asked for it.
    Busy,
    /// A plugin broke again and again.
    Quarantine,
}

/// A pause of a whole lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) until: UnixMs,
    pub(crate) cause: Cause,
}

/// An endpoint that is not called until somebody enables it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disabled {
    pub(crate) since: UnixMs,
    pub(crate) reason: Arc<str>,
}

/// A turn for better or worse that people want to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has failed several times in a row.
    Failing {
        since: UnixMs,
    },
    /// After that, an attempt succeeded.
    Recovered {
        failing_since: UnixMs,
    },
    Disabled(Disabled),
    /// Somebody enabled it.
    Enabled,
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthRecord {
    pub(crate) failing_since: Option<UnixMs>,
    pub(crate) disabled: Option<Disabled>,
    /// Where other processes may take over.
    pub(crate) rest: Option<Rest>,
}

/// How an endpoint does.
#[derive(Debug, Default)]
pub(crate) struct Health {
    breaker: Breaker,
    /// Failures since the last success.
    failures: u32,
    /// When the first of them was.
    failing_since: Option<UnixMs>,
    /// `Change::Failing` was told.
    told: bool,
    disabled: Option<Disabled>,
    rest: Option<Rest>,
    /// How many attempts at once are wise; none for as many as are allowed.
    pace: Option<usize>,
    /// When the pace was last reduced.
    reduced: UnixMs,
    /// Answers in a row that said "busy".
    busy: u32,
    /// Calls in a row in which a plugin broke, and rests because of it.
    broke: u32,
    quarantines: u32,
}

/// So many failures in a row are more than an accident.
const FAILING_AFTER: u32 = 5;

/// An endpoint is not disabled for fewer failures than these, however long ago the
/// first was: one that is called once a month deserves more than one chance.
const DISABLED_AFTER: u32 = 10;

/// So many "busy" in a row, and the lane rests.
const BUSY_AFTER: u32 = 3;
const BUSY_REST: Duration = Duration::from_secs(1);
const BUSY_REST_MAX: Duration = Duration::from_secs(30);
/// A `Retry-After` on 429 or 503 is about the endpoint, not about one delivery; it
/// rests the lane, but not for longer than this.
const ASKED_REST_MAX: Duration = Duration::from_mins(15);
/// Attempts that were under way together are one piece of news.
const REDUCE_PAUSE: Duration = Duration::from_secs(1);

/// A plugin that breaks so often in a row is broken.
const QUARANTINE_AFTER: u32 = 5;
const QUARANTINE: Duration = Duration::from_secs(10);
const QUARANTINE_MAX: Duration = Duration::from_mins(10);

impl Health {
    /// As it was when the process before this one ended.
    pub(crate) fn restored(record: HealthRecord) -> Self {
        Self {
            told: record.failing_since.is_some(),
            failing_since: record.failing_since,
            disabled: record.disabled,
            rest: record.rest,
            pace: record.rest.map(|_| 1),
            breaker: match record.rest {
                Some(Rest { cause: Cause::Breaker, .. }) => Breaker::tripped(),
                _ => Breaker::default(),
            },
            ..Self::default()
        }
    }

    /// Another process has written this down. What `learns` itself from attempts only obeys
    /// what a person has decided elsewhere.
    pub(crate) fn follow(&mut self, record: HealthRecord, learns: bool) {
        if !learns {
            *self = Self::restored(record);
        } else if self.disabled.is_some() && record.disabled.is_none() {
            self.enable();
        } else {
            self.disabled = record.disabled;
        }
    }

    pub(crate) fn record(&self) -> HealthRecord {
        HealthRecord {
            failing_since: self.failing_since.filter(|_| self.told),
            disabled: self.disabled.clone(),
            rest: self.rest,
        }
    }

    /// An attempt has come to its end.
    pub(crate) fn heard(
        &mut self,
        heard: Heard,
        endpoint: &Endpoint,
        now: UnixMs,
    ) -> Option<Change> {
        if matches!(heard, Heard::Good | Heard::Bad { .. } | Heard::Gone) {
            // A request was made, so the plugins did their part.
            (self.broke, self.quarantines) = (0, 0);
        }
        match heard {
            Heard::Nothing => None,
            Heard::PluginBroke => {
                self.plugin_broke(now);
                None
            }
            Heard::Good => self.good(endpoint, now),
            Heard::Bad { busy, retry_after } => {
                if busy {
                    self.busy(endpoint, retry_after, now);
                } else {
                    self.busy = 0;
                }
                self.bad(endpoint, now)
            }
            Heard::Gone => self.disable("it answered 410: it is gone", now),
        }
    }

    /// The last attempt of a delivery failed at the endpoint.
    pub(crate) fn exhausted(&mut self, endpoint: &Endpoint, now: UnixMs) -> Option<Change> {
        endpoint.disable_when_exhausted.then(|| self.disable("every retry failed", now))?
    }

    fn good(&mut self, endpoint: &Endpoint, now: UnixMs) -> Option<Change> {
        if let Some(rule) = &endpoint.breaker {
            self.breaker.ended(true, rule, now);
        }
        (self.busy, self.failures) = (0, 0);
        // One more at once for each success: back to full pace within a few round trips.
        self.pace = self.pace.map(|it| it + 1).filter(|it| *it < endpoint.concurrency as usize);
        let since = self.failing_since.take();
        let told = std::mem::take(&mut self.told);
        since.filter(|_| told).map(|failing_since| Change::Recovered { failing_since })
    }

    fn bad(&mut self, endpoint: &Endpoint, now: UnixMs) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        if let Some(rule) = &endpoint.breaker
            && self.breaker.ended(false, rule, now)
        {
            self.take_rest(now.plus(rule.rest), Cause::Breaker);
        }
        if let Some(limit) = endpoint.disable_after
            && self.failures >= DISABLED_AFTER
            && now.since(since) >= limit
        {
            let days = now.since(since).as_secs_f64() / 86_400.0;
            return self.disable(&format!("it has only failed for {days:.1} days"), now);
        }
        let news = self.failures >= FAILING_AFTER && !self.told;
        self.told |= news;
        news.then_some(Change::Failing { since })
    }

    fn busy(&mut self, endpoint: &Endpoint, retry_after: Option<Duration>, now: UnixMs) {
        self.busy = self.busy.saturating_add(1);
        if now.since(self.reduced) >= REDUCE_PAUSE {
            self.reduced = now;
            let pace = self.pace.unwrap_or(endpoint.concurrency as usize);
            self.pace = Some((pace / 2).max(1));
        }
        if let Some(asked) = retry_after.filter(|it| !it.is_zero()) {
            self.take_rest(now.plus(asked.min(ASKED_REST_MAX)), Cause::Busy);
        } else if self.busy >= BUSY_AFTER {
            let rest = doubled(BUSY_REST, self.busy - BUSY_AFTER, BUSY_REST_MAX);
            self.take_rest(now.plus(rest), Cause::Busy);
        }
    }

    fn plugin_broke(&mut self, now: UnixMs) {
        self.broke += 1;
        if self.broke >= QUARANTINE_AFTER || self.quarantines > 0 {
            let rest = doubled(QUARANTINE, self.quarantines, QUARANTINE_MAX);
            self.quarantines += 1;
            self.broke = 0;
            self.take_rest(now.plus(rest), Cause::Quarantine);
        }
    }

    /// One attempt alone comes after it.
    fn take_rest(&mut self, until: UnixMs, cause: Cause) {
        self.pace = Some(1);
        if self.rest.is_none_or(|it| it.until < until) {
            self.rest = Some(Rest { until, cause });
        }
    }

    /// The pause that is on, if there is one.
    pub(crate) fn rest(&mut self, now: UnixMs) -> Option<Rest> {
        self.rest = self.rest.filter(|it| it.until > now);
        self.rest
    }

    /// May a pause be on? Cheap.
    pub(crate) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// How many attempts at once, of those allowed.
    pub(crate) fn pace(&self, concurrency: usize) -> usize {
        self.pace.map_or(concurrency, |it| it.min(concurrency))
    }

    /// The plugins were changed: they get another chance at once. True when they
    /// had been given a rest.
    pub(crate) fn repaired(&mut self) -> bool {
        (self.broke, self.quarantines) = (0, 0);
        let was = self.rest.is_some_and(|it| it.cause == Cause::Quarantine);
        if was {
            self.rest = None;
        }
        was
    }

    pub(crate) fn disabled(&self) -> Option<&Disabled> {
        self.disabled.as_ref()
    }

    /// Call it no more.
    pub(crate) fn disable(&mut self, reason: &str, now: UnixMs) -> Option<Change> {
        if self.disabled.is_some() {
            return None;
        }
        let disabled = Disabled { since: now, reason: reason.into() };
        self.disabled = Some(disabled.clone());
        Some(Change::Disabled(disabled))
    }

    /// Call it again, as if nothing had been.
    pub(crate) fn enable(&mut self) -> Option<Change> {
        let was = self.disabled.is_some();
        *self = Self::default();
        was.then_some(Change::Enabled)
    }

    /// Since when it fails, when it fails.
    pub(crate) fn failing_since(&self) -> Option<UnixMs> {
        self.failing_since.filter(|_| self.told)
    }

    /// The share of successes in the breaker's window, and of how many attempts.
    pub(crate) fn success_ratio(&self) -> Option<(f64, u32)> {
        self.breaker.ratio()
    }
}

/// `first`, doubled so many times, at most `max`.
fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(31))).min(max)
}

impl Cause {
    /// By its name; a rest for whatever else is one because it is busy.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "breaker" => Self::Breaker,
            "quarantine" => Self::Quarantine,
            _ => Self::Busy,
        }
    }

    /// Its name in the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Busy => "busy",
            Self::Quarantine => "quarantine",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::client::guard::Guard;
    use crate::endpoint::Order;

    const BAD: Heard = Heard::Bad { busy: false, retry_after: None };
    const BUSY: Heard = Heard::Bad { busy: true, retry_after: None };
    const START: u64 = 1_000_000_000;

    fn endpoint() -> Endpoint {
        Endpoint {
            url: "http://receiver.example/".into(),
            uri: http::Uri::from_static("http://receiver.example/"),
            timeout: Duration::from_secs(15),
            concurrency: 16,
            rate_limit: None,
            order: Order::Free,
            breaker: None,
            disable_after: Some(Duration::from_hours(5 * 24)),
            disable_when_exhausted: false,
            client: Arc::new(Client::new(Guard::default())),
            grant: None,
        }
    }

    fn after(health: &mut Health, heard: &[Heard], now: u64) -> Vec<Change> {
        let endpoint = endpoint();
        heard.iter().filter_map(|it| health.heard(*it, &endpoint, UnixMs(now))).collect()
    }

    #[test]
    fn five_failures_in_a_row_are_told_once_and_so_is_the_recovery() {
        let mut health = Health::default();
        let since = UnixMs(START);
        assert_eq!(after(&mut health, &[BAD; 4], START), []);
        assert_eq!(after(&mut health, &[BAD; 20], START + 1), [Change::Failing { since }]);
        let recovered = [Change::Recovered { failing_since: since }];
        assert_eq!(after(&mut health, &[Heard::Good; 3], START + 2), recovered);
        assert_eq!(after(&mut health, &[BAD, BAD, Heard::Good, BAD, BAD, BAD], START + 3), []);
    }

    #[test]
    fn an_endpoint_that_only_fails_for_days_is_disabled() {
        let mut health = Health::default();
        after(&mut health, &[BAD; 20], START);
        let day = 86_400_000;
        assert_eq!(after(&mut health, &[BAD; 5], START + 4 * day), []);
        let changes = after(&mut health, &[BAD], START + 5 * day);
        assert!(matches!(&changes[..], [Change::Disabled(it)] if it.reason.contains("5.0 days")));
        assert_eq!(health.enable(), Some(Change::Enabled));
        assert_eq!(after(&mut health, &[BAD], START + 6 * day), []);
        assert!(health.disabled().is_none());
    }

    #[test]
    fn where_the_rule_says_so_the_last_retry_disables() {
        let mut health = Health::default();
        assert_eq!(health.exhausted(&endpoint(), UnixMs(START)), None);
        let rule = Endpoint { disable_when_exhausted: true, ..endpoint() };
        let change = health.exhausted(&rule, UnixMs(START));
        assert!(matches!(change, Some(Change::Disabled(it)) if it.reason.contains("retry")));
        assert_eq!(health.exhausted(&rule, UnixMs(START)), None);
    }

    #[test]
    fn one_failure_a_month_disables_nothing() {
        let mut health = Health::default();
        after(&mut health, &[BAD], START);
        assert_eq!(after(&mut health, &[BAD], START + 30 * 86_400_000), []);
    }

    #[test]
    fn a_success_between_begins_the_days_anew() {
        let mut health = Health::default();
        after(&mut health, &[BAD; 20], START);
        after(&mut health, &[Heard::Good], START + 1);
        let changes = after(&mut health, &[BAD; 20], START + 6 * 86_400_000);
        assert!(matches!(changes[..], [Change::Failing { .. }]), "{changes:?}");
    }

    #[test]
    fn gone_is_disabled_at_once() {
        let mut health = Health::default();
        let changes = after(&mut health, &[Heard::Gone, Heard::Gone], START);
        assert!(matches!(&changes[..], [Change::Disabled(it)] if it.reason.contains("410")));
    }

    #[test]
    fn a_busy_endpoint_gets_fewer_at_once_and_then_a_rest() {
        let mut health = Health::default();
        after(&mut health, &[BUSY; 2], START);
        assert_eq!(health.pace(16), 8);
        assert_eq!(health.rest(UnixMs(START)), None);
        after(&mut health, &[BUSY], START);
        let rest = health.rest(UnixMs(START)).expect("three in a row");
        assert_eq!((rest.cause, rest.until), (Cause::Busy, UnixMs(START + 1_000)));
        assert_eq!(health.pace(16), 1);
        assert_eq!(health.rest(UnixMs(START + 1_000)), None);
        after(&mut health, &[Heard::Good; 3], START + 1_000);
        assert_eq!(health.pace(16), 4);
        after(&mut health, &[Heard::Good; 30], START + 1_000);
        assert_eq!(health.pace(16), 16);
    }

    #[test]
    fn what_a_busy_endpoint_asks_for_is_followed_within_reason() {
        let mut health = Health::default();
        let asks =
            |seconds| Heard::Bad { busy: true, retry_after: Some(Duration::from_secs(seconds)) };
        after(&mut health, &[asks(60)], START);
        assert_eq!(health.rest(UnixMs(START)).map(|it| it.until), Some(UnixMs(START + 60_000)));
        after(&mut health, &[asks(u64::MAX)], START);
        assert_eq!(health.rest(UnixMs(START)).map(|it| it.until), Some(UnixMs(START + 900_000)));
    }

    #[test]
    fn a_plugin_that_breaks_again_and_again_rests_for_longer_each_time() {
        let mut health = Health::default();
        after(&mut health, &[Heard::PluginBroke; 4], START);
        assert_eq!(health.rest(UnixMs(START)), None);
        let mut now = START;
        for seconds in [10, 20, 40] {
            after(&mut health, &[Heard::PluginBroke], now);
            let rest = health.rest(UnixMs(now)).expect("it is in quarantine");
            assert_eq!(
                (rest.cause, rest.until.since(UnixMs(now)).as_secs()),
                (Cause::Quarantine, seconds)
            );
            now = rest.until.0;
            assert_eq!(health.rest(UnixMs(now)), None);
        }
        after(&mut health, &[Heard::PluginBroke], now);
        assert!(health.repaired());
        assert_eq!(health.rest(UnixMs(now)), None);
        after(&mut health, &[Heard::PluginBroke, BAD, Heard::PluginBroke], now);
        assert_eq!(health.rest(UnixMs(now)), None);
    }

    #[test]
    fn what_outlives_the_process_is_what_was_told() {
        let mut health = Health::default();
        after(&mut health, &[BAD; 2], START);
        assert_eq!(health.record(), HealthRecord::default());
        after(&mut health, &[BAD; 3], START);
        let mut restored = Health::restored(health.record());
        assert_eq!(after(&mut restored, &[BAD; 8], START + 1), []);
        assert_eq!(after(&mut restored, &[Heard::Good], START + 2).len(), 1);
    }
}
