//! `plugpost store`: work on a store that nobody serves at the moment.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::{block_on, check, say};
use crate::config::{Folder, Hub};
use crate::queue::subscriptions::reseal;
use crate::queue::{Address, Moved, Transferred, transfer};
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
    /// Move a SQLite store into an empty PostgreSQL database
    ///
    /// Everything goes over under its own id: events, deliveries and what waits of them,
    /// attempts, duplicate keys, endpoints, subscriptions with their sealed secrets. The engine
    /// must not be running. The file is left as it is; when this is done, give the URL to
    /// store.url and the same secret key to every node. Interrupted, run it again: it begins
    /// anew.
    Migrate {
        /// The folder with plugpost.toml, whose store is a file
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// The database: postgres://USER@HOST/DATABASE, as store.url has it. In the variable no
        /// list of processes shows its password
        #[arg(long, env = "PLUGPOST_MIGRATE_TO", hide_env_values = true, value_name = "URL")]
        to: String,
    },
}

impl Store {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let (Self::Reencrypt { folder } | Self::Migrate { folder, .. }) = &self;
        let (read, mut problems) = Folder::read(folder, false);
        problems.retain(|it| it.file.as_os_str() == "plugpost.toml");
        if !problems.is_empty() {
            check::report(&problems);
            return Ok(false);
        }
        match &self {
            Self::Reencrypt { .. } => reencrypt(read.hub),
            Self::Migrate { folder, to } => migrate(&read.hub, folder, to),
        }
    }
}

fn reencrypt(hub: Hub) -> anyhow::Result<bool> {
    let store = &hub.store;
    let mut keys = hub.secret_keys.unwrap_or_default();
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
    let resealing = reseal(store, |owner, it| {
        if vault.is_newest(&it.sealed.key) {
            return Ok(None);
        }
        let text = it.open(&vault, owner)?;
        Ok(Some(vault.seal(it.place(owner), &text)))
    });
    let (all, changed) = block_on(async {
        resealing.await.with_context(|| format!("nothing was changed in {store}"))
    })?;
    say(format!("{changed} of {all} secrets sealed anew; all are sealed with the key {newest}"))?;
    Ok(true)
}

fn migrate(hub: &Hub, folder: &Path, to: &str) -> anyhow::Result<bool> {
    let store = &hub.store;
    let Some(file) = store.file() else { bail!("the store of this folder is no file: {store}") };
    if !file.is_file() {
        bail!("there is no store {store}");
    }
    let to = Address::parse(to, folder).map_err(anyhow::Error::msg).context("--to")?;
    let terminal = std::io::stderr().is_terminal();
    let told = |Moved { table, rows, of }: Moved| {
        if terminal {
            eprint!("\r\x1b[K{table}: {rows} of {of}");
            let _ = std::io::stderr().flush();
        }
    };
    let transferred = block_on(async {
        let transferred = transfer(file, &to, told).await;
        transferred.with_context(|| format!("cannot move {store} into {to}"))
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let Transferred { tables, keys } = transferred?;
    for Moved { table, rows, .. } in tables {
        say(format!("{rows:>10} {table}"))?;
    }
    say(format!(
        "{store} is in {to}, counted in both. The file is left as it is: serve it no more"
    ))?;
    if !keys.is_empty() {
        let key_file = vault::key_file(file);
        let place = match key_file.is_file() {
            true => format!(": what is in {}", key_file.display()),
            false => String::new(),
        };
        say(format!(
            "subscriptions' secrets are sealed with the key {}: every node needs it in {}{place}",
            keys.join(", "),
            vault::VARIABLE,
        ))?;
    }
    Ok(true)
}
