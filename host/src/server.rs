//! Listening: connections, their limits, and an end that lets requests finish.
//! It knows nothing of what is asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Connections one listener holds; the next waits to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// A client that does not finish its headers by then is gone.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's line and headers.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// When no file is left to accept with: others will close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that is bound and not yet served.
pub(crate) struct Listener {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Answer requests until `stop` changes, then until those under way are answered.
    pub(crate) async fn serve<S, F, B>(self, answer: S, mut stop: watch::Receiver<bool>)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let answer = answer.clone();
            let service = service_fn(move |request| answer(request).map(Ok::<_, Infallible>));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_TIMEOUT)
                // Nearly all answers are small: head and body go out as one piece.
                .writev(false)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // What a client breaks off is the client's affair.
                let _ = connection.await;
                drop(permit);
            });
        }
        drop(self.listener);
        graceful.shutdown().await;
    }
}
