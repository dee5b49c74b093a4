//! One connection that asks and waits, of plain sockets: for questions and for events by
//! the batch. What loads is in `load.rs`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::engine::TOKEN;
use crate::receiver::request_length;

pub(crate) struct Connection(TcpStream);

/// The type of a batch of events, which the admin listener takes for JSON too.
const BATCH: &str = "application/cloudevents-batch+json";

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the engine listens");
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }

    /// One request; returns the answer's body.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str, status: &str) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: {BATCH}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all((head + body).as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        let mut more = [0; 16 << 10];
        let length = loop {
            if let Some(length) = request_length(&answer).filter(|it| answer.len() >= it.1) {
                break length;
            }
            let count = self.0.read(&mut more).expect("it answers");
            assert!(count > 0, "it hung up after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&more[..count]);
        };
        let text = String::from_utf8_lossy(&answer);
        assert!(text[9..].starts_with(status), "{method} {path}: {text}");
        text[length.0..].to_owned()
    }

    pub(crate) fn get(&mut self, path: &str) -> Value {
        let answer = self.ask("GET", path, "", "200");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Events in one request.
    pub(crate) fn send(&mut self, events: &str) {
        self.ask("POST", "/events", events, "202");
    }
}
