//! `plugpost.toml`: where to listen, where to store, limits, and who may call.
//! Every key has a default.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Found;
use super::document::{Document, Marked, Table};
use super::fetched::{Plugins, RegistryKeys, registries};
use super::pins::Pins;
use super::route;
use super::traces::TracesKeys;
use super::{SecretFrom, is_name, secret};
use crate::event::OWN_SOURCE;
use crate::queue::{Address, Location, Retention, Terms};
use crate::registry::Pinned;
use crate::route::DEFAULT_TENANT;
use crate::vault::{self, SecretKey};

/// The engine's own settings.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Where its files are.
    folder: PathBuf,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) store: Location,
    pub(crate) store_terms: Terms,
    /// How long events and payloads are kept after they came in, and how much.
    pub(crate) retention: Retention,
    pub(crate) allow_networks: Vec<IpNet>,
    /// The default for endpoints.
    pub(crate) timeout: Duration,
    /// The default for endpoints.
    pub(crate) concurrency: u32,
    /// The default for endpoints; none for never.
    pub(crate) disable_after: Option<Duration>,
    /// The largest request body taken in.
    pub(crate) body_bytes_max: usize,
    /// How long a plugin call may take.
    pub(crate) plugin_deadline: Duration,
    /// The memory of one plugin instance.
    pub(crate) plugin_memory_bytes: usize,
    /// How long stopping waits for attempts under way.
    pub(crate) stop_timeout: Duration,
    pub(crate) tokens: Vec<Token>,
    /// What subscriptions' secrets are sealed with, newest first; none where a file beside
    /// the store has it.
    pub(crate) secret_keys: Option<Vec<SecretKey>>,
    /// Which plugins may be loaded.
    pub(crate) pins: Pins,
    /// Where spans go; none for nowhere.
    pub(crate) traces: Option<TracesKeys>,
    /// Plugins that lie in a registry.
    pub(crate) fetched: Vec<Marked<Pinned>>,
    pub(crate) registries: Vec<RegistryKeys>,
}

/// A caller of the API.
pub(crate) struct Token {
    pub(crate) name: Arc<str>,
    /// SHA-256 of the secret: what a caller's is compared with.
    pub(crate) sha256: [u8; 32],
    /// Where the secret was read; none for the environment.
    pub(crate) file: Option<PathBuf>,
    pub(crate) scopes: Vec<Scope>,
    /// Whose events it sends, and whose subscriptions it sees; none for everybody's.
    pub(crate) tenant: Option<Arc<str>>,
    /// What a subscription has that is made with it through a platform's API, unless it
    /// brings its own.
    pub(crate) secrets: BTreeMap<String, Zeroizing<String>>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Send events.
    Ingest,
    /// Read the log.
    Read,
    /// Change anything.
    Operate,
}

impl Token {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
            || (scope == Scope::Read && self.scopes.contains(&Scope::Operate))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({}, {:?})", self.name, self.scopes)
    }
}

pub(super) fn read(file: &Path, text: &str, folder: &Path, found: &mut Found) -> Hub {
    Document::new(file, text, found).read(|root| {
        let Plugins { pins, fetched } = Plugins::read(&root);
        let mut hub = Hub {
            folder: folder.into(),
            public: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            store: Location::Sqlite(folder.join("plugpost.db")),
            store_terms: Terms { bytes_max: 16 << 30, lease: Duration::from_secs(15) },
            retention: Retention {
                rows: Duration::from_hours(30 * 24),
                payloads: None,
                bytes: None,
            },
            allow_networks: Vec::new(),
            timeout: Duration::from_secs(15),
            concurrency: 16,
            disable_after: Some(Duration::from_hours(5 * 24)),
            // Twice what Standard Webhooks advises is 40 KB; batches and resource graphs are larger.
            body_bytes_max: 1 << 20,
            plugin_deadline: Duration::from_millis(100),
            plugin_memory_bytes: 64 << 20,
            // Below the 30 s after which Kubernetes kills.
            stop_timeout: Duration::from_secs(20),
            tokens: Vec::new(),
            secret_keys: None,
            traces: TracesKeys::read(&root, folder),
            pins,
            fetched,
            registries: registries(&root, folder),
        };
        let admin_at = hub.take_listen(&root);
        hub.take_store(&root, folder);
        if hub.secret_keys.is_none() && !root.document().has_stand_ins() {
            hub.take_variable(&root);
        }
        hub.take_delivery(&root);
        hub.take_limits(&root);
        for token in root.tables("token") {
            hub.take_token(&token, folder);
        }
        if !hub.admin.ip().is_loopback() && !hub.tokens.iter().any(|it| it.may(Scope::Read)) {
            let at = admin_at.unwrap_or(START);
            root.problem(
                at,
                "listen.admin is not a loopback address, so there must be a [[token]] with the \
                 scope read or operate",
            );
        }
        hub
    })
}

const START: super::Position = super::Position { line: 1, column: 1 };

impl Hub {
    /// Where what was pulled is kept: beside the store's file, or else in the folder.
    pub(crate) fn cache(&self) -> PathBuf {
        let beside = self.store.file().map(|it| it.with_extension("plugins"));
        beside.unwrap_or_else(|| self.folder.join("plugpost.plugins"))
    }

    /// Returns where the admin address stands.
    fn take_listen(&mut self, root: &Table<'_, '_>) -> Option<super::Position> {
        let listen = root.table("listen")?;
        let address = |text: &str| {
            text.parse::<SocketAddr>()
                .map_err(|_| format!("`{text}` is not an address such as `127.0.0.1:8080`"))
        };
        set(&mut self.public, listen.value.parsed("public", address));
        set(&mut self.admin, listen.value.parsed("admin", address));
        listen.value.position_of("admin")
    }

    fn take_store(&mut self, root: &Table<'_, '_>, folder: &Path) {
        let Some(store) = root.table("store") else { return };
        if store.value.is_table("url") {
            // A URL with a password comes from where secrets do. Where none is read, the
            // store still is the one that it names.
            if let Some(table) = store.value.table("url")
                && let Some(url) = secret::read_always(&table, folder)
            {
                match location(&url.text, folder) {
                    Ok(location) => self.store = location,
                    Err(message) => store.value.problem(url.at, message),
                }
            }
        } else {
            set(&mut self.store, store.value.parsed("url", |text| location(text, folder)));
        }
        let bytes = store.value.integer("bytes_max", STORE_BYTES_MIN..i64::MAX);
        set(&mut self.store_terms.bytes_max, bytes.map(|it| it.map(i64::unsigned_abs)));
        set(&mut self.store_terms.lease, store.value.parsed("lease", lease));
        if let Some(key) = store.value.table("secret_key")
            && let Some(SecretFrom { text, .. }) = secret::read(&key, folder)
            && !root.document().has_stand_ins()
        {
            match vault::parse_keys(&text) {
                Ok(keys) => self.secret_keys = Some(keys),
                Err(message) => store.value.problem(key.at, message),
            }
        }
        set(&mut self.retention.rows, store.value.duration("retention"));
        let payloads = store.value.duration("retention_payloads");
        if let Some(it) = payloads.as_ref().filter(|it| it.value > self.retention.rows) {
            let message = "payloads cannot be kept longer than store.retention keeps their events";
            store.value.problem(it.at, message);
        }
        set(&mut self.retention.payloads, payloads.map(|it| it.map(Some)));
        let bytes = store.value.integer("retention_bytes", STORE_BYTES_MIN..i64::MAX);
        set(&mut self.retention.bytes, bytes.map(|it| it.map(|it| Some(it.unsigned_abs()))));
    }

    fn take_variable(&mut self, root: &Table<'_, '_>) {
        let Ok(text) = env::var(vault::VARIABLE).map(Zeroizing::new) else { return };
        match vault::parse_keys(&text) {
            Ok(keys) => self.secret_keys = Some(keys),
            Err(message) => {
                let message = format!("the environment variable {}: {message}", vault::VARIABLE);
                root.problem(START, message);
            }
        }
    }

    fn take_delivery(&mut self, root: &Table<'_, '_>) {
        let Some(delivery) = root.table("delivery") else { return };
        let network = |text: &str| {
            text.parse::<IpNet>()
                .map_err(|_| format!("`{text}` is not a network such as `10.0.0.0/8`"))
        };
        if let Some(networks) = delivery.value.all_parsed("allow_networks", network) {
            self.allow_networks = networks.into_iter().map(|it| it.value).collect();
        }
        set(&mut self.timeout, delivery.value.parsed("timeout", timeout));
        set(&mut self.concurrency, concurrency(&delivery.value));
        if let Some(limit) = delivery.value.parsed("disable_after", route::disable_after) {
            self.disable_after = limit.value;
        }
        set(&mut self.stop_timeout, delivery.value.duration("stop_timeout"));
    }

    fn take_limits(&mut self, root: &Table<'_, '_>) {
        let Some(limits) = root.table("limits") else { return };
        let limits = limits.value;
        let bytes = |key, max: i64| limits.integer(key, 1..max + 1).map(|it| it.map(as_usize));
        set(&mut self.body_bytes_max, bytes("body_bytes", 64 << 20));
        set(&mut self.plugin_memory_bytes, bytes("plugin_memory_bytes", 1 << 30));
        set(&mut self.plugin_deadline, limits.duration("plugin_deadline"));
    }

    fn take_token(&mut self, token: &Marked<Table<'_, '_>>, folder: &Path) {
        let Marked { value: table, at } = token;
        let name = table.parsed("name", |text| match is_name(text) {
            _ if text == OWN_SOURCE => {
                Err(format!("`{text}` is the source of the engine's own events"))
            }
            true => Ok(Arc::from(text)),
            false => Err(format!("`{text}` is not a name: letters, digits, `-`, `_` and `.`")),
        });
        let scopes = table.all_parsed("scopes", |text| match text {
            "ingest" => Ok(Scope::Ingest),
            "read" => Ok(Scope::Read),
            "operate" => Ok(Scope::Operate),
            _ => Err(format!("`{text}` is no scope: ingest, read, operate")),
        });
        let tenant = tenant_or_all(table);
        let secret = token_secret(table, *at, folder);
        let newest = |(name, versions): (Marked<String>, Vec<SecretFrom>)| {
            Some((name.value, versions.into_iter().next()?.text))
        };
        let secrets =
            secret::read_all(table, "secrets", folder).into_iter().filter_map(newest).collect();
        let (Some(name), Some(scopes)) = (name, scopes) else {
            table.problem(*at, "a token has a name and scopes");
            return;
        };
        if self.tokens.iter().any(|it| it.name == name.value) {
            table.problem(name.at, format!("there are two tokens called `{}`", name.value));
        }
        if let Some((sha256, file)) = secret {
            let scopes = scopes.into_iter().map(|it| it.value).collect();
            self.tokens.push(Token { name: name.value, sha256, file, scopes, tenant, secrets });
        }
    }
}

/// `tenant = "NAME"`, which need not be said, or `"*"` for all.
pub(super) fn tenant_or_all(table: &Table<'_, '_>) -> Option<Arc<str>> {
    match table.parsed("tenant", |text| if text == "*" { Ok(None) } else { tenant(text).map(Some) })
    {
        Some(said) => said.value,
        None => Some(DEFAULT_TENANT.into()),
    }
}

/// A tenant is there by being named.
pub(crate) fn tenant(text: &str) -> Result<Arc<str>, String> {
    match is_name(text) {
        true => Ok(text.into()),
        false => Err(format!(
            "`{text}` is not a tenant: letters, digits, `-`, `_` and `.`, at most 64 of them"
        )),
    }
}

/// A token's secret, or its digest for those who do not want the secret here; and
/// the file it was read from.
fn token_secret(
    table: &Table<'_, '_>,
    at: super::Position,
    folder: &Path,
) -> Option<([u8; 32], Option<PathBuf>)> {
    let digest = table.parsed("secret_sha256", |text| {
        let mut digest = [0; 32];
        match hex::decode_to_slice(text, &mut digest) {
            Ok(()) => Ok(digest),
            Err(_) => {
                Err("secret_sha256 is 64 hexadecimal digits: printf %s SECRET | sha256sum".into())
            }
        }
    });
    match (table.table("secret"), digest) {
        (Some(secret), None) => {
            let SecretFrom { text, file, .. } = secret::read(&secret, folder)?;
            Some((Sha256::digest(text.as_bytes()).into(), file))
        }
        (None, Some(digest)) => Some((digest.value, None)),
        (None, None) if table.has("secret_sha256") => None,
        _ => {
            table.problem(
                at,
                "a token has a secret = { env = \"NAME\" } or { file = \"path\" }, or a \
                 secret_sha256 = \"…\"",
            );
            None
        }
    }
}

/// Where the store is, by its URL.
fn location(url: &str, folder: &Path) -> Result<Location, String> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Location::Sqlite(folder.join(path))),
        Some(("postgres" | "postgresql", _)) => {
            Address::parse(url, folder).map(|it| Location::Postgres(Box::new(it)))
        }
        // What stands here can be half of a password.
        _ => Err("this is not a store such as `sqlite:plugpost.db` or \
                  `postgres://user@host/database`"
            .into()),
    }
}

/// Long enough that a busy machine renews in time.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = super::document::parse_duration(text)?;
    match (Duration::from_secs(2)..=Duration::from_mins(5)).contains(&lease) {
        true => Ok(lease),
        false => Err(format!("`{text}`: a lease goes from 2s to 5m")),
    }
}

/// A timeout is long enough for one round trip and short enough for a lane.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = super::document::parse_duration(text)?;
    match (Duration::from_millis(100)..=Duration::from_mins(5)).contains(&timeout) {
        true => Ok(timeout),
        false => Err(format!("`{text}`: a timeout goes from 100ms to 5m")),
    }
}

pub(super) fn concurrency(table: &Table<'_, '_>) -> Option<Marked<u32>> {
    let range = 1..CONCURRENCY_MAX + 1;
    table.integer("concurrency", range).map(|it| it.map(|it| u32::try_from(it).unwrap_or(1)))
}

/// The tables alone, empty, take a tenth of it.
const STORE_BYTES_MIN: i64 = 1 << 20;

/// More attempts at once than one endpoint can want.
const CONCURRENCY_MAX: i64 = 1024;

fn set<T>(place: &mut T, value: Option<Marked<T>>) {
    if let Some(value) = value {
        *place = value.value;
    }
}

fn as_usize(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
