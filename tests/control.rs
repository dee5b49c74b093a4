//! The host with one mistake built in, for the tests that must see it: it
//! acknowledges an event before it is committed.

use std::process::ExitCode;

fn main() -> ExitCode {
    plugpost::cli::main()
}
