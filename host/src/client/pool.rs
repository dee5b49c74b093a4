//! Connections that are kept, by scheme, host and port. One that speaks HTTP/1 is used by
//! one request at a time and rests in between; one that speaks HTTP/2 is shared.

use std::collections::HashMap;
use std::error::Error;
use std::mem;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{TrySendError, http2};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tower_service::Service as _;

use super::connect::{Connector, Refused, port_of};
use super::http1::Http1;

/// How long one is kept that nobody uses: it is closed before most servers would (60 s and
/// more). Those the other side closes are found within a look.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKS_MAX: u8 = 10;

/// Idle connections for one host and port: more than a lane's usual concurrency.
const IDLE_PER_PLACE_MAX: usize = 64;

/// A response's header section: what hyper takes before it refuses.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pool {
    connector: HttpsConnector<Connector>,
    kept: Arc<Mutex<Kept>>,
}

/// Where connections go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    scheme: Scheme,
    authority: Authority,
}

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<Place, AtPlace>,
    /// Somebody looks after what is idle.
    watched: bool,
}

#[derive(Debug, Default)]
struct AtPlace {
    /// The last that was used is used next.
    idle: Vec<Unused<Box<Http1>>>,
    shared: Option<Unused<Http2>>,
}

type Http2 = http2::SendRequest<Full<Bytes>>;

/// How often a connection was looked at and had not been used since.
#[derive(Debug)]
struct Unused<T> {
    connection: T,
    looks: u8,
}

#[derive(Debug)]
enum Connection {
    // Boxed: it is carried from hand to hand.
    Http1(Box<Http1>),
    Http2(Http2),
}

/// What came back.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    /// As much of the body as was to be kept.
    pub(super) body: Bytes,
    pub(super) end: End,
}

/// How an answer's body ended.
pub(super) enum End {
    Whole,
    /// More came than was to be read.
    Cut,
    Broken(hyper::Error),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// There was no connection.
    Connect(Box<dyn Error + Send + Sync>),
    /// It broke off.
    Exchange(hyper::Error),
}

impl Pool {
    pub(super) fn new(connector: HttpsConnector<Connector>) -> Self {
        Self { connector, kept: Arc::default() }
    }

    /// Send a request and read the answer: of its body at most `read_max` bytes, of which
    /// `keep_max` are kept. What answers more than that loses its connection.
    pub(super) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        keep_max: usize,
        read_max: usize,
    ) -> Result<Answer, Failed> {
        let place = Place::of(request.uri())?;
        let (mut connection, response) = self.send(&place, request).await?;
        let (head, mut body) = response.into_parts();
        let (mut kept, mut read) = (BytesMut::new(), 0);
        let end = loop {
            let data = match connection.frame(&mut body).await {
                None => break End::Whole,
                Some(Err(error)) => break End::Broken(error),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            read += data.len();
            let room = keep_max - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
            if read > read_max {
                break End::Cut;
            }
        };
        if let (End::Whole, Connection::Http1(connection)) = (&end, connection) {
            self.keep(place, connection);
        }
        Ok(Answer { head, body: kept.freeze(), end })
    }

    /// Send a request and return the answer's beginning; its body comes in for as long as
    /// somebody reads it.
    pub(super) async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failed> {
        let place = Place::of(request.uri())?;
        let (connection, response) = self.send(&place, request).await?;
        if let Connection::Http1(connection) = connection {
            connection.let_go();
        }
        Ok(response)
    }

    async fn send(
        &self,
        place: &Place,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), Failed> {
        let uri = mem::take(request.uri_mut());
        loop {
            let (mut connection, used) = match self.idle(place) {
                Some(connection) => (connection, true),
                // Boxed, because every attempt would take the room that these few need.
                None => (Box::pin(self.dial(place, &uri)).await?, false),
            };
            match connection.send(&uri, request).await {
                Ok(response) => return Ok((connection, response)),
                Err(mut error) => match error.take_message() {
                    // It was closed when nobody looked.
                    Some(unsent) if used => request = unsent,
                    _ => return Err(Failed::Exchange(error.into_error())),
                },
            }
        }
    }

    /// A connection that is there.
    fn idle(&self, place: &Place) -> Option<Connection> {
        loop {
            let mut kept = self.kept.lock();
            let at_place = kept.places.get_mut(place)?;
            if let Some(shared) = &mut at_place.shared
                && shared.connection.is_ready()
            {
                shared.looks = 0;
                return Some(Connection::Http2(shared.connection.clone()));
            }
            let mut connection = at_place.idle.pop()?.connection;
            drop(kept);
            if connection.is_idle() {
                return Some(Connection::Http1(connection));
            }
        }
    }

    async fn dial(&self, place: &Place, uri: &Uri) -> Result<Connection, Failed> {
        let stream = self.connector.clone().call(uri.clone()).await.map_err(Failed::Connect)?;
        if !stream.connected().is_negotiated_h2() {
            let connection = Http1::over(stream, place.host()).await;
            return Ok(Connection::Http1(connection.map_err(Failed::Exchange)?.into()));
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(HEAD_BYTES_MAX as u32);
        let (sender, connection) = builder.handshake(stream).await.map_err(Failed::Exchange)?;
        tokio::spawn(connection);
        Ok(Connection::Http2(self.share(place, sender)))
    }

    /// The one for all: another may have been dialled at the same time.
    fn share(&self, place: &Place, connection: Http2) -> Http2 {
        let mut kept = self.kept.lock();
        let shared = &mut kept.places.entry(place.clone()).or_default().shared;
        match shared {
            Some(it) if it.connection.is_ready() => return it.connection.clone(),
            _ => *shared = Some(Unused { connection: connection.clone(), looks: 0 }),
        }
        self.watch(&mut kept);
        connection
    }

    /// For the next request, if it can take one.
    fn keep(&self, place: Place, mut connection: Box<Http1>) {
        if !connection.is_idle() {
            return;
        }
        let mut kept = self.kept.lock();
        let idle = &mut kept.places.entry(place).or_default().idle;
        if idle.len() < IDLE_PER_PLACE_MAX {
            idle.push(Unused { connection, looks: 0 });
            self.watch(&mut kept);
        }
    }

    /// Look after what is kept until there is nothing, or nobody who would use it.
    fn watch(&self, kept: &mut Kept) {
        if !mem::replace(&mut kept.watched, true) {
            tokio::spawn(watch(Arc::downgrade(&self.kept)));
        }
    }
}

async fn watch(kept: Weak<Mutex<Kept>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock();
        let old = kept.look();
        kept.places.retain(|_, it| !it.idle.is_empty() || it.shared.is_some());
        kept.watched = !kept.places.is_empty();
        let goes_on = kept.watched;
        drop(kept);
        // To close many takes long; nobody waits for the lock meanwhile.
        drop(old);
        if !goes_on {
            return;
        }
    }
}

impl Kept {
    /// Take out what the other side has closed, and what has not been used for long.
    fn look(&mut self) -> Vec<Unused<Box<Http1>>> {
        let mut old = Vec::new();
        for at_place in self.places.values_mut() {
            let is_old = |it: &mut Unused<Box<Http1>>| {
                it.looks += 1;
                it.looks > LOOKS_MAX || !it.connection.is_idle()
            };
            old.extend(at_place.idle.extract_if(.., is_old));
            at_place.shared.take_if(|it| {
                it.looks += 1;
                it.looks > LOOKS_MAX || !it.connection.is_ready()
            });
        }
        old
    }
}

impl Place {
    fn of(uri: &Uri) -> Result<Self, Failed> {
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => {
                Ok(Self { scheme: scheme.clone(), authority: authority.clone() })
            }
            _ => Err(Failed::Connect(Refused::NoHost.into())),
        }
    }

    /// As the header has it: without what stands before the host, and without the scheme's
    /// own port.
    fn host(&self) -> Option<HeaderValue> {
        let host = self.authority.host();
        match self.authority.port_u16() {
            Some(port) if port != port_of(Some(self.scheme.as_str())) => {
                HeaderValue::try_from(format!("{host}:{port}")).ok()
            }
            _ => HeaderValue::from_str(host).ok(),
        }
    }
}

impl Connection {
    async fn send(
        &mut self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Self::Http1(connection) => connection.send(uri, request).await,
            Self::Http2(connection) => {
                *request.uri_mut() = uri.clone();
                connection.try_send_request(request).await
            }
        }
    }

    async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        match self {
            Self::Http1(connection) => connection.frame(body).await,
            Self::Http2(_) => body.frame().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::sleep;

    use super::*;
    use crate::client::Client;
    use crate::client::guard::Guard;

    const OK: &[&str] = &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"];

    /// Says the same to everybody, piece by piece.
    struct Server {
        uri: Uri,
        connections: Arc<AtomicUsize>,
    }

    impl Server {
        /// Hangs up after so many answers.
        async fn start(answer: &'static [&'static str], answers: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let connections = Arc::new(AtomicUsize::new(0));
            let count = connections.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(converse(stream, answer, answers));
                }
            });
            let uri = format!("http://{address}/a?b=c").parse().expect("a URI");
            Self { uri, connections }
        }

        async fn ask(&self, client: &Client) -> Answer {
            let mut request = Request::new(Full::from("a body"));
            *request.uri_mut() = self.uri.clone();
            client.pool().ask(request, 4, 64 << 10).await.expect("an answer")
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::SeqCst)
        }
    }

    async fn converse(mut stream: TcpStream, answer: &[&str], answers: usize) {
        let host = format!("host: {}\r\n", stream.local_addr().expect("an address"));
        for _ in 0..answers {
            let mut request = Vec::new();
            while !request.ends_with(b"a body") {
                if stream.read_buf(&mut request).await.expect("bytes") == 0 {
                    return;
                }
            }
            let text = String::from_utf8(request).expect("text");
            assert!(text.starts_with("GET /a?b=c HTTP/1.1\r\n") && text.contains(&host), "{text}");
            for piece in answer {
                stream.write_all(piece.as_bytes()).await.expect("sent");
                sleep(Duration::from_millis(2)).await;
            }
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().expect("a runtime").block_on(test);
    }

    fn idle(client: &Client) -> usize {
        client.pool().kept.lock().places.values().map(|it| it.idle.len()).sum()
    }

    #[test]
    fn a_connection_serves_one_request_after_the_other() {
        run(async {
            let (server, client) = (Server::start(OK, 100).await, Client::new(Guard::trusting()));
            for _ in 0..10 {
                assert_eq!(&*server.ask(&client).await.body, b"ok");
            }
            assert_eq!((server.connections(), idle(&client)), (1, 1));
            join_all((0..5).map(|_| server.ask(&client))).await;
            assert_eq!((server.connections(), idle(&client)), (5, 5));
        });
    }

    #[test]
    fn what_the_other_side_has_closed_is_not_used() {
        run(async {
            let (server, client) = (Server::start(OK, 1).await, Client::new(Guard::trusting()));
            for _ in 0..3 {
                assert_eq!(&*server.ask(&client).await.body, b"ok");
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!((server.connections(), idle(&client)), (3, 1));
            assert_eq!(client.pool().kept.lock().look().len(), 1);
        });
    }

    #[test]
    fn what_nobody_uses_is_closed() {
        run(async {
            let (server, client) = (Server::start(OK, 100).await, Client::new(Guard::trusting()));
            let look = || client.pool().kept.lock().look().len();
            server.ask(&client).await;
            assert_eq!((0..LOOKS_MAX).map(|_| look()).sum::<usize>(), 0);
            server.ask(&client).await;
            assert_eq!((0..LOOKS_MAX).map(|_| look()).sum::<usize>(), 0);
            assert_eq!((look(), idle(&client), server.connections()), (1, 0, 1));
        });
    }

    #[test]
    fn an_answer_in_pieces_is_read_to_its_end() {
        const PIECES: &[&str] = &[
            "HTTP/1.1 200",
            " OK\r\ntransfer-encoding: chunked\r\n",
            "\r\n3\r",
            "\nabc\r\n2\r\nde",
            "\r\n0\r\n",
            "\r\n",
        ];
        run(async {
            let (server, client) =
                (Server::start(PIECES, 100).await, Client::new(Guard::trusting()));
            for _ in 0..2 {
                let answer = server.ask(&client).await;
                assert_eq!(&*answer.body, b"abcd", "of which four bytes are kept");
                assert!(matches!(answer.end, End::Whole));
            }
            assert_eq!(server.connections(), 1);
        });
    }

    #[test]
    fn an_answer_that_is_none_costs_its_connection() {
        const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n";
        type Ended = fn(&End) -> bool;
        const WRONG: &[(&[&str], Ended)] = &[
            // More than it announced, as if it answered what nobody asked.
            (&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"], |it| {
                matches!(it, End::Whole)
            }),
            // Less than it announced.
            (&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"], |it| {
                matches!(it, End::Broken(_))
            }),
            (&["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"], |it| matches!(it, End::Whole)),
        ];
        run(async {
            for (answer, ended) in WRONG {
                let (server, client) =
                    (Server::start(answer, 1).await, Client::new(Guard::trusting()));
                let answer = server.ask(&client).await;
                assert!(ended(&answer.end), "{:?}", answer.body);
                assert_eq!(&*answer.body, b"ok");
                sleep(Duration::from_millis(20)).await;
                server.ask(&client).await;
                assert_eq!(server.connections(), 2);
            }
            let too_long = Box::leak(format!("{LONG}{}", "x".repeat(100 << 10)).into_boxed_str());
            let pieces = Box::leak(Box::new([&*too_long]));
            let (server, client) = (Server::start(pieces, 1).await, Client::new(Guard::trusting()));
            let answer = server.ask(&client).await;
            assert!(matches!(answer.end, End::Cut));
            assert_eq!((&*answer.body, idle(&client)), (&b"xxxx"[..], 0));
        });
    }
}
