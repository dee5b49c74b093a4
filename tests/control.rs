//! The host with three mistakes built in, for the tests that must see them: it
//! acknowledges an event before it is committed, sends what it reads without looking
//! whether that is what it wrote, and takes lanes that another node has.

use std::process::ExitCode;

// It is compiled with the fuzzer, and counts edges as that does.
use libfuzzer_sys as _;

fn main() -> ExitCode {
    plugpost::cli::main()
}
