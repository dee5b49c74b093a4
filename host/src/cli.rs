//! What a user types. Exit status: 0 fine, 1 the thing asked for is not, 2 the
//! command line is wrong. Errors go to stderr as a chain.

mod check;
mod deliveries;
mod demo;
mod dev;
mod diff;
mod events;
mod generate;
mod hub_test;
mod listen;
mod listing;
mod nodes;
mod plan;
mod plugin;
mod portal;
mod recover;
mod remote;
mod send;
mod serve;
mod store;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

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
    Test(hub_test::Arguments),
    /// Send an event to a running engine
    Send(send::Send),
    /// List events, or show one as it came in
    Events(events::Events),
    /// List deliveries, or show one with its attempts
    Deliveries(deliveries::Deliveries),
    /// Deliver an event again
    Resend(deliveries::Resend),
    /// Send a range of deliveries again, and show how far it is
    Recover(recover::Recover),
    /// Make a link that shows one tenant's share of the dashboard
    Portal(portal::Portal),
    Nodes(nodes::Nodes),
    /// Show attempts as they happen
    Tail(tail::Tail),
    /// Be a receiver: show what arrives, and verify it
    Listen(listen::Listen),
    /// Start everything with a receiver of its own, and show deliveries as they happen
    Demo(demo::Demo),
    /// Work on the store
    #[command(subcommand)]
    Store(store::Store),
    /// Work on a plugin
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    Dev(dev::Dev),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// The folder; it is made if need be
        folder: PathBuf,
    },
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
        Command::Test(test) => test.run(),
        Command::Send(send) => send.run(),
        Command::Deliveries(deliveries) => deliveries.run(),
        Command::Resend(resend) => resend.run(),
        Command::Events(events) => events.run(),
        Command::Recover(recover) => recover.run(),
        Command::Portal(portal) => portal.run(),
        Command::Nodes(nodes) => nodes.run(),
        Command::Tail(tail) => tail.run(),
        Command::Listen(listen) => listen.run(),
        Command::Completions { shell } => generate::completions(shell, Arguments::command()),
        Command::Man { folder } => generate::man(&folder, Arguments::command()),
        Command::Demo(demo) => demo.run(),
        Command::Store(store) => store.run(),
        Command::Plugin(plugin) => plugin.run(),
        Command::Dev(dev) => dev.run(),
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
    // Without its colours where nobody would see them, or NO_COLOR is set.
    match writeln!(anstream::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// How an outcome or a status looks.
fn styled(word: &str, width: usize) -> String {
    let style = anstyle::Style::new();
    let style = match word {
        "delivered" => style.fg_color(Some(anstyle::AnsiColor::Green.into())),
        "retry" | "pending" => style.fg_color(Some(anstyle::AnsiColor::Yellow.into())),
        "reject" | "dead" => style.fg_color(Some(anstyle::AnsiColor::Red.into())),
        _ => style.dimmed(),
    };
    format!("{style}{word:<width$}{style:#}")
}

/// A runtime for commands that make a few requests.
fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}
