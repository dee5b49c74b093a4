//! What sources ask of a request beyond what the host answers by itself.

use crate::event::array;
use crate::{Inbound, Rejection, json};

impl Inbound {
    /// What follows `/in/{source}/`, as it came; none when nothing does. Where a
    /// platform's body does not name its event, the URL registered for it can.
    pub fn event_type_in_path(&self) -> Option<String> {
        self.path().strip_prefix('/').filter(|rest| !rest.is_empty()).map(Into::into)
    }

    /// The id at a JSON pointer, a string or a number, as text.
    pub fn id_at(&self, pointer: &str) -> Option<String> {
        json::id(&self.field(pointer)?)
    }

    /// The values at some JSON pointers, in one crossing, as `field` gives each.
    pub fn fields_at<const N: usize>(&self, pointers: [&str; N]) -> [Option<String>; N] {
        array(self.fields(&pointers))
    }

    /// The text at a JSON pointer, or 400: the sender left it out.
    pub fn required_text(&self, pointer: &str) -> Result<String, Rejection> {
        self.text(pointer)
            .filter(|it| !it.is_empty())
            .ok_or_else(|| Rejection::malformed(format!("the body has no text at {pointer}")))
    }

    /// 400, with where and why, unless the body is JSON.
    pub fn require_json(&self) -> Result<(), Rejection> {
        match self.json_error() {
            None => Ok(()),
            Some(error) => Err(Rejection::malformed(format!("the body is not JSON: {error}"))),
        }
    }
}
