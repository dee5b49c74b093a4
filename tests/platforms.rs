//! Platforms' own management APIs, as their customers call them: each documented
//! request gets the documented answer, and events then arrive in the platform's form,
//! signed its way. Nobody reaches another tenant's, and no plugin can do harm by it.

mod documented;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::engine::{self, Engine};
use crate::support::eventually;
use crate::support::hub::Hub;
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::tls::{Authority, Secure};

const SHOP: &str = "shop-7f3a-token";
const OTHER: &str = "other-1c9e-token";
const CLIENT_SECRET: &str = "canary-client-secret-51d0";

/// A hub with these plugins, and tokens of two tenants. Events come from `erp` of the
/// tenant `k3xq9`.
fn hub(plugins: &[&str]) -> Hub {
    let token = |name: &str, tenant: &str, scope: &str, more: &str| {
        format!(
            "[[token]]\nname = \"{name}\"\nsecret = {{ file = \"secrets/{name}\" }}\n\
             scopes = [\"{scope}\"]\ntenant = \"{tenant}\"\n{more}\n"
        )
    };
    let client = "secrets.client_secret = { file = \"secrets/client\" }";
    let tables = [
        token("shop", "k3xq9", "operate", client),
        token("shop-2", "k3xq9", "operate", ""),
        token("other", "q7w2e", "operate", ""),
        token("reader", "k3xq9", "read", ""),
        token("everybodys", "*", "operate", ""),
        token("events", "k3xq9", "ingest", ""),
    ];
    let hub = Hub::with("", &tables.concat());
    hub.secret("shop", SHOP).secret("shop-2", "shop-2-token").secret("other", OTHER);
    hub.secret("reader", "reader-token").secret("everybodys", "everybodys-token");
    hub.secret("events", "events-token").secret("client", CLIENT_SECRET);
    for plugin in plugins {
        hub.plugin(plugin);
    }
    hub
}

/// One call with the shop's token, as JSON.
fn call(engine: &Engine, header: (&str, &str), method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [header, ("content-type", "application/json")];
    client::ask(engine.public, method, path, &headers, body.as_bytes())
}

/// Each event has an id of its own.
static SENT: AtomicUsize = AtomicUsize::new(1);

/// A structured CloudEvent of the tenant `k3xq9`.
fn send(engine: &Engine, event_type: &str, data: &Value) {
    let event = json!({
        "specversion": "1.0", "id": SENT.fetch_add(1, Ordering::Relaxed).to_string(), "source": "/erp", "type": event_type,
        "storeid": "100482", "data": data,
    });
    let headers = [
        ("authorization", "Bearer events-token"),
        ("content-type", "application/cloudevents+json"),
    ];
    let answer =
        client::ask(engine.public, "POST", "/events", &headers, event.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
}

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.body).expect("JSON")
}

/// The real curl: status and body.
fn curl(arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30", "-w", "\n%{http_code}"])
        .args(arguments)
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a status"), body.to_owned())
}

#[test]
fn ordermentums_documented_call_is_answered_and_its_events_arrive() {
    let engine = Engine::start(&hub(&["ordermentum"]));
    let url = format!("http://{}/platforms/ordermentum/v1/webhooks", engine.public);
    let bearer = format!("Authorization: Bearer {SHOP}");
    // Laid out as in the documentation, whose comma after the name is missing.
    let documented = |comma: &str| {
        format!(
            "{{\n       \"url\": \"https://hooks.example.com/ordermentum\",\n       \
             \"name\": \"Orders to the ERP\"{comma}\n       \
             \"events\": [\"order_created\", \"order_updated\"],\n       \
             \"entityId\": \"0f9d2c1e-supplier\",\n       \"entityType\": \"supplier\"\n     }}"
        )
    };
    let create = |body: &str, token: &str| {
        curl(&[
            "-X",
            "POST",
            &url,
            "-H",
            token,
            "-H",
            "Content-Type: application/json",
            "--data",
            body,
        ])
    };
    let (status, answer) = create(&documented(""), &bearer);
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("expected `,` or `}` at line 4 column 8"), "{answer}");
    let (status, answer) = create(&documented(","), &bearer);
    assert_eq!(status, 201, "{answer}");
    let made: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(made["events"], json!(["order_created", "order_updated"]));
    assert_eq!((&made["entityType"], &made["createdBy"]), (&json!("supplier"), &json!("shop")));
    assert_eq!(create(&documented(","), "Authorization: Bearer wrong").0, 401);
    assert_eq!(create(&documented(","), "X-Api-Key: reader-token").0, 401);

    let receiver = Receiver::ok();
    let path =
        format!("/platforms/ordermentum/v1/webhooks/{}", made["id"].as_str().expect("an id"));
    let key = ("X-Api-Key", SHOP);
    let change = json!({
        "url": receiver.url("/om"),
        "authentication": { "basicAuth": { "username": "hub", "password": "canary-9d1" } },
        "headers": { "X-Hub": "canary-7be" },
    });
    let changed = call(&engine, key, "PUT", &path, &change);
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert!(!changed.text().contains("canary"), "{}", changed.text());
    send(&engine, "order_created", &json!({ "id": "o-1", "total": 1 }));
    // Without an order of their own the next may overtake it.
    receiver.first(1);
    send(&engine, "invoice_created", &json!({ "id": "i-1" }));
    send(&engine, "order_updated", &json!({ "id": "o-1", "total": 2 }));
    for (request, event) in receiver.first(2).iter().zip(["order_created", "order_updated"]) {
        assert_eq!(body(request)["event"], event);
        assert!(body(request)["timestamp"].is_string() && body(request)["data"]["id"] == "o-1");
        // `hub:canary-9d1`
        assert_eq!(request.header("authorization"), Some("Basic aHViOmNhbmFyeS05ZDE="));
        assert_eq!(request.header("x-hub"), Some("canary-7be"));
    }
    // A whole value that somebody wrote wins.
    let wins = json!({ "headers": { "Authorization": "Bearer canary-5" } });
    assert_eq!(call(&engine, key, "PUT", &path, &wins).status, 200);
    send(&engine, "order_created", &json!({ "id": "o-2" }));
    assert_eq!(receiver.first(3)[2].header("authorization"), Some("Bearer canary-5"));

    let list = call(&engine, key, "GET", "/platforms/ordermentum/v1/webhooks", &Value::Null).json();
    assert_eq!(list["meta"]["totalResults"], 1);
    assert_eq!(list["data"][0]["id"], made["id"]);
    assert_eq!(call(&engine, key, "GET", &path, &Value::Null).json(), list["data"][0]);
    assert_eq!(call(&engine, key, "DELETE", &path, &Value::Null).status, 204);
    assert_eq!(call(&engine, key, "GET", &path, &Value::Null).status, 404);
    assert!(!engine.stderr().contains("canary"), "{}", engine.stderr());
}

#[test]
fn buildrs_documented_call_is_answered_and_its_events_are_signed_as_svix_signs() {
    let engine = Engine::start(&hub(&["buildr"]));
    let receiver = Receiver::ok();
    let url = format!("http://{}/platforms/buildr/api/2023-01/webhooks", engine.public);
    let documented = json!({ "webhook": {
        "url": receiver.url("/buildr"), "description": "Webhook of the CRM",
        "filter_types": ["opportunity.create"], "secret": "tulip", "rate_limit": 100,
    }});
    let token = format!("Authorization: {SHOP}");
    let (status, answer) = curl(&[
        "-X",
        "POST",
        &url,
        "-H",
        &token,
        "-H",
        "Content-Type: application/json",
        "--data",
        &documented.to_string(),
    ]);
    let made: Value = serde_json::from_str(&answer).expect("JSON");
    let expected = json!({ "webhook": {
        "id": made["webhook"]["id"], "url": receiver.url("/buildr"), "version": 1,
        "description": "Webhook of the CRM", "filter_types": ["opportunity.create"],
    }});
    assert_eq!((status, made.to_string()), (201, expected.to_string()));
    // Either name of the resource.
    for event in ["opportunity.create", "contact.create", "project.create"] {
        send(&engine, event, &json!({ "id": 7, "url": "https://crm.example.com/opportunities/7" }));
    }
    for request in receiver.first(2) {
        let expected = json!({ "id": 7, "url": "https://crm.example.com/opportunities/7" });
        assert_eq!(body(&request), expected);
        let header = |name: &str| request.header(name).expect("a header").to_owned();
        let signed = [header("svix-id"), header("svix-timestamp")].join(".") + ".";
        let code = hmac_sha256(b"tulip", &[signed.as_bytes(), &request.body].concat());
        assert_eq!(header("svix-signature"), format!("v1,{code}"));
    }
    let bearer = format!("Bearer {SHOP}");
    let key = ("authorization", bearer.as_str());
    let path = format!(
        "/platforms/buildr/api/2023-01/webhooks/{}",
        made["webhook"]["id"].as_str().expect("an id")
    );
    let off = json!({ "webhook": { "secret": null } });
    assert_eq!(call(&engine, key, "PATCH", &path, &off).status, 200);
    send(&engine, "opportunity.create", &json!({ "id": 8, "url": "https://crm.example.com/" }));
    assert_eq!(receiver.first(3)[2].header("svix-signature"), None);
    let unknown = json!({ "webhook": { "url": receiver.url("/"), "filter_types": ["deal.won"] } });
    let answer = call(&engine, key, "POST", "/platforms/buildr/api/2023-01/webhooks", &unknown);
    assert!(answer.status == 422 && answer.text().contains("deal.won"), "{}", answer.text());
    assert_eq!(engine_subscriptions(&engine)[0]["rate_limit"], "100/m");
    assert_eq!(call(&engine, key, "DELETE", &path, &Value::Null).status, 204);
}

/// HMAC-SHA256 in base64.
fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length");
    mac.update(message);
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

const HOOKS: &str = "/platforms/bigcommerce-b2b/stores/k3xq9/v3/hooks";

#[test]
fn bigcommerces_documented_calls_are_answered_and_its_events_arrive_signed_over_https_on_443() {
    let receiver = Receiver::ok();
    let ours = Authority::new("ours");
    let at = SocketAddr::from(([127, 0, 43, 1], 443));
    let _secure =
        Secure::before_at(&receiver, ours.server(&["127.0.43.1"]).serving(&["http/1.1"]), at);
    let hub = hub(&["bigcommerce-b2b"]);
    hub.secret("ca", &ours.pem);
    let mut command = engine::command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    command.env("SSL_CERT_FILE", hub.path().join("secrets/ca")).arg("serve").arg(hub.path());
    let engine = Engine::start_command(command, &hub);

    let url = format!("http://{}{HOOKS}", engine.public);
    let token = format!("X-Auth-Token: {SHOP}");
    let create = |body: &Value| {
        let body = body.to_string();
        let json = "Content-Type: application/json";
        curl(&[
            "-X",
            "POST",
            &url,
            "-H",
            &token,
            "-H",
            json,
            "-H",
            "Accept: application/json",
            "--data",
            &body,
        ])
    };
    let documented = json!({ "scope": "store/company/created",
        "destination": "https://127.0.43.1/hooks", "is_active": true,
        "headers": { "X-Custom": "canary-3" } });
    let (status, answer) = create(&documented);
    assert_eq!(status, 200, "{answer}");
    let made: Value = serde_json::from_str(&answer).expect("JSON");
    let hook = &made["data"];
    assert_eq!((&hook["store_hash"], &hook["client_id"]), (&json!("k3xq9"), &json!("shop")));
    assert_eq!(hook["headers"], json!({ "X-Custom": "********" }));
    for wrong in ["http://127.0.43.1/hooks", "https://127.0.43.1:8443/hooks"] {
        let asked = json!({ "scope": "store/company/created", "destination": wrong });
        let (status, answer) = create(&asked);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["title"]), (422, &json!("JSON data is missing or invalid")));
        assert!(answer["errors"]["destination"].is_string(), "{answer}");
    }
    let (status, answer) = create(&json!({ "scope": "store/company/created" }));
    let expected = json!({ "status": 422, "title": "JSON data is missing or invalid",
        "type": "/api-docs/getting-started/api-status-codes",
        "errors": { "destination": "error.path.missing." } });
    assert_eq!((status, answer), (422, expected.to_string()));

    send(&engine, "store/company/created", &json!({ "company_id": 7 }));
    let request = receiver.first(1).remove(0);
    let envelope = body(&request);
    assert_eq!(
        (&envelope["scope"], &envelope["data"]["company_id"]),
        (&json!("store/company/created"), &json!(7))
    );
    assert_eq!(
        (&envelope["store_id"], &envelope["producer"]),
        (&json!("100482"), &json!("stores/k3xq9"))
    );
    let header = |name: &str| request.header(name).expect("a header").to_owned();
    let signed = [header("webhook-id"), header("webhook-timestamp")].join(".") + ".";
    let code = hmac_sha256(CLIENT_SECRET.as_bytes(), &[signed.as_bytes(), &request.body].concat());
    assert_eq!(header("webhook-signature"), format!("v1,{code}"));
    assert_eq!(header("x-custom"), "canary-3");

    let key = ("X-Auth-Token", SHOP);
    let path = format!("{HOOKS}/{}", hook["id"]);
    let listed =
        call(&engine, key, "GET", &format!("{HOOKS}?is_active=true&limit=10"), &Value::Null);
    assert_eq!(listed.json()["data"], json!([hook]));
    assert_eq!(listed.json()["meta"]["pagination"]["total"], 1);
    assert_eq!(call(&engine, key, "GET", &path, &Value::Null).json(), made);
    assert_eq!(call(&engine, key, "PUT", &path, &json!({})).status, 422);
    let emails = json!({ "emails": ["ops@example.com"] });
    assert_eq!(call(&engine, key, "PUT", &format!("{HOOKS}/admin"), &emails).status, 204);
    let admin = call(&engine, key, "GET", &format!("{HOOKS}/admin"), &Value::Null).json();
    assert_eq!(
        (&admin["emails"], &admin["hooks_list"][0]["status"]),
        (&emails["emails"], &json!("active"))
    );
    assert_eq!(call(&engine, key, "DELETE", &path, &Value::Null).json()["data"]["id"], hook["id"]);
    assert_eq!(call(&engine, key, "GET", &path, &Value::Null).status, 404);
    // Another client of the store, and another store.
    assert_eq!(call(&engine, ("X-Auth-Token", OTHER), "GET", HOOKS, &Value::Null).status, 401);
}

#[test]
fn a_hook_whose_last_retry_fails_is_switched_off_told_of_and_switched_on_again() {
    let failing = Receiver::start(|_| Reply::status(500));
    let told = Receiver::ok();
    let ours = Authority::new("ours");
    let config = || ours.server(&["127.0.43.2", "127.0.43.3"]).serving(&["http/1.1"]);
    let at = |last| SocketAddr::from(([127, 0, 43, last], 443));
    let _failing = Secure::before_at(&failing, config(), at(2));
    let _told = Secure::before_at(&told, config(), at(3));
    let hub = hub(&[]);
    // The plugin as it is, with waits that a test can wait for.
    let bytes = std::fs::read(crate::support::plugin("bigcommerce-b2b")).expect("the plugin");
    hub.write("plugins/bigcommerce-b2b.wasm", hurried(bytes));
    hub.secret("ca", &ours.pem);
    let mut command = engine::command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    command.env("SSL_CERT_FILE", hub.path().join("secrets/ca")).arg("serve").arg(hub.path());
    let engine = Engine::start_command(command, &hub);
    let key = ("X-Auth-Token", SHOP);
    let hook = |scope: &str, destination: &str| {
        let asked = json!({ "scope": scope, "destination": destination });
        let answer = call(&engine, key, "POST", HOOKS, &asked);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["id"].clone()
    };
    let id = hook("store/quote/created", "https://127.0.43.2/hooks");
    hook("store/hook/deliveryException", "https://127.0.43.3/exceptions");
    send(&engine, "store/quote/created", &json!({ "quote_id": 1, "quote_uuid": "a" }));
    let codes = |count: usize| {
        let requests = told.first(count);
        let envelope = |it: &std::sync::Arc<Received>| {
            let it = body(it);
            assert_eq!(it["scope"], "store/hook/deliveryException");
            assert_eq!((&it["data"]["type"], &it["data"]["id"]), (&json!("webhook"), &id));
            it["data"]["error_code"].as_u64().expect("a code")
        };
        let mut codes: Vec<_> = requests.iter().map(envelope).collect();
        codes.sort_unstable();
        codes
    };
    assert_eq!(codes(2), [90001, 90002]);
    let path = format!("{HOOKS}/{id}");
    let is_active =
        || call(&engine, key, "GET", &path, &Value::Null).json()["data"]["is_active"].clone();
    assert_eq!(is_active(), false);
    let admin = call(&engine, key, "GET", &format!("{HOOKS}/admin"), &Value::Null).json();
    assert_eq!(admin["hooks_list"][0]["status"], "deactivated");
    let tried = failing.received().len();
    assert_eq!(tried, 12);
    let on = call(&engine, key, "PUT", &path, &json!({ "is_active": true }));
    assert_eq!((on.status, &on.json()["data"]["is_active"]), (200, &json!(true)));
    assert_eq!(is_active(), true);
    send(&engine, "store/quote/created", &json!({ "quote_id": 2, "quote_uuid": "b" }));
    failing.first(tried + 1);
}

/// The retry schedule of the plugin's description, with text of the same length.
fn hurried(mut bytes: Vec<u8>) -> Vec<u8> {
    let real = b"60s, 180s, 300s, 600s, 900s, 1800s, 1h, 2h, 6h, 14h, 24h";
    let quick = b"9ms, 99ms, 99ms, 99ms, 99ms, 99ms, 1ms,1ms,1ms,1ms, 99ms";
    assert_eq!(real.len(), quick.len());
    let at = bytes.windows(real.len()).position(|it| it == real).expect("the schedule");
    bytes[at..at + real.len()].copy_from_slice(quick);
    bytes
}

#[test]
fn no_call_of_any_platform_reaches_another_tenants() {
    let engine = Engine::start(&hub(&["ordermentum", "buildr", "bigcommerce-b2b"]));
    struct Api {
        path: &'static str,
        header: &'static str,
        create: Value,
        id: &'static str,
        change: Value,
        foreign: &'static [&'static str],
    }
    let apis = [
        Api {
            path: "/platforms/ordermentum/v1/webhooks",
            header: "x-api-key",
            create: json!({ "url": "https://a.example/", "events": ["order_created"] }),
            id: "/id",
            change: json!({ "name": "stolen" }),
            foreign: &["/platforms/ordermentum/v1/webhooks"],
        },
        Api {
            path: "/platforms/buildr/api/2023-01/webhooks",
            header: "authorization",
            create: json!({ "webhook": { "url": "https://a.example/", "filter_types": ["contact.create"] } }),
            id: "/webhook/id",
            change: json!({ "webhook": { "description": "stolen" } }),
            foreign: &["/platforms/buildr/api/2023-01/webhooks"],
        },
        Api {
            path: HOOKS,
            header: "x-auth-token",
            create: json!({ "scope": "store/company/created", "destination": "https://a.example/" }),
            id: "/data/id",
            change: json!({ "is_active": false }),
            // One's own store with the other's ids, and the other's store.
            foreign: &["/platforms/bigcommerce-b2b/stores/q7w2e/v3/hooks", HOOKS],
        },
    ];
    // A plugin that answers an API is one of them, or this test is not about all.
    let answers = |folder: &Path| {
        let source = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap_or_default();
        let exports = source.lines().find(|it| it.starts_with("export!("));
        exports.is_some_and(|it| it.contains("webhook_api"))
    };
    let plugins = std::fs::read_dir(crate::support::root().join("plugins")).expect("a folder");
    let plugins = plugins.flatten().map(|it| it.path()).filter(|it| answers(it));
    let mut plugins: Vec<_> =
        plugins.map(|it| it.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    plugins.sort();
    assert_eq!(plugins, ["bigcommerce-b2b", "buildr", "ordermentum"]);
    let mut looked_at = 0;
    let kept = || engine_subscriptions(&engine);
    for api in &apis {
        let made = call(&engine, (api.header, SHOP), "POST", api.path, &api.create);
        assert!(made.status < 300, "{}", made.text());
        let shown = made.json().pointer(api.id).expect("an id").clone();
        let own = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
        let all = kept();
        let mut ids = vec![own];
        ids.extend(all.iter().map(|it| it["id"].as_str().expect("an id").to_owned()));
        for path in api.foreign {
            for id in &ids {
                for (method, body) in [
                    ("GET", &Value::Null),
                    ("PUT", &api.change),
                    ("PATCH", &api.change),
                    ("DELETE", &Value::Null),
                ] {
                    let answer =
                        call(&engine, (api.header, OTHER), method, &format!("{path}/{id}"), body);
                    assert!(
                        matches!(answer.status, 401 | 404 | 405),
                        "{method} {path}/{id}: {} {}",
                        answer.status,
                        answer.text()
                    );
                    looked_at += 1;
                }
            }
        }
        // A list shows none of them.
        let list = call(&engine, (api.header, OTHER), "GET", api.foreign[0], &Value::Null);
        assert!(!list.text().contains("a.example"), "{}", list.text());
        assert_eq!(kept(), all, "something was changed");
    }
    // Calls without an id, of the store that is the other's.
    let all = kept();
    let emails = json!({ "emails": ["thief@example.com"] });
    let admin = format!("{HOOKS}/admin");
    for (method, path, body) in [
        ("GET", HOOKS, &Value::Null),
        ("POST", HOOKS, &apis[2].create),
        ("GET", admin.as_str(), &Value::Null),
        ("PUT", admin.as_str(), &emails),
    ] {
        let answer = call(&engine, ("x-auth-token", OTHER), method, path, body);
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
    }
    let own = call(&engine, ("x-auth-token", SHOP), "GET", &admin, &Value::Null);
    assert!(!own.text().contains("thief"), "{}", own.text());
    assert_eq!(kept(), all, "something was changed");
    assert!(looked_at > 40, "{looked_at}");
}

/// All that the engine keeps, as its operator sees them.
fn engine_subscriptions(engine: &Engine) -> Vec<Value> {
    let headers = [("authorization", "Bearer everybodys-token")];
    let answer = client::ask(engine.admin, "GET", "/v1/subscriptions?limit=100", &headers, b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].as_array().expect("a list").clone()
}

#[test]
fn a_token_is_taken_out_of_the_request_and_only_one_that_may_is_a_caller() {
    let engine = Engine::start(&hub(&["hostile-api"]));
    let ask = |headers: &[(&str, &str)]| {
        let answer =
            client::ask(engine.public, "GET", "/platforms/hostile-api/headers", headers, b"");
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    };
    assert_eq!(ask(&[("x-api-key", SHOP), ("x-other", "seen")]), r#""k3xq9" ["seen"]"#);
    assert_eq!(ask(&[("authorization", &format!("bearer {OTHER}"))]), r#""q7w2e" []"#);
    let twice = format!("Bearer {OTHER}");
    for headers in [
        &[][..],
        &[("x-api-key", "wrong")],
        &[("x-api-key", "reader-token")],
        &[("x-api-key", "everybodys-token")],
        &[("authorization", "Basic c2hvcDpzaG9w")],
        &[("x-api-key", SHOP), ("authorization", &twice)],
        &[("x-api-key", SHOP), ("x-api-key", "wrong")],
    ] {
        assert_eq!(ask(headers), r#""" []"#, "{headers:?}");
    }
    let may_see = [("authorization", "Bearer everybodys-token")];
    let metrics = client::ask(engine.admin, "GET", "/metrics", &may_see, b"").text().to_owned();
    assert!(metrics.contains("plugpost_platform_requests_total{status=\"200\"} 9"), "{metrics}");
}

#[test]
fn what_a_call_changes_is_kept_only_when_it_ends_well() {
    let hub = hub(&["hostile-api"]);
    let engine = Engine::start(&hub);
    let ask = |path: &str| {
        let path = format!("/platforms/hostile-api/{path}");
        client::ask(engine.public, "POST", &path, &[("x-api-key", SHOP)], b"")
    };
    let count = || engine_subscriptions(&engine).len();
    for (path, status, kept) in [
        ("make", 201, 1),
        ("make-and-refuse", 422, 1),
        ("make-and-trap", 500, 1),
        // Called twice, kept once.
        ("make-slowly", 201, 2),
        ("make-endlessly", 500, 2),
    ] {
        assert_eq!((ask(path).status, count()), (status, kept), "{path}");
    }
    // On disk before it was answered.
    let id = ask("make").text().to_owned();
    engine.kill();
    let engine = Engine::start(&hub);
    assert!(engine_subscriptions(&engine).iter().any(|it| it["id"] == id.as_str()));
}

#[test]
fn whatever_a_plugin_answers_is_harmless_and_named() {
    let engine = Engine::start(&hub(&["hostile-api"]));
    let ask = |path: &str| {
        let path = format!("/platforms/hostile-api/{path}");
        client::ask(engine.public, "POST", &path, &[("x-api-key", SHOP)], b"")
    };
    assert_eq!(ask("remember").status, 201);
    for (path, code) in [
        ("hoard", "plugin.handles"),
        ("say-endlessly", "plugin.output"),
        ("make-endlessly", "plugin.changes"),
        ("recall", "plugin.trap"),
        ("status/99", "plugin.status"),
        ("status/101", "plugin.status"),
        ("status/600", "plugin.status"),
        ("framing", "plugin.header"),
        ("injection", "plugin.header"),
        ("many-headers", "plugin.header"),
        ("large", "plugin.memory"),
        ("spin", "plugin.timeout"),
    ] {
        // What another call left lives in one of the instances.
        let answer = match path {
            "recall" => eventually("the instance that remembers", || {
                ask("remember");
                Some(ask(path)).filter(|it| it.status == 500)
            }),
            _ => ask(path),
        };
        answer.problem(500);
        assert_eq!(answer.json()["code"], code, "{path}");
    }
    let fine = ask("anything/at%20all");
    assert_eq!((fine.status, fine.text()), (200, "POST /anything/at%20all"));
    assert_eq!(fine.header("content-type"), Some("application/json"));
    assert_eq!(ask("html").header("content-type"), Some("text/html"));
    assert_eq!(ask("status/204").header("content-type"), None);
    let nobody = client::ask(engine.public, "GET", "/platforms/hmac/x", &[], b"");
    assert!(nobody.problem(404).contains("hmac"));
    let large = [("content-length", "2097152")];
    client::ask(engine.public, "POST", "/platforms/hostile-api/x", &large, b"").problem(413);
    assert!(!engine.stderr().contains("\nthread '"), "{}", engine.stderr());
}
