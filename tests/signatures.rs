//! What is signed is what arrives: ten thousand random payloads by every way to
//! sign, each checked by code that shares nothing with the plugins but the
//! published rules.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, SigningKey, Verifier as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::engine::Engine;
use crate::support::hub::Hub;
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{eventually_within, measuring};

const PAYLOADS: usize = 10_000;

const KEY: [u8; 24] = *b"0123456789abcdef01234567";
const SEED: [u8; 32] = *b"a seed of thirty-two bytes, fine";

/// A way to sign, as a table of a route, and how a receiver checks it.
struct Scheme {
    name: &'static str,
    auth: &'static str,
    verify: fn(&Received, &[u8], &str) -> Result<(), String>,
}

const SCHEMES: [Scheme; 6] = [
    Scheme {
        name: "standard-webhooks",
        auth: "plugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/whsec\" }",
        verify: |it, body, _| by_v1(it, "webhook", body),
    },
    Scheme {
        name: "standard-webhooks-pair",
        auth: "plugin = \"standard-webhooks\"\nsecrets.key = { file = \"secrets/whsk\" }",
        verify: |it, body, _| {
            let code = it.header("webhook-signature").and_then(|it| it.strip_prefix("v1a,"));
            let code = BASE64_STANDARD.decode(code.ok_or("no signature")?).map_err(in_words)?;
            let code = Signature::from_slice(&code).map_err(in_words)?;
            let content = signed_content(it, "webhook", body)?;
            SigningKey::from_bytes(&SEED).verifying_key().verify(&content, &code).map_err(in_words)
        },
    },
    Scheme {
        name: "buildr",
        auth: "plugin = \"buildr\"\nsecrets.key = { file = \"secrets/whsec\" }",
        verify: |it, body, _| by_v1(it, "svix", body),
    },
    Scheme {
        name: "hmac",
        auth: "plugin = \"hmac\"\nsettings.scheme = \"shopify\"\nsecrets.key = { file = \"secrets/plain\" }",
        verify: |it, body, _| by_hmac(body, it.header("x-shopify-hmac-sha256")),
    },
    Scheme {
        name: "rfc9421",
        auth: "plugin = \"rfc9421\"\nsettings.keyid = \"k\"\nsecrets.key = { file = \"secrets/base64\" }",
        verify: |it, body, url| {
            let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(body)));
            if it.header("content-digest") != Some(&digest) {
                return Err("the digest is of another body".into());
            }
            let input = it.header("signature-input").and_then(|it| it.strip_prefix("sig1="));
            let input = input.ok_or("no signature-input")?;
            if !input.starts_with("(\"@method\" \"@target-uri\" \"content-digest\");created=") {
                return Err(format!("other components: {input}"));
            }
            let base = format!(
                "\"@method\": POST\n\"@target-uri\": {url}\n\"content-digest\": {digest}\n\"@signature-params\": {input}"
            );
            let code = it.header("signature").and_then(|it| it.strip_prefix("sig1=:"));
            by_hmac(base.as_bytes(), code.and_then(|it| it.strip_suffix(':')))
        },
    },
    Scheme {
        name: "http-auth",
        auth: "plugin = \"http-auth\"\nsettings.scheme = \"bearer\"\nsecrets.secret = { file = \"secrets/plain\" }",
        verify: |it, body, _| match it.header("authorization") {
            Some("Bearer 0123456789abcdef01234567") if it.body == body => Ok(()),
            Some("Bearer 0123456789abcdef01234567") => Err("another body".into()),
            other => Err(format!("{other:?}")),
        },
    },
];

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What Standard Webhooks signs: id, time and body, with full stops between.
fn signed_content(it: &Received, prefix: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let header = |name: &str| it.header(&format!("{prefix}-{name}")).ok_or(name.to_owned());
    let mut content = format!("{}.{}.", header("id")?, header("timestamp")?).into_bytes();
    content.extend_from_slice(body);
    Ok(content)
}

/// The one signature of a set, of the kind that is keyed by a shared secret.
fn by_v1(it: &Received, headers: &str, body: &[u8]) -> Result<(), String> {
    let code = it.header(&format!("{headers}-signature")).and_then(|it| it.strip_prefix("v1,"));
    by_hmac(&signed_content(it, headers, body)?, code)
}

fn by_hmac(content: &[u8], code: Option<&str>) -> Result<(), String> {
    let code = BASE64_STANDARD.decode(code.ok_or("no signature")?).map_err(in_words)?;
    let mac = Hmac::<Sha256>::new_from_slice(&KEY).map_err(in_words)?;
    mac.chain_update(content).verify_slice(&code).map_err(in_words)
}

/// What each receiver saw, by the path it stands for.
#[derive(Debug, Default)]
struct Seen {
    /// Event and SHA-256 of the body.
    bodies: HashMap<String, [u8; 32]>,
    refused: Vec<String>,
    mutants_taken: usize,
}

#[test]
fn ten_thousand_payloads_verify_by_every_scheme_and_none_with_a_bit_changed() {
    let _measuring = measuring();
    let seen: Arc<[Mutex<Seen>; SCHEMES.len()]> = Arc::default();
    let hub = Hub::new();
    hub.secret("plain", std::str::from_utf8(&KEY).expect("text"))
        .secret("base64", &BASE64_STANDARD.encode(KEY))
        .secret("whsec", &format!("whsec_{}", BASE64_STANDARD.encode(KEY)));
    let pair = SigningKey::from_bytes(&SEED);
    hub.secret("whsk", &format!("whsk_{}", BASE64_STANDARD.encode(pair.to_keypair_bytes())));
    for name in ["standard-webhooks", "buildr", "hmac", "rfc9421", "http-auth"] {
        hub.plugin(name);
    }
    let mut receivers = Vec::new();
    for (at, scheme) in SCHEMES.iter().enumerate() {
        let of_receiver = seen.clone();
        let url = Arc::<Mutex<String>>::default();
        let own_url = url.clone();
        let receiver = Receiver::start(move |request| {
            let url = own_url.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let good = (scheme.verify)(request, &request.body, &url);
            // One bit, another for every message.
            let mut mutant = request.body.clone();
            let mutant_taken = !mutant.is_empty() && {
                let bit = usize::from(request.webhook_id().as_bytes()[16]) % (mutant.len() * 8);
                mutant[bit / 8] ^= 1 << (bit % 8);
                (scheme.verify)(request, &mutant, &url).is_ok()
            };
            let mut seen = of_receiver[at].lock().unwrap_or_else(PoisonError::into_inner);
            seen.mutants_taken += usize::from(mutant_taken);
            match good {
                Ok(()) => {
                    let digest = Sha256::digest(&request.body).into();
                    seen.bodies.insert(request.webhook_id().to_owned(), digest);
                    Reply::status(204)
                }
                Err(error) => {
                    seen.refused.push(error);
                    Reply::status(401)
                }
            }
        });
        *url.lock().unwrap_or_else(PoisonError::into_inner) = receiver.url("/hook");
        let text = format!(
            "from = \"erp\"\ntypes = [\"*\"]\n[[auth]]\n{}\n[endpoint]\nurl = \"{}\"\n[retry]\nschedule = []\n",
            scheme.auth,
            receiver.url("/hook"),
        );
        hub.route(scheme.name, text);
        receivers.push(receiver);
    }
    let engine = Engine::start(&hub);

    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent = HashMap::new();
    for _ in 0..PAYLOADS / 500 {
        let bodies: Vec<Vec<u8>> = (0..500)
            .map(|_| {
                let length = if random.u8(..) == 0 { 20_000 } else { random.usize(..300) };
                (0..length).map(|_| random.u8(..)).collect()
            })
            .collect();
        let event = |body: &Vec<u8>| {
            json!({
                "specversion": "1.0", "source": "erp", "type": "random", "id": random.u128(..).to_string(),
                "data_base64": BASE64_STANDARD.encode(body),
            })
        };
        let batch = Value::Array(bodies.iter().map(event).collect()).to_string();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let answer = engine.post("/events", &headers, batch.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        let digests = bodies.iter().map(|it| <[u8; 32]>::from(Sha256::digest(it)));
        sent.extend(answer.event_ids().into_iter().zip(digests));
    }
    assert_eq!(sent.len(), PAYLOADS);
    for (at, scheme) in SCHEMES.iter().enumerate() {
        eventually_within(Duration::from_mins(3), scheme.name, || {
            let seen = seen[at].lock().unwrap_or_else(PoisonError::into_inner);
            (seen.bodies.len() + seen.refused.len() >= PAYLOADS).then_some(())
        });
        let seen = seen[at].lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(seen.refused, [""; 0], "{}, seed {seed}", scheme.name);
        assert!(seen.bodies == sent, "{}: a body has changed, seed {seed}", scheme.name);
        assert_eq!(seen.mutants_taken, 0, "{}, seed {seed}", scheme.name);
    }
}
