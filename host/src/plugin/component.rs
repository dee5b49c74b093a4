//! A plugin's file becomes a component that can be instantiated: checked,
//! encoded where it is a core module, compiled, linked, and asked who it is.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::InstancePre;
use wit_component::ComponentEncoder;

use super::Unfit;
use super::bindings::exports::plugpost::plugin as exports;
use super::compile::CompileError;
use super::imports::Call;
use super::runtime::Runtime;
use super::secrets::Encoding as KeyEncoding;
use super::warm::{self, Pool};

/// A loaded plugin. Compiled once for each content; settings and secrets come later.
pub(crate) struct Component {
    name: Arc<str>,
    description: Description,
    roles: Vec<Role>,
    sha256: String,
    size_bytes: usize,
    compile_time: Duration,
    imports: Vec<String>,
    pub(super) needs_wasi: bool,
    pub(super) instance_pre: InstancePre<Call>,
    pub(super) exports: Exports,
    pub(super) runtime: Arc<Runtime>,
    /// Warm instances by settings, for as long as some route uses them.
    pools: Mutex<HashMap<Arc<str>, Weak<Pool>>>,
}

/// What a plugin says of itself, with the strings that are a choice checked.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) summary: String,
    pub(crate) settings_schema: serde_json::Value,
    pub(crate) secrets: Vec<SecretNeed>,
    pub(crate) event_types: Vec<String>,
    pub(crate) policy: Vec<(String, String)>,
}

/// A secret a plugin uses.
#[derive(Clone, Debug)]
pub(crate) struct SecretNeed {
    pub(crate) name: String,
    pub(crate) encoding: KeyEncoding,
    pub(crate) required: bool,
    pub(crate) summary: String,
}

/// What a plugin does, as its exports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Filter,
    Transform,
    Auth,
}

/// Where each role's functions are in the component.
pub(super) struct Exports {
    pub(super) plugin: exports::plugin::GuestIndices,
    pub(super) source: Option<exports::source::GuestIndices>,
    pub(super) filter: Option<exports::filter::GuestIndices>,
    pub(super) transform: Option<exports::transform::GuestIndices>,
    pub(super) auth: Option<exports::auth::GuestIndices>,
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
    #[error(
        "a core module without a component type: build it with wit-bindgen, or make a component \
         of it with `wasm-tools component new` ({0})"
    )]
    NotAComponent(String),
    #[error("did not compile: {0}")]
    Compile(CompileError),
    #[error("{0}")]
    Wit(String),
    #[error("does not describe itself: {0}")]
    Describe(String),
}

/// The version of `wit/` this host speaks.
const PACKAGE: &str = "plugpost:plugin";
const PACKAGE_VERSION: &str = "0.1.0";

impl Component {
    /// Load a plugin from its file's bytes; `name` is the file's stem.
    pub(crate) fn load(
        runtime: &Arc<Runtime>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Arc<Self>, LoadError> {
        let max = runtime.limits.component_bytes;
        if bytes.len() > max {
            return Err(LoadError::TooLarge { size: bytes.len(), max });
        }
        if Engine::detect_precompiled(bytes).is_some() {
            return Err(LoadError::Precompiled);
        }
        let started = Instant::now();
        let encoded = match kind_of(bytes)? {
            Encoding::Component => None,
            Encoding::Module => Some(encode(bytes)?),
        };
        let compiled =
            runtime.compile(encoded.as_deref().unwrap_or(bytes)).map_err(LoadError::Compile)?;
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
            LoadError::Wit(format!("asks for what no plugin may have: {error:#}"))
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
            needs_wasi,
            instance_pre,
            exports,
            runtime: runtime.clone(),
            pools: Mutex::default(),
        };
        let said =
            warm::describe(&component).map_err(|fault| LoadError::Describe(fault.to_string()))?;
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

    pub(crate) fn compile_time(&self) -> Duration {
        self.compile_time
    }

    /// The interfaces it imports: what it is able to do.
    pub(crate) fn imports(&self) -> &[String] {
        &self.imports
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

/// Component or core module? Every payload is read, nested ones too: bytes that
/// are not WebAssembly are found here, with their place.
fn kind_of(bytes: &[u8]) -> Result<Encoding, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm("it does not begin with \\0asm".into()));
    }
    let mut kind = None;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| LoadError::NotWasm(error.to_string()))? {
            Payload::Version { encoding, .. } => drop(kind.get_or_insert(encoding)),
            Payload::End(_) => {}
            _ => {}
        }
    }
    kind.ok_or_else(|| LoadError::NotWasm("the file is empty".into()))
}

/// What plain `cargo build --target wasm32-unknown-unknown` gives becomes a component.
fn encode(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    let encoder = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode());
    encoder.map_err(|error| LoadError::NotAComponent(format!("{error:#}")))
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
        let is_there = |role: Role| {
            let prefix = format!("{PACKAGE}/{}@", role.as_str());
            names.iter().any(|it| it.starts_with(&prefix))
        };
        fn role<T>(
            is_there: bool,
            role: Role,
            found: wasmtime::Result<T>,
        ) -> Result<Option<T>, LoadError> {
            let wrong = |error| {
                let role = role.as_str();
                LoadError::Wit(format!("exports {PACKAGE}/{role} in another shape: {error:#}"))
            };
            is_there.then(|| found.map_err(wrong)).transpose()
        }
        let there = is_there;
        Ok(Self {
            plugin,
            source: role(
                there(Role::Source),
                Role::Source,
                exports::source::GuestIndices::new(pre),
            )?,
            filter: role(
                there(Role::Filter),
                Role::Filter,
                exports::filter::GuestIndices::new(pre),
            )?,
            transform: role(
                there(Role::Transform),
                Role::Transform,
                exports::transform::GuestIndices::new(pre),
            )?,
            auth: role(there(Role::Auth), Role::Auth, exports::auth::GuestIndices::new(pre))?,
        })
    }

    fn roles(&self) -> Vec<Role> {
        let present = [
            (Role::Source, self.source.is_some()),
            (Role::Filter, self.filter.is_some()),
            (Role::Transform, self.transform.is_some()),
            (Role::Auth, self.auth.is_some()),
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
        }
    }
}

impl Description {
    fn unknown() -> Self {
        Self {
            name: String::new(),
            version: String::new(),
            summary: String::new(),
            settings_schema: serde_json::Value::Null,
            secrets: Vec::new(),
            event_types: Vec::new(),
            policy: Vec::new(),
        }
    }

    fn check(said: exports::plugin::Description) -> Result<Self, String> {
        let is_word = |text: &str| {
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|it| it.is_ascii_graphic())
        };
        if !is_word(&said.name) || !is_word(&said.version) {
            return Err(format!(
                "name {:?} and version {:?} are 1 to 64 visible ASCII characters",
                said.name, said.version
            ));
        }
        let settings_schema = serde_json::from_str(&said.settings_schema)
            .map_err(|error| format!("the settings' schema is not JSON: {error}"))?;
        let secrets = said.secrets.into_iter().map(|need| {
            let encoding = KeyEncoding::from_name(&need.encoding).ok_or_else(|| {
                format!("the secret `{}` has an unknown encoding {:?}", need.name, need.encoding)
            })?;
            Ok(SecretNeed {
                name: need.name,
                encoding,
                required: need.required,
                summary: need.summary,
            })
        });
        Ok(Self {
            secrets: secrets.collect::<Result<_, String>>()?,
            name: said.name,
            version: said.version,
            summary: said.summary,
            settings_schema,
            event_types: said.event_types,
            policy: said.policy,
        })
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("name", &self.name).finish_non_exhaustive()
    }
}
