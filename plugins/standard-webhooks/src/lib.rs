//! Standard Webhooks, v1 (HMAC-SHA256) and v1a (Ed25519), in both directions.
//!
//! As a source it takes any body; the event type is the JSON field `type` that
//! the specification asks for or, failing that, the rest of the path.

use plugpost_plugin::rules::Rule;
use plugpost_plugin::standard_webhooks::{Headers, Scheme, TOLERANCE_S};
use plugpost_plugin::{
    AuthRules, Description, Encoding, Inbound, Plugin, Problem, Received, Rejection, Source, export,
};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "header_prefix": {
      "description": "what stands before -id, -timestamp and -signature",
      "enum": ["webhook", "svix"],
      "default": "webhook"
    },
    "tolerance_s": {
      "description": "how far the sender's clock may be off, in seconds",
      "type": "integer", "minimum": 1, "maximum": 86400, "default": 300
    }
  },
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    header_prefix: Prefix,
    tolerance_s: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Prefix {
    Webhook,
    Svix,
}

impl Default for Settings {
    fn default() -> Self {
        Self { header_prefix: Prefix::Webhook, tolerance_s: TOLERANCE_S }
    }
}

struct StandardWebhooks(Settings);

impl StandardWebhooks {
    fn scheme(&self) -> Scheme<'static> {
        Scheme {
            headers: match self.0.header_prefix {
                Prefix::Webhook => Headers::WEBHOOK,
                Prefix::Svix => Headers::SVIX,
            },
            secret: "key",
            tolerance_s: self.0.tolerance_s,
        }
    }
}

impl Plugin for StandardWebhooks {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "signs and verifies as Standard Webhooks does, v1 and v1a",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .required_secret(
            "key",
            Encoding::StandardWebhooks,
            "whsec_… for v1; whsk_… to sign, whpk_… to verify v1a",
        )
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        Ok(Self(settings))
    }
}

impl Source for StandardWebhooks {
    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        // Verified here and not in `verify`: the id that was signed is the duplicate key.
        let id = self.scheme().verify(request)?;
        let event_type =
            request.event_type_in_path().or_else(|| request.text("/type")).ok_or_else(|| {
                Rejection::malformed("no event type: neither in the path nor as the field type")
            })?;
        Ok(vec![Received { duplicate_key: Some(id), ..Received::unchanged(event_type) }])
    }
}

impl AuthRules for StandardWebhooks {
    fn rules(&self) -> Option<Vec<Rule>> {
        Some(self.scheme().rules())
    }
}

export!(StandardWebhooks: source, auth_rules);
