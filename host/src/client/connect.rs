//! Dial: look a name up once, vet every address, connect to one that was vetted.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

use super::guard::Guard;

/// Opens guarded TCP connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    guard: Arc<Guard>,
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
    #[error("cannot connect to {address}: {error}")]
    Connect { address: SocketAddr, error: io::Error },
}

impl Refused {
    /// The outcome's code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoHost => "connect.url",
            Self::Lookup { .. } | Self::NoAddress { .. } => "connect.dns",
            Self::Forbidden { .. } => "connect.forbidden",
            Self::Connect { error, .. } => match error.kind() {
                io::ErrorKind::ConnectionRefused => "connect.refused",
                io::ErrorKind::TimedOut => "connect.timeout",
                _ => "connect.failed",
            },
        }
    }
}

impl Connector {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard: Arc::new(guard) }
    }

    async fn dial(guard: Arc<Guard>, uri: Uri) -> Result<TokioIo<TcpStream>, Refused> {
        let host = uri.host().ok_or(Refused::NoHost)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => lookup_host((host, port))
                .await
                .map_err(|error| Refused::Lookup { host: host.to_owned(), error })?
                .collect(),
        };
        // One forbidden address among the answers condemns the name: a mixed
        // answer is how a guard that picks the good ones is got round.
        if let Some(address) = addresses.iter().map(SocketAddr::ip).find(|it| !guard.allows(*it)) {
            return Err(Refused::Forbidden { address });
        }
        let mut last = Refused::NoAddress { host: host.to_owned() };
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small requests must not wait for an acknowledgement of the one before.
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => last = Refused::Connect { address, error },
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(Self::dial(self.guard.clone(), uri))
    }
}
