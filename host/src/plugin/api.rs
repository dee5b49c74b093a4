//! A platform's own management API, answered by its plugin: where tokens stand,
//! and one request with its answer, both held against what HTTP allows.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::imports::{Inbound, Input};
use super::secrets::Secrets;
use super::text::printable;
use super::warm::{self, Instance};
use super::{Bound, Component, Unfit};
use crate::attempt::Fault;
use crate::subscription::Staged;
use crate::subscription::desk::{Caller, Desk};

/// A plugin's API, ready to answer.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    bound: Bound,
    credentials: Arc<[Credential]>,
}

/// A place where callers put their token.
#[derive(Debug)]
struct Credential {
    header: HeaderName,
    prefix: String,
}

/// What a plugin answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// To be kept before the answer is sent; nothing where it is a refusal.
    pub(crate) staged: Vec<Staged>,
}

/// Places that one plugin may name.
const CREDENTIALS_MAX: usize = 8;
const PREFIX_BYTES_MAX: usize = 64;
/// What a client takes in; most stop at a hundred.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8 << 10;

impl Api {
    /// The API of a plugin that has the role. It is called with empty settings.
    pub(crate) fn of(component: &Arc<Component>) -> Result<Self, String> {
        let unfit = |unfit| match unfit {
            Unfit::Settings(problems) => {
                let problem = problems.into_iter().next();
                let (pointer, message) =
                    problem.map(|it| (it.pointer, it.message)).unwrap_or_default();
                format!(
                    "its webhook API is called with empty settings, and it does not take them: \
                     settings{}: {message}",
                    pointer.replace('/', ".")
                )
            }
            Unfit::Fault(fault) => fault.to_string(),
        };
        let bound = Bound::new(component.clone(), "{}", Secrets::default()).map_err(unfit)?;
        let said = warm::ask(&bound.pool, Instance::credentials)
            .map_err(|fault| format!("does not say where tokens stand: {fault}"))?;
        if said.is_empty() || said.len() > CREDENTIALS_MAX {
            let count = said.len();
            return Err(format!("{count} places for a token: there are 1 to {CREDENTIALS_MAX}"));
        }
        let credential =
            |it: super::bindings::exports::plugpost::plugin::webhook_api::Credential| {
                let header = HeaderName::from_bytes(it.header.as_bytes())
                    .ok()
                    .filter(|it| !crate::client::frames_the_request(it))
                    .ok_or_else(|| {
                        let name = printable(&it.header, PREFIX_BYTES_MAX);
                        format!("a token cannot stand in the header {name:?}")
                    })?;
                match it.prefix.len() <= PREFIX_BYTES_MAX {
                    true => Ok(Credential { header, prefix: it.prefix }),
                    false => Err(format!("a prefix has at most {PREFIX_BYTES_MAX} bytes")),
                }
            };
        let credentials = said.into_iter().map(credential).collect::<Result<_, String>>()?;
        Ok(Self { bound, credentials })
    }

    /// The same, with every call measured.
    pub(crate) fn measured_by(mut self, meter: &Arc<super::Meter>) -> Self {
        self.bound = self.bound.measured_by(meter);
        self
    }

    /// May the plugin be given a secret of that name?
    pub(crate) fn has_secret(&self, name: &str) -> bool {
        self.bound.secret_names().any(|it| it == name)
    }

    /// Take what may be a token out of the headers. None when there is none, or more
    /// than one: nobody is told which of them was right.
    pub(crate) fn take_token(&self, headers: &mut HeaderMap) -> Option<String> {
        let mut tokens = Vec::new();
        for (at, Credential { header, .. }) in self.credentials.iter().enumerate() {
            if self.credentials[..at].iter().any(|it| it.header == *header) {
                continue;
            }
            // The first prefix that fits: none at all may stand after `Bearer `.
            let of_header = || self.credentials.iter().filter(|it| it.header == *header);
            let values: Vec<_> = headers.get_all(header).into_iter().cloned().collect();
            headers.remove(header);
            for value in values {
                let token = value.to_str().ok().and_then(|it| {
                    of_header().find_map(|Credential { prefix, .. }| {
                        let (start, token) = it.split_at_checked(prefix.len())?;
                        start.eq_ignore_ascii_case(prefix).then(|| token.trim().to_owned())
                    })
                });
                tokens.extend(token.filter(|it| !it.is_empty()));
            }
        }
        tokens.dedup();
        tokens.pop().filter(|_| tokens.is_empty())
    }

    /// One request, answered.
    pub(crate) async fn answer(
        &self,
        request: Arc<Inbound>,
        caller: Option<Arc<Caller>>,
    ) -> Result<Answered, Fault> {
        let bound = &self.bound;
        let (said, desk) = bound.call(Input::Api(request, caller), Instance::answer).await?;
        bound.measure(|| {
            said.headers.iter().map(|(a, b)| a.len() + b.len()).sum::<usize>() + said.body.len()
        });
        let wrong = |code, message: String| Err(bound.broken(code, &message));
        let status = match StatusCode::from_u16(said.status) {
            Ok(status) if (200..600).contains(&said.status) => status,
            _ => return wrong("plugin.status", format!("{} is no status to answer", said.status)),
        };
        if said.headers.len() > HEADERS_MAX {
            return wrong("plugin.header", format!("more than {HEADERS_MAX} headers"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &said.headers {
            match header(name, value) {
                Ok((name, value)) => drop(headers.append(name, value)),
                Err(message) => return wrong("plugin.header", message),
            }
        }
        // RFC 9110 §15: these have no content.
        let has_no_body = matches!(said.status, 204 | 205 | 304);
        if has_no_body && !said.body.is_empty() {
            return wrong("plugin.status", format!("{status} has no body"));
        }
        if !has_no_body {
            let json = HeaderValue::from_static("application/json");
            headers.entry(CONTENT_TYPE).or_insert(json);
        }
        let desk = desk.filter(|_| said.status < 400);
        let staged = desk.map(Desk::into_staged).unwrap_or_default();
        Ok(Answered { status, headers, body: said.body.into(), staged })
    }
}

/// A header that cannot harm the framing.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let shown = printable(name, 64);
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{shown:?} is not a header name"))?;
    if crate::client::frames_the_request(&name) {
        return Err(format!("a plugin cannot set the header `{name}`"));
    }
    let value = (value.len() <= HEADER_BYTES_MAX)
        .then(|| HeaderValue::from_str(value).ok())
        .flatten()
        .ok_or_else(|| format!("the value of `{name}` is not one a header can hold"))?;
    Ok((name, value))
}
