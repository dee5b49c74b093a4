//! Headers that a plugin has written down: the host makes them for every request, and the
//! plugin is not called.

use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use super::bindings::exports::plugpost::plugin::auth_rules as said;
use super::secrets::{Algorithm, Key, Notation, Secrets, Signing};
use super::{OutHeader, SecretNeed, checked_name, checked_value, text_of, wit};
use crate::clock::UnixMs;

/// The rules of one use of a plugin, checked.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    name: HeaderName,
    value: Value,
    /// The secrets that the value is made with.
    secrets: SmallVec<[Box<str>; 1]>,
    /// A secret without which there is no such header.
    needs: Option<Box<str>>,
}

#[derive(Debug)]
enum Value {
    Fixed(wit::HeaderValue),
    Made(Vec<Stretch>),
}

/// A stretch of a value.
#[derive(Debug)]
enum Stretch {
    Text(Box<str>),
    Id,
    Seconds,
    Milliseconds,
    Signatures(Signing, Vec<Piece>),
}

/// A stretch of what is signed.
#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Body,
    Id,
    Seconds,
    Milliseconds,
    Method,
    Url,
}

/// What rules can name of a request.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) id: &'a str,
    pub(crate) time: UnixMs,
    pub(crate) method: &'a Method,
    pub(crate) url: &'a str,
    pub(crate) body: &'a [u8],
}

/// The same, as it is written.
struct Written<'a> {
    named: Named<'a>,
    seconds: &'a str,
    milliseconds: &'a str,
}

/// Why a header was not made.
pub(super) enum Unmade {
    /// The route does not give this secret.
    NoSecret(Box<str>),
    /// No version of the key can do it.
    Unsigned,
    /// It cannot be in a request.
    Broken(String),
}

/// More than a receiver would look at.
const RULES_MAX: usize = 32;
/// Each is a pass over what is signed: twice as many as there are algorithms.
const SIGNATURES_MAX: usize = 8;
/// Of a value or of what is signed.
const PIECES_MAX: usize = 16;
/// In what is signed, as for signatures that a plugin asks for: it may be large.
const BODIES_MAX: usize = 2;
/// Of all texts of a plugin's rules.
const BYTES_MAX: usize = 64 << 10;

impl Rules {
    /// Take them, or say what is wrong with the first that is not right.
    pub(super) fn check(said: Vec<said::Rule>, secrets: &[SecretNeed]) -> Result<Self, String> {
        if said.len() > RULES_MAX {
            return Err(format!("{} rules are more than {RULES_MAX}", said.len()));
        }
        let bytes: usize = said.iter().map(bytes_of).sum();
        if bytes > BYTES_MAX {
            return Err(format!("{bytes} bytes of rules are more than {BYTES_MAX}"));
        }
        let schemes: usize = said.iter().flat_map(signings_of).map(|it| it.schemes.len()).sum();
        if schemes > SIGNATURES_MAX {
            return Err(format!("{schemes} ways to sign are more than {SIGNATURES_MAX}"));
        }
        said.into_iter().map(|it| Rule::check(it, secrets)).collect::<Result<_, _>>().map(Self)
    }

    /// The headers of one request.
    pub(super) fn headers(
        &self,
        secrets: &Secrets,
        named: Named<'_>,
    ) -> Result<Vec<OutHeader>, Unmade> {
        let (mut seconds, mut milliseconds) = (itoa::Buffer::new(), itoa::Buffer::new());
        let written = Written {
            seconds: seconds.format(named.time.0 / 1000),
            milliseconds: milliseconds.format(named.time.0),
            named,
        };
        let wanted = |rule: &&Rule| rule.needs.as_ref().is_none_or(|it| secrets.has(it));
        let header = |rule: &Rule| {
            Ok(OutHeader { name: rule.name.clone(), value: rule.value(secrets, &written)? })
        };
        self.0.iter().filter(wanted).map(header).collect()
    }
}

impl Rule {
    fn check(said: said::Rule, known: &[SecretNeed]) -> Result<Self, String> {
        let said::Rule { name, value, needs } = said;
        let checked = || {
            let secrets: SmallVec<[Box<str>; 1]> = secrets_of(&value).map(Into::into).collect();
            let needs: Option<Box<str>> = needs.map(Into::into);
            let unknown = secrets
                .iter()
                .chain(&needs)
                .find(|it| known.iter().all(|known| known.name != ***it));
            if let Some(secret) = unknown {
                return Err(format!("its description has no secret {secret:?}"));
            }
            let name = checked_name(&name)?;
            let value = Value::check(value, &name)?;
            Ok(Self { name, value, secrets, needs })
        };
        checked().map_err(|message| format!("the header {name:?}: {message}"))
    }

    fn value(&self, secrets: &Secrets, request: &Written<'_>) -> Result<HeaderValue, Unmade> {
        if let Some(secret) = self.secrets.iter().find(|it| !secrets.has(it)) {
            return Err(Unmade::NoSecret(secret.clone()));
        }
        let stretches = match &self.value {
            Value::Fixed(value) => {
                let (text, sensitive) = text_of(value, secrets).map_err(Unmade::Broken)?;
                return checked_value(&self.name, &text, sensitive).map_err(Unmade::Broken);
            }
            Value::Made(stretches) => stretches,
        };
        let mut text = String::new();
        for stretch in stretches {
            match stretch {
                Stretch::Text(it) => text.push_str(it),
                Stretch::Id => text.push_str(request.named.id),
                Stretch::Seconds => text.push_str(request.seconds),
                Stretch::Milliseconds => text.push_str(request.milliseconds),
                Stretch::Signatures(how, pieces) => {
                    let parts: SmallVec<[&[u8]; PIECES_MAX]> =
                        pieces.iter().map(|it| it.of(request)).collect();
                    let made = secrets.sign_into(&mut text, how, &parts);
                    if made.map_err(Unmade::Broken)? == 0 {
                        return Err(Unmade::Unsigned);
                    }
                }
            }
        }
        checked_value(&self.name, &text, false).map_err(Unmade::Broken)
    }
}

impl Value {
    fn check(said: said::RuleValue, name: &HeaderName) -> Result<Self, String> {
        match said {
            said::RuleValue::Fixed(value) => {
                // With a secret that only stands in for that of a route.
                let stand_in = |name: &str| (name.into(), vec![Key::stand_in(1)]);
                let secrets = Secrets::new(secret_in(&value).map(stand_in));
                let (text, sensitive) = text_of(&value, &secrets)?;
                checked_value(name, &text, sensitive)?;
                Ok(Self::Fixed(value))
            }
            said::RuleValue::Made(stretches) => {
                few(&stretches)?;
                for text in stretches.iter().flat_map(texts_in) {
                    checked_value(name, text, false)?;
                }
                stretches.into_iter().map(Stretch::check).collect::<Result<_, _>>().map(Self::Made)
            }
        }
    }
}

impl Stretch {
    fn check(said: said::Stretch) -> Result<Self, String> {
        Ok(match said {
            said::Stretch::Text(text) => Self::Text(text.into()),
            said::Stretch::Id => Self::Id,
            said::Stretch::Time(said::TimeUnit::Seconds) => Self::Seconds,
            said::Stretch::Time(said::TimeUnit::Milliseconds) => Self::Milliseconds,
            said::Stretch::Signatures(it) => {
                few(&it.pieces)?;
                let bodies = it.pieces.iter().filter(|it| matches!(it, said::Piece::Body)).count();
                if bodies > BODIES_MAX {
                    return Err(format!("the body {bodies} times is more than {BODIES_MAX}"));
                }
                let scheme = |(by, before): (said::Algorithm, String)| (by.into(), before.into());
                let signing = Signing {
                    secret: it.secret.into(),
                    schemes: it.schemes.into_iter().map(scheme).collect(),
                    notation: it.notation.into(),
                    between: it.between.map(Into::into),
                };
                Self::Signatures(signing, it.pieces.into_iter().map(Piece::from).collect())
            }
        })
    }
}

impl Piece {
    fn of<'a>(&'a self, request: &'a Written<'_>) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Body => request.named.body,
            Self::Id => request.named.id.as_bytes(),
            Self::Seconds => request.seconds.as_bytes(),
            Self::Milliseconds => request.milliseconds.as_bytes(),
            Self::Method => request.named.method.as_str().as_bytes(),
            Self::Url => request.named.url.as_bytes(),
        }
    }
}

fn few<T>(pieces: &[T]) -> Result<(), String> {
    match pieces.len() > PIECES_MAX {
        true => Err(format!("{} pieces are more than {PIECES_MAX}", pieces.len())),
        false => Ok(()),
    }
}

/// The secrets that it is made with.
fn secrets_of(value: &said::RuleValue) -> impl Iterator<Item = &str> {
    let (fixed, made) = match value {
        said::RuleValue::Fixed(value) => (secret_in(value), &[][..]),
        said::RuleValue::Made(stretches) => (None, &stretches[..]),
    };
    fixed.into_iter().chain(made.iter().filter_map(signing_in).map(|it| it.secret.as_str()))
}

fn secret_in(value: &wit::HeaderValue) -> Option<&str> {
    match value {
        wit::HeaderValue::Text(_) => None,
        wit::HeaderValue::Secret(it) => Some(&it.secret),
        wit::HeaderValue::Basic(it) => Some(&it.password),
    }
}

/// What of it stands in the header as it is.
fn texts_in(stretch: &said::Stretch) -> impl Iterator<Item = &str> {
    let text = match stretch {
        said::Stretch::Text(text) => Some(text),
        _ => None,
    };
    let signing = signing_in(stretch);
    let befores = signing.into_iter().flat_map(|it| &it.schemes).map(|(_, before)| before);
    let between = signing.and_then(|it| it.between.as_ref());
    text.into_iter().chain(befores).chain(between).map(String::as_str)
}

fn signing_in(stretch: &said::Stretch) -> Option<&said::Signing> {
    match stretch {
        said::Stretch::Signatures(it) => Some(it),
        _ => None,
    }
}

fn signings_of(rule: &said::Rule) -> impl Iterator<Item = &said::Signing> {
    let stretches = match &rule.value {
        said::RuleValue::Fixed(_) => &[][..],
        said::RuleValue::Made(stretches) => stretches,
    };
    stretches.iter().filter_map(signing_in)
}

/// The bytes of its texts.
fn bytes_of(rule: &said::Rule) -> usize {
    let value = match &rule.value {
        said::RuleValue::Fixed(value) => super::meter::of_value(value),
        said::RuleValue::Made(stretches) => stretches.iter().flat_map(texts_in).map(str::len).sum(),
    };
    let signings = signings_of(rule).map(|it| {
        let pieces = it.pieces.iter().map(|piece| match piece {
            said::Piece::Text(text) => text.len(),
            _ => 0,
        });
        it.secret.len() + pieces.sum::<usize>()
    });
    let needs = rule.needs.as_ref().map_or(0, String::len);
    rule.name.len() + value + signings.sum::<usize>() + needs
}

impl From<said::Piece> for Piece {
    fn from(piece: said::Piece) -> Self {
        match piece {
            said::Piece::Text(text) => Self::Text(text.into()),
            said::Piece::Body => Self::Body,
            said::Piece::Id => Self::Id,
            said::Piece::Time(said::TimeUnit::Seconds) => Self::Seconds,
            said::Piece::Time(said::TimeUnit::Milliseconds) => Self::Milliseconds,
            said::Piece::Method => Self::Method,
            said::Piece::Url => Self::Url,
        }
    }
}

impl From<said::Algorithm> for Algorithm {
    fn from(algorithm: said::Algorithm) -> Self {
        match algorithm {
            said::Algorithm::Sha1 => Self::Sha1,
            said::Algorithm::Sha256 => Self::Sha256,
            said::Algorithm::Sha512 => Self::Sha512,
            said::Algorithm::Ed25519 => Self::Ed25519,
        }
    }
}

impl From<said::Notation> for Notation {
    fn from(notation: said::Notation) -> Self {
        match notation {
            said::Notation::Base64 => Self::Base64,
            said::Notation::Base64url => Self::Base64Url,
            said::Notation::Hex => Self::Hex,
        }
    }
}
