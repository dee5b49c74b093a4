//! The headers of a signature: structured fields (RFC 9651), read and written.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sfv::{BareItem, Dictionary, InnerList, ListEntry, ListSerializer, Parser};
use sfv::{KeyRef, StringRef};
use sha2::{Digest as _, Sha256, Sha512};

use crate::base::Component;

/// How many signatures of one request are tried, and how many components each may
/// cover. Every try is a pass over what is signed that anyone can ask for.
pub(crate) const SIGNATURES_MAX: usize = 4;
const COMPONENTS_MAX: usize = 32;

/// One signature of a request.
#[derive(Debug, PartialEq)]
pub(crate) struct Signature {
    pub(crate) components: Vec<Component>,
    /// The value of `@signature-params`.
    pub(crate) params: String,
    pub(crate) created: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) keyid: Option<String>,
    pub(crate) alg: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

/// The signatures of `Signature-Input` and `Signature`, in the order of the
/// former. The error says which header is not what it should be.
pub(crate) fn read(input: &str, signature: &str) -> Result<Vec<Signature>, String> {
    let dictionary = |name: &str, text: &str| {
        let parsed = Parser::new(text).parse::<Dictionary>();
        parsed.map_err(|error| format!("the header {name} is not a dictionary: {error}"))
    };
    let inputs = dictionary("Signature-Input", input)?;
    let signatures = dictionary("Signature", signature)?;
    let mut found = Vec::new();
    for (label, entry) in inputs.iter().take(SIGNATURES_MAX) {
        let ListEntry::InnerList(list) = entry else {
            return Err(format!("in Signature-Input {label} is not a list of components"));
        };
        let Some(ListEntry::Item(item)) = signatures.get(label.as_str()) else { continue };
        let BareItem::ByteSequence(bytes) = &item.bare_item else {
            return Err(format!("in Signature {label} is not a sequence of bytes"));
        };
        found.push(one(label.as_str(), list, bytes.clone())?);
    }
    match found.is_empty() {
        true => Err("no label of Signature-Input is in Signature".into()),
        false => Ok(found),
    }
}

fn one(label: &str, list: &InnerList, bytes: Vec<u8>) -> Result<Signature, String> {
    if list.items.len() > COMPONENTS_MAX {
        return Err(format!("{label} covers more than {COMPONENTS_MAX} components"));
    }
    let mut components = Vec::new();
    for item in &list.items {
        let BareItem::String(name) = &item.bare_item else {
            return Err(format!("{label} covers something that is not a name"));
        };
        let component = Component::named(name.as_str()).filter(|_| item.params.is_empty());
        let component = component
            .ok_or_else(|| format!("{label} covers {name}, which this receiver does not know"))?;
        if components.contains(&component) {
            return Err(format!("{label} covers {name} twice"));
        }
        components.push(component);
    }
    let number = |name: &str| match list.params.get(name) {
        None => Ok(None),
        Some(BareItem::Integer(it)) => Ok(Some(i64::from(*it))),
        Some(_) => Err(format!("{name} of {label} is not a number of seconds")),
    };
    let text = |name: &str| match list.params.get(name) {
        None => Ok(None),
        Some(BareItem::String(it)) => Ok(Some(it.as_str().to_owned())),
        Some(_) => Err(format!("{name} of {label} is not a string")),
    };
    let mut params = ListSerializer::new();
    params.members([&ListEntry::InnerList(list.clone())]);
    Ok(Signature {
        components,
        params: params.finish().unwrap_or_default(),
        created: number("created")?,
        expires: number("expires")?,
        keyid: text("keyid")?,
        alg: text("alg")?,
        bytes,
    })
}

/// The value of `@signature-params` for a signature of our own; none when a name
/// or the keyid is not visible ASCII.
pub(crate) fn params(
    components: &[Component],
    created_s: u64,
    keyid: Option<&str>,
    alg: &str,
) -> Option<String> {
    let mut list = ListSerializer::new();
    let mut inner = list.inner_list();
    for component in components {
        inner.bare_item(StringRef::from_str(component.name()).ok()?);
    }
    let created = sfv::Integer::try_from(created_s).ok()?;
    let mut params = inner.finish().parameter(KeyRef::from_str("created").ok()?, created);
    if let Some(keyid) = keyid {
        params =
            params.parameter(KeyRef::from_str("keyid").ok()?, StringRef::from_str(keyid).ok()?);
    }
    params.parameter(KeyRef::from_str("alg").ok()?, StringRef::from_str(alg).ok()?);
    list.finish()
}

/// `Content-Digest` of a body (RFC 9530), by SHA-256.
pub(crate) fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(body)))
}

/// True when every digest in the header that is known is the body's, and one is.
pub(crate) fn digest_fits(header: &str, body: &[u8]) -> bool {
    let Ok(digests) = Parser::new(header).parse::<Dictionary>() else { return false };
    let mut known = digests.iter().filter_map(|(algorithm, entry)| {
        let expected = match algorithm.as_str() {
            "sha-256" => Sha256::digest(body).to_vec(),
            "sha-512" => Sha512::digest(body).to_vec(),
            _ => return None,
        };
        let ListEntry::Item(item) = entry else { return Some(false) };
        Some(matches!(&item.bare_item, BareItem::ByteSequence(it) if *it == expected))
    });
    known.next() == Some(true) && known.all(|fits| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "sig1=:AQI=:";

    #[test]
    fn a_signature_is_read_with_its_parameters() {
        let input = r#"sig1=("@method"  "content-digest"); created=1; keyid="k\"1";nonce="n";alg="ed25519";tag=t , x=();expires=2"#;
        let found = read(input, SIGNATURE).expect("it is one");
        let [one] = found.as_slice() else { panic!("{found:?}") };
        let digest = Component::Header("content-digest".into());
        assert_eq!(one.components, [Component::Method, digest]);
        assert_eq!((one.created, one.expires), (Some(1), None));
        assert_eq!((one.keyid.as_deref(), one.alg.as_deref()), (Some("k\"1"), Some("ed25519")));
        assert_eq!(one.bytes, [1, 2]);
        let params =
            r#"("@method" "content-digest");created=1;keyid="k\"1";nonce="n";alg="ed25519";tag=t"#;
        assert_eq!(one.params, params);
    }

    #[test]
    fn what_is_no_signature_is_an_error() {
        for input in [
            "",
            "sig1",
            "sig1=1",
            "sig1=(",
            "sig2=()",
            "sig1=(a)",
            "sig1=(\"@status\")",
            "sig1=(\"@query-param\";name=\"a\")",
            "sig1=(\"a\";bs)",
            "sig1=(\"a\" \"a\")",
            "sig1=();created=\"1\"",
            "sig1=();created=1.5",
            "sig1=();created=9999999999999999",
            "sig1=();keyid=1",
            "é",
        ] {
            assert!(read(input, SIGNATURE).is_err(), "{input}");
        }
        for signature in ["", "sig1", "sig1=1", "sig1=(:AQI=:)", "sig2=:AQI=:", "sig1=:!:"] {
            assert!(read("sig1=()", signature).is_err(), "{signature}");
        }
        let many = (0..COMPONENTS_MAX + 1).map(|it| format!("\"h{it}\"")).collect::<Vec<_>>();
        assert!(read(&format!("sig1=({})", many.join(" ")), SIGNATURE).is_err());
    }

    #[test]
    fn not_more_than_four_signatures_are_read() {
        let input: Vec<_> = (0..10).map(|it| format!("s{it}=()")).collect();
        let signature: Vec<_> = (0..10).map(|it| format!("s{it}=:AQ==:")).collect();
        let found = read(&input.join(","), &signature.join(",")).expect("signatures");
        assert_eq!(found.len(), SIGNATURES_MAX);
    }

    #[test]
    fn parameters_are_written_as_they_are_read() {
        let components = ["@method", "content-digest"].map(|it| Component::named(it).expect("one"));
        let params = params(&components, 12, Some("k\"1"), "hmac-sha256").expect("ASCII");
        let expected = r#"("@method" "content-digest");created=12;keyid="k\"1";alg="hmac-sha256""#;
        assert_eq!(params, expected);
        let found = read(&format!("sig1={params}"), SIGNATURE).expect("it is one");
        assert_eq!(found[0].params, params);
        assert_eq!(super::params(&components, 12, Some("é"), "ed25519"), None);
    }

    /// The digests of the request in RFC 9421 Appendix B.2, and of RFC 9530's.
    #[test]
    fn a_digest_is_checked_by_every_algorithm_that_is_known() {
        let body = br#"{"hello": "world"}"#;
        let sha_256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        let sha_512 = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
        assert_eq!(content_digest(body), sha_256);
        let wrong = "sha-256=:AAAE9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        for (header, fits) in [
            (sha_256.to_owned(), true),
            (sha_512.to_owned(), true),
            (format!("{sha_512}, {sha_256}, md5=:AA==:"), true),
            (format!("{sha_512}, {wrong}"), false),
            (wrong.to_owned(), false),
            ("md5=:AA==:".to_owned(), false),
            ("sha-256=()".to_owned(), false),
            ("sha-256=1".to_owned(), false),
            (String::new(), false),
            (":".to_owned(), false),
        ] {
            assert_eq!(digest_fits(&header, body), fits, "{header}");
        }
    }
}
