//! PostgreSQL beside SQLite, on one machine: how many deliveries a second, how late at a fixed
//! rate, what an event costs the database (statements, WAL, bytes at rest, connections), how
//! long a transaction was open without working, and whether a backlog grows while long
//! transactions keep the database from tidying up.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{self, Hub};
use crate::load::{Load, Pace};
use crate::process::Process;
use crate::receiver::Receiver;
use crate::support::postgres::Cluster;
use crate::{Scenario, WARM_UP, number};

const FLAT_OUT: Scenario = Scenario::new("350 B, 100 endpoints", 350, 100, false);

/// What both stores can do with room to spare.
const STEADY: Scenario = Scenario { name: "at 200/s", pace: Pace::PerSecond(200), ..FLAT_OUT };

const HELD_UP_RATE: u64 = 800;
const HELD_UP: Scenario = Scenario { pace: Pace::PerSecond(HELD_UP_RATE), ..FLAT_OUT };

/// Between two looks at what transactions do.
const SAMPLE_PAUSE: &str = "0.02";

/// Transactions that are open at the same time, each for so many seconds unless
/// BENCH_HELD_UP says otherwise.
const LONG_TRANSACTIONS: u32 = 3;
const LONG_SECONDS: u64 = 120;

/// A database with a counter of statements, and the engine on it.
struct Database {
    cluster: Cluster,
    name: String,
    url: String,
}

pub(crate) fn measure(receiver: &Arc<Receiver>, seconds: Duration) {
    let database = Database::start();
    let header = ["del/s", "p50 ms", "p99 ms", "CPU s/1000", "RSS MiB"];
    println!(
        "{:<28} {:<9} {:>10} {:>9} {:>9} {:>12} {:>9}",
        "stores", "", header[0], header[1], header[2], header[3], header[4]
    );
    for scenario in [&FLAT_OUT, &STEADY] {
        let hub = Hub::new(&receiver.ports);
        let (engine, address) = hub.start();
        let load = || Load::start(scenario, address, engine::TOKEN, receiver.clone());
        let rate = round(scenario, "sqlite", &engine, load(), receiver, seconds, || ());
        drop(engine);
        if scenario.name == FLAT_OUT.name {
            let size = |it: &str| fs::metadata(hub.path().join(it)).map_or(0, |it| it.len());
            let bytes = size("plugpost.db");
            println!("{:<28} sqlite    {} bytes an event at rest", "", bytes / rate.all.max(1));
        }
        let on_sqlite = rate.per_second;

        let (_hub, engine, address) = database.engine(receiver);
        let sampler = Sampler::start(&database);
        let load = Load::start(scenario, address, engine::TOKEN, receiver.clone());
        let mut before = Costs::default();
        let begun = || before = Costs::now(&database);
        let rate = round(scenario, "postgres", &engine, load, receiver, seconds, begun);
        Costs::now(&database).print_since(&before, rate.measured);
        database.print_at_rest();
        println!("{:<28} postgres  longest idle in transaction: {:.0} ms", "", sampler.stop());
        println!("{:<28} {:<9} {:>10.3}\n", "", "ratio", rate.per_second / on_sqlite);
    }
    for transactions in [0, LONG_TRANSACTIONS] {
        held_up(&database, receiver, transactions);
    }
}

struct Rate {
    per_second: f64,
    /// Deliveries while it was measured, and with those of the warm-up.
    measured: u64,
    all: u64,
}

/// Load an engine, and read its meters.
fn round(
    scenario: &Scenario,
    store: &str,
    engine: &Process,
    load: Load,
    receiver: &Arc<Receiver>,
    seconds: Duration,
    begun: impl FnOnce(),
) -> Rate {
    let first = receiver.count();
    thread::sleep(WARM_UP);
    begun();
    receiver.forget_latencies();
    let (before, cpu, began) = (receiver.count(), engine.cpu(), Instant::now());
    thread::sleep(seconds);
    let (measured, took) = (receiver.count() - before, began.elapsed());
    let cpu = (engine.cpu() - cpu).as_secs_f64() * 1000.0 / measured.max(1) as f64;
    let memory = engine.memory_mib();
    let (p50, p99) = receiver.latencies();
    load.stop();
    let per_second = measured as f64 / took.as_secs_f64();
    println!(
        "{:<28} {store:<9} {per_second:>10.0} {:>9.2} {:>9.2} {cpu:>12.4} {memory:>9.1}",
        scenario.name,
        ms(p50),
        ms(p99),
    );
    Rate { per_second, measured, all: receiver.count() - first }
}

/// Long transactions that see the database as it was, one after the other begun, all open at
/// once: nothing that ends meanwhile can be tidied up. With none of them, to compare with.
/// The backlog is by how many deliveries it is behind the rate.
fn held_up(database: &Database, receiver: &Arc<Receiver>, transactions: u32) {
    let seconds = number("BENCH_HELD_UP", LONG_SECONDS);
    let (_hub, engine, address) = database.engine(receiver);
    let sampler = Sampler::start(database);
    let load = Load::start(&HELD_UP, address, engine::TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    receiver.forget_latencies();
    let (before, began) = (receiver.count(), Instant::now());
    let apart = Duration::from_secs(seconds) / LONG_TRANSACTIONS;
    let whole = Duration::from_secs(seconds) + apart * transactions.saturating_sub(1);
    let mut open: Vec<Child> = Vec::new();
    let mut backlog = Vec::new();
    while began.elapsed() < whole {
        if open.len() < transactions as usize && began.elapsed() >= apart * open.len() as u32 {
            open.push(database.begin_for(seconds));
        }
        // The database is not asked: counting would pass over all that has ended, too.
        let asked = began.elapsed().as_secs_f64() * HELD_UP_RATE as f64;
        backlog.push((asked - (receiver.count() - before) as f64).max(0.0));
        thread::sleep(Duration::from_secs(1));
    }
    let delivered = receiver.count() - before;
    let rate = delivered as f64 / began.elapsed().as_secs_f64();
    let (p50, p99) = receiver.latencies();
    open.iter_mut().for_each(|it| drop(it.wait()));
    load.stop();
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let third = backlog.len() / 3;
    println!(
        "800/s for {whole:.0?} under {transactions} transactions of {seconds} s: {rate:.0}/s \
         delivered, p50 {:.1} ms, p99 {:.1} ms, longest idle in transaction {:.0} ms\n\
         behind in the first third {:.0}, in the second {:.0}, in the last {:.0}, at most {:.0}",
        ms(p50),
        ms(p99),
        sampler.stop(),
        mean(&backlog[..third]),
        mean(&backlog[third..2 * third]),
        mean(&backlog[2 * third..]),
        backlog.iter().copied().fold(0.0, f64::max),
    );
    drop(engine);
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Database {
    fn start() -> Self {
        let mut cluster = Cluster::start();
        cluster.sql("postgres", "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'");
        cluster.sql("postgres", "CHECKPOINT");
        cluster.kill();
        cluster.start_again();
        let url = cluster.database();
        let name = url.rsplit_once('/').expect("a URL").1.to_owned();
        cluster.sql(&name, "CREATE EXTENSION pg_stat_statements SCHEMA public");
        Self { cluster, name, url }
    }

    fn engine(&self, receiver: &Receiver) -> (Hub, Process, SocketAddr) {
        let hub = Hub::new(&receiver.ports);
        hub.append("plugpost.toml", &format!("[store]\nurl = \"{}\"\n", self.url));
        let (engine, address) = hub.start();
        (hub, engine, address)
    }

    fn number(&self, sql: &str) -> u64 {
        let text = self.cluster.sql(&self.name, sql);
        text.parse::<f64>().unwrap_or_else(|error| panic!("{sql}: {text:?}: {error}")) as u64
    }

    /// A transaction that keeps its view for so long.
    fn begin_for(&self, seconds: u64) -> Child {
        let sql = format!(
            "SET statement_timeout TO 0; BEGIN ISOLATION LEVEL REPEATABLE READ;
             SELECT txid_current(); SELECT pg_sleep({seconds}); COMMIT;"
        );
        let mut child = self.session(&sql);
        child.stdin.take();
        child
    }

    fn session(&self, sql: &str) -> Child {
        let mut psql = self.cluster.session(&self.name);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().expect("psql starts");
        let stdin = child.stdin.as_mut().expect("piped");
        stdin.write_all(sql.as_bytes()).expect("psql reads");
        child
    }

    /// What is kept of an event, and by how many connections.
    fn print_at_rest(&self) {
        let events = self.number("SELECT count(*) FROM events").max(1);
        let bytes = |table: &str, size: &str| {
            let sql =
                format!("SELECT sum({size}(relid)) FROM pg_partition_tree('{table}') WHERE isleaf");
            self.number(&sql) / events
        };
        let of = |table| {
            let rows = self.number(&format!("SELECT count(*) FROM {table}")) as f64;
            let (all, indexes) =
                (bytes(table, "pg_total_relation_size"), bytes(table, "pg_indexes_size"));
            format!("{table} {:.2} rows, {all} bytes ({indexes} in indexes)", rows / events as f64)
        };
        let connections = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND usename = current_user
                               AND application_name <> 'psql'";
        println!(
            "{:<28} postgres  an event at rest: {}; {}; {}\n{:<28} postgres  {} connections of one node",
            "",
            of("events"),
            of("deliveries"),
            of("attempts"),
            "",
            self.number(connections),
        );
    }
}

/// What the database has done so far.
#[derive(Default)]
struct Costs {
    statements: u64,
    commits: u64,
    wal_bytes: u64,
}

impl Costs {
    fn now(database: &Database) -> Self {
        let calls = |filter: &str| {
            let sql = format!(
                "SELECT coalesce(sum(calls), 0) FROM public.pg_stat_statements s
                 JOIN pg_database d ON d.oid = s.dbid
                 WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_%' {filter}"
            );
            database.number(&sql)
        };
        Self {
            statements: calls(""),
            commits: calls("AND query = 'COMMIT'"),
            wal_bytes: database.number("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"),
        }
    }

    fn print_since(&self, before: &Self, events: u64) {
        let per_event = |now: u64, before: u64| (now - before) as f64 / events.max(1) as f64;
        println!(
            "{:<28} postgres  an event: {:.2} statements, {:.3} commits, {:.0} bytes of WAL",
            "",
            per_event(self.statements, before.statements),
            per_event(self.commits, before.commits),
            per_event(self.wal_bytes, before.wal_bytes),
        );
    }
}

/// Looks again and again at who has a transaction open and does nothing in it.
struct Sampler {
    psql: Child,
    reader: thread::JoinHandle<f64>,
}

impl Sampler {
    fn start(database: &Database) -> Self {
        let sql = format!(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change) * 1000), 0)
             FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'
             \\watch {SAMPLE_PAUSE}\n"
        );
        let mut psql = database.session(&sql);
        let stdout = BufReader::new(psql.stdout.take().expect("piped"));
        let reader = thread::spawn(move || {
            let samples = stdout.lines().map_while(Result::ok);
            let samples: Vec<f64> = samples.filter_map(|it| it.trim().parse().ok()).collect();
            assert!(samples.len() > 10, "nothing was sampled: {samples:?}");
            samples.into_iter().fold(0.0, f64::max)
        });
        Self { psql, reader }
    }

    /// The longest, in milliseconds.
    fn stop(mut self) -> f64 {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
        self.reader.join().expect("the samples")
    }
}
