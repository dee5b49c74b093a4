//! The folder a user writes, read into checked values. What is wrong is found
//! all at once, each with its file, line, column and the likely fix.
//!
//! Reading knows nothing of plugins; [`snapshot`](crate::snapshot) brings the two
//! together.

mod dial;
mod document;
mod fetched;
mod hub;
mod pins;
mod route;
mod secret;
mod source;
mod subscription;
mod traces;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(crate) use dial::{OAuth2Keys, ProxyKeys, TlsKeys};
pub(crate) use document::{Marked, Position, duration_text, nearest, parse_duration};
pub(crate) use hub::{Hub, Scope, Token, tenant};
use pins::Pins;
pub(crate) use route::{BreakerKeys, Policy, RouteFile, parse_policy};
pub(crate) use secret::SecretFrom;
pub(crate) use source::SourceFile;
pub(crate) use subscription::read as read_subscription;
pub(crate) use traces::TracesKeys;

/// A plugin that a file names, with its settings and secrets as written.
#[derive(Debug)]
pub(crate) struct PluginUse {
    pub(crate) plugin: Marked<String>,
    pub(crate) settings: Settings,
    pub(crate) secrets: Vec<(Marked<String>, Vec<SecretFrom>)>,
    /// Where one that is missing would stand, when that is no file.
    pub(crate) secrets_at: Option<Position>,
}

/// Settings as JSON, and where in the file each of them stands.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) value: serde_json::Value,
    positions: Vec<(String, Position)>,
}

impl Settings {
    /// Where a JSON pointer points, or the nearest table around it.
    pub(crate) fn position(&self, pointer: &str) -> Option<Position> {
        let mut pointer = pointer;
        loop {
            if let Some((_, at)) = self.positions.iter().find(|(it, _)| it == pointer) {
                return Some(*at);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}

/// The whole folder, read.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) hub: Hub,
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) routes: Vec<RouteFile>,
    /// Each `plugins/*.wasm`; what a registry has is added when it was pulled.
    pub(crate) plugins: Vec<PluginFile>,
    /// Files that secrets are read from, those too that are not there.
    pub(crate) secret_files: Vec<PathBuf>,
    /// A digest of every file that was read, secrets' files too.
    pub(crate) digests: BTreeMap<PathBuf, Digest>,
}

/// A component's bytes, and where they are from.
#[derive(Debug)]
pub(crate) struct PluginFile {
    pub(crate) name: String,
    /// In the folder, or its reference in a registry.
    pub(crate) file: PathBuf,
    /// Where `plugpost.toml` asks for it; none for a file in the folder.
    pub(crate) asked_at: Option<Position>,
    pub(crate) sha256: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl PluginFile {
    /// Something wrong with it, where its user can do something about it.
    pub(crate) fn problem(&self, message: &str) -> Problem {
        match self.asked_at {
            None => Problem { file: self.file.clone(), at: None, message: message.to_owned() },
            Some(at) => Problem {
                file: HUB_FILE.into(),
                at: Some((at.line, at.column)),
                message: format!("{}: {message}", self.file.display()),
            },
        }
    }
}

/// SHA-256 of a file's content.
pub(crate) type Digest = [u8; 32];

/// What reading came upon.
#[derive(Debug, Default)]
struct Found {
    problems: Vec<Problem>,
    /// Files that secrets are read from, those too that are not there.
    secret_files: Vec<PathBuf>,
    /// No secret is read: something stands in for each.
    stand_ins: bool,
}

/// Something wrong in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Relative to the folder, where it lies in it.
    pub(crate) file: PathBuf,
    /// Line and column, from 1; none when it is about the file as a whole.
    pub(crate) at: Option<(usize, usize)>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

/// On one line, whatever a library put into its message.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        self.message.split_whitespace().try_for_each(|word| write!(f, " {word}"))
    }
}

/// The hub's own file.
pub(crate) const HUB_FILE: &str = "plugpost.toml";

/// The largest file of TOML that is read.
const TOML_BYTES_MAX: u64 = 1 << 20;

/// The largest component that is read; the runtime's own limit may be lower.
const WASM_BYTES_MAX: u64 = 128 << 20;

impl Folder {
    /// Read everything; with stand-ins, no secret. What can be read is returned beside
    /// what is wrong.
    pub(crate) fn read(folder: &Path, stand_ins: bool) -> (Self, Vec<Problem>) {
        let mut found = Found { stand_ins, ..Found::default() };
        let mut texts = Vec::new();
        let hub_file = Path::new(HUB_FILE);
        let hub = match read_text(&folder.join(hub_file)) {
            Ok(text) => {
                texts.push((hub_file.to_owned(), digest(text.as_bytes())));
                hub::read(hub_file, &text, folder, &mut found)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
                hub::read(hub_file, "", folder, &mut found)
            }
            Err(error) => {
                found.problems.push(of_file(hub_file, &error));
                hub::read(hub_file, "", folder, &mut found)
            }
        };
        let mut sources = Vec::new();
        for (name, file) in files(folder, "sources", "toml", &mut found) {
            match read_text(&folder.join(&file)) {
                Ok(text) => {
                    sources.push(source::read(&name, &file, &text, folder, &mut found));
                    texts.push((file, digest(text.as_bytes())));
                }
                Err(error) => found.problems.push(of_file(&file, &error)),
            }
        }
        let mut routes = Vec::new();
        for (name, file) in files(folder, "routes", "toml", &mut found) {
            match read_text(&folder.join(&file)) {
                Ok(text) => {
                    routes.push(route::read(&name, &file, &text, folder, &mut found));
                    texts.push((file, digest(text.as_bytes())));
                }
                Err(error) => found.problems.push(of_file(&file, &error)),
            }
        }
        let mut plugins = Vec::new();
        for (name, file) in files(folder, "plugins", "wasm", &mut found) {
            match read_bytes(&folder.join(&file), WASM_BYTES_MAX) {
                Ok(bytes) => {
                    let sha256 = digest(&bytes);
                    plugins.push(PluginFile { name, file, asked_at: None, sha256, bytes });
                }
                Err(error) => found.problems.push(of_file(&file, &error)),
            }
        }
        let digests = BTreeMap::new();
        let Found { problems, secret_files, .. } = found;
        let mut read = Self { hub, sources, routes, plugins, secret_files, digests };
        let inside = |file: &Path| file.strip_prefix(folder).unwrap_or(file).to_owned();
        read.digests = read.secrets().map(|(file, text)| (inside(file), digest(text))).collect();
        read.digests.extend(texts);
        let plugins = read.plugins.iter().map(|it| (it.file.clone(), it.sha256));
        read.digests.extend(plugins);
        (read, problems)
    }

    fn secrets(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let uses = (self.sources.iter().flat_map(|it| &it.plugin))
            .chain(self.routes.iter().flat_map(RouteFile::plugin_uses));
        let versions = uses.flat_map(|it| &it.secrets).flat_map(|(_, versions)| versions);
        let versions = versions.chain(self.routes.iter().flat_map(|it| it.dial.secrets()));
        let of_plugins = versions.filter_map(|it| Some((it.file.as_deref()?, it.text.as_bytes())));
        let of_tokens = self.hub.tokens.iter();
        let of_tokens = of_tokens.filter_map(|it| Some((it.file.as_deref()?, &it.sha256[..])));
        of_plugins.chain(of_tokens)
    }
}

/// Stem and relative path of each file with that extension, sorted by name. A
/// folder that is not there has no files.
fn files(folder: &Path, kind: &str, extension: &str, found: &mut Found) -> Vec<(String, PathBuf)> {
    let entries = match fs::read_dir(folder.join(kind)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            found.problems.push(of_file(Path::new(kind), &error));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for path in entries.flatten().map(|it| it.path()) {
        let (Some(name), Some(stem)) = (path.file_name(), path.file_stem()) else { continue };
        // Editors leave hidden files and backups behind.
        let hidden = name.to_string_lossy().starts_with('.');
        if hidden || path.extension().is_none_or(|it| it != extension) || path.is_dir() {
            continue;
        }
        let file = Path::new(kind).join(name);
        match stem.to_str().filter(|it| is_name(it)) {
            Some(stem) => files.push((stem.to_owned(), file)),
            None => found.problems.push(Problem {
                file,
                at: None,
                message: "a name has letters, digits, `-`, `_` and `.`, at most 64 of them".into(),
            }),
        }
    }
    files.sort();
    files
}

/// Names stand in URLs, logs and file names.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it))
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_bytes(path, TOML_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("the file is not UTF-8"))
}

/// What is longer is not read to its end: a device has none.
fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("the file has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

fn of_file(file: &Path, error: &io::Error) -> Problem {
    Problem { file: file.into(), at: None, message: error.to_string() }
}

/// What is wrong with one file, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn read_one(kind: u8, text: &str) -> Vec<Problem> {
    let (file, folder) = (Path::new("file.toml"), Path::new("/nowhere"));
    // What files name is not read: they may name anything.
    let mut found = Found { stand_ins: true, ..Found::default() };
    match kind % 3 {
        0 => drop(hub::read(file, text, folder, &mut found)),
        1 => drop(source::read("file", file, text, folder, &mut found)),
        _ => drop(route::read("file", file, text, folder, &mut found)),
    }
    found.problems
}

/// The notations of values, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn read_value(text: &str) {
    let _ = parse_duration(text);
    let _ = route::parse_url(text);
    let _ = crate::endpoint::RateLimit::parse(text);
    let _ = parse_policy(&[("retry.schedule".into(), text.into())]);
}
