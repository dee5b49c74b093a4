//! One HTTP try of a delivery, and what it means. Classifying is pure.

mod body;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::UnixMs;
use crate::endpoint::Heard;

pub(crate) use body::SentBody;

/// What an attempt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The endpoint has it.
    Delivered,
    /// Not this time; another attempt may succeed.
    Retry,
    /// No attempt can succeed.
    Reject,
}

/// Why an attempt did not deliver: a stable code, and words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Such as `http.status`, `connect.refused`, `plugin.timeout`.
    pub(crate) code: Box<str>,
    /// What happened.
    pub(crate) message: Box<str>,
    /// False when no later attempt can succeed.
    pub(crate) retry: bool,
}

impl Fault {
    /// A fault that a later attempt may not meet.
    pub(crate) fn retry(code: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self { code: code.into(), message: message.into(), retry: true }
    }

    /// A fault that every later attempt would meet.
    pub(crate) fn reject(code: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self { code: code.into(), message: message.into(), retry: false }
    }
}

impl Fault {
    /// A plugin trapped, ran out of its time or memory, or returned what it may not:
    /// the plugin is at fault, not the event or the endpoint.
    fn is_broken_plugin(&self) -> bool {
        // Busy is ours: too many calls wait.
        self.code.starts_with("plugin.") && &*self.code != "plugin.busy"
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// One try, as it is kept in the log.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// 1 for the first.
    pub(crate) number: u32,
    /// When it began.
    pub(crate) started: UnixMs,
    /// From the first plugin call to the last byte of the response.
    pub(crate) duration: Duration,
    /// What it means.
    pub(crate) outcome: Outcome,
    /// Why it did not deliver.
    pub(crate) fault: Option<Fault>,
    /// What was sent; none when a plugin failed before there was a request.
    pub(crate) request: Option<SentRequest>,
    /// What came back; none when nothing did.
    pub(crate) response: Option<Response>,
    /// The snapshot it was made with.
    pub(crate) snapshot: u64,
    /// The plugins it went through, `name@version`, separated by spaces.
    pub(crate) plugins: Arc<str>,
}

/// A request as it went out, fit for the log: secrets are masked.
#[derive(Clone, Debug)]
pub(crate) struct SentRequest {
    /// The method.
    pub(crate) method: http::Method,
    /// The URL.
    pub(crate) url: Arc<str>,
    /// `name: value` lines, secrets as `***`.
    pub(crate) headers: Box<str>,
    /// The body.
    pub(crate) body: SentBody,
}

/// What an endpoint answered, bounded.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// How long the endpoint asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The start of the body.
    pub(crate) excerpt: Bytes,
}

/// What a response means: 2xx is delivered; 410 says that the endpoint is gone;
/// everything else may pass.
pub(crate) fn classify(response: &Response) -> (Outcome, Option<Fault>) {
    match response.status {
        200..=299 => (Outcome::Delivered, None),
        410 => {
            let message = "the endpoint answered 410: it is gone";
            (Outcome::Reject, Some(Fault::reject("http.gone", message)))
        }
        300..=399 => {
            let message =
                format!("the endpoint answered {}: redirects are not followed", response.status);
            (Outcome::Retry, Some(Fault::retry("http.redirect", message)))
        }
        status => {
            let message = format!("the endpoint answered {status}");
            (Outcome::Retry, Some(Fault::retry("http.status", message)))
        }
    }
}

/// A `Retry-After` header: seconds or an HTTP date (RFC 9110 §10.2.3), nothing
/// else. What is not understood is not followed.
pub(crate) fn parse_retry_after(value: &str, now: UnixMs) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit()) {
        // More digits than fit mean "very long"; the policy clamps it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let since_epoch = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let at = UnixMs(u64::try_from(since_epoch.as_millis()).ok()?);
    Some(at.since(now))
}

impl Attempt {
    /// What it tells of the endpoint.
    pub(crate) fn heard(&self) -> Heard {
        let status = self.response.as_ref().map(|it| it.status);
        match (&self.request, &self.fault) {
            (_, None) => Heard::Good,
            // It did not come to a request.
            (None, Some(fault)) if fault.is_broken_plugin() => Heard::PluginBroke,
            (None, Some(_)) => Heard::Nothing,
            (Some(_), Some(_)) if status == Some(410) => Heard::Gone,
            (Some(_), Some(_)) => {
                let asks = matches!(status, Some(429 | 503));
                let retry_after = self.response.as_ref().and_then(|it| it.retry_after);
                let busy = matches!(status, Some(429 | 502 | 503 | 504));
                Heard::Bad { busy, retry_after: retry_after.filter(|_| asks) }
            }
        }
    }
}

impl Outcome {
    /// Its name in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Reject => "reject",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_a_float() {
        let now = UnixMs::parse("2026-05-04T10:00:00Z").expect("a valid time");
        let seconds = |value: &str| parse_retry_after(value, now).map(|it| it.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Mon, 04 May 2026 10:01:00 GMT"), Some(60));
        assert_eq!(seconds("Mon, 04 May 2020 10:01:00 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999999"), Some(u64::MAX));
        for nonsense in ["", "1e300", "1.5", "-5", "inf", "NaN", "1, 2", "soon", "0x10"] {
            assert_eq!(seconds(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn only_2xx_is_delivered() {
        let outcome =
            |status| classify(&Response { status, retry_after: None, excerpt: Bytes::new() }).0;
        assert_eq!(outcome(200), Outcome::Delivered);
        assert_eq!(outcome(204), Outcome::Delivered);
        assert_eq!(outcome(302), Outcome::Retry);
        assert_eq!(outcome(404), Outcome::Retry);
        assert_eq!(outcome(410), Outcome::Reject);
        assert_eq!(outcome(503), Outcome::Retry);
    }
}
