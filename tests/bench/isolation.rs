//! What endpoints that hang, trickle or refuse TLS cost the others: a hundred
//! endpoints at a fixed rate, in turn all of them well and some of them bad. What
//! counts is the late one in a hundred, and how many arrive, at those that are well.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{self, Hub};
use crate::load::{Load, Scenario};
use crate::results::{Section, figure, spread};
use crate::{Bench, ms, number};

/// About a quarter of what the machine can do.
const RATE: u64 = 2500;

#[derive(Clone, Copy)]
pub(crate) enum Bad {
    Hangs,
    Trickles,
    RefusesTls,
}

const ROUNDS: [(&str, &[Bad]); 4] = [
    ("1 of 100 hangs", &[Bad::Hangs]),
    ("1 of 100 trickles", &[Bad::Trickles]),
    ("1 of 100 refuses TLS", &[Bad::RefusesTls]),
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

/// How often each pair of rounds is run, one after the other, unless `BENCH_PAIRS` says more.
const PAIRS: u64 = 3;

/// Before each round: lanes have learned what is bad.
const WARM_UP: Duration = Duration::from_secs(1);

/// Arrivals a second at each endpoint that is well, and the 99th percentile there.
type Round = (f64, Duration);

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    for (name, bad) in ROUNDS {
        let pairs = (0..number("BENCH_PAIRS", PAIRS).max(1))
            .map(|_| (round(bench, &[]), round(bench, bad)));
        let pairs: Vec<(Round, Round)> = pairs.collect();
        let of = |value: fn(&(Round, Round)) -> f64| spread(pairs.iter().map(value));
        section.row(vec![
            ("bad", json!(name)),
            ("asked_per_second", figure(RATE as f64)),
            ("per_endpoint", of(|(_, beside)| beside.0)),
            ("per_endpoint_ratio", of(|(alone, beside)| beside.0 / alone.0)),
            ("p99_ms", of(|(_, beside)| ms(beside.1))),
            ("p99_ms_all_well", of(|(alone, _)| ms(alone.1))),
            ("p99_ratio", of(|(alone, beside)| ms(beside.1) / ms(alone.1))),
        ]);
    }
}

fn round(bench: &Bench, bad: &[Bad]) -> Round {
    let receiver = &bench.receiver;
    let mut ports = receiver.ports.clone();
    for (place, kind) in ports.iter_mut().zip(bad) {
        *place = start(*kind);
    }
    let hub = Hub::new(&ports);
    for (at, kind) in bad.iter().enumerate() {
        if matches!(kind, Bad::RefusesTls) {
            let route = engine::route(&format!("s{at}"), ports[at]).replace("http://", "https://");
            hub.write(&format!("routes/one-{at}.toml"), route);
        }
    }
    let engine = hub.start();
    let scenario = Scenario::of(350, 100).at(RATE);
    let load = Load::start(&scenario, &[engine.public], engine::TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    receiver.forget_latencies();
    let (before, begun) = (receiver.count(), Instant::now());
    thread::sleep(bench.seconds);
    let arrived = (receiver.count() - before) as f64 / begun.elapsed().as_secs_f64();
    let (_, p99) = receiver.latencies();
    load.stop();
    (arrived / (ports.len() - bad.len()) as f64, p99)
}

/// A receiver on a port of its own that never does what it should.
pub(crate) fn start(kind: Bad) -> u16 {
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
