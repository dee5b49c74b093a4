//! `plugpost plugin …`: what a plugin's author types.

mod bench;
mod build;
mod go;
mod inspect;
mod project;
mod push;
mod test;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;

use crate::plugin::{Component, Limits, Runtime};
pub(super) use build::build;
pub(super) use test::test;

#[derive(Subcommand)]
pub(super) enum Plugin {
    New(project::New),
    Build(build::Build),
    Test(test::Test),
    Bench(bench::Bench),
    Inspect(inspect::Inspect),
    Doc(inspect::Doc),
    Push(push::Push),
}

impl Plugin {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        match self {
            Self::New(new) => new.run(),
            Self::Build(build) => build.run(),
            Self::Test(test) => test.run(),
            Self::Bench(bench) => bench.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Doc(doc) => doc.run(),
            Self::Push(push) => push.run(),
        }
    }
}

fn load(file: &Path) -> anyhow::Result<Arc<Component>> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let runtime = Runtime::start(Limits::default()).map_err(|it| anyhow::anyhow!("{it:#}"))?;
    Component::load(&runtime, &name, &bytes).with_context(|| file.display().to_string())
}
