//! Binding: every plugin that a file names is found, its settings held against
//! its schema and tried on it, its secrets decoded. What is wrong is gathered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use jsonschema::Validator;
use parking_lot::Mutex;

use super::Source;
use super::dial::Dials;
use crate::client;
use crate::config::{
    BreakerKeys, Digest, Folder, HUB_FILE, Hub, Marked, PluginFile, PluginUse, Policy, Position,
    Problem, RouteFile, Scope, SourceFile, nearest, parse_policy,
};
use crate::endpoint::{BreakerRule, Endpoint, Order};
use crate::event::{OWN_SOURCE, TypePattern};
use crate::plugin::{Api, Bound, Component, Key, Role, Runtime, Secrets, Unfit};
use crate::retry::RetryPolicy;
use crate::route::{DEFAULT_TENANT, Route};
use crate::subscription::SubscriptionId;

/// A plugin, loaded, with what was parsed of its description.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) component: Arc<Component>,
    /// Where it answers its platform's API.
    pub(super) api: Option<Api>,
    schema: Arc<Validator>,
    policy: Policy,
}

pub(super) struct Build {
    pub(super) plugins: Arc<HashMap<String, Loaded>>,
    pub(super) dials: Dials,
    pub(super) problems: Vec<Problem>,
    /// Plugins that are there and were not loaded: each has its own problem.
    pub(super) refused: Vec<String>,
    /// The number of the keys that stand in for secrets.
    pub(super) stand_in: Option<u8>,
}

impl Build {
    /// Load every plugin that was not loaded `before`, as many at once as there
    /// are processors.
    pub(super) fn load_plugins(
        &mut self,
        runtime: &Arc<Runtime>,
        folder: &Folder,
        before: &HashMap<(String, Digest), Loaded>,
    ) {
        let mut new = Vec::new();
        for plugin in &folder.plugins {
            let PluginFile { name, sha256, .. } = plugin;
            // Before it is looked at: what is not allowed is not even parsed.
            if let Err((at, message)) = folder.hub.pins.allow(name, sha256) {
                match at {
                    Some(at) => self.problem(Path::new(HUB_FILE), at, message),
                    None => self.problems.push(plugin.problem(&message)),
                }
                self.refused.push(name.clone());
                continue;
            }
            match before.get(&(name.clone(), *sha256)) {
                Some(known) => self.loaded(name, known.clone()),
                None => new.push(plugin),
            }
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let loaded = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.min(new.len()) {
                scope.spawn(|| {
                    while let Some(plugin) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = load_plugin(runtime, &plugin.name, &plugin.bytes);
                        loaded.lock().push((*plugin, result));
                    }
                });
            }
        });
        for (plugin, result) in loaded.into_inner() {
            match result {
                Ok(it) => self.loaded(&plugin.name, it),
                Err(message) => {
                    self.refused.push(plugin.name.clone());
                    self.problems.push(plugin.problem(&message));
                }
            }
        }
    }

    fn loaded(&mut self, name: &str, plugin: Loaded) {
        Arc::make_mut(&mut self.plugins).insert(name.to_owned(), plugin);
    }

    pub(super) fn source(&mut self, from: &SourceFile, hub: &Hub) -> Option<Source> {
        if *from.name == *OWN_SOURCE {
            let message = format!(
                "`{}` is the source of the engine's own events: call this one differently",
                OWN_SOURCE
            );
            self.problems.push(Problem { file: from.file.clone(), at: None, message });
        }
        let plugin = from.plugin.as_ref().map(|it| self.bind(it, &from.file, &[Role::Source]));
        let known: Vec<&str> = hub.tokens.iter().map(|it| &*it.name).collect();
        let mut tenant = from.tenant.as_ref().map(|it| it.value.clone());
        for token in from.tokens.iter().flatten() {
            match hub.tokens.iter().find(|it| *it.name == *token.value) {
                Some(it) if it.may(Scope::Ingest) => {
                    let whose = it.tenant.as_ref();
                    if let Some(other) =
                        whose.filter(|it| **it != *tenant.get_or_insert_with(|| (*it).clone()))
                    {
                        let message = format!(
                            "the token `{}` belongs to the tenant `{other}`, the source to `{}`",
                            token.value,
                            tenant.as_deref().unwrap_or_default()
                        );
                        self.problem(&from.file, token.at, message);
                    }
                }
                Some(_) => {
                    let message = format!("the token `{}` has no scope `ingest`", token.value);
                    self.problem(&from.file, token.at, message);
                }
                None => {
                    let message = unknown("token in plugpost.toml", &token.value, &known);
                    self.problem(&from.file, token.at, message);
                }
            }
        }
        let tenant = tenant.unwrap_or_else(|| DEFAULT_TENANT.into());
        // What is posted to /events belongs to the source named like its token.
        let namesake = hub.tokens.iter().find(|it| it.name == from.name && it.may(Scope::Ingest));
        if namesake.and_then(|it| it.tenant.as_ref()).is_some_and(|it| *it != tenant) {
            let message = format!(
                "the token `{}` has the source's name and another tenant: call one differently",
                from.name
            );
            self.problems.push(Problem { file: from.file.clone(), at: None, message });
        }
        // All problems of the file are found by now.
        let plugin = match plugin {
            Some(bound) => Some(bound?),
            None => None,
        };
        let names = |tokens: &Vec<Marked<String>>| {
            tokens.iter().map(|it| it.value.as_str().into()).collect()
        };
        Some(Source {
            name: from.name.clone(),
            plugin,
            tokens: from.tokens.as_ref().map(names),
            tenant,
            reply: from.reply.clone(),
        })
    }

    /// `sources` are the names that it may take events from.
    pub(super) fn route(&mut self, from: &RouteFile, hub: &Hub, sources: &[&str]) -> Option<Route> {
        let file = &from.file;
        if from.is_file() && from.name.parse::<SubscriptionId>().is_ok() {
            let message = "this is a subscription's id: call the route differently".into();
            self.problems.push(Problem { file: file.clone(), at: None, message });
        }
        self.check_sources(from, sources);
        let platform = from.platform.as_ref().map(|plugin| {
            let bound = self.bind(plugin, file, &[Role::Transform, Role::Auth]);
            self.check_types(from, plugin);
            let found = self.plugins.get(&plugin.plugin.value)?;
            Some((bound?, found.component.clone(), found.policy.clone()))
        });
        let mut stage = |uses: &[PluginUse], role| {
            uses.iter().map(|it| self.bind(it, file, &[role])).collect::<Vec<_>>()
        };
        let filters = stage(&from.filters, Role::Filter);
        let mut transforms = stage(&from.transforms, Role::Transform);
        let mut auths = stage(&from.auths, Role::Auth);
        if let Some(Some((bound, component, _))) = &platform {
            // What the file says replaces what the platform brings.
            let has = |role| component.roles().contains(&role);
            if transforms.is_empty() && has(Role::Transform) {
                transforms.push(Some(bound.clone()));
            }
            if auths.is_empty() && has(Role::Auth) {
                auths.push(Some(bound.clone()));
            }
        }
        let policy = platform.as_ref().map(|it| it.as_ref().map(|(_, _, policy)| policy.clone()));
        let endpoint = self.endpoint(from, &policy.clone().flatten().unwrap_or_default(), hub);
        // All problems of the file are found by now.
        let policy = match policy {
            Some(policy) => policy?,
            None => Policy::default(),
        };
        let endpoint = endpoint?;
        let all = |stage: Vec<Option<Bound>>| stage.into_iter().collect::<Option<Vec<_>>>();
        let (filters, transforms, auths) = (all(filters)?, all(transforms)?, all(auths)?);
        let mut plugins: Vec<String> = Vec::new();
        for label in filters.iter().chain(&transforms).chain(&auths).map(Bound::label) {
            if !plugins.contains(&label) {
                plugins.push(label);
            }
        }
        let default = RetryPolicy::default();
        Some(Route {
            name: from.name.clone(),
            tenant: from.tenant.clone(),
            from: (from.from.as_ref())
                .map(|it| it.iter().map(|it| it.value.as_str().into()).collect()),
            types: from.types.iter().map(|it| it.value.clone()).collect(),
            filters,
            transforms,
            auths,
            endpoint,
            retry: RetryPolicy {
                schedule: (from.retry.schedule.clone())
                    .or(policy.retry.schedule)
                    .unwrap_or(default.schedule),
                jitter: from.retry.jitter.or(policy.retry.jitter).unwrap_or(default.jitter),
            },
            headers: HeaderMap::new(),
            plugins: plugins.join(" ").into(),
            rests: None,
        })
    }

    fn endpoint(&mut self, from: &RouteFile, policy: &Policy, hub: &Hub) -> Option<Endpoint> {
        let dial = self.dial(from, hub);
        let Marked { value: (url, uri), at } = from.url.as_ref()?;
        let (said, platform) = (&from.endpoint, &policy.endpoint);
        if said.https_only.or(platform.https_only) == Some(true)
            && uri.scheme_str() != Some("https")
        {
            let message = match from.is_file() {
                true => format!(
                    "`{url}`: the platform delivers to https:// only; `https_only = false` \
                     overrides it"
                ),
                false => format!("`{url}`: the platform delivers to https:// only"),
            };
            self.problem(&from.file, *at, message);
        }
        let port = client::port(uri);
        if let Some(only) = said.port.or(platform.port).filter(|it| *it != port) {
            let message = match from.is_file() {
                true => format!(
                    "`{url}`: the platform delivers to port {only} only; `port = {port}` \
                     overrides it"
                ),
                false => format!("`{url}`: the platform delivers to port {only} only"),
            };
            self.problem(&from.file, *at, message);
        }
        let (client, grant) = dial?;
        Some(Endpoint {
            url: url.as_str().into(),
            uri: uri.clone(),
            timeout: said.timeout.or(platform.timeout).unwrap_or(hub.timeout),
            concurrency: said.concurrency.or(platform.concurrency).unwrap_or(hub.concurrency),
            rate_limit: said.rate_limit.or(platform.rate_limit),
            order: said.order.or(platform.order).unwrap_or(Order::Free),
            breaker: breaker(&from.breaker, &policy.breaker),
            disable_after: (said.disable_after.or(platform.disable_after))
                .unwrap_or(hub.disable_after),
            disable_when_exhausted: (said.disable_when_exhausted)
                .or(platform.disable_when_exhausted)
                .unwrap_or(false),
            client,
            grant,
        })
    }

    fn check_sources(&mut self, from: &RouteFile, known: &[&str]) {
        for source in from.from.iter().flatten() {
            if !known.contains(&source.value.as_str()) {
                let message = unknown("source", &source.value, known);
                self.problem(&from.file, source.at, message);
            }
        }
    }

    fn check_types(&mut self, from: &RouteFile, platform: &PluginUse) {
        let Some(found) = self.plugins.get(&platform.plugin.value) else { return };
        if !found.policy.refuses_unknown_types {
            return;
        }
        let known = found.component.description().event_types.clone();
        for pattern in &from.types {
            let fits = match &pattern.value {
                TypePattern::Exactly(name) => known.iter().any(|it| **it == **name),
                TypePattern::StartingWith(start) => known.iter().any(|it| it.starts_with(&**start)),
            };
            if !fits {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = unknown(
                    &format!("event type of {}", platform.plugin.value),
                    &pattern.value.to_string(),
                    &known,
                );
                self.problem(&from.file, pattern.at, message);
            }
        }
    }

    /// Bind a use of a plugin that has at least one of the roles.
    fn bind(&mut self, plugin: &PluginUse, file: &Path, roles: &[Role]) -> Option<Bound> {
        let name = &plugin.plugin.value;
        let Some(found) = self.plugins.get(name) else {
            if !self.refused.contains(name) {
                let known: Vec<&str> = self.plugins.keys().map(String::as_str).collect();
                let message = unknown("plugin", name, &known);
                self.problem(file, plugin.plugin.at, message);
            }
            return None;
        };
        let mut wrong = Vec::new();
        let component = found.component.clone();
        if !roles.iter().any(|it| component.roles().contains(it)) {
            let has: Vec<_> = component.roles().iter().map(|it| it.as_str()).collect();
            let wanted: Vec<_> = roles.iter().map(|it| it.as_str()).collect();
            let message =
                format!("`{name}` is no {}: it is {}", wanted.join(" or "), has.join(", "));
            wrong.push((plugin.plugin.at, message));
        }
        let at = |pointer: &str| plugin.settings.position(pointer).unwrap_or(plugin.plugin.at);
        for error in found.schema.iter_errors(&plugin.settings.value) {
            let pointer = error.instance_path().to_string();
            let message = format!("settings{}: {error}", dotted(&pointer));
            wrong.push((at(&pointer), message));
        }
        let secrets = secrets(plugin, &component, self.stand_in, &mut wrong);
        let mut bound = None;
        if wrong.is_empty() {
            match Bound::new(component, &plugin.settings.value.to_string(), secrets) {
                Ok(it) => bound = Some(it),
                Err(Unfit::Settings(problems)) => {
                    wrong.extend(problems.into_iter().map(|it| {
                        (
                            at(&it.pointer),
                            format!("settings{}: {}", dotted(&it.pointer), it.message),
                        )
                    }));
                }
                Err(Unfit::Fault(fault)) => wrong.push((plugin.plugin.at, fault.to_string())),
            }
        }
        for (at, message) in wrong {
            self.problem(file, at, message);
        }
        bound
    }

    pub(super) fn problem(&mut self, file: &Path, at: Position, message: String) {
        let at = Some((at.line, at.column));
        self.problems.push(Problem { file: file.into(), at, message });
    }
}

/// What the file says, then what the platform says, then what holds for all.
fn breaker(said: &BreakerKeys, platform: &BreakerKeys) -> Option<BreakerRule> {
    let default = BreakerRule::default();
    said.enabled.or(platform.enabled).unwrap_or(true).then(|| BreakerRule {
        window: said.window.or(platform.window).unwrap_or(default.window),
        requests: said.requests.or(platform.requests).unwrap_or(default.requests),
        success_ratio: (said.success_ratio.or(platform.success_ratio))
            .unwrap_or(default.success_ratio),
        rest: said.rest.or(platform.rest).unwrap_or(default.rest),
    })
}

fn load_plugin(runtime: &Arc<Runtime>, name: &str, bytes: &[u8]) -> Result<Loaded, String> {
    let component = Component::load(runtime, name, bytes).map_err(|error| error.to_string())?;
    let description = component.description();
    let schema = jsonschema::validator_for(&description.settings_schema)
        .map_err(|error| format!("its settings' schema is not JSON Schema: {error}"))?;
    let policy = parse_policy(&description.policy)?;
    let has_api = component.roles().contains(&Role::WebhookApi);
    let api = has_api.then(|| Api::of(&component)).transpose()?;
    Ok(Loaded { api, schema: Arc::new(schema), policy, component })
}

/// The keys a use of a plugin is given, decoded as the plugin or the file says.
fn secrets(
    plugin: &PluginUse,
    component: &Component,
    stand_in: Option<u8>,
    wrong: &mut Vec<(Position, String)>,
) -> Secrets {
    let needs = &component.description().secrets;
    let known: Vec<&str> = needs.iter().map(|it| it.name.as_str()).collect();
    // A name that is nearly right is one problem, not two.
    let meant: Vec<_> = (plugin.secrets.iter())
        .filter_map(|(name, _)| nearest(&name.value, known.iter().copied()))
        .collect();
    for need in needs.iter().filter(|it| it.required && !meant.contains(&it.name.as_str())) {
        if !plugin.secrets.iter().any(|(name, _)| name.value == need.name) {
            let mut message = format!(
                "`{}` needs the secret `{}` ({})",
                plugin.plugin.value, need.name, need.summary
            );
            if plugin.secrets_at.is_none() {
                message.push_str(&format!(": secrets.{} = {{ env = \"NAME\" }}", need.name));
            }
            wrong.push((plugin.secrets_at.unwrap_or(plugin.plugin.at), message));
        }
    }
    let mut keys = Vec::new();
    for (name, versions) in &plugin.secrets {
        let Some(need) = needs.iter().find(|it| it.name == name.value) else {
            let what = format!("secret of {}", plugin.plugin.value);
            wrong.push((name.at, unknown(&what, &name.value, &known)));
            continue;
        };
        let mut decoded = Vec::new();
        for version in versions {
            if let Some(number) = stand_in {
                decoded.push(Key::stand_in(number));
                continue;
            }
            let encoding = version.encoding.unwrap_or(need.encoding);
            match Key::decode(version.text.clone(), encoding) {
                Ok(key) => decoded.push(key),
                Err(message) => {
                    wrong.push((version.at, format!("secrets.{}: {message}", name.value)))
                }
            }
        }
        keys.push((name.value.as_str().into(), decoded));
    }
    Secrets::new(keys)
}

fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".")
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("there is no {what} called `{name}`: did you mean `{meant}`?"),
        None if known.is_empty() => format!("there is no {what} called `{name}`, nor any other"),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            known.dedup();
            format!("there is no {what} called `{name}`; there are {}", known.join(", "))
        }
    }
}
