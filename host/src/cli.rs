//! What a user types. Exit status: 0 fine, 1 the thing asked for is not, 2 the
//! command line is wrong. Errors go to stderr as a chain.

mod check;
mod deliveries;
mod demo;
mod plan;
mod plugin;
mod remote;
mod send;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A webhook delivery engine whose platforms are WebAssembly plugins.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the engine on a folder
    Serve {
        /// The folder with plugpost.toml, sources/, routes/ and plugins/
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Do all that `serve` does before it listens, and nothing else
    Check {
        /// The folder with plugpost.toml, sources/, routes/ and plugins/
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Print the problems as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a folder would send otherwise than it was sent
    Plan(plan::Arguments),
    /// Send an event to a running engine
    Send(send::Send),
    /// List deliveries, or show one with its attempts
    Deliveries(deliveries::Deliveries),
    /// Deliver an event again
    Resend(deliveries::Resend),
    /// Start everything with a receiver of its own, and show deliveries as they happen
    Demo(demo::Demo),
    /// Work on a plugin
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Be the compiler of a running engine
    #[command(name = crate::plugin::COMPILE_COMMAND, hide = true)]
    Compile,
}

/// Run the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve { folder } => serve::run(&folder),
        Command::Check { folder, json } => check::run(&folder, json),
        Command::Plan(plan) => plan.run(),
        Command::Send(send) => send.run(),
        Command::Deliveries(deliveries) => deliveries.run(),
        Command::Resend(resend) => resend.run(),
        Command::Demo(demo) => demo.run(),
        Command::Plugin(plugin) => plugin.run(),
        Command::Compile => compile(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn compile() -> anyhow::Result<bool> {
    crate::plugin::compile_child().map(|()| true).map_err(anyhow::Error::msg)
}

/// Print a line; a reader that has gone away ends the command quietly.
fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write as _};
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// A runtime for commands that make a few requests.
fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}
