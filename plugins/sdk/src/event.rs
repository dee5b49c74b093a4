//! What transforms ask of an event beyond what the host answers by itself.

use crate::{Event, Failure, json};

impl Event {
    /// The id at a JSON pointer, a string or a number, as text.
    pub fn id_at(&self, pointer: &str) -> Option<String> {
        json::id(self.text(pointer), || self.field(pointer))
    }

    /// The whole data as its JSON text; a failure when it is not JSON.
    pub fn json(&self) -> Result<String, Failure> {
        self.field("").ok_or_else(|| Failure::reject("not-json", "the event's data is not JSON"))
    }
}
