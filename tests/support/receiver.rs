//! A customer's server that does as it is told, well or badly, and remembers
//! every request as it came.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Listens on a port of its own, one thread a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    /// By lower-case name, in the order they came.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

/// What to do about a request.
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Whatever this does to the connection, which is closed afterwards.
    Misbehave(Misbehaviour),
}

/// An end of a conversation that is none.
pub(crate) type Misbehaviour = Box<dyn FnOnce(&mut TcpStream) -> io::Result<()> + Send>;

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Arc<Received>>>,
    arrived: Condvar,
    under_way: AtomicUsize,
    under_way_most: AtomicUsize,
    stopped: AtomicBool,
}

impl Receiver {
    /// Answer each request as `script` says, on the thread of its connection: a
    /// script that waits keeps its sender waiting.
    pub(crate) fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        Self::serve(move |stream, shared| drop(converse(stream, shared, &*script)))
    }

    /// Answer 200 to everything.
    pub(crate) fn ok() -> Self {
        Self::start(|_| Reply::status(200))
    }

    /// No HTTP: what becomes of each connection is this function's affair.
    pub(crate) fn raw(
        connection: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(move |mut stream, _| drop(connection(&mut stream)))
    }

    fn serve(connection: impl Fn(TcpStream, &Shared) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::<Shared>::default();
        let connection = Arc::new(connection);
        let of_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (connection, shared) = (connection.clone(), of_thread.clone());
                thread::spawn(move || connection(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// The URL of a path on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything so far.
    pub(crate) fn received(&self) -> Vec<Arc<Received>> {
        self.shared.received().clone()
    }

    /// The first requests, when there are so many.
    #[track_caller]
    pub(crate) fn first(&self, count: usize) -> Vec<Arc<Received>> {
        self.until(&format!("{count} requests"), |it| it.get(..count).map(<[_]>::to_vec))
    }

    /// Wait until what has arrived is what is looked for.
    #[track_caller]
    pub(crate) fn until<T>(
        &self,
        what: &str,
        mut find: impl FnMut(&[Arc<Received>]) -> Option<T>,
    ) -> T {
        let end = Instant::now() + PATIENCE;
        let mut received = self.shared.received();
        loop {
            if let Some(found) = find(&received) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}; {} requests came", received.len());
            (received, _) = (self.shared.arrived.wait_timeout(received, left))
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many requests were unanswered at the same time, at most.
    pub(crate) fn under_way_most(&self) -> usize {
        self.shared.under_way_most.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The listener wakes up and sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn received(&self) -> MutexGuard<'_, Vec<Arc<Received>>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests and answers on one connection, until one side has enough.
fn converse(
    mut stream: TcpStream,
    shared: &Shared,
    script: &dyn Fn(&Received) -> Reply,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read)? {
        let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        shared.under_way_most.fetch_max(under_way, Ordering::SeqCst);
        let request = Arc::new(request);
        shared.received().push(request.clone());
        shared.arrived.notify_all();
        let reply = script(&request);
        // Before the answer: what the sender starts after it is not beside this one.
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
        match reply {
            Reply::Answer { status, headers, body } => {
                stream.write_all(&answer(status, &headers, &body))?;
            }
            Reply::Misbehave(misbehave) => return misbehave(&mut stream),
        }
    }
    Ok(())
}

fn answer(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Said\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// None when the sender has closed between two requests.
fn next_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<Received>> {
    loop {
        if let Some((request, length)) = parse(read)? {
            read.drain(..length);
            return Ok(Some(request));
        }
        let mut more = [0; 16 << 10];
        match stream.read(&mut more)? {
            0 if read.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&more[..count]),
        }
    }
}

/// A whole request at the start of the bytes, and how long it is. The engine
/// announces the length of every body.
fn parse(bytes: &[u8]) -> io::Result<Option<(Received, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(bytes).map_err(io::Error::other)?
    else {
        return Ok(None);
    };
    let headers: Vec<_> =
        head.headers.iter().map(|it| (it.name.to_ascii_lowercase(), it.value.to_vec())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = match length {
        Some((_, value)) => {
            let text = std::str::from_utf8(value).map_err(io::Error::other)?;
            text.parse::<usize>().map_err(io::Error::other)?
        }
        None => 0,
    };
    let Some(body) = bytes.get(head_length..head_length + length) else { return Ok(None) };
    let request = Received {
        path: head.path.unwrap_or_default().to_owned(),
        headers,
        body: body.to_vec(),
        at: Instant::now(),
    };
    Ok(Some((request, head_length + length)))
}

impl Received {
    /// The first header of that name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(it, _)| it == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The event's id, under which receivers remove duplicates.
    pub(crate) fn webhook_id(&self) -> &str {
        self.header("webhook-id").expect("every request has a webhook-id")
    }
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with_header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer { status, mut headers, body } => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Answer { status, headers, body }
            }
            misbehave => misbehave,
        }
    }

    pub(crate) fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        match self {
            Self::Answer { status, headers, .. } => {
                Self::Answer { status, headers, body: body.into() }
            }
            misbehave => misbehave,
        }
    }

    pub(crate) fn misbehave(
        misbehave: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::Misbehave(Box::new(misbehave))
    }
}

/// Keeps scripts waiting until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Return when it is open.
    pub(crate) fn pass(&self) {
        let is_open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _open =
            (self.0.1.wait_while(is_open, |it| !*it)).unwrap_or_else(PoisonError::into_inner);
    }
}
