//! How the demo's sender proves who it is, and how its receiver checks that.
//! Written apart from the plugins, so that the two cannot share a mistake.

use std::path::Path;

use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::read_secret;

/// A scheme as `demo/*.toml` names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "scheme", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Scheme {
    /// Standard Webhooks v1 under `{prefix}-id`, `-timestamp` and `-signature`.
    StandardWebhooks {
        prefix: String,
        /// A file with `whsec_…`, or with a text that is the key itself.
        secret: String,
    },
    /// A secret in a header, as it is.
    Header { name: String, secret: String },
    /// HTTP Basic.
    Basic { username: String, secret: String },
}

/// A scheme with its secret.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    Signature { prefix: String, key: Vec<u8> },
    Header { name: String, value: String },
}

/// How far the receiver's clock may be from the sender's.
const TOLERANCE_S: u64 = 300;

impl Proof {
    pub(super) fn new(scheme: Scheme, folder: &Path) -> anyhow::Result<Self> {
        Ok(match scheme {
            Scheme::StandardWebhooks { prefix, secret } => {
                let text = read_secret(folder, &secret)?;
                let key = match text.strip_prefix("whsec_") {
                    Some(encoded) => BASE64_STANDARD.decode(encoded).context("a whsec_ secret")?,
                    None => text.into_bytes(),
                };
                Self::Signature { prefix, key }
            }
            Scheme::Header { name, secret } => {
                Self::Header { name, value: read_secret(folder, &secret)? }
            }
            Scheme::Basic { username, secret } => {
                let pair = format!("{username}:{}", read_secret(folder, &secret)?);
                let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
                Self::Header { name: "authorization".into(), value }
            }
        })
    }

    /// The headers that prove a message.
    pub(super) fn headers(&self, id: &str, now_s: u64, body: &[u8]) -> Vec<(String, String)> {
        match self {
            Self::Header { name, value } => vec![(name.clone(), value.clone())],
            Self::Signature { prefix, key } => {
                let timestamp = now_s.to_string();
                let code = BASE64_STANDARD.encode(signature(key, id, &timestamp, body));
                vec![
                    (format!("{prefix}-id"), id.to_owned()),
                    (format!("{prefix}-timestamp"), timestamp),
                    (format!("{prefix}-signature"), format!("v1,{code}")),
                ]
            }
        }
    }

    /// Check a message; what was checked, or what is wrong.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        now_s: u64,
        body: &[u8],
    ) -> Result<String, String> {
        let header = |name: &str| {
            headers.get(name).and_then(|it| it.to_str().ok()).ok_or(format!("no header {name}"))
        };
        match self {
            Self::Header { name, value } => {
                match bool::from(header(name)?.as_bytes().ct_eq(value.as_bytes())) {
                    true => Ok(format!("{name} is the secret")),
                    false => Err(format!("{name} is not the secret")),
                }
            }
            Self::Signature { prefix, key } => {
                let id = header(&format!("{prefix}-id"))?;
                let timestamp = header(&format!("{prefix}-timestamp"))?;
                let sent_s: u64 = timestamp.parse().map_err(|_| "the timestamp is no number")?;
                if sent_s.abs_diff(now_s) > TOLERANCE_S {
                    return Err("the timestamp is too old or too new".into());
                }
                let name = format!("{prefix}-signature");
                let expected = signature(key, id, timestamp, body);
                let fits = header(&name)?
                    .split(' ')
                    .filter_map(|it| it.strip_prefix("v1,"))
                    .filter_map(|it| BASE64_STANDARD.decode(it).ok())
                    .any(|it| it.ct_eq(&expected).into());
                if fits { Ok(format!("{name} fits")) } else { Err(format!("{name} does not fit")) }
            }
        }
    }
}

fn signature(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut code = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    code.update(format!("{id}.{timestamp}.").as_bytes());
    code.update(body);
    code.finalize().into_bytes().to_vec()
}
