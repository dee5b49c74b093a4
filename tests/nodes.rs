//! Several engines on one database: they share the work, and what one of them loses by a
//! kill, a pause or a broken connection the others have.

mod faults;
mod held_up;
mod lanes;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::order;
use crate::support::client::Connection;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, once, route, to};
use crate::support::postgres::{self, Cluster};
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::tls::Authority;
use crate::support::{eventually, eventually_within, measuring, plugpost, shell};

/// A hub whose nodes are given up after two seconds of silence.
fn hub(url: &str) -> Hub {
    Hub::stored(Some(url), "", "[store]\nlease = \"2s\"\n")
}

/// The database of a URL of the tests' own server.
fn name(url: &str) -> &str {
    url.rsplit_once('/').expect("a URL").1
}

fn signal(engine: &Engine, name: &str) {
    let sent = shell("kill -$1 $2", &[name.as_ref(), engine.pid().to_string().as_ref()]).status();
    assert!(sent.is_ok_and(|it| it.success()), "SIG{name}");
}

/// What senders have written down: the ids of what was acknowledged, and the bodies.
#[derive(Default)]
struct Sent(Mutex<HashMap<String, Vec<u8>>>);

impl Sent {
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// One event after the other until the engine is gone or it is told to stop. An answer
    /// other than 202 is no acknowledgement; it says when to come again.
    fn send(&self, engine: std::net::SocketAddr, name: &str, stop: &AtomicBool) -> usize {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
        let Ok(mut connection) = Connection::open(engine) else { return 0 };
        let mut refused = 0;
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let body = format!("{name}-{number}").into_bytes();
            match connection.ask("POST", "/in/erp/order.created", &headers, &body) {
                Ok(answer) if answer.status == 202 => {
                    let id = answer.event_ids().remove(0);
                    let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    assert_eq!(sent.insert(id, body), None, "two events with one id");
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    assert_eq!(answer.header("retry-after"), Some("5"), "{}", answer.text());
                    refused += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                Err(_) => break,
            }
            thread::sleep(Duration::from_millis(1));
        }
        refused
    }

    /// Wait for all of it, and say how much came more than once.
    #[track_caller]
    fn arrived(&self, receiver: &Receiver) -> usize {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = 0;
        eventually_within(Duration::from_mins(2), "everything to arrive", || {
            let received = receiver.received();
            let arrived: HashMap<&str, &[u8]> =
                received.iter().map(|it| (it.webhook_id(), it.body.as_slice())).collect();
            missing = sent.keys().filter(|id| !arrived.contains_key(id.as_str())).count();
            (missing == 0).then(|| {
                for (id, body) in &*sent {
                    assert_eq!(arrived[id.as_str()], body, "{id}");
                }
                received.len() - arrived.len()
            })
        })
    }
}

#[test]
fn nodes_share_the_work_and_kills_lose_nothing() {
    const KILLS: usize = 8;
    let _measuring = measuring();
    let receiver = Receiver::ok();
    let url = postgres::shared().database();
    let hub = hub(&url);
    // Few at a time: what does not fit waits for whichever node has room.
    let route = route(&receiver.url("/"), "concurrency = 4", "schedule = [\"100ms\", \"1s\"]");
    hub.route("out", route);
    let sent = Sent::default();
    let mut survivor = Engine::start(&hub);
    for kill in 0..KILLS {
        let victim = Engine::start(&hub);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for sender in 0..4 {
                let (sent, stop) = (&sent, &stop);
                let (a, b) = (survivor.public, victim.public);
                scope.spawn(move || sent.send(a, &format!("a{kill}-{sender}"), stop));
                scope.spawn(move || sent.send(b, &format!("b{kill}-{sender}"), stop));
            }
            // Waits for nothing: the moment of the kill is arbitrary.
            thread::sleep(Duration::from_millis(fastrand::u64(300..=900)));
            victim.kill();
            stop.store(true, Ordering::SeqCst);
        });
        if kill % 3 == 2 {
            // The other one may go too, as long as somebody comes.
            survivor.kill();
            survivor = Engine::start(&hub);
        }
    }
    assert!(sent.count() > 50 * KILLS, "too little load to say anything: {}", sent.count());
    let duplicates = sent.arrived(&receiver);
    survivor.drained();
    let arrived = receiver.received().len();
    eprintln!(
        "{KILLS} kills: {} acknowledged, {arrived} arrived, {duplicates} twice",
        sent.count()
    );
    // At most what was in hand at a kill: four lanes' windows are far more.
    assert!(duplicates <= (KILLS + 2) * 300, "{duplicates}");
    let sql = "SELECT count(*) FROM events WHERE id IN
               (SELECT event FROM deliveries GROUP BY event HAVING count(*) > 1)";
    assert_eq!(postgres::shared().sql(name(&url), sql), "0");
}

#[test]
fn a_node_that_wakes_after_its_lease_records_nothing_over_its_successor() {
    let gate = Gate::closed();
    let (script, first) = (gate.clone(), AtomicBool::new(true));
    let receiver = Receiver::start(move |_| {
        if first.swap(false, Ordering::SeqCst) {
            script.pass();
            return Reply::status(410);
        }
        Reply::status(200)
    });
    let url = postgres::shared().database();
    let hub = hub(&url);
    hub.route("out", once(&receiver.url("/")));
    let paused = Engine::start(&hub);
    let event = paused.send("order.created", "1");
    receiver.first(1);
    let successor = Engine::start(&hub);
    signal(&paused, "STOP");
    let delivery = successor.ended(&event, "out");
    assert_eq!(
        (&delivery["status"], &delivery["attempts"].as_array().map(Vec::len)),
        (&"delivered".into(), &Some(1))
    );

    // Its attempt ends now, and says that the endpoint is gone: what it has to record would
    // end the delivery and disable the endpoint.
    gate.open();
    signal(&paused, "CONT");
    eventually("it to hear that it is too late", || {
        paused.stderr().contains("nothing was recorded").then_some(())
    });
    let metrics = paused.get("/metrics");
    assert!(metrics.text().contains("plugpost_fenced_total 1\n"), "{}", metrics.text());
    let id = delivery["id"].as_str().expect("an id");
    assert_eq!(successor.delivery(id), delivery);
    let sql = "SELECT count(*) FROM attempts; SELECT count(*) FROM endpoints;";
    assert_eq!(postgres::shared().sql(name(&url), sql), "1\n0");

    // It is a node again.
    paused.post("/in/erp/order.created", &[], b"2");
    let again = Engine::start(&hub);
    eventually("the event to be taken by one of them", || {
        let answer = again.post("/in/erp/order.created", &[], b"3");
        (answer.status == 202).then(|| again.ended(&answer.event_ids()[0], "out"))
    });
}

#[test]
fn a_database_that_is_killed_under_load_loses_nothing() {
    const KILLS: usize = 3;
    let _measuring = measuring();
    let mut cluster = Cluster::start();
    let url = cluster.database();
    let receiver = Receiver::ok();
    let hub = hub(&url);
    let schedule = "schedule = [\"100ms\", \"1s\"]";
    hub.route("out", route(&receiver.url("/"), "concurrency = 4", schedule));
    let engines = [Engine::start(&hub), Engine::start(&hub)];
    let (sent, stop, refused) = (Sent::default(), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for (at, engine) in engines.iter().enumerate() {
            for sender in 0..3 {
                let (sent, stop, refused, address) = (&sent, &stop, &refused, engine.public);
                scope.spawn(move || {
                    let name = format!("{at}-{sender}");
                    refused.fetch_add(sent.send(address, &name, stop), Ordering::SeqCst);
                });
            }
        }
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(fastrand::u64(500..=900)));
            cluster.kill();
            // Senders are told to come again meanwhile, and questions to be asked again.
            eventually("the log to say that it cannot answer", || {
                (engines[0].get("/v1/deliveries").status == 503).then_some(())
            });
            thread::sleep(Duration::from_millis(300));
            cluster.start_again();
            let before = sent.count();
            eventually("events to be taken again", || (sent.count() > before + 20).then_some(()));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let refused = refused.into_inner();
    assert!(refused > 0, "no sender was told that the store is gone");
    let duplicates = sent.arrived(&receiver);
    engines[0].drained();
    eprintln!(
        "{KILLS} kills of the database: {} acknowledged, {refused} refused, {duplicates} twice",
        sent.count()
    );
}

#[test]
fn order_holds_when_two_nodes_take_in_events_of_one_subject() {
    const EVENTS: usize = 400;
    let (receiver, expected) = order::numbered(10);
    let url = postgres::shared().database();
    let hub = hub(&url);
    let endpoint = "order = \"subject\"\nconcurrency = 8";
    hub.route("stock", route(&receiver.url("/"), endpoint, &order::patient()));
    let nodes = [Engine::start(&hub), Engine::start(&hub)];
    for number in 0..EVENTS / 4 {
        for subject in ["a", "b", "c", "d"] {
            order::send(&nodes[fastrand::usize(0..2)], [(subject.to_owned(), number)]);
        }
    }
    eventually("all to be taken", || (order::lock(&expected).taken == EVENTS).then_some(()));
    assert_eq!(order::lock(&expected).wrong, [""; 0]);
}

#[test]
fn what_waits_at_a_dead_node_is_picked_up_by_another_though_nobody_told_it() {
    let well = Arc::new(AtomicBool::new(false));
    let script = well.clone();
    let receiver = Receiver::start(move |_| match script.load(Ordering::SeqCst) {
        true => Reply::status(200),
        false => Reply::status(500),
    });
    let hub = hub(&postgres::shared().database());
    hub.route("out", to(&receiver.url("/")).replace("50ms", "2s"));
    let first = Engine::start(&hub);
    let event = first.send("order.created", "1");
    let row = first.delivery_when(&event, "out", "waiting", |it| it["last_status_code"] == 500);
    let other = Engine::start(&hub);
    well.store(true, Ordering::SeqCst);
    first.kill();
    let begun = Instant::now();
    other.ended(&event, "out");
    assert_eq!(row["status"], "pending");
    // Two seconds until it is due and two to look, not the fifteen of a lease.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn nodes_that_start_at_once_make_the_tables_once_and_have_a_number_each() {
    let url = postgres::shared().database();
    let hub = hub(&url);
    let started: Vec<_> = thread::scope(|scope| {
        let start = |_| scope.spawn(|| Engine::start(&hub));
        let starting: Vec<_> = (0..4).map(start).collect();
        starting.into_iter().map(|it| it.join().expect("it starts")).collect()
    });
    let sql = "SELECT steps FROM version;
               SELECT count(*), count(DISTINCT number) FROM nodes WHERE lease IS NOT NULL;
               SELECT count(*) >= 4 FROM pg_inherits WHERE inhparent = 'events'::regclass";
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let steps = fs::read_dir(migrations).expect("the migrations").count();
    assert_eq!(postgres::shared().sql(name(&url), sql), format!("{steps}\n4|4\nt"));
    for engine in started {
        assert_eq!(engine.stop().status, Some(0));
    }
    let sql = "SELECT count(*) FROM nodes WHERE lease IS NOT NULL";
    assert_eq!(postgres::shared().sql(name(&url), sql), "0");
}

#[test]
fn a_day_that_is_kept_no_longer_is_dropped_but_for_what_waits() {
    let receiver = Receiver::start(|_| Reply::status(503));
    let url = postgres::shared().database();
    let database = name(&url);
    let tables = "[store]\nretention = \"40d\"\nretention_payloads = \"1s\"\n";
    let hub = Hub::stored(Some(&url), "", tables);
    hub.route("out", to(&receiver.url("/")).replace("50ms", "1h"));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "later");
    engine.delivery_when(&event, "out", "waiting", |it| it["last_status_code"] == 503);
    engine.stop();
    // Three events of a day long ago: one waits, one does not, one has no delivery.
    let cluster = postgres::shared();
    let day = 20_000_u64;
    let id = |ms: u64| (day * 86_400_000 + ms) << 20;
    let mut sql = String::new();
    for table in ["events", "deliveries", "attempts"] {
        let (first, end) = (id(0), id(86_400_000));
        sql += &format!(
            "CREATE TABLE {table}_{day} (LIKE {table} INCLUDING ALL);
             ALTER TABLE {table} ATTACH PARTITION {table}_{day} FOR VALUES FROM ({first}) TO ({end});"
        );
    }
    for (ms, status) in [(1, Some(0)), (2, Some(1)), (3, None)] {
        let (event, delivery) = (id(ms), id(ms) + 7);
        sql += &format!(
            "INSERT INTO events SELECT {event}, source, type, subject, time, attributes, data
             FROM events WHERE id > {};",
            id(86_400_000)
        );
        if let Some(status) = status {
            sql += &format!(
                "INSERT INTO deliveries SELECT {delivery}, {event}, route, endpoint, {status}, NULL,
                     9000000000000, 1, status_code, error FROM deliveries WHERE id > {};
                 INSERT INTO attempts SELECT {delivery}, number, started, duration_us, outcome,
                     status_code, error_code, error, method, url, headers, body, excerpt, snapshot,
                     plugins FROM attempts WHERE delivery > {};",
                id(86_400_000),
                id(86_400_000)
            );
        }
    }
    cluster.sql(database, &sql);
    let count = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM deliveries),
                        (SELECT count(*) FROM attempts)";
    assert_eq!(cluster.sql(database, count), "4|3|3");
    let _engine = Engine::start(&hub);
    let day_is_there = format!("SELECT to_regclass('events_{day}') IS NOT NULL");
    eventually("the day to be dropped", || {
        (cluster.sql(database, &day_is_there) == "f").then_some(())
    });
    assert_eq!(cluster.sql(database, count), "2|2|2");
    let kept = "SELECT e.id, d.status, a.number FROM events_kept e
                JOIN deliveries_kept d ON d.event = e.id JOIN attempts_kept a ON a.delivery = d.id";
    assert_eq!(cluster.sql(database, kept), format!("{}|0|1", id(1)));
}

#[test]
fn a_full_database_answers_503_and_delivers_what_it_has_accepted() {
    let receiver = Receiver::ok();
    let url = postgres::shared().database();
    let hub = Hub::stored(Some(&url), "", "[store]\nbytes_max = 8388608\n");
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    // Nothing that a database would make smaller.
    let body: Vec<u8> = (0..60_000).map(|_| fastrand::u8(..)).collect();
    let mut accepted = 0;
    let refused = loop {
        let answer = engine.post("/in/erp/order.created", &[], &body);
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        // How large it is is looked at every two seconds.
        thread::sleep(Duration::from_millis(20));
        assert!(accepted < 1000, "a store of 8 MiB has taken 60 MB");
    };
    assert!(refused.problem(503).contains("store.bytes_max"));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(accepted > 50, "only {accepted} events fit");
    engine.drained();
    receiver.first(accepted);
}

#[test]
fn a_store_that_cannot_be_opened_says_why_and_what_to_do() {
    let right = postgres::shared().database();
    let serve = |url: &str| {
        let hub = Hub::stored(Some(url), "", "");
        let ran = plugpost(["serve".as_ref(), hub.path().as_os_str()]);
        assert_eq!(ran.status, Some(1), "{url}: {ran:?}");
        assert!(!ran.stderr.contains("tests"), "the password is shown: {ran:?}");
        ran.stderr
    };
    let (before, database) = right.rsplit_once('/').expect("a URL");
    let (login, address) = before.rsplit_once('@').expect("a URL");
    for (url, wanted) in [
        (right.replace(":a%2B", ":b"), "look at the user and the password"),
        (format!("{before}/nothing"), "create the database"),
        (format!("{login}@127.0.0.1:1/{database}"), "is it running there"),
        (format!("{right}?sslmode=verify-full"), "UnknownIssuer"),
    ] {
        let error = serve(&url);
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(error.contains("cannot open the store postgres://127.0.0.1:"), "{error}");
    }
    assert!(address.starts_with("127.0.0.1:"));
}

#[test]
fn the_database_is_reached_by_tls_as_far_as_is_asked_for() {
    let url = postgres::shared().database();
    let root = postgres::shared().root();
    let other = tempfile::NamedTempFile::new().expect("a file");
    fs::write(other.path(), Authority::new("another").pem).expect("written");
    let with = |mode: &str, root: Option<&Path>| {
        let root = root.map(|it| format!("&sslrootcert={}", it.display()));
        Hub::stored(Some(&format!("{url}?sslmode={mode}{}", root.unwrap_or_default())), "", "")
    };
    let are_secure = || {
        let sql = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        postgres::shared().sql(name(&url), sql)
    };
    for (mode, root, secure) in [
        ("disable", None, "f"),
        ("prefer", None, "t"),
        ("require", None, "t"),
        ("verify-ca", Some(root.as_path()), "t"),
        ("verify-full", Some(root.as_path()), "t"),
    ] {
        let engine = Engine::start(&with(mode, root));
        assert_eq!(are_secure(), secure, "{mode}");
        engine.stop();
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let hub = with(mode, Some(other.path()));
        let ran = plugpost(["serve".as_ref(), hub.path().as_os_str()]);
        assert!(ran.status == Some(1) && ran.stderr.contains("certificate"), "{mode}: {ran:?}");
    }
    // By another name than its certificate has.
    let by_name = url.replace("@127.0.0.1:", "@localhost:");
    let by_name = |mode: &str| {
        let url = format!("{by_name}?sslmode={mode}&sslrootcert={}", root.display());
        Hub::stored(Some(&url), "", "")
    };
    Engine::start(&by_name("verify-ca")).stop();
    let ran = plugpost(["serve".as_ref(), by_name("verify-full").path().as_os_str()]);
    assert!(ran.status == Some(1) && ran.stderr.contains("not valid for name"), "{ran:?}");
}

#[test]
fn the_url_of_a_store_can_be_a_secret() {
    let url = postgres::shared().database();
    let hub = Hub::with("", "[store]\nurl = { file = \"secrets/store\" }\n");
    hub.secret("store", &url);
    let receiver = Receiver::ok();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let event = engine.send("order.created", "{}");
    engine.ended(&event, "out");
    engine.stop();
    assert_eq!(postgres::shared().sql(name(&url), "SELECT count(*) FROM events"), "1");
    assert!(!hub.store().exists());
    // A plan reads no secret but that one: without it there is nothing to plan with.
    let ran = plugpost(["plan".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    hub.secret("store", "postgres://me:hush@host/db?sslmode=perhaps");
    let ran = plugpost(["check".as_ref(), hub.path().as_os_str()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("plugpost.toml:") && ran.stderr.contains("sslmode is"), "{ran:?}");
    assert!(!ran.stderr.contains("hush"), "{ran:?}");
}
