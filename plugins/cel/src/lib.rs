//! A filter that is one expression of the Common Expression Language:
//! `data.invoice.total > 0 && type == "invoice.paid"`.

mod expression;

use expression::{Ended, Expression, map, read};
use plugpost_plugin::{Description, Event, Failure, Filter, Plugin, Problem, export};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "expression": {
      "description": "CEL: true delivers the event, false does not; data, type, source, subject, id, attributes",
      "type": "string", "minLength": 1, "maxLength": 16384
    }
  },
  "required": ["expression"],
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
struct Settings {
    expression: String,
}

struct Cel(Expression);

impl Plugin for Cel {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "lets events pass by an expression of the Common Expression Language",
        )
        .settings_schema(SETTINGS_SCHEMA)
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let compiled = Expression::compile(&settings.expression);
        compiled.map(Self).map_err(|message| vec![Problem::at("/expression", message)])
    }
}

impl Filter for Cel {
    fn accept(&self, event: &Event) -> Result<bool, Failure> {
        let data = read(&event.json()?)
            .map_err(|what| Failure::reject("not-json", format!("the event's data: {what}")))?;
        let text = |it: String| cel_rust::Value::String(it.into());
        let attributes = event.attributes().into_iter();
        let values = [
            data,
            text(event.type_()),
            text(event.source()),
            event.subject().map_or(cel_rust::Value::Null, text),
            text(event.id()),
            map(attributes.map(|(name, it)| (name, text(it)))),
        ];
        self.0.holds(values).map_err(|why| match why {
            Ended::Missing(name) => {
                let message = format!("there is no {name}: has(…) asks whether there is");
                Failure::reject("missing-field", message)
            }
            Ended::NotBoolean(kind) => {
                let message = format!("the expression yields {kind}, not true or false");
                Failure::reject("not-boolean", message)
            }
            Ended::Error(message) => Failure::reject("error", message),
        })
    }
}

export!(Cel: filter);
