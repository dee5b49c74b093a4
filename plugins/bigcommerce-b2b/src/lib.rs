//! BigCommerce B2B Edition: a thin envelope of ids, signed as Standard Webhooks
//! signs with the API account's client secret, or sent with custom headers.
//!
//! It fetches nothing: who needs the company or the quote asks BigCommerce's
//! API for it. Source: docs.bigcommerce.com, "B2B Edition webhook events" and
//! "HTTPS webhooks", as of April 2026.

mod api;

use plugpost_plugin::credentials::CustomHeaders;
use plugpost_plugin::json::{self, Object};
use plugpost_plugin::rules::Rule;
use plugpost_plugin::standard_webhooks::{Headers, Scheme, TOLERANCE_S};
use plugpost_plugin::{
    AuthRules, Description, Encoding, Event, Failure, Inbound, Message, Plugin, Problem, Received,
    Rejection, Source, Transform, custom_headers_schema, export, secrets,
};
use serde::Deserialize;

/// Every B2B scope that is documented.
const SCOPES: [&str; 19] = [
    "store/company/created",
    "store/company/updated",
    "store/company/deleted",
    "store/company/statusUpdated",
    "store/company/superadmin/assignmentUpdated",
    "store/company/user/created",
    "store/company/user/updated",
    "store/company/user/deleted",
    "store/company/address/created",
    "store/company/address/updated",
    "store/company/address/deleted",
    "store/superadmin/created",
    "store/superadmin/updated",
    "store/superadmin/deleted",
    "store/superadmin/assignmentUpdated",
    "store/quote/created",
    "store/quote/updated",
    "store/quote/statusUpdated",
    "store/quote/deleted",
];

/// A hook of this scope hears how the others' destinations do.
const EXCEPTION: &str = "store/hook/deliveryException";

/// What the engine tells that such a hook hears of, each with the documented code:
/// will be tried again, given up and switched off, the domain blocked.
const TOLD: [&str; 3] = ["endpoint.failing", "delivery.exhausted", "endpoint.resting"];
const EXCEPTIONS: [(u32, &str); 3] = [
    (90001, "The destination fails; deliveries to it are tried again."),
    (90002, "Every retry of a delivery has failed; the hook is switched off."),
    (90003, "Too few deliveries to the domain succeed; it is blocked for a while."),
];

/// The source of what the engine tells.
const ENGINE: &str = "plugpost";

/// Where the subject is looked for, the most specific first: an address or a
/// user comes with its company's id. The last is for scopes beyond B2B, whose
/// data has a `type` and an `id`.
const SUBJECTS: [&str; 5] =
    ["/data/address_id", "/data/user_id", "/data/quote_id", "/data/company_id", "/data/id"];

/// BigCommerce names the libraries, not the headers; these are the libraries'.
const SIGNATURE: Scheme<'_> =
    Scheme { headers: Headers::WEBHOOK, secret: "client_secret", tolerance_s: TOLERANCE_S };

/// The headers of [`SIGNATURE`], which no custom header may replace.
const SIGNATURE_HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// What most envelopes have beside the data.
const ENVELOPE_BYTES: usize = 256;

/// Eleven retries, each wait counted from the attempt before: 173,040 s in all,
/// the "little over 48 hours" of the documentation.
const RETRY_SCHEDULE: &str = "60s, 180s, 300s, 600s, 900s, 1800s, 1h, 2h, 6h, 14h, 24h";

const SETTINGS_SCHEMA: &str = concat!(
    r#"{
  "type": "object",
  "properties": {
    "store_id": {
      "description": "outbound: the store's id, digits; else the event's attribute storeid",
      "type": "string", "pattern": "^[0-9]+$"
    },
    "store_hash": {
      "description": "outbound: the store's hash, for producer",
      "type": "string", "pattern": "^[0-9A-Za-z._-]+$"
    },
    "headers": "#,
    custom_headers_schema!(),
    r#"
  },
  "additionalProperties": false
}"#
);

#[derive(Deserialize)]
struct Settings {
    store_id: Option<String>,
    store_hash: Option<String>,
    #[serde(default)]
    headers: CustomHeaders,
}

struct BigcommerceB2b {
    store: Option<Store>,
    headers: CustomHeaders,
}

/// The store that an envelope comes from.
struct Store {
    /// None where each event says it.
    id: Option<String>,
    /// `stores/` and its hash.
    producer: String,
}

impl Plugin for BigcommerceB2b {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "receives and sends BigCommerce B2B Edition's webhooks",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .optional_secret(
            SIGNATURE.secret,
            Encoding::Text,
            "the client secret of the API account that made the webhook",
        )
        .custom_header_secrets()
        .event_types(&SCOPES)
        .event_types(&TOLD)
        .policy("types.unknown", "refuse")
        .policy("endpoint.https_only", "true")
        .policy("endpoint.port", "443")
        .policy("endpoint.disable_when_exhausted", "true")
        .policy("retry.schedule", RETRY_SCHEDULE)
        // Judged from the hundredth request in two minutes: below 90 % the domain rests.
        .policy("breaker.window", "2m")
        .policy("breaker.requests", "100")
        .policy("breaker.success_ratio", "0.9")
        .policy("breaker.rest", "3m")
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let mut problems = settings.headers.problems(&SIGNATURE_HEADERS);
        let store = match (settings.store_id, settings.store_hash) {
            (id, Some(hash)) => Some(Store { id, producer: format!("stores/{hash}") }),
            (None, None) => None,
            (Some(_), None) => {
                problems.push(Problem::at("/store_hash", "is missing: store_id goes with it"));
                None
            }
        };
        if problems.is_empty() {
            Ok(Self { store, headers: settings.headers })
        } else {
            Err(problems)
        }
    }
}

impl Source for BigcommerceB2b {
    /// Whatever the source has keys for must be right; with none, all is taken.
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        if secrets::has(SIGNATURE.secret) {
            SIGNATURE.verify(request)?;
        }
        self.headers.verify(request)
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        request.require_json()?;
        let scope = request.required_text("/scope")?;
        let subject = SUBJECTS.iter().find_map(|pointer| request.id_at(pointer));
        let created_at = request.field("/created_at");
        let duplicate_key = duplicate_key(request, &scope, subject.as_deref());
        Ok(vec![Received {
            subject,
            time: created_at.and_then(|it| it.parse::<u64>().ok()?.checked_mul(1000)),
            duplicate_key,
            ..Received::unchanged(scope)
        }])
    }
}

impl Transform for BigcommerceB2b {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        let scope = event.type_();
        if !SCOPES.contains(&scope.as_str()) {
            if event.source() == ENGINE {
                return self.exception(event, &scope);
            }
            return Err(Failure::unknown_type("BigCommerce B2B Edition", &scope));
        }
        let [data, of_its_own @ ..] = event.fields_at(["", "/scope", "/store_id", "/data"]);
        if is_envelope(of_its_own, &scope) {
            return Ok(Message::unchanged());
        }
        self.envelope(event, &scope, &data.ok_or_else(Failure::not_json)?)
    }
}

impl BigcommerceB2b {
    fn envelope(&self, event: &Event, scope: &str, data: &str) -> Result<Message, Failure> {
        let Some(store) = &self.store else {
            let message =
                "an envelope names its store: set store_hash, and store_id if it is known";
            return Err(Failure::retry("settings", message));
        };
        let mut envelope = Object::with_room(data.len() + ENVELOPE_BYTES).text("scope", scope);
        if let Some(id) = store.id.clone().or_else(|| event.attribute("storeid")) {
            envelope = envelope.text("store_id", &id);
        }
        let envelope = envelope
            .json("data", data)
            .text("hash", &hash(event))
            .json("created_at", &(event.time() / 1000).to_string())
            .text("producer", &store.producer);
        Ok(Message::json(envelope.finish()))
    }

    /// What the engine tells of one hook, to the hook that hears of exceptions.
    fn exception(&self, event: &Event, told: &str) -> Result<Message, Failure> {
        let at = TOLD.iter().position(|it| *it == told);
        let (code, message) = at
            .map(|it| EXCEPTIONS[it])
            .ok_or_else(|| Failure::unknown_type("BigCommerce B2B Edition", told))?;
        let hook = event
            .field("/subscription/number")
            .ok_or_else(|| Failure::reject("no-hook", "what the engine tells is about no hook"))?;
        let data = Object::new()
            .text("type", "webhook")
            .json("id", &hook)
            .json("error_code", &code.to_string())
            .text("message", message);
        self.envelope(event, EXCEPTION, &data.finish())
    }
}

impl AuthRules for BigcommerceB2b {
    fn rules(&self) -> Option<Vec<Rule>> {
        let signature = SIGNATURE.rules().into_iter().map(|it| it.needing(SIGNATURE.secret));
        Some(self.headers.rules().chain(signature).collect())
    }
}

/// The hash is documented as what duplicates have in common, and as the SHA-1 of
/// the data. Taken at its word, two updates of one company would share it, and
/// the second would be lost; so what tells them apart is in the key as well. A
/// key too many costs a second delivery, a key too few costs the event.
fn duplicate_key(request: &Inbound, scope: &str, subject: Option<&str>) -> Option<String> {
    let hash = request.text("/hash")?;
    let created_at = request.field("/created_at").unwrap_or_default();
    Some(format!("{scope} {} {created_at} {hash}", subject.unwrap_or_default()))
}

/// The data has what an envelope has, and its scope is the event's type.
fn is_envelope([said, store_id, data]: [Option<String>; 3], scope: &str) -> bool {
    said.and_then(|it| json::text(&it)).is_some_and(|it| it == scope)
        && store_id.is_some_and(|it| it.starts_with('"'))
        && data.is_some()
}

/// Forty hexadecimal digits, the same at every attempt and for no other event.
/// What BigCommerce feeds to SHA-1 is not known; the event's id serves receivers
/// that remember hashes, and two updates of one company stay two.
fn hash(event: &Event) -> String {
    hex::encode(sha1_smol::Sha1::from(event.id()).digest().bytes())
}

export!(BigcommerceB2b: source, transform, auth_rules, webhook_api);
