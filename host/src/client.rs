//! The outbound HTTP client: connections are kept, responses are bounded,
//! redirects are not followed, nothing is decompressed. It knows nothing of
//! deliveries. Everything that leaves Plugpost leaves through here, and every
//! address is vetted by [`guard`] on the way.

mod connect;
pub(crate) mod guard;
mod joined;
pub(crate) mod oauth;
pub(crate) mod tls;

use std::error::Error as _;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::attempt::{Fault, Response, parse_retry_after};
use crate::clock;
use connect::Connector;
use guard::Guard;
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
    pool: OnceLock<Pool<HttpsConnector<Connector>, Full<Bytes>>>,
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

/// A response's header section: what hyper takes before it refuses.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// An idle connection is closed before most servers would (60 s and more).
const IDLE_MAX: Duration = Duration::from_secs(50);

/// Idle connections for one host and port: more than a lane's usual concurrency.
const IDLE_PER_HOST_MAX: usize = 64;

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

    fn pool(&self) -> &Pool<HttpsConnector<Connector>, Full<Bytes>> {
        self.pool.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(self.tls.config())
                .https_or_http()
                .enable_all_versions()
                .wrap_connector(Connector::new(self.guard.clone(), self.proxy.clone()));
            Pool::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_MAX)
                .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
                .http1_max_buf_size(HEAD_BYTES_MAX)
                .http2_max_header_list_size(HEAD_BYTES_MAX as u32)
                .build(connector)
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
        match tokio::time::timeout(timeout, self.pool().request(request)).await {
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
        let response = self.pool().request(request).await.map_err(|error| fault_of(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        let broken = |error| Fault::retry("http.broken", format!("the answer broke off: {error}"));
        Ok(http::Response::from_parts(head, body.map_err(broken)?.to_bytes()))
    }

    /// The request is the pool's before anybody waits: a future that waits with it in hand
    /// is larger, and futures are copied.
    fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response, Fault>> + use<> {
        let answered = self.pool().request(request);
        async {
            let response = answered.await.map_err(|error| fault_of(&error))?;
            let status = response.status().as_u16();
            let retry_after = (response.headers().get(RETRY_AFTER))
                .and_then(|it| it.to_str().ok())
                .and_then(|it| parse_retry_after(it, clock::now()));
            let excerpt = excerpt(response.into_body()).await;
            Ok(Response { status, retry_after, excerpt })
        }
    }
}

/// The start of a body. The status has been received, so a body that breaks off
/// is no failure; what was read of it is kept.
async fn excerpt(mut body: hyper::body::Incoming) -> Bytes {
    let mut kept = BytesMut::new();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        let room = EXCERPT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if read > DRAIN_BYTES_MAX {
            break;
        }
    }
    kept.freeze()
}

fn fault_of(error: &hyper_util::client::legacy::Error) -> Fault {
    let mut chain = Vec::new();
    let mut cause = error.source();
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
    let otherwise = if error.is_connect() { "connect.failed" } else { "http.broken" };
    let code = refused.unwrap_or_else(|| otherwise.into());
    let message = if chain.is_empty() { error.to_string() } else { chain.join(": ") };
    Fault::retry(code, message)
}

/// An `io::Error` does not show the error it wraps as its source.
fn io_inner<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
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
