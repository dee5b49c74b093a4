//! What transforms ask of an event beyond what the host answers by itself.

use crate::{Event, Failure, json};

impl Event {
    /// The id at a JSON pointer, a string or a number, as text.
    pub fn id_at(&self, pointer: &str) -> Option<String> {
        json::id(&self.field(pointer)?)
    }

    /// The values at some JSON pointers, in one crossing, as `field` gives each.
    pub fn fields_at<const N: usize>(&self, pointers: [&str; N]) -> [Option<String>; N] {
        array(self.fields(&pointers))
    }

    /// The whole data as its JSON text; a failure when it is not JSON.
    pub fn json(&self) -> Result<String, Failure> {
        self.field("").ok_or_else(Failure::not_json)
    }
}

/// As many as were asked for.
pub(crate) fn array<const N: usize>(found: Vec<Option<String>>) -> [Option<String>; N] {
    let mut found = found.into_iter();
    [(); N].map(|()| found.next().flatten())
}
