//! What a caller says of a subscription: read field by field, so that all that is wrong
//! is found at once and nothing that may be secret is repeated.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::config::nearest;
use crate::problem::HttpProblem;
use crate::snapshot::Wrong;
use crate::subscription::{Form, SecretVersion};

/// What is said of a subscription.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the body, which is read field by field")]
pub(super) struct Subscribe {
    /// The caller's own, unless said; callers who see every tenant may say another.
    #[schema(nullable = false)]
    tenant: Option<String>,
    #[schema(max_length = 200)]
    name: Option<String>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    /// The sources it takes events from; every source of the tenant, unless given.
    #[schema(nullable = false, max_items = 32)]
    from: Option<Vec<String>>,
    /// Such as `order.created` or `order.*`.
    #[schema(min_items = 1, max_items = 500)]
    types: Vec<String>,
    url: String,
    /// True, unless given.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// Such as `60/m`; the platform's own, unless given.
    rate_limit: Option<String>,
    /// The plugin whose transform, signature and policy it has; none sends what came in.
    platform: Option<String>,
    /// The plugin's settings.
    #[schema(value_type = Option<Object>, nullable = false)]
    settings: Option<Value>,
    /// Headers sent with every request, by name; their values are kept as secrets are.
    #[schema(value_type = Option<Object>, nullable = false)]
    headers: Option<Value>,
    /// Secrets by the names that the plugin has for them.
    #[schema(value_type = Option<Object>, nullable = false)]
    secrets: Option<Value>,
}

/// A secret's new value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) value: String,
    /// For how long the value before is used beside it; `24h`, unless given.
    #[serde(default)]
    pub(super) overlap: Option<String>,
}

/// What was said, and what was wrong with it.
pub(super) struct Said {
    fields: Map<String, Value>,
    pub(super) wrong: Vec<Wrong>,
}

const FIELDS: [&str; 12] = [
    "tenant",
    "name",
    "description",
    "from",
    "types",
    "url",
    "active",
    "rate_limit",
    "platform",
    "settings",
    "headers",
    "secrets",
];

impl Said {
    pub(super) fn read(body: &[u8]) -> Result<Self, HttpProblem> {
        let not_json = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            let detail = format!("the body is not JSON: line {line}, column {column}");
            HttpProblem::bad_request(detail)
        };
        let value: Value = serde_json::from_slice(body).map_err(not_json)?;
        let Value::Object(fields) = value else {
            return Err(HttpProblem::bad_request("the body is a JSON object"));
        };
        let mut said = Self { fields, wrong: Vec::new() };
        for name in said.fields.keys().filter(|it| !FIELDS.contains(&it.as_str())) {
            let message = match nearest(name, FIELDS.into_iter()) {
                Some(meant) => format!("there is no such field: did you mean `{meant}`?"),
                None => format!("there is no such field; there are {}", FIELDS.join(", ")),
            };
            // A name is as long as whoever wrote it wanted.
            let name = name.chars().take(64).collect();
            said.wrong.push((name, message));
        }
        Ok(said)
    }

    /// The tenant, where one is said. `own` is the only one that it can be.
    pub(super) fn tenant(&mut self, own: Option<&str>) -> Result<Option<String>, HttpProblem> {
        let Some(Some(said)) = self.take::<String>("tenant", "a tenant's name") else {
            return Ok(None);
        };
        match (own, crate::config::tenant(&said)) {
            (Some(own), _) if own != said => {
                Err(HttpProblem::forbidden("this is not the caller's own tenant"))
            }
            (_, Err(message)) => {
                self.wrong.push(("tenant".into(), message));
                Ok(None)
            }
            _ => Ok(Some(said)),
        }
    }

    /// Take over all that is said.
    pub(super) fn change(&mut self, form: &mut Form) {
        if let Some(it) = self.take("name", "a string or null") {
            form.name = it;
        }
        if let Some(it) = self.take("description", "a string or null") {
            form.description = it;
        }
        if let Some(it) = self.take("from", "a list of strings") {
            form.from = it.unwrap_or_default();
        }
        if let Some(it) = self.take("types", "a list of strings") {
            form.types = it.unwrap_or_default();
        }
        if let Some(it) = self.take("url", "a string") {
            form.url = it.unwrap_or_default();
        }
        if let Some(it) = self.take("active", "true or false") {
            form.active = it.unwrap_or(true);
        }
        if let Some(it) = self.take("rate_limit", "a string such as `60/m`, or null") {
            form.rate_limit = it;
        }
        if let Some(it) = self.take("platform", "a plugin's name, or null") {
            form.platform = it;
        }
        if let Some(it) = self.take::<Map<String, Value>>("settings", "an object") {
            form.settings = Value::Object(it.unwrap_or_default());
        }
        for (name, value) in self.texts("headers") {
            match value {
                Some(value) => drop(form.headers.insert(name, value)),
                None => drop(form.headers.remove(&name)),
            }
        }
        for (name, value) in self.texts("secrets") {
            match value {
                Some(text) => {
                    form.secrets.insert(name, vec![SecretVersion { text, until: None }]);
                }
                None => drop(form.secrets.remove(&name)),
            }
        }
    }

    /// None when it is not said, or wrong; an inner none for null.
    fn take<T: DeserializeOwned>(&mut self, name: &str, wanted: &str) -> Option<Option<T>> {
        let value = self.fields.remove(name)?;
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(_) => {
                self.wrong.push((name.into(), format!("this is {wanted}")));
                None
            }
        }
    }

    fn texts(&mut self, name: &str) -> BTreeMap<String, Option<Zeroizing<String>>> {
        let wanted = "an object of strings, or null for what is to go";
        let texts = self.take::<BTreeMap<String, Option<String>>>(name, wanted).flatten();
        let texts = texts.unwrap_or_default().into_iter();
        texts.map(|(name, value)| (name, value.map(Zeroizing::new))).collect()
    }
}
