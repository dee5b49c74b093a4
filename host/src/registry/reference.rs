//! Where in a registry a plugin lies, and the digest that says which one it is.

use oci_spec::distribution;

/// `oci://host[:port]/name[:tag][@sha256:…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference(pub(super) distribution::Reference);

/// A reference with the SHA-256 of its manifest, and so of all that hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) reference: Reference,
    pub(crate) manifest: Digest,
}

/// SHA-256.
pub(crate) type Digest = [u8; 32];

impl Reference {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is not a plugin's place such as `oci://registry.example.com/plugins/name:1.0.0`: {why}"
            )
        };
        let rest = text.strip_prefix("oci://").ok_or_else(|| wrong("it begins with `oci://`"))?;
        // Without a host, the library would take Docker's.
        let host = rest.split_once('/').map_or("", |(host, _)| host);
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(wrong("the host is missing"));
        }
        rest.parse().map(Self).map_err(|error: distribution::ParseError| wrong(&error.to_string()))
    }

    pub(crate) fn host(&self) -> &str {
        self.0.registry()
    }

    /// The last part of the path: what the plugin is called.
    pub(crate) fn name(&self) -> &str {
        let repository = self.0.repository();
        repository.rsplit_once('/').map_or(repository, |(_, name)| name)
    }

    /// The SHA-256 after `@`.
    fn digest(&self) -> Option<Digest> {
        parse_digest(self.0.digest()?)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "oci://{}", self.0)
    }
}

impl Pinned {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let reference = Reference::parse(text)?;
        match reference.digest() {
            Some(manifest) => Ok(Self { reference, manifest }),
            None => Err(format!(
                "`{text}` has no digest: add the `@sha256:…` that `plugpost plugin push` printed"
            )),
        }
    }
}

pub(super) fn digest_text(digest: &Digest) -> String {
    format!("sha256:{}", hex::encode(digest))
}

pub(super) fn parse_digest(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    hex::decode_to_slice(text.strip_prefix("sha256:")?, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_host_a_name_and_a_digest() {
        let digest = "0f".repeat(32);
        let text = format!("oci://registry.example.com:5000/acme/radar:1.2.0@sha256:{digest}");
        let pinned = Pinned::parse(&text).expect("a reference");
        assert_eq!(pinned.reference.name(), "radar");
        assert_eq!(pinned.reference.host(), "registry.example.com:5000");
        assert_eq!(pinned.manifest, [15; 32]);
        assert_eq!(pinned.reference.to_string(), text);
        for (wrong, why) in [
            ("registry.example.com/radar", "begins with `oci://`"),
            ("oci://radar", "the host is missing"),
            ("oci://acme/radar", "the host is missing"),
            ("oci://registry.example.com/Radar", "is not a plugin's place"),
            ("oci://registry.example.com/radar:1.0.0", "has no digest"),
            ("oci://registry.example.com/radar@sha256:abc", "is not a plugin's place"),
        ] {
            let message = Pinned::parse(wrong).expect_err(wrong);
            assert!(message.contains(why), "{message}");
        }
    }
}
