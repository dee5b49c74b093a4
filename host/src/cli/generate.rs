//! `plugpost completions` and `plugpost man`: what packagers install.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;

pub(super) fn completions(
    shell: clap_complete::Shell,
    mut command: Command,
) -> anyhow::Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "plugpost", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(true)
}

pub(super) fn man(folder: &Path, command: Command) -> anyhow::Result<bool> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    clap_mangen::generate_to(command.name("plugpost"), folder)
        .with_context(|| format!("writing into {}", folder.display()))?;
    Ok(true)
}
