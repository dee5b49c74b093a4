//! Compiling, in a process of its own: this program again, with another command.
//!
//! A component can be made to take minutes or gigabytes to compile, and wasmtime
//! does not count that as its fault. So the work has a limit on processor time,
//! memory and wall-clock time, runs at low priority, and what it allocated goes
//! away with it.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

use super::runtime::config;

/// The hidden command under which this program compiles.
pub(crate) const COMMAND: &str = "compile-component";

/// Processor time: a 12 MB JavaScript component takes about a tenth of it.
const CPU_S_MAX: u64 = 60;
/// Wall-clock time, on a machine where others work as well.
const WALL_MAX: Duration = Duration::from_mins(3);
/// Address space. Cranelift takes about a hundred times a function's size.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Below everything that delivers.
const NICENESS: i32 = 10;

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("the compiler did not start: {0}")]
    Start(io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("compiling took more than {CPU_S_MAX} s, {WALL_MAX:?}, or 4 GiB")]
    TooMuch,
}

/// Machine code for a component, from a child process.
pub(super) fn in_a_child(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let program = std::env::current_exe().map_err(CompileError::Start)?;
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CompileError::Start)?;
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(CompileError::Start(io::Error::other("no pipes")));
    };
    let (done, finished) = mpsc::channel();
    let (code, message) = thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(component)));
        let message = scope.spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let code = scope.spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.read_to_end(&mut bytes);
            let _ = done.send(());
            read.map(|_| bytes)
        });
        if finished.recv_timeout(WALL_MAX).is_err() {
            let _ = child.kill();
        }
        (code.join(), message.join())
    });
    let status = child.wait().map_err(CompileError::Start)?;
    match (status.code(), code) {
        (Some(0), Ok(Ok(code))) => Ok(code),
        (Some(1), _) => Err(CompileError::Refused(message.unwrap_or_default().trim().to_owned())),
        _ => Err(CompileError::TooMuch),
    }
}

/// Be that child: a component on stdin, machine code on stdout; a component that
/// cannot be compiled is exit status 1 with the reason on stderr.
pub(crate) fn child() -> Result<(), String> {
    bound_this_process();
    let mut component = Vec::new();
    io::stdin().read_to_end(&mut component).map_err(|error| error.to_string())?;
    let engine = Engine::new(&config(None)).map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&component).map_err(|error| format!("{error:#}"))?;
    io::stdout().write_all(&code).map_err(|error| error.to_string())
}

fn bound_this_process() {
    let limit = |value| libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: plain system calls on this process, before it has other threads.
    #[expect(unsafe_code, reason = "resource limits have no safe wrapper in the standard library")]
    unsafe {
        libc::setrlimit(libc::RLIMIT_CPU, &limit(CPU_S_MAX));
        libc::setrlimit(libc::RLIMIT_AS, &limit(MEMORY_BYTES_MAX));
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}
