//! Imports WASI, as guests in other languages do, and sends what it finds there:
//! clocks that stand still, randomness that repeats, no environment.

mod wasi {
    wit_bindgen::generate!({ path: "wasi.wit", world: "wasi-guest", generate_all });
}

use plugpost_plugin::{
    Description, Event, Failure, Message, NoSettings, Plugin, Problem, Transform, export,
};
use wasi::wasi::cli::environment::get_environment;
use wasi::wasi::clocks::{monotonic_clock, wall_clock};
use wasi::wasi::random::random::get_random_u64;

struct InertWasi;

impl Plugin for InertWasi {
    type Settings = NoSettings;

    fn describe() -> Description {
        Description::new("inert-wasi", "0.1.0", "sends what it finds in WASI")
    }

    fn new(_: NoSettings) -> Result<Self, Vec<Problem>> {
        Ok(Self)
    }
}

impl Transform for InertWasi {
    fn apply(&self, _: &Event) -> Result<Message, Failure> {
        let wall = wall_clock::now();
        let body = format!(
            r#"{{"wall":{}.{},"monotonic":{},"random":{},"environment":{}}}"#,
            wall.seconds,
            wall.nanoseconds,
            monotonic_clock::now(),
            get_random_u64(),
            get_environment().len(),
        );
        Ok(Message::json(body))
    }
}

export!(InertWasi: transform);
