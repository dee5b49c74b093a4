//! The rest of what the platforms' pages show: the blocks that are added to a registration,
//! lists with their paging, and what is wrong, in each platform's own words.

use serde_json::{Value, json};

use super::{HOOKS, SHOP, body, call, curl, hub, send};
use crate::support::engine::Engine;
use crate::support::receiver::Receiver;

const JSON: &str = "Content-Type: application/json";

#[test]
fn ordermentums_receivers_are_known_to_by_what_was_registered_with_them() {
    let engine = Engine::start(&hub(&["ordermentum"]));
    let receiver = Receiver::ok();
    let url = format!("http://{}/platforms/ordermentum/v1/webhooks", engine.public);
    let key = format!("X-Api-Key: {SHOP}");
    let basic = json!({ "basicAuth": { "username": "hooks", "password": "canary-basic-11" } });
    let token = json!({ "Authorization": "Bearer canary-token-12" });
    // Either of the documented blocks, and both: what was written whole goes out.
    let blocks = [
        ("/basic", json!({ "authentication": basic }), "Basic aG9va3M6Y2FuYXJ5LWJhc2ljLTEx"),
        ("/token", json!({ "headers": token }), "Bearer canary-token-12"),
        ("/both", json!({ "authentication": basic, "headers": token }), "Bearer canary-token-12"),
    ];
    for (path, block, _) in &blocks {
        let mut wanted = json!({
            "url": receiver.url(path), "name": path, "events": ["order_created"],
            "entityId": "17a36ca1-supplier", "entityType": "supplier",
        });
        for (name, value) in block.as_object().expect("a block") {
            wanted[name] = value.clone();
        }
        let wanted = wanted.to_string();
        let (status, answer) =
            curl(&["-X", "POST", &url, "-H", &key, "-H", JSON, "--data", &wanted]);
        assert_eq!(status, 201, "{answer}");
        assert!(!answer.contains("canary"), "{answer}");
    }
    send(&engine, "order_created", &json!({ "id": "o-1", "total": 150.25 }));
    let received = receiver.first(3);
    for (path, _, authorization) in &blocks {
        let request = received.iter().find(|it| it.path == *path).expect("one for each");
        assert_eq!(request.header("authorization"), Some(*authorization), "{path}");
        let members = body(request);
        assert_eq!(members["event"], "order_created");
        assert_eq!(members["data"], json!({ "id": "o-1", "total": 150.25 }));
        assert!(members["timestamp"].is_string(), "{members}");
    }
    let page = format!("{url}?pageNo=2&pageSize=2");
    let (status, answer) = curl(&["-H", &key, &page]);
    let list: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(status, 200, "{answer}");
    let meta = json!({ "totalResults": 3, "totalPages": 2, "pageSize": 2, "pageNo": 2 });
    assert_eq!((&list["meta"], list["data"].as_array().map(Vec::len)), (&meta, Some(1)));
    for name in ["self", "first", "prev", "next", "last"] {
        assert!(list["links"].get(name).is_some(), "{name} is not in {}", list["links"]);
    }
    assert!(list["links"]["next"].is_null() && list["links"]["prev"].is_string(), "{list}");
}

#[test]
fn bigcommerces_lists_and_refusals_are_as_documented() {
    let engine = Engine::start(&hub(&["bigcommerce-b2b"]));
    let key = ("X-Auth-Token", SHOP);
    let make = |scope: &str, destination: &str| {
        let asked = json!({
            "scope": scope, "destination": destination, "is_active": true,
            "headers": { "Authorization": "Basic SGVsbG86R29vZGJ5ZQ==" },
        });
        call(&engine, key, "POST", HOOKS, &asked)
    };
    for at in 0..10 {
        let made = make("store/company/created", &format!("https://{at}.hooks.example.com/in"));
        assert_eq!(made.status, 200, "{}", made.text());
        assert!(!made.text().contains("SGVsbG8"), "{}", made.text());
        let members = made.json();
        assert_eq!(members["meta"], json!({}));
        for name in [
            "id",
            "client_id",
            "store_hash",
            "created_at",
            "updated_at",
            "scope",
            "destination",
            "is_active",
            "headers",
        ] {
            assert!(members["data"].get(name).is_some(), "{name} is not in {members}");
        }
    }
    let more = make("store/company/created", "https://11.hooks.example.com/in");
    assert!((400..500).contains(&more.status), "an eleventh of a scope: {}", more.text());
    assert_eq!(make("store/quote/created", "https://0.hooks.example.com/in").status, 200);
    let count = |query: &str| {
        let list = call(&engine, key, "GET", &format!("{HOOKS}?{query}"), &Value::Null);
        assert_eq!(list.status, 200, "{query}: {}", list.text());
        let total = list.json()["meta"]["pagination"]["total"].as_u64().expect("a total");
        (list.json()["data"].as_array().expect("a list").len(), total)
    };
    assert_eq!(count("page=2&limit=4"), (4, 11));
    assert_eq!(count("scope=store/quote/created"), (1, 1));
    assert_eq!(count("destination=https://0.hooks.example.com/in"), (2, 2));
    assert_eq!(count("is_active=false"), (0, 0));
    let gone = call(&engine, key, "GET", &format!("{HOOKS}/999999"), &Value::Null);
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json()["title"], "Webhook with id [999999] not found");
    assert_eq!(call(&engine, ("X-Auth-Token", "x"), "GET", HOOKS, &Value::Null).status, 401);
    // One of the documented examples is no JSON either.
    let url = format!("http://{}{HOOKS}", engine.public);
    let token = format!("X-Auth-Token: {SHOP}");
    let broken = "{\"scope\": \"store/quote/created\", \"headers\": {\"username\":\"X-Own\" \"value\": \"1\"}}";
    let (status, answer) = curl(&["-X", "POST", &url, "-H", &token, "-H", JSON, "--data", broken]);
    assert!(status == 400 || status == 422, "{status} {answer}");
}
