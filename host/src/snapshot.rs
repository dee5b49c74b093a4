//! One checked, immutable set of sources, routes and loaded plugins. A delivery
//! holds one from its beginning to its end.
//!
//! Making one is what `check` does and what `serve` does before it listens:
//! read the folder, load every plugin, bind every use of one, and report all that
//! is wrong at once.

mod build;
mod dial;
mod fetch;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::config::{Digest, Folder, Hub, PluginFile, Problem, Scope, Token};
use crate::event::{OWN_SOURCE, OWN_SOURCE_OF};
use crate::operational;
use crate::plugin::{Api, Bound, Component, Limits, Runtime, RuntimeError};
use crate::queue::log::Sources;
use crate::reply::Reply;
use crate::route::{DEFAULT_TENANT, Routes};
use build::{Build, Loaded};
use dial::Dials;
use subscriptions::Binder;

pub(crate) use subscriptions::Wrong;

/// What is in force. A copy with other subscriptions is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Counts up from 1 with each that is published.
    pub(crate) number: u64,
    /// Of every file that was read: two nodes that serve the same folder have the same.
    pub(crate) digest: Digest,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sources: Arc<HashMap<Arc<str>, Source>>,
    pub(crate) routes: Routes,
    pub(crate) plugins: Vec<Arc<Component>>,
    /// Of those that answer a platform's API, by the plugin's name.
    pub(crate) apis: Arc<HashMap<String, Api>>,
    /// What subscriptions are bound with.
    binder: Arc<Binder>,
}

/// A door by which events come in.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: Arc<str>,
    /// Verifies and decodes; without one, any bytes are taken.
    pub(crate) plugin: Option<Bound>,
    /// The tokens that may send; none when the plugin alone decides.
    pub(crate) tokens: Option<Vec<Arc<str>>>,
    /// Whose events come in here.
    pub(crate) tenant: Arc<str>,
    /// What its senders are answered.
    pub(crate) reply: Reply,
}

impl Snapshot {
    /// Whose events come in by a source, or by the token of that name.
    pub(crate) fn tenant_of<'a>(&'a self, source: &'a str) -> &'a str {
        if let Some(source) = self.sources.get(source) {
            return &source.tenant;
        }
        if let Some(tenant) = source.strip_prefix(OWN_SOURCE_OF) {
            return tenant;
        }
        let token = self.hub.tokens.iter().find(|it| *it.name == *source);
        token.and_then(|it| it.tenant.as_deref()).unwrap_or(DEFAULT_TENANT)
    }

    /// The sources whose events are a tenant's. What came in by a source that is gone is
    /// the tenant's of what says none.
    pub(crate) fn sources_of(&self, tenant: &str) -> Sources {
        let tokens = self.hub.tokens.iter().map(|it| &it.name);
        let names = self.sources.keys().chain(tokens);
        if tenant == DEFAULT_TENANT {
            let others = names.filter(|it| self.tenant_of(it) != tenant).cloned();
            let others: BTreeSet<Arc<str>> = others.collect();
            return if others.is_empty() { Sources::All } else { Sources::AllBut(others) };
        }
        let own = names.filter(|it| self.tenant_of(it) == tenant).cloned();
        Sources::Only(own.chain([operational::source_of(tenant)]).collect())
    }
}

/// Makes the snapshots of one folder, one after the other. Components that did
/// not change are not compiled again.
#[derive(Debug)]
pub(crate) struct Loader {
    folder: PathBuf,
    /// Started by the first load; its limits stay until the process ends.
    runtime: Option<Arc<Runtime>>,
    plugins: HashMap<(String, Digest), Loaded>,
    dials: Dials,
    secret_files: Vec<PathBuf>,
    /// What the last good snapshot was made of.
    digests: BTreeMap<PathBuf, Digest>,
    /// The number of the last good snapshot; 0 for none yet.
    number: u64,
    /// No secret is read: keys with this number stand in for them.
    stand_in: Option<u8>,
}

/// Which files differ from those of the snapshot before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<PathBuf>,
    pub(crate) changed: Vec<PathBuf>,
    pub(crate) removed: Vec<PathBuf>,
}

/// Read and check a folder, once. The problems are all there are.
pub(crate) fn load(folder: &Path) -> Result<Snapshot, Vec<Problem>> {
    Loader::new(folder).load().map(|(snapshot, _)| snapshot)
}

impl Loader {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            runtime: None,
            plugins: HashMap::new(),
            dials: Dials::default(),
            secret_files: Vec::new(),
            digests: BTreeMap::new(),
            number: 0,
            stand_in: None,
        }
    }

    /// From now on read no secret: keys of this number stand in for them, and do
    /// what any kind of key can.
    pub(crate) fn with_stand_ins(&mut self, number: u8) -> &mut Self {
        self.stand_in = Some(number);
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files that secrets were last read from.
    pub(crate) fn secret_files(&self) -> &[PathBuf] {
        &self.secret_files
    }

    /// Read and check the folder as it is now. The problems are all there are.
    pub(crate) fn load(&mut self) -> Result<(Snapshot, Changes), Vec<Problem>> {
        let (mut folder, mut problems) = Folder::read(&self.folder, self.stand_in.is_some());
        self.secret_files = folder.secret_files.clone();
        let runtime = match self.runtime(&folder.hub) {
            Ok(runtime) => runtime,
            Err(error) => {
                let message = format!("cannot start the plugin runtime: {error:#}");
                problems.push(Problem { file: "plugpost.toml".into(), at: None, message });
                return Err(problems);
            }
        };
        let refused = fetch::plugins(&mut folder, &mut problems);
        let mut build = Build {
            plugins: Arc::default(),
            dials: self.dials.clone(),
            problems,
            refused,
            stand_in: self.stand_in,
        };
        build.load_plugins(&runtime, &folder, &self.plugins);
        let sources =
            folder.sources.iter().map(|it| build.source(it, &folder.hub)).collect::<Vec<_>>();
        let known = known_sources(folder.sources.iter().map(|it| &*it.name), &folder.hub.tokens);
        let routes = folder.routes.iter().map(|it| build.route(it, &folder.hub, &known));
        let routes = routes.collect::<Vec<_>>();
        if !build.problems.is_empty() {
            build.problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
            return Err(build.problems);
        }
        let mut plugins: Vec<_> = build.plugins.values().map(|it| it.component.clone()).collect();
        plugins.sort_by(|a, b| a.name().cmp(b.name()));
        let digest = |it: &PluginFile| (it.name.clone(), it.sha256);
        let digests: HashMap<_, _> = folder.plugins.iter().map(digest).collect();
        let with_digest = |(name, it): (&String, &Loaded)| {
            let digest = *digests.get(name)?;
            Some(((name.clone(), digest), it.clone()))
        };
        self.plugins = build.plugins.iter().filter_map(with_digest).collect();
        let apis = build.plugins.iter();
        let apis = apis.filter_map(|(name, it)| Some((name.clone(), it.api.clone()?)));
        let apis = Arc::new(apis.collect());
        let binder = Binder { plugins: build.plugins, dials: build.dials };
        let changes = Changes::between(&self.digests, &folder.digests);
        self.digests = folder.digests;
        if !changes.is_empty() {
            self.number += 1;
        }
        let snapshot = Snapshot {
            number: self.number,
            digest: digest_of(&self.digests),
            hub: Arc::new(folder.hub),
            sources: Arc::new(
                sources.into_iter().flatten().map(|it| (it.name.clone(), it)).collect(),
            ),
            routes: Routes::new(routes.into_iter().flatten()),
            plugins,
            apis,
            binder: Arc::new(binder),
        };
        Ok((snapshot, changes))
    }

    fn runtime(&mut self, hub: &Hub) -> Result<Arc<Runtime>, RuntimeError> {
        if let Some(runtime) = &self.runtime {
            return Ok(runtime.clone());
        }
        let limits = Limits {
            deadline: hub.plugin_deadline,
            memory_bytes: hub.plugin_memory_bytes,
            output_bytes: Limits::default().output_bytes.max(hub.body_bytes_max * 4),
            ..Limits::default()
        };
        let runtime = Runtime::start(limits)?;
        self.runtime = Some(runtime.clone());
        Ok(runtime)
    }
}

fn digest_of(files: &BTreeMap<PathBuf, Digest>) -> Digest {
    let mut digest = Sha256::new();
    for (file, of_file) in files {
        // No path holds the byte that ends it.
        digest.update(file.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(of_file);
    }
    digest.finalize().into()
}

/// Where events can come from: an event posted to /events belongs to the source named
/// like its token.
fn known_sources<'k>(
    sources: impl Iterator<Item = &'k str>,
    tokens: impl IntoIterator<Item = &'k Token>,
) -> Vec<&'k str> {
    let tokens = tokens.into_iter().filter(|it| it.may(Scope::Ingest));
    sources.chain(tokens.map(|it| &*it.name)).chain([OWN_SOURCE]).collect()
}

impl Changes {
    fn between(before: &BTreeMap<PathBuf, Digest>, now: &BTreeMap<PathBuf, Digest>) -> Self {
        let missing_in = |a: &BTreeMap<PathBuf, Digest>, b: &BTreeMap<PathBuf, Digest>| {
            b.keys().filter(|it| !a.contains_key(*it)).cloned().collect()
        };
        let differs = |(file, digest): &(&PathBuf, &Digest)| {
            before.get(*file).is_some_and(|before| before != *digest)
        };
        Self {
            added: missing_in(before, now),
            changed: now.iter().filter(differs).map(|(file, _)| file.clone()).collect(),
            removed: missing_in(now, before),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("+", &self.added), ("~", &self.changed), ("-", &self.removed)];
        let files = lists.iter().flat_map(|(sign, files)| {
            files.iter().map(move |file| format!("{sign}{}", file.display()))
        });
        f.write_str(&files.collect::<Vec<_>>().join(" "))
    }
}
