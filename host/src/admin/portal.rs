//! Portal links: who has one sees one tenant's share of the dashboard for a while, and no
//! token. What a link says is sealed with the key of subscriptions' secrets, so it outlives
//! the process and nobody else makes one; it ends with its time, and with the token of
//! whoever made it. Nothing of it is kept.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use axum::{Extension, Json};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

use super::session::{self, Caller, Portal, may_let_in};
use super::steer::json;
use super::{Admin, origin};
use crate::clock::{self, UnixMs};
use crate::config::{self, parse_duration};
use crate::problem::HttpProblem;
use crate::vault::{KEY_ID_CHARS, KeyId, Place, Sealed, VARIABLE};

/// A link goes by mail or stands on a page of the platform's own; neither is long.
const TIME_DEFAULT: Duration = Duration::from_hours(1);
const TIME_MIN: Duration = Duration::from_mins(1);
const TIME_MAX: Duration = Duration::from_hours(7 * 24);

/// The longest that is looked at; one of ours has a quarter of it.
const LINK_BYTES_MAX: usize = 1024;

const PLACE: Place<'static> = Place { owner: 0, purpose: "portal", name: "link" };

/// Whom a link is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The tenant whose events and subscriptions it shows.
    tenant: String,
    /// From a minute to seven days; an hour, unless given.
    #[serde(default)]
    #[schema(example = "1h")]
    expires_in: Option<String>,
    /// It shows, and changes nothing.
    #[serde(default)]
    read_only: bool,
    /// Where its readers reach the dashboard, such as `https://hooks.example.com`; where this was
    /// asked, unless given.
    #[serde(default)]
    base: Option<String>,
}

/// A link: whoever has it is let in.
#[derive(Serialize, ToSchema)]
#[schema(as = PortalLink)]
pub(super) struct Link {
    url: String,
    tenant: String,
    read_only: bool,
    #[schema(format = DateTime)]
    until: String,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Said {
    tenant: String,
    operate: bool,
    until: u64,
    /// The digest of the token that made it.
    token: String,
}

/// Make a link that shows the dashboard of one tenant
///
/// Its secret stands behind the `#`, which no browser sends and no proxy logs.
#[utoipa::path(post, path = "/v1/portal", operation_id = "portal", tag = "subscriptions",
    request_body = Wanted,
    responses(
        (status = 201, description = "The link", body = Link),
        (status = 409, description = "There is no token, or no key to seal it with"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "A field is wrong; the detail says which and why"),
    ))]
pub(super) async fn make(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Link>), HttpProblem> {
    let Wanted { tenant, expires_in, read_only, base } = json(&body)?;
    let bad = |field: &str, message: String| {
        HttpProblem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {message}"))
    };
    config::tenant(&tenant).map_err(|it| bad("tenant", it))?;
    let time = expires_in.as_deref().map_or(Ok(TIME_DEFAULT), parse_duration);
    let time = time.map_err(|it| bad("expires_in", it))?;
    if !(TIME_MIN..=TIME_MAX).contains(&time) {
        return Err(bad("expires_in", "a link is for one minute to seven days".into()));
    }
    let base = match base {
        Some(base) => address(&base).ok_or_else(|| {
            bad("base", "an address such as `https://hooks.example.com`, without a path".into())
        })?,
        None => {
            let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
            format!("http://{}", host.unwrap_or_default())
        }
    };
    let snapshot = admin.engine.snapshot();
    let conflict = |detail: String| HttpProblem::new(StatusCode::CONFLICT, detail);
    // A link makes none: it would never end.
    let token = caller.token.as_deref();
    let token = match token.and_then(|it| snapshot.hub.tokens.iter().find(|own| *own.name == *it)) {
        Some(token) => token,
        None if caller.until.is_some() => {
            return Err(HttpProblem::forbidden("a link does not make another"));
        }
        None => {
            return Err(conflict(
                "without a [[token]] that may read, whoever reaches this listener may do all: \
                 a link would limit nobody"
                    .into(),
            ));
        }
    };
    if !may_let_in(token, &tenant) {
        return Err(HttpProblem::forbidden("this is not the caller's own tenant"));
    }
    let vault = admin.engine.vault();
    if !vault.has_a_key() {
        let detail = format!("there is no key to seal it with: give every node one in {VARIABLE}");
        return Err(conflict(detail));
    }
    let until = clock::now().plus(time);
    let said = Said {
        tenant: tenant.clone(),
        operate: !read_only,
        until: until.0,
        token: hex::encode(token.sha256),
    };
    // Strings and numbers always serialise.
    let Sealed { key, bytes } =
        vault.seal(PLACE, &serde_json::to_string(&said).unwrap_or_default());
    let link = BASE64_URL_SAFE_NO_PAD.encode([key.0.as_bytes(), &bytes].concat());
    tracing::info!(tenant, by = &*token.name, %until, read_only, "made a portal link");
    let url = format!("{base}/portal#{link}");
    Ok((StatusCode::CREATED, Json(Link { url, tenant, read_only, until: until.to_string() })))
}

/// `https://host` or `http://host:port`, and nothing behind it.
fn address(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str().filter(|it| ["http", "https"].contains(it))?;
    let authority = uri.authority()?.as_str();
    let is_bare = ["", "/"].contains(&uri.path()) && uri.query().is_none();
    (is_bare && !authority.contains('@')).then(|| format!("{scheme}://{authority}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    link: String,
}

/// `POST /portal`: a cookie for who has a link.
pub(super) async fn open(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpProblem> {
    origin::check(&headers, true)?;
    let Opened { link } = json(&body)?;
    let wrong = || HttpProblem::unauthorized("this is no link of this engine, or not one any more");
    let said = unsealed(&admin, &link).ok_or_else(wrong)?;
    let until = UnixMs(said.until);
    if until <= clock::now() {
        let detail = format!("this link ended at {until}: ask for a new one");
        return Err(HttpProblem::unauthorized(detail));
    }
    let snapshot = admin.engine.snapshot();
    let made_by = |it: &&config::Token| hex::encode(it.sha256) == said.token;
    let token = snapshot.hub.tokens.iter().find(made_by).ok_or_else(wrong)?;
    if !may_let_in(token, &said.tenant) {
        return Err(wrong());
    }
    let portal = Portal { tenant: said.tenant.into(), operate: said.operate, until };
    session::enter(&admin, token, portal, &headers)
}

fn unsealed(admin: &Admin, link: &str) -> Option<Said> {
    if link.len() > LINK_BYTES_MAX {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(link).ok()?;
    let (key, bytes) = bytes.split_at_checked(KEY_ID_CHARS)?;
    let key = KeyId(std::str::from_utf8(key).ok()?.into());
    let opened = admin.engine.vault().open(PLACE, &Sealed { key, bytes: bytes.to_vec() }).ok()?;
    serde_json::from_str(&opened).ok()
}
