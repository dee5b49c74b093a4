//! What an HTTP caller did wrong, or what we could not do, as RFC 9457 has it.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::queue::QueueError;

/// An answer that says what is wrong.
#[derive(Clone, Debug)]
pub(crate) struct HttpProblem {
    pub(crate) status: StatusCode,
    detail: String,
    retry_after_s: Option<u32>,
    /// Further members of the answer.
    more: serde_json::Map<String, Value>,
}

impl HttpProblem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after_s: None, more: Default::default() }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Our fault, and it may pass.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        Self { retry_after_s: Some(RETRY_AFTER_S), ..problem }
    }

    /// With a further member.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.into(), value);
        self
    }

    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body = self.more;
        body.insert("type".into(), json!("about:blank"));
        body.insert("title".into(), json!(title));
        body.insert("status".into(), json!(self.status.as_u16()));
        body.insert("detail".into(), json!(self.detail));
        let mut response = Response::new(Full::from(Value::Object(body).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Long enough for a burst to pass, short enough that nobody gives up.
const RETRY_AFTER_S: u32 = 5;

impl From<QueueError> for HttpProblem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full(_)
            | QueueError::Behind
            | QueueError::Crossed
            | QueueError::Broken(_) => Self::unavailable(error.to_string()),
            QueueError::KeyReused => Self::new(StatusCode::CONFLICT, error.to_string()),
            QueueError::Pruned => Self::new(StatusCode::GONE, error.to_string()),
            QueueError::NotFound => Self::not_found(error.to_string()),
        }
    }
}
