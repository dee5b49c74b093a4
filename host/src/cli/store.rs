//! `plugpost store`: work on a store that nobody serves at the moment.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::{check, say};
use crate::config::Folder;
use crate::queue::subscriptions::reseal;
use crate::vault::{self, KeyId, Vault};

/// Work on the store
#[derive(Subcommand)]
pub(super) enum Store {
    /// Seal subscriptions' secrets anew, with the newest key
    ///
    /// The keys come from PLUGPOST_SECRET_KEY or `[store] secret_key`, the newest first and the
    /// old ones behind it, and from the key file beside the store where there is one. The engine
    /// must not be running. When this is done, the old keys can go.
    Reencrypt {
        /// The folder with plugpost.toml
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
}

impl Store {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let Self::Reencrypt { folder } = self;
        let (read, mut problems) = Folder::read(&folder, false);
        problems.retain(|it| it.file.as_os_str() == "plugpost.toml");
        if !problems.is_empty() {
            check::report(&problems);
            return Ok(false);
        }
        let store = &read.hub.store;
        let mut keys = read.hub.secret_keys.unwrap_or_default();
        if let Some(path) = store.file() {
            if !path.is_file() {
                bail!("there is no store {store}");
            }
            let file = vault::key_file(path);
            let of_file = vault::read_key_file(&file);
            keys.extend(of_file.with_context(|| file.display().to_string())?.unwrap_or_default());
        }
        let Some(newest) = keys.first().map(KeyId::of) else {
            bail!("there is no key: give one in {}", vault::VARIABLE);
        };
        let vault = Vault::new(&keys);
        let resealed = reseal(store, |owner, it| {
            if vault.is_newest(&it.sealed.key) {
                return Ok(None);
            }
            let text = it.open(&vault, owner)?;
            Ok(Some(vault.seal(it.place(owner), &text)))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let resealed = runtime.block_on(resealed);
        let (all, changed) = resealed.with_context(|| format!("nothing was changed in {store}"))?;
        say(format!(
            "{changed} of {all} secrets sealed anew; all are sealed with the key {newest}"
        ))?;
        Ok(true)
    }
}
