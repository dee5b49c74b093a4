//! Takes deliveries as cheaply as it can: one thread, raw sockets, a fixed
//! answer. What it costs is the same for both sides of the comparison.

use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Receiver {
    pub(crate) ports: Vec<u16>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    count: AtomicU64,
    latencies_us: Mutex<Vec<u32>>,
}

/// Stands before the time of sending in every body; both sides pass it on.
pub(crate) const TIME_KEY: &str = "\"company_id\":";

impl Receiver {
    pub(crate) fn start(endpoints: usize) -> Self {
        let listeners: Vec<StdListener> = (0..endpoints)
            .map(|_| StdListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports =
            listeners.iter().filter_map(|it| it.local_addr().ok()).map(|it| it.port()).collect();
        let shared = Arc::new(Shared::default());
        let handle = shared.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                for listener in listeners {
                    listener.set_nonblocking(true).expect("a listener");
                    let listener = TcpListener::from_std(listener).expect("a listener");
                    let shared = handle.clone();
                    tokio::spawn(async move {
                        while let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(take(stream, shared.clone()));
                        }
                    });
                }
                std::future::pending::<()>().await;
            });
        });
        Self { ports, shared }
    }

    pub(crate) fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    pub(crate) fn forget_latencies(&self) {
        self.shared.latencies_us.lock().expect("no panic holds it").clear();
    }

    /// Half and 99 % of the deliveries arrived within this.
    pub(crate) fn latencies(&self) -> (Duration, Duration) {
        let mut all =
            std::mem::take(&mut *self.shared.latencies_us.lock().expect("no panic holds it"));
        all.sort_unstable();
        let at = |share: f64| {
            let index = ((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1));
            Duration::from_micros(all.get(index).copied().unwrap_or_default().into())
        };
        (at(0.5), at(0.99))
    }
}

/// Answer every request of a connection.
async fn take(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        while let Some((head, length)) = request_length(&buffer) {
            if buffer.len() < length {
                break;
            }
            if let Some(sent_us) = sent_us(&buffer[head..length]) {
                let late = now_us().saturating_sub(sent_us);
                let late = u32::try_from(late).unwrap_or(u32::MAX);
                shared.latencies_us.lock().expect("no panic holds it").push(late);
            }
            shared.count.fetch_add(1, Ordering::Relaxed);
            buffer.drain(..length);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Where the first message in the buffer has its body, and where it ends.
pub(crate) fn request_length(buffer: &[u8]) -> Option<(usize, usize)> {
    let head = buffer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some((head, head + length.unwrap_or(0)))
}

fn sent_us(body: &[u8]) -> Option<u64> {
    let key = TIME_KEY.as_bytes();
    let at = body.windows(key.len()).position(|it| it == key)? + key.len();
    let digits = body[at..].iter().take_while(|it| it.is_ascii_digit());
    Some(
        digits.fold(0_u64, |number, digit| {
            number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
        }),
    )
}

pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
