//! A plugin's file becomes a component that can be instantiated: checked
//! (`component/bounds.rs`), compiled, linked, and asked who it is
//! (`component/description.rs`).

mod bounds;
mod description;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::InstancePre;

use super::Unfit;
use super::bindings::exports::plugpost::plugin as exports;
use super::calls::{Calls, Counter};
use super::compile::CompileError;
use super::imports::Call;
use super::runtime::Runtime;
use super::text;
use super::warm::{self, Pool};
use crate::attempt::Fault;
pub(crate) use description::{Description, SecretNeed};

/// A loaded plugin. Compiled once for each content; settings and secrets come later.
pub(crate) struct Component {
    name: Arc<str>,
    description: Description,
    roles: Vec<Role>,
    sha256: String,
    size_bytes: usize,
    compile_time: Duration,
    imports: Vec<String>,
    export_names: Vec<String>,
    pub(super) needs_wasi: bool,
    pub(super) instance_pre: InstancePre<Call>,
    pub(super) exports: Exports,
    pub(super) runtime: Arc<Runtime>,
    pub(super) counter: Counter,
    /// Warm instances by settings, for as long as some route uses them.
    pools: Mutex<HashMap<Arc<str>, Weak<Pool>>>,
}

/// What a plugin does, as its exports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Filter,
    Transform,
    Auth,
    WebhookApi,
}

/// Where each role's functions are in the component.
pub(super) struct Exports {
    pub(super) plugin: exports::plugin::GuestIndices,
    pub(super) source: Option<exports::source::GuestIndices>,
    pub(super) filter: Option<exports::filter::GuestIndices>,
    pub(super) transform: Option<exports::transform::GuestIndices>,
    pub(super) auth: Option<exports::auth::GuestIndices>,
    pub(super) rules: Option<exports::auth_rules::GuestIndices>,
    pub(super) api: Option<exports::webhook_api::GuestIndices>,
}

/// Why a file is not a plugin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{size} bytes are more than the {max} a component may have")]
    TooLarge { size: usize, max: usize },
    #[error(
        "this is compiled machine code (.cwasm), which is never loaded: put the .wasm file here"
    )]
    Precompiled,
    #[error("not WebAssembly: {0}")]
    NotWasm(String),
    #[error("{count} {what} are more than the {max} a plugin may have")]
    TooMuch { what: &'static str, count: u64, max: u64 },
    #[error("did not compile: {0}")]
    Compile(#[from] CompileError),
    #[error("{0}")]
    Wit(String),
    #[error("does not describe itself: {0}")]
    Describe(String),
}

/// Of what a file is quoted with.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

impl LoadError {
    /// With the names and words that it quotes made fit for people.
    fn shown(self) -> Self {
        let shown = |it: String| text::lines(&it, MESSAGE_BYTES_MAX);
        match self {
            Self::NotWasm(it) => Self::NotWasm(shown(it)),
            Self::Compile(CompileError::Refused(it)) => CompileError::Refused(shown(it)).into(),
            Self::Compile(CompileError::Broke(it)) => CompileError::Broke(shown(it)).into(),
            Self::Wit(it) => Self::Wit(shown(it)),
            Self::Describe(it) => Self::Describe(shown(it)),
            it @ (Self::TooLarge { .. }
            | Self::Precompiled
            | Self::TooMuch { .. }
            | Self::Compile(CompileError::Start(_) | CompileError::TooMuch)) => it,
        }
    }
}

/// The version of `wit/` this host speaks.
const PACKAGE: &str = "plugpost:plugin";
const PACKAGE_VERSION: &str = "0.1.0";

/// What is looked at first.
#[cfg(feature = "fuzz")]
pub(super) fn looks_right(bytes: &[u8]) -> bool {
    Engine::detect_precompiled(bytes).is_none() && bounds::check(bytes).is_ok()
}

/// What a plugin says of itself, checked.
#[cfg(feature = "fuzz")]
pub(super) fn described(said: exports::plugin::Description) -> Result<Description, String> {
    Description::check(said)
}

impl Component {
    /// Load a plugin from its file's bytes; `name` is the file's stem.
    pub(crate) fn load(
        runtime: &Arc<Runtime>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Arc<Self>, LoadError> {
        Self::loaded(runtime, name, bytes).map_err(LoadError::shown)
    }

    fn loaded(runtime: &Arc<Runtime>, name: &str, bytes: &[u8]) -> Result<Arc<Self>, LoadError> {
        let max = runtime.limits.component_bytes;
        if bytes.len() > max {
            return Err(LoadError::TooLarge { size: bytes.len(), max });
        }
        if Engine::detect_precompiled(bytes).is_some() {
            return Err(LoadError::Precompiled);
        }
        let started = Instant::now();
        bounds::check(bytes)?;
        let compiled = runtime.compile(bytes)?;
        let compile_time = started.elapsed();

        let component_type = compiled.component_type();
        let names = |items: &mut dyn Iterator<Item = (&str, _)>| {
            items.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let imports: Vec<String> = names(&mut component_type.imports(&runtime.engine));
        let export_names: Vec<String> = names(&mut component_type.exports(&runtime.engine));
        check_version(&imports, &export_names)?;
        let needs_wasi = imports.iter().any(|it| it.starts_with("wasi:"));
        let linker = if needs_wasi { &runtime.linker_with_wasi } else { &runtime.linker };
        let instance_pre = linker.instantiate_pre(&compiled).map_err(|error| {
            // Either the host has it in another shape, or nobody has it.
            LoadError::Wit(match imports.iter().find(|it| !is_offered(it)) {
                Some(name) => format!("imports `{name}`, which no plugin may have: {error:#}"),
                None => {
                    format!("imports an interface in another shape than this host's: {error:#}")
                }
            })
        })?;
        let exports = Exports::of(&instance_pre, &export_names)?;
        let roles = exports.roles();

        let mut component = Self {
            name: name.into(),
            description: Description::unknown(),
            roles,
            sha256: hex::encode(Sha256::digest(bytes)),
            size_bytes: bytes.len(),
            compile_time,
            imports,
            export_names,
            needs_wasi,
            instance_pre,
            exports,
            runtime: runtime.clone(),
            counter: Counter::default(),
            pools: Mutex::default(),
        };
        let said = warm::describe(&component).map_err(not_described)?;
        component.description = Description::check(said).map_err(LoadError::Describe)?;
        Ok(Arc::new(component))
    }

    /// The file's stem.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn description(&self) -> &Description {
        &self.description
    }

    pub(crate) fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Of the file, in hexadecimal digits.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What its calls took so far.
    pub(crate) fn calls(&self) -> Calls {
        self.counter.so_far()
    }

    pub(crate) fn compile_time(&self) -> Duration {
        self.compile_time
    }

    /// The interfaces it imports: what it is able to do.
    pub(crate) fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The interfaces it exports: its roles among them.
    pub(crate) fn exports(&self) -> &[String] {
        &self.export_names
    }

    /// The warm instances for these settings; made, and the settings tried, at first use.
    pub(super) fn pool(self: &Arc<Self>, settings: &str) -> Result<Arc<Pool>, Unfit> {
        if let Some(pool) = self.pools.lock().get(settings).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        // Not under the lock: this runs guest code.
        let pool = Pool::start(self.clone(), settings)?;
        let mut pools = self.pools.lock();
        pools.retain(|_, pool| pool.strong_count() > 0);
        pools.insert(settings.into(), Arc::downgrade(&pool));
        Ok(pool)
    }
}

/// wasmtime compares the types of exports when it first looks for them.
fn not_described(fault: Fault) -> LoadError {
    match fault.message.split_once("failed to convert function to given type: ") {
        Some((_, why)) => LoadError::Wit(format!(
            "exports an interface of {PACKAGE} in another shape than in {PACKAGE_VERSION}: {why}"
        )),
        None => LoadError::Describe(fault.to_string()),
    }
}

/// Is there anything of that name for a plugin to import?
fn is_offered(import: &str) -> bool {
    let Some((package, interface)) = import.split_once('/') else { return false };
    let interface = interface.split('@').next().unwrap_or_default();
    match package {
        PACKAGE => ["types", "events", "requests", "secrets", "logging", "subscriptions"]
            .contains(&interface),
        _ => {
            ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"]
                .contains(&package)
        }
    }
}

/// Say in words what the linker would say in types.
fn check_version(imports: &[String], exports: &[String]) -> Result<(), LoadError> {
    for name in imports.iter().chain(exports) {
        let Some((package, rest)) = name.split_once('/') else { continue };
        if package != PACKAGE {
            continue;
        }
        let version = rest.split_once('@').map_or("no version", |(_, version)| version);
        // Before 1.0 the second number counts: 0.1.x fits 0.1.y.
        let track = |it: &str| it.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        if track(version) != track(PACKAGE_VERSION) {
            return Err(LoadError::Wit(format!(
                "built for {PACKAGE}@{version}, this host speaks {PACKAGE_VERSION}: rebuild the \
                 plugin with the SDK of this release"
            )));
        }
    }
    Ok(())
}

impl Exports {
    fn of(pre: &InstancePre<Call>, names: &[String]) -> Result<Self, LoadError> {
        let plugin = exports::plugin::GuestIndices::new(pre).map_err(|error| {
            LoadError::Wit(format!("does not export {PACKAGE}/plugin@{PACKAGE_VERSION}: {error:#}"))
        })?;
        // An interface that is there but does not fit is an error; one that is not there is not.
        fn fitting<T>(
            names: &[String],
            interface: &str,
            find: impl FnOnce() -> wasmtime::Result<T>,
        ) -> Result<Option<T>, LoadError> {
            let prefix = format!("{PACKAGE}/{interface}@");
            let wrong = |error| {
                LoadError::Wit(format!("exports {PACKAGE}/{interface} in another shape: {error:#}"))
            };
            let is_there = names.iter().any(|it| it.starts_with(&prefix));
            is_there.then(|| find().map_err(wrong)).transpose()
        }
        Ok(Self {
            plugin,
            source: fitting(names, "source", || exports::source::GuestIndices::new(pre))?,
            filter: fitting(names, "filter", || exports::filter::GuestIndices::new(pre))?,
            transform: fitting(names, "transform", || exports::transform::GuestIndices::new(pre))?,
            auth: fitting(names, "auth", || exports::auth::GuestIndices::new(pre))?,
            rules: fitting(names, "auth-rules", || exports::auth_rules::GuestIndices::new(pre))?,
            api: fitting(names, "webhook-api", || exports::webhook_api::GuestIndices::new(pre))?,
        })
    }

    fn roles(&self) -> Vec<Role> {
        let present = [
            (Role::Source, self.source.is_some()),
            (Role::Filter, self.filter.is_some()),
            (Role::Transform, self.transform.is_some()),
            (Role::Auth, self.auth.is_some() || self.rules.is_some()),
            (Role::WebhookApi, self.api.is_some()),
        ];
        present.into_iter().filter(|(_, is)| *is).map(|(role, _)| role).collect()
    }
}

impl Role {
    /// Its name in `wit/`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Filter => "filter",
            Self::Transform => "transform",
            Self::Auth => "auth",
            Self::WebhookApi => "webhook-api",
        }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("name", &self.name).finish_non_exhaustive()
    }
}
