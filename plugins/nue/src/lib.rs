//! Nue: the resource an event is about, with all that hangs on it, and no
//! envelope: neither the event's name nor its id or time is in the body.
//!
//! Nue documents no signature, no secret and no header. A shared secret in a
//! header can be checked all the same, if something before the source adds it.
//! JSON that Nue keeps in strings stays in them. Source: docs.nue.io, "Webhooks".

use plugpost_plugin::credentials::{Credential, header_name_problem};
use plugpost_plugin::rules::Rule;
use plugpost_plugin::{
    AuthRules, Description, Encoding, Event, Failure, Inbound, Message, Plugin, Problem, Received,
    Rejection, Source, Transform, export,
};
use serde::Deserialize;

/// What the documentation lists. Its newer edition names more, so others pass too.
const EVENTS: [&str; 25] = [
    "order.created",
    "order.activated",
    "order.canceled",
    "invoice.created",
    "invoice.activated",
    "invoice.canceled",
    "invoice.payment_processed",
    "invoice.refund_processed",
    "invoice.paid",
    "invoice.refunded",
    "invoice.written_off",
    "credit_memo.created",
    "credit_memo.activated",
    "credit_memo.canceled",
    "credit_memo.applied",
    "credit_memo.unapplied",
    "billing_job.completed",
    "billing_job.completed_with_error",
    "billing_job.failed",
    "price_tag.created",
    "price_tag.updated",
    "price_tag.deleted",
    "price_tier.created",
    "price_tier.updated",
    "price_tier.deleted",
];

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "header": {
      "description": "the header that carries the secret shared, where there is one",
      "type": "string",
      "default": "x-nue-secret"
    }
  },
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    header: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { header: "x-nue-secret".into() }
    }
}

struct Nue(Settings);

impl Nue {
    fn shared(&self) -> Credential<'_> {
        Credential::Secret { header: &self.0.header, prefix: "", secret: "shared" }
    }
}

impl Plugin for Nue {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "receives and sends Nue's webhooks",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .optional_secret("shared", Encoding::Text, "a secret in a header; not Nue's own doing")
        .event_types(&EVENTS)
        .policy("types.unknown", "allow")
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        match header_name_problem("/header", &settings.header) {
            Some(problem) => Err(vec![problem]),
            None => Ok(Self(settings)),
        }
    }
}

impl Source for Nue {
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        let shared = self.shared();
        if shared.is_given() { shared.verify(request) } else { Ok(()) }
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        request.require_json()?;
        let event_type = match request.event_type_in_path() {
            Some(event_type) => event_type,
            None => event_type_of_resource(request)?,
        };
        let subject = request.id_at(&subject_pointer(&event_type));
        // No duplicate key: Nue's Resend sends the same content as a new event.
        Ok(vec![Received { subject, ..Received::unchanged(event_type) }])
    }
}

impl Transform for Nue {
    fn apply(&self, _: &Event) -> Result<Message, Failure> {
        Ok(Message::unchanged())
    }
}

impl AuthRules for Nue {
    fn rules(&self) -> Option<Vec<Rule>> {
        Some(vec![self.shared().rule().needing("shared")])
    }
}

/// The one event whose body is published is `order.activated`, and it shows an
/// order whose status says so. Nothing else is told from a body.
fn event_type_of_resource(request: &Inbound) -> Result<String, Rejection> {
    match request.text("/order/status").as_deref() {
        Some("Activated") => Ok("order.activated".into()),
        _ => Err(Rejection::malformed(
            "no event type: Nue's body does not name one; register a URL for each event, ending \
             in /invoice.activated and the like",
        )),
    }
}

/// Where the id of the resource is: `/order/id` for `order.activated`, as
/// published; by analogy, with Nue's spelling of keys, `/creditMemo/id` for
/// `credit_memo.applied`.
fn subject_pointer(event_type: &str) -> String {
    let resource = event_type.split('.').next().unwrap_or_default();
    let mut pointer = "/".to_owned();
    for (index, word) in resource.split('_').enumerate() {
        match word.chars().next() {
            Some(first) if index > 0 => {
                pointer.push(first.to_ascii_uppercase());
                pointer.extend(word.chars().skip(1));
            }
            _ => pointer.push_str(word),
        }
    }
    pointer + "/id"
}

export!(Nue: source, transform, auth_rules);
