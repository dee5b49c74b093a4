//! Who is calling: a bearer token from `plugpost.toml`, and what it may do.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;

use crate::config::{Hub, Scope, Token};
use crate::problem::HttpProblem;

/// The token a request carries. Every token is compared, each in constant time.
pub(crate) fn caller<'h>(hub: &'h Hub, headers: &HeaderMap) -> Result<&'h Token, HttpProblem> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| it.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| HttpProblem::unauthorized("this needs a bearer token"))?;
    let mut found = None;
    for token in &hub.tokens {
        if bool::from(token.secret.as_bytes().ct_eq(bearer.as_bytes())) {
            found = Some(token);
        }
    }
    found.ok_or_else(|| HttpProblem::unauthorized("the bearer token is not known"))
}

/// The caller, if it may do this.
pub(crate) fn caller_with<'h>(
    hub: &'h Hub,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<&'h Token, HttpProblem> {
    let token = caller(hub, headers)?;
    match token.may(scope) {
        true => Ok(token),
        false => Err(HttpProblem::forbidden("the token's scopes do not allow this")),
    }
}
