//! `plugpost plugin …`: what a plugin's author types.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use super::{block_on, say};
use crate::cases;
use crate::plugin::{Component, Limits, Runtime};

#[derive(Subcommand)]
pub(super) enum Plugin {
    /// Say what a plugin is: roles, capabilities, settings, secrets, event types, policy
    Inspect {
        /// A component, or a core module with its component type
        file: PathBuf,
    },
    /// Run a plugin's golden cases through the engine
    Test {
        /// A component, or a core module with its component type
        file: PathBuf,
        /// The folder with the cases, *.json
        cases: PathBuf,
    },
}

impl Plugin {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        match self {
            Self::Inspect { file } => inspect(file),
            Self::Test { file, cases } => test(file, cases),
        }
    }
}

fn inspect(file: &Path) -> anyhow::Result<bool> {
    let component = load(file)?;
    let description = component.description();
    let roles: Vec<_> = component.roles().iter().map(|it| it.as_str()).collect();
    let secrets: Vec<_> = description
        .secrets
        .iter()
        .map(|it| json!({ "name": it.name, "required": it.required, "summary": it.summary }))
        .collect();
    let policy: serde_json::Map<_, _> =
        description.policy.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let answer = json!({
        "name": description.name,
        "version": description.version,
        "summary": description.summary,
        "roles": roles,
        "imports": component.imports(),
        "settings_schema": description.settings_schema,
        "secrets": secrets,
        "event_types": description.event_types,
        "policy": policy,
        "size_bytes": component.size_bytes(),
        "compile_ms": u64::try_from(component.compile_time().as_millis()).unwrap_or(u64::MAX),
        "sha256": component.sha256(),
    });
    say(format!("{answer:#}"))?;
    Ok(true)
}

fn test(file: &Path, folder: &Path) -> anyhow::Result<bool> {
    let component = load(file)?;
    let ran = block_on(cases::run_all(&component, folder))?;
    let mut failed = 0;
    for case in &ran {
        if let Err(error) = &case.result {
            failed += 1;
            say(format!("FAILED {}: {}\n       {error:#}", case.name, case.about))?;
        }
    }
    say(format!("{}: {} passed, {failed} failed", component.name(), ran.len() - failed))?;
    // A folder without cases shows nothing.
    Ok(failed == 0 && !ran.is_empty())
}

fn load(file: &Path) -> anyhow::Result<Arc<Component>> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let runtime = Runtime::start(Limits::default()).map_err(|it| anyhow::anyhow!("{it:#}"))?;
    Component::load(&runtime, &name, &bytes).with_context(|| file.display().to_string())
}
