//! HTTP Message Signatures (RFC 9421), on the way in and on the way out, with
//! the digest of the body (RFC 9530).
//!
//! [`base`] makes what is signed, [`fields`] reads and writes the headers. The key
//! stays in the host; the time of a signature is that of the request.

mod base;
mod fields;

use base::{Component, Request, Target, signature_base};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fields::{Signature, content_digest, digest_fits};
use plugpost_plugin::places::{Decoding, Place};
use plugpost_plugin::secrets::{self, Part};
use plugpost_plugin::{
    Auth, Description, Encoding, Failure, Header, Inbound, Outgoing, Plugin, Problem, Received,
    Rejection, Source, export,
};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = concat!(
    r#"{
  "type": "object",
  "properties": {
    "algorithm": {
      "enum": ["hmac-sha256", "ed25519"],
      "default": "hmac-sha256"
    },
    "components": {
      "description": "what is signed; inbound, what must be",
      "type": "array",
      "items": {"type": "string"},
      "minItems": 1, "maxItems": 32, "uniqueItems": true,
      "default": ["@method", "@target-uri", "content-digest"]
    },
    "keyid": {
      "description": "the name of the key; inbound, the only one accepted",
      "type": "string", "pattern": "^[ -~]+$", "maxLength": 256
    },
    "label": {
      "description": "outbound: the name of the signature",
      "type": "string", "pattern": "^[a-z*][a-z0-9_.*-]*$", "maxLength": 64, "default": "sig1"
    },
    "tolerance_s": {
      "description": "inbound: how far the sender's clock may be off, in seconds",
      "type": "integer", "minimum": 1, "maximum": 86400, "default": 300
    },
    "url": {
      "description": "inbound: the URL of this source as the sender knows it, where a part of it is signed",
      "type": "string", "pattern": "^https?://[!-~]+$"
    },"#,
    plugpost_plugin::decoding_schema!(),
    r#"
  },
  "additionalProperties": false
}"#
);

#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    algorithm: String,
    components: Vec<String>,
    keyid: Option<String>,
    label: String,
    tolerance_s: u64,
    url: Option<String>,
    event_type_at: Option<Place>,
    event_type: Option<String>,
    subject_at: Option<Place>,
    duplicate_key_at: Option<Place>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            algorithm: "hmac-sha256".into(),
            components: ["@method", "@target-uri", "content-digest"].map(Into::into).into(),
            keyid: None,
            label: "sig1".into(),
            tolerance_s: 300,
            url: None,
            event_type_at: None,
            event_type: None,
            subject_at: None,
            duplicate_key_at: None,
        }
    }
}

const KEY: &str = "key";
const DIGEST: &str = "content-digest";

struct Rfc9421 {
    algorithm: String,
    components: Vec<Component>,
    keyid: Option<String>,
    label: String,
    tolerance_s: u64,
    url: Option<String>,
    decoding: Decoding,
}

impl Plugin for Rfc9421 {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "signs and verifies HTTP messages as RFC 9421 says",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .required_secret(
            KEY,
            Encoding::StandardWebhooks,
            "base64 for hmac-sha256; whsk_… to sign, whpk_… to verify ed25519",
        )
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let decoding = Decoding {
            event_type_at: settings.event_type_at,
            event_type: settings.event_type,
            subject_at: settings.subject_at,
            duplicate_key_at: settings.duplicate_key_at,
        };
        let mut problems = decoding.problems();
        let mut components = Vec::new();
        for (at, name) in settings.components.iter().enumerate() {
            match Component::named(name) {
                Some(component) => components.push(component),
                None => {
                    let message = "is neither a header in lower case nor @method, @target-uri, \
                                   @authority, @scheme, @request-target, @path, @query";
                    problems.push(Problem::at(&format!("/components/{at}"), message));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            algorithm: settings.algorithm,
            components,
            keyid: settings.keyid,
            label: settings.label,
            tolerance_s: settings.tolerance_s,
            url: settings.url,
            decoding,
        })
    }
}

impl Source for Rfc9421 {
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        let required = |name: &str| {
            let missing = || Rejection::unauthorized(format!("the header {name} is missing"));
            request.header(name).filter(|it| !it.is_empty()).ok_or_else(missing)
        };
        let found = fields::read(&required("Signature-Input")?, &required("Signature")?);
        let signatures = found.map_err(Rejection::malformed)?;
        // One that fits is enough; where none does, the first is told about.
        let mut first = None;
        for signature in &signatures {
            match self.check(signature, request) {
                Ok(()) => return Ok(()),
                Err(rejection) => first = first.or(Some(rejection)),
            }
        }
        Err(first.unwrap_or_else(|| Rejection::unauthorized("there is no signature")))
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        self.decoding.decode(request)
    }
}

impl Rfc9421 {
    /// Does this one of a request's signatures hold, and cover what it must?
    fn check(&self, signature: &Signature, request: &Inbound) -> Result<(), Rejection> {
        self.check_parameters(signature, request.time() / 1000).map_err(Rejection::unauthorized)?;
        let url = self.url.as_ref().map(|base| {
            let query = request.query().map_or_else(String::new, |it| format!("?{it}"));
            base.clone() + &request.path() + &query
        });
        let method = request.method();
        let signed = Request {
            method: &method,
            target: url.as_deref().and_then(Target::of),
            header: &|name| request.header(name),
        };
        let base = signature_base(&signature.components, &signed, &signature.params);
        let base = base.map_err(|missing| match missing.is_of_the_url() {
            true => Rejection::misconfigured(
                "the URL is signed: settings.url must say how the sender calls this source",
            ),
            false => {
                let name = missing.name();
                Rejection::unauthorized(format!("the header {name} is signed but missing"))
            }
        })?;
        let parts = [Part::Bytes(base.as_bytes())];
        let fits = secrets::verify(KEY, self.algorithm_of_the_key(), &parts, &signature.bytes)
            .map_err(|error| Rejection::misconfigured(&error))?;
        if !fits {
            return Err(Rejection::unauthorized("no signature fits"));
        }
        if signature.components.iter().any(|it| it.name() == DIGEST) {
            let header = request.header(DIGEST).unwrap_or_default();
            if !digest_fits(&header, &request.body()) {
                return Err(Rejection::unauthorized("the content digest is not the body's"));
            }
        }
        Ok(())
    }

    fn check_parameters(&self, signature: &Signature, now_s: u64) -> Result<(), String> {
        if let Some(missing) = self.components.iter().find(|it| !signature.components.contains(it))
        {
            return Err(format!("the signature does not cover {}", missing.name()));
        }
        if signature.alg.as_ref().is_some_and(|it| *it != self.algorithm) {
            return Err(format!("the signature is not by {}", self.algorithm));
        }
        if self.keyid.is_some() && signature.keyid != self.keyid {
            return Err("the signature is by another key".into());
        }
        let created = signature.created.ok_or("the signature does not say when it was created")?;
        let tolerance_s = self.tolerance_s;
        let is_near = u64::try_from(created).is_ok_and(|it| it.abs_diff(now_s) <= tolerance_s);
        if !is_near {
            return Err(format!("the signature was created more than {tolerance_s} s off"));
        }
        let is_over = |it: i64| u64::try_from(it).map_or(true, |it| it < now_s);
        match signature.expires.is_some_and(is_over) {
            true => Err("the signature has expired".into()),
            false => Ok(()),
        }
    }

    /// What the host calls the algorithm.
    fn algorithm_of_the_key(&self) -> &'static str {
        match self.algorithm.as_str() {
            "ed25519" => "ed25519",
            _ => "sha256",
        }
    }
}

impl Auth for Rfc9421 {
    fn sign(&self, request: &Outgoing) -> Result<Vec<Header>, Failure> {
        let mut headers = Vec::new();
        let covers_digest = self.components.iter().any(|it| it.name() == DIGEST);
        let digest = covers_digest.then(|| content_digest(&request.body()));
        if let Some(digest) = &digest {
            headers.push(Header::text(DIGEST, digest.clone()));
        }
        let (url, method) = (request.url(), request.method());
        let signed = Request {
            method: &method,
            target: Target::of(&url),
            header: &|name| match &digest {
                Some(digest) if name == DIGEST => Some(digest.clone()),
                _ => request.header(name),
            },
        };
        let created_s = request.time() / 1000;
        let params =
            fields::params(&self.components, created_s, self.keyid.as_deref(), &self.algorithm)
                .ok_or_else(|| Failure::reject("keyid", "the keyid is not visible ASCII"))?;
        let base = signature_base(&self.components, &signed, &params).map_err(|missing| {
            let name = missing.name();
            let message = format!("the header {name} is to be signed, but no transform sets it");
            Failure::reject("no-header", message)
        })?;
        let parts = [Part::Bytes(base.as_bytes())];
        let signatures = match self.algorithm_of_the_key() {
            "ed25519" => secrets::sign(KEY, "ed25519", &parts),
            algorithm => secrets::hmac(KEY, algorithm, &parts),
        };
        let signatures = signatures.map_err(|error| Failure::retry("key", error))?;
        // A label names one signature; the newest key makes it.
        let newest = signatures.first().ok_or_else(|| {
            Failure::retry("key", format!("no version of the key signs by {}", self.algorithm))
        })?;
        let label = &self.label;
        let encoded = BASE64_STANDARD.encode(newest);
        headers.push(Header::text("signature-input", format!("{label}={params}")));
        headers.push(Header::text("signature", format!("{label}=:{encoded}:")));
        Ok(headers)
    }
}

export!(Rfc9421: source, auth);

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(json: &str) -> Result<Rfc9421, Vec<String>> {
        let settings = serde_json_from(json);
        let pointer = |it: Problem| it.pointer;
        Rfc9421::new(settings).map_err(|it| it.into_iter().map(pointer).collect())
    }

    fn serde_json_from(components: &str) -> Settings {
        let components = components.split(' ').map(str::to_owned).collect();
        Settings { components, keyid: Some("k".into()), ..Settings::default() }
    }

    #[test]
    fn a_component_that_is_none_is_a_problem_at_its_place() {
        let problems = plugin("@method Content-Type @query-param content-digest").err();
        assert_eq!(problems, Some(vec!["/components/1".to_owned(), "/components/2".to_owned()]));
    }

    #[test]
    fn parameters_are_held_against_the_settings() {
        let plugin = plugin("@method content-digest").expect("sound settings");
        let check = |input: &str| {
            let read = fields::read(&format!("s={input}"), "s=:AA==:").expect("a signature");
            plugin.check_parameters(&read[0], 1000)
        };
        let good = r#"("content-digest" "@method" "x")"#;
        let bad = |message: &str| Err(message.to_owned());
        for (params, expected) in [
            (r#";created=1000;keyid="k""#, Ok(())),
            (r#";created=700;keyid="k";alg="hmac-sha256";expires=1000"#, Ok(())),
            (r#";created=1300;keyid="k""#, Ok(())),
            (r#";created=699;keyid="k""#, bad("the signature was created more than 300 s off")),
            (r#";created=1301;keyid="k""#, bad("the signature was created more than 300 s off")),
            (r#";created=-1;keyid="k""#, bad("the signature was created more than 300 s off")),
            (r#";keyid="k""#, bad("the signature does not say when it was created")),
            (r#";created=1000;keyid="k";expires=999"#, bad("the signature has expired")),
            (r#";created=1000;keyid="k";expires=-5"#, bad("the signature has expired")),
            (";created=1000", bad("the signature is by another key")),
            (r#";created=1000;keyid="K""#, bad("the signature is by another key")),
            (
                r#";created=1000;keyid="k";alg="ed25519""#,
                bad("the signature is not by hmac-sha256"),
            ),
        ] {
            assert_eq!(check(&format!("{good}{params}")), expected, "{params}");
        }
        let covered = check(r#"("@method");created=1000;keyid="k""#);
        assert_eq!(covered, bad("the signature does not cover content-digest"));
    }
}
