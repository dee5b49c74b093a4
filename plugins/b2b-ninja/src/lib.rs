//! B2B Ninja (QuoteNinja): a POST per quote event and, if the account sets one,
//! a shared secret in the header `qn-secret`.
//!
//! The platform publishes six labels and no body, so nothing here depends on
//! one: the event type is told by the URL, of which each event has its own, and
//! the body goes on as it came. Source: "Webhooks Used in the B2B Ninja API",
//! help.b2bninja.com.

use plugpost_plugin::credentials::Credential;
use plugpost_plugin::rules::Rule;
use plugpost_plugin::{
    AuthRules, Description, Encoding, Event, Failure, Inbound, Message, NoSettings, Plugin,
    Problem, Received, Rejection, Source, Transform, export,
};

/// What follows `/in/{source}` and the event type it stands for. The platform's
/// labels are "Quote - Created" and so on; both columns are ours.
const EVENTS: [(&str, &str); 6] = [
    ("/quote-created", "quote.created"),
    ("/quote-sent", "quote.sent"),
    ("/quote-email-added", "quote.email_added"),
    ("/quote-tagged", "quote.tagged"),
    ("/quote-tag-removed", "quote.tag_removed"),
    ("/quote-order-placed", "quote.order_placed"),
];

const QN_SECRET: Credential<'_> =
    Credential::Secret { header: "qn-secret", prefix: "", secret: "shared" };

struct B2bNinja;

impl Plugin for B2bNinja {
    type Settings = NoSettings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "receives and sends B2B Ninja's quote events",
        )
        .optional_secret("shared", Encoding::Text, "the secret of the API settings, in qn-secret")
        .event_types(&EVENTS.map(|(_, event_type)| event_type))
        .policy("endpoint.https_only", "true")
    }

    fn new(_: NoSettings) -> Result<Self, Vec<Problem>> {
        Ok(Self)
    }
}

impl Source for B2bNinja {
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        if QN_SECRET.is_given() { QN_SECRET.verify(request) } else { Ok(()) }
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        let path = request.path();
        let (_, event_type) =
            EVENTS.into_iter().find(|(known, _)| *known == path).ok_or_else(|| {
                let paths = EVENTS.map(|(path, _)| path).join(", ");
                Rejection::malformed(format!("the path says no event; it is one of {paths}"))
            })?;
        // Where the platform's REST API has the quote's id. Whether a webhook has
        // it there too is not published, so its absence is no fault.
        let subject = request.id_at("/quote_id");
        Ok(vec![Received { subject, ..Received::unchanged(event_type) }])
    }
}

impl Transform for B2bNinja {
    fn apply(&self, _: &Event) -> Result<Message, Failure> {
        Ok(Message::unchanged())
    }
}

impl AuthRules for B2bNinja {
    fn rules(&self) -> Option<Vec<Rule>> {
        Some(vec![QN_SECRET.rule().needing("shared")])
    }
}

export!(B2bNinja: source, transform, auth_rules);
