//! An HTTP/1 connection that whoever waits for its answer drives: a request, and what comes
//! back, wake one task and not a second one that has the connection. hyper reads and writes.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::task::unconstrained;

use super::connect::Stream;
use super::pool::HEAD_BYTES_MAX;

#[derive(Debug)]
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    /// None when it has ended.
    connection: Option<http1::Connection<Stream, Full<Bytes>>>,
    /// Whom it leads to, as the header has it.
    host: Option<HeaderValue>,
}

impl Http1 {
    pub(super) async fn over(stream: Stream, host: Option<HeaderValue>) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        let (sender, connection) = builder.max_buf_size(HEAD_BYTES_MAX).handshake(stream).await?;
        Ok(Self { sender, connection: Some(connection), host })
    }

    /// Gives the request back when the connection ended before any of it was sent.
    ///
    /// It begins before it is waited for, so that the request is on its way and not in what
    /// waits.
    pub(super) fn send(
        &mut self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> {
        let path = uri.path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        if let Some(host) = &self.host {
            request.headers_mut().entry(HOST).or_insert_with(|| host.clone());
        }
        let answer = self.sender.try_send_request(request);
        let connection = &mut self.connection;
        async move {
            let mut answer = pin!(unconstrained(answer));
            poll_fn(|cx| {
                drive(connection, cx);
                answer.as_mut().poll(&mut nobody())
            })
            .await
        }
    }

    /// The next of an answer's body.
    pub(super) async fn frame(
        &mut self,
        body: &mut Incoming,
    ) -> Option<hyper::Result<Frame<Bytes>>> {
        let mut frame = pin!(unconstrained(body.frame()));
        poll_fn(|cx| {
            // What is read already; if nothing is, the connection hears that more is wanted.
            let read = frame.as_mut().poll(&mut nobody());
            if read.is_ready() {
                return read;
            }
            drive(&mut self.connection, cx);
            frame.as_mut().poll(&mut nobody())
        })
        .await
    }

    /// Whether it can take a request now. Whoever drove it before is not woken any more.
    pub(super) fn is_idle(&mut self) -> bool {
        drive(&mut self.connection, &mut nobody());
        self.connection.is_some() && self.sender.is_ready()
    }

    /// For an answer that never ends: it is driven by a task of its own from now on.
    pub(super) fn let_go(self) {
        if let Some(connection) = self.connection {
            tokio::spawn(connection);
        }
    }
}

/// One that has ended is dropped: whoever waits for it hears of that.
fn drive(connection: &mut Option<http1::Connection<Stream, Full<Bytes>>>, cx: &mut Context<'_>) {
    if let Some(it) = connection
        && let Poll::Ready(_) = Pin::new(it).poll(cx)
    {
        *connection = None;
    }
}

/// For what only the connection brings on, which has been driven. It has to be unconstrained:
/// what is put off for others' sake would be waited for by nobody.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
