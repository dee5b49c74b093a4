//! `make bench`: how many deliveries a second, how late, and for how much CPU,
//! beside a raw hyper relay that forwards each POST without store or plugin. Both
//! in one run on one machine, with the same load and the same receiver: the ratio
//! is what counts, the absolute figures are the machine's.
//!
//! It is a benchmark, not a test: it judges nothing.

#![expect(clippy::print_stdout, reason = "figures go to standard output")]

mod engine;
mod fresh;
mod guest;
mod isolation;
mod load;
mod log;
mod process;
mod receiver;
mod relay;
mod stores;
mod subscriptions;
mod support;

use std::cmp::Ordering;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use load::{Load, Pace};
use process::Process;
use receiver::Receiver;

/// One thing to measure.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    body_bytes: usize,
    endpoints: usize,
    /// Each event goes to every endpoint, not to one.
    fan_out: bool,
    pace: Pace,
}

const SCENARIOS: &[Scenario] = &[
    Scenario::new("350 B, 1 endpoint", 350, 1, false),
    Scenario::new("350 B, 100 endpoints", 350, 100, false),
    Scenario::new("8 KiB, 1 endpoint", 8192, 1, false),
    Scenario::new("8 KiB, 100 endpoints", 8192, 100, false),
    Scenario::new("350 B, 1 event to 100", 350, 100, true),
    Scenario {
        name: "350 B, 100 endpoints, 200/s",
        body_bytes: 350,
        endpoints: 100,
        fan_out: false,
        pace: Pace::PerSecond(200),
    },
];

impl Scenario {
    const fn new(name: &'static str, body_bytes: usize, endpoints: usize, fan_out: bool) -> Self {
        Self { name, body_bytes, endpoints, fan_out, pace: Pace::AsFastAsItGoes }
    }

    /// How many deliveries an event makes.
    fn copies(&self) -> usize {
        if self.fan_out { self.endpoints } else { 1 }
    }
}

const WARM_UP: Duration = Duration::from_secs(2);

/// The number of ports the receiver listens on.
const ENDPOINTS: usize = 100;

/// What one run showed.
struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    cpu_s_per_1000: f64,
    memory_mib: f64,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == "relay") {
        return relay::run(&arguments[1..]);
    }
    let seconds = Duration::from_secs(number("BENCH_SECONDS", 8));
    let only = env::var("BENCH_ONLY").unwrap_or_default();
    let with_relay = number("BENCH_RELAY", 1) == 1;

    let receiver = Arc::new(Receiver::start(ENDPOINTS));
    println!(
        "{:<28} {:<9} {:>10} {:>9} {:>9} {:>12} {:>9}",
        "", "", "del/s", "p50 ms", "p99 ms", "CPU s/1000", "RSS MiB"
    );
    for scenario in SCENARIOS.iter().filter(|it| it.name.contains(&only)) {
        let relayed = with_relay.then(|| {
            let (relay, address) = relay::start(&receiver.ports);
            measure(scenario, "relay", relay, address, "", &receiver, seconds)
        });
        let hub = engine::Hub::new(&receiver.ports);
        let (engine, address) = hub.start();
        let token = engine::TOKEN;
        let delivered = measure(scenario, "plugpost", engine, address, token, &receiver, seconds);
        if let Some(relayed) = relayed {
            let ratio = delivered.per_second / relayed.per_second;
            println!("{:<28} {:<9} {ratio:>10.3}\n", "", "ratio");
        }
    }
    if ISOLATION.contains(&only) {
        isolation::measure(&receiver, seconds);
    }
    if LOG.contains(&only) {
        log::measure(&receiver, seconds);
    }
    if GUEST.contains(&only) {
        println!("{GUEST:<44} {:>10} {:>10} {:>7}", "guest µs", "native µs", "ratio");
        for guest::Cost { name, guest, native } in guest::measure() {
            let micros = |it: Duration| it.as_secs_f64() * 1e6;
            let ratio = micros(guest) / micros(native);
            println!("{name:<44} {:>10.2} {:>10.2} {ratio:>7.2}", micros(guest), micros(native));
        }
    }
    if STORES.contains(&only) {
        stores::measure(&receiver, seconds);
    }
    if SUBSCRIPTIONS.contains(&only) {
        for it in subscriptions::measure() {
            let subscriptions::Figures { subscriptions, cpu_per_event, change, reload, memory_mib } =
                it;
            println!(
                "{subscriptions:>6} {SUBSCRIPTIONS} that do not take an event: {:.1} µs CPU an \
                 event, one is changed in {change:.1?}, a reload takes {reload:.0?}, \
                 {memory_mib:.0} MiB",
                cpu_per_event.as_secs_f64() * 1e6
            );
        }
    }
    if FRESH.contains(&only) {
        let mut took = fresh::measure(&receiver);
        took.sort_unstable();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{FRESH}: median {median:.0?}, worst {worst:.0?} of {}", took.len());
    }
}

/// What `BENCH_ONLY` calls it.
const GUEST: &str = "a guest against native";

/// What `BENCH_ONLY` calls it.
const STORES: &str = "stores";

/// What `BENCH_ONLY` calls it.
const SUBSCRIPTIONS: &str = "subscriptions";

/// What `BENCH_ONLY` calls it.
const ISOLATION: &str = "isolation";

/// What `BENCH_ONLY` calls it.
const LOG: &str = "log of a million";

/// What `BENCH_ONLY` calls it.
const FRESH: &str = "from cp to the first delivery";

/// What the environment says, or the default.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// The one in the middle.
fn median<T: Copy>(all: impl IntoIterator<Item = T>, compare: fn(&T, &T) -> Ordering) -> T {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable_by(compare);
    all[all.len() / 2]
}

/// Load one process and read its meters.
fn measure(
    scenario: &Scenario,
    what: &str,
    process: Process,
    address: std::net::SocketAddr,
    token: &str,
    receiver: &Arc<Receiver>,
    seconds: Duration,
) -> Figures {
    let load = Load::start(scenario, address, token, receiver.clone());
    std::thread::sleep(WARM_UP);
    receiver.forget_latencies();
    let before = (receiver.count(), process.cpu());
    let began = std::time::Instant::now();
    std::thread::sleep(seconds);
    let took = began.elapsed();
    let deliveries = receiver.count() - before.0;
    let cpu = process.cpu() - before.1;
    let memory_mib = process.memory_mib();
    let (p50, p99) = receiver.latencies();
    load.stop();
    drop(process);
    let figures = Figures {
        per_second: deliveries as f64 / took.as_secs_f64(),
        p50,
        p99,
        cpu_s_per_1000: cpu.as_secs_f64() * 1000.0 / (deliveries.max(1) as f64),
        memory_mib,
    };
    let ms = |it: Duration| it.as_secs_f64() * 1000.0;
    println!(
        "{:<28} {what:<9} {:>10.0} {:>9.2} {:>9.2} {:>12.4} {:>9.1}",
        scenario.name,
        figures.per_second,
        ms(figures.p50),
        ms(figures.p99),
        figures.cpu_s_per_1000,
        figures.memory_mib,
    );
    figures
}
