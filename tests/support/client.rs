//! HTTP as a sender writes it: one request, one answer, bytes as given. It
//! corrects nothing, so that a test can send what no client would.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::net::TcpStream;

use serde_json::Value;

use super::PATIENCE;

/// Names and values, as they go out.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// A connection that is kept between requests.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One request on a connection of its own.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: Headers<'_>,
    body: &[u8],
) -> Answer {
    let mut connection = Connection::open(address).expect("the engine listens");
    connection.ask(method, path, headers, body).expect("the engine answers")
}

/// A request as bytes, with a `content-length` unless its framing is given.
pub(crate) fn request(method: &str, path: &str, headers: Headers<'_>, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let framed = |it: &&(&str, &str)| matches!(it.0, "content-length" | "transfer-encoding");
    if headers.iter().find(framed).is_none() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: &[u8],
    ) -> io::Result<Answer> {
        self.write(&request(method, path, headers, body))?;
        self.answer()
    }

    /// Any bytes at all.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Nothing more will be sent.
    pub(crate) fn end_of_requests(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// The next answer, when its body is as long as it says.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.read)? {
                self.read.drain(..length);
                return Ok(answer);
            }
            let mut more = [0; 16 << 10];
            match self.stream.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.read.extend_from_slice(&more[..count]),
            }
        }
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.read)?;
        Ok(self.read)
    }
}

/// A whole answer at the start of the bytes, and how long it is.
fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(bytes).map_err(io::Error::other)?
    else {
        return Ok(None);
    };
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|it| (it.name.to_ascii_lowercase(), String::from_utf8_lossy(it.value).into_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = match length {
        Some((_, value)) => value.parse::<usize>().map_err(io::Error::other)?,
        None => 0,
    };
    let Some(body) = bytes.get(head_length..head_length + length) else { return Ok(None) };
    let status = head.code.ok_or_else(|| io::Error::other("no status"))?;
    Ok(Some((Answer { status, headers, body: body.to_vec() }, head_length + length)))
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the answer is UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The ids of a 202.
    pub(crate) fn event_ids(&self) -> Vec<String> {
        assert_eq!(self.status, 202, "{}", String::from_utf8_lossy(&self.body));
        let answer = self.json();
        let ids = answer["events"].as_array().expect("a list of ids");
        ids.iter().map(|it| it.as_str().expect("an id").to_owned()).collect()
    }

    /// An RFC 9457 answer with this status; returns its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        self.try_problem(status).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, or what is wrong with it.
    pub(crate) fn try_problem(&self, status: u16) -> Result<String, String> {
        let text = String::from_utf8_lossy(&self.body);
        let media_type = self.header("content-type").unwrap_or_default();
        if self.status != status || media_type != "application/problem+json" {
            return Err(format!("{} {media_type:?} {text:?}, not a problem {status}", self.status));
        }
        let problem = self.json();
        match (problem["title"].as_str(), problem["detail"].as_str()) {
            (Some(_), Some(detail)) if problem["status"] == status => Ok(detail.to_owned()),
            _ => Err(format!("{text} is not all there")),
        }
    }
}
