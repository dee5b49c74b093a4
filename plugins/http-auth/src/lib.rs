//! The credentials that HTTP and most platforms know: Basic, a bearer token, or
//! a secret in a header of its own. Checked on the way in, added on the way out.
//!
//! It reads no body and shapes none: as a source, it takes the event type from
//! the path or from its settings.

use plugpost_plugin::credentials::{Credential, header_name_problem, username_problem};
use plugpost_plugin::rules::Rule;
use plugpost_plugin::{
    AuthRules, Description, Encoding, Inbound, Plugin, Problem, Received, Rejection, Source, export,
};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "scheme": {
      "description": "authorization: Basic, authorization: Bearer, or a header of its own",
      "enum": ["basic", "bearer", "header"]
    },
    "username": {
      "description": "for basic: the user name; the secret is the password",
      "type": "string"
    },
    "header": {
      "description": "for header: its name; the secret is its whole value",
      "type": "string"
    },
    "event_type": {
      "description": "inbound: the event type of requests whose path does not say one",
      "type": "string", "minLength": 1
    }
  },
  "required": ["scheme"],
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
struct Settings {
    scheme: Scheme,
    username: Option<String>,
    header: Option<String>,
    event_type: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Basic,
    Bearer,
    Header,
}

struct HttpAuth {
    way: Way,
    event_type: Option<String>,
}

/// A scheme with what it needs.
enum Way {
    Basic { username: String },
    Bearer,
    Header { name: String },
}

impl HttpAuth {
    fn credential(&self) -> Credential<'_> {
        let secret = "secret";
        match &self.way {
            Way::Basic { username } => Credential::Basic { username, password: secret },
            Way::Bearer => {
                Credential::Secret { header: "authorization", prefix: "Bearer ", secret }
            }
            Way::Header { name } => Credential::Secret { header: name, prefix: "", secret },
        }
    }
}

impl Plugin for HttpAuth {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "checks and adds Basic, bearer and static-header credentials",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .required_secret(
            "secret",
            Encoding::Text,
            "the password, the token or the header's value",
        )
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let Settings { scheme, username, header, event_type } = settings;
        let mut problems = Vec::new();
        if username.is_some() && !matches!(scheme, Scheme::Basic) {
            problems.push(Problem::at("/username", "is for the scheme basic only"));
        }
        if header.is_some() && !matches!(scheme, Scheme::Header) {
            problems.push(Problem::at("/header", "is for the scheme header only"));
        }
        let way = match (scheme, username, header) {
            (Scheme::Basic, Some(username), _) => {
                problems.extend(username_problem("/username", &username));
                Some(Way::Basic { username })
            }
            (Scheme::Basic, None, _) => {
                problems.push(Problem::at("/username", "is missing: the scheme basic needs it"));
                None
            }
            (Scheme::Bearer, ..) => Some(Way::Bearer),
            (Scheme::Header, _, Some(name)) => {
                problems.extend(header_name_problem("/header", &name));
                Some(Way::Header { name })
            }
            (Scheme::Header, _, None) => {
                problems.push(Problem::at("/header", "is missing: the scheme header needs it"));
                None
            }
        };
        match way {
            Some(way) if problems.is_empty() => Ok(Self { way, event_type }),
            _ => Err(problems),
        }
    }
}

impl Source for HttpAuth {
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        self.credential().verify(request)
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        let event_type =
            request.event_type_in_path().or_else(|| self.event_type.clone()).ok_or_else(|| {
                Rejection::malformed("no event type: neither in the path nor in the settings")
            })?;
        Ok(vec![Received::unchanged(event_type)])
    }
}

impl AuthRules for HttpAuth {
    fn rules(&self) -> Option<Vec<Rule>> {
        Some(vec![self.credential().rule()])
    }
}

export!(HttpAuth: source, auth_rules);
