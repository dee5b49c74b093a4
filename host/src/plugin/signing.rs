//! The interface `secrets`, linked by hand: names and what is signed are taken as they lie
//! in the guest's memory, of which the bindings would make copies. Every delivery asks it.

use smallvec::SmallVec;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmList, WasmStr};

use super::imports::{Call, Input};
use super::secrets::{self, Secrets};

/// Its name, as components import it.
const INTERFACE: &str = "plugpost:plugin/secrets@0.1.0";

/// Ids, timestamps and the like beside the body in what is signed.
const PARTS_BYTES_MAX: usize = 64 << 10;

/// Ways to sign in one call: twice as many as there are algorithms.
const SCHEMES_MAX: usize = 8;

type Guest<'a> = StoreContextMut<'a, Call>;

/// A stretch of what is signed.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum Part {
    #[component(name = "bytes")]
    Bytes(WasmList<u8>),
    #[component(name = "body")]
    Body,
}

/// A stretch of what is signed as one text.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum Piece {
    #[component(name = "bytes")]
    Bytes(WasmList<u8>),
    #[component(name = "body")]
    Body,
    #[component(name = "id")]
    Id,
    #[component(name = "time")]
    Time,
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "they come out of the guest's memory")]
enum Algorithm {
    #[component(name = "sha1")]
    Sha1,
    #[component(name = "sha256")]
    Sha256,
    #[component(name = "sha512")]
    Sha512,
    #[component(name = "ed25519")]
    Ed25519,
}

impl From<Algorithm> for secrets::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1,
            Algorithm::Sha256 => Self::Sha256,
            Algorithm::Sha512 => Self::Sha512,
            Algorithm::Ed25519 => Self::Ed25519,
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "they come out of the guest's memory")]
enum Notation {
    #[component(name = "base64")]
    Base64,
    #[component(name = "base64url")]
    Base64Url,
    #[component(name = "hex")]
    Hex,
}

impl From<Notation> for secrets::Notation {
    fn from(notation: Notation) -> Self {
        match notation {
            Notation::Base64 => Self::Base64,
            Notation::Base64Url => Self::Base64Url,
            Notation::Hex => Self::Hex,
        }
    }
}

/// What was made of them, and their time.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Signed {
    text: String,
    time: u64,
}

pub(super) fn add_to_linker(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    let mut linked = linker.instance(INTERFACE)?;
    linked.func_wrap("has", |guest: Guest<'_>, (secret,): (WasmStr,)| {
        let secret = secret.to_str(&guest)?;
        Ok((guest.data().secrets.has(&secret),))
    })?;
    linked.func_wrap("matches", |guest: Guest<'_>, (secret, text): (WasmStr, WasmStr)| {
        let (secret, text) = (secret.to_str(&guest)?, text.to_str(&guest)?);
        Ok((guest.data().secrets.matches(&secret, &text),))
    })?;
    linked.func_wrap("hmac", |guest: Guest<'_>, asked| codes(guest, asked, Secrets::hmac))?;
    linked.func_wrap("sign", |guest: Guest<'_>, asked| codes(guest, asked, Secrets::sign))?;
    linked.func_wrap("signatures", signatures)?;
    linked.func_wrap(
        "verify",
        |guest: Guest<'_>,
         (secret, algorithm, parts, signature): (WasmStr, WasmStr, Vec<Part>, WasmList<u8>)| {
            let (secret, algorithm) = (secret.to_str(&guest)?, algorithm.to_str(&guest)?);
            let secrets = &guest.data().secrets;
            let signature = signature.as_le_slice(&guest);
            let fits = bytes_of(&guest, &parts)
                .and_then(|parts| secrets.verify(&secret, &algorithm, &parts, signature));
            Ok((fits,))
        },
    )
}

/// What is answered, or why not.
type Said<T> = wasmtime::Result<(Result<T, String>,)>;

/// One for each active version of a key.
type Codes = Vec<Vec<u8>>;

/// By this secret and this algorithm, over these parts.
type Computed = fn(&Secrets, &str, &str, &[&[u8]]) -> Result<Codes, String>;

fn codes(
    guest: Guest<'_>,
    (secret, algorithm, parts): (WasmStr, WasmStr, Vec<Part>),
    by: Computed,
) -> Said<Codes> {
    let (secret, algorithm) = (secret.to_str(&guest)?, algorithm.to_str(&guest)?);
    let parts = bytes_of(&guest, &parts);
    Ok((parts.and_then(|parts| by(&guest.data().secrets, &secret, &algorithm, &parts)),))
}

/// An algorithm, and what stands before its signatures.
type Scheme = (Algorithm, WasmStr);

fn signatures(
    guest: Guest<'_>,
    (secret, notation, schemes, between, pieces): (
        WasmStr,
        Notation,
        Vec<Scheme>,
        WasmStr,
        Vec<Piece>,
    ),
) -> Said<Signed> {
    if schemes.len() > SCHEMES_MAX {
        return Ok((Err(format!("more than {SCHEMES_MAX} schemes")),));
    }
    let secret = secret.to_str(&guest)?;
    let Call { secrets, input, .. } = guest.data();
    let id = input.outgoing_id();
    if id.is_none() && pieces.iter().any(|it| matches!(it, Piece::Id)) {
        return Ok((Err("only an outgoing request has an id".to_owned()),));
    }
    let time = input.time().0 / 1000;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(time).as_bytes();
    let bytes_of = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => bytes.as_le_slice(&guest),
        Piece::Body => input.body(),
        Piece::Id => id.as_deref().unwrap_or_default().as_bytes(),
        Piece::Time => digits,
    };
    let parts = match bounded(pieces.iter().map(bytes_of).collect(), input) {
        Ok(parts) => parts,
        Err(refusal) => return Ok((Err(refusal),)),
    };
    let notation = secrets::Notation::from(notation);
    let mut text = String::new();
    for (algorithm, before) in schemes {
        let codes = match secrets.codes(&secret, algorithm.into(), &parts) {
            Ok(codes) => codes,
            Err(refusal) => return Ok((Err(refusal),)),
        };
        for code in codes {
            let before = before.to_str(&guest)?;
            // Hexadecimal takes two characters for a byte, the others fewer.
            text.reserve(before.len() + 2 * code.len());
            if !text.is_empty() {
                text.push_str(&between.to_str(&guest)?);
            }
            text.push_str(&before);
            notation.write(&code, &mut text);
        }
    }
    Ok((Ok(Signed { text, time }),))
}

/// What is signed, stretch by stretch; there are few.
type Stretches<'a> = SmallVec<[&'a [u8]; 8]>;

/// What is to be signed.
fn bytes_of<'a>(guest: &'a Guest<'_>, parts: &[Part]) -> Result<Stretches<'a>, String> {
    let input = &guest.data().input;
    let bytes_of = |part: &Part| match part {
        Part::Bytes(bytes) => bytes.as_le_slice(guest),
        Part::Body => input.body(),
    };
    bounded(parts.iter().map(bytes_of).collect(), input)
}

/// A deadline does not reach into a host call, so what one call can ask for is
/// bounded: every scheme signs the body once.
fn bounded<'a>(parts: Stretches<'a>, input: &Input) -> Result<Stretches<'a>, String> {
    let bytes_max = 2 * input.body().len() + PARTS_BYTES_MAX;
    match parts.iter().map(|it| it.len()).sum::<usize>() > bytes_max {
        true => Err(format!("the parts have more than {bytes_max} bytes")),
        false => Ok(parts),
    }
}
