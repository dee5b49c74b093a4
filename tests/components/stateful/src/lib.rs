//! Remembers what it should not: a counter, or dice whose state lives in the
//! instance, as those of a language without WASI do. On a fresh instance nobody
//! can tell.

use std::sync::atomic::{AtomicU64, Ordering};

use plugpost_plugin::{
    Description, Event, Failure, Message, Plugin, Problem, Transform, export, log,
};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": { "remembers": { "enum": ["counter", "dice", "nothing"] } },
  "required": ["remembers"]
}"#;

#[derive(Deserialize)]
struct Stateful {
    remembers: String,
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static DICE: AtomicU64 = AtomicU64::new(88_172_645_463_325_252);

impl Plugin for Stateful {
    type Settings = Self;

    fn describe() -> Description {
        Description::new("stateful", "0.1.0", "remembers what it should not")
            .settings_schema(SETTINGS_SCHEMA)
    }

    fn new(settings: Self) -> Result<Self, Vec<Problem>> {
        Ok(settings)
    }
}

impl Transform for Stateful {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        log(&format!("shaping {}", event.id()));
        let remembered = match self.remembers.as_str() {
            "counter" => CALLS.fetch_add(1, Ordering::Relaxed),
            "dice" => {
                let mut state = DICE.load(Ordering::Relaxed);
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                DICE.store(state, Ordering::Relaxed);
                state
            }
            _ => 0,
        };
        Ok(Message::json(format!(r#"{{"remembered":{remembered}}}"#)))
    }
}

export!(Stateful: transform);
