//! A platform's own management API, at `/platforms/{plugin}/…`: requests of the
//! platform's customers, answered as they know it.
//!
//! ```no_run
//! use plugpost_plugin::webhook_api::{Caller, Credential, Draft, Request, Response, WebhookApi};
//! # use plugpost_plugin::{Description, NoSettings, Plugin, Problem};
//! # struct Parcels;
//! # impl Plugin for Parcels {
//! #     type Settings = NoSettings;
//! #     fn describe() -> Description { Description::new("parcels", "0.1.0", "parcels") }
//! #     fn new(_: NoSettings) -> Result<Self, Vec<Problem>> { Ok(Self) }
//! # }
//! impl WebhookApi for Parcels {
//!     const CREDENTIALS: &'static [Credential] = &[Credential::bearer()];
//!
//!     fn answer(&self, request: &Request, caller: Option<&Caller>) -> Response {
//!         let Some(caller) = caller else {
//!             return Response::json(401, r#"{"error":"unauthorized"}"#);
//!         };
//!         match (request.method(), &request.segments()[..]) {
//!             ("POST", ["hooks"]) => {
//!                 let url = String::from_utf8_lossy(request.body()).into_owned();
//!                 let draft = Draft::new().url(url).event_types(["parcel.delivered"]);
//!                 match caller.create(draft) {
//!                     Ok(made) => Response::json(201, format!(r#"{{"id":{}}}"#, made.number())),
//!                     Err(refusals) => Response::json(422, refusals[0].message.clone()),
//!                 }
//!             }
//!             ("DELETE", ["hooks", id]) => match caller.delete(id) {
//!                 Some(_) => Response::empty(204),
//!                 None => Response::json(404, "{}"),
//!             },
//!             _ => Response::json(404, "{}"),
//!         }
//!     }
//! }
//! ```
//!
//! What a call changes is kept, all of it or nothing, when it is answered with a
//! status below 400. A [`StandIn`] keeps subscriptions in memory: with it an answer
//! is tested without WebAssembly.

mod headers;
mod stand_in;

#[doc(hidden)]
pub mod wit {
    pub use crate::bindings::webhook_api::exports::plugpost::plugin::webhook_api::{
        Credential, Guest, Response,
    };
    pub use crate::bindings::webhook_api::plugpost::plugin::subscriptions::{
        Caller, Draft, Subscription,
    };
}

pub use crate::bindings::webhook_api::plugpost::plugin::subscriptions::Refusal;
pub use headers::MASK;
pub use stand_in::StandIn;

use serde::de::DeserializeOwned;

use crate::{Inbound, Plugin};
use stand_in::Kept;

/// Answers a platform's API. The plugin is made with empty settings for it.
pub trait WebhookApi: Plugin {
    /// Where a token may stand. The host takes it from there.
    const CREDENTIALS: &'static [Credential];

    /// Answer one request. There is no caller when no token came with it, or one
    /// that may not change subscriptions.
    fn answer(&self, request: &Request<'_>, caller: Option<&Caller<'_>>) -> Response;
}

/// A place where callers put their token.
#[derive(Clone, Copy, Debug)]
pub struct Credential {
    /// The header's name.
    pub header: &'static str,
    /// What stands before the token; empty for nothing.
    pub prefix: &'static str,
}

impl Credential {
    /// `authorization: Bearer …`
    pub const fn bearer() -> Self {
        Self { header: "authorization", prefix: "Bearer " }
    }

    /// The token is the whole value of a header.
    pub const fn header(name: &'static str) -> Self {
        Self { header: name, prefix: "" }
    }
}

/// A request of one of the platform's customers.
#[derive(Debug)]
pub struct Request<'a> {
    method: String,
    path: String,
    query: Option<String>,
    body: Vec<u8>,
    time: u64,
    headers: Headers<'a>,
}

#[derive(Debug)]
enum Headers<'a> {
    Host(&'a Inbound),
    Given(Vec<(String, String)>),
}

impl Request<'_> {
    /// One for a test; the path may have a query.
    pub fn new(method: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        Self {
            method: method.into(),
            path: path.into(),
            query,
            body: body.into(),
            time: 0,
            headers: Headers::Given(Vec::new()),
        }
    }

    /// With a further header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Headers::Given(headers) = &mut self.headers {
            headers.push((name.to_ascii_lowercase(), value.into()));
        }
        self
    }

    /// The method, in capitals.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// What follows `/platforms/{plugin}`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path's segments as they came, without a last one that is empty.
    pub fn segments(&self) -> Vec<&str> {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() { Vec::new() } else { path.split('/').collect() }
    }

    /// The first value of that name in the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let pairs = self.query.as_deref()?.split('&');
        pairs
            .map(|it| it.split_once('=').unwrap_or((it, "")))
            .find_map(|(key, value)| (decoded(key) == name).then(|| decoded(value)))
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<String> {
        match &self.headers {
            Headers::Host(inbound) => inbound.header(name),
            Headers::Given(headers) => {
                let name = name.to_ascii_lowercase();
                headers.iter().find(|(it, _)| *it == name).map(|(_, value)| value.clone())
            }
        }
    }

    /// When the host received it, in milliseconds since 1970.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The bytes of the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as JSON, or where and why it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }
}

/// `%41` and `+` as a query means them; what is not encoded right stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (bytes.get(at + 1..at + 3))
            .filter(|_| byte == b'%')
            .and_then(|it| std::str::from_utf8(it).ok())
            .filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()))
            .and_then(|it| u8::from_str_radix(it, 16).ok());
        at += if code.is_some() { 3 } else { 1 };
        decoded.push(code.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names and values; `content-type` is `application/json` unless it stands here.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// JSON text.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// With a further header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body as text, for tests.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Whoever called, with the right to change their tenant's subscriptions.
#[derive(Debug)]
pub struct Caller<'a>(CallerIs<'a>);

#[derive(Debug)]
enum CallerIs<'a> {
    Host(&'a wit::Caller),
    StandIn(&'a StandIn),
}

/// Subscriptions asked for at once by [`Caller::all`].
const PAGE: u32 = 100;

impl Caller<'_> {
    /// The tenant's name.
    pub fn tenant(&self) -> String {
        match &self.0 {
            CallerIs::Host(it) => it.tenant(),
            CallerIs::StandIn(it) => it.tenant(),
        }
    }

    /// The name of the caller's token.
    pub fn name(&self) -> String {
        match &self.0 {
            CallerIs::Host(it) => it.name(),
            CallerIs::StandIn(it) => it.name(),
        }
    }

    /// How many subscriptions of this plugin there are.
    pub fn count(&self) -> u32 {
        match &self.0 {
            CallerIs::Host(it) => it.count(),
            CallerIs::StandIn(it) => it.count(),
        }
    }

    /// Some of them, oldest first.
    pub fn page(&self, skip: u32, take: u32) -> Vec<Subscription> {
        match &self.0 {
            CallerIs::Host(it) => {
                let page = it.subscriptions(skip, take).into_iter();
                page.map(|it| Subscription(SubscriptionIs::Host(it))).collect()
            }
            CallerIs::StandIn(it) => {
                let page = it.page(skip, take).into_iter();
                page.map(|it| Subscription(SubscriptionIs::StandIn(Box::new(it)))).collect()
            }
        }
    }

    /// Each of them, oldest first.
    pub fn all(&self) -> impl Iterator<Item = Subscription> + '_ {
        (0..self.count()).step_by(PAGE as usize).flat_map(|skip| self.page(skip, PAGE))
    }

    /// One of them, by id, UUID or number.
    pub fn get(&self, id: &str) -> Option<Subscription> {
        Some(Subscription(match &self.0 {
            CallerIs::Host(it) => SubscriptionIs::Host(it.get(id)?),
            CallerIs::StandIn(it) => SubscriptionIs::StandIn(Box::new(it.get(id)?)),
        }))
    }

    /// Make one, or say why not.
    pub fn create(&self, draft: Draft) -> Result<Subscription, Vec<Refusal>> {
        Ok(Subscription(match &self.0 {
            CallerIs::Host(it) => SubscriptionIs::Host(it.create(draft.into_wit())?),
            CallerIs::StandIn(it) => SubscriptionIs::StandIn(Box::new(it.create(draft)?)),
        }))
    }

    /// Change one; none when there is no such subscription.
    pub fn update(&self, id: &str, draft: Draft) -> Result<Option<Subscription>, Vec<Refusal>> {
        let now = match &self.0 {
            CallerIs::Host(it) => it.update(id, draft.into_wit())?.map(SubscriptionIs::Host),
            CallerIs::StandIn(it) => {
                it.update(id, draft)?.map(|it| SubscriptionIs::StandIn(Box::new(it)))
            }
        };
        Ok(now.map(Subscription))
    }

    /// The one that is gone; none when there was none.
    pub fn delete(&self, id: &str) -> Option<Subscription> {
        Some(Subscription(match &self.0 {
            CallerIs::Host(it) => SubscriptionIs::Host(it.delete(id)?),
            CallerIs::StandIn(it) => SubscriptionIs::StandIn(Box::new(it.delete(id)?)),
        }))
    }

    /// What this plugin noted of the tenant as a whole.
    pub fn note(&self, name: &str) -> Option<String> {
        match &self.0 {
            CallerIs::Host(it) => it.note(name),
            CallerIs::StandIn(it) => it.note(name),
        }
    }

    /// Note something of the tenant as a whole; none removes it.
    pub fn set_note(&self, name: &str, value: Option<&str>) {
        match &self.0 {
            CallerIs::Host(it) => it.set_note(name, value),
            CallerIs::StandIn(it) => it.set_note(name, value),
        }
    }
}

/// A subscription as it is, with what the call in hand changed of it.
#[derive(Debug)]
pub struct Subscription(SubscriptionIs);

#[derive(Debug)]
enum SubscriptionIs {
    Host(wit::Subscription),
    StandIn(Box<Kept>),
}

/// The same question to the host or to the stand-in.
macro_rules! ask {
    ($self:ident, $host:ident => $asked:expr, $kept:ident => $known:expr) => {
        match &$self.0 {
            SubscriptionIs::Host($host) => $asked,
            SubscriptionIs::StandIn($kept) => $known,
        }
    };
}

impl Subscription {
    /// Its id, `sub_…`.
    pub fn id(&self) -> String {
        ask!(self, it => it.id(), it => format!("sub_{}", it.number))
    }

    /// The same id as a UUID.
    pub fn uuid(&self) -> String {
        ask!(self, it => it.uuid(), it => it.uuid())
    }

    /// Counts up within the tenant.
    pub fn number(&self) -> u64 {
        ask!(self, it => it.number(), it => it.number)
    }

    /// The name of the token that made it.
    pub fn made_by(&self) -> String {
        ask!(self, it => it.made_by(), it => it.made_by.clone())
    }

    /// When it was made, in milliseconds since 1970.
    pub fn created(&self) -> u64 {
        ask!(self, it => it.created(), it => it.created)
    }

    /// When it was last changed.
    pub fn updated(&self) -> u64 {
        ask!(self, it => it.updated(), it => it.updated)
    }

    /// The endpoint's URL.
    pub fn url(&self) -> String {
        ask!(self, it => it.url(), it => it.said.url.clone().unwrap_or_default())
    }

    /// The event types it takes.
    pub fn event_types(&self) -> Vec<String> {
        ask!(self, it => it.event_types(), it => it.said.event_types.clone().unwrap_or_default())
    }

    /// The sources it takes them from; empty for any.
    pub fn sources(&self) -> Vec<String> {
        ask!(self, it => it.sources(), it => it.said.sources.clone().unwrap_or_default())
    }

    /// False when it is switched off, by its owner or by the host.
    pub fn active(&self) -> bool {
        ask!(self, it => it.active(), it => it.said.active.unwrap_or(true))
    }

    /// What people call it.
    pub fn name(&self) -> Option<String> {
        ask!(self, it => it.name(), it => it.said.name.clone().flatten())
    }

    /// What it is for.
    pub fn description(&self) -> Option<String> {
        ask!(self, it => it.description(), it => it.said.description.clone().flatten())
    }

    /// Such as `60/m`; none for the platform's own.
    pub fn rate_limit(&self) -> Option<String> {
        ask!(self, it => it.rate_limit(), it => it.said.rate_limit.clone().flatten())
    }

    /// The plugin's settings for it, as JSON text.
    pub fn settings(&self) -> String {
        ask!(self, it => it.settings(), it => it.settings())
    }

    /// The plugin's settings for it with one of them changed, as JSON text; none
    /// removes it. What else they say stays, whoever said it.
    pub fn settings_with(&self, name: &str, value: Option<serde_json::Value>) -> String {
        settings_with(&self.settings(), name, value)
    }

    /// The names of the secrets it has.
    pub fn secrets(&self) -> Vec<String> {
        ask!(self, it => it.secrets(), it => it.secrets())
    }

    /// The names of the headers it sends with every request.
    pub fn headers(&self) -> Vec<String> {
        ask!(self, it => it.headers(), it => it.headers())
    }

    /// What this plugin noted beside it.
    pub fn attribute(&self, name: &str) -> Option<String> {
        ask!(self, it => it.attribute(name), it => it.attribute(name))
    }
}

/// What is to be said of a subscription. What is not said stays as it is or, in a
/// new one, at its default.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    sources: Option<Vec<String>>,
    active: Option<bool>,
    name: Option<Option<String>>,
    description: Option<Option<String>>,
    rate_limit: Option<Option<String>>,
    settings: Option<String>,
    headers: Vec<(String, Option<String>)>,
    secrets: Vec<(String, Option<String>)>,
    attributes: Vec<(String, Option<String>)>,
}

impl Draft {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The endpoint's URL.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The event types it takes.
    pub fn event_types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.event_types = Some(types.into_iter().map(Into::into).collect());
        self
    }

    /// The sources it takes them from; empty for any. `plugpost` is the source of
    /// what the engine itself tells.
    pub fn sources(mut self, sources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.sources = Some(sources.into_iter().map(Into::into).collect());
        self
    }

    /// On or off.
    pub fn active(mut self, active: bool) -> Self {
        self.active = Some(active);
        self
    }

    /// What people call it.
    pub fn name(mut self, name: Option<String>) -> Self {
        self.name = Some(name);
        self
    }

    /// What it is for.
    pub fn description(mut self, description: Option<String>) -> Self {
        self.description = Some(description);
        self
    }

    /// Such as `60/m`; none for the platform's own.
    pub fn rate_limit(mut self, limit: Option<String>) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// The plugin's settings for it, as JSON text; they replace those before.
    pub fn settings(mut self, settings: impl Into<String>) -> Self {
        self.settings = Some(settings.into());
        self
    }

    /// A header sent with every request; none removes it. Its value is kept as a secret.
    pub fn header(mut self, name: &str, value: Option<String>) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// A secret's new value; none removes it.
    pub fn secret(mut self, name: &str, value: Option<String>) -> Self {
        self.secrets.push((name.into(), value));
        self
    }

    /// Something of the plugin's own to be kept beside it; none removes it.
    pub fn attribute(mut self, name: &str, value: Option<String>) -> Self {
        self.attributes.push((name.into(), value));
        self
    }

    fn into_wit(self) -> wit::Draft {
        let draft = wit::Draft::new();
        if let Some(url) = &self.url {
            draft.set_url(url);
        }
        if let Some(types) = &self.event_types {
            draft.set_event_types(types);
        }
        if let Some(sources) = &self.sources {
            draft.set_sources(sources);
        }
        if let Some(active) = self.active {
            draft.set_active(active);
        }
        if let Some(name) = &self.name {
            draft.set_name(name.as_deref());
        }
        if let Some(description) = &self.description {
            draft.set_description(description.as_deref());
        }
        if let Some(limit) = &self.rate_limit {
            draft.set_rate_limit(limit.as_deref());
        }
        if let Some(settings) = &self.settings {
            draft.set_settings(settings);
        }
        for (name, value) in &self.headers {
            draft.set_header(name, value.as_deref());
        }
        for (name, value) in &self.secrets {
            draft.set_secret(name, value.as_deref());
        }
        for (name, value) in &self.attributes {
            draft.set_attribute(name, value.as_deref());
        }
        draft
    }
}

fn settings_with(settings: &str, name: &str, value: Option<serde_json::Value>) -> String {
    let mut settings: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(settings).unwrap_or_default();
    match value {
        Some(value) => drop(settings.insert(name.into(), value)),
        None => drop(settings.remove(name)),
    }
    serde_json::Value::Object(settings).to_string()
}

#[doc(hidden)]
pub fn credentials<P: WebhookApi>() -> Vec<wit::Credential> {
    let credential =
        |it: &Credential| wit::Credential { header: it.header.into(), prefix: it.prefix.into() };
    P::CREDENTIALS.iter().map(credential).collect()
}

#[doc(hidden)]
pub fn answer<P: WebhookApi>(
    plugin: &P,
    inbound: &Inbound,
    caller: Option<&wit::Caller>,
) -> wit::Response {
    let request = Request {
        method: inbound.method(),
        path: inbound.path(),
        query: inbound.query(),
        body: inbound.body(),
        time: inbound.time(),
        headers: Headers::Host(inbound),
    };
    let caller = caller.map(|it| Caller(CallerIs::Host(it)));
    let Response { status, headers, body } = plugin.answer(&request, caller.as_ref());
    wit::Response { status, headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_segments_and_a_query_is_decoded() {
        let request = Request::new("GET", "/v3/hooks/?a=%C3%A9+b&scope=x%2Fy&bad=%zz&a=2", "");
        assert_eq!(request.segments(), ["v3", "hooks"]);
        assert_eq!(request.query("a").as_deref(), Some("é b"));
        assert_eq!(request.query("scope").as_deref(), Some("x/y"));
        assert_eq!(request.query("bad").as_deref(), Some("%zz"));
        assert_eq!(request.query("none"), None);
        assert!(Request::new("GET", "", "").segments().is_empty());
    }

    #[test]
    fn one_setting_changes_and_the_others_stay() {
        let with = |value| settings_with(r#"{"b":1.10,"a":true}"#, "a", value);
        assert_eq!(with(Some("x".into())), r#"{"b":1.10,"a":"x"}"#);
        assert_eq!(with(None), r#"{"b":1.10}"#);
        assert_eq!(settings_with("", "a", Some(1.into())), r#"{"a":1}"#);
    }

    #[test]
    fn a_stand_in_keeps_what_is_said_and_forgets_what_is_deleted() {
        let store = StandIn::new("acme", "shop");
        let caller = store.caller();
        let draft = Draft::new().url("https://a.example/").secret("key", Some("x".into()));
        let made = caller.create(draft).expect("nothing to refuse");
        assert_eq!((made.number(), made.made_by().as_str()), (1, "shop"));
        assert_eq!(made.secrets(), ["key"]);
        let now = caller.update(&made.uuid(), Draft::new().active(false).secret("key", None));
        let now = now.expect("nothing to refuse").expect("it is there");
        assert_eq!((now.url().as_str(), now.active()), ("https://a.example/", false));
        assert!(now.secrets().is_empty());
        assert!(caller.delete("1").is_some());
        assert_eq!((caller.all().count(), caller.get("1").is_none()), (0, true));
        assert_eq!(caller.create(Draft::new()).expect_err("no url")[0].field, "url");
    }
}
