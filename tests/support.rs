//! What the tests stand on: an engine that is a process, receivers that do as
//! they are told, folders as a user writes them, and HTTP written by hand. It
//! knows nothing of what is tested.

pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod folder;
pub(crate) mod guest;
pub(crate) mod hub;
pub(crate) mod postgres;
pub(crate) mod receiver;
pub(crate) mod registry;
pub(crate) mod store;
pub(crate) mod tls;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything takes on a slow machine: it only ends a test that
/// would never end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that sends no signal.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Ask until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, ask)
}

/// The same, for what may rightly take longer.
#[track_caller]
pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} for {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// For tests that measure, or that load the machine on purpose: one at a time.
/// The others may run beside them.
pub(crate) fn measuring() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().expect("the host is a folder of the repository").to_owned()
}

/// A plugin's file, built.
pub(crate) fn plugin(name: &str) -> PathBuf {
    let file = root().join("target/plugins").join(name).with_extension("wasm");
    assert!(file.is_file(), "{} is missing: run `make plugins`", file.display());
    file
}

/// A program that cargo puts beside the engine's.
pub(crate) fn beside_the_engine(name: &str, advice: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_BIN_EXE_plugpost")).with_file_name(name);
    assert!(file.is_file(), "{} is missing: run `{advice}`", file.display());
    file
}

/// The engine's command line, as a user types it, to its end.
pub(crate) fn plugpost(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    let mut command = engine::command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    let output = command.args(arguments).stdin(Stdio::null()).output();
    Ran::from(output.expect("the binary starts"))
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None when a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Run a line of shell.
pub(crate) fn shell(line: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).arg("sh").args(arguments);
    command
}

/// The files in a folder with that extension, by name; never none.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|it| panic!("{}: {it}", folder.display()));
    let mut files: Vec<_> = entries.map(|it| it.expect("a readable entry").path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == extension));
    files.sort();
    assert!(!files.is_empty(), "{} has no *.{extension}", folder.display());
    files
}

/// Every file below a folder with that extension, by path; never none.
pub(crate) fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    fn gather(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder);
        for entry in entries.unwrap_or_else(|it| panic!("{}: {it}", folder.display())) {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                gather(&path, extension, found);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    gather(folder, extension, &mut found);
    found.sort();
    assert!(!found.is_empty(), "{} has no *.{extension} anywhere", folder.display());
    found
}
