//! A folder as a user writes it, in a place of its own that goes with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{plugin, store};

/// A hub folder. It begins with one source `erp` for one token [`TOKEN`], ports
/// that the system chooses, and loopback endpoints allowed. Cheap to clone; the
/// folder goes with the last.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<TempDir>);

/// The text of the token `erp`.
pub(crate) const TOKEN: &str = "erp-0123456789-token";

impl Hub {
    pub(crate) fn new() -> Self {
        Self::with("", "")
    }

    /// With further keys for `[delivery]`, and further tables.
    pub(crate) fn with(delivery: &str, tables: &str) -> Self {
        match store::new() {
            None => Self::stored(None, delivery, tables),
            Some(url) => Self::stored(Some(&url), delivery, tables),
        }
    }

    /// With the store of that URL, or a file in the folder.
    pub(crate) fn stored(url: Option<&str>, delivery: &str, tables: &str) -> Self {
        let hub = Self(Arc::new(tempfile::tempdir().expect("a temporary folder")));
        let mut tables = tables.to_owned();
        if let Some(url) = url {
            let start = "[store]\n";
            if !tables.contains(start) {
                tables = format!("{start}{tables}");
            }
            tables = tables.replace(start, &format!("{start}url = \"{url}\"\n"));
        }
        let text = format!(
            "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
             [delivery]\nallow_networks = [\"127.0.0.0/8\"]\n{delivery}\n\n\
             [[token]]\nname = \"erp\"\nsecret = {{ file = \"secrets/erp\" }}\nscopes = [\"ingest\"]\n\n\
             {tables}\n"
        );
        hub.write("plugpost.toml", text);
        hub.secret("erp", TOKEN);
        hub.source("erp", "tokens = [\"erp\"]");
        hub
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("plugpost.db")
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        self
    }

    pub(crate) fn source(&self, name: &str, text: &str) -> &Self {
        self.write(format!("sources/{name}.toml"), text)
    }

    pub(crate) fn route(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        self.write(format!("routes/{name}.toml"), text)
    }

    /// A secret that files name as `{ file = "secrets/NAME" }`.
    pub(crate) fn secret(&self, name: &str, text: &str) -> &Self {
        self.write(format!("secrets/{name}"), text)
    }

    /// A copy of a plugin that is built.
    pub(crate) fn plugin(&self, name: &str) -> &Self {
        let bytes = fs::read(plugin(name)).expect("the plugin can be read");
        self.write(format!("plugins/{name}.wasm"), bytes)
    }
}

/// A route of every event to this URL: two attempts, the second after 50 ms.
pub(crate) fn to(url: &str) -> String {
    route(url, "", "schedule = [\"50ms\"]\njitter = 0")
}

/// A route of every event to this URL: one attempt, however often it fails.
pub(crate) fn once(url: &str) -> String {
    format!("{}\n[breaker]\nenabled = false\n", route(url, "", "schedule = []"))
}

/// A route of every event to this URL, with further keys of `[endpoint]` and `[retry]`.
pub(crate) fn route(url: &str, endpoint: &str, retry: &str) -> String {
    format!(
        "from = \"*\"\ntypes = [\"*\"]\n\n\
         [endpoint]\nurl = \"{url}\"\n{endpoint}\n\n\
         [retry]\n{retry}\n"
    )
}
