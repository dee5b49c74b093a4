//! libFuzzer on what strangers' bytes meet in the host: `FUZZ_TARGET` names one of them.
//! What is WebAssembly is changed within its sections, whose lengths stay right: most of
//! it would be refused at its first byte otherwise.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use plugpost::fuzz::TARGETS;

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let names = TARGETS.map(|(name, _)| name);
        let found = TARGETS.iter().find(|(it, _)| *it == name);
        found.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {names:?}")).1
    });
    target(bytes);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // One in four is changed anywhere.
    let changed = if seed.is_multiple_of(4) { None } else { within(&data[..size], seed / 4) };
    match changed.filter(|it| it.len() <= max_size) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

/// Magic number and version.
const HEADER: usize = 8;
/// In a component: a core module, a component.
const WITHIN: [u8; 2] = [1, 4];
/// What a section may gain at once.
const GAIN_MAX: usize = 64;

/// The same WebAssembly with one section changed, doubled, left out or put elsewhere.
fn within(wasm: &[u8], luck: u32) -> Option<Vec<u8>> {
    let (header, mut rest) = wasm.strip_prefix(b"\0asm").and(wasm.split_at_checked(HEADER))?;
    let is_component = header[6] == 1;
    let mut sections = Vec::new();
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = length(after)?;
        let (payload, after) = after.split_at_checked(length)?;
        sections.push((*id, payload.to_vec()));
        rest = after;
    }
    let at = luck as usize % sections.len().max(1);
    let (id, payload) = sections.get_mut(at)?;
    let luck = luck / 31;
    match luck % 16 {
        0 => drop(sections.remove(at)),
        1 => sections.insert(at, sections[at].clone()),
        2 => {
            let other = luck as usize / 16 % sections.len();
            sections.swap(at, other);
        }
        _ => {
            let inner = is_component && WITHIN.contains(id);
            let changed = inner.then(|| within(payload, luck / 16)).flatten();
            *payload = changed.unwrap_or_else(|| {
                let mut room = payload.clone();
                room.resize(payload.len() + GAIN_MAX, 0);
                let most = room.len();
                let length = fuzzer_mutate(&mut room, payload.len(), most);
                room.truncate(length);
                room
            });
        }
    }
    let mut changed = header.to_vec();
    for (id, payload) in sections {
        changed.push(id);
        let mut left = payload.len();
        while left > 0x7f {
            changed.push(left as u8 | 0x80);
            left >>= 7;
        }
        changed.push(left as u8);
        changed.extend(payload);
    }
    Some(changed)
}

/// A number of LEB128, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().take(5).position(|it| it & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(end + 1);
    let number = number.iter().rev().fold(0, |all, it| all << 7 | usize::from(it & 0x7f));
    Some((number, rest))
}
