//! What a sender hears when its events are kept. Plugpost's own words are
//! `202 {"events":["evt_…"]}`; some platforms wait for others.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::event::EventId;
use crate::json;

/// How a source's senders are answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// None: the ids of the events.
    pub(crate) body: Option<(Bytes, HeaderValue)>,
    /// A JSON pointer: where a request has a string there, that string is the body.
    pub(crate) echo: Option<Box<str>>,
}

/// A challenge is a short random text.
const ECHO_BYTES_MAX: usize = 1024;

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Default for Reply {
    fn default() -> Self {
        Self { status: StatusCode::ACCEPTED, body: None, echo: None }
    }
}

impl Reply {
    /// The same, for this request.
    pub(crate) fn to(&self, request: &[u8]) -> Self {
        let echo = self.echo.as_deref().and_then(|pointer| json::text(request, pointer));
        let echo = echo.filter(|it| it.len() <= ECHO_BYTES_MAX).map(|it| (it.into(), TEXT));
        Self { status: self.status, body: echo.or_else(|| self.body.clone()), echo: None }
    }

    pub(crate) fn response(self, events: &[EventId]) -> Response<Full<Bytes>> {
        let (body, media_type) = self.body.unwrap_or_else(|| (ids(events).into(), JSON));
        let has_body = !body.is_empty();
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        if has_body {
            response.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        response
    }
}

/// `{"events":["evt_…"]}`
fn ids(events: &[EventId]) -> String {
    let mut body = String::with_capacity(16 + events.len() * 22);
    body.push_str(r#"{"events":["#);
    for (at, id) in events.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push('"');
        body.push_str(&id.to_string());
        body.push('"');
    }
    body.push_str("]}");
    body
}
