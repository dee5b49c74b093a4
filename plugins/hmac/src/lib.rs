//! A code over the body, the time and whatever else, with a shared key: how most
//! platforms sign. What differs between them is settings, and is nowhere else.
//!
//! [`settings`] says what can be set, [`template`] what is signed, [`rules`] how the
//! host signs without us; here a request is checked or signed. The key stays in the host.

mod rules;
mod settings;
mod template;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use plugpost_plugin::rules::Rule;
use plugpost_plugin::{
    Auth, AuthRules, Description, Encoding as KeyEncoding, Failure, Header, Inbound, Outgoing,
    Plugin, Problem, Received, Rejection, Source, export, secrets,
};
use settings::{Encoding, Layout, SCHEMA, Scheme, Settings, Timestamp};
use sha2::{Digest as _, Sha256};
use template::{Piece, form, path_and_query};

/// How many of the signatures in one header are tried. Every try is a pass over
/// the body that anyone can ask for.
const SIGNATURES_MAX: usize = 20;

const KEY: &str = "key";
const FORM: &str = "application/x-www-form-urlencoded";

struct Hmac(Scheme);

impl Plugin for Hmac {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "signs and verifies with a shared key, as the settings say",
        )
        .settings_schema(SCHEMA)
        .required_secret(
            KEY,
            KeyEncoding::Text,
            "the shared key, as the platform gives it",
        )
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        settings.check().map(Self)
    }
}

impl Source for Hmac {
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        let scheme = &self.0;
        let name = &scheme.header;
        let value = required(request, name)?;
        let found = read_header(scheme, &value)
            .map_err(|what| Rejection::malformed(format!("the header {name} {what}")))?;
        let timestamp = match &scheme.timestamp {
            None => String::new(),
            Some(it) => {
                let text = match &it.header {
                    Some(header) => required(request, header)?,
                    None => found.timestamp.map(str::to_owned).ok_or_else(|| {
                        Rejection::malformed(format!("the header {name} has no timestamp"))
                    })?,
                };
                check_age(it, &text, request.time())?;
                text
            }
        };

        let signed = scheme.signed.filled(|piece| match piece {
            Piece::Timestamp => Ok(timestamp.clone()),
            Piece::Method => Ok(request.method()),
            Piece::Url => inbound_url(scheme, request),
            Piece::Path => Ok(path_and_query(&inbound_url(scheme, request)?).0.to_owned()),
            Piece::Query => Ok(request.query().unwrap_or_default()),
            Piece::Header(name) => required(request, name),
            Piece::Form if is_form(request.header("content-type")) => Ok(form(&request.body())),
            Piece::Form => check_body_digest(scheme, request).map(|()| String::new()),
            // Template::filled takes these itself.
            Piece::Body | Piece::Literal(_) => Ok(String::new()),
        })?;
        let parts = signed.parts();
        for signature in found.signatures {
            let fits = secrets::verify(KEY, &scheme.algorithm, &parts, &signature)
                .map_err(|error| Rejection::misconfigured(&error))?;
            if fits {
                return Ok(());
            }
        }
        Err(Rejection::unauthorized("no signature fits"))
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        self.0.decoding.decode(request)
    }
}

impl AuthRules for Hmac {
    fn rules(&self) -> Option<Vec<Rule>> {
        rules::of(&self.0)
    }
}

/// What no rule can say: it depends on the request's headers, or on what its URL or its form is.
impl Auth for Hmac {
    fn sign(&self, request: &Outgoing) -> Result<Vec<Header>, Failure> {
        let scheme = &self.0;
        let timestamp = scheme.timestamp.as_ref();
        let now = timestamp.map(|it| (request.time() / it.unit.in_ms()).to_string());
        let url = request.url();
        let signed = scheme.signed.filled(|piece| match piece {
            Piece::Timestamp => Ok(now.clone().unwrap_or_default()),
            Piece::Method => Ok(request.method()),
            Piece::Url => Ok(url.clone()),
            Piece::Path => Ok(path_and_query(&url).0.to_owned()),
            Piece::Query => Ok(path_and_query(&url).1.to_owned()),
            Piece::Header(name) => request.header(name).ok_or_else(|| {
                let message =
                    format!("the header {name} is to be signed, but no transform sets it");
                Failure::reject("no-header", message)
            }),
            Piece::Form if is_form(request.header("content-type")) => Ok(form(&request.body())),
            Piece::Form => {
                let message =
                    format!("what is signed is a form, but the content type is not {FORM}");
                Err(Failure::reject("no-form", message))
            }
            Piece::Body | Piece::Literal(_) => Ok(String::new()),
        })?;
        let codes = secrets::hmac(KEY, &scheme.algorithm, &signed.parts())
            .map_err(|error| Failure::retry("key", error))?;
        let value = write_header(scheme, now.as_deref(), &codes)
            .ok_or_else(|| Failure::retry("key", "no version of the key can sign"))?;
        let mut headers = vec![Header::text(&scheme.header, value)];
        if let (Some(Timestamp { header: Some(name), .. }), Some(now)) = (timestamp, now) {
            headers.push(Header::text(name, now));
        }
        Ok(headers)
    }
}

/// What a signature header says.
#[derive(Debug, Default, PartialEq)]
struct Found<'a> {
    signatures: Vec<Vec<u8>>,
    timestamp: Option<&'a str>,
}

/// Read the signature header. The error completes "the header NAME …".
fn read_header<'a>(scheme: &Scheme, value: &'a str) -> Result<Found<'a>, String> {
    let decode = |text: &str| decode(scheme, text);
    let found = match &scheme.layout {
        Layout::One => Found { signatures: decode(value).into_iter().collect(), timestamp: None },
        Layout::List { separator } => {
            let each = value.split(separator.as_str()).take(SIGNATURES_MAX);
            Found { signatures: each.filter_map(decode).collect(), timestamp: None }
        }
        Layout::Fields { signature, timestamp } => {
            let mut found = Found::default();
            for (name, value) in value.split(',').filter_map(|it| it.trim().split_once('=')) {
                // The first timestamp counts; a second one would only be confusing.
                if timestamp.as_deref() == Some(name) && found.timestamp.is_none() {
                    found.timestamp = Some(value);
                }
                if name == signature && found.signatures.len() < SIGNATURES_MAX {
                    found.signatures.extend(decode(value));
                }
            }
            found
        }
    };
    match found.signatures.is_empty() {
        true => {
            let encoding = match scheme.encoding {
                Encoding::Hex => "hexadecimal digits",
                Encoding::Base64 => "base64",
            };
            let prefix = &scheme.prefix;
            let after = if prefix.is_empty() { String::new() } else { format!("{prefix} and ") };
            Err(format!("holds no signature: expected {after}{encoding}"))
        }
        false => Ok(found),
    }
}

/// Write the signature header: every version of the key where a list can hold
/// them, otherwise the newest. None when there is no code.
fn write_header(scheme: &Scheme, timestamp: Option<&str>, codes: &[Vec<u8>]) -> Option<String> {
    let mut each = codes.iter().map(|code| match scheme.encoding {
        Encoding::Hex => scheme.prefix.clone() + &hex::encode(code),
        Encoding::Base64 => scheme.prefix.clone() + &BASE64_STANDARD.encode(code),
    });
    let first = each.next()?;
    Some(match &scheme.layout {
        Layout::One => first,
        Layout::List { separator } => each.fold(first, |list, code| list + separator + &code),
        Layout::Fields { signature, timestamp: field } => {
            let stamp = field.as_ref().zip(timestamp).map(|(name, it)| format!("{name}={it}"));
            let codes = std::iter::once(first).chain(each).map(|it| format!("{signature}={it}"));
            stamp.into_iter().chain(codes).collect::<Vec<_>>().join(",")
        }
    })
}

fn decode(scheme: &Scheme, text: &str) -> Option<Vec<u8>> {
    let encoded = text.trim().strip_prefix(scheme.prefix.as_str())?;
    let bytes = match scheme.encoding {
        Encoding::Hex => hex::decode(encoded).ok(),
        Encoding::Base64 => BASE64_STANDARD.decode(encoded).ok(),
    };
    bytes.filter(|it| !it.is_empty())
}

fn required(request: &Inbound, name: &str) -> Result<String, Rejection> {
    request
        .header(name)
        .filter(|it| !it.is_empty())
        .ok_or_else(|| Rejection::unauthorized(format!("the header {name} is missing")))
}

fn check_age(timestamp: &Timestamp, text: &str, now_ms: u64) -> Result<(), Rejection> {
    let unit = timestamp.unit.in_ms();
    // Digits only: no sign, and nothing that overflows.
    let sent_ms = text
        .parse::<u64>()
        .ok()
        .filter(|_| text.bytes().all(|it| it.is_ascii_digit()))
        .and_then(|it| it.checked_mul(unit))
        .ok_or_else(|| Rejection::malformed("the timestamp is not a number since 1970"))?;
    // In the timestamp's own unit: what was sent in this second is not 999 ms old.
    let now_ms = now_ms / unit * unit;
    if sent_ms.abs_diff(now_ms) > timestamp.tolerance_s * 1000 {
        let message = format!("the timestamp is more than {} s off", timestamp.tolerance_s);
        return Err(Rejection::unauthorized(message));
    }
    Ok(())
}

/// The URL the sender called: what stands before this source is a setting,
/// because a plugin sees what follows it only.
fn inbound_url(scheme: &Scheme, request: &Inbound) -> Result<String, Rejection> {
    let Some(base) = &scheme.url else {
        let reason = "the URL is signed: settings.url must say how the sender calls this source";
        return Err(Rejection::misconfigured(reason));
    };
    let mut url = base.clone() + &request.path();
    if let Some(query) = request.query() {
        url.push('?');
        url.push_str(&query);
    }
    Ok(url)
}

fn is_form(content_type: Option<String>) -> bool {
    content_type.is_some_and(|it| {
        let media_type = it.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case(FORM)
    })
}

/// A body that is no form is not signed itself: its digest, in the URL, is.
fn check_body_digest(scheme: &Scheme, request: &Inbound) -> Result<(), Rejection> {
    let body = request.body();
    if body.is_empty() {
        return Ok(());
    }
    let query = request.query().unwrap_or_default();
    let sent = scheme.body_digest_parameter.as_ref().and_then(|name| {
        form_urlencoded::parse(query.as_bytes()).find(|(it, _)| it == name).map(|(_, it)| it)
    });
    let sent = sent.ok_or_else(|| {
        Rejection::unauthorized("the body is neither a form nor covered by a digest in the URL")
    })?;
    let digest = hex::encode(Sha256::digest(&body));
    match sent.eq_ignore_ascii_case(&digest) {
        true => Ok(()),
        false => Err(Rejection::unauthorized("the digest in the URL is not the body's")),
    }
}

export!(Hmac: source, auth, auth_rules);

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(json: &str) -> Scheme {
        let settings: Settings = serde_json::from_str(json).expect("the test's own JSON");
        settings.check().expect("sound settings")
    }

    #[test]
    fn a_list_of_fields_is_read_and_what_is_not_known_is_left() {
        let stripe = scheme(r#"{"scheme": "stripe"}"#);
        let found = read_header(&stripe, "t=12, v1=0a,v0=ff,v1=zz,v1=0B,t=13,junk,v1");
        let expected = Found { signatures: vec![vec![10], vec![11]], timestamp: Some("12") };
        assert_eq!(found, Ok(expected));
        for none in ["", ",", "t=12", "t=12,v1=", "t=12,v0=0a", "v1", "=,=,=", "v1=é"] {
            assert!(read_header(&stripe, none).is_err(), "{none}");
        }
    }

    #[test]
    fn one_signature_is_the_whole_value() {
        let github = scheme(r#"{"scheme": "github"}"#);
        let signatures = |value| read_header(&github, value).map(|it| it.signatures);
        assert_eq!(signatures("sha256=0aFF"), Ok(vec![vec![10, 255]]));
        let message = "holds no signature: expected sha256= and hexadecimal digits";
        for none in ["sha256=", "sha256=0a,sha256=0b", "0a", "SHA256=0a", "sha256=0"] {
            assert_eq!(signatures(none), Err(message.to_owned()), "{none}");
        }
    }

    #[test]
    fn not_more_than_twenty_signatures_are_tried() {
        let list = scheme(r#"{"header": "x", "separator": " "}"#);
        let many = ["0a"; 100].join(" ");
        let count = |scheme, value: &str| read_header(scheme, value).map(|it| it.signatures.len());
        assert_eq!(count(&list, &many), Ok(SIGNATURES_MAX));
        let stripe = scheme(r#"{"scheme": "stripe"}"#);
        assert_eq!(count(&stripe, &["v1=0a"; 100].join(",")), Ok(SIGNATURES_MAX));
    }

    #[test]
    fn a_header_is_written_as_it_is_read() {
        let codes = [vec![1, 2], vec![3, 4]];
        for (json, written) in [
            (r#"{"scheme": "stripe"}"#, "t=12,v1=0102,v1=0304"),
            (r#"{"scheme": "github"}"#, "sha256=0102"),
            (r#"{"header": "x", "encoding": "base64", "separator": ", "}"#, "AQI=, AwQ="),
            (r#"{"header": "x", "prefix": "a=", "separator": " "}"#, "a=0102 a=0304"),
        ] {
            let scheme = scheme(json);
            let value = write_header(&scheme, Some("12"), &codes).expect("two codes");
            assert_eq!(value, written);
            let found = read_header(&scheme, &value).expect("what was written");
            assert_eq!(found.signatures, codes[..found.signatures.len()]);
        }
        assert_eq!(write_header(&scheme(r#"{"header": "x"}"#), None, &[]), None);
    }

    #[test]
    fn a_timestamp_is_a_number_near_now() {
        let slack = scheme(r#"{"scheme": "slack"}"#);
        let hubspot = scheme(r#"{"scheme": "hubspot"}"#);
        let status = |scheme: &Scheme, text| {
            let timestamp = scheme.timestamp.as_ref().expect("it has one");
            check_age(timestamp, text, 1_000_000_999).map_err(|it| it.status)
        };
        for (text, expected) in [
            ("1000000", Ok(())),
            ("999700", Ok(())),
            ("1000300", Ok(())),
            ("999699", Err(401)),
            ("1000301", Err(401)),
            ("0", Err(401)),
            ("18446744073709551615", Err(400)),
            ("99999999999999999999", Err(400)),
            ("+1000000", Err(400)),
            ("-1", Err(400)),
            ("1000000.0", Err(400)),
            ("", Err(400)),
        ] {
            assert_eq!(status(&slack, text), expected, "{text}");
        }
        assert_eq!(status(&hubspot, "1000000999"), Ok(()));
        assert_eq!(status(&hubspot, "1000000"), Err(401));
    }

    #[test]
    fn a_form_is_told_by_its_media_type() {
        for (content_type, expected) in [
            (Some("application/x-www-form-urlencoded"), true),
            (Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8"), true),
            (Some("application/json"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_form(content_type.map(str::to_owned)), expected, "{content_type:?}");
        }
    }
}
