//! What is put under load, the relay or the engine on a store with one node or several, and
//! rounds that take turns: what else the machine does meanwhile hits all of them.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::database::{self, Database};
use crate::engine::{Engine, Hub, TOKEN};
use crate::load::{Load, Scenario};
use crate::process::Process;
use crate::receiver::Receiver;
use crate::results::{Row, figure, spread};
use crate::{Bench, ms, relay};

/// How often each system has its turn.
const ROUNDS: usize = 3;

/// Before each round, so that it begins in the middle of the load.
const WARM_UP: Duration = Duration::from_millis(500);

/// Before the first, and until every endpoint has had an event.
const FIRST_WARM_UP: Duration = Duration::from_secs(1);

/// After the start, before its memory is looked at.
const SETTLED: Duration = Duration::from_millis(500);

pub(crate) struct System {
    pub(crate) name: &'static str,
    processes: Vec<Process>,
    addresses: Vec<SocketAddr>,
    /// Where there is one, its server's work counts.
    database: Option<Database>,
    hubs: Vec<Hub>,
    idle_mib: f64,
}

/// What the meters showed.
pub(crate) struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    cpu_s_per_1000: f64,
    /// The server's, where there is a database.
    database_cpu_s_per_1000: f64,
    memory_mib: f64,
}

impl System {
    pub(crate) fn relay(receiver: &Receiver) -> Self {
        let (process, address) = relay::start(&receiver.ports);
        Self::new("relay", vec![(process, address)], None, Vec::new())
    }

    pub(crate) fn sqlite(name: &'static str, hub: Hub) -> Self {
        let Engine { process, public, .. } = hub.start();
        Self::new(name, vec![(process, public)], None, vec![hub])
    }

    /// A node for each hub, all on one database.
    pub(crate) fn postgres(name: &'static str, hubs: Vec<Hub>) -> Self {
        let database = Database::new();
        let start = |hub: &Hub| {
            database.serve(hub);
            let Engine { process, public, .. } = hub.start();
            (process, public)
        };
        let nodes = hubs.iter().map(start).collect();
        Self::new(name, nodes, Some(database), hubs)
    }

    fn new(
        name: &'static str,
        nodes: Vec<(Process, SocketAddr)>,
        database: Option<Database>,
        hubs: Vec<Hub>,
    ) -> Self {
        // What the start itself took is given back.
        thread::sleep(SETTLED);
        let (processes, addresses): (Vec<_>, _) = nodes.into_iter().unzip();
        let idle_mib = processes.iter().map(Process::memory_mib).fold(0.0, f64::max);
        Self { name, processes, addresses, database, hubs, idle_mib }
    }

    /// Of the first node.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn process(&self) -> &Process {
        &self.processes[0]
    }

    /// End it; its folder stays.
    pub(crate) fn stop(self) -> Vec<Hub> {
        self.hubs
    }

    fn cpu(&self) -> Duration {
        self.processes.iter().map(Process::cpu).sum()
    }

    fn database_cpu(&self) -> Duration {
        self.database.as_ref().map_or(Duration::ZERO, |_| database::cpu())
    }

    fn load(&self, scenario: &Scenario, bench: &Bench) -> Load {
        Load::start(scenario, &self.addresses, TOKEN, bench.receiver.clone())
    }

    fn warm_up(&self, scenario: &Scenario, bench: &Bench) {
        let before = bench.receiver.count();
        let load = self.load(&scenario.flat_out(), bench);
        let begun = Instant::now();
        while begun.elapsed() < FIRST_WARM_UP
            || bench.receiver.count() - before < scenario.endpoints as u64
        {
            thread::sleep(Duration::from_millis(10));
        }
        load.drain();
    }

    fn round(&self, scenario: &Scenario, bench: &Bench) -> Round {
        let receiver = &bench.receiver;
        let load = self.load(scenario, bench);
        thread::sleep(WARM_UP);
        receiver.forget_latencies();
        let (before, began) = (receiver.count(), Instant::now());
        let (cpu, database_cpu) = (self.cpu(), self.database_cpu());
        thread::sleep(bench.seconds);
        let deliveries = (receiver.count() - before) as f64;
        let took = began.elapsed();
        let (cpu, database_cpu) = (self.cpu() - cpu, self.database_cpu() - database_cpu);
        let (p50, p99) = receiver.latencies();
        let memory_mib = self.processes.iter().map(Process::memory_mib).fold(0.0, f64::max);
        load.drain();
        let per_1000 = |cpu: Duration| cpu.as_secs_f64() * 1000.0 / deliveries.max(1.0);
        Round {
            per_second: deliveries / took.as_secs_f64(),
            p50,
            p99,
            cpu_s_per_1000: per_1000(cpu),
            database_cpu_s_per_1000: per_1000(database_cpu),
            memory_mib,
        }
    }
}

/// One system's rounds.
pub(crate) struct Rounds {
    name: &'static str,
    has_database: bool,
    idle_mib: f64,
    rounds: Vec<Round>,
}

/// Each system under its load, in turn.
pub(crate) fn side_by_side(bench: &Bench, systems: &[(&System, Scenario)]) -> Vec<Rounds> {
    let begun = |(system, scenario): &(&System, Scenario)| {
        system.warm_up(scenario, bench);
        let (name, idle_mib) = (system.name, system.idle_mib);
        Rounds { name, has_database: system.database.is_some(), idle_mib, rounds: Vec::new() }
    };
    let mut all: Vec<Rounds> = systems.iter().map(begun).collect();
    for _ in 0..ROUNDS {
        for ((system, scenario), rounds) in systems.iter().zip(&mut all) {
            rounds.rounds.push(system.round(scenario, bench));
        }
    }
    all
}

impl Rounds {
    fn spread(&self, of: impl Fn(&Round) -> f64) -> Value {
        spread(self.rounds.iter().map(of))
    }

    /// Round by round, for each has its neighbour in the other's.
    fn ratio(&self, other: &Self, of: impl Fn(&Round) -> f64) -> Value {
        let pairs = self.rounds.iter().zip(&other.rounds);
        spread(pairs.map(|(mine, its)| of(mine) / of(its)))
    }

    /// In the middle of its rounds.
    pub(crate) fn per_second(&self) -> f64 {
        crate::median(self.rounds.iter().map(|it| it.per_second), f64::total_cmp)
    }

    /// The figures, after what they are of; beside those of another as ratios.
    pub(crate) fn row(&self, of: &str, beside: Option<&Self>) -> Row {
        let beside = beside.filter(|it| it.name != self.name);
        let ratio = |of: fn(&Round) -> f64| beside.map_or(Value::Null, |it| self.ratio(it, of));
        let (per_second, cpu) = (|it: &Round| it.per_second, |it: &Round| it.cpu_s_per_1000);
        let database_cpu = match self.has_database {
            true => self.spread(|it| it.database_cpu_s_per_1000),
            false => Value::Null,
        };
        vec![
            ("load", json!(of)),
            ("system", json!(self.name)),
            ("per_second", self.spread(per_second)),
            ("p50_ms", self.spread(|it| ms(it.p50))),
            ("p99_ms", self.spread(|it| ms(it.p99))),
            ("cpu_s_per_1000", self.spread(cpu)),
            ("database_cpu_s_per_1000", database_cpu),
            ("idle_mib", figure(self.idle_mib)),
            ("memory_mib", self.spread(|it| it.memory_mib)),
            ("ratio_per_second", ratio(per_second)),
            ("ratio_cpu", ratio(cpu)),
        ]
    }
}
