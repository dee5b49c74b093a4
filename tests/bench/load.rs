//! Sends events over kept connections, as fast as they are delivered or at a
//! fixed rate. Raw sockets, one thread: the load must cost less than what it loads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Scenario;
use crate::receiver::{Receiver, TIME_KEY, now_us, request_length};

#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// The next event when an earlier one was delivered.
    AsFastAsItGoes,
    PerSecond(u64),
}

pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Connections that send at the same time.
const CONNECTIONS: usize = 64;

/// Events under way, accepted but not delivered: more would measure the backlog.
const UNDER_WAY_MAX: u64 = 256;

impl Load {
    pub(crate) fn start(
        scenario: &Scenario,
        address: SocketAddr,
        token: &str,
        receiver: Arc<Receiver>,
    ) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let copies = scenario.copies() as u64;
        let window = match scenario.fan_out {
            true => UNDER_WAY_MAX / 16,
            false => UNDER_WAY_MAX,
        };
        let shared = Arc::new(Shared {
            scenario: *scenario,
            address,
            token: token.to_owned(),
            stopped: stopped.clone(),
            sent: AtomicU64::new(0),
            received_before: receiver.count(),
            receiver,
            copies,
            window,
        });
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let tasks: Vec<_> =
                    (0..CONNECTIONS).map(|at| tokio::spawn(send(shared.clone(), at))).collect();
                for task in tasks {
                    task.await.expect("a connection");
                }
            });
        });
        Self { stopped, thread }
    }

    pub(crate) fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load");
    }
}

struct Shared {
    scenario: Scenario,
    address: SocketAddr,
    token: String,
    stopped: Arc<AtomicBool>,
    sent: AtomicU64,
    received_before: u64,
    receiver: Arc<Receiver>,
    copies: u64,
    window: u64,
}

async fn send(shared: Arc<Shared>, at: usize) {
    let mut stream = TcpStream::connect(shared.address).await.expect("the engine listens");
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
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{start}",
            self.address,
            self.token,
            start.len() + padding + 2,
        )
        .into_bytes();
        request.resize(request.len() + padding, b'x');
        request.extend_from_slice(b"\"}");
        request
    }
}
