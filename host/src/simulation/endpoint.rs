//! An endpoint of the world: what its route file says, and how it answers.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fastrand::Rng;

use super::{Mistake, time};
use crate::attempt::{Fault, Response, parse_retry_after};
use crate::clock;
use crate::endpoint::{BreakerRule, Order};

#[derive(Debug)]
pub(super) struct Endpoint {
    /// The route's, and the path of the URL.
    pub(super) name: String,
    pub(super) order: Order,
    /// It is told what the engine has to tell, and nothing else.
    pub(super) listens: bool,
    pub(super) settings: Arc<Settings>,
    /// Its route file is there.
    pub(super) present: bool,
    pub(super) mood: Mood,
}

/// What a reload can change.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    /// So many in a stretch of time.
    pub(super) rate: Option<(usize, Duration)>,
    pub(super) schedule: Vec<Duration>,
    pub(super) jitter: f64,
    pub(super) breaker: Option<BreakerRule>,
    pub(super) timeout: Duration,
}

/// How an endpoint answers at the moment.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    /// After that; what takes longer than its timeout has been told for nothing.
    Well(Duration),
    /// This status, with that `Retry-After`.
    Status(u16, Option<String>),
    HangsUp,
    Hangs,
    /// Each request as it comes.
    Moody,
}

impl Endpoint {
    pub(super) fn any(number: usize, rng: &mut Rng) -> Self {
        Self {
            name: format!("r{number}"),
            order: match rng.u8(..8) {
                0..5 => Order::Free,
                5..7 => Order::Subject,
                _ => Order::Endpoint,
            },
            listens: number > 0 && rng.u8(..4) == 0,
            settings: Arc::new(Settings::any(rng)),
            present: true,
            mood: Mood::WELL,
        }
    }

    /// Its route file as it is to be now.
    pub(super) fn write(&self, folder: &Path, mistake: Option<Mistake>) {
        let path = folder.join(format!("routes/{}.toml", self.name));
        match self.present {
            true => fs::write(path, self.toml(mistake)).expect("a file"),
            false => fs::remove_file(path).unwrap_or_default(),
        }
    }

    fn toml(&self, mistake: Option<Mistake>) -> String {
        let Settings { concurrency, rate, schedule, jitter, breaker, timeout } = &*self.settings;
        let more = usize::from(mistake == Some(Mistake::Misreads));
        let mut text = format!(
            "from = \"{}\"\ntypes = [\"*\"]\n\n[endpoint]\nurl = \"http://127.0.0.1:9/{}\"\n\
             https_only = false\norder = \"{}\"\nconcurrency = {}\ntimeout = \"{}ms\"\n\
             disable_after = \"never\"\n",
            if self.listens { "plugpost" } else { "sim" },
            self.name,
            self.order.as_str(),
            concurrency + more,
            timeout.as_millis()
        );
        if let Some((count, stretch)) = rate {
            let unit = if stretch.as_secs() == 1 { "s" } else { "m" };
            let _ = writeln!(text, "rate_limit = \"{}/{unit}\"", count + more);
        }
        let waits: Vec<_> = schedule.iter().map(|it| format!("{}ms", it.as_millis())).collect();
        let _ = writeln!(text, "\n[retry]\nschedule = {waits:?}\njitter = {jitter:?}\n\n[breaker]");
        let _ = match breaker {
            None => writeln!(text, "enabled = false"),
            Some(BreakerRule { window, requests, success_ratio, rest }) => writeln!(
                text,
                "enabled = true\nwindow = \"{}s\"\nrequests = {requests}\n\
                 success_ratio = {success_ratio:?}\nrest = \"{}s\"",
                window.as_secs(),
                rest.as_secs()
            ),
        };
        text
    }
}

impl Settings {
    pub(super) fn any(rng: &mut Rng) -> Self {
        let seconds = |all: &[f64]| all.iter().map(|it| Duration::from_secs_f64(*it)).collect();
        let schedule: Vec<_> = match rng.u8(..8) {
            0 => Vec::new(),
            1 | 2 => seconds(&[0.2, 1.0, 3.0]),
            3 => seconds(&[10.0, 1.0, 60.0, 2.0]),
            4 => seconds(&[5.0, 300.0, 1800.0, 7200.0]),
            _ => {
                seconds(&[0.5, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 60.0, 120.0, 120.0, 300.0, 300.0])
            }
        };
        let rule = |rng: &mut Rng| BreakerRule {
            window: Duration::from_secs([10, 60, 120][rng.usize(..3)]),
            requests: rng.u32(2..20),
            success_ratio: [0.3, 0.5, 0.9][rng.usize(..3)],
            rest: Duration::from_secs([1, 5, 30, 120][rng.usize(..4)]),
        };
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        Self {
            concurrency: rng.usize(1..8),
            rate: match rng.u8(..6) {
                0 => Some((rng.usize(1..8), second)),
                1 => Some((rng.usize(10..60), minute)),
                _ => None,
            },
            schedule,
            jitter: [0.0, 0.2, 0.5][rng.usize(..3)],
            breaker: (rng.u8(..2) == 0).then(|| rule(rng)),
            timeout: Duration::from_millis(rng.u64(500..5_000)),
        }
    }
}

impl Mood {
    pub(super) const WELL: Self = Self::Well(Duration::from_millis(20));

    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..16) {
            0..5 => Self::Well(Duration::from_millis(rng.u64(1..1_500))),
            5 => Self::Well(Duration::from_millis(rng.u64(1_000..6_000))),
            6 | 7 => Self::Status([500, 404, 400, 302, 502, 504][rng.usize(..6)], None),
            8..11 => Self::Status([429, 503][rng.usize(..2)], retry_after(rng)),
            11 => Self::HangsUp,
            12 => Self::Hangs,
            13 if rng.u8(..3) == 0 => Self::Status(410, None),
            _ => Self::Moody,
        }
    }

    /// How it answers the next request.
    pub(super) fn next(&self, rng: &mut Rng) -> Self {
        match self {
            Self::Moody => match Self::any(rng) {
                Self::Moody => Self::HangsUp,
                mood => mood,
            },
            mood => mood.clone(),
        }
    }

    /// For the counts.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Well(takes) if *takes >= Duration::from_secs(1) => "slow",
            Self::Well(_) => "well",
            Self::Status(410, _) => "410",
            Self::Status(_, Some(asked)) => match asked.parse::<u64>() {
                Ok(0..1_000) => "Retry-After: seconds",
                _ if asked.ends_with("GMT") => "Retry-After: a date",
                _ => "Retry-After: hostile",
            },
            Self::Status(..) => "a bad status",
            Self::HangsUp => "hangs up",
            Self::Hangs => "hangs",
            Self::Moody => "moody",
        }
    }

    pub(super) async fn answer(self) -> Result<Response, Fault> {
        let (status, asked) = match self {
            Self::Well(takes) => {
                time::sleep(takes).await;
                (204, None)
            }
            Self::Status(status, asked) => {
                time::sleep(Duration::from_millis(5)).await;
                (status, asked)
            }
            Self::HangsUp => return Err(Fault::retry("http.broken", "simulated")),
            Self::Hangs | Self::Moody => {
                time::sleep(Duration::from_hours(1)).await;
                (204, None)
            }
        };
        // As the client reads it.
        let retry_after = asked.and_then(|it| parse_retry_after(&it, clock::now()));
        Ok(Response { status, retry_after, excerpt: Bytes::new() })
    }
}

/// What stands in the header, if there is one.
fn retry_after(rng: &mut Rng) -> Option<String> {
    const HOSTILE: [&str; 6] = ["-5", "1e300", "soon", "inf", "1, 2", "9999999999999999999999"];
    let date = |rng: &mut Rng| {
        let at = clock::now().plus(Duration::from_secs(rng.u64(..120)));
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(at.0))
    };
    match rng.u8(..40) {
        0..12 => Some(rng.u64(1..90).to_string()),
        12..22 => Some(date(rng)),
        22 => Some("Fri, 01 Jan 2100 00:00:00 GMT".into()),
        23..25 => Some(HOSTILE[rng.usize(..6)].into()),
        _ => None,
    }
}
