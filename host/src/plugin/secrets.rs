//! Keys that plugins use by name and never see. Computing and comparing happen
//! here, in constant time; a key's text is overwritten when it is dropped.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The secrets of one use of a plugin, by name; each with its active versions,
/// newest first. They are few: to compare names is faster than to hash one.
#[derive(Default)]
pub(crate) struct Secrets(Vec<(Box<str>, Vec<Key>)>);

/// How the text of a secret becomes key bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Its UTF-8 bytes.
    Text,
    /// Standard base64, with or without padding.
    Base64,
    /// Hexadecimal digits.
    Hex,
    /// `whsec_…`, `whsk_…`, `whpk_…`, or plain base64.
    StandardWebhooks,
}

/// One version of a secret.
pub(crate) struct Key {
    text: Zeroizing<String>,
    material: Material,
}

enum Material {
    Symmetric(Zeroizing<Vec<u8>>),
    Signing(Box<SigningKey>),
    Verifying(VerifyingKey),
    /// Stands in for a key of any kind that is not there.
    StandIn(Box<SigningKey>),
}

/// How a key authenticates: with HMAC over a hash, or by a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
    Ed25519,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Base64,
    /// Unpadded.
    Base64Url,
    Hex,
}

/// How the signatures of one text are made and written.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) secret: Box<str>,
    /// An algorithm, and what stands before its signatures.
    pub(crate) schemes: Vec<(Algorithm, Box<str>)>,
    pub(crate) notation: Notation,
    /// What stands between two; none when there is only the first.
    pub(crate) between: Option<Box<str>>,
}

/// Accepts base64 with and without padding, as people paste both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Encoding {
    /// The encoding of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "base64" => Some(Self::Base64),
            "hex" => Some(Self::Hex),
            "standard-webhooks" => Some(Self::StandardWebhooks),
            _ => None,
        }
    }

    /// Its name in `wit/`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::StandardWebhooks => "standard-webhooks",
        }
    }
}

impl Algorithm {
    fn named(name: &str) -> Result<Self, String> {
        match name {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            "ed25519" => Ok(Self::Ed25519),
            _ => Err(unknown_algorithm(name)),
        }
    }
}

impl Notation {
    fn write(self, bytes: &[u8], text: &mut String) {
        match self {
            Self::Base64 => BASE64_STANDARD.encode_string(bytes, text),
            Self::Base64Url => BASE64_URL_SAFE_NO_PAD.encode_string(bytes, text),
            Self::Hex => text.push_str(&hex::encode(bytes)),
        }
    }
}

impl Key {
    /// Decode a secret. The error says what is wrong, never what the secret is.
    pub(crate) fn decode(text: Zeroizing<String>, encoding: Encoding) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the secret is empty".into());
        }
        let base64 = |text: &str| {
            BASE64
                .decode(text)
                .map(Zeroizing::new)
                .map_err(|_| "the secret is not base64".to_owned())
        };
        let material = match encoding {
            Encoding::Text => Material::Symmetric(Zeroizing::new(text.as_bytes().to_vec())),
            Encoding::Base64 => Material::Symmetric(base64(&text)?),
            Encoding::Hex => {
                let bytes = hex::decode(&*text).map_err(|_| "the secret is not hexadecimal")?;
                Material::Symmetric(Zeroizing::new(bytes))
            }
            Encoding::StandardWebhooks => standard_webhooks_key(&text, base64)?,
        };
        if matches!(&material, Material::Symmetric(bytes) if bytes.is_empty()) {
            return Err("the secret is empty".into());
        }
        Ok(Self { text, material })
    }
}

impl Key {
    /// A key that can do what any kind of key can, for looking at what a plugin makes
    /// without the real one. Another number is another key.
    pub(crate) fn stand_in(number: u8) -> Self {
        Self {
            text: Zeroizing::new(format!("stand-in-{number}")),
            material: Material::StandIn(Box::new(SigningKey::from_bytes(&[number; 32]))),
        }
    }
}

fn standard_webhooks_key(
    text: &str,
    base64: impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, String>,
) -> Result<Material, String> {
    if let Some(private) = text.strip_prefix("whsk_") {
        let bytes = base64(private)?;
        // The seed, and after it the public key, which the seed gives as well.
        let seed = bytes.first_chunk::<32>().filter(|_| matches!(bytes.len(), 32 | 64));
        let seed = seed.ok_or("a whsk_ key is base64 of 64 bytes")?;
        return Ok(Material::Signing(Box::new(SigningKey::from_bytes(seed))));
    }
    if let Some(public) = text.strip_prefix("whpk_") {
        let bytes = base64(public)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| "a whpk_ key is base64 of 32 bytes")?;
        let key =
            VerifyingKey::from_bytes(bytes).map_err(|_| "the whpk_ key is not on the curve")?;
        return Ok(Material::Verifying(key));
    }
    Ok(Material::Symmetric(base64(text.strip_prefix("whsec_").unwrap_or(text))?))
}

impl Secrets {
    pub(crate) fn new(keys: impl IntoIterator<Item = (Box<str>, Vec<Key>)>) -> Self {
        Self(keys.into_iter().collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.of(name).is_some()
    }

    /// The newest version's text, for a header.
    pub(crate) fn newest(&self, name: &str) -> Option<&str> {
        self.of(name)?.first().map(|it| it.text.as_str())
    }

    pub(crate) fn hmac(
        &self,
        name: &str,
        algorithm: &str,
        parts: &[&[u8]],
    ) -> Result<Vec<Vec<u8>>, String> {
        match Algorithm::named(algorithm)? {
            Algorithm::Ed25519 => Err(unknown_algorithm(algorithm)),
            hash => self.listed(name, hash, parts),
        }
    }

    pub(crate) fn sign(
        &self,
        name: &str,
        algorithm: &str,
        parts: &[&[u8]],
    ) -> Result<Vec<Vec<u8>>, String> {
        match Algorithm::named(algorithm)? {
            key @ Algorithm::Ed25519 => self.listed(name, key, parts),
            _ => Err(unknown_algorithm(algorithm)),
        }
    }

    fn listed(
        &self,
        name: &str,
        algorithm: Algorithm,
        parts: &[&[u8]],
    ) -> Result<Vec<Vec<u8>>, String> {
        Ok(self.codes(name, algorithm, parts)?.map(|it| it.to_vec()).collect())
    }

    /// One for each version that can do it.
    fn codes(
        &self,
        name: &str,
        algorithm: Algorithm,
        parts: &[&[u8]],
    ) -> Result<impl Iterator<Item = Code>, String> {
        Ok(self.versions(name)?.iter().filter_map(move |key| key.code(algorithm, parts)))
    }

    /// Write one for each scheme and each version that can do it, or only the first; and say
    /// how many those are.
    pub(crate) fn sign_into(
        &self,
        text: &mut String,
        how: &Signing,
        parts: &[&[u8]],
    ) -> Result<usize, String> {
        let Signing { secret, schemes, notation, between } = how;
        let mut count = 0;
        for (algorithm, before) in schemes {
            for code in self.codes(secret, *algorithm, parts)? {
                let separator = between.as_deref().filter(|_| count > 0).unwrap_or_default();
                // Hexadecimal takes two characters for a byte, the others fewer.
                text.reserve(separator.len() + before.len() + 2 * code.len());
                text.push_str(separator);
                text.push_str(before);
                notation.write(&code, text);
                count += 1;
                if between.is_none() {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }

    pub(crate) fn verify(
        &self,
        name: &str,
        algorithm: &str,
        parts: &[&[u8]],
        signature: &[u8],
    ) -> Result<bool, String> {
        let versions = self.versions(name)?;
        let algorithm = Algorithm::named(algorithm)?;
        let mut fits = false;
        for key in versions {
            fits |= match (&key.material, algorithm) {
                (Material::Verifying(key), Algorithm::Ed25519) => verifies(key, parts, signature),
                (Material::Signing(key), Algorithm::Ed25519) => {
                    verifies(&key.verifying_key(), parts, signature)
                }
                (_, Algorithm::Ed25519) => false,
                (Material::Symmetric(bytes), hash) => {
                    // Slices of different length are unequal: nothing is cut to the shorter.
                    mac(hash, bytes, parts).is_some_and(|it| it.ct_eq(signature).into())
                }
                _ => false,
            };
        }
        Ok(fits)
    }

    pub(crate) fn matches(&self, name: &str, text: &str) -> Result<bool, String> {
        let versions = self.versions(name)?.iter();
        Ok(versions
            .fold(false, |fits, key| fits | bool::from(key.text.as_bytes().ct_eq(text.as_bytes()))))
    }

    fn versions(&self, name: &str) -> Result<&[Key], String> {
        self.of(name).ok_or_else(|| format!("there is no secret `{name}`"))
    }

    fn of(&self, name: &str) -> Option<&[Key]> {
        self.0.iter().find(|(it, _)| **it == *name).map(|(_, versions)| versions.as_slice())
    }
}

impl Key {
    /// What this version makes of the parts; none when it is of another kind.
    fn code(&self, algorithm: Algorithm, parts: &[&[u8]]) -> Option<Code> {
        match (&self.material, algorithm) {
            (Material::Signing(key) | Material::StandIn(key), Algorithm::Ed25519) => {
                Some(Code::new(&key.sign(&parts.concat()).to_bytes()))
            }
            (Material::Symmetric(bytes), hash) => mac(hash, bytes, parts),
            (Material::StandIn(key), hash) => mac(hash, key.as_bytes(), parts),
            (Material::Signing(_) | Material::Verifying(_), _) => None,
        }
    }
}

/// An authentication code or a signature. No algorithm makes more than 64 bytes.
struct Code {
    bytes: [u8; 64],
    length: usize,
}

impl Code {
    fn new(made: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..made.len()].copy_from_slice(made);
        Self { bytes, length: made.len() }
    }
}

impl Deref for Code {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// With HMAC; none when the algorithm is no hash's.
fn mac(algorithm: Algorithm, key: &[u8], parts: &[&[u8]]) -> Option<Code> {
    macro_rules! over {
        ($hash:ty) => {{
            let mut mac =
                Hmac::<$hash>::new_from_slice(key).expect("HMAC takes a key of any length");
            parts.iter().for_each(|part| mac.update(part));
            Some(Code::new(&mac.finalize().into_bytes()))
        }};
    }
    match algorithm {
        Algorithm::Sha1 => over!(Sha1),
        Algorithm::Sha256 => over!(Sha256),
        Algorithm::Sha512 => over!(Sha512),
        Algorithm::Ed25519 => None,
    }
}

fn verifies(key: &VerifyingKey, parts: &[&[u8]], signature: &[u8]) -> bool {
    Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_strict(&parts.concat(), &signature).is_ok())
}

fn unknown_algorithm(algorithm: &str) -> String {
    format!("there is no algorithm `{algorithm}`: sha1, sha256, sha512, ed25519")
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}
