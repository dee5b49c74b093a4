//! Who is calling: a bearer token from `plugpost.toml`, and what it may do.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::{Hub, Scope, Token};
use crate::problem::HttpProblem;

/// The token a request carries.
pub(crate) fn caller<'h>(hub: &'h Hub, headers: &HeaderMap) -> Result<&'h Token, HttpProblem> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| it.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| HttpProblem::unauthorized("this needs a bearer token"))?;
    token_of(hub, bearer).ok_or_else(|| HttpProblem::unauthorized("the bearer token is not known"))
}

/// The token with this secret. Digests are compared, of every token, each in constant
/// time: nothing is learnt of a secret's length either.
pub(crate) fn token_of<'h>(hub: &'h Hub, secret: &str) -> Option<&'h Token> {
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    let mut found = None;
    for token in &hub.tokens {
        if bool::from(token.sha256.ct_eq(&digest)) {
            found = Some(token);
        }
    }
    found
}

/// The caller, if it may do this.
pub(crate) fn caller_with<'h>(
    hub: &'h Hub,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<&'h Token, HttpProblem> {
    allowed(caller(hub, headers)?, scope)
}

/// The token, if it may do this.
pub(crate) fn allowed(token: &Token, scope: Scope) -> Result<&Token, HttpProblem> {
    match token.may(scope) {
        true => Ok(token),
        false => Err(HttpProblem::forbidden("the token's scopes do not allow this")),
    }
}
