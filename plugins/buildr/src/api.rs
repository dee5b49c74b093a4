//! `/api/2023-01/webhooks`: create as documented; list, get, update and delete in
//! the plainest way.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use plugpost_plugin::json::{Object, quoted};
use plugpost_plugin::webhook_api::{
    Caller, Credential, Draft, Refusal, Request, Response, Subscription, WebhookApi,
};
use serde_json::{Map, Value};

use super::{Buildr, canonical};

/// What `filter_types` may hold: both spellings of the two pages that document it.
const FILTER_TYPES: [&str; 8] = [
    "contact.create",
    "contact.update",
    "opportunity.create",
    "opportunity.update",
    "project.create",
    "project.update",
    "company.create",
    "company.update",
];

/// What was asked for, as it was spelled.
const ASKED: &str = "filter_types";

/// A thousand a second is more than any receiver asks for.
const RATE_LIMIT_MAX: u64 = 60_000;

impl WebhookApi for Buildr {
    /// The reference shows `Authorization: <authorization>`, and nothing more.
    const CREDENTIALS: &'static [Credential] =
        &[Credential::bearer(), Credential::header("authorization")];

    fn answer(&self, request: &Request<'_>, caller: Option<&Caller<'_>>) -> Response {
        let Some(caller) = caller else {
            return wrong(401, "a token with the right to do this is needed");
        };
        let segments = request.segments();
        let Some(["api", "2023-01", "webhooks", rest @ ..]) = Some(&segments[..]) else {
            return wrong(404, "there is only /api/2023-01/webhooks here");
        };
        match (request.method(), rest) {
            ("POST", []) => create(request, caller),
            ("GET", []) => list(request, caller),
            ("GET", [id]) => found(caller.get(id), 200),
            ("PUT" | "PATCH", [id]) => update(request, caller, id),
            ("DELETE", [id]) => match caller.delete(id) {
                Some(_) => Response::empty(204),
                None => no_webhook(),
            },
            (_, []) => not_allowed("GET, POST"),
            (_, [_]) => not_allowed("GET, PUT, PATCH, DELETE"),
            _ => wrong(404, "there is only /api/2023-01/webhooks here"),
        }
    }
}

fn create(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    for field in ["url", "filter_types"] {
        if !asked.contains_key(field) {
            return wrong(422, &format!("webhook.{field} is missing"));
        }
    }
    match draft(&asked, None) {
        Ok(draft) => match caller.create(draft) {
            Ok(made) => found(Some(made), 201),
            Err(refusals) => refused(&refusals),
        },
        Err(message) => wrong(422, &message),
    }
}

fn update(request: &Request<'_>, caller: &Caller<'_>, id: &str) -> Response {
    let Some(before) = caller.get(id) else { return no_webhook() };
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    match draft(&asked, Some(&before)) {
        Ok(draft) => match caller.update(id, draft) {
            Ok(now) => found(now, 200),
            Err(refusals) => refused(&refusals),
        },
        Err(message) => wrong(422, &message),
    }
}

/// The members of `webhook`.
fn read(request: &Request<'_>) -> Result<Map<String, Value>, Response> {
    let body: Value =
        request.json().map_err(|error| wrong(400, &format!("the body is not JSON: {error}")))?;
    match body {
        Value::Object(mut body) => match body.remove("webhook") {
            Some(Value::Object(webhook)) => Ok(webhook),
            _ => Err(wrong(422, "webhook is missing")),
        },
        _ => Err(wrong(422, "webhook is missing")),
    }
}

/// What a request says of a webhook, new or as it was before.
fn draft(asked: &Map<String, Value>, before: Option<&Subscription>) -> Result<Draft, String> {
    let mut draft = Draft::new();
    if let Some(url) = asked.get("url") {
        draft = draft.url(url.as_str().ok_or("webhook.url is not text")?);
    }
    match asked.get("description") {
        None => {}
        Some(Value::Null) => draft = draft.description(None),
        Some(Value::String(text)) => draft = draft.description(Some(text.clone())),
        Some(_) => return Err("webhook.description is not text".into()),
    }
    if let Some(filter_types) = asked.get("filter_types") {
        let (asked, types) = types(filter_types)?;
        draft = draft.event_types(types).attribute(ASKED, Some(asked));
    }
    match asked.get("rate_limit") {
        None => {}
        Some(Value::Null) => draft = draft.rate_limit(None),
        Some(limit) => {
            let limit = limit.as_u64().filter(|it| (1..=RATE_LIMIT_MAX).contains(it));
            let limit = limit.ok_or_else(|| {
                format!("webhook.rate_limit is a whole number from 1 to {RATE_LIMIT_MAX}, a minute")
            })?;
            draft = draft.rate_limit(Some(format!("{limit}/m")));
        }
    }
    let unsigned = |it: Option<bool>| match before {
        Some(before) => before.settings_with("unsigned", it.map(Value::from)),
        None if it.is_some() => r#"{"unsigned":true}"#.into(),
        None => "{}".into(),
    };
    match asked.get("secret") {
        None if before.is_some() => {}
        None | Some(Value::Null) => {
            draft = draft.settings(unsigned(Some(true))).secret("key", None);
        }
        Some(Value::String(secret)) if !secret.is_empty() => {
            draft = draft.settings(unsigned(None)).secret("key", Some(key(secret)));
        }
        Some(_) => return Err("webhook.secret is not text, or empty".into()),
    }
    Ok(draft)
}

/// As it was asked for, in JSON; and the event types that are meant. `project` and
/// `opportunity` are one thing, and events come by either name.
fn types(filter_types: &Value) -> Result<(String, Vec<String>), String> {
    let list = filter_types.as_array().filter(|it| !it.is_empty());
    let list = list.ok_or("webhook.filter_types is no list of event types")?;
    let (mut asked, mut types): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for name in list {
        let Some(name) = name.as_str().filter(|it| FILTER_TYPES.contains(it)) else {
            let known = FILTER_TYPES.join(", ");
            return Err(format!(
                "webhook.filter_types: there is no event type {name}; there are {known}"
            ));
        };
        if asked.iter().any(|it| it == name) {
            continue;
        }
        asked.push(name.into());
        let canonical = canonical(name.into());
        let alias = canonical.replace("opportunity.", "project.");
        for name in [canonical, alias] {
            if !types.contains(&name) {
                types.push(name);
            }
        }
    }
    let asked: Vec<_> = asked.iter().map(|it| quoted(it)).collect();
    Ok((format!("[{}]", asked.join(",")), types))
}

/// A key for Svix's libraries. What they take is one already; of any other text it
/// is the base64 of its bytes.
fn key(secret: &str) -> String {
    // Svix's own rule for a secret, for those that sign.
    let body = ["whsec_", "whsk_"].iter().find_map(|it| secret.strip_prefix(it)).unwrap_or(secret);
    let is_key = (32..=100).contains(&body.len()) && BASE64_STANDARD.decode(body).is_ok();
    if is_key { secret.into() } else { format!("whsec_{}", BASE64_STANDARD.encode(secret)) }
}

const PAGE_SIZE: u32 = 100;

fn list(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let page = match request.query("page").map(|it| it.parse::<u32>()) {
        None => 1,
        Some(Ok(page)) if page > 0 => page,
        Some(_) => return wrong(422, "page is a number from 1"),
    };
    let rows = caller.page((page - 1).saturating_mul(PAGE_SIZE), PAGE_SIZE);
    let rows: Vec<_> = rows.iter().map(shown).collect();
    let rows = format!("[{}]", rows.join(","));
    Response::json(200, Object::new().json("webhooks", &rows).finish())
}

fn found(subscription: Option<Subscription>, status: u16) -> Response {
    match subscription {
        Some(it) => Response::json(status, Object::new().json("webhook", &shown(&it)).finish()),
        None => no_webhook(),
    }
}

/// As documented: neither the secret nor the rate limit.
fn shown(it: &Subscription) -> String {
    // One that was made elsewhere has no spelling of its own.
    let asked = it.attribute(ASKED).unwrap_or_else(|| {
        let types: Vec<_> = it.event_types().iter().map(|it| quoted(it)).collect();
        format!("[{}]", types.join(","))
    });
    Object::new()
        .text("id", &it.uuid())
        .text("url", &it.url())
        .json("version", "1")
        .json("description", &it.description().map_or("null".into(), |it| quoted(&it)))
        .json("filter_types", &asked)
        .finish()
}

/// What the host does not keep.
fn refused(refusals: &[Refusal]) -> Response {
    let said = refusals.iter().map(|it| {
        let field = match it.field.split('/').next().unwrap_or_default() {
            "event-types" => "filter_types",
            "rate-limit" => "rate_limit",
            "secrets" => "secret",
            other => other,
        };
        format!("webhook.{field}: {}", it.message)
    });
    wrong(422, &said.collect::<Vec<_>>().join("; "))
}

fn no_webhook() -> Response {
    wrong(404, "there is no such webhook")
}

fn not_allowed(methods: &str) -> Response {
    wrong(405, &format!("this takes {methods}")).with_header("allow", methods)
}

fn wrong(status: u16, message: &str) -> Response {
    Response::json(status, Object::new().text("error", message).finish())
}

#[cfg(test)]
mod tests {
    use plugpost_plugin::webhook_api::StandIn;
    use serde_json::json;

    use super::*;

    fn ask(store: &StandIn, method: &str, path: &str, webhook: &Value) -> (u16, Value) {
        let plugin = Buildr { base_url: None, unsigned: false };
        let body = json!({ "webhook": webhook }).to_string();
        let response = plugin.answer(&Request::new(method, path, body), Some(&store.caller()));
        let body = match response.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&response.body).expect("JSON"),
        };
        (response.status, body)
    }

    const PATH: &str = "/api/2023-01/webhooks";

    #[test]
    fn neither_the_secret_nor_the_rate_limit_is_echoed() {
        let store = StandIn::new("acme", "crm");
        let asked = json!({ "url": "https://a.example/", "filter_types": ["project.create"],
                            "secret": "canary", "rate_limit": 100 });
        let (status, made) = ask(&store, "POST", PATH, &asked);
        let uuid = store.caller().get("1").expect("there").uuid();
        assert_eq!(status, 201);
        assert_eq!(
            made.to_string(),
            json!({ "webhook": { "id": uuid, "url": "https://a.example/", "version": 1,
                                 "description": null, "filter_types": ["project.create"] } })
            .to_string()
        );
        let kept = store.caller().get("1").expect("there");
        assert_eq!(kept.event_types(), ["opportunity.create", "project.create"]);
        assert_eq!(kept.rate_limit().as_deref(), Some("100/m"));
    }

    #[test]
    fn without_a_secret_nothing_is_signed_and_a_new_one_signs_again() {
        let store = StandIn::new("acme", "crm");
        let asked = json!({ "url": "https://a.example/", "filter_types": ["contact.create"] });
        ask(&store, "POST", PATH, &asked);
        let settings = || store.caller().get("1").expect("there").settings();
        assert_eq!(settings(), r#"{"unsigned":true}"#);
        let path = format!("{PATH}/{}", store.caller().get("1").expect("there").uuid());
        assert_eq!(ask(&store, "PUT", &path, &json!({ "secret": "s" })).0, 200);
        assert_eq!(settings(), "{}");
        assert_eq!(ask(&store, "PATCH", &path, &json!({ "description": "d" })).0, 200);
        assert_eq!(settings(), "{}");
    }

    #[test]
    fn what_svix_takes_is_a_key_and_other_text_is_made_one() {
        let real = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        assert_eq!(key(real), real);
        assert_eq!(key("secret"), "whsec_c2VjcmV0");
        assert_eq!(key("whsec_short"), format!("whsec_{}", BASE64_STANDARD.encode("whsec_short")));
    }

    #[test]
    fn wrong_fields_are_refused_by_name() {
        let store = StandIn::new("acme", "crm");
        for (more, named) in [
            (json!({ "filter_types": ["opportunity.change"] }), "opportunity.change"),
            (json!({ "filter_types": "contact.create" }), "filter_types"),
            (json!({ "rate_limit": 0 }), "rate_limit"),
            (json!({ "rate_limit": "9" }), "rate_limit"),
            (json!({ "secret": 1 }), "secret"),
            (json!({ "url": null }), "url"),
        ] {
            let mut asked =
                json!({ "url": "https://a.example/", "filter_types": ["contact.create"] });
            let members = asked.as_object_mut().expect("ours");
            members.extend(more.as_object().expect("ours").clone());
            let (status, answer) = ask(&store, "POST", PATH, &asked);
            let message = answer["error"].as_str().expect("text");
            assert!(status == 422 && message.contains(named), "{message}");
        }
        assert_eq!(store.caller().count(), 0);
    }
}
