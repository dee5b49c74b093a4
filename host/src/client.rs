//! The outbound HTTP client: connections are kept, responses are bounded,
//! redirects are not followed, nothing is decompressed. It knows nothing of
//! deliveries. Everything that leaves Plugpost leaves through here, and every
//! address is vetted by [`guard`] on the way.

mod connect;
pub(crate) mod guard;
mod http1;
mod joined;
pub(crate) mod oauth;
mod pool;
pub(crate) mod tls;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;

use crate::attempt::{Fault, Response, parse_retry_after};
use crate::clock;
use connect::Connector;
pub(crate) use connect::port;
use guard::Guard;
use pool::{End, Failed, Pool};
use tls::Tls;

/// Sends requests in one way of dialling. Endpoints that are dialled alike share
/// one, and with it its connections; it goes with the last of them.
#[derive(Debug)]
pub(crate) struct Client {
    /// Vets every address, the proxy's too.
    guard: Guard,
    pub(crate) tls: Tls,
    pub(crate) proxy: Option<Proxy>,
    /// Made when it is needed.
    pool: OnceLock<Pool>,
}

/// A proxy that is asked to CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    /// `http`, with a host.
    pub(crate) uri: Uri,
    /// Marked as sensitive.
    pub(crate) authorization: Option<HeaderValue>,
}

/// How much of a response's body is kept for the log.
const EXCERPT_BYTES_MAX: usize = 4 << 10;

/// How much of a body is read so that its connection can be used again; what
/// answers more than that loses its connection.
const DRAIN_BYTES_MAX: usize = 64 << 10;

/// What the command line takes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

impl Client {
    /// Without certificates of its own or a proxy. It may never be used.
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard, tls: Tls::default(), proxy: None, pool: OnceLock::new() }
    }

    pub(crate) fn dialling(guard: Guard, tls: Tls, proxy: Option<Proxy>) -> Self {
        let client = Self { guard, tls, proxy, pool: OnceLock::new() };
        // The system's certificates are read now and not in an attempt.
        client.pool();
        client
    }

    fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(self.tls.config())
                .https_or_http()
                .enable_all_versions()
                .wrap_connector(Connector::new(self.guard.clone(), self.proxy.clone()));
            Pool::new(connector)
        })
    }

    /// Send a request and read the answer, all within `timeout`: name lookup,
    /// connection, TLS, headers and body.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response, Fault> {
        #[cfg(test)]
        if let Some(answer) = crate::simulation::answer(&request) {
            return answer.await;
        }
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::retry("timeout", format!("no answer within {timeout:?}"))),
        }
    }

    /// Send a request and return the whole answer, for the command line.
    pub(crate) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let whole = self.whole(request, ANSWER_BYTES_MAX);
        match tokio::time::timeout(timeout, whole).await {
            Ok(result) => result,
            Err(_) => Err(Fault::retry("timeout", format!("no answer within {timeout:?}"))),
        }
    }

    /// Send a request and return the answer's beginning, for the command line: its body
    /// goes on for as long as the engine does.
    pub(crate) async fn open(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<http::Response<hyper::body::Incoming>, Fault> {
        match tokio::time::timeout(timeout, self.pool().open(request)).await {
            Ok(result) => result.map_err(|error| fault_of(&error)),
            Err(_) => Err(Fault::retry("timeout", format!("no answer within {timeout:?}"))),
        }
    }

    /// Send a request and return the whole answer with its headers, or a fault when it
    /// is longer.
    pub(crate) async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<http::Response<Bytes>, Fault> {
        match tokio::time::timeout(timeout, self.answer(request, bytes_max)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::retry("timeout", format!("no answer within {timeout:?}"))),
        }
    }

    /// The whole answer, or a fault when it is longer; as long as it takes.
    async fn whole(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let answer = self.answer(request, bytes_max).await?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<http::Response<Bytes>, Fault> {
        let answer = self.pool().ask(request, bytes_max, bytes_max).await;
        let answer = answer.map_err(|error| fault_of(&error))?;
        let broken = |why: &dyn fmt::Display| {
            Fault::retry("http.broken", format!("the answer broke off: {why}"))
        };
        match answer.end {
            End::Whole => Ok(http::Response::from_parts(answer.head, answer.body)),
            End::Cut => Err(broken(&"length limit exceeded")),
            End::Broken(error) => Err(broken(&error)),
        }
    }

    /// The status has been received, so a body that breaks off is no failure; what was read
    /// of it is kept.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response, Fault> {
        let answer = self.pool().ask(request, EXCERPT_BYTES_MAX, DRAIN_BYTES_MAX).await;
        let answer = answer.map_err(|error| fault_of(&error))?;
        let retry_after = (answer.head.headers.get(RETRY_AFTER))
            .and_then(|it| it.to_str().ok())
            .and_then(|it| parse_retry_after(it, clock::now()));
        Ok(Response { status: answer.head.status.as_u16(), retry_after, excerpt: answer.body })
    }
}

fn fault_of(failed: &Failed) -> Fault {
    let (error, otherwise): (&(dyn Error + 'static), _) = match failed {
        Failed::Connect(error) => (&**error, "connect.failed"),
        Failed::Exchange(error) => (error, "http.broken"),
    };
    let mut chain = Vec::new();
    let mut cause = Some(error);
    let mut refused: Option<Box<str>> = None;
    while let Some(error) = cause {
        if let Some(it) = error.downcast_ref::<connect::Refused>() {
            refused = Some(it.code());
        } else if refused.is_none() && error.is::<rustls::Error>() {
            refused = Some("connect.tls".into());
        }
        // Layers repeat what the one below them says.
        let text = error.to_string();
        if chain.last() != Some(&text) {
            chain.push(text);
        }
        cause = io_inner(error).or_else(|| error.source());
    }
    let code = refused.unwrap_or_else(|| otherwise.into());
    Fault::retry(code, chain.join(": "))
}

/// An `io::Error` does not show the error it wraps as its source.
fn io_inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    error.downcast_ref::<io::Error>()?.get_ref().map(|it| it as _)
}

/// Headers that frame a request or name its peer: a plugin that could set them
/// could cut a signed body short or smuggle a second request behind it.
pub(crate) fn frames_the_request(name: &HeaderName) -> bool {
    const NAMES: &[&str] = &[
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.as_str();
    NAMES.contains(&name) || name.starts_with("proxy-") || name.starts_with("http2-")
}
