//! The interface `secrets`, linked by hand: names and what is signed are taken as they lie
//! in the guest's memory, of which the bindings would make copies. Every delivery asks it.

use smallvec::SmallVec;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, WasmList, WasmStr};

use super::imports::{Call, Input};
use super::secrets::Secrets;

/// Its name, as components import it.
const INTERFACE: &str = "plugpost:plugin/secrets@0.1.0";

/// Ids, timestamps and the like beside the body in what is signed.
const PARTS_BYTES_MAX: usize = 64 << 10;

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
