//! Where a secret comes from: the environment or a file, never the TOML itself.

use std::env;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::document::{Marked, Position, Table};
use crate::plugin::Encoding;

/// One version of a secret, read.
pub(crate) struct SecretFrom {
    pub(crate) text: Zeroizing<String>,
    /// Where the file overrides what the plugin says.
    pub(crate) encoding: Option<Encoding>,
    /// Where it was read; none for the environment.
    pub(crate) file: Option<PathBuf>,
    pub(crate) at: Position,
}

impl std::fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretFrom({}:{})", self.at.line, self.at.column)
    }
}

/// The largest file a secret is read from: an RSA key would fit eight times.
const SECRET_BYTES_MAX: u64 = 32 << 10;

/// The text of every secret when none is read.
const STAND_IN: &str = "stand-in";

/// Every `KEY.NAME` of a table: one origin, or a list with the newest first.
pub(super) fn read_all(
    table: &Table<'_, '_>,
    key: &str,
    folder: &Path,
) -> Vec<(Marked<String>, Vec<SecretFrom>)> {
    let Some(secrets) = table.table(key) else { return Vec::new() };
    let secrets = secrets.value;
    let versions_of = |name: Marked<String>| {
        let versions = secrets.tables(&name.value);
        let read = versions.iter().filter_map(|it| read(it, folder)).collect();
        (name, read)
    };
    secrets.keys().into_iter().map(versions_of).collect()
}

/// `{ env = "NAME" }` or `{ file = "path" }`, with an `encoding` if need be.
pub(super) fn read(secret: &Marked<Table<'_, '_>>, folder: &Path) -> Option<SecretFrom> {
    read_unless(secret.value.document().has_stand_ins(), secret, folder)
}

/// The same, where others get stand-ins as well.
pub(super) fn read_always(secret: &Marked<Table<'_, '_>>, folder: &Path) -> Option<SecretFrom> {
    read_unless(false, secret, folder)
}

fn read_unless(
    stand_in: bool,
    secret: &Marked<Table<'_, '_>>,
    folder: &Path,
) -> Option<SecretFrom> {
    let Marked { value: table, at } = secret;
    let encoding = table.parsed("encoding", |text| {
        Encoding::from_name(text)
            .ok_or_else(|| format!("`{text}` is no encoding: text, base64, hex, standard-webhooks"))
    });
    let read = match (table.string("env"), table.string("file")) {
        (Some(_), None) | (None, Some(_)) if stand_in => Ok((STAND_IN.to_owned(), None)),
        (Some(name), None) => match env::var(&name.value) {
            Ok(text) if !text.is_empty() => Ok((text, None)),
            Ok(_) => Err((name.at, format!("the environment variable {} is empty", name.value))),
            Err(_) => {
                let message = format!("the environment variable {} is not set", name.value);
                Err((name.at, message))
            }
        },
        (None, Some(file)) => {
            let path = folder.join(PathBuf::from(&file.value));
            table.document().secret_file(&path);
            match read_file(&path) {
                Ok(text) => Ok((text, Some(path))),
                Err(message) => Err((file.at, format!("{}: {message}", file.value))),
            }
        }
        _ => Err((*at, "a secret is { env = \"NAME\" } or { file = \"path\" }".into())),
    };
    match read {
        Ok((text, file)) => Some(SecretFrom {
            text: Zeroizing::new(text),
            encoding: encoding.map(|it| it.value),
            file,
            at: *at,
        }),
        Err((at, message)) => {
            table.problem(at, message);
            None
        }
    }
}

/// A file's text without the line end that editors add.
fn read_file(path: &Path) -> Result<String, String> {
    let bytes = super::read_bytes(path, SECRET_BYTES_MAX).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8")?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |it| it.trim_end_matches('\r'));
    if text.is_empty() { Err("the file is empty".into()) } else { Ok(text.to_owned()) }
}
