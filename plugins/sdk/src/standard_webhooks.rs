//! The Standard Webhooks signature, which Svix and BigCommerce use under header
//! names and keys of their own.
//!
//! What is signed is `id.timestamp.body`; `…-signature` is a list, separated by
//! spaces, of `v1,` (HMAC-SHA256) and `v1a,` (Ed25519) with base64. Source:
//! the specification at standardwebhooks.com, and Svix's libraries.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::secrets::{self, Part};
use crate::{Failure, Header, Inbound, Outgoing, Rejection};

/// How far a sender's clock may be off, in either direction: what the
/// reference libraries allow.
pub const TOLERANCE_S: u64 = 300;

/// How many of the signatures in one header are tried: ten keys in rotation,
/// each in both versions. Every try is a pass over the body that anyone can ask for.
const SIGNATURES_MAX: usize = 20;

/// One dialect of the signature.
#[derive(Clone, Copy, Debug)]
pub struct Scheme<'a> {
    /// What stands before `-id`, `-timestamp` and `-signature`.
    pub header_prefix: &'a str,
    /// The name of the secret.
    pub secret: &'a str,
    /// How old or how far ahead a timestamp may be, in seconds.
    pub tolerance_s: u64,
}

impl Scheme<'_> {
    /// Check an inbound request and return its message id.
    pub fn verify(&self, request: &Inbound) -> Result<String, Rejection> {
        let id = self.inbound_header(request, "id")?;
        let timestamp = self.inbound_header(request, "timestamp")?;
        let signatures = self.inbound_header(request, "signature")?;
        self.check_age(&timestamp, request.time() / 1000)?;
        if id.contains('.') {
            // The specification forbids it: the dot separates id, timestamp and body.
            return Err(Rejection::unauthorized("the message id contains a full stop"));
        }

        let parts = signed_parts(&id, &timestamp);
        for signature in signatures.split(' ').take(SIGNATURES_MAX) {
            let Some((version, encoded)) = signature.split_once(',') else { continue };
            let algorithm = match version {
                "v1" => "sha256",
                "v1a" => "ed25519",
                _ => continue,
            };
            let Ok(bytes) = BASE64_STANDARD.decode(encoded) else { continue };
            let fits = secrets::verify(self.secret, algorithm, &parts, &bytes)
                .map_err(|error| Rejection::misconfigured(&error))?;
            if fits {
                return Ok(id);
            }
        }
        Err(Rejection::unauthorized("no signature fits"))
    }

    /// The three headers for an outgoing request: a signature for every active
    /// version of the key.
    pub fn sign(&self, request: &Outgoing) -> Result<Vec<Header>, Failure> {
        let id = request.id();
        let timestamp = (request.time() / 1000).to_string();
        let parts = signed_parts(&id, &timestamp);
        let schemes = [("sha256", "v1,"), ("ed25519", "v1a,")];
        let list = secrets::signatures(self.secret, "base64", &schemes, &parts)
            .map_err(|error| Failure::retry("key", error))?;
        let listed = (list.into_iter().reduce(|all, one| all + " " + &one))
            .ok_or_else(|| Failure::retry("key", "no version of the key can sign"))?;
        Ok(vec![
            Header::text(self.header_name("id"), id),
            Header::text(self.header_name("timestamp"), timestamp),
            Header::text(self.header_name("signature"), listed),
        ])
    }

    fn header_name(&self, which: &str) -> String {
        [self.header_prefix, "-", which].concat()
    }

    fn inbound_header(&self, request: &Inbound, which: &str) -> Result<String, Rejection> {
        let name = self.header_name(which);
        request
            .header(&name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Rejection::unauthorized(format!("the header {name} is missing")))
    }

    fn check_age(&self, timestamp: &str, now_s: u64) -> Result<(), Rejection> {
        // Digits only: no sign, and nothing that overflows.
        let sent_s = timestamp
            .parse::<u64>()
            .ok()
            .filter(|_| timestamp.bytes().all(|it| it.is_ascii_digit()))
            .ok_or_else(|| Rejection::unauthorized("the timestamp is not a number of seconds"))?;
        if sent_s.abs_diff(now_s) > self.tolerance_s {
            let message = format!("the timestamp is more than {} s off", self.tolerance_s);
            return Err(Rejection::unauthorized(message));
        }
        Ok(())
    }
}

fn signed_parts<'a>(id: &'a str, timestamp: &'a str) -> [Part<'a>; 5] {
    let text = |it: &'a str| Part::Bytes(it.as_bytes());
    [text(id), text("."), text(timestamp), text("."), Part::Body]
}
