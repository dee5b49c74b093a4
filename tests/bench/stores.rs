//! What an event costs a store: on PostgreSQL statements, commits, WAL, bytes at rest,
//! connections, and how long a transaction was open without working; on SQLite bytes at
//! rest. And whether a backlog grows while long transactions keep PostgreSQL from tidying up.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::database::{server_cpu, store_into};
use crate::engine::{Engine, Hub, TOKEN};
use crate::load::{Load, Scenario};
use crate::receiver::Receiver;
use crate::results::{Row, Section, figure};
use crate::support::postgres::Cluster;
use crate::{Bench, ms, number};

const FLAT_OUT: Scenario = Scenario::of(350, 100);

/// What both stores can do with room to spare.
const STEADY: Scenario = FLAT_OUT.at(200);

const HELD_UP_RATE: u64 = 800;
const HELD_UP: Scenario = FLAT_OUT.at(HELD_UP_RATE);

/// Before what is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// Between two looks at what transactions do.
const SAMPLE_PAUSE: &str = "0.02";

/// Transactions that are open at the same time, each for so many seconds unless
/// BENCH_HELD_UP says otherwise: minutes show what hours would.
const LONG_TRANSACTIONS: u32 = 3;
const LONG_SECONDS: u64 = 20;

/// A database with a counter of statements, and the engine on it.
struct Database {
    cluster: Cluster,
    name: String,
    url: String,
}

pub(crate) fn measure(bench: &Bench, section: &mut Section) {
    let database = Database::start();
    for scenario in [FLAT_OUT, STEADY] {
        on_sqlite(bench, section, &scenario);
        on_postgres(bench, section, &scenario, &database);
    }
    for transactions in [0, LONG_TRANSACTIONS] {
        section.row(held_up(&database, &bench.receiver, transactions));
    }
}

fn on_sqlite(bench: &Bench, section: &mut Section, scenario: &Scenario) {
    let hub = Hub::new(&bench.receiver.ports);
    let engine = hub.start();
    let before = bench.receiver.count();
    let load = Load::start(scenario, &[engine.public], TOKEN, bench.receiver.clone());
    thread::sleep(WARM_UP + bench.seconds);
    load.drain();
    let events = bench.receiver.count() - before;
    // At its end the log is written back into the file.
    drop(engine);
    let bytes = fs::metadata(hub.path().join("plugpost.db")).map_or(0, |it| it.len());
    section.row(vec![
        ("load", json!(scenario.to_string())),
        ("store", json!("sqlite")),
        ("bytes_at_rest", figure(bytes as f64 / events.max(1) as f64)),
    ]);
}

fn on_postgres(bench: &Bench, section: &mut Section, scenario: &Scenario, database: &Database) {
    let receiver = &bench.receiver;
    let (_hub, engine) = database.engine(receiver);
    let sampler = Sampler::start(database);
    let load = Load::start(scenario, &[engine.public], TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    receiver.forget_latencies();
    // Asking takes its time too: at both ends the count comes right after.
    let (before, count, begun) = (Costs::now(database), receiver.count(), Instant::now());
    let (cpu, its_cpu) = (engine.process.cpu(), server_cpu(&database.cluster));
    thread::sleep(bench.seconds);
    let events = (receiver.count() - count) as f64;
    let took = begun.elapsed();
    let per_1000 = |it: Duration| figure(it.as_secs_f64() * 1000.0 / events.max(1.0));
    let (p50, p99) = receiver.latencies();
    let mut row: Row = vec![
        ("load", json!(scenario.to_string())),
        ("store", json!("postgres")),
        ("per_second", figure(events / took.as_secs_f64())),
        ("p50_ms", figure(ms(p50))),
        ("p99_ms", figure(ms(p99))),
        ("cpu_s_per_1000", per_1000(engine.process.cpu() - cpu)),
        ("database_cpu_s_per_1000", per_1000(server_cpu(&database.cluster) - its_cpu)),
    ];
    row.extend(Costs::now(database).since(&before, (receiver.count() - count) as f64));
    load.drain();
    row.push(("idle_in_transaction_ms", figure(sampler.stop())));
    row.push(("connections", json!(database.connections())));
    section.row(row);
    section.row(database.at_rest());
}

/// Long transactions that see the database as it was, one after the other begun, all open at
/// once: nothing that ends meanwhile can be tidied up. With none of them, to compare with.
/// The backlog is by how many deliveries it is behind the rate.
fn held_up(database: &Database, receiver: &Arc<Receiver>, transactions: u32) -> Row {
    let seconds = number("BENCH_HELD_UP", LONG_SECONDS);
    let (_hub, engine) = database.engine(receiver);
    let sampler = Sampler::start(database);
    let load = Load::start(&HELD_UP, &[engine.public], TOKEN, receiver.clone());
    thread::sleep(WARM_UP);
    receiver.forget_latencies();
    let (before, began) = (receiver.count(), Instant::now());
    let apart = Duration::from_secs(seconds) / LONG_TRANSACTIONS;
    let whole = Duration::from_secs(seconds) + apart * transactions.saturating_sub(1);
    let mut open: Vec<Child> = Vec::new();
    let mut behind = Vec::new();
    while began.elapsed() < whole {
        if open.len() < transactions as usize && began.elapsed() >= apart * open.len() as u32 {
            open.push(database.begin_for(seconds));
        }
        // The database is not asked: counting would pass over all that has ended, too.
        let asked = began.elapsed().as_secs_f64() * HELD_UP_RATE as f64;
        behind.push((asked - (receiver.count() - before) as f64).max(0.0));
        thread::sleep(Duration::from_secs(1));
    }
    let delivered = receiver.count() - before;
    let rate = delivered as f64 / began.elapsed().as_secs_f64();
    let (p50, p99) = receiver.latencies();
    open.iter_mut().for_each(|it| drop(it.wait()));
    load.drain();
    let mean = |of: &[f64]| figure(of.iter().sum::<f64>() / of.len().max(1) as f64);
    let third = behind.len() / 3;
    vec![
        ("load", json!(HELD_UP.to_string())),
        ("long_transactions", json!(transactions)),
        ("seconds_each", json!(seconds)),
        ("seconds", figure(whole.as_secs_f64())),
        ("per_second", figure(rate)),
        ("p50_ms", figure(ms(p50))),
        ("p99_ms", figure(ms(p99))),
        ("idle_in_transaction_ms", figure(sampler.stop())),
        ("behind_first_third", mean(&behind[..third])),
        ("behind_second_third", mean(&behind[third..2 * third])),
        ("behind_last_third", mean(&behind[2 * third..])),
        ("behind_most", figure(behind.iter().copied().fold(0.0, f64::max))),
    ]
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

    fn engine(&self, receiver: &Receiver) -> (Hub, Engine) {
        let hub = Hub::new(&receiver.ports);
        store_into(&hub, &self.url);
        let engine = hub.start();
        (hub, engine)
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

    /// Of one node.
    fn connections(&self) -> u64 {
        self.number(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND usename = current_user
                 AND application_name <> 'psql'",
        )
    }

    /// What is kept of an event.
    fn at_rest(&self) -> Row {
        let events = self.number("SELECT count(*) FROM events").max(1);
        let of = |table: &str| {
            let rows = self.number(&format!("SELECT count(*) FROM {table}"));
            let bytes = |size: &str| {
                let sql = format!(
                    "SELECT sum({size}(relid)) FROM pg_partition_tree('{table}') WHERE isleaf"
                );
                self.number(&sql) / events
            };
            json!({
                "rows": figure(rows as f64 / events as f64),
                "bytes": bytes("pg_total_relation_size"),
                "bytes_of_indexes": bytes("pg_indexes_size"),
            })
        };
        vec![
            ("store", json!("postgres")),
            ("at_rest", json!(events)),
            ("events", of("events")),
            ("deliveries", of("deliveries")),
            ("attempts", of("attempts")),
        ]
    }
}

/// What the database has done so far.
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

    /// For each event.
    fn since(&self, before: &Self, events: f64) -> [(&'static str, Value); 3] {
        let each = |now: u64, before: u64| figure((now - before) as f64 / events.max(1.0));
        [
            ("statements", each(self.statements, before.statements)),
            ("commits", each(self.commits, before.commits)),
            ("wal_bytes", each(self.wal_bytes, before.wal_bytes)),
        ]
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
