//! OAuth 2 client credentials (RFC 6749 §4.4): a token is asked for, kept while
//! it is good, and renewed before it is not. Only one request for a token is under
//! way at a time; whoever needs one meanwhile waits for its answer.
//!
//! Neither the secret nor a token is ever part of a fault.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::Client;
use crate::attempt::Fault;

/// What an endpoint's tokens are asked for with, and the one that is good now.
/// Shared by endpoints that ask alike, and by one snapshot with the next.
pub(crate) struct Grant {
    pub(crate) token_url: Uri,
    form: Zeroizing<String>,
    /// Marked as sensitive; none when the client's secret is in the form.
    authorization: Option<HeaderValue>,
    client: Arc<Client>,
    /// Held while a token is being asked for.
    asking: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

/// What a client is known by to the token endpoint.
pub(crate) struct Credentials<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
    /// In the form, instead of as Basic.
    pub(crate) in_body: bool,
}

/// A token, as the header it becomes.
#[derive(Debug)]
pub(crate) struct Token {
    /// Marked as sensitive.
    pub(crate) header: HeaderValue,
    asked: Instant,
    /// Not used from then on.
    stale: Instant,
}

#[derive(Default)]
struct Known {
    token: Option<Arc<Token>>,
    /// The last request that failed, for those who waited for it.
    failed: Option<(Instant, Fault)>,
    /// The token before this one was refused, and this one was not accepted yet.
    in_doubt: bool,
}

/// A token endpoint's answer: a token and a few words.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Header lines of most servers end at 8 KiB.
const TOKEN_BYTES_MAX: usize = 7 << 10;

/// A token that does not say how long it lives.
const LIFE_DEFAULT: Duration = Duration::from_mins(5);

/// Whatever it says.
const LIFE_MAX: Duration = Duration::from_hours(24);

/// A token is renewed when a tenth of its life is left, or so much.
const RENEW_BEFORE_MAX: Duration = Duration::from_mins(1);

/// An endpoint that refuses every new token is not the token endpoint's affair:
/// the second one is kept so long.
const IN_DOUBT: Duration = Duration::from_mins(1);

impl Grant {
    pub(crate) fn new(
        token_url: Uri,
        credentials: &Credentials<'_>,
        parameters: &[(String, String)],
        client: Arc<Client>,
    ) -> Self {
        let Credentials { id, secret, in_body } = *credentials;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in parameters {
            form.append_pair(name, value);
        }
        if in_body {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
        }
        Self {
            token_url,
            form: Zeroizing::new(form.finish()),
            authorization: (!in_body).then(|| basic(&encoded(id), &encoded(secret))),
            client,
            asking: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The token that is good now, asked for if need be, within a deadline.
    pub(crate) async fn token(&self, deadline: Instant) -> Result<Arc<Token>, Fault> {
        if let Some(token) = self.good() {
            return Ok(token);
        }
        let waiting_since = Instant::now();
        let late = |_| Fault::retry("oauth.timeout", "there was no token in time");
        let _asking = timeout_at(deadline, self.asking.lock()).await.map_err(late)?;
        if let Some(token) = self.good() {
            return Ok(token);
        }
        if let Some((at, fault)) = &self.known.lock().failed
            && *at >= waiting_since
        {
            return Err(fault.clone());
        }
        let result = timeout_at(deadline, self.ask()).await.map_err(late).flatten();
        let mut known = self.known.lock();
        match &result {
            Ok(token) => (known.token, known.failed) = (Some(token.clone()), None),
            Err(fault) => known.failed = Some((Instant::now(), fault.clone())),
        }
        result
    }

    /// What the endpoint said to a token. A 401 drops it; but when the one before
    /// was dropped for the same, only after a while.
    pub(crate) fn answered(&self, token: &Arc<Token>, status: u16) {
        let mut known = self.known.lock();
        if !known.token.as_ref().is_some_and(|it| Arc::ptr_eq(it, token)) {
            return;
        }
        if status != StatusCode::UNAUTHORIZED.as_u16() {
            known.in_doubt = false;
        } else if !known.in_doubt || token.asked.elapsed() > IN_DOUBT {
            known.token = None;
            known.in_doubt = true;
        }
    }

    fn good(&self) -> Option<Arc<Token>> {
        let known = self.known.lock();
        known.token.clone().filter(|it| Instant::now() < it.stale)
    }

    async fn ask(&self) -> Result<Arc<Token>, Fault> {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(self.form.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.token_url.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let asked = Instant::now();
        let answer = self.client.whole(request, ANSWER_BYTES_MAX).await;
        let (status, body) = answer.map_err(|fault| {
            let message = format!("from the token endpoint: {}", fault.message);
            Fault::retry(format!("oauth.{}", fault.code), message)
        })?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() {
            return Err(refused(status, &answer));
        }
        let unusable = |why: &str| {
            Fault::retry("oauth.answer", format!("the token endpoint's answer has no token: {why}"))
        };
        let kind = answer["token_type"].as_str().unwrap_or("bearer");
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(unusable("its token_type is not Bearer"));
        }
        let text = answer["access_token"].as_str().unwrap_or_default();
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            let why = format!("access_token is a text of 1 to {TOKEN_BYTES_MAX} bytes");
            return Err(unusable(&why));
        }
        let header = HeaderValue::from_str(&format!("Bearer {text}"));
        let mut header = header.map_err(|_| unusable("access_token does not fit into a header"))?;
        header.set_sensitive(true);
        let life = life(&answer["expires_in"]);
        let stale = asked + (life - (life / 10).min(RENEW_BEFORE_MAX));
        Ok(Arc::new(Token { header, asked, stale }))
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({})", self.token_url)
    }
}

/// How long a token lives. Some servers write the number as a text.
fn life(expires_in: &Value) -> Duration {
    let seconds = match expires_in {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    seconds.map_or(LIFE_DEFAULT, Duration::from_secs).min(LIFE_MAX)
}

/// The token endpoint's error, if it is one that exists: whatever else it says
/// could repeat what it was sent.
fn refused(status: StatusCode, answer: &Value) -> Fault {
    const ERRORS: &[&str] = &[
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
    ];
    let said = answer["error"].as_str().and_then(|said| ERRORS.iter().find(|it| **it == said));
    let said = said.map_or(String::new(), |it| format!(": {it}"));
    let message = format!("the token endpoint answered {}{said}", status.as_u16());
    Fault::retry("oauth.status", message)
}

/// RFC 6749 §2.3.1: encoded as in a form, each by itself.
fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}

/// A Basic header (RFC 7617), marked as sensitive.
pub(crate) fn basic(username: &str, password: &str) -> HeaderValue {
    let pair = Zeroizing::new(format!("{username}:{password}"));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut header = HeaderValue::from_str(&text).expect("base64 fits into a header");
    header.set_sensitive(true);
    header
}
