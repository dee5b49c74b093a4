//! What is kept, and for how long: payloads and the rows of the log apart. What is
//! pending is never touched. Each store prunes in its own way.

use std::time::Duration;

/// How long what is kept, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Events with their deliveries and attempts.
    pub(crate) rows: Duration,
    /// The data of events, the bodies and excerpts of attempts.
    pub(crate) payloads: Option<Duration>,
    /// Above this size the oldest events go, whatever their age.
    pub(crate) bytes: Option<u64>,
}

impl Retention {
    /// Between two looks for what is kept no longer.
    pub(crate) fn pause(&self) -> Duration {
        let shortest = self.payloads.map_or(self.rows, |it| it.min(self.rows));
        let longest = if self.bytes.is_some() { PAUSE_WITH_SIZE } else { PAUSE_MAX };
        shortest.clamp(Duration::from_secs(1), longest)
    }
}

/// What is kept for days goes a minute late.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// At a gigabyte a minute, a size is passed by little.
const PAUSE_WITH_SIZE: Duration = Duration::from_secs(10);
