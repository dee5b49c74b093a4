//! Credentials that travel in a header as they are: a shared secret, a bearer
//! token, Basic. Platforms that sign what they send are not here; see
//! [`standard_webhooks`](crate::standard_webhooks).

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

use crate::rules::Rule;
use crate::{Description, Encoding, Inbound, Problem, Rejection, secrets};

/// One header that proves who sent a request. It names its secret; it never
/// holds it.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// The secret itself, after a prefix such as `Bearer `.
    Secret {
        /// The header's name.
        header: &'a str,
        /// What stands before the secret; on the way in its case does not
        /// matter, as RFC 9110 §11.1 asks for the scheme of `authorization`.
        prefix: &'a str,
        /// The name of the secret.
        secret: &'a str,
    },
    /// `authorization: Basic …` (RFC 7617).
    Basic {
        /// The user name.
        username: &'a str,
        /// The name of the secret that is the password.
        password: &'a str,
    },
}

impl Credential<'_> {
    /// True when the route or source gives the secret.
    pub fn is_given(&self) -> bool {
        secrets::has(self.secret())
    }

    /// Refuse a request that does not carry the credential.
    pub fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        let name = self.header_name();
        let value = request
            .header(name)
            .ok_or_else(|| Rejection::unauthorized(format!("the header {name} is missing")))?;
        match self {
            Self::Secret { prefix, secret, .. } => {
                let text = strip_prefix_ignoring_case(&value, prefix).ok_or_else(|| {
                    let scheme = prefix.trim_end();
                    Rejection::unauthorized(format!("the header {name} does not say {scheme}"))
                })?;
                if !matches(secret, text)? {
                    let message = format!("the secret in the header {name} is wrong");
                    return Err(Rejection::unauthorized(message));
                }
            }
            Self::Basic { username, password } => {
                let (sent_username, sent_password) = decode_basic(&value).ok_or_else(|| {
                    Rejection::unauthorized(format!("the header {name} holds no Basic credentials"))
                })?;
                // Both are looked at and one answer is given: it does not say which was wrong.
                let username_fits = sent_username == *username;
                let password_fits = matches(password, &sent_password)?;
                if !(username_fits & password_fits) {
                    return Err(Rejection::unauthorized("the user name or the password is wrong"));
                }
            }
        }
        Ok(())
    }

    /// The header of every outgoing request. The host puts the secret in.
    pub fn rule(&self) -> Rule {
        Rule::from(match self {
            Self::Secret { header, prefix, secret } => secrets::header(header, prefix, secret),
            Self::Basic { username, password } => secrets::basic(username, password),
        })
    }

    fn header_name(&self) -> &str {
        match self {
            Self::Secret { header, .. } => header,
            Self::Basic { .. } => "authorization",
        }
    }

    fn secret(&self) -> &str {
        match self {
            Self::Secret { secret, .. } => secret,
            Self::Basic { password, .. } => password,
        }
    }
}

/// The setting `headers` of platforms that send what headers their users like:
/// a header's name → the name of the secret that is its whole value.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct CustomHeaders(BTreeMap<String, String>);

/// The names a [`CustomHeaders`] secret can have. A plugin declares its secrets
/// before it sees any settings, so there is a fixed number of them.
const CUSTOM_HEADER_SECRETS: [&str; 4] = ["header_1", "header_2", "header_3", "header_4"];

/// JSON Schema of [`CustomHeaders`], to be `concat!`ed into the plugin's own.
#[macro_export]
macro_rules! custom_headers_schema {
    () => {
        r#"{
      "description": "header name to the name of the secret that is its whole value",
      "type": "object",
      "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
      "additionalProperties": {"enum": ["header_1", "header_2", "header_3", "header_4"]},
      "maxProperties": 4,
      "default": {}
    }"#
    };
}

impl CustomHeaders {
    /// What is wrong with them. `taken` are the headers, in lower case, that
    /// the plugin sets itself.
    pub fn problems(&self, taken: &[&str]) -> Vec<Problem> {
        let mut seen = Vec::new();
        let mut problems = Vec::new();
        for name in self.0.keys() {
            let lower = name.to_ascii_lowercase();
            // RFC 6901 §3: `~` and `/` are escaped.
            let pointer = format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
            if taken.contains(&lower.as_str()) {
                let message = "is a header that this plugin's other settings set";
                problems.push(Problem::at(&pointer, message));
            } else if seen.contains(&lower) {
                let message = "is given twice: the case of a header's name does not matter";
                problems.push(Problem::at(&pointer, message));
            } else {
                problems.extend(header_name_problem(&pointer, name));
            }
            seen.push(lower);
        }
        problems
    }

    /// Refuse a request that lacks one of them.
    pub fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        self.credentials().try_for_each(|it| it.verify(request))
    }

    /// Each in every outgoing request, in the order of the names.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        self.credentials().map(|it| it.rule())
    }

    fn credentials(&self) -> impl Iterator<Item = Credential<'_>> {
        self.0.iter().map(|(header, secret)| Credential::Secret { header, prefix: "", secret })
    }
}

impl Description {
    /// The secrets that a setting of the type [`CustomHeaders`] can name.
    pub fn custom_header_secrets(self) -> Self {
        CUSTOM_HEADER_SECRETS.iter().fold(self, |it, name| {
            it.optional_secret(name, Encoding::Text, "the whole value of a custom header")
        })
    }
}

/// What is wrong with a header's name that settings give, if anything. The host
/// refuses these names at every delivery; here they are refused once.
pub fn header_name_problem(pointer: &str, name: &str) -> Option<Problem> {
    if !is_header_name(name) {
        return Some(Problem::at(pointer, "is not the name of a header"));
    }
    // `header` in `wit/types.wit`.
    const NOT_A_PLUGINS: [&str; 10] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "webhook-id",
    ];
    let lower = name.to_ascii_lowercase();
    (NOT_A_PLUGINS.contains(&lower.as_str()) || lower.starts_with("proxy-"))
        .then(|| Problem::at(pointer, "is a header that only the engine sets"))
}

/// True for what can be the name of a header: a token of RFC 9110 §5.6.2.
pub fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it))
}

/// What is wrong with a user name that settings give, if anything.
pub fn username_problem(pointer: &str, username: &str) -> Option<Problem> {
    // RFC 7617 §2.
    username
        .contains(|it: char| it == ':' || it.is_control())
        .then(|| Problem::at(pointer, "must not contain a colon or a control character"))
}

fn matches(secret: &str, text: &str) -> Result<bool, Rejection> {
    secrets::matches(secret, text).map_err(|error| Rejection::misconfigured(&error))
}

/// User name and password, or none when that is not what the value holds.
fn decode_basic(value: &str) -> Option<(String, String)> {
    let encoded = strip_prefix_ignoring_case(value, "Basic ")?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.into(), password.into()))
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom_headers(json: &str) -> CustomHeaders {
        serde_json::from_str(json).expect("the test's own JSON")
    }

    fn messages(problems: &[Problem]) -> Vec<(&str, &str)> {
        problems.iter().map(|it| (it.pointer.as_str(), it.message.as_str())).collect()
    }

    #[test]
    fn basic_credentials_are_read_as_rfc_7617_writes_them() {
        // The example of RFC 7617 §2.
        let aladdin = Some(("Aladdin".to_owned(), "open sesame".to_owned()));
        assert_eq!(decode_basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(decode_basic("bAsIc QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
    }

    #[test]
    fn a_password_may_hold_colons() {
        assert_eq!(decode_basic("Basic YTpiOmM="), Some(("a".to_owned(), "b:c".to_owned())));
    }

    #[test]
    fn what_is_not_basic_is_none() {
        for value in ["", "Basic", "Basic ", "Basic !!", "Basic YWI=", "Basic //8=", "Bearer YTpi"]
        {
            assert_eq!(decode_basic(value), None, "{value:?}");
        }
    }

    #[test]
    fn a_prefix_never_splits_a_character() {
        assert_eq!(strip_prefix_ignoring_case("Bearé", "Bearer"), None);
        assert_eq!(strip_prefix_ignoring_case("bearer x", "Bearer "), Some("x"));
    }

    #[test]
    fn names_that_frame_the_request_are_not_settings() {
        for name in ["Host", "proxy-authorization", "webhook-id", "", "a b", "é"] {
            assert!(header_name_problem("/header", name).is_some(), "{name:?}");
        }
        for name in ["Authorization", "x-token", "x_y~z"] {
            assert!(header_name_problem("/header", name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn every_custom_header_is_looked_at() {
        let headers = custom_headers(
            r#"{"Authorization":"header_1","TE":"header_2","X-Key":"header_3","x-key":"header_4"}"#,
        );
        assert_eq!(
            messages(&headers.problems(&["authorization"])),
            [
                ("/headers/Authorization", "is a header that this plugin's other settings set"),
                ("/headers/TE", "is a header that only the engine sets"),
                ("/headers/x-key", "is given twice: the case of a header's name does not matter"),
            ]
        );
    }

    #[test]
    fn the_schema_and_the_declared_secrets_agree() {
        let schema: serde_json::Value =
            serde_json::from_str(custom_headers_schema!()).expect("a schema is JSON");
        assert_eq!(
            schema["additionalProperties"]["enum"],
            serde_json::json!(CUSTOM_HEADER_SECRETS)
        );
        assert_eq!(schema["maxProperties"], serde_json::json!(CUSTOM_HEADER_SECRETS.len()));
    }
}
