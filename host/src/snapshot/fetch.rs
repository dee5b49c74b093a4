//! Plugins that `plugpost.toml` names in registries: from the cache beside the
//! store, or pulled; from then on they are as files in `plugins/` are.

use std::thread;

use sha2::{Digest as _, Sha256};

use crate::client::Client;
use crate::client::guard::Guard;
use crate::config::{Folder, HUB_FILE, PluginFile, Problem};
use crate::registry::{Cache, Pinned, Registry};

/// Add them to the folder. Returns the names of those that could not be had; each
/// has its own problem.
pub(super) fn plugins(folder: &mut Folder, problems: &mut Vec<Problem>) -> Vec<String> {
    if folder.hub.fetched.is_empty() {
        return Vec::new();
    }
    // On a thread of its own: whoever loads may be in a runtime.
    let pulled = thread::scope(|scope| scope.spawn(|| pull(folder)).join());
    let pulled = pulled.unwrap_or_else(|_| Err(anyhow::anyhow!("a bug of plugpost")));
    let pulled = match pulled {
        Ok(pulled) => pulled,
        Err(error) => {
            let message = format!("cannot pull plugins: {error:#}");
            problems.push(Problem { file: HUB_FILE.into(), at: None, message });
            return folder.hub.fetched.iter().map(|it| it.value.reference.name().into()).collect();
        }
    };
    let mut refused = Vec::new();
    for (plugin, pulled) in pulled {
        let wrong = match pulled {
            Ok(_) if folder.plugins.iter().any(|it| it.name == plugin.name) => {
                Some(format!("plugins/{}.wasm is a plugin of the same name", plugin.name))
            }
            Ok(()) => None,
            Err(message) => Some(message),
        };
        match wrong {
            Some(message) => {
                problems.push(plugin.problem(&message));
                refused.push(plugin.name);
            }
            None => {
                folder.digests.insert(plugin.file.clone(), plugin.sha256);
                folder.plugins.push(plugin);
            }
        }
    }
    refused
}

type Pulled = Vec<(PluginFile, Result<(), String>)>;

fn pull(folder: &Folder) -> anyhow::Result<Pulled> {
    let hub = &folder.hub;
    let cache = Cache::new(hub.cache());
    let client = Client::new(Guard::allowing(hub.allow_networks.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut all = Vec::new();
        for asked in &hub.fetched {
            let Pinned { reference, manifest } = &asked.value;
            let keys = hub.registries.iter().find(|it| it.host == reference.host());
            let login = keys.and_then(|it| it.login.as_ref());
            let https_only = keys.is_none_or(|it| it.https_only);
            let mut registry = Registry::new(&client, reference, https_only, login);
            let pulled = registry.pull(&asked.value, &cache).await;
            let mut plugin = PluginFile {
                name: reference.name().to_owned(),
                file: reference.to_string().into(),
                asked_at: Some(asked.at),
                sha256: *manifest,
                bytes: Vec::new(),
            };
            let pulled = pulled.map_err(|error| error.to_string()).map(|bytes| {
                plugin.sha256 = Sha256::digest(&bytes).into();
                plugin.bytes = bytes.into();
            });
            all.push((plugin, pulled));
        }
        Ok(all)
    })
}
