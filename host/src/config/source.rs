//! `sources/NAME.toml`: a door by which events come in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Document, Marked, Table};
use super::{Found, PluginUse, hub, secret};

/// A source file, read.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: Arc<str>,
    pub(crate) file: PathBuf,
    /// Verifies and decodes; without one, any bytes are taken.
    pub(crate) plugin: Option<PluginUse>,
    /// The tokens that may send; none when the plugin alone decides.
    pub(crate) tokens: Option<Vec<Marked<String>>>,
    /// Whose events come in here, where the file says it.
    pub(crate) tenant: Option<Marked<Arc<str>>>,
}

pub(super) fn read(
    name: &str,
    file: &Path,
    text: &str,
    folder: &Path,
    found: &mut Found,
) -> SourceFile {
    Document::new(file, text, found).read(|root| {
        let plugin = root.string("plugin");
        let source = SourceFile {
            name: name.into(),
            file: file.into(),
            tokens: root.strings("tokens"),
            tenant: root.parsed("tenant", hub::tenant),
            plugin: plugin.map(|plugin| plugin_use(plugin, &root, folder)),
        };
        if source.plugin.is_none() && source.tokens.as_ref().is_none_or(Vec::is_empty) {
            let at = super::Position { line: 1, column: 1 };
            root.problem(
                at,
                "a source without a plugin verifies nothing, so it names who may send: \
                 tokens = [\"NAME\"]",
            );
        }
        source
    })
}

/// `plugin`, `settings` and `secrets` side by side in a table.
pub(super) fn plugin_use(
    plugin: Marked<String>,
    table: &Table<'_, '_>,
    folder: &Path,
) -> PluginUse {
    PluginUse {
        plugin,
        settings: table.settings("settings"),
        secrets: secret::read_all(table, "secrets", folder),
        secrets_at: None,
    }
}
