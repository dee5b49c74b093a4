//! What endpoints that hang, trickle or refuse TLS cost the others: a hundred
//! endpoints at a fixed rate, first all of them well, then one bad, then ten. What
//! counts is the late one in a hundred, and how many arrive, at those that are well.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{self, Hub};
use crate::load::{Load, Pace};
use crate::receiver::Receiver;
use crate::{Scenario, WARM_UP};

/// About a quarter of what the machine can do.
const RATE: u64 = 2500;

#[derive(Clone, Copy)]
enum Bad {
    Hangs,
    Trickles,
    RefusesTls,
}

const ROUNDS: [(&str, &[Bad]); 5] = [
    ("1 of 100 hangs", &[Bad::Hangs]),
    ("1 of 100 trickles", &[Bad::Trickles]),
    ("1 of 100 refuses TLS", &[Bad::RefusesTls]),
    ("10 of 100 hang", &[Bad::Hangs; 10]),
    (
        "10 of 100, all three ways",
        &[
            Bad::Hangs,
            Bad::Trickles,
            Bad::RefusesTls,
            Bad::Hangs,
            Bad::Trickles,
            Bad::RefusesTls,
            Bad::Hangs,
            Bad::Trickles,
            Bad::RefusesTls,
            Bad::Hangs,
        ],
    ),
];

pub(crate) fn measure(receiver: &Arc<Receiver>, seconds: Duration) {
    let show = |name: &str, (rate, p99): (f64, Duration), beside: Option<(f64, Duration)>| {
        let ms = p99.as_secs_f64() * 1000.0;
        let ratios = beside.map(|(rate_alone, p99_alone)| {
            let late = p99.as_secs_f64() / p99_alone.as_secs_f64();
            format!("  p99 × {late:.2}, arrivals × {:.3}", rate / rate_alone)
        });
        let ratios = ratios.unwrap_or_default();
        println!("{name:<28} {rate:>10.1} per endpoint {ms:>9.2} ms p99{ratios}");
    };
    for (name, bad) in ROUNDS {
        // Each beside a round of its own in which all are well.
        let well = round(receiver, &[], seconds);
        show("100 of 100 are well", well, None);
        show(name, round(receiver, bad, seconds), Some(well));
    }
}

/// Arrivals a second at each endpoint that is well, and the 99th percentile there.
fn round(receiver: &Arc<Receiver>, bad: &[Bad], seconds: Duration) -> (f64, Duration) {
    let mut ports = receiver.ports.clone();
    for (place, kind) in ports.iter_mut().zip(bad) {
        *place = start(*kind);
    }
    let hub = Hub::new(&ports);
    for (at, kind) in bad.iter().enumerate() {
        if matches!(kind, Bad::RefusesTls) {
            let route = engine::route(&format!("s{at}"), ports[at]).replace("http://", "https://");
            std::fs::write(hub.path().join(format!("routes/one-{at}.toml")), route)
                .expect("a file");
        }
    }
    let (process, address) = hub.start();
    let scenario = Scenario { pace: Pace::PerSecond(RATE), ..Scenario::new("", 350, 100, false) };
    let load = Load::start(&scenario, address, engine::TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    receiver.forget_latencies();
    let (before, begun) = (receiver.count(), Instant::now());
    thread::sleep(seconds);
    let arrived = (receiver.count() - before) as f64 / begun.elapsed().as_secs_f64();
    let (_, p99) = receiver.latencies();
    load.stop();
    drop(process);
    (arrived / (ports.len() - bad.len()) as f64, p99)
}

/// A receiver on a port of its own that never does what it should.
fn start(kind: Bad) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || misbehave(kind, stream));
        }
    });
    port
}

fn misbehave(kind: Bad, mut stream: TcpStream) {
    let mut read = [0; 4096];
    match kind {
        Bad::Hangs => while stream.read(&mut read).is_ok_and(|it| it > 0) {},
        Bad::Trickles => {
            let _ = stream.read(&mut read);
            for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
            }
        }
        Bad::RefusesTls => drop(stream),
    }
}
