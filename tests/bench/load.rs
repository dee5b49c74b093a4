//! Sends events over kept connections, as fast as they are delivered or at a
//! fixed rate. Raw sockets, one thread: the load must cost less than what it loads.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::receiver::{Receiver, TIME_KEY, now_us, request_length};
use crate::results::Row;

/// What is sent, where to, and how fast.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) body_bytes: usize,
    pub(crate) endpoints: usize,
    /// Each event goes to every endpoint, not to one.
    fan_out: bool,
    pace: Pace,
}

#[derive(Clone, Copy)]
enum Pace {
    /// The next event when an earlier one was delivered.
    AsFastAsItGoes,
    PerSecond(u64),
}

impl Scenario {
    pub(crate) const fn of(body_bytes: usize, endpoints: usize) -> Self {
        Self { body_bytes, endpoints, fan_out: false, pace: Pace::AsFastAsItGoes }
    }

    pub(crate) const fn fan_out(body_bytes: usize, endpoints: usize) -> Self {
        Self { fan_out: true, ..Self::of(body_bytes, endpoints) }
    }

    /// The same, so many events a second.
    pub(crate) const fn at(self, rate: u64) -> Self {
        Self { pace: Pace::PerSecond(rate), ..self }
    }

    pub(crate) const fn flat_out(self) -> Self {
        Self { pace: Pace::AsFastAsItGoes, ..self }
    }

    /// How many deliveries an event makes.
    const fn copies(&self) -> usize {
        if self.fan_out { self.endpoints } else { 1 }
    }

    pub(crate) fn columns(&self) -> Row {
        vec![
            ("body_bytes", json!(self.body_bytes)),
            ("endpoints", json!(self.endpoints)),
            ("fan_out", json!(self.fan_out)),
        ]
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.body_bytes {
            kib if kib % 1024 == 0 => write!(f, "{} KiB, ", kib / 1024)?,
            bytes => write!(f, "{bytes} B, ")?,
        }
        match (self.fan_out, self.endpoints) {
            (true, endpoints) => write!(f, "1 event to {endpoints}")?,
            (false, 1) => write!(f, "1 endpoint")?,
            (false, endpoints) => write!(f, "{endpoints} endpoints")?,
        }
        match self.pace {
            Pace::PerSecond(rate) => write!(f, ", {rate}/s"),
            Pace::AsFastAsItGoes => Ok(()),
        }
    }
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Connections that send at the same time.
const CONNECTIONS: usize = 64;

/// Events under way, accepted but not delivered: more would measure the backlog.
const UNDER_WAY_MAX: u64 = 256;

/// What does not arrive in this time is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(10);

impl Load {
    pub(crate) fn start(
        scenario: &Scenario,
        addresses: &[SocketAddr],
        token: &str,
        receiver: Arc<Receiver>,
    ) -> Self {
        let copies = scenario.copies() as u64;
        let window = match scenario.fan_out {
            true => UNDER_WAY_MAX / 16,
            false => UNDER_WAY_MAX,
        };
        let shared = Arc::new(Shared {
            scenario: *scenario,
            addresses: addresses.to_vec(),
            token: token.to_owned(),
            stopped: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received_before: receiver.count(),
            receiver,
            copies,
            window,
        });
        let handle = shared.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let tasks: Vec<_> =
                    (0..CONNECTIONS).map(|at| tokio::spawn(send(handle.clone(), at))).collect();
                for task in tasks {
                    task.await.expect("a connection");
                }
            });
        });
        Self { shared, thread }
    }

    /// Send nothing more.
    pub(crate) fn stop(self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load");
    }

    /// Send nothing more, and wait for what is under way: it is not to be counted as another's.
    pub(crate) fn drain(self) {
        let shared = self.shared.clone();
        self.stop();
        let begun = std::time::Instant::now();
        while shared.under_way() > 0 && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Shared {
    scenario: Scenario,
    /// Each connection is to one of them, in turn.
    addresses: Vec<SocketAddr>,
    token: String,
    stopped: AtomicBool,
    sent: AtomicU64,
    received_before: u64,
    receiver: Arc<Receiver>,
    copies: u64,
    window: u64,
}

async fn send(shared: Arc<Shared>, at: usize) {
    let address = shared.addresses[at % shared.addresses.len()];
    let mut stream = TcpStream::connect(address).await.expect("the engine listens");
    stream.set_nodelay(true).expect("a socket");
    let mut answer = Vec::with_capacity(1024);
    let mut next = Instant::now();
    for turn in 0.. {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        match shared.scenario.pace {
            Pace::PerSecond(rate) => {
                let pause = Duration::from_secs_f64(CONNECTIONS as f64 / rate as f64);
                if turn == 0 {
                    // Spread the connections evenly over the first pause.
                    next += pause.mul_f64(at as f64 / CONNECTIONS as f64);
                }
                sleep_until(next).await;
                next += pause;
            }
            Pace::AsFastAsItGoes => {
                while shared.under_way() >= shared.window && !shared.stopped.load(Ordering::Relaxed)
                {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let request = shared.request((at + turn * CONNECTIONS) % shared.scenario.endpoints);
        if stream.write_all(&request).await.is_err() {
            return;
        }
        answer.clear();
        loop {
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if request_length(&answer).is_some_and(|(_, length)| answer.len() >= length) {
                break;
            }
        }
        let ok = answer.starts_with(b"HTTP/1.1 2");
        assert!(ok, "{}", String::from_utf8_lossy(&answer));
    }
}

impl Shared {
    fn under_way(&self) -> u64 {
        let received = (self.receiver.count() - self.received_before) / self.copies;
        self.sent.load(Ordering::Relaxed).saturating_sub(received)
    }

    fn request(&self, endpoint: usize) -> Vec<u8> {
        let path = match self.scenario.fan_out {
            true => "/in/all/store/company/created".to_owned(),
            false => format!("/in/s{endpoint}/store/company/created"),
        };
        let start = format!("{{{TIME_KEY}{},\"name\":\"", now_us());
        let padding = self.scenario.body_bytes.saturating_sub(start.len() + 2);
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: engine\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{start}",
            self.token,
            start.len() + padding + 2,
        )
        .into_bytes();
        request.resize(request.len() + padding, b'x');
        request.extend_from_slice(b"\"}");
        request
    }
}
