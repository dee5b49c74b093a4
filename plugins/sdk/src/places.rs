//! Where a request holds what an event needs, as settings say it: for sources
//! that know how a request is signed, but not what is in it.

use serde::Deserialize;

use crate::credentials::is_header_name;
use crate::{Inbound, Problem, Received, Rejection};

/// A JSON pointer into the body, `/order/id`, or the name of a header.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    /// A place that the plugin itself knows.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text or the number there; none when there is nothing.
    pub fn find(&self, request: &Inbound) -> Option<String> {
        match self.is_pointer() {
            true => request.id_at(&self.0),
            false => request.header(&self.0).filter(|it| !it.is_empty()),
        }
    }

    /// What is wrong with the setting, if anything.
    pub fn problem(&self, pointer: &str) -> Option<Problem> {
        let message = "is neither a JSON pointer, which begins with /, nor the name of a header";
        // `$.type` could be a header's name, but is another language's pointer.
        let is_name = is_header_name(&self.0) && !self.0.starts_with('$');
        (!self.is_pointer() && !is_name).then(|| Problem::at(pointer, message))
    }

    fn is_pointer(&self) -> bool {
        self.0.starts_with('/')
    }
}

/// How a request becomes one event whose data is the body as it came. The
/// settings of the same names are these fields.
#[derive(Debug, Default)]
pub struct Decoding {
    /// Where the event type stands, for requests whose path does not say one.
    pub event_type_at: Option<Place>,
    /// The event type of requests that do not say one.
    pub event_type: Option<String>,
    /// Where the id of the resource stands that the event is about.
    pub subject_at: Option<Place>,
    /// Where the id stands that a second firing of the event has as well.
    pub duplicate_key_at: Option<Place>,
}

/// JSON Schema of the settings that [`Decoding`] takes, to be `concat!`ed into
/// the properties of the plugin's own.
#[macro_export]
macro_rules! decoding_schema {
    () => {
        r#"
    "event_type_at": {
      "description": "inbound: a JSON pointer or a header's name, for requests whose path does not say the event type",
      "type": "string", "minLength": 1
    },
    "event_type": {
      "description": "inbound: the event type of requests that do not say one",
      "type": "string", "minLength": 1
    },
    "subject_at": {
      "description": "inbound: a JSON pointer or a header's name: the id of the resource",
      "type": "string", "minLength": 1
    },
    "duplicate_key_at": {
      "description": "inbound: a JSON pointer or a header's name: the id that two firings of one event share",
      "type": "string", "minLength": 1
    }"#
    };
}

impl Decoding {
    /// What is wrong with the places, if anything.
    pub fn problems(&self) -> Vec<Problem> {
        let places = [
            ("/event_type_at", &self.event_type_at),
            ("/subject_at", &self.subject_at),
            ("/duplicate_key_at", &self.duplicate_key_at),
        ];
        let problem = |(pointer, place): (_, &Option<Place>)| place.as_ref()?.problem(pointer);
        places.into_iter().filter_map(problem).collect()
    }

    /// The event of a verified request.
    pub fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        let find = |place: &Option<Place>| place.as_ref().and_then(|it| it.find(request));
        let event_type = request
            .event_type_in_path()
            .or_else(|| find(&self.event_type_at))
            .or_else(|| self.event_type.clone())
            .ok_or_else(|| {
                let message = match &self.event_type_at {
                    Some(Place(it)) => format!("no event type: neither in the path nor at {it}"),
                    None => "no event type: neither in the path nor in the settings".into(),
                };
                Rejection::malformed(message)
            })?;
        Ok(vec![Received {
            subject: find(&self.subject_at),
            duplicate_key: find(&self.duplicate_key_at),
            ..Received::unchanged(event_type)
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_pointer_or_a_headers_name() {
        for good in ["/", "/id", "/a/0/b~1c", "X-Event", "webhook-id"] {
            assert!(Place::new(good).problem("/event_type_at").is_none(), "{good}");
        }
        for bad in ["", "a b", "$.type", "type:", "é"] {
            assert!(Place::new(bad).problem("/event_type_at").is_some(), "{bad}");
        }
    }

    #[test]
    fn every_place_is_looked_at() {
        let decoding = Decoding {
            event_type_at: Some(Place::new("a b")),
            event_type: None,
            subject_at: Some(Place::new("/fine")),
            duplicate_key_at: Some(Place::new("c d")),
        };
        let problems = decoding.problems();
        let pointers: Vec<_> = problems.iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(pointers, ["/event_type_at", "/duplicate_key_at"]);
    }
}
