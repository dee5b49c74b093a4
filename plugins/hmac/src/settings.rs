//! What a user can set, and the schemes that are nothing but such settings.

use plugpost_plugin::Problem;
use plugpost_plugin::credentials::header_name_problem;
use plugpost_plugin::places::{Decoding, Place};
use serde::Deserialize;

use crate::template::{Piece, Template};

pub(crate) const SCHEMA: &str = concat!(
    r#"{
  "type": "object",
  "properties": {
    "scheme": {
      "description": "settings of a platform to begin with; each can be set otherwise beside it",
      "enum": ["github", "hubspot", "intuit", "shopify", "slack", "stripe", "twilio", "xero"]
    },
    "header": {
      "description": "the header that holds the signature",
      "type": "string"
    },
    "algorithm": {
      "enum": ["sha1", "sha256", "sha512"],
      "default": "sha256"
    },
    "encoding": {
      "description": "how the signature is written",
      "enum": ["hex", "base64"],
      "default": "hex"
    },
    "prefix": {
      "description": "what stands before the signature, such as sha256=",
      "type": "string", "maxLength": 64, "default": ""
    },
    "separator": {
      "description": "what stands between several signatures in the header; without it, there is one",
      "type": "string", "minLength": 1, "maxLength": 8
    },
    "signature_field": {
      "description": "the header is a list such as t=1,v1=ab: the name before each signature",
      "type": "string", "pattern": "^[0-9A-Za-z_-]+$"
    },
    "timestamp_field": {
      "description": "the header is such a list: the name before the timestamp",
      "type": "string", "pattern": "^[0-9A-Za-z_-]+$"
    },
    "timestamp_header": {
      "description": "the header that holds the timestamp",
      "type": "string"
    },
    "timestamp_unit": {
      "description": "seconds or milliseconds since 1970",
      "enum": ["s", "ms"],
      "default": "s"
    },
    "tolerance_s": {
      "description": "how far the sender's clock may be off, in seconds, in either direction",
      "type": "integer", "minimum": 1, "maximum": 86400, "default": 300
    },
    "signed": {
      "description": "what is signed: text with {body}, {timestamp}, {method}, {url}, {path}, {query}, {form}, {header:NAME}",
      "type": "string", "maxLength": 1024, "default": "{body}"
    },
    "url": {
      "description": "inbound: the URL of this source as the sender knows it, where the URL is signed",
      "type": "string", "pattern": "^https?://[!-~]+$"
    },
    "body_digest_parameter": {
      "description": "with {form}: the parameter of the URL that holds the SHA-256 of a body that is no form",
      "type": "string", "minLength": 1
    },"#,
    plugpost_plugin::decoding_schema!(),
    r#"
  },
  "additionalProperties": false
}"#
);

/// The settings as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    scheme: Option<String>,
    header: Option<String>,
    algorithm: Option<String>,
    encoding: Option<Encoding>,
    prefix: Option<String>,
    separator: Option<String>,
    signature_field: Option<String>,
    timestamp_field: Option<String>,
    timestamp_header: Option<String>,
    timestamp_unit: Option<Unit>,
    tolerance_s: Option<u64>,
    signed: Option<String>,
    url: Option<String>,
    body_digest_parameter: Option<String>,
    event_type_at: Option<Place>,
    event_type: Option<String>,
    subject_at: Option<Place>,
    duplicate_key_at: Option<Place>,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Hex,
    Base64,
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    S,
    Ms,
}

/// The schemes: what their platforms document, and nothing else.
const SCHEMES: [(&str, &str); 8] = [
    (
        "github",
        r#"{"header": "X-Hub-Signature-256", "prefix": "sha256=",
            "event_type_at": "X-GitHub-Event", "duplicate_key_at": "X-GitHub-Delivery"}"#,
    ),
    (
        "hubspot",
        r#"{"header": "X-HubSpot-Signature-v3", "encoding": "base64",
            "signed": "{method}{url}{body}{timestamp}",
            "timestamp_header": "X-HubSpot-Request-Timestamp", "timestamp_unit": "ms"}"#,
    ),
    ("intuit", r#"{"header": "intuit-signature", "encoding": "base64"}"#),
    (
        "shopify",
        r#"{"header": "X-Shopify-Hmac-SHA256", "encoding": "base64",
            "event_type_at": "X-Shopify-Topic", "duplicate_key_at": "X-Shopify-Webhook-Id"}"#,
    ),
    (
        "slack",
        r#"{"header": "X-Slack-Signature", "prefix": "v0=", "signed": "v0:{timestamp}:{body}",
            "timestamp_header": "X-Slack-Request-Timestamp"}"#,
    ),
    (
        "stripe",
        r#"{"header": "Stripe-Signature", "signature_field": "v1", "timestamp_field": "t",
            "signed": "{timestamp}.{body}", "event_type_at": "/type", "duplicate_key_at": "/id"}"#,
    ),
    (
        "twilio",
        r#"{"header": "X-Twilio-Signature", "algorithm": "sha1", "encoding": "base64",
            "signed": "{url}{form}", "body_digest_parameter": "bodySHA256"}"#,
    ),
    ("xero", r#"{"header": "x-xero-signature", "encoding": "base64"}"#),
];

/// The settings, checked.
#[derive(Debug)]
pub(crate) struct Scheme {
    pub(crate) header: String,
    pub(crate) algorithm: String,
    pub(crate) encoding: Encoding,
    pub(crate) prefix: String,
    pub(crate) layout: Layout,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) signed: Template,
    pub(crate) url: Option<String>,
    pub(crate) body_digest_parameter: Option<String>,
    pub(crate) decoding: Decoding,
}

/// How signatures stand in their header.
#[derive(Debug, PartialEq)]
pub(crate) enum Layout {
    /// One, and nothing else.
    One,
    /// Several, with this between them.
    List { separator: String },
    /// `name=value` pairs with commas between them.
    Fields { signature: String, timestamp: Option<String> },
}

/// A timestamp that is signed.
#[derive(Debug)]
pub(crate) struct Timestamp {
    /// Its header; none when it stands among the fields of the signature's.
    pub(crate) header: Option<String>,
    pub(crate) unit: Unit,
    pub(crate) tolerance_s: u64,
}

impl Unit {
    /// How many of it a millisecond's count has.
    pub(crate) fn in_ms(self) -> u64 {
        match self {
            Self::S => 1000,
            Self::Ms => 1,
        }
    }
}

impl Settings {
    /// These settings, and where one is missing that of the scheme they name.
    fn or_of_its_scheme(self) -> Result<Self, Problem> {
        let Some(name) = self.scheme.clone() else { return Ok(self) };
        let unknown = || Problem::at("/scheme", format!("there is no scheme `{name}`"));
        let (_, json) = SCHEMES.iter().find(|(it, _)| *it == name).ok_or_else(unknown)?;
        let preset: Self = serde_json::from_str(json).map_err(|_| unknown())?;
        Ok(Self {
            scheme: self.scheme,
            header: self.header.or(preset.header),
            algorithm: self.algorithm.or(preset.algorithm),
            encoding: self.encoding.or(preset.encoding),
            prefix: self.prefix.or(preset.prefix),
            separator: self.separator.or(preset.separator),
            signature_field: self.signature_field.or(preset.signature_field),
            timestamp_field: self.timestamp_field.or(preset.timestamp_field),
            timestamp_header: self.timestamp_header.or(preset.timestamp_header),
            timestamp_unit: self.timestamp_unit.or(preset.timestamp_unit),
            tolerance_s: self.tolerance_s.or(preset.tolerance_s),
            signed: self.signed.or(preset.signed),
            url: self.url.or(preset.url),
            body_digest_parameter: self.body_digest_parameter.or(preset.body_digest_parameter),
            event_type_at: self.event_type_at.or(preset.event_type_at),
            event_type: self.event_type.or(preset.event_type),
            subject_at: self.subject_at.or(preset.subject_at),
            duplicate_key_at: self.duplicate_key_at.or(preset.duplicate_key_at),
        })
    }

    /// The settings checked, or everything that is wrong with them.
    pub(crate) fn check(self) -> Result<Scheme, Vec<Problem>> {
        let settings = self.or_of_its_scheme().map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let decoding = Decoding {
            event_type_at: settings.event_type_at,
            event_type: settings.event_type,
            subject_at: settings.subject_at,
            duplicate_key_at: settings.duplicate_key_at,
        };
        problems.extend(decoding.problems());
        match &settings.header {
            Some(name) => problems.extend(header_name_problem("/header", name)),
            None => problems.push(Problem::at("/header", "is missing: set it, or a scheme")),
        }
        if let Some(name) = &settings.timestamp_header {
            problems.extend(header_name_problem("/timestamp_header", name));
        }
        let text = settings.signed.as_deref().unwrap_or("{body}");
        let signed = Template::parse(text)
            .map_err(|message| problems.push(Problem::at("/signed", message)))
            .ok();

        let layout = match (settings.signature_field, settings.separator) {
            (Some(signature), None) => {
                Layout::Fields { signature, timestamp: settings.timestamp_field.clone() }
            }
            (Some(_), Some(_)) => {
                let message = "does not go with signature_field: fields are separated by commas";
                problems.push(Problem::at("/separator", message));
                Layout::One
            }
            (None, separator) => {
                if settings.timestamp_field.is_some() {
                    let message = "goes with signature_field only";
                    problems.push(Problem::at("/timestamp_field", message));
                }
                separator.map_or(Layout::One, |separator| Layout::List { separator })
            }
        };
        if let (Some(_), Some(_)) = (&settings.timestamp_header, &settings.timestamp_field) {
            let message = "does not go with timestamp_field: there is one timestamp";
            problems.push(Problem::at("/timestamp_header", message));
        }
        let has_timestamp =
            settings.timestamp_header.is_some() || settings.timestamp_field.is_some();
        if let Some(signed) = &signed {
            if signed.has(&Piece::Timestamp) && !has_timestamp {
                let message = "has {timestamp}, so timestamp_header or timestamp_field is needed";
                problems.push(Problem::at("/signed", message));
            }
            if !signed.has(&Piece::Timestamp) && has_timestamp {
                let message =
                    "lacks {timestamp}: anyone could change a timestamp that is not signed";
                problems.push(Problem::at("/signed", message));
            }
            if !signed.has(&Piece::Form) && settings.body_digest_parameter.is_some() {
                let message = "goes with {form} in signed only";
                problems.push(Problem::at("/body_digest_parameter", message));
            }
        }
        let timestamp = has_timestamp.then(|| Timestamp {
            header: settings.timestamp_header,
            unit: settings.timestamp_unit.unwrap_or(Unit::S),
            tolerance_s: settings.tolerance_s.unwrap_or(300),
        });
        match (signed, settings.header) {
            (Some(signed), Some(header)) if problems.is_empty() => Ok(Scheme {
                header,
                algorithm: settings.algorithm.unwrap_or_else(|| "sha256".into()),
                encoding: settings.encoding.unwrap_or(Encoding::Hex),
                prefix: settings.prefix.unwrap_or_default(),
                layout,
                timestamp,
                signed,
                url: settings.url,
                body_digest_parameter: settings.body_digest_parameter,
                decoding,
            }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Scheme, Vec<(String, String)>> {
        let settings: Settings = serde_json::from_str(json).expect("the test's own JSON");
        let pair = |it: Problem| (it.pointer, it.message);
        settings.check().map_err(|problems| problems.into_iter().map(pair).collect())
    }

    #[test]
    fn the_schema_is_json_and_knows_every_scheme() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
        let names: Vec<_> = SCHEMES.iter().map(|(name, _)| *name).collect();
        assert_eq!(schema["properties"]["scheme"]["enum"], serde_json::json!(names));
    }

    #[test]
    fn every_scheme_is_sound_and_needs_nothing_else() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
        for (name, json) in SCHEMES {
            check(&format!(r#"{{"scheme": "{name}"}}"#)).expect(name);
            let preset: serde_json::Value = serde_json::from_str(json).expect(name);
            for key in preset.as_object().expect("an object").keys() {
                assert!(schema["properties"].get(key).is_some(), "{name}: {key}");
            }
        }
    }

    #[test]
    fn what_is_set_goes_before_the_scheme() {
        let scheme = check(r#"{"scheme": "stripe", "header": "X-Pay", "tolerance_s": 30}"#);
        let scheme = scheme.expect("sound");
        assert_eq!(scheme.header, "X-Pay");
        assert_eq!(scheme.timestamp.map(|it| it.tolerance_s), Some(30));
        let timestamp = Some("t".to_owned());
        assert_eq!(scheme.layout, Layout::Fields { signature: "v1".into(), timestamp });
    }

    #[test]
    fn settings_that_contradict_are_told() {
        for (json, pointer) in [
            ("{}", "/header"),
            (r#"{"header": "a b"}"#, "/header"),
            (r#"{"header": "Host"}"#, "/header"),
            (r#"{"header": "x", "signed": "{bdy}"}"#, "/signed"),
            (r#"{"header": "x", "signed": "{timestamp}{body}"}"#, "/signed"),
            (r#"{"header": "x", "timestamp_header": "t"}"#, "/signed"),
            (
                r#"{"header": "x", "timestamp_field": "t", "signed": "{timestamp}{body}"}"#,
                "/timestamp_field",
            ),
            (r#"{"scheme": "stripe", "separator": ";"}"#, "/separator"),
            (r#"{"scheme": "stripe", "timestamp_header": "t"}"#, "/timestamp_header"),
            (r#"{"header": "x", "body_digest_parameter": "d"}"#, "/body_digest_parameter"),
            (r#"{"header": "x", "event_type_at": "$.a"}"#, "/event_type_at"),
        ] {
            let problems = check(json).expect_err(json);
            assert!(problems.iter().any(|(it, _)| it == pointer), "{json}: {problems:?}");
        }
    }
}
