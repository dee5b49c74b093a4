//! Runs the command line and turns its end into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    plugpost::cli::main()
}
