//! The Standard Webhooks signature, which Svix and BigCommerce use under header
//! names and keys of their own.
//!
//! What is signed is `id.timestamp.body`; `…-signature` is a list, separated by
//! spaces, of `v1,` (HMAC-SHA256) and `v1a,` (Ed25519) with base64. Source:
//! the specification at standardwebhooks.com, and Svix's libraries.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::rules::{Algorithm, Notation, Piece, Rule, Signing, Stretch, TimeUnit};
use crate::secrets::{self, Part};
use crate::{Inbound, Rejection};

/// How far a sender's clock may be off, in either direction: what the
/// reference libraries allow.
pub const TOLERANCE_S: u64 = 300;

/// How many of the signatures in one header are tried: ten keys in rotation,
/// each in both versions. Every try is a pass over the body that anyone can ask for.
const SIGNATURES_MAX: usize = 20;

/// One dialect of the signature.
#[derive(Clone, Copy, Debug)]
pub struct Scheme<'a> {
    /// How its headers are called.
    pub headers: Headers,
    /// The name of the secret.
    pub secret: &'a str,
    /// How old or how far ahead a timestamp may be, in seconds.
    pub tolerance_s: u64,
}

/// The names of the three headers.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Of the message id.
    pub id: &'static str,
    /// Of the time of sending, in seconds.
    pub timestamp: &'static str,
    /// Of the list of signatures.
    pub signature: &'static str,
}

impl Headers {
    /// As the specification calls them.
    pub const WEBHOOK: Self =
        Self { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };
    /// As Svix calls them.
    pub const SVIX: Self =
        Self { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };
}

impl Scheme<'_> {
    /// Check an inbound request and return its message id.
    pub fn verify(&self, request: &Inbound) -> Result<String, Rejection> {
        let id = sent(request, self.headers.id)?;
        let timestamp = sent(request, self.headers.timestamp)?;
        let signatures = sent(request, self.headers.signature)?;
        self.check_age(&timestamp, request.time() / 1000)?;
        if id.contains('.') {
            // The specification forbids it: the dot separates id, timestamp and body.
            return Err(Rejection::unauthorized("the message id contains a full stop"));
        }

        let before = [&id, ".", &timestamp, "."].concat();
        let parts = [Part::Bytes(before.as_bytes()), Part::Body];
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

    /// The headers of every outgoing request: a signature for every active version of the
    /// key. The id is not among them where it is called `webhook-id`: the host sends that.
    pub fn rules(&self) -> Vec<Rule> {
        let dot = || Piece::Text(".".into());
        let signing = Signing {
            secret: self.secret.into(),
            schemes: vec![(Algorithm::Sha256, "v1,".into()), (Algorithm::Ed25519, "v1a,".into())],
            notation: Notation::Base64,
            between: Some(" ".into()),
            pieces: vec![Piece::Id, dot(), Piece::Time(TimeUnit::Seconds), dot(), Piece::Body],
        };
        let mut rules = vec![
            Rule::made(self.headers.timestamp, [Stretch::Time(TimeUnit::Seconds)]),
            Rule::made(self.headers.signature, [Stretch::Signatures(signing)]),
        ];
        if self.headers.id != Headers::WEBHOOK.id {
            rules.push(Rule::made(self.headers.id, [Stretch::Id]));
        }
        rules
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

/// What a request says in that header.
fn sent(request: &Inbound, name: &str) -> Result<String, Rejection> {
    (request.header(name).filter(|value| !value.is_empty()))
        .ok_or_else(|| Rejection::unauthorized(format!("the header {name} is missing")))
}
