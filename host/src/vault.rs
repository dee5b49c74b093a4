//! Secrets at rest: a value is sealed with a key, for one place, and can be opened
//! only there. It knows nothing of where values are kept.
//!
//! XChaCha20-Poly1305: its nonce is long enough to be drawn at random for ever.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use chacha20poly1305::aead::{Aead as _, Generate as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The variable that keys are read from where `[store] secret_key` names nothing else.
pub(crate) const VARIABLE: &str = "PLUGPOST_SECRET_KEY";

/// A key, 32 bytes.
pub(crate) type SecretKey = Zeroizing<[u8; KEY_BYTES]>;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// One that seals, and others that were used before.
const KEYS_MAX: usize = 16;

/// Seals and opens.
pub(crate) struct Vault {
    /// Newest first.
    keys: Vec<(KeyId, XChaCha20Poly1305)>,
}

/// Tells one key from another, and nothing else of it: eight hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) Box<str>);

/// How long an id is.
pub(crate) const KEY_ID_CHARS: usize = 8;

/// What a value is, and whose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    pub(crate) owner: u128,
    pub(crate) purpose: &'p str,
    pub(crate) name: &'p str,
}

/// A value as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) key: KeyId,
    /// The nonce, then what it was used for.
    pub(crate) bytes: Vec<u8>,
}

/// Why a value was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("sealed with the key {sealed_with}, and the keys given are {given}")]
    Key { sealed_with: KeyId, given: String },
    #[error("it does not open with the key {0}: it was moved or damaged")]
    Damaged(KeyId),
}

impl Vault {
    /// With these keys, newest first.
    pub(crate) fn new(keys: &[SecretKey]) -> Self {
        let with_id = |key: &SecretKey| (KeyId::of(key), XChaCha20Poly1305::new((&**key).into()));
        Self { keys: keys.iter().map(with_id).collect() }
    }

    /// Without one nothing can be sealed.
    pub(crate) fn has_a_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Is there nothing newer than the key of that id?
    pub(crate) fn is_newest(&self, id: &KeyId) -> bool {
        self.keys.first().is_some_and(|(newest, _)| newest == id)
    }

    pub(crate) fn seal(&self, place: Place<'_>, text: &str) -> Sealed {
        let (id, cipher) = self.keys.first().expect("asked before: has_a_key");
        let nonce = XNonce::generate();
        let payload = Payload { msg: text.as_bytes(), aad: &place.bytes() };
        let sealed = cipher.encrypt(&nonce, payload).expect("a secret is shorter than 256 GB");
        Sealed { key: id.clone(), bytes: [nonce.as_slice(), &sealed].concat() }
    }

    pub(crate) fn open(
        &self,
        place: Place<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<String>, VaultError> {
        let Some((_, cipher)) = self.keys.iter().find(|(id, _)| *id == sealed.key) else {
            let given: Vec<_> = self.keys.iter().map(|(id, _)| &*id.0).collect();
            let given = given.join(", ");
            return Err(VaultError::Key { sealed_with: sealed.key.clone(), given });
        };
        let damaged = || VaultError::Damaged(sealed.key.clone());
        let (nonce, bytes) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let payload = Payload { msg: bytes, aad: &place.bytes() };
        let opened = cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())?;
        let text = String::from_utf8(opened).map_err(|_| damaged())?;
        Ok(Zeroizing::new(text))
    }
}

impl KeyId {
    pub(crate) fn of(key: &SecretKey) -> Self {
        let digest = Sha256::new().chain_update("plugpost key id").chain_update(**key).finalize();
        Self(hex::encode(&digest[..4]).into())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place<'_> {
    /// What a value is bound to. With lengths, so that no two places are the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.owner.to_be_bytes().to_vec();
        for part in [self.purpose, self.name] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

/// Keys in base64, newest first, separated by spaces, line ends or commas. The error
/// repeats nothing of them.
pub(crate) fn parse_keys(text: &str) -> Result<Vec<SecretKey>, String> {
    let words = text.split(|it: char| it.is_whitespace() || it == ',').filter(|it| !it.is_empty());
    let keys: Vec<SecretKey> = words
        .enumerate()
        .map(|(at, word)| {
            let bytes = BASE64_STANDARD.decode(word).map(Zeroizing::new).ok();
            let key = bytes.and_then(|it| Some(Zeroizing::new(<[u8; 32]>::try_from(&**it).ok()?)));
            key.ok_or_else(|| {
                let number = at + 1;
                format!("key {number} is not 32 bytes in base64: openssl rand -base64 32")
            })
        })
        .collect::<Result<_, _>>()?;
    match keys.len() {
        0 => Err("there is no key: openssl rand -base64 32".into()),
        1..=KEYS_MAX => Ok(keys),
        more => Err(format!("{more} keys are more than {KEYS_MAX}")),
    }
}

/// Where the key lies that is made when none is given.
pub(crate) fn key_file(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

/// The keys in a key file; none when there is no such file.
pub(crate) fn read_key_file(path: &Path) -> io::Result<Option<Vec<SecretKey>>> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => parse_keys(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Make a key in a file that only its owner can read.
pub(crate) fn make_key_file(path: &Path) -> io::Result<SecretKey> {
    let key: SecretKey = Zeroizing::new(<[u8; KEY_BYTES]>::generate());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", *Zeroizing::new(BASE64_STANDARD.encode(*key)))?;
    // Before anything is sealed with it.
    file.sync_all()?;
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { owner: 7, purpose: "secret", name: "key" };

    fn vault(bytes: &[u8]) -> Vault {
        Vault::new(&bytes.iter().map(|it| Zeroizing::new([*it; 32])).collect::<Vec<_>>())
    }

    #[test]
    fn a_value_opens_only_where_it_belongs() {
        let vault = vault(&[1]);
        let sealed = vault.seal(PLACE, "hush");
        assert_eq!(vault.open(PLACE, &sealed).expect("its place").as_str(), "hush");
        for elsewhere in [
            Place { owner: 8, ..PLACE },
            Place { purpose: "header", ..PLACE },
            Place { name: "keys", ..PLACE },
        ] {
            assert!(matches!(vault.open(elsewhere, &sealed), Err(VaultError::Damaged(_))));
        }
        let mut damaged = sealed.clone();
        damaged.bytes[30] ^= 1;
        assert!(vault.open(PLACE, &damaged).is_err());
        damaged.bytes.truncate(3);
        assert!(vault.open(PLACE, &damaged).is_err());
    }

    #[test]
    fn an_old_key_opens_and_a_new_one_seals() {
        let sealed = vault(&[1]).seal(PLACE, "hush");
        let both = vault(&[2, 1]);
        assert_eq!(both.open(PLACE, &sealed).expect("the old key").as_str(), "hush");
        assert!(!both.is_newest(&sealed.key) && both.is_newest(&both.seal(PLACE, "hush").key));
        let wrong = vault(&[2]).open(PLACE, &sealed).expect_err("another key").to_string();
        assert!(wrong.contains(&*sealed.key.0), "{wrong}");
    }

    #[test]
    fn no_value_is_sealed_twice_the_same() {
        let vault = vault(&[1]);
        assert_ne!(vault.seal(PLACE, "hush").bytes, vault.seal(PLACE, "hush").bytes);
    }

    #[test]
    fn keys_are_base64_and_an_error_repeats_none() {
        let one = BASE64_STANDARD.encode([1; 32]);
        assert_eq!(parse_keys(&format!("{one}\n{one}, {one}")).expect("three").len(), 3);
        for wrong in ["", "AAAA", "not-base64!", &one[1..]] {
            let error = parse_keys(wrong).expect_err("no key");
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
