//! Three nodes under load, and one fault after the other: a node is killed or stopped for
//! longer than its lease, sessions with the database are cut, the database is killed. What
//! must hold is measured at the receivers. `NODE_FAULTS` says how many faults (the whole run
//! is 500), `NODE_FAULTS_SEED` repeats their order.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::lanes::most_within;
use super::{hub, name, signal};
use crate::order;
use crate::support::client::Connection;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, TOKEN, route};
use crate::support::postgres::Cluster;
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{beside_the_engine, eventually, eventually_within, measuring};

/// As many as go into half a minute.
const FAULTS: usize = 12;

/// Attempts a second at the endpoint that takes one at a time.
const RATE: usize = 20;

/// What arrives within that was begun within a second: see tests/lanes.rs.
const STRETCH: Duration = Duration::from_millis(800);

/// So many events for it are on their way: there is always more than its rate lets through,
/// so two nodes at once would exceed it.
const ON_THE_WAY: usize = 3 * RATE;

const SENDERS: usize = 6;

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |it| it.parse().expect("a number"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the three endpoints have got.
struct Endpoints {
    /// As fast as may be.
    free: Receiver,
    /// In the order of the subjects.
    ordered: Receiver,
    /// One at a time, and so many a second.
    slow: Receiver,
    at_slow: Arc<AtomicUsize>,
}

impl Endpoints {
    fn start() -> Self {
        let slowly = |count: Arc<AtomicUsize>| {
            Receiver::start(move |_| {
                thread::sleep(Duration::from_millis(5));
                count.fetch_add(1, Ordering::SeqCst);
                Reply::status(200)
            })
        };
        let at_slow = Arc::<AtomicUsize>::default();
        let (ordered, slow) = (slowly(Arc::default()), slowly(at_slow.clone()));
        Self { free: Receiver::ok(), ordered, slow, at_slow }
    }

    fn routes(&self, hub: &Hub) {
        let routes = [
            ("free", &self.free, "concurrency = 8".to_owned()),
            ("ordered", &self.ordered, "order = \"subject\"\nconcurrency = 8".to_owned()),
            ("slow", &self.slow, format!("concurrency = 1\nrate_limit = \"{RATE}/s\"")),
        ];
        for (name, receiver, limits) in routes {
            let text = route(&receiver.url("/"), &limits, &order::patient());
            hub.route(name, text.replace("[\"*\"]\n\n", &format!("[\"{name}\"]\n\n")));
        }
    }

    fn each(&self) -> [&Receiver; 3] {
        [&self.free, &self.ordered, &self.slow]
    }
}

/// Where the nodes are now.
type Places = Mutex<Vec<SocketAddr>>;

/// One event after the other, each until it is acknowledged: one that may have been taken
/// is sent again under the same key, and is the same event.
fn send(
    sender: usize,
    places: &Places,
    press: &Press,
    taken: &Mutex<HashSet<String>>,
    stop: &AtomicBool,
) {
    let authorization = format!("Bearer {TOKEN}");
    let mut connection: Option<Connection> = None;
    for number in 0.. {
        let event_type = match number % 2 {
            _ if press.is_due() => "slow",
            0 => "free",
            _ => "ordered",
        };
        let subject = format!("{sender}-{event_type}");
        let key = format!("{subject}-{number}");
        let body = json!({
            "specversion": "1.0", "source": "erp", "type": event_type, "id": key,
            "subject": subject, "data": { "sender": sender, "number": number },
        });
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/cloudevents+json"),
            ("idempotency-key", key.as_str()),
        ];
        loop {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let place = {
                let places = lock(places);
                places[fastrand::usize(..places.len())]
            };
            let mut open = match connection.take() {
                Some(open) if !fastrand::u8(..).is_multiple_of(4) => open,
                _ => match Connection::open(place) {
                    Ok(open) => open,
                    Err(_) => {
                        thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                },
            };
            let answer = open.ask("POST", "/events", &headers, body.to_string().as_bytes());
            match answer {
                Ok(answer) if answer.status == 202 => {
                    connection = Some(open);
                    lock(taken).insert(answer.event_ids().remove(0));
                    break;
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    thread::sleep(Duration::from_millis(100));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// What has been sent to the slow endpoint, over all senders, and what has arrived.
struct Press {
    sent: Mutex<usize>,
    arrived: Arc<AtomicUsize>,
}

impl Press {
    /// The turn of the slow endpoint.
    fn is_due(&self) -> bool {
        let mut sent = lock(&self.sent);
        let due = *sent < self.arrived.load(Ordering::SeqCst) + ON_THE_WAY;
        *sent += usize::from(due);
        due
    }
}

#[derive(Default, Debug)]
struct Done {
    kills: usize,
    stops: usize,
    cuts: usize,
    restarts: usize,
    /// Deliveries that were in somebody's hands when a fault came: those may come twice. Of
    /// the slow endpoint's only one is under way.
    in_hand: usize,
}

/// What the faults are done to.
struct World {
    binary: PathBuf,
    cluster: Cluster,
    url: String,
    hub: Hub,
    nodes: Vec<Engine>,
    /// How many there were.
    faults: usize,
}

impl World {
    fn in_hand(&self) -> usize {
        let sql = "SELECT count(*) FROM deliveries d JOIN labels r ON r.id = d.route
                   WHERE lease IS NOT NULL AND r.text <> 'slow'";
        self.cluster.sql(name(&self.url), sql).parse().expect("a number")
    }

    fn fault(&mut self, luck: &mut Rng, done: &mut Done, places: &Places) {
        done.in_hand += self.in_hand();
        let at = luck.usize(..self.nodes.len());
        // Each kind at least once.
        let kind = match self.faults {
            it @ 0..4 => [0, 3, 6, 9][it],
            _ => luck.u8(..10),
        };
        self.faults += 1;
        match kind {
            0..3 => {
                done.kills += 1;
                self.nodes.remove(at).kill();
                done.in_hand += self.in_hand();
                self.nodes.insert(at, Engine::start_binary(&self.binary, &self.hub));
            }
            3..6 => {
                done.stops += 1;
                signal(&self.nodes[at], "STOP");
                done.in_hand += self.in_hand();
                // Longer than the lease and than the others take to notice.
                thread::sleep(Duration::from_millis(luck.u64(2500..4000)));
                signal(&self.nodes[at], "CONT");
            }
            6..9 => {
                done.cuts += 1;
                let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                           WHERE datname = current_database() AND pid <> pg_backend_pid()
                               AND random() < 0.5";
                self.cluster.sql(name(&self.url), sql);
                done.in_hand += self.in_hand();
            }
            _ => {
                done.restarts += 1;
                self.cluster.kill();
                thread::sleep(Duration::from_millis(luck.u64(100..1500)));
                self.cluster.start_again();
                done.in_hand += self.in_hand();
            }
        }
        *lock(places) = self.nodes.iter().map(|it| it.public).collect();
        thread::sleep(Duration::from_millis(luck.u64(100..900)));
    }
}

/// By event, when it came first and how often.
fn arrivals(receiver: &Receiver) -> (Vec<Arc<Received>>, usize) {
    let received = receiver.received();
    let mut seen = HashSet::new();
    let first: Vec<_> =
        received.iter().filter(|it| seen.insert(it.webhook_id().to_owned())).cloned().collect();
    let twice = received.len() - first.len();
    (first, twice)
}

/// Events that came for the first time after a later one of their subject.
fn overtaken(first: &[Arc<Received>]) -> Vec<String> {
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut wrong = Vec::new();
    for it in first {
        let data: Value = serde_json::from_slice(&it.body).expect("JSON");
        let of = |name: &str| data[name].as_u64().expect("a number");
        let (sender, number) = (of("sender"), of("number"));
        if let Some(before) = last.insert(sender, number).filter(|it| *it > number) {
            wrong.push(format!("{sender}: {number} after {before}"));
        }
    }
    wrong
}

/// What there is after all the faults.
struct After {
    world: World,
    endpoints: Endpoints,
    /// The ids of what was acknowledged.
    taken: HashSet<String>,
    done: Done,
    took: Duration,
    /// Faults during which events were taken.
    under_load: usize,
}

fn under_faults(binary: PathBuf, faults: usize, seed: u64) -> After {
    let cluster = Cluster::start();
    let url = cluster.database();
    let hub = hub(&url);
    let endpoints = Endpoints::start();
    endpoints.routes(&hub);
    let nodes: Vec<_> = (0..3).map(|_| Engine::start_binary(&binary, &hub)).collect();
    let places = Mutex::new(nodes.iter().map(|it| it.public).collect());
    let mut world = World { binary, cluster, url, hub, nodes, faults: 0 };
    let (taken, stop) = (Mutex::new(HashSet::new()), AtomicBool::new(false));
    let press = Press { sent: Mutex::default(), arrived: endpoints.at_slow.clone() };
    let (mut luck, mut done) = (Rng::with_seed(seed), Done::default());
    let begun = Instant::now();
    let mut under_load = 0;
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (places, press, taken, stop) = (&places, &press, &taken, &stop);
            scope.spawn(move || send(sender, places, press, taken, stop));
        }
        let ended = StopAtEnd(&stop);
        eventually("the load", || (lock(&taken).len() > 100).then_some(()));
        for at in 1..=faults {
            let before = lock(&taken).len();
            world.fault(&mut luck, &mut done, &places);
            under_load += usize::from(lock(&taken).len() > before);
            if at.is_multiple_of(50) {
                eprintln!("{at} faults in {:?}: {} taken", begun.elapsed(), lock(&taken).len());
            }
        }
        drop(ended);
    });
    let took = begun.elapsed();
    let taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
    After { world, endpoints, taken, done, took, under_load }
}

#[test]
fn nodes_lose_nothing_and_hold_order_and_rate_through_faults_of_every_kind() {
    let faults = usize::try_from(number_of("NODE_FAULTS", FAULTS as u64)).expect("fits");
    let seed = number_of("NODE_FAULTS_SEED", fastrand::u64(..1_000_000));
    eprintln!("{faults} faults, NODE_FAULTS_SEED={seed}");
    let _measuring = measuring();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_plugpost"));
    let After { world, endpoints, taken, done, took, under_load } =
        under_faults(binary, faults, seed);
    eventually_within(Duration::from_mins(3), "everything to arrive", || {
        let arrived: HashSet<String> = (endpoints.each().into_iter())
            .flat_map(|it| it.received())
            .map(|it| it.webhook_id().to_owned())
            .collect();
        taken.is_subset(&arrived).then_some(())
    });
    world.nodes[0].drained();
    let [free, ordered, slow] = endpoints.each().map(arrivals);
    let twice = free.1 + ordered.1 + slow.1;
    let wrong = overtaken(&ordered.0);
    let most = most_within(STRETCH, &endpoints.slow.received());
    let beside = endpoints.slow.under_way_most();
    eprintln!(
        "{done:?} in {took:?}: {} acknowledged, lost 0, {twice} of them twice \
         ({} free, {} ordered, {} slow), {} out of order, at the slow endpoint {most} within \
         {STRETCH:?} and {beside} at once at most",
        taken.len(),
        free.1,
        ordered.1,
        slow.1,
        wrong.len(),
    );
    assert!(under_load * 2 > faults, "too little load to say anything");
    assert!(free.1 + ordered.1 <= done.in_hand && slow.1 <= faults, "{twice} came twice, {done:?}");
    assert_eq!(wrong, [""; 0]);
    assert!(most <= RATE, "{most} within {STRETCH:?}");
    assert_eq!(beside, 1, "one at a time");
    let sql = "SELECT count(*) FROM (SELECT event FROM deliveries GROUP BY event
               HAVING count(*) > 1) twice";
    assert_eq!(world.cluster.sql(name(&world.url), sql), "0");
}

/// Each node of the control runs every lane, and acknowledges before the commit.
#[test]
fn the_faults_find_nodes_that_share_lanes() {
    let _measuring = measuring();
    let control = beside_the_engine("plugpost-control", "make control");
    let After { endpoints, taken, done, took, .. } = under_faults(control, 2, fastrand::u64(..));
    let arrived: HashSet<String> = (endpoints.each().into_iter())
        .flat_map(|it| it.received())
        .map(|it| it.webhook_id().to_owned())
        .collect();
    let most = most_within(STRETCH, &endpoints.slow.received());
    let beside = endpoints.slow.under_way_most();
    let wrong = overtaken(&arrivals(&endpoints.ordered).0).len();
    eprintln!(
        "{done:?} in {took:?}: {} acknowledged, {} missing, {wrong} out of order, at the slow \
         endpoint {most} within {STRETCH:?} and {beside} at once at most",
        taken.len(),
        taken.difference(&arrived).count(),
    );
    assert!(beside > 1 && most > RATE, "nothing was seen");
}

/// Senders end with whoever waits for them, however that ends.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
