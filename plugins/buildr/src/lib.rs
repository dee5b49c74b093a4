//! Buildr: `{id, url}` of what was created or updated, signed as Svix signs.
//!
//! The body names no event, so the URL registered for it does. Buildr's guide
//! says `opportunity.*` where its API reference says `project.*`; here both are
//! one thing. Sources: buildr.dev, "Webhooks" and "Create webhook"; Svix's
//! libraries and documentation for the signature and the retries.

mod api;

use plugpost_plugin::json::{self, Object, quoted};
use plugpost_plugin::rules::Rule;
use plugpost_plugin::standard_webhooks::{Headers, Scheme, TOLERANCE_S};
use plugpost_plugin::{
    AuthRules, Description, Encoding, Event, Failure, Inbound, Message, Plugin, Problem, Received,
    Rejection, Source, Transform, export,
};
use serde::Deserialize;

/// Both spellings. What comes in as `project.*` becomes `opportunity.*`, which
/// is what the guide and its example say; what goes out may be either. The last
/// three are ours: see [`event_type_of_url`].
const EVENTS: [&str; 11] = [
    "contact.create",
    "contact.update",
    "opportunity.create",
    "opportunity.update",
    "project.create",
    "project.update",
    "company.create",
    "company.update",
    "contact.change",
    "opportunity.change",
    "company.change",
];

/// A resource as event types call it, and as the path of its `url` does. Only
/// `opportunities` is published; the others follow it and the REST API.
const RESOURCES: [(&str, &str); 4] = [
    ("contact", "contacts"),
    ("opportunity", "opportunities"),
    ("project", "projects"),
    ("company", "companies"),
];

const SVIX: Scheme<'_> = Scheme { headers: Headers::SVIX, secret: "key", tolerance_s: TOLERANCE_S };

/// What Svix's libraries accept too, for senders under their own brand.
const WHITE_LABEL: Scheme<'_> = Scheme { headers: Headers::WEBHOOK, ..SVIX };

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "base_url": {
      "description": "outbound: what stands before /opportunities/2279 in url where the event has none",
      "type": "string"
    },
    "unsigned": {
      "description": "outbound: true sends without a signature where there is no key",
      "type": "boolean", "default": false
    }
  },
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
struct Settings {
    base_url: Option<String>,
    #[serde(default)]
    unsigned: bool,
}

struct Buildr {
    /// Without a slash at its end.
    base_url: Option<String>,
    /// A webhook registered without a secret is sent without a signature.
    unsigned: bool,
}

impl Plugin for Buildr {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "receives and sends Buildr's webhooks",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .optional_secret(
            SVIX.secret,
            Encoding::StandardWebhooks,
            "the signing secret of the webhook, whsec_…",
        )
        .event_types(&EVENTS)
        .policy("types.unknown", "refuse")
        .policy("endpoint.rate_limit", "60/m")
        .policy("endpoint.timeout", "15s")
        .policy("retry.schedule", "5s, 5m, 30m, 2h, 5h, 10h, 10h")
        .policy("retry.jitter", "0.2")
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let base_url = settings.base_url.map(|it| it.trim_end_matches('/').to_owned());
        let is_url = |it: &String| it.starts_with("https://") || it.starts_with("http://");
        if base_url.as_ref().is_some_and(|it| !is_url(it)) {
            let message = "must start with https:// or http://";
            return Err(vec![Problem::at("/base_url", message)]);
        }
        Ok(Self { base_url, unsigned: settings.unsigned })
    }
}

impl Source for Buildr {
    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        // Verified here and not in `verify`: the id that was signed is the duplicate key.
        let is_white_label =
            request.header("svix-id").is_none() && request.header("webhook-id").is_some();
        let id = if is_white_label { WHITE_LABEL } else { SVIX }.verify(request)?;
        request.require_json()?;
        let event_type = match request.event_type_in_path() {
            Some(event_type) => canonical(event_type),
            None => event_type_of_url(request)?,
        };
        Ok(vec![Received {
            subject: request.id_at("/id"),
            duplicate_key: Some(id),
            ..Received::unchanged(event_type)
        }])
    }
}

impl Transform for Buildr {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        let event_type = event.type_();
        if !EVENTS.contains(&event_type.as_str()) {
            return Err(Failure::unknown_type("Buildr", &event_type));
        }
        let [id, url] = event.fields_at(["/id", "/url"]);
        let text = id.as_deref().and_then(json::id);
        let (id, text) = match id.zip(text) {
            Some(given) => given,
            None => event.subject().map(|it| (number_or_text(&it), it)).ok_or_else(|| {
                Failure::reject("no-id", "the event has neither an id in its data nor a subject")
            })?,
        };
        let url = match url.filter(|it| it.starts_with('"')) {
            Some(url) => url,
            None => quoted(&self.url_of(&event_type, &text)?),
        };
        let body = Object::new().json("id", &id).json("url", &url);
        Ok(Message::json(body.finish()))
    }
}

impl AuthRules for Buildr {
    fn rules(&self) -> Option<Vec<Rule>> {
        let rules = SVIX.rules();
        match self.unsigned {
            true => Some(rules.into_iter().map(|it| it.needing(SVIX.secret)).collect()),
            false => Some(rules),
        }
    }
}

impl Buildr {
    /// Where the resource stands, for an event that does not say.
    fn url_of(&self, event_type: &str, id: &str) -> Result<String, Failure> {
        let base_url = self.base_url.as_deref().ok_or_else(|| {
            Failure::retry("settings", "the event's data has no url: set base_url to make one")
        })?;
        let resource = event_type.split('.').next();
        let (_, collection) = RESOURCES
            .iter()
            .find(|(known, _)| resource == Some(known))
            .ok_or_else(|| Failure::unknown_type("Buildr", event_type))?;
        Ok(format!("{base_url}/{collection}/{}", percent_encoded(id)))
    }
}

/// One spelling for the resource that has two.
fn canonical(event_type: String) -> String {
    match event_type.strip_prefix("project.") {
        Some(action) => format!("opportunity.{action}"),
        None => event_type,
    }
}

/// The event type as far as the body tells it: which resource, but not whether
/// it was created or updated. `change` is our word for "one of the two".
fn event_type_of_url(request: &Inbound) -> Result<String, Rejection> {
    let url = request.text("/url").unwrap_or_default();
    let path = url.split(['?', '#']).next().unwrap_or_default();
    // The last that fits: `/companies/7/opportunities/2279` is an opportunity.
    path.rsplit('/')
        .find_map(|segment| RESOURCES.iter().find(|(_, collection)| *collection == segment))
        .map(|(resource, _)| canonical(format!("{resource}.change")))
        .ok_or_else(|| {
            Rejection::malformed(
                "no event type: Buildr's body does not name one, and its url does not say which \
                 resource it is; register a URL for each event, ending in /opportunity.create \
                 and the like",
            )
        })
}

/// Buildr's own ids are numbers, in a subject as digits. Others stay text.
fn number_or_text(id: &str) -> String {
    let is_number = id.bytes().all(|it| it.is_ascii_digit()) && (id == "0" || !id.starts_with('0'));
    if is_number { id.to_owned() } else { quoted(id) }
}

/// An id as one segment of a path (RFC 3986 §2.3: what is not unreserved is escaped).
fn percent_encoded(id: &str) -> String {
    id.bytes()
        .map(|it| match it {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(it).to_string()
            }
            _ => format!("%{it:02X}"),
        })
        .collect()
}

export!(Buildr: source, transform, auth_rules, webhook_api);
