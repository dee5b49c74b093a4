//! `sources/NAME.toml`: a door by which events come in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::document::{Document, Marked, Table};
use super::{Found, PluginUse, hub, secret};
use crate::reply::{Reply, TEXT};

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
    /// What its senders are answered.
    pub(crate) reply: Reply,
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
            reply: root.table("answer").map(|it| reply(&it.value)).unwrap_or_default(),
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

/// Only what a sender takes for a yes: a no would make it send again what is kept.
fn reply(table: &Table<'_, '_>) -> Reply {
    let status = table.integer("status", 200..300);
    let status = status.and_then(|it| StatusCode::from_u16(it.value.try_into().ok()?).ok());
    let status = status.unwrap_or(Reply::default().status);
    let mut body = table.string("body").map(|it| it.value.into());
    let media_type = table.parsed("content_type", |text| {
        HeaderValue::from_str(text).map_err(|_| "is not a value for a header".into())
    });
    let echo = table.parsed("echo", |text| match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err("is not a JSON pointer: it begins with /".into()),
    });
    // RFC 9110 §15.3.5 and §15.3.6.
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        for at in ["body", "echo"].into_iter().filter_map(|key| table.position_of(key)) {
            table.problem(at, format!("an answer of status {} has no body", status.as_u16()));
        }
        body = Some(Bytes::new());
    }
    if let Some(at) = table.position_of("content_type").filter(|_| !table.has("body")) {
        table.problem(at, "`content_type` goes with `body`");
    }
    let media_type = media_type.map_or(TEXT, |it| it.value);
    Reply { status, body: body.map(|it| (it, media_type)), echo: echo.map(|it| it.value) }
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
