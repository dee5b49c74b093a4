//! What subscriptions cost that do not take an event: processor time per event with
//! more and more of them, and how long it takes to change one among them.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Hub, TOKEN};

/// How many there are, in each step.
const STEPS: [usize; 4] = [0, 10, 1_000, 10_000];

/// Events in one request, and requests.
const BATCH: usize = 500;
const BATCHES: usize = 200;

/// Subscriptions are made by so many at once: they share commits.
const MAKERS: usize = 16;

pub(crate) struct Figures {
    pub(crate) subscriptions: usize,
    /// Processor time for one event that nobody takes, in a batch that came before: it is read,
    /// routed, and found to be a duplicate.
    pub(crate) cpu_per_event: Duration,
    /// From the request to the answer: on disk and in force.
    pub(crate) change: Duration,
    /// Of the folder, with one file changed; the 150 ms that files are left alone included.
    pub(crate) reload: Duration,
    pub(crate) memory_mib: f64,
}

pub(crate) fn measure() -> Vec<Figures> {
    let hub = Hub::new(&[]);
    let (process, public, admin) = hub.start_with_admin();
    let mut there = 0;
    let figures = STEPS.map(|wanted| {
        thread::scope(|scope| {
            for maker in 0..MAKERS {
                scope.spawn(move || {
                    let mut connection = TcpStream::connect(admin).expect("the engine listens");
                    for at in (there..wanted).skip(maker).step_by(MAKERS) {
                        // Half by name, half by the start of a name, some from one source.
                        let (wildcard, from) = (if at % 2 == 0 { "*" } else { "" }, at % 5 == 0);
                        let from = if from { "\"from\":[\"all\"]," } else { "" };
                        let body = format!(
                            "{{{from}\"types\":[\"shop-{at}.order.{wildcard}\"],\"url\":\"http://127.0.0.1:9/{at}\"}}"
                        );
                        ask(&mut connection, "POST", "/v1/subscriptions", &body, "201");
                    }
                });
            }
        });
        there = wanted;
        let batch = batch();
        let mut connection = TcpStream::connect(public).expect("the engine listens");
        let send = |connection: &mut TcpStream| ask(connection, "POST", "/events", &batch, "202");
        (0..BATCHES / 4).for_each(|_| drop(send(&mut connection)));
        let before = process.cpu();
        (0..BATCHES).for_each(|_| drop(send(&mut connection)));
        let cpu = process.cpu() - before;
        Figures {
            subscriptions: wanted,
            cpu_per_event: cpu / u32::try_from(BATCH * BATCHES).expect("few"),
            change: change(admin),
            reload: {
                let source = hub.path().join("sources/new.toml");
                let text = format!("tokens = [\"bench\"] # {wanted}\n");
                std::fs::write(source, text).expect("a file");
                let mut connection = TcpStream::connect(admin).expect("the engine listens");
                let begun = Instant::now();
                ask(&mut connection, "POST", "/v1/reload", "", "200");
                begun.elapsed()
            },
            memory_mib: process.memory_mib(),
        }
    });
    figures.into()
}

/// The median of changing one subscription.
fn change(admin: SocketAddr) -> Duration {
    let mut connection = TcpStream::connect(admin).expect("the engine listens");
    let body = "{\"types\":[\"changed\"],\"url\":\"http://127.0.0.1:9/\"}";
    let made = ask(&mut connection, "POST", "/v1/subscriptions", body, "201");
    let id = made.split("\"id\":\"").nth(1).and_then(|it| it.split('"').next()).expect("an id");
    let path = format!("/v1/subscriptions/{id}");
    let mut took: Vec<_> = (0..50)
        .map(|at| {
            let begun = Instant::now();
            let body = format!("{{\"types\":[\"changed-{at}\"]}}");
            ask(&mut connection, "PATCH", &path, &body, "200");
            begun.elapsed()
        })
        .collect();
    ask(&mut connection, "DELETE", &path, "", "204");
    took.sort_unstable();
    took[took.len() / 2]
}

fn batch() -> String {
    let mut batch = String::from("[");
    for at in 0..BATCH {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            batch,
            "{comma}{{\"specversion\":\"1.0\",\"id\":\"{at}\",\"source\":\"x\",\
             \"type\":\"shop.order.created\",\"data\":{{\"n\":{at}}}}}"
        );
    }
    batch + "]"
}

/// One request on a connection that is kept; returns the answer's body.
fn ask(connection: &mut TcpStream, method: &str, path: &str, body: &str, status: &str) -> String {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    let mut more = [0; 16 << 10];
    loop {
        let count = connection.read(&mut more).expect("it answers");
        assert!(count > 0, "it hung up after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&more[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
        let length = length.map_or(0, |it| it.parse().expect("a number"));
        if body.len() >= length {
            assert!(head[9..].starts_with(status), "{method} {path}: {text}");
            return body.to_owned();
        }
    }
}
