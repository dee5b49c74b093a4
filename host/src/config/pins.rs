//! `[plugins]` of `plugpost.toml`: the list of plugins that may be loaded, each by
//! the SHA-256 of its file.

use super::Digest;
use super::document::{Position, Table};

/// Which plugins may be loaded.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// A plugin without a pin is refused.
    required: bool,
    pins: Vec<Pin>,
}

/// One plugin's files: more than one while a new version is rolled out.
#[derive(Debug)]
struct Pin {
    plugin: String,
    at: Position,
    digests: Vec<Digest>,
}

impl Pins {
    /// Of the table `plugins`.
    pub(super) fn read(plugins: &Table<'_, '_>) -> Self {
        let required = plugins.boolean("require_pins").is_some_and(|it| it.value);
        let Some(table) = plugins.table("sha256") else {
            return Self { required, ..Self::default() };
        };
        let table = table.value;
        let pin = |plugin: super::Marked<String>| {
            let digests = table.all_parsed(&plugin.value, parse).unwrap_or_default();
            let digests = digests.into_iter().map(|it| it.value).collect();
            Pin { plugin: plugin.value, at: plugin.at, digests }
        };
        Self { required, pins: table.keys().into_iter().map(pin).collect() }
    }

    /// May this plugin be loaded? If not: where that is said, and what to do.
    pub(crate) fn allow(
        &self,
        plugin: &str,
        digest: &Digest,
    ) -> Result<(), (Option<Position>, String)> {
        let found = hex::encode(digest);
        match self.pins.iter().find(|it| it.plugin == plugin) {
            Some(pin) if pin.digests.contains(digest) => Ok(()),
            Some(pin) => {
                let message = format!(
                    "plugins.sha256.{plugin}: the file's SHA-256 is {found}: is it the one you \
                     mean? Then pin that"
                );
                Err((Some(pin.at), message))
            }
            None if self.required => {
                let message = format!(
                    "not pinned, and `plugins.require_pins` is true: allow it in plugpost.toml \
                     with plugins.sha256.{plugin} = \"{found}\""
                );
                Err((None, message))
            }
            None => Ok(()),
        }
    }
}

fn parse(text: &str) -> Result<Digest, String> {
    let mut digest = Digest::default();
    match hex::decode_to_slice(text, &mut digest) {
        Ok(()) => Ok(digest),
        Err(_) => Err(format!("`{text}` is not a SHA-256: 64 hexadecimal digits")),
    }
}
