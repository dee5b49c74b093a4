//! `/stores/{store_hash}/v3/hooks`, as documented. The store's hash is the tenant's
//! name, and the client's id the name of its token: a client sees its own hooks.

use plugpost_plugin::json::{Object, quoted};
use plugpost_plugin::webhook_api::{
    Caller, Credential, Draft, Refusal, Request, Response, Subscription, WebhookApi,
};
use serde_json::{Map, Value};

use super::{BigcommerceB2b, ENGINE, EXCEPTION, SCOPES, SIGNATURE_HEADERS, TOLD};

/// Hooks of one client for one scope.
const HOOKS_OF_SCOPE_MAX: usize = 10;

/// What was asked for as `is_active`: the host may have switched the hook off since.
const IS_ACTIVE: &str = "is_active";

/// What `PUT /hooks/admin` sets.
const EMAILS: &str = "emails";
const EMAILS_MAX: usize = 50;
const EMAIL_BYTES_MAX: usize = 254;

/// What the documented answers say of themselves.
const ABOUT_STATUS: &str = "/api-docs/getting-started/api-status-codes";

impl WebhookApi for BigcommerceB2b {
    const CREDENTIALS: &'static [Credential] = &[Credential::header("x-auth-token")];

    fn answer(&self, request: &Request<'_>, caller: Option<&Caller<'_>>) -> Response {
        let segments = request.segments();
        let ["stores", store, "v3", "hooks", rest @ ..] = &segments[..] else {
            return wrong(404, "there is only /stores/{store_hash}/v3/hooks here");
        };
        let Some(caller) = caller.filter(|it| it.tenant() == *store) else {
            return wrong(401, "Unauthorized");
        };
        match (request.method(), rest) {
            ("POST", []) => create(request, caller),
            ("GET", []) => list(request, caller),
            ("GET", ["admin"]) => admin(caller),
            ("PUT", ["admin"]) => set_admin(request, caller),
            (_, ["admin"]) => not_allowed("GET, PUT"),
            ("GET", [id]) => own(caller, id).map_or_else(|| no_hook(id), |it| found(&it, caller)),
            ("PUT", [id]) => update(request, caller, id),
            ("DELETE", [id]) => match own(caller, id).and_then(|_| caller.delete(id)) {
                Some(gone) => found(&gone, caller),
                None => no_hook(id),
            },
            (_, []) => not_allowed("GET, POST"),
            (_, [_]) => not_allowed("GET, PUT, DELETE"),
            _ => wrong(404, "there is only /stores/{store_hash}/v3/hooks here"),
        }
    }
}

/// A hook by its number, if the caller made it.
fn own(caller: &Caller<'_>, id: &str) -> Option<Subscription> {
    let is_number = !id.is_empty() && id.bytes().all(|it| it.is_ascii_digit());
    let hook = is_number.then(|| caller.get(id)).flatten()?;
    (hook.made_by() == caller.name()).then_some(hook)
}

fn own_hooks(caller: &Caller<'_>) -> impl Iterator<Item = Subscription> {
    let name = caller.name();
    caller.all().filter(move |it| it.made_by() == name)
}

/// A hook's scope, as it was asked for.
fn scope(of: &Subscription) -> String {
    match of.sources().is_empty() {
        true => of.event_types().into_iter().next().unwrap_or_default(),
        false => EXCEPTION.into(),
    }
}

fn create(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let mut errors = Errors::default();
    for field in ["scope", "destination"] {
        if asked.get(field).is_none_or(Value::is_null) {
            errors.say(field, MISSING);
        }
    }
    let draft = draft(&asked, None, caller, &mut errors);
    if let Some(response) = errors.response() {
        return response;
    }
    match caller.create(draft) {
        Ok(made) => found(&made, caller),
        Err(refusals) => refused(&refusals),
    }
}

fn update(request: &Request<'_>, caller: &Caller<'_>, id: &str) -> Response {
    let Some(before) = own(caller, id) else { return no_hook(id) };
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let mut errors = Errors::default();
    let fields = ["scope", "destination", "is_active", "headers"];
    if !fields.iter().any(|it| asked.contains_key(*it)) {
        fields.iter().for_each(|it| errors.say(it, MISSING));
    }
    let draft = draft(&asked, Some(&before), caller, &mut errors);
    if let Some(response) = errors.response() {
        return response;
    }
    match caller.update(id, draft) {
        Ok(Some(now)) => found(&now, caller),
        Ok(None) => no_hook(id),
        Err(refusals) => refused(&refusals),
    }
}

fn read(request: &Request<'_>) -> Result<Map<String, Value>, Response> {
    request.json().map_err(|error| {
        let mut errors = Errors::default();
        errors.say("body", &format!("is not a JSON object: {error}"));
        problem(400, "Input is invalid.", Some(&errors))
    })
}

/// What is missing is said in these words.
const MISSING: &str = "error.path.missing.";

fn draft(
    asked: &Map<String, Value>,
    before: Option<&Subscription>,
    caller: &Caller<'_>,
    errors: &mut Errors,
) -> Draft {
    let mut draft = Draft::new();
    if before.is_none() {
        // What the envelope says of the store.
        draft = draft.settings(Object::new().text("store_hash", &caller.tenant()).finish());
    }
    let mut text = |field: &str| match asked.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => {
            errors.say(field, "is not text");
            None
        }
    };
    let (asked_scope, asked_destination) = (text("scope"), text("destination"));
    if let Some(scope) = &asked_scope {
        draft = match scope.as_str() {
            EXCEPTION => draft.event_types(TOLD).sources([ENGINE]),
            known if SCOPES.contains(&known) => {
                draft.event_types([known]).sources(Vec::<String>::new())
            }
            other => {
                errors.say("scope", &format!("{other} is not a scope of B2B Edition"));
                draft
            }
        };
    }
    if let Some(destination) = &asked_destination {
        draft = draft.url(destination);
    }
    match asked.get("is_active") {
        None => {}
        Some(Value::Bool(active)) => {
            draft = draft.active(*active).attribute(IS_ACTIVE, Some(active.to_string()));
        }
        Some(_) => errors.say("is_active", "is neither true nor false"),
    }
    let headers = before.map(Subscription::headers).unwrap_or_default();
    let given = match asked.get("headers") {
        None => None,
        Some(Value::Null) => Some(Vec::new()),
        Some(Value::Object(members)) => {
            let pair =
                |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            members.iter().map(pair).collect()
        }
        Some(_) => None,
    };
    match given {
        Some(given) => match draft.clone().custom_headers(&given, &headers, &SIGNATURE_HEADERS) {
            Ok(with_headers) => draft = with_headers,
            Err((name, message)) => errors.say("headers", &format!("{name} {message}")),
        },
        None if asked.contains_key("headers") => {
            errors.say("headers", "is not an object of names and texts");
        }
        None => {}
    }
    let scope = asked_scope.or_else(|| before.map(scope)).unwrap_or_default();
    let destination = asked_destination.or_else(|| before.map(Subscription::url));
    let others =
        own_hooks(caller).filter(|it| before.is_none_or(|own| own.number() != it.number()));
    beside_the_others(&scope, &destination.unwrap_or_default(), others, errors);
    draft
}

/// At most ten of a scope, no two of them alike; and one hook for exceptions, at a
/// destination of its own.
fn beside_the_others(
    asked_scope: &str,
    destination: &str,
    others: impl Iterator<Item = Subscription>,
    errors: &mut Errors,
) {
    let mut of_scope = 0;
    for other in others {
        let (other_scope, url) = (scope(&other), other.url());
        let is_there = url == destination;
        if other_scope == asked_scope {
            of_scope += 1;
            if is_there {
                errors.say("destination", "there is a hook of this scope and destination");
            }
        } else if is_there && [asked_scope, &other_scope].contains(&EXCEPTION) {
            errors.say("destination", "exceptions go to a destination of their own");
        }
    }
    let max = if asked_scope == EXCEPTION { 1 } else { HOOKS_OF_SCOPE_MAX };
    if of_scope >= max {
        errors.say("scope", &format!("there are at most {max} hooks of this scope"));
    }
}

/// As the API pages its lists elsewhere.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 250;

fn list(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let mut errors = Errors::default();
    let mut number = |name: &str, default: u64| match request.query(name) {
        None => default,
        Some(text) => match text.parse::<u64>() {
            Ok(number) if number > 0 => number,
            _ => {
                errors.say(name, "is a number from 1");
                default
            }
        },
    };
    let (page, limit) = (number("page", 1), number("limit", LIMIT).min(LIMIT_MAX));
    let is_active = match request.query("is_active").as_deref() {
        None => None,
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => {
            errors.say("is_active", "is neither true nor false");
            None
        }
    };
    if let Some(response) = errors.response() {
        return response;
    }
    let (wanted, destination) = (request.query("scope"), request.query("destination"));
    let skip = (page - 1).saturating_mul(limit);
    let (mut total, mut rows) = (0_u64, Vec::new());
    for hook in own_hooks(caller) {
        let fits = is_active.is_none_or(|it| it == hook.active())
            && wanted.as_ref().is_none_or(|it| *it == scope(&hook))
            && destination.as_ref().is_none_or(|it| *it == hook.url());
        if fits {
            if (skip..skip.saturating_add(limit)).contains(&total) {
                rows.push(shown(&hook, caller));
            }
            total += 1;
        }
    }
    let pages = total.div_ceil(limit);
    let mut links = Object::new();
    let link = |page: u64| format!("?page={page}&limit={limit}");
    if page > 1 {
        links = links.text("previous", &link(page - 1));
    }
    if page < pages {
        links = links.text("next", &link(page + 1));
    }
    let pagination = Object::new()
        .json("total", &total.to_string())
        .json("count", &rows.len().to_string())
        .json("per_page", &limit.to_string())
        .json("current_page", &page.to_string())
        .json("total_pages", &pages.to_string())
        .json("links", &links.text("current", &link(page)).finish());
    let meta = Object::new().json("pagination", &pagination.finish());
    let answer =
        Object::new().json("data", &format!("[{}]", rows.join(","))).json("meta", &meta.finish());
    Response::json(200, answer.finish())
}

fn found(hook: &Subscription, caller: &Caller<'_>) -> Response {
    let hook = shown(hook, caller);
    Response::json(200, Object::new().json("data", &hook).json("meta", "{}").finish())
}

/// A hook as it is answered: the values of its headers are masked.
fn shown(hook: &Subscription, caller: &Caller<'_>) -> String {
    Object::new()
        .json("id", &hook.number().to_string())
        .text("client_id", &hook.made_by())
        .text("store_hash", &caller.tenant())
        .json("created_at", &(hook.created() / 1000).to_string())
        .json("updated_at", &(hook.updated() / 1000).to_string())
        .text("scope", &scope(hook))
        .text("destination", &hook.url())
        .json("is_active", if hook.active() { "true" } else { "false" })
        .json("headers", &hook.masked_headers().unwrap_or_else(|| "null".into()))
        .finish()
}

fn admin(caller: &Caller<'_>) -> Response {
    let hook = |it: Subscription| {
        let is_active = it.active();
        // On by its owner's word, and off: the host gave it up.
        let status = match (is_active, it.attribute(IS_ACTIVE).as_deref()) {
            (true, _) => "active",
            (false, Some("false")) => "inactive",
            (false, _) => "deactivated",
        };
        Object::new()
            .json("id", &it.number().to_string())
            .text("scope", &scope(&it))
            .text("destination", &it.url())
            .json("is_active", if is_active { "true" } else { "false" })
            .text("status", status)
            .json("created_at", &(it.created() / 1000).to_string())
            .json("updated_at", &(it.updated() / 1000).to_string())
            .finish()
    };
    let hooks: Vec<_> = own_hooks(caller).map(hook).collect();
    let answer = Object::new()
        .json("emails", &caller.note(EMAILS).unwrap_or_else(|| "[]".into()))
        .json("hooks_list", &format!("[{}]", hooks.join(",")))
        .json("blocked_domains", "[]");
    Response::json(200, answer.finish())
}

fn set_admin(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let asked = match read(request) {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let mut errors = Errors::default();
    let fits =
        |it: &Value| it.as_str().is_some_and(|it| it.len() <= EMAIL_BYTES_MAX && it.contains('@'));
    match asked.get("emails") {
        None => errors.say("emails", MISSING),
        Some(Value::Array(emails)) if emails.len() <= EMAILS_MAX && emails.iter().all(fits) => {
            let emails: Vec<_> = emails.iter().filter_map(Value::as_str).map(quoted).collect();
            caller.set_note(EMAILS, Some(&format!("[{}]", emails.join(","))));
        }
        Some(_) => errors.say("emails", &format!("is no list of at most {EMAILS_MAX} addresses")),
    }
    errors.response().unwrap_or_else(|| Response::empty(204))
}

/// What is wrong with a request, by field.
#[derive(Default)]
struct Errors(Vec<(String, String)>);

impl Errors {
    fn say(&mut self, field: &str, message: &str) {
        if !self.0.iter().any(|(it, _)| it == field) {
            self.0.push((field.into(), message.into()));
        }
    }

    fn response(&self) -> Option<Response> {
        let title = "JSON data is missing or invalid";
        (!self.0.is_empty()).then(|| problem(422, title, Some(self)))
    }
}

/// What the host does not keep.
fn refused(refusals: &[Refusal]) -> Response {
    let mut errors = Errors::default();
    for Refusal { field, message } in refusals {
        let field = match field.split('/').next().unwrap_or_default() {
            "url" => "destination",
            "event-types" | "sources" => "scope",
            other => other,
        };
        errors.say(field, message);
    }
    problem(422, "JSON data is missing or invalid", Some(&errors))
}

fn no_hook(id: &str) -> Response {
    wrong(404, &format!("Webhook with id [{id}] not found"))
}

fn not_allowed(methods: &str) -> Response {
    wrong(405, "Method not allowed").with_header("allow", methods)
}

fn wrong(status: u16, title: &str) -> Response {
    problem(status, title, None)
}

fn problem(status: u16, title: &str, errors: Option<&Errors>) -> Response {
    let mut answer = Object::new()
        .json("status", &status.to_string())
        .text("title", title)
        .text("type", ABOUT_STATUS);
    if let Some(Errors(errors)) = errors {
        let said = errors.iter().fold(Object::new(), |it, (field, why)| it.text(field, why));
        answer = answer.json("errors", &said.finish());
    }
    Response::json(status, answer.finish())
}

#[cfg(test)]
mod tests {
    use plugpost_plugin::webhook_api::{MASK, StandIn};
    use serde_json::json;

    use super::*;

    fn ask(store: &StandIn, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let plugin = BigcommerceB2b { store: None, headers: Default::default() };
        let path = format!("/stores/k3xq9/v3/hooks{path}");
        let request = Request::new(method, &path, body.to_string());
        let response = plugin.answer(&request, Some(&store.caller()));
        let body = match response.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&response.body).expect("JSON"),
        };
        (response.status, body)
    }

    fn hook(number: usize) -> Value {
        json!({ "scope": "store/company/created",
                "destination": format!("https://a.example/{number}") })
    }

    #[test]
    fn a_hook_is_answered_as_documented() {
        let store = StandIn::new("k3xq9", "app");
        let mut asked = hook(1);
        asked["headers"] = json!({ "custom-key": "canary" });
        let (status, made) = ask(&store, "POST", "", &asked);
        let expected = json!({ "data": {
            "id": 1, "client_id": "app", "store_hash": "k3xq9", "created_at": 1_777_888_801,
            "updated_at": 1_777_888_801, "scope": "store/company/created",
            "destination": "https://a.example/1", "is_active": true,
            "headers": { "custom-key": MASK },
        }, "meta": {} });
        assert_eq!((status, made.to_string()), (200, expected.to_string()));
        assert_eq!(ask(&store, "GET", "/1", &Value::Null).1, made);
        assert_eq!(ask(&store, "DELETE", "/1", &Value::Null), (200, made));
        let (status, gone) = ask(&store, "GET", "/1", &Value::Null);
        assert_eq!((status, &gone["title"]), (404, &json!("Webhook with id [1] not found")));
    }

    #[test]
    fn a_missing_destination_is_said_as_documented() {
        let store = StandIn::new("k3xq9", "app");
        let (status, wrong) = ask(&store, "POST", "", &json!({ "scope": "store/quote/created" }));
        let expected = json!({
            "status": 422, "title": "JSON data is missing or invalid",
            "type": "/api-docs/getting-started/api-status-codes",
            "errors": { "destination": "error.path.missing." },
        });
        assert_eq!((status, wrong.to_string()), (422, expected.to_string()));
        assert_eq!(ask(&store, "PUT", "/admin", &json!({})).0, 422);
    }

    #[test]
    fn ten_hooks_of_a_scope_are_enough_for_one_client() {
        let store = StandIn::new("k3xq9", "app");
        for number in 0..10 {
            assert_eq!(ask(&store, "POST", "", &hook(number)).0, 200);
        }
        let (status, wrong) = ask(&store, "POST", "", &hook(10));
        assert_eq!((status, wrong["errors"]["scope"].is_string()), (422, true), "{wrong}");
        assert_eq!(
            ask(&store, "PUT", "/3", &json!({ "destination": "https://b.example/" })).0,
            200
        );
        store.with_token("other");
        assert_eq!(ask(&store, "POST", "", &hook(10)).0, 200);
        let (_, list) = ask(&store, "GET", "", &Value::Null);
        assert_eq!(list["meta"]["pagination"]["total"], 1);
        for (method, body) in [("GET", Value::Null), ("PUT", hook(77)), ("DELETE", Value::Null)] {
            assert_eq!(ask(&store, method, "/3", &body).0, 404, "{method}");
        }
    }

    #[test]
    fn a_list_is_filtered_and_paged() {
        let store = StandIn::new("k3xq9", "app");
        for number in 0..5 {
            ask(&store, "POST", "", &hook(number));
        }
        ask(&store, "PUT", "/2", &json!({ "is_active": false }));
        let (_, list) = ask(&store, "GET", "?is_active=true&limit=3&page=2", &Value::Null);
        assert_eq!(list["data"].as_array().expect("a list").len(), 1);
        let links = json!({ "previous": "?page=1&limit=3", "current": "?page=2&limit=3" });
        assert_eq!(list["meta"]["pagination"]["links"], links);
        let (_, one) = ask(&store, "GET", "?destination=https%3A%2F%2Fa.example%2F4", &Value::Null);
        assert_eq!(one["data"][0]["id"], 5);
        let (_, none) = ask(&store, "GET", "?scope=store/quote/created", &Value::Null);
        assert_eq!(none["meta"]["pagination"]["total_pages"], 0);
    }

    #[test]
    fn exceptions_have_one_hook_and_a_destination_of_its_own() {
        let store = StandIn::new("k3xq9", "app");
        ask(&store, "POST", "", &hook(1));
        let exception = |url: &str| json!({ "scope": EXCEPTION, "destination": url });
        let (status, wrong) = ask(&store, "POST", "", &exception("https://a.example/1"));
        assert_eq!((status, wrong["errors"]["destination"].is_string()), (422, true), "{wrong}");
        let (status, made) = ask(&store, "POST", "", &exception("https://a.example/e"));
        assert_eq!((status, &made["data"]["scope"]), (200, &json!(EXCEPTION)));
        assert_eq!(store.caller().get("2").expect("there").sources(), ["plugpost"]);
        assert_eq!(ask(&store, "POST", "", &exception("https://a.example/f")).0, 422);
    }

    #[test]
    fn another_store_and_no_token_are_answered_alike() {
        let store = StandIn::new("other", "app");
        let plugin = BigcommerceB2b { store: None, headers: Default::default() };
        let request = Request::new("GET", "/stores/k3xq9/v3/hooks", "");
        let foreign = plugin.answer(&request, Some(&store.caller()));
        assert_eq!(foreign.status, 401);
        assert_eq!(foreign, plugin.answer(&request, None));
    }

    #[test]
    fn emails_are_noted_and_a_hook_that_was_given_up_is_deactivated() {
        let store = StandIn::new("k3xq9", "app");
        ask(&store, "POST", "", &hook(1));
        let emails = json!({ "emails": ["a@example.com"] });
        assert_eq!(ask(&store, "PUT", "/admin", &emails), (204, Value::Null));
        ask(&store, "PUT", "/1", &json!({ "is_active": false }));
        let (_, admin) = ask(&store, "GET", "/admin", &Value::Null);
        assert_eq!(admin["emails"], emails["emails"]);
        assert_eq!(admin["hooks_list"][0]["status"], "inactive");
        let off = Draft::new().attribute(IS_ACTIVE, Some("true".into()));
        store.caller().update("1", off).expect("fine");
        let (_, admin) = ask(&store, "GET", "/admin", &Value::Null);
        assert_eq!(admin["hooks_list"][0]["status"], "deactivated");
    }

    #[test]
    fn what_the_host_refuses_is_said_of_the_documented_field() {
        let store = StandIn::new("k3xq9", "app").refusing("url", "port 443 only");
        let (status, wrong) = ask(&store, "POST", "", &hook(1));
        assert_eq!((status, &wrong["errors"]["destination"]), (422, &json!("port 443 only")));
    }
}
