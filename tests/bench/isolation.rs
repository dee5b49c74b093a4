//! What endpoints that hang, trickle or refuse TLS cost the others: a hundred
//! endpoints at a fixed rate, in turn all of them well and some of them bad. What
//! counts is the late one in a hundred, and how many arrive, at those that are well.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{self, Hub};
use crate::load::{Load, Pace};
use crate::receiver::Receiver;
use crate::{Scenario, WARM_UP, median};

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

/// How often each pair of rounds is run, one after the other.
const PAIRS: usize = 7;

/// Arrivals a second at each endpoint that is well, and the 99th percentile there.
type Round = (f64, Duration);

pub(crate) fn measure(receiver: &Arc<Receiver>, seconds: Duration) {
    println!(
        "medians of {PAIRS} rounds of {seconds:?} each, taken in turn with as many of 100 well"
    );
    for (name, bad) in ROUNDS {
        let mut alone = Vec::new();
        let mut beside = Vec::new();
        for _ in 0..PAIRS {
            alone.push(round(receiver, &[], seconds));
            beside.push(round(receiver, bad, seconds));
        }
        let ((rate_alone, p99_alone), (rate, p99)) = (medians(alone), medians(beside));
        println!(
            "{name:<28} {rate:>8.2}/s per endpoint × {:.3}  p99 {:>7.2} ms of {:.2}, × {:.2}",
            rate / rate_alone,
            p99.as_secs_f64() * 1000.0,
            p99_alone.as_secs_f64() * 1000.0,
            p99.as_secs_f64() / p99_alone.as_secs_f64(),
        );
    }
}

fn medians(rounds: Vec<Round>) -> Round {
    let (rates, p99s): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    (median(rates, f64::total_cmp), median(p99s, Duration::cmp))
}

fn round(receiver: &Arc<Receiver>, bad: &[Bad], seconds: Duration) -> Round {
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
