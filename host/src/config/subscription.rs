//! What a subscription says, as a route file would say it: what is checked then is
//! checked the same. Its fields stand in for lines.

use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::document::{Marked, Position};
use super::route::{BreakerKeys, EndpointKeys, RetryKeys, RouteFile, parse_url};
use super::{PluginUse, SecretFrom, Settings};
use crate::clock::UnixMs;
use crate::endpoint::RateLimit;
use crate::event::TypePattern;
use crate::subscription::{Form, Subscription};

/// The fields of a subscription, as JSON pointers without the slash at the front, and
/// what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    names: Vec<String>,
    pub(crate) wrong: Vec<(String, String)>,
}

const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 2000;
const URL_BYTES_MAX: usize = 4096;
const SOURCES_MAX: usize = 32;
const TYPES_MAX: usize = 500;
/// Of a type or a pattern of types.
const TYPE_BYTES_MAX: usize = 256;
const SETTINGS_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 32;
const SECRETS_MAX: usize = 16;
/// Of one secret: one that is rotated every hour with an overlap of eight.
const VERSIONS_MAX: usize = 8;
const SECRET_BYTES_MAX: usize = 8 << 10;
const ATTRIBUTES_MAX: usize = 32;
/// Of an attribute or a header.
const VALUE_BYTES_MAX: usize = 2 << 10;
/// Of a secret, an attribute or a header.
const KEY_BYTES_MAX: usize = 64;

/// Secrets' versions that have had their time by `now` are left out. What is returned
/// beside what is wrong is not to be used.
pub(crate) fn read(of: &Subscription, now: UnixMs) -> (RouteFile, HeaderMap, Fields) {
    let form = &of.form;
    let mut fields = Fields::default();
    fields.check_sizes(form);
    let from = form
        .from
        .iter()
        .enumerate()
        .map(|(at, it)| fields.marked(&["from", &at.to_string()], it.clone()));
    let from: Vec<_> = from.collect();
    let headers = fields.headers(form);
    let file = RouteFile {
        name: of.id.to_string().into(),
        file: PathBuf::new(),
        tenant: Some(of.tenant.clone()),
        from: (!from.is_empty()).then_some(from),
        types: fields.types(form),
        platform: form.platform.as_ref().map(|it| fields.platform(form, it, now)),
        filters: Vec::new(),
        transforms: Vec::new(),
        auths: Vec::new(),
        url: fields.parsed("url", &form.url, |it| parse_url(it).map(|uri| (it.to_owned(), uri))),
        endpoint: EndpointKeys {
            rate_limit: form
                .rate_limit
                .as_ref()
                .and_then(|it| fields.parsed("rate_limit", it, RateLimit::parse))
                .map(|it| it.value),
            ..EndpointKeys::default()
        },
        dial: Default::default(),
        retry: RetryKeys::default(),
        breaker: BreakerKeys::default(),
    };
    (file, headers, fields)
}

impl Fields {
    /// The field that a position stands for.
    pub(crate) fn name(&self, line: usize) -> &str {
        self.names.get(line).map_or("", String::as_str)
    }

    fn at(&mut self, pointer: &[&str]) -> Position {
        let token = |it: &&str| it.replace('~', "~0").replace('/', "~1");
        self.names.push(pointer.iter().map(token).collect::<Vec<_>>().join("/"));
        Position { line: self.names.len() - 1, column: 0 }
    }

    fn marked<T>(&mut self, pointer: &[&str], value: T) -> Marked<T> {
        Marked { value, at: self.at(pointer) }
    }

    fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.wrong.push((field.into(), message.into()));
    }

    fn parsed<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Marked<T>> {
        match parse(text) {
            Ok(value) => Some(self.marked(&[field], value)),
            Err(message) => {
                self.wrong(field, message);
                None
            }
        }
    }

    fn types(&mut self, form: &Form) -> Vec<Marked<TypePattern>> {
        if form.types.is_empty() {
            self.wrong("types", "a subscription names the event types it takes, such as `order.*`");
        }
        let mut types = Vec::new();
        for (at, text) in form.types.iter().enumerate() {
            match TypePattern::parse(text) {
                Ok(pattern) => types.push(self.marked(&["types", &at.to_string()], pattern)),
                Err(message) => self.wrong(format!("types/{at}"), message),
            }
        }
        types
    }

    fn platform(&mut self, form: &Form, plugin: &str, now: UnixMs) -> PluginUse {
        let mut settings = Settings { value: form.settings.clone(), positions: Vec::new() };
        if !form.settings.is_object() {
            self.wrong("settings", "settings are an object");
        }
        self.walk(&form.settings, &mut vec!["settings".to_owned()], &mut settings.positions);
        let secrets = form.secrets.iter().map(|(name, versions)| {
            let at = self.at(&["secrets", name]);
            let current = versions.iter().filter(|it| it.until.is_none_or(|until| until > now));
            let versions = current.map(|it| SecretFrom {
                text: it.text.clone(),
                encoding: None,
                file: None,
                at,
            });
            (Marked { value: name.clone(), at }, versions.collect())
        });
        let secrets = secrets.collect();
        PluginUse {
            plugin: self.marked(&["platform"], plugin.to_owned()),
            settings,
            secrets,
            secrets_at: Some(self.at(&["secrets"])),
        }
    }

    fn walk(
        &mut self,
        value: &Value,
        path: &mut Vec<String>,
        positions: &mut Vec<(String, Position)>,
    ) {
        let tokens: Vec<&str> = path.iter().map(String::as_str).collect();
        let at = self.at(&tokens);
        let pointer = self.name(at.line)["settings".len()..].to_owned();
        positions.push((pointer, at));
        let mut below = |name: String, value: &Value| {
            path.push(name);
            self.walk(value, path, positions);
            path.pop();
        };
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(it, value)| below(it.clone(), value))
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(it, value)| below(it.to_string(), value));
            }
            _ => {}
        }
    }

    fn headers(&mut self, form: &Form) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &form.headers {
            let field = format!("headers/{}", name.replace('~', "~0").replace('/', "~1"));
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                self.wrong(field, "this is not a header's name");
                continue;
            };
            if crate::client::frames_the_request(&name) || name == "webhook-id" {
                self.wrong(field, "this header is the host's own");
                continue;
            }
            let Ok(mut value) = HeaderValue::from_str(value) else {
                self.wrong(field, "the value has characters that a header cannot hold");
                continue;
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers
    }

    fn check_sizes(&mut self, form: &Form) {
        let chars = |it: &Option<String>| it.as_ref().map_or(0, |it| it.chars().count());
        let settings = form.settings.to_string().len();
        let limits = [
            ("name", chars(&form.name), NAME_CHARS_MAX, "characters"),
            ("description", chars(&form.description), DESCRIPTION_CHARS_MAX, "characters"),
            ("url", form.url.len(), URL_BYTES_MAX, "bytes"),
            ("from", form.from.len(), SOURCES_MAX, "sources"),
            ("types", form.types.len(), TYPES_MAX, "types"),
            ("settings", settings, SETTINGS_BYTES_MAX, "bytes"),
            ("headers", form.headers.len(), HEADERS_MAX, "headers"),
            ("secrets", form.secrets.len(), SECRETS_MAX, "secrets"),
            ("attributes", form.attributes.len(), ATTRIBUTES_MAX, "attributes"),
        ];
        for (field, size, max, what) in limits {
            if size > max {
                self.wrong(field, format!("{size} {what} are more than {max}"));
            }
        }
        if form.types.iter().any(|it| it.len() > TYPE_BYTES_MAX) {
            self.wrong("types", format!("an event type has at most {TYPE_BYTES_MAX} bytes"));
        }
        if form.platform.is_none() && !form.secrets.is_empty() {
            self.wrong("secrets", "secrets belong to a platform, and none is named");
        }
        if form.platform.is_none() && form.settings.as_object().is_none_or(|it| !it.is_empty()) {
            self.wrong("settings", "settings belong to a platform, and none is named");
        }
        let versions = form.secrets.values();
        if versions.clone().any(|it| it.is_empty() || it.len() > VERSIONS_MAX) {
            let message = format!("a secret has 1 to {VERSIONS_MAX} versions at once");
            self.wrong("secrets", message);
        }
        if versions.flatten().any(|it| it.text.len() > SECRET_BYTES_MAX) {
            self.wrong("secrets", format!("a secret has at most {SECRET_BYTES_MAX} bytes"));
        }
        let long =
            |key: &str, value: &str| key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX;
        let message =
            format!("a name has at most {KEY_BYTES_MAX} bytes, a value {VALUE_BYTES_MAX}");
        if form.attributes.iter().any(|(key, value)| long(key, value)) {
            self.wrong("attributes", message.as_str());
        }
        if form.headers.iter().any(|(key, value)| long(key, value)) {
            self.wrong("headers", message.as_str());
        }
        if form.secrets.keys().any(|it| long(it, "")) {
            self.wrong("secrets", message);
        }
    }
}
