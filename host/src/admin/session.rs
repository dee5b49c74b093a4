//! Who asks. Browsers log in once, with a token or a portal link; from then on a cookie
//! stands for it. Sessions are in memory: they end with the process, and with the token
//! they come from.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{COOKIE, HeaderMap, ORIGIN, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::query::Asked;
use super::steer::json;
use super::{Admin, origin};
use crate::access;
use crate::clock::{self, UnixMs};
use crate::config::{Hub, Scope, Token};
use crate::problem::HttpProblem;
use crate::queue::log::Sources;
use crate::route::DEFAULT_TENANT;
use crate::snapshot::Snapshot;

/// Browsers that are logged in, and how often somebody tried in vain.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By the digest of the cookie, so that no look-up tells of a cookie.
    open: HashMap<[u8; 32], Session>,
    /// Of the last minute, oldest first.
    failures: VecDeque<Instant>,
}

struct Session {
    /// Of the token it stands for, or that made the link it was opened with.
    token: [u8; 32],
    until: Instant,
    portal: Option<Portal>,
}

/// What a link lets see: one tenant's share.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) tenant: Arc<str>,
    pub(super) operate: bool,
    pub(super) until: UnixMs,
}

const COOKIE_NAME: &str = "plugpost_session";

/// A working day.
const SESSION_TIME: Duration = Duration::from_hours(12);

/// More than people who look at one engine; the one that ends first gives way.
const SESSIONS_MAX: usize = 1000;

/// Tokens are long. This keeps a guesser from using the processor.
const FAILURES_MAX: usize = 10;
const FAILURES_WINDOW: Duration = Duration::from_mins(1);

/// Who asks, as far as a page must know.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct Caller {
    /// The token's name; null where none is needed.
    pub(super) token: Option<String>,
    /// It may change something.
    pub(super) operate: bool,
    /// Whose events and subscriptions it sees; null for everybody's.
    pub(super) tenant: Option<String>,
    /// The engine as a whole is its affair: plugins' faults, reloads, metrics.
    pub(super) engine: bool,
    /// When it ends, for who came by a portal link.
    #[schema(format = DateTime)]
    pub(super) until: Option<String>,
    #[serde(skip)]
    pub(super) ends: Option<Instant>,
}

impl Caller {
    pub(super) fn anybody() -> Self {
        Self { token: None, operate: true, tenant: None, engine: true, until: None, ends: None }
    }

    pub(super) fn of(token: &Token) -> Self {
        Self {
            token: Some(token.name.to_string()),
            operate: token.may(Scope::Operate),
            tenant: token.tenant.as_ref().map(ToString::to_string),
            engine: token.tenant.as_deref().is_none_or(|it| it == DEFAULT_TENANT),
            ..Self::anybody()
        }
    }

    /// Who came by a link. Whose token made it is not their affair.
    fn by(portal: &Portal, ends: Instant) -> Self {
        Self {
            operate: portal.operate,
            tenant: Some(portal.tenant.to_string()),
            engine: false,
            until: Some(portal.until.to_string()),
            ends: Some(ends),
            ..Self::anybody()
        }
    }

    /// Is what belongs to a tenant the caller's affair? None for what belongs to all.
    pub(super) fn sees(&self, tenant: Option<&str>) -> bool {
        self.tenant.as_deref().is_none_or(|own| tenant == Some(own))
    }

    /// Is what came in by a source the caller's affair?
    pub(super) fn sees_event(&self, snapshot: &Snapshot, source: &str) -> bool {
        self.sees(Some(snapshot.tenant_of(source)))
    }

    /// The sources whose events it sees.
    pub(super) fn sources(&self, snapshot: &Snapshot) -> Sources {
        self.tenant.as_deref().map_or(Sources::All, |it| snapshot.sources_of(it))
    }

    /// For what is everybody's.
    pub(super) fn must_run_the_engine(&self) -> Result<(), HttpProblem> {
        match self.engine {
            true => Ok(()),
            false => Err(HttpProblem::forbidden("this is about all tenants together")),
        }
    }
}

/// No parameters: any is refused.
#[derive(Deserialize, IntoParams)]
pub(super) struct Nothing {}

/// Who asks, and whether they may change something
#[utoipa::path(get, path = "/v1/session", operation_id = "session", tag = "in force",
    responses((status = 200, description = "Who asks", body = Caller)))]
pub(super) async fn show(
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Json<Caller> {
    Json(caller)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// `POST /login`: a cookie for a token that may read.
pub(super) async fn login(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpProblem> {
    origin::check(&headers, true)?;
    let Login { token } = json(&body)?;
    let snapshot = admin.engine.snapshot();
    admin.sessions.may_try()?;
    let found = access::token_of(&snapshot.hub, &token).filter(|it| it.may(Scope::Read));
    let Some(found) = found else {
        admin.sessions.failed();
        return Err(HttpProblem::unauthorized("no token that may read or operate is that one"));
    };
    let caller = Caller::of(found);
    let session =
        Session { token: found.sha256, until: Instant::now() + SESSION_TIME, portal: None };
    admin.sessions.answer(session, &caller, &headers)
}

/// The answer to who came by a link that a token made.
pub(super) fn enter(
    admin: &Admin,
    token: &Token,
    portal: Portal,
    headers: &HeaderMap,
) -> Result<Response, HttpProblem> {
    let left = portal.until.since(clock::now()).min(SESSION_TIME);
    let until = Instant::now() + left;
    let caller = Caller::by(&portal, until);
    let session = Session { token: token.sha256, until, portal: Some(portal) };
    admin.sessions.answer(session, &caller, headers)
}

fn set_cookie(cookie: &str, time: Duration, headers: &HeaderMap) -> String {
    // Nothing else tells a listener without TLS that there is a proxy with TLS before it.
    let secure = headers.get(ORIGIN).is_some_and(|it| it.as_bytes().starts_with(b"https:"));
    let secure = if secure { "; Secure" } else { "" };
    let age = time.as_secs();
    format!("{COOKIE_NAME}={cookie}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// `POST /logout`: the cookie stands for nothing any more.
pub(super) async fn logout(
    State(admin): State<Admin>,
    headers: HeaderMap,
) -> Result<Response, HttpProblem> {
    origin::check(&headers, true)?;
    if let Some(cookie) = cookie(&headers) {
        admin.sessions.0.lock().open.remove(&digest(cookie));
    }
    let gone = format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &gone))
}

impl Sessions {
    /// Whom a request's cookie stands for, if its token still is one; or why that one may not.
    pub(super) fn caller(
        &self,
        hub: &Hub,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Option<Result<Caller, HttpProblem>> {
        let id = digest(cookie(headers)?);
        let known = self.0.lock();
        let session = known.open.get(&id).filter(|it| it.until > Instant::now())?;
        let token = hub.tokens.iter().find(|it| it.sha256 == session.token)?;
        let Some(portal) = &session.portal else {
            return Some(access::allowed(token, scope).map(Caller::of));
        };
        if !may_let_in(token, &portal.tenant) {
            return None;
        }
        Some(match scope != Scope::Operate || portal.operate {
            true => Ok(Caller::by(portal, session.until)),
            false => Err(HttpProblem::forbidden("the link is for looking only")),
        })
    }

    /// Open a session and say who it is.
    fn answer(
        &self,
        session: Session,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Response, HttpProblem> {
        let time = session.until.saturating_duration_since(Instant::now());
        let cookie = set_cookie(&self.open(session)?, time, headers);
        Ok(with_cookie(Json(caller).into_response(), &cookie))
    }

    fn open(&self, session: Session) -> Result<String, HttpProblem> {
        let mut bytes = [0; 32];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| HttpProblem::unavailable("no random numbers"))?;
        let cookie = hex::encode(bytes);
        let (mut known, now) = (self.0.lock(), Instant::now());
        known.open.retain(|_, it| it.until > now);
        if known.open.len() >= SESSIONS_MAX {
            // Those who came by links do not put out those who have tokens.
            let order = |(_, it): &(_, &Session)| (it.portal.is_none(), it.until);
            let first = known.open.iter().min_by_key(order).map(|(id, _)| *id);
            first.and_then(|it| known.open.remove(&it));
        }
        known.open.insert(digest(&cookie), session);
        Ok(cookie)
    }

    fn may_try(&self) -> Result<(), HttpProblem> {
        let mut known = self.0.lock();
        while known.failures.front().is_some_and(|it| it.elapsed() > FAILURES_WINDOW) {
            known.failures.pop_front();
        }
        match known.failures.len() < FAILURES_MAX {
            true => Ok(()),
            false => Err(HttpProblem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many logins failed: wait a minute",
            )),
        }
    }

    fn failed(&self) {
        self.0.lock().failures.push_back(Instant::now());
    }
}

/// May a token's holder show what is that tenant's to others?
pub(super) fn may_let_in(token: &Token, tenant: &str) -> bool {
    token.may(Scope::Operate) && token.tenant.as_deref().is_none_or(|it| it == tenant)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
    let mut pairs = cookies.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

fn digest(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}
