//! `plugpost dev`: build, test and load a plugin at every save.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;

use super::plugin::{build, test};
use super::{say, serve};

/// Build, test and load a plugin at every save
#[derive(Args)]
pub(super) struct Dev {
    /// The plugin's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// A hub to run with it: a plugin whose cases hold goes into its plugins/
    #[arg(long, value_name = "DIR")]
    hub: Option<PathBuf>,
}

/// How often the files are looked at: a person does not notice.
const POLL: Duration = Duration::from_millis(300);
/// A plugin's own files are few; what tools make is not looked at.
const FILES_MAX: usize = 10_000;
const MADE_BY_TOOLS: [&str; 3] = ["target", "node_modules", "__pycache__"];

impl Dev {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        // A hub that uses the plugin does not load without it.
        let seen = files(&self.folder);
        self.attempt();
        match self.hub.clone() {
            None => self.follow(seen),
            Some(hub) => {
                thread::Builder::new().name("dev".into()).spawn(move || self.follow(seen))?;
                serve::run(&hub)
            }
        }
    }

    fn follow(&self, mut seen: Vec<(PathBuf, SystemTime, u64)>) -> ! {
        loop {
            thread::sleep(POLL);
            let now = files(&self.folder);
            if now != seen {
                seen = now;
                self.attempt();
            }
        }
    }

    fn attempt(&self) {
        if let Err(error) = self.build_and_test() {
            eprintln!("error: {error:#}");
        }
    }

    fn build_and_test(&self) -> anyhow::Result<()> {
        let built = build(&self.folder, None)?;
        let holds = test(&built, &self.folder.join("cases"))?;
        let Some(hub) = &self.hub else { return Ok(()) };
        if !holds {
            return say("not loaded: what ran before goes on");
        }
        let name = built.file_name().context("a file has a name")?;
        let plugins = hub.join("plugins");
        fs::create_dir_all(&plugins)?;
        let new = plugins.join(".dev.new");
        fs::copy(&built, &new)?;
        fs::rename(&new, plugins.join(name))?;
        say(format!("loaded into {}", plugins.display()))
    }
}

/// A plugin's files, with what tells a changed one.
fn files(folder: &Path) -> Vec<(PathBuf, SystemTime, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()) {
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let is_made = name.starts_with('.')
                || MADE_BY_TOOLS.contains(&name)
                || name.ends_with(".wasm")
                || name.ends_with(".lock")
                || name == "package-lock.json";
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if is_made || found.len() >= FILES_MAX {
                continue;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else if let Ok(modified) = metadata.modified() {
                found.push((path, modified, metadata.len()));
            }
        }
    }
    found.sort();
    found
}
