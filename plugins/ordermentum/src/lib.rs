//! Ordermentum: an envelope of event, timestamp and data, sent with Basic
//! authentication, custom headers, both or neither.
//!
//! One body is published, that of `order_created`; of the others only the
//! envelope is taken for granted. No signature is documented, and none is made
//! up. Source: docs.ordermentum.io, "Registering Webhooks for Order Events".

mod api;

use plugpost_plugin::credentials::{Credential, CustomHeaders, username_problem};
use plugpost_plugin::json::{self, Object};
use plugpost_plugin::rules::Rule;
use plugpost_plugin::{
    AuthRules, Description, Encoding, Event, Failure, Inbound, Message, Plugin, Problem, Received,
    Rejection, Source, Transform, custom_headers_schema, export, rfc3339,
};
use serde::Deserialize;

const EVENTS: [&str; 10] = [
    "order_created",
    "order_updated",
    "purchaser_created",
    "purchaser_updated",
    "invoice_created",
    "invoice_updated",
    "credit_note_created",
    "credit_note_updated",
    "credit_note_completed",
    "credit_note_cancelled",
];

/// Three attempts in all, ever further apart: that much is documented. The two
/// waits are not; these are ours.
const RETRY_SCHEDULE: &str = "1m, 10m";

const SETTINGS_SCHEMA: &str = concat!(
    r#"{
  "type": "object",
  "properties": {
    "username": {
      "description": "the user name of Basic authentication; the secret password goes with it",
      "type": "string", "minLength": 1
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
    username: Option<String>,
    #[serde(default)]
    headers: CustomHeaders,
}

struct Ordermentum(Settings);

impl Ordermentum {
    fn basic(&self) -> Option<Credential<'_>> {
        let username = self.0.username.as_deref()?;
        Some(Credential::Basic { username, password: "password" })
    }
}

impl Plugin for Ordermentum {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "receives and sends Ordermentum's webhooks",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .optional_secret("password", Encoding::Text, "the password of Basic authentication")
        .custom_header_secrets()
        .event_types(&EVENTS)
        .policy("types.unknown", "refuse")
        .policy("retry.schedule", RETRY_SCHEDULE)
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        // Which of the two Ordermentum sends when both set it is not documented.
        let taken: &[_] = if settings.username.is_some() { &["authorization"] } else { &[] };
        let mut problems = settings.headers.problems(taken);
        let username = settings.username.as_deref();
        problems.extend(username.and_then(|it| username_problem("/username", it)));
        if problems.is_empty() { Ok(Self(settings)) } else { Err(problems) }
    }
}

impl Source for Ordermentum {
    /// Whatever the settings name must be right; where they name nothing, all is taken.
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        self.basic().map_or(Ok(()), |it| it.verify(request))?;
        self.0.headers.verify(request)
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        request.require_json()?;
        let event_type = request.required_text("/event")?;
        let subject = request.id_at("/data/id");
        // No event id is published. What was changed, and when, tells two events
        // apart; without either there is no key: rather twice than not at all.
        let duplicate_key = (subject.as_ref().zip(request.text("/data/updatedAt")))
            .map(|(id, updated_at)| format!("{event_type} {id} {updated_at}"));
        Ok(vec![Received {
            subject,
            time: request.text("/timestamp").and_then(|it| rfc3339::parse(&it)),
            duplicate_key,
            ..Received::unchanged(event_type)
        }])
    }
}

impl Transform for Ordermentum {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        let event_type = event.type_();
        if !EVENTS.contains(&event_type.as_str()) {
            return Err(Failure::unknown_type("Ordermentum", &event_type));
        }
        if is_envelope(event, &event_type) {
            return Ok(Message::unchanged());
        }
        let timestamp = rfc3339::format_seconds(event.time())
            .ok_or_else(|| Failure::reject("time", "the event's time lies past the year 9999"))?;
        let envelope = Object::new()
            .text("event", &event_type)
            .text("timestamp", &timestamp)
            .json("data", &event.json()?);
        Ok(Message::json(envelope.finish()))
    }
}

impl AuthRules for Ordermentum {
    fn rules(&self) -> Option<Vec<Rule>> {
        Some(self.0.headers.rules().chain(self.basic().map(|it| it.rule())).collect())
    }
}

/// True for what Ordermentum itself sent: a relayed event is not wrapped twice.
fn is_envelope(event: &Event, event_type: &str) -> bool {
    let [said, timestamp, data] = event.fields_at(["/event", "/timestamp", "/data"]);
    said.and_then(|it| json::text(&it)).is_some_and(|it| it == event_type)
        && timestamp.is_some_and(|it| it.starts_with('"'))
        && data.is_some()
}

export!(Ordermentum: source, transform, auth_rules, webhook_api);
