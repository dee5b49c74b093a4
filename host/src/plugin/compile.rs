//! Compiling, in a process of its own: this program again, with another command.
//!
//! A component can be made to take minutes or gigabytes to compile, and wasmtime
//! does not count that as its fault. So the work has a limit on processor time,
//! memory and wall-clock time, runs at low priority, and what it allocated goes
//! away with it. A core module becomes a component there as well.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmparser::Parser;
use wasmtime::Engine;
use wit_component::ComponentEncoder;

use super::runtime::config;

/// The hidden command under which this program compiles.
pub(crate) const COMMAND: &str = "compile-component";

/// Processor time: a 12 MB JavaScript component takes about a tenth of it.
const CPU_S_MAX: u64 = 60;
/// Wall-clock time, on a machine where others work as well.
const WALL_MAX: Duration = Duration::from_mins(10);
/// Address space. Cranelift takes about a hundred times a function's size.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Machine code of one component: a 40 MB Python component has about 150 MB.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// Of what the compiler says.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;
/// Below everything that delivers.
const NICENESS: i32 = 10;

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("the compiler did not start: {0}")]
    Start(io::Error),
    #[error("{0}")]
    Refused(String),
    #[error(
        "it takes more than {CPU_S_MAX} s of processor time, {} s, {} GiB of memory or {} MiB of \
         machine code",
        WALL_MAX.as_secs(), MEMORY_BYTES_MAX >> 30, CODE_BYTES_MAX >> 20
    )]
    TooMuch,
    #[error("the compiler broke down over it: {0}")]
    Broke(String),
}

/// Machine code for a component or a core module, from a child process.
pub(super) fn in_a_child(wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    let program = std::env::current_exe().map_err(CompileError::Start)?;
    // What a fuzzer does with its arguments is its own: the engine beside it compiles.
    #[cfg(feature = "fuzz")]
    let program = program.with_file_name("plugpost");
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CompileError::Start)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(CompileError::Start(io::Error::other("no pipes")));
    };
    let (done, finished) = mpsc::channel();
    let (code, message) = thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(wasm)));
        // Past its limit a pipe is closed, and the child has nobody to write to.
        let message = scope.spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).trim().trim_start_matches("error: ").to_owned()
        });
        let code = scope.spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(CODE_BYTES_MAX).read_to_end(&mut bytes);
            let _ = done.send(());
            read.map(|_| bytes)
        });
        if finished.recv_timeout(WALL_MAX).is_err() {
            let _ = child.kill();
        }
        (code.join(), message.join())
    });
    let status = child.wait().map_err(CompileError::Start)?;
    let message = message.unwrap_or_default();
    match (status.code(), code) {
        (Some(0), Ok(Ok(code))) => Ok(code),
        (Some(1), _) => Err(CompileError::Refused(message)),
        // A signal: of its own limits, of ours, or because it could not have more memory.
        (None, _) if !message.contains("overflowed its stack") => Err(CompileError::TooMuch),
        _ => Err(CompileError::Broke(message)),
    }
}

/// Be that child: WebAssembly on stdin, machine code on stdout; what cannot be
/// compiled is exit status 1 with the reason on stderr.
pub(crate) fn child() -> Result<(), String> {
    bound_this_process();
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    if Parser::is_core_wasm(&wasm) {
        wasm = encode(&wasm)?;
    }
    let engine = Engine::new(&config(None)).map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&wasm).map_err(|error| format!("{error:#}"))?;
    io::stdout().write_all(&code).map_err(|error| error.to_string())
}

/// What plain `cargo build --target wasm32-unknown-unknown` gives becomes a component.
pub(super) fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode());
    encoder.map_err(|error| {
        format!(
            "a core module without a component type: build it with wit-bindgen, or make a \
             component of it with `wasm-tools component new` ({error:#})"
        )
    })
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
