//! Dial: look a name up once, vet every address, connect to one that was vetted.
//! With a proxy, that is the proxy's name, and the proxy is asked to go on.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tower_service::Service;

use super::Proxy;
use super::guard::Guard;
use super::joined::Joined;

/// What is spoken over: as it is, or in TLS.
pub(super) type Stream = MaybeHttpsStream<Joined>;

/// Opens guarded TCP connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    way: Arc<Way>,
}

#[derive(Debug)]
struct Way {
    guard: Guard,
    proxy: Option<Proxy>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the URL names no host")]
    NoHost,
    #[error("cannot look up {host}: {error}")]
    Lookup { host: String, error: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error(
        "{address} is not a public address: allow it with delivery.allow_networks if it is meant"
    )]
    Forbidden { address: IpAddr },
    #[error("{address} belongs to a cloud's metadata service: nothing allows it")]
    Metadata { address: IpAddr },
    #[error("cannot connect to {address}: {error}")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("to the proxy: {0}")]
    Proxy(Box<Self>),
    #[error("the proxy answered {0} to CONNECT")]
    ProxyStatus(StatusCode),
    #[error("the proxy's answer to CONNECT is none: {0}")]
    ProxyBroken(String),
}

impl Refused {
    /// The outcome's code.
    pub(super) fn code(&self) -> Box<str> {
        let code = match self {
            Self::NoHost => "connect.url",
            Self::Lookup { .. } | Self::NoAddress { .. } => "connect.dns",
            Self::Forbidden { .. } | Self::Metadata { .. } => "connect.forbidden",
            Self::Connect { error, .. } => match error.kind() {
                io::ErrorKind::ConnectionRefused => "connect.refused",
                io::ErrorKind::TimedOut => "connect.timeout",
                _ => "connect.failed",
            },
            Self::Proxy(refused) => return format!("proxy.{}", refused.code()).into(),
            Self::ProxyStatus(_) => "proxy.status",
            Self::ProxyBroken(_) => "proxy.broken",
        };
        code.into()
    }
}

/// A name's addresses that are tried; all of them are vetted.
const TRIES_MAX: usize = 8;

/// Before the next of them is tried as well (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// A proxy's answer to CONNECT: a status line and a few headers.
const CONNECT_BYTES_MAX: usize = 16 << 10;

impl Connector {
    pub(super) fn new(guard: Guard, proxy: Option<Proxy>) -> Self {
        Self { way: Arc::new(Way { guard, proxy }) }
    }
}

impl Way {
    async fn dial(&self, uri: &Uri) -> Result<TokioIo<TcpStream>, Refused> {
        let Some(proxy) = &self.proxy else {
            return Ok(TokioIo::new(self.connect(uri).await?));
        };
        // A name is looked up by the proxy, in its network. An address is an
        // address wherever it is dialled from.
        if let Ok(address) = host(uri)?.parse::<IpAddr>() {
            self.vet(address)?;
        }
        let stream = self.connect(&proxy.uri).await;
        let stream = stream.map_err(|refused| Refused::Proxy(refused.into()))?;
        tunnel(stream, proxy, uri).await
    }

    async fn connect(&self, uri: &Uri) -> Result<TcpStream, Refused> {
        let (host, port) = (host(uri)?, port(uri));
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => lookup_host((host, port))
                .await
                .map_err(|error| Refused::Lookup { host: host.to_owned(), error })?
                .collect(),
        };
        // One forbidden address among the answers condemns the name: a mixed
        // answer is how a guard that picks the good ones is got round.
        addresses.iter().try_for_each(|it| self.vet(it.ip()))?;
        first_open(addresses)
            .await
            .unwrap_or_else(|| Err(Refused::NoAddress { host: host.to_owned() }))
    }

    fn vet(&self, address: IpAddr) -> Result<(), Refused> {
        match self.guard.allows(address) {
            true => Ok(()),
            false if Guard::is_metadata(address) => Err(Refused::Metadata { address }),
            false => Err(Refused::Forbidden { address }),
        }
    }
}

/// The first connection that opens, or why the last one tried did not; none of
/// no addresses. One that is silent does not keep the others from being tried.
async fn first_open(addresses: Vec<SocketAddr>) -> Option<Result<TcpStream, Refused>> {
    let mut untried = addresses.into_iter().take(TRIES_MAX);
    let mut under_way = FuturesUnordered::new();
    let mut last = None;
    loop {
        match untried.next() {
            Some(address) => under_way.push(open(address)),
            None if under_way.is_empty() => return last.map(Err),
            None => {}
        }
        let ended = match untried.len() {
            0 => under_way.next().await,
            _ => timeout(HEAD_START, under_way.next()).await.ok().flatten(),
        };
        match ended {
            Some(Ok(stream)) => return Some(Ok(stream)),
            Some(Err(refused)) => last = Some(refused),
            None => {}
        }
    }
}

async fn open(address: SocketAddr) -> Result<TcpStream, Refused> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| Refused::Connect { address, error })?;
    // Small requests must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Ask a proxy for a connection to where a URL points.
async fn tunnel(
    stream: TcpStream,
    proxy: &Proxy,
    uri: &Uri,
) -> Result<TokioIo<TcpStream>, Refused> {
    let broken = |error: hyper::Error| Refused::ProxyBroken(error.to_string());
    let target = format!("{}:{}", uri.host().ok_or(Refused::NoHost)?, port(uri));
    let mut request = Request::connect(&target).header(HOST, &target);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| Refused::NoHost)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(CONNECT_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            status if status.is_success() => hyper::upgrade::on(response).await.map_err(broken),
            status => Err(Refused::ProxyStatus(status)),
        }
    };
    let mut connection = std::pin::pin!(connection.with_upgrades());
    let mut exchange = std::pin::pin!(exchange);
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut exchange => upgraded?,
        // It has no more to say: what it said is there to be read.
        _ = &mut connection => exchange.await?,
    };
    let nothing_of_ours = |_| Refused::ProxyBroken("no connection is left".into());
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(nothing_of_ours)?;
    match parts.read_buf.is_empty() {
        true => Ok(parts.io),
        // The receiver speaks when it is spoken to.
        false => Err(Refused::ProxyBroken("it says more than that".into())),
    }
}

fn host(uri: &Uri) -> Result<&str, Refused> {
    Ok(uri.host().ok_or(Refused::NoHost)?.trim_matches(['[', ']']))
}

/// The one that is dialled.
pub(crate) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or_else(|| port_of(uri.scheme_str()))
}

/// The port that a URL of this scheme need not name.
pub(super) fn port_of(scheme: Option<&str>) -> u16 {
    match scheme {
        Some("https") => 443,
        _ => 80,
    }
}

impl Service<Uri> for Connector {
    type Response = Joined;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let way = self.way.clone();
        Box::pin(async move { way.dial(&uri).await.map(Joined) })
    }
}
