//! Keys, used by name. The host computes and compares; no key enters a plugin.

use crate::bindings::base::plugpost::plugin::secrets as wit;
use crate::bindings::base::plugpost::plugin::types::{BasicCredentials, SecretValue};
use crate::{Header, HeaderValue};

pub use wit::Part;

/// True when the route or source gives a secret of this name.
pub fn has(secret: &str) -> bool {
    wit::has(secret)
}

/// One code for each active symmetric version of the key, newest first.
/// Algorithms: `sha1`, `sha256`, `sha512`.
pub fn hmac(secret: &str, algorithm: &str, parts: &[Part<'_>]) -> Result<Vec<Vec<u8>>, String> {
    wit::hmac(secret, algorithm, parts)
}

/// One signature for each active private-key version, newest first.
/// Algorithm: `ed25519`.
pub fn sign(secret: &str, algorithm: &str, parts: &[Part<'_>]) -> Result<Vec<Vec<u8>>, String> {
    wit::sign(secret, algorithm, parts)
}

/// True when the code or signature fits any active version of the key.
/// Algorithms: `sha1`, `sha256`, `sha512`, `ed25519`.
pub fn verify(
    secret: &str,
    algorithm: &str,
    parts: &[Part<'_>],
    signature: &[u8],
) -> Result<bool, String> {
    wit::verify(secret, algorithm, parts, signature)
}

/// True when `text` equals any active version of the secret.
pub fn matches(secret: &str, text: &str) -> Result<bool, String> {
    wit::matches(secret, text)
}

/// A header whose value is `prefix` and the secret.
pub fn header(name: &str, prefix: &str, secret: &str) -> Header {
    let value = SecretValue { prefix: prefix.into(), secret: secret.into() };
    Header { name: name.into(), value: HeaderValue::Secret(value) }
}

/// `authorization: Basic …` with the secret as password.
pub fn basic(username: &str, password: &str) -> Header {
    let value = BasicCredentials { username: username.into(), password: password.into() };
    Header { name: "authorization".into(), value: HeaderValue::Basic(value) }
}
