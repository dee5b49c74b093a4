//! When the next attempt is made, or that there is none. Pure: the time and the
//! jitter are arguments.

use std::time::Duration;

/// The waits between attempts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RetryPolicy {
    /// One wait after each failed attempt; when they are used up, the delivery
    /// is dead. Empty: one attempt only.
    pub(crate) schedule: Vec<Duration>,
    /// How far a wait may be off its schedule: 0.2 is up to 20 % either way.
    pub(crate) jitter: f64,
}

/// The longest that a `Retry-After` is followed: a receiver cannot park a
/// delivery for years.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

impl Default for RetryPolicy {
    /// The schedule of the Standard Webhooks specification's best-known sender:
    /// eight attempts within 28 hours.
    fn default() -> Self {
        let minutes = |it| Duration::from_mins(it);
        let schedule = vec![
            Duration::from_secs(5),
            minutes(5),
            minutes(30),
            minutes(2 * 60),
            minutes(5 * 60),
            minutes(10 * 60),
            minutes(10 * 60),
        ];
        Self { schedule, jitter: 0.2 }
    }
}

impl RetryPolicy {
    /// The wait after `attempts` failed ones; none when that was the last.
    ///
    /// `retry_after` is what the receiver asked for: it can lengthen the wait, up
    /// to [`RETRY_AFTER_MAX`], and never shortens it. `luck` in 0..1 picks the
    /// jitter.
    pub(crate) fn wait(
        &self,
        attempts: u32,
        retry_after: Option<Duration>,
        luck: f64,
    ) -> Option<Duration> {
        let step = *self.schedule.get(usize::try_from(attempts.checked_sub(1)?).ok()?)?;
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * (luck.clamp(0.0, 1.0) * 2.0 - 1.0);
        let jittered = Duration::try_from_secs_f64(step.as_secs_f64() * factor).unwrap_or(step);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        Some(jittered.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_ends_in_no_more_attempts() {
        let policy = RetryPolicy {
            schedule: vec![Duration::from_secs(5), Duration::from_secs(60)],
            jitter: 0.0,
        };
        assert_eq!(policy.wait(1, None, 0.5), Some(Duration::from_secs(5)));
        assert_eq!(policy.wait(2, None, 0.5), Some(Duration::from_secs(60)));
        assert_eq!(policy.wait(3, None, 0.5), None);
        assert_eq!(policy.wait(0, None, 0.5), None);
        assert_eq!(policy.wait(u32::MAX, None, 0.5), None);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let policy = RetryPolicy { schedule: vec![Duration::from_secs(100)], jitter: 0.2 };
        assert_eq!(policy.wait(1, None, 0.0), Some(Duration::from_secs(80)));
        assert_eq!(policy.wait(1, None, 1.0), Some(Duration::from_secs(120)));
        assert_eq!(policy.wait(1, None, f64::NAN).map(|it| it.as_secs() <= 120), Some(true));
    }

    #[test]
    fn a_receiver_can_lengthen_a_wait_but_not_for_years() {
        let policy = RetryPolicy { schedule: vec![Duration::from_secs(5)], jitter: 0.0 };
        assert_eq!(policy.wait(1, Some(Duration::from_secs(1)), 0.5), Some(Duration::from_secs(5)));
        assert_eq!(
            policy.wait(1, Some(Duration::from_secs(90)), 0.5),
            Some(Duration::from_secs(90))
        );
        assert_eq!(policy.wait(1, Some(Duration::MAX), 0.5), Some(RETRY_AFTER_MAX));
    }
}
