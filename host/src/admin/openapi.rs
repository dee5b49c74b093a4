//! `/openapi.json`: what the handlers say of themselves, and what holds for all.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi;

/// The Plugpost admin API: the delivery log, and steering.
#[derive(OpenApi)]
#[openapi(info(
    title = "Plugpost admin API",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Head;

pub(super) fn head() -> openapi::OpenApi {
    Head::openapi()
}

/// The whole document. Every refusal is a problem, and what any call can be refused
/// with is said once, here.
pub(super) fn text(api: openapi::OpenApi) -> String {
    let mut api = serde_json::to_value(api).unwrap_or_default();
    api["components"]["schemas"]["Problem"] = json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
        },
    });
    api["components"]["securitySchemes"]["token"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "A [[token]] with the scope read, or operate for what changes something; \
                        none is needed where no token may read.",
    });
    api["components"]["schemas"]["Range"]["anyOf"] =
        json!([{ "required": ["route"] }, { "required": ["endpoint"] }]);
    api["security"] = json!([{ "token": [] }]);
    let paths = api["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let open = operation["security"] == json!([{}]);
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        let mut all = vec![("400", "The request is wrong; the detail says where")];
        if !open {
            all.push(("401", "A token is needed"));
            all.push(("403", "The token's scopes do not allow this"));
        }
        all.push(("503", "The store cannot do it now"));
        for (status, description) in all {
            let missing = || json!({ "description": description });
            responses.entry(status).or_insert_with(missing);
        }
        for (status, response) in responses {
            if status.starts_with(['4', '5']) {
                response["content"] = json!({
                    "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } }
                });
            }
        }
    }
    api.to_string()
}
