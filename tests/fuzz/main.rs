//! libFuzzer on the parsers of the host: `FUZZ_TARGET` names one of them.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
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
