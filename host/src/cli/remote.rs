//! A running engine, as the commands talk to it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use crate::client::Client;
use crate::client::guard::Guard;

/// How to reach and greet an engine's admin listener.
#[derive(Args)]
pub(super) struct Admin {
    /// The admin listener
    #[arg(
        long,
        default_value = "http://127.0.0.1:8081",
        env = "PLUGPOST_ADMIN",
        value_name = "URL"
    )]
    admin: String,
    /// A token with the scope read, or operate for changes
    #[arg(long, env = "PLUGPOST_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Admin {
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// An answer whose body does not end.
    pub(super) async fn open(&self, path: &str) -> anyhow::Result<Incoming> {
        let (url, request) = self.request(Method::GET, path, Bytes::new())?;
        let answer = anywhere().open(request, TIMEOUT).await;
        let answer = answer
            .map_err(|fault| anyhow::anyhow!("{}", fault.message))
            .with_context(|| format!("asking {url}"))?;
        let status = answer.status();
        if !status.is_success() {
            let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
            refused(status, &body.map(|it| it.to_bytes()).unwrap_or_default())?;
            bail!("{status}");
        }
        Ok(answer.into_body())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(String, Request<Full<Bytes>>)> {
        let url = format!("{}{path}", self.admin.trim_end_matches('/'));
        let mut request = Request::builder().method(method).uri(&url).body(Full::new(body))?;
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok((url, request))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        let (url, request) = self.request(method, path, body)?;
        let (status, body) = request_any(request).await.with_context(|| format!("asking {url}"))?;
        refused(status, &body)
    }
}

/// The answer, or why there is none.
fn refused(status: StatusCode, body: &[u8]) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if !status.is_success() {
        bail!("{status}: {}", answer["detail"].as_str().unwrap_or("no reason given"));
    }
    Ok(answer)
}

/// Pairs of names and values that are there, as a query.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// Send a request wherever the user says: the guard is for what plugins and
/// routes say.
pub(super) async fn request_any(
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let answer = anywhere().ask(request, TIMEOUT).await;
    answer.map_err(|fault| anyhow::anyhow!("{}", fault.message))
}

/// A client that dials where the user says.
pub(super) fn anywhere() -> Client {
    Client::new(Guard::trusting())
}

/// A refusal is a few lines.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

const TIMEOUT: Duration = Duration::from_secs(30);
