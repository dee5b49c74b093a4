//! `routes/NAME.toml`: which events, through which plugins, to which endpoint.
//! A platform's policy uses the same keys; what the file says wins.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::dial::DialKeys;
use super::document::{Document, Marked, Position, Table, nearest, parse_duration};
use super::source::plugin_use;
use super::{Found, PluginUse, hub};
use crate::endpoint::{Order, RateLimit};
use crate::event::TypePattern;

/// A route file, read.
#[derive(Debug)]
pub(crate) struct RouteFile {
    pub(crate) name: Arc<str>,
    pub(crate) file: PathBuf,
    /// Whose events it takes; none for everybody's.
    pub(crate) tenant: Option<Arc<str>>,
    /// None for every source.
    pub(crate) from: Option<Vec<Marked<String>>>,
    pub(crate) types: Vec<Marked<TypePattern>>,
    pub(crate) platform: Option<PluginUse>,
    pub(crate) filters: Vec<PluginUse>,
    pub(crate) transforms: Vec<PluginUse>,
    pub(crate) auths: Vec<PluginUse>,
    pub(crate) url: Option<Marked<(String, Uri)>>,
    pub(crate) endpoint: EndpointKeys,
    pub(crate) dial: DialKeys,
    pub(crate) retry: RetryKeys,
    pub(crate) breaker: BreakerKeys,
}

/// What can be said of an endpoint, by a file or by a platform's policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointKeys {
    pub(crate) timeout: Option<Duration>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) https_only: Option<bool>,
    pub(crate) port: Option<u16>,
    pub(crate) order: Option<Order>,
    /// Said, and then for how long; none for never.
    pub(crate) disable_after: Option<Option<Duration>>,
    pub(crate) disable_when_exhausted: Option<bool>,
}

/// What can be said of retrying.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryKeys {
    pub(crate) schedule: Option<Vec<Duration>>,
    pub(crate) jitter: Option<f64>,
}

/// What can be said of when to leave an endpoint alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct BreakerKeys {
    pub(crate) enabled: Option<bool>,
    pub(crate) window: Option<Duration>,
    pub(crate) requests: Option<u32>,
    pub(crate) success_ratio: Option<f64>,
    pub(crate) rest: Option<Duration>,
}

/// A platform's delivery rules, checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) endpoint: EndpointKeys,
    pub(crate) retry: RetryKeys,
    pub(crate) breaker: BreakerKeys,
    /// Event types that the plugin does not know are refused by `check`.
    pub(crate) refuses_unknown_types: bool,
}

pub(super) fn read(
    name: &str,
    file: &Path,
    text: &str,
    folder: &Path,
    found: &mut Found,
) -> RouteFile {
    Document::new(file, text, found).read(|root| {
        let stage = |key: &str| {
            let uses = root.tables(key).into_iter().filter_map(|it| {
                let Some(plugin) = it.value.string("plugin") else {
                    it.value.problem(it.at, format!("[[{key}]] names its plugin = \"NAME\""));
                    // What stands beside it is not unknown, only useless.
                    it.value.keys();
                    return None;
                };
                Some(plugin_use(plugin, &it.value, folder))
            });
            uses.collect::<Vec<_>>()
        };
        let platform = match root.string("platform") {
            Some(plugin) => Some(plugin_use(plugin, &root, folder)),
            None => {
                for key in ["settings", "secrets"] {
                    if let Some(table) = root.table(key) {
                        table.value.keys();
                        let message =
                            format!("`{key}` belongs to a platform or to a plugin's table");
                        root.problem(table.at, message);
                    }
                }
                None
            }
        };
        let mut route = RouteFile {
            name: name.into(),
            file: file.into(),
            tenant: hub::tenant_or_all(&root),
            from: None,
            types: root.all_parsed("types", TypePattern::parse).unwrap_or_default(),
            platform,
            filters: stage("filter"),
            transforms: stage("transform"),
            auths: stage("auth"),
            url: None,
            endpoint: EndpointKeys::default(),
            dial: DialKeys::default(),
            retry: RetryKeys::default(),
            breaker: BreakerKeys::default(),
        };
        route.take_from(&root);
        route.take_endpoint(&root, folder);
        route.take_retry(&root);
        route.take_breaker(&root);
        if !root.has("types") {
            root.problem(START, "a route names the event types it takes: types = [\"order.*\"]");
        }
        route
    })
}

const START: Position = Position { line: 1, column: 1 };

impl RouteFile {
    /// A subscription has the same shape, and no file.
    pub(crate) fn is_file(&self) -> bool {
        !self.file.as_os_str().is_empty()
    }

    /// Every use of a plugin, in no order that matters.
    pub(super) fn plugin_uses(&self) -> impl Iterator<Item = &PluginUse> {
        let stages = [&self.filters, &self.transforms, &self.auths];
        self.platform.iter().chain(stages.into_iter().flatten())
    }

    fn take_from(&mut self, root: &Table<'_, '_>) {
        match root.strings("from") {
            Some(sources) if sources.iter().any(|it| it.value == "*") => {}
            Some(sources) => self.from = Some(sources),
            None if root.has("from") => {}
            None => {
                root.problem(START, "a route names its source: from = \"NAME\", or \"*\" for all")
            }
        }
    }

    fn take_endpoint(&mut self, root: &Table<'_, '_>, folder: &Path) {
        let Some(endpoint) = root.table("endpoint") else {
            if !root.has("endpoint") {
                root.problem(START, "a route has an [endpoint] with a url");
            }
            return;
        };
        let Marked { value: table, at } = endpoint;
        self.url = table.parsed("url", |text| parse_url(text).map(|uri| (text.to_owned(), uri)));
        if !table.has("url") {
            table.problem(at, "an endpoint has a url");
        }
        self.dial = DialKeys::read(&table, folder);
        self.endpoint = EndpointKeys {
            timeout: table.parsed("timeout", hub::timeout).map(|it| it.value),
            concurrency: hub::concurrency(&table).map(|it| it.value),
            rate_limit: table.parsed("rate_limit", RateLimit::parse).map(|it| it.value),
            https_only: table.boolean("https_only").map(|it| it.value),
            port: table.integer("port", 1..65_536).and_then(|it| u16::try_from(it.value).ok()),
            order: table.parsed("order", Order::parse).map(|it| it.value),
            disable_after: table.parsed("disable_after", disable_after).map(|it| it.value),
            disable_when_exhausted: table.boolean("disable_when_exhausted").map(|it| it.value),
        };
    }

    fn take_retry(&mut self, root: &Table<'_, '_>) {
        let Some(retry) = root.table("retry") else { return };
        let table = retry.value;
        let schedule = table.all_parsed("schedule", parse_duration);
        let mut schedule: Option<Vec<_>> =
            schedule.map(|it| it.into_iter().map(|it| it.value).collect());
        if let Some(rule) = table.table("exponential") {
            if schedule.is_some() {
                table.problem(rule.at, "`schedule` and `exponential` say the same: keep one");
            }
            schedule = exponential(&rule.value, rule.at);
        }
        let steps = schedule.as_ref().map_or(0, Vec::len);
        if steps > SCHEDULE_STEPS_MAX {
            let message = format!("{steps} retries are more than {SCHEDULE_STEPS_MAX}");
            table.problem(retry.at, message);
        }
        self.retry = RetryKeys { schedule, jitter: table.share("jitter").map(|it| it.value) };
    }

    fn take_breaker(&mut self, root: &Table<'_, '_>) {
        let Some(breaker) = root.table("breaker") else { return };
        let table = breaker.value;
        let requests = table.integer("requests", 1..1_000_001);
        self.breaker = BreakerKeys {
            enabled: table.boolean("enabled").map(|it| it.value),
            window: table.parsed("window", breaker_time).map(|it| it.value),
            requests: requests.and_then(|it| u32::try_from(it.value).ok()),
            success_ratio: table.share("success_ratio").map(|it| it.value),
            rest: table.parsed("rest", breaker_time).map(|it| it.value),
        };
    }
}

/// `exponential = { first, factor, max, retries }` as the schedule it stands for.
fn exponential(rule: &Table<'_, '_>, at: Position) -> Option<Vec<Duration>> {
    let first = rule.duration("first");
    let max = rule.duration("max");
    let factor = rule.integer("factor", 2..11).map_or(2, |it| it.value.unsigned_abs());
    let retries = rule.integer("retries", 0..SCHEDULE_STEPS_MAX as i64 + 1);
    let (Some(first), Some(max), Some(retries)) = (first, max, retries) else {
        for key in ["first", "max", "retries"].into_iter().filter(|it| !rule.has(it)) {
            rule.problem(at, format!("an exponential rule has a `{key}`"));
        }
        return None;
    };
    let factor = u32::try_from(factor).unwrap_or(2);
    let mut wait = first.value.min(max.value);
    let steps = (0..retries.value).map(|_| {
        let next = wait.saturating_mul(factor).min(max.value);
        std::mem::replace(&mut wait, next)
    });
    Some(steps.collect())
}

/// Attempts are kept one by one: a schedule of every minute for a week is a mistake.
const SCHEDULE_STEPS_MAX: usize = 100;

/// `5d`, or `never`.
pub(super) fn disable_after(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" {
        return Ok(None);
    }
    let limit = parse_duration(text).map_err(|wrong| format!("{wrong}, or `never`"))?;
    match (Duration::from_secs(1)..=Duration::from_hours(365 * 24)).contains(&limit) {
        true => Ok(Some(limit)),
        false => Err(format!("`{text}`: it goes from 1s to 365d")),
    }
}

/// Of a breaker: long enough to mean something, short enough to be remembered.
fn breaker_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    match (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&time) {
        true => Ok(time),
        false => Err(format!("`{text}`: it goes from 1s to 1h")),
    }
}

pub(super) fn parse_url(text: &str) -> Result<Uri, String> {
    // What may hold a password is not repeated.
    let shown = if text.contains('@') { "this".to_owned() } else { format!("`{text}`") };
    let wrong = |why: String| format!("{shown} is not a URL to deliver to: {why}");
    let lower = text.to_ascii_lowercase();
    if !lower.starts_with("https://") && !lower.starts_with("http://") {
        return Err(wrong("it begins with https:// or http://".into()));
    }
    // `url` finds what is wrong in words; hyper needs a `Uri`.
    let url = url::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("credentials belong in an [[auth]]".into()));
    }
    let mut url = url;
    url.set_fragment(None);
    url.as_str().parse().map_err(|_| wrong("it cannot be requested".into()))
}

/// A platform's policy from its string pairs, in the notation of route files.
pub(crate) fn parse_policy(pairs: &[(String, String)]) -> Result<Policy, String> {
    let mut policy = Policy::default();
    for (key, value) in pairs {
        policy.take(key, value).map_err(|message| format!("policy `{key}`: {message}"))?;
    }
    Ok(policy)
}

impl Policy {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{value:?} is not {what}");
        let boolean = || value.parse::<bool>().map_err(|_| wrong("true or false"));
        let share = || {
            let share = value.parse().ok().filter(|it| (0.0..=1.0).contains(it));
            share.ok_or_else(|| wrong("a number from 0 to 1"))
        };
        match key {
            "endpoint.timeout" => self.endpoint.timeout = Some(hub::timeout(value)?),
            "endpoint.rate_limit" => self.endpoint.rate_limit = Some(RateLimit::parse(value)?),
            "endpoint.https_only" => self.endpoint.https_only = Some(boolean()?),
            "endpoint.port" => {
                self.endpoint.port = Some(value.parse().map_err(|_| wrong("a port"))?);
            }
            "endpoint.concurrency" => {
                self.endpoint.concurrency = Some(value.parse().map_err(|_| wrong("a number"))?);
            }
            "retry.schedule" => {
                let steps = value.split(',').map(str::trim).filter(|it| !it.is_empty());
                self.retry.schedule = Some(steps.map(parse_duration).collect::<Result<_, _>>()?);
            }
            "retry.jitter" => self.retry.jitter = Some(share()?),
            "types.unknown" => match value {
                "refuse" => self.refuses_unknown_types = true,
                "allow" => self.refuses_unknown_types = false,
                _ => return Err(wrong("`refuse` or `allow`")),
            },
            "endpoint.order" => self.endpoint.order = Some(Order::parse(value)?),
            "endpoint.disable_after" => {
                self.endpoint.disable_after = Some(disable_after(value)?);
            }
            "endpoint.disable_when_exhausted" => {
                self.endpoint.disable_when_exhausted = Some(boolean()?);
            }
            "breaker.enabled" => self.breaker.enabled = Some(boolean()?),
            "breaker.window" => self.breaker.window = Some(breaker_time(value)?),
            "breaker.rest" => self.breaker.rest = Some(breaker_time(value)?),
            "breaker.requests" => {
                let requests = value.parse().ok().filter(|it| (1..=1_000_000).contains(it));
                self.breaker.requests =
                    Some(requests.ok_or_else(|| wrong("a number from 1 to 1000000"))?);
            }
            "breaker.success_ratio" => self.breaker.success_ratio = Some(share()?),
            _ => {
                return Err(match nearest(key, KEYS.iter().copied()) {
                    Some(meant) => format!("unknown; did you mean `{meant}`?"),
                    None => format!("unknown; there are {}", KEYS.join(", ")),
                });
            }
        }
        Ok(())
    }
}

const KEYS: &[&str] = &[
    "endpoint.timeout",
    "endpoint.rate_limit",
    "endpoint.https_only",
    "endpoint.port",
    "endpoint.concurrency",
    "endpoint.order",
    "endpoint.disable_after",
    "endpoint.disable_when_exhausted",
    "retry.schedule",
    "retry.jitter",
    "types.unknown",
    "breaker.enabled",
    "breaker.window",
    "breaker.rest",
    "breaker.requests",
    "breaker.success_ratio",
];
