//! jq programs as transform and as filter. jaq runs them; [`value`] reads and
//! writes JSON for it so that digits and order stay, [`program`] compiles.

mod program;
mod value;

use std::collections::BTreeMap;

use jaq_json::{Map, Val};
use plugpost_plugin::credentials::header_name_problem;
use plugpost_plugin::{
    Body, Description, Event, Failure, Filter, Header, Message, Plugin, Problem, Transform, export,
    rfc3339,
};
use program::{Ended, Program};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "program": {
      "description": "a jq program: one value for each event; as a filter true or false",
      "type": "string", "minLength": 1, "maxLength": 65536
    },
    "content_type": {
      "description": "as a transform: the media type of the result, JSON in any case",
      "type": "string", "pattern": "^[!-~ ]+$", "default": "application/json"
    },
    "headers": {
      "description": "as a transform: header name to a jq program for its value; null leaves the header out",
      "type": "object",
      "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 65536},
      "maxProperties": 16,
      "default": {}
    }
  },
  "required": ["program"],
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
struct Settings {
    program: String,
    content_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

struct Jq {
    program: Program,
    content_type: String,
    headers: Vec<(String, Program)>,
}

impl Plugin for Jq {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "shapes and filters events with jq programs",
        )
        .settings_schema(SETTINGS_SCHEMA)
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut headers = Vec::new();
        let program = Program::compile(&settings.program)
            .map_err(|message| problems.push(Problem::at("/program", message)));
        for (name, text) in settings.headers {
            // RFC 6901 §3: `~` and `/` are escaped.
            let pointer = format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
            problems.extend(header_name_problem(&pointer, &name));
            match Program::compile(&text) {
                Ok(program) => headers.push((name, program)),
                Err(message) => problems.push(Problem::at(&pointer, message)),
            }
        }
        let content_type = settings.content_type.unwrap_or_else(|| "application/json".into());
        match program {
            Ok(program) if problems.is_empty() => Ok(Self { program, content_type, headers }),
            _ => Err(problems),
        }
    }
}

impl Transform for Jq {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        let (data, about) = inputs(event)?;
        let mut headers = vec![Header::text("content-type", self.content_type.clone())];
        for (name, program) in &self.headers {
            let value = one(program.run(data.clone(), about.clone()))?;
            if let Some(text) = header_text(name, &value)? {
                headers.push(Header::text(name, text));
            }
        }
        let value = one(self.program.run(data, about))?;
        let body = value::write(&value).map_err(|what| {
            Failure::reject("not-json", format!("the program's value is not JSON: {what}"))
        })?;
        Ok(Message { method: "POST".into(), headers, body: Body::Bytes(body.into_bytes()) })
    }
}

impl Filter for Jq {
    fn accept(&self, event: &Event) -> Result<bool, Failure> {
        let (data, about) = inputs(event)?;
        match one(self.program.run(data, about))? {
            Val::Bool(accepted) => Ok(accepted),
            other => {
                let kind = kind(&other);
                let message = format!("the program yields {kind}, not true or false");
                Err(Failure::reject("not-boolean", message))
            }
        }
    }
}

/// The event's data, and what stands in `$event`.
fn inputs(event: &Event) -> Result<(Val, Val), Failure> {
    let data = value::read(&event.json()?)
        .map_err(|what| Failure::reject("not-json", format!("the event's data: {what}")))?;
    let text = |it: String| Val::utf8_str(it);
    let attributes = event.attributes().into_iter();
    let attributes: Map = attributes.map(|(name, it)| (text(name), text(it))).collect();
    let members = [
        ("id", text(event.id())),
        ("type", text(event.type_())),
        ("source", text(event.source())),
        ("subject", event.subject().map_or(Val::Null, text)),
        ("time", rfc3339::format_seconds(event.time()).map_or(Val::Null, text)),
        ("attributes", Val::obj(attributes)),
    ];
    let members = members.into_iter().map(|(name, it)| (text(name.into()), it));
    Ok((data, Val::obj(members.collect())))
}

fn one(ended: Result<Val, Ended>) -> Result<Val, Failure> {
    ended.map_err(|why| match why {
        Ended::Nothing => Failure::reject("no-value", "the program yields nothing for this event"),
        Ended::Several => {
            let message = "the program yields more than one value: [ ] around it makes them one";
            Failure::reject("several-values", message)
        }
        Ended::Error(message) => Failure::reject("error", message),
    })
}

/// A header's value, or none where the program yields null.
fn header_text(name: &str, value: &Val) -> Result<Option<String>, Failure> {
    let bad =
        |what| Failure::reject("header", format!("the program for the header {name}: {what}"));
    match value {
        Val::Null => Ok(None),
        Val::Bool(it) => Ok(Some(it.to_string())),
        Val::Num(it) => value::number_text(it).map(Some).map_err(bad),
        Val::TStr(_) => value::string_of(value).map(|it| Some(it.to_owned())).map_err(bad),
        other => Err(bad(format!("it yields {}, not a text", kind(other)))),
    }
}

fn kind(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "a boolean",
        Val::Num(_) => "a number",
        Val::TStr(_) => "a string",
        Val::BStr(_) => "bytes",
        Val::Arr(_) => "an array",
        Val::Obj(_) => "an object",
    }
}

export!(Jq: filter, transform);
