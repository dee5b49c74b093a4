//! `/v1/webhooks`: create as documented today; list and answers as documented in
//! 2019; get, update and delete in the plainest way.

use plugpost_plugin::json::{Object, quoted};
use plugpost_plugin::rfc3339;
use plugpost_plugin::webhook_api::{
    Caller, Credential, Draft, MASK, Refusal, Request, Response, Subscription, WebhookApi,
};
use serde_json::{Map, Value};

use super::{EVENTS, Ordermentum};

impl WebhookApi for Ordermentum {
    const CREDENTIALS: &'static [Credential] =
        &[Credential::header("x-api-key"), Credential::bearer()];

    fn answer(&self, request: &Request<'_>, caller: Option<&Caller<'_>>) -> Response {
        let Some(caller) = caller else {
            return wrong(401, "an API key or a bearer token with the right to do this is needed");
        };
        match (request.method(), &request.segments()[..]) {
            ("POST", ["v1", "webhooks"]) => create(request, caller),
            ("GET", ["v1", "webhooks"]) => list(request, caller),
            ("GET", ["v1", "webhooks", id]) => found(caller.get(id), 200),
            ("PUT" | "PATCH", ["v1", "webhooks", id]) => update(request, caller, id),
            ("DELETE", ["v1", "webhooks", id]) => match caller.delete(id) {
                Some(_) => Response::empty(204),
                None => no_webhook(),
            },
            (_, ["v1", "webhooks"]) => not_allowed("GET, POST"),
            (_, ["v1", "webhooks", _]) => not_allowed("GET, PUT, PATCH, DELETE"),
            _ => wrong(404, "there is only /v1/webhooks here"),
        }
    }
}

fn create(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(message) => return wrong(400, &message),
    };
    for field in ["url", "events"] {
        if !asked.contains_key(field) {
            return wrong(400, &format!("{field} is missing"));
        }
    }
    match draft(&asked, None, caller) {
        Ok(draft) => match caller.create(draft) {
            Ok(made) => found(Some(made), 201),
            Err(refusals) => refused(&refusals),
        },
        Err(message) => wrong(400, &message),
    }
}

fn update(request: &Request<'_>, caller: &Caller<'_>, id: &str) -> Response {
    let Some(before) = caller.get(id) else { return no_webhook() };
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(message) => return wrong(400, &message),
    };
    match draft(&asked, Some(&before), caller) {
        Ok(draft) => match caller.update(id, draft) {
            Ok(now) => found(now, 200),
            Err(refusals) => refused(&refusals),
        },
        Err(message) => wrong(400, &message),
    }
}

/// The body's members, or where and why it is not JSON.
fn read(request: &Request<'_>) -> Result<Map<String, Value>, String> {
    request.json().map_err(|error| format!("the body is not a JSON object: {error}"))
}

/// What a request says of a webhook, new or as it was before.
fn draft(
    asked: &Map<String, Value>,
    before: Option<&Subscription>,
    caller: &Caller<'_>,
) -> Result<Draft, String> {
    let mut draft = Draft::new().attribute("updated_by", Some(caller.name()));
    if let Some(url) = asked.get("url") {
        draft = draft.url(url.as_str().ok_or("url is not text")?);
    }
    if asked.contains_key("name") {
        draft = draft.name(text(asked, "name")?);
    }
    if let Some(events) = asked.get("events") {
        draft = draft.event_types(event_types(events)?);
    }
    for field in ["entityId", "entityType"] {
        if asked.contains_key(field) {
            draft = draft.attribute(field, text(asked, field)?);
        }
    }
    let mut username = before.and_then(username);
    let mut headers = before.map(Subscription::headers).unwrap_or_default();
    if let Some(authentication) = asked.get("authentication") {
        (username, draft) = basic(authentication, username, draft)?;
    }
    if let Some(given) = asked.get("headers") {
        let given = match given {
            Value::Null => Vec::new(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect::<Option<Vec<_>>>()
                .ok_or("headers has a value that is not text")?,
            _ => return Err("headers is not an object".into()),
        };
        draft = (draft.custom_headers(&given, &headers, &[]))
            .map_err(|(name, message)| format!("headers: {name} {message}"))?;
        headers = given.into_iter().map(|(name, _)| name).collect();
    }
    // Which of the two Ordermentum sends is not documented. A whole value that
    // somebody wrote says more than a user name and a password.
    let sets_it = headers.iter().any(|it| it.eq_ignore_ascii_case("authorization"));
    if sets_it && username.take().is_some() {
        draft = draft.secret("password", None);
    }
    let username = username.map(Value::from);
    let settings = match (before, username) {
        (Some(before), username) => before.settings_with("username", username),
        (None, Some(username)) => Object::new().json("username", &username.to_string()).finish(),
        (None, None) => "{}".into(),
    };
    Ok(draft.settings(settings))
}

fn text(asked: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match &asked[field] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(format!("{field} is not text")),
    }
}

fn event_types(events: &Value) -> Result<Vec<String>, String> {
    let events = events.as_array().filter(|it| !it.is_empty()).ok_or("events is no list")?;
    let mut types = Vec::new();
    for event in events {
        match event.as_str() {
            Some(event) if EVENTS.contains(&event) => {
                if !types.iter().any(|it| it == event) {
                    types.push(event.to_owned());
                }
            }
            _ => {
                let known = EVENTS.join(", ");
                return Err(format!("events: there is no event {event}; there are {known}"));
            }
        }
    }
    Ok(types)
}

/// The user name, and the password as a secret.
fn basic(
    authentication: &Value,
    before: Option<String>,
    draft: Draft,
) -> Result<(Option<String>, Draft), String> {
    let basic = match authentication {
        Value::Null => &Value::Null,
        Value::Object(members) => members.get("basicAuth").unwrap_or(&Value::Null),
        _ => return Err("authentication is not an object".into()),
    };
    let Value::Object(basic) = basic else {
        return match basic {
            Value::Null => Ok((None, draft.secret("password", None))),
            _ => Err("authentication.basicAuth is not an object".into()),
        };
    };
    let part = |name: &str| {
        let text = basic.get(name).and_then(Value::as_str).filter(|it| !it.is_empty());
        text.ok_or_else(|| format!("authentication.basicAuth.{name} is missing"))
    };
    let (username, password) = (part("username")?, part("password")?);
    let username = Some(username.to_owned());
    match password == MASK && before.is_some() {
        true => Ok((username, draft)),
        false => Ok((username, draft.secret("password", Some(password.into())))),
    }
}

/// The user name of Basic authentication.
fn username(of: &Subscription) -> Option<String> {
    let settings: Value = serde_json::from_str(&of.settings()).ok()?;
    Some(settings.get("username")?.as_str()?.to_owned())
}

const PAGE_SIZE: u32 = 25;
const PAGE_SIZE_MAX: u32 = 100;

fn list(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let number = |name: &str, default: u32| match request.query(name) {
        None => Ok(default),
        Some(text) => match text.parse::<u32>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(wrong(400, &format!("{name} is a number from 1"))),
        },
    };
    let (page, size) = match (number("pageNo", 1), number("pageSize", PAGE_SIZE)) {
        (Ok(page), Ok(size)) => (page, size.min(PAGE_SIZE_MAX)),
        (Err(response), _) | (_, Err(response)) => return response,
    };
    let mut filters = Vec::new();
    for (name, entity) in [("retailerId", "retailer"), ("supplierId", "supplier")] {
        filters.extend(request.query(name).map(|id| (name, entity, id)));
    }
    let skip = (page - 1).saturating_mul(size);
    let (count, rows) = match filters.is_empty() {
        true => (caller.count(), caller.page(skip, size)),
        false => {
            let fits = |it: &Subscription| {
                filters.iter().all(|(_, entity, id)| {
                    it.attribute("entityType").as_deref() == Some(*entity)
                        && it.attribute("entityId").as_ref() == Some(id)
                })
            };
            let mut count = 0_u32;
            let mut rows = Vec::new();
            for subscription in caller.all().filter(fits) {
                if (skip..skip.saturating_add(size)).contains(&count) {
                    rows.push(subscription);
                }
                count += 1;
            }
            (count, rows)
        }
    };
    let pages = count.div_ceil(size).max(1);
    let link = |page: u32| {
        let filters = filters.iter().map(|(name, _, id)| format!("&{name}={}", encoded(id)));
        format!("?pageNo={page}&pageSize={size}{}", filters.collect::<String>())
    };
    let or_null = |page: Option<u32>| page.map_or("null".into(), |it| quoted(&link(it)));
    let meta = Object::new()
        .json("totalResults", &count.to_string())
        .json("totalPages", &pages.to_string())
        .json("pageSize", &size.to_string())
        .json("pageNo", &page.to_string());
    let links = Object::new()
        .text("self", &link(page))
        .text("first", &link(1))
        .json("prev", &or_null((page > 1).then(|| page - 1)))
        .json("next", &or_null((page < pages).then(|| page + 1)))
        .text("last", &link(pages));
    let rows: Vec<_> = rows.iter().map(shown).collect();
    let answer = Object::new()
        .json("meta", &meta.finish())
        .json("links", &links.finish())
        .json("data", &format!("[{}]", rows.join(",")));
    Response::json(200, answer.finish())
}

/// RFC 3986 §2.3: what is not unreserved is escaped.
fn encoded(text: &str) -> String {
    let byte = |it: u8| match it {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(it).to_string()
        }
        _ => format!("%{it:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn found(subscription: Option<Subscription>, status: u16) -> Response {
    match subscription {
        Some(it) => Response::json(status, shown(&it)),
        None => no_webhook(),
    }
}

/// A webhook as it is answered: what is secret is masked.
fn shown(it: &Subscription) -> String {
    let text = |text: Option<String>| text.map_or("null".into(), |it| quoted(&it));
    let time = |ms| text(rfc3339::format_millis(ms));
    let events: Vec<_> = it.event_types().iter().map(|it| quoted(it)).collect();
    let mut object = Object::new()
        .text("id", &it.uuid())
        .json("name", &text(it.name()))
        .text("url", &it.url())
        .json("events", &format!("[{}]", events.join(",")))
        .json("entityId", &text(it.attribute("entityId")))
        .json("entityType", &text(it.attribute("entityType")));
    if it.attribute("entityType").as_deref() == Some("supplier") {
        object = object.json("supplierId", &text(it.attribute("entityId")));
    }
    if let Some(username) = username(it) {
        let basic = Object::new().text("username", &username).text("password", MASK).finish();
        object = object.json("authentication", &Object::new().json("basicAuth", &basic).finish());
    }
    if let Some(headers) = it.masked_headers() {
        object = object.json("headers", &headers);
    }
    object
        .json("createdAt", &time(it.created()))
        .text("createdBy", &it.made_by())
        .json("updatedAt", &time(it.updated()))
        .json("updatedBy", &text(it.attribute("updated_by")))
        .json("deletedAt", "null")
        .finish()
}

/// What the host does not keep.
fn refused(refusals: &[Refusal]) -> Response {
    let field = |it: &Refusal| it.field.replacen("event-types", "events", 1);
    let said: Vec<_> = refusals.iter().map(|it| format!("{}: {}", field(it), it.message)).collect();
    wrong(400, &said.join("; "))
}

fn no_webhook() -> Response {
    wrong(404, "there is no such webhook")
}

fn not_allowed(methods: &str) -> Response {
    wrong(405, &format!("this takes {methods}")).with_header("allow", methods)
}

fn wrong(status: u16, message: &str) -> Response {
    Response::json(status, Object::new().text("message", message).finish())
}

#[cfg(test)]
mod tests {
    use plugpost_plugin::webhook_api::StandIn;
    use serde_json::json;

    use super::super::Settings;
    use super::*;

    fn plugin() -> Ordermentum {
        Ordermentum(Settings { username: None, headers: Default::default() })
    }

    fn ask(store: &StandIn, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = plugin().answer(&Request::new(method, path, body), Some(&store.caller()));
        let body = match response.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&response.body).expect("JSON"),
        };
        (response.status, body)
    }

    fn body(more: &Value) -> String {
        let mut body = json!({
            "url": "https://hooks.example.com/in", "name": "Orders", "events": ["order_created"],
            "entityId": "sup-1", "entityType": "supplier",
        });
        body.as_object_mut().expect("ours").extend(more.as_object().expect("ours").clone());
        body.to_string()
    }

    #[test]
    fn a_missing_comma_is_shown_by_line_and_column() {
        let store = StandIn::new("acme", "shop");
        let (status, answer) =
            ask(&store, "POST", "/v1/webhooks", "{\n  \"name\": \"a\"\n  \"events\": []\n}");
        assert_eq!(status, 400);
        let message = answer["message"].as_str().expect("text");
        assert!(message.contains("expected `,` or `}` at line 3 column 3"), "{message}");
    }

    #[test]
    fn what_is_secret_is_never_answered_and_stays_when_its_mask_comes_back() {
        let store = StandIn::new("acme", "shop");
        let more = json!({ "authentication": { "basicAuth": { "username": "u", "password": "p" } },
                           "headers": { "X-Key": "k" } });
        let (status, made) = ask(&store, "POST", "/v1/webhooks", &body(&more));
        assert_eq!(status, 201, "{made}");
        assert_eq!(made["authentication"]["basicAuth"]["password"], MASK);
        assert_eq!(made["headers"], json!({ "X-Key": MASK }));
        let path = format!("/v1/webhooks/{}", made["id"].as_str().expect("an id"));
        let (status, now) = ask(&store, "PUT", &path, &made.to_string());
        assert_eq!((status, &now["headers"]), (200, &made["headers"]));
        let kept = store.caller().get("1").expect("there");
        assert_eq!(
            (kept.secrets(), kept.headers()),
            (vec!["password".into()], vec!["X-Key".into()])
        );
    }

    #[test]
    fn a_header_that_sets_authorization_wins_over_basic_auth() {
        let store = StandIn::new("acme", "shop");
        let more = json!({ "authentication": { "basicAuth": { "username": "u", "password": "p" } },
                           "headers": { "Authorization": "Bearer T" } });
        let (status, made) = ask(&store, "POST", "/v1/webhooks", &body(&more));
        assert_eq!((status, made.get("authentication")), (201, None));
        let kept = store.caller().get("1").expect("there");
        assert_eq!((kept.secrets(), kept.headers()), (vec![], vec!["Authorization".into()]));
    }

    #[test]
    fn pages_are_twenty_five_and_know_their_neighbours() {
        let store = StandIn::new("acme", "shop");
        for _ in 0..26 {
            ask(&store, "POST", "/v1/webhooks", &body(&json!({})));
        }
        let (_, page) = ask(&store, "GET", "/v1/webhooks?pageNo=2&supplierId=sup-1", "");
        assert_eq!(page["meta"]["totalPages"], 2);
        assert_eq!(page["data"].as_array().expect("a list").len(), 1);
        assert_eq!(page["links"]["prev"], "?pageNo=1&pageSize=25&supplierId=sup-1");
        assert_eq!(page["links"]["next"], Value::Null);
        let (_, none) = ask(&store, "GET", "/v1/webhooks?supplierId=sup-2", "");
        assert_eq!(none["meta"]["totalResults"], 0);
        assert_eq!(ask(&store, "GET", "/v1/webhooks?pageNo=0", "").0, 400);
    }

    #[test]
    fn without_a_caller_there_is_one_answer() {
        for (method, path) in [("GET", "/v1/webhooks"), ("DELETE", "/v1/webhooks/1"), ("GET", "/")]
        {
            assert_eq!(plugin().answer(&Request::new(method, path, ""), None).status, 401);
        }
    }

    #[test]
    fn unknown_events_and_wrong_shapes_are_refused_by_name() {
        let store = StandIn::new("acme", "shop");
        for (more, named) in [
            (json!({ "events": ["order_paid"] }), "order_paid"),
            (json!({ "events": [] }), "events"),
            (json!({ "name": 1 }), "name"),
            (json!({ "headers": { "X": 1 } }), "headers"),
            (json!({ "headers": { "Host": "x" } }), "Host"),
            (json!({ "authentication": { "basicAuth": { "username": "u" } } }), "password"),
        ] {
            let (status, answer) = ask(&store, "POST", "/v1/webhooks", &body(&more));
            let message = answer["message"].as_str().expect("text");
            assert!(status == 400 && message.contains(named), "{message}");
        }
        assert_eq!(store.caller().count(), 0);
    }
}
