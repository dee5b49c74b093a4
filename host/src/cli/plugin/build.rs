//! `plugpost plugin build`: one `.wasm` of a plugin's folder, with the toolchain of
//! its language. What is missing is said, with the way to get it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::go;
use super::project::Language;
use super::test::bytes;
use crate::cli::say;

/// Build a plugin's folder to one .wasm file
#[derive(Args)]
pub(in crate::cli) struct Build {
    /// The plugin's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The file to write; by default NAME.wasm in the folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

const TARGET: &str = "wasm32-unknown-unknown";
/// Where Debian's package rust-web-src puts the library's source.
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/std";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const COMPONENTIZE_PY: &str = "componentize-py";
/// The world a Python plugin is of, unless `[tool.plugpost]` says another.
const WORLD: &str = "platform";

impl Build {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let built = build(&self.folder, self.out.as_deref())?;
        let size = fs::metadata(&built)?.len();
        say(format!("{} ({})", built.display(), bytes(usize::try_from(size)?)))?;
        Ok(true)
    }
}

/// Build a folder, and return where the component is.
pub(in crate::cli) fn build(folder: &Path, out: Option<&Path>) -> anyhow::Result<PathBuf> {
    let language = Language::of(folder)?;
    let manifest = folder.join(language.manifest());
    let text = fs::read_to_string(&manifest)?;
    let name = name(language, &text)
        .with_context(|| format!("{} does not name the plugin", manifest.display()))?;
    let out = out.map_or_else(|| folder.join(format!("{name}.wasm")), Path::to_path_buf);
    // Never half: an engine may be watching.
    let file = out.file_name().context("--out names a file")?.to_string_lossy().into_owned();
    let new = std::path::absolute(out.with_file_name(format!(".{file}.new")))?;
    match language {
        Language::Rust => rust(folder, &name, &new)?,
        Language::JavaScript => javascript(folder, &new)?,
        Language::Python => python(folder, &text, &new)?,
        Language::Go => go(folder, &new)?,
    }
    fs::rename(&new, &out).with_context(|| format!("writing {}", out.display()))?;
    Ok(out)
}

fn name(language: Language, manifest: &str) -> Option<String> {
    let text = |table: &str| {
        let manifest: toml::Table = manifest.parse().ok()?;
        Some(manifest.get(table)?.get("name")?.as_str()?.to_owned())
    };
    let name = match language {
        Language::Rust => text("package")?,
        Language::Python => text("project")?,
        Language::JavaScript => {
            let manifest: Value = serde_json::from_str(manifest).ok()?;
            manifest.get("name")?.as_str()?.to_owned()
        }
        Language::Go => {
            let module = manifest.lines().find_map(|it| it.trim().strip_prefix("module "))?.trim();
            module.rsplit_once('/').map_or(module, |(_, name)| name).to_owned()
        }
    };
    // A file's name, nowhere else.
    (!name.is_empty() && !name.contains(['/', '\\'])).then_some(name)
}

fn rust(folder: &Path, name: &str, out: &Path) -> anyhow::Result<()> {
    let sysroot = said(Command::new("rustc").args(["--print", "sysroot"]).current_dir(folder))
        .context("Rust is missing: https://rustup.rs installs it")?;
    let sysroot = Path::new(sysroot.trim());
    let target = std::path::absolute(folder)?.join("target");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", &target);
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        ensure!(
            Path::new(DEBIAN_RUSTC).is_file() && Path::new(DEBIAN_SOURCE).is_dir(),
            "the Rust target {TARGET} is missing: run `rustup target add {TARGET}`, or on Debian \
             `apt-get install rustc-web rust-web-src`"
        );
        let version = said(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|it| it.strip_prefix("host: "));
        let host = host.context("rustc does not name its host")?;
        cargo
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
                sysroot.join("lib/rustlib").join(host).join("bin/rust-lld"),
            )
            .arg("-Zbuild-std=std,panic_abort");
    }
    run(&mut cargo)?;
    let built =
        target.join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_")));
    fs::copy(&built, out).with_context(|| {
        format!("{} was not built: a plugin's [lib] has crate-type = [\"cdylib\"]", built.display())
    })?;
    Ok(())
}

fn javascript(folder: &Path, out: &Path) -> anyhow::Result<()> {
    said(Command::new("node").arg("--version"))
        .context("Node.js is missing: https://nodejs.org, or your system's package `nodejs`")?;
    if !folder.join("node_modules/@bytecodealliance/componentize-js").is_dir() {
        say("fetching: componentize-js (npm)")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(folder);
        run(&mut npm).context("npm could not fetch componentize-js")?;
    }
    run(Command::new("node").arg("build.mjs").arg(out).current_dir(folder))
}

fn python(folder: &Path, manifest: &str, out: &Path) -> anyhow::Result<()> {
    let manifest: toml::Table = manifest.parse()?;
    let world = manifest.get("tool").and_then(|it| it.get("plugpost")?.get("world")?.as_str());
    let own = std::path::absolute(folder)?.join(".venv/bin").join(COMPONENTIZE_PY);
    let command = match own.is_file() {
        true => own,
        false if said(Command::new(COMPONENTIZE_PY).arg("--version")).is_ok() => {
            COMPONENTIZE_PY.into()
        }
        false => {
            fetch_componentize_py(folder, &manifest)?;
            own
        }
    };
    let mut command = Command::new(command);
    command.args(["-d", "wit", "-w", world.unwrap_or(WORLD), "componentize", "app", "-o"]);
    run(command.arg(out).current_dir(folder))
}

fn fetch_componentize_py(folder: &Path, manifest: &toml::Table) -> anyhow::Result<()> {
    say("fetching: componentize-py (pip), into .venv")?;
    let python = ["python3", "python"]
        .into_iter()
        .find(|it| said(Command::new(it).arg("--version")).is_ok())
        .context("Python is missing: https://python.org, or your system's package `python3`")?;
    run(Command::new(python).args(["-m", "venv", ".venv"]).current_dir(folder))
        .context("no virtual environment: on Debian it needs the package `python3-venv`")?;
    let wanted = manifest.get("dependency-groups").and_then(|it| it.get("dev")?.as_array());
    let wanted: Vec<&str> = wanted.into_iter().flatten().filter_map(|it| it.as_str()).collect();
    let mut pip = Command::new(std::path::absolute(folder)?.join(".venv/bin/python"));
    pip.args(["-m", "pip", "install", "--quiet"]).args(&wanted).current_dir(folder);
    run(&mut pip).context("pip could not fetch componentize-py")
}

/// The first that exports what a component calls (`go:wasmexport`).
const GO_MIN: (u32, u32) = (1, 24);

fn go(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let version = said(Command::new("go").args(["env", "GOVERSION"]).current_dir(folder))
        .context("Go is missing: https://go.dev/dl, or your system's package `golang`")?;
    let mut numbers = version.trim().trim_start_matches("go").split(['.', 'r', 'b', '-', ' ']);
    let mut number = || numbers.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let found = (number(), number());
    ensure!(
        found >= GO_MIN,
        "{} is too old for plugins: Go {}.{} or later is needed (https://go.dev/dl)",
        version.trim(),
        GO_MIN.0,
        GO_MIN.1
    );
    let mut go = Command::new("go");
    // The bindings allocate before Go's own memory is set up, by a function of its runtime.
    go.args(["build", "-buildmode=c-shared", "-ldflags=-s -w -checklinkname=0", "-trimpath", "-o"])
        .arg(out)
        .arg(".")
        .current_dir(folder)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm");
    run(&mut go)?;
    go::encode(out, &folder.join("wit"))
}

/// Run a tool, with what it says for the user to see.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // What it prints is about the build, not its result.
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("`{name}` does not start: is it installed?"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("`{name}` failed ({status}): what it said stands above"),
    }
}

/// What a tool says.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
