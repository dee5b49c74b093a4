//! What a plugin says of itself, and how to say it.

use crate::bindings::base::exports::plugpost::plugin::plugin as wit;

/// Who a plugin is: built once, read by the host before any event.
#[derive(Debug)]
pub struct Description(wit::Description);

/// How the text of a secret becomes key bytes.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// Its UTF-8 bytes.
    Text,
    /// Standard base64, with or without padding.
    Base64,
    /// Hexadecimal digits.
    Hex,
    /// `whsec_…` (symmetric), `whsk_…` and `whpk_…` (Ed25519), or plain base64.
    StandardWebhooks,
}

impl Description {
    /// `name` in lower case with hyphens, `version` as in Semantic Versioning,
    /// `summary` one sentence.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self(wit::Description {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            settings_schema: r#"{"type":"object","additionalProperties":false}"#.into(),
            secrets: Vec::new(),
            event_types: Vec::new(),
            policy: Vec::new(),
        })
    }

    /// JSON Schema of the settings. Without it, a plugin takes none.
    pub fn settings_schema(mut self, schema: &str) -> Self {
        self.0.settings_schema = schema.into();
        self
    }

    /// A secret the plugin cannot work without.
    pub fn required_secret(self, name: &str, encoding: Encoding, summary: &str) -> Self {
        self.secret(name, encoding, true, summary)
    }

    /// A secret the plugin uses when it is given.
    pub fn optional_secret(self, name: &str, encoding: Encoding, summary: &str) -> Self {
        self.secret(name, encoding, false, summary)
    }

    /// The event types the plugin knows; a trailing `*` matches the rest.
    pub fn event_types(mut self, types: &[&str]) -> Self {
        self.0.event_types.extend(types.iter().map(|&it| it.into()));
        self
    }

    /// One delivery rule, named as a route file names it: `endpoint.rate_limit`.
    pub fn policy(mut self, key: &str, value: &str) -> Self {
        self.0.policy.push((key.into(), value.into()));
        self
    }

    #[doc(hidden)]
    pub fn into_wit(self) -> wit::Description {
        self.0
    }

    fn secret(mut self, name: &str, encoding: Encoding, required: bool, summary: &str) -> Self {
        let encoding = match encoding {
            Encoding::Text => "text",
            Encoding::Base64 => "base64",
            Encoding::Hex => "hex",
            Encoding::StandardWebhooks => "standard-webhooks",
        };
        self.0.secrets.push(wit::SecretNeed {
            name: name.into(),
            encoding: encoding.into(),
            required,
            summary: summary.into(),
        });
        self
    }
}
