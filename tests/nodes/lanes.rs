//! What holds of an endpoint holds over all nodes: its lane is one node's at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{hub, name, signal};
use crate::order;
use crate::support::client;
use crate::support::engine::Engine;
use crate::support::hub::{Hub, once, route};
use crate::support::postgres::shared;
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{beside_the_engine, eventually, eventually_within, measuring};

/// What nodes know of each other they know after a second; a machine that others use too
/// gets more.
const SOON: Duration = Duration::from_secs(3);

fn nodes(hub: &Hub) -> [Engine; 3] {
    [(); 3].map(|()| Engine::start(hub))
}

/// The process that has the lane of a route, by the place of its engine; none while nobody
/// has it.
fn owner(url: &str, route: &str, engines: &[Engine]) -> Option<usize> {
    let sql = format!(
        "SELECT n.name FROM lanes l JOIN labels r ON r.id = l.route JOIN nodes n ON n.lease = l.lease
         WHERE r.text = '{route}'"
    );
    let name = shared().sql(name(url), &sql);
    let pid: u32 = name.rsplit_once(':')?.1.parse().ok()?;
    engines.iter().position(|it| it.pid() == pid)
}

fn ask(engine: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let answer = client::ask(engine, method, path, &[], body.to_string().as_bytes());
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

fn health(engine: &Engine) -> Value {
    engine.get("/v1/endpoints").json()["data"][0]["health"].clone()
}

/// How many came within any stretch of that length, at most.
pub(super) fn most_within(stretch: Duration, received: &[Arc<Received>]) -> usize {
    let mut moments: Vec<Instant> = received.iter().map(|it| it.at).collect();
    moments.sort();
    let within =
        |at: usize| moments[at..].iter().take_while(|it| **it - moments[at] < stretch).count();
    (0..moments.len()).map(within).max().unwrap_or(0)
}

fn twice(received: &[Arc<Received>]) -> usize {
    let mut times = HashMap::new();
    received.iter().for_each(|it| *times.entry(it.webhook_id()).or_insert(0) += 1);
    times.values().filter(|it| **it > 1).count()
}

/// What an endpoint that takes one at a time and 20 a second gets from three nodes.
#[derive(Debug)]
struct Met {
    at_once: usize,
    within_a_second: usize,
    twice: usize,
    /// How often a node took the lane.
    epoch: String,
}

fn slow_endpoint_of_three(binary: &Path) -> Met {
    const EVENTS: usize = 80;
    let receiver = Receiver::start(|_| {
        thread::sleep(Duration::from_millis(10));
        Reply::status(200)
    });
    let url = shared().database();
    let hub = hub(&url);
    let limits = "concurrency = 1\nrate_limit = \"20/s\"";
    hub.route("out", route(&receiver.url("/"), limits, "schedule = [\"1s\"]"));
    let nodes = [(); 3].map(|()| Engine::start_binary(binary, &hub));
    for at in 0..EVENTS {
        nodes[at % 3].send("order.created", at.to_string());
    }
    let received = receiver.first(EVENTS);
    nodes[0].drained();
    Met {
        at_once: receiver.under_way_most(),
        // As in tests/lanes.rs: arrivals look closer than the attempts were.
        within_a_second: most_within(Duration::from_millis(800), &received),
        twice: twice(&received),
        epoch: shared().sql(name(&url), "SELECT epoch FROM lanes"),
    }
}

#[test]
fn concurrency_and_rate_hold_over_all_nodes() {
    let _measuring = measuring();
    let met = slow_endpoint_of_three(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    assert_eq!((met.at_once, met.twice, &*met.epoch), (1, 0, "1"), "{met:?}");
    assert!(met.within_a_second <= 20, "{met:?}");
}

#[test]
fn nodes_that_share_a_lane_are_seen_at_its_endpoint() {
    let _measuring = measuring();
    let control = beside_the_engine("plugpost-control", "make control");
    let mut met = Vec::new();
    // Now and then one of them takes it after the other and nobody meets.
    let seen = (0..TRIES).any(|_| {
        let now = slow_endpoint_of_three(&control);
        let seen = now.at_once > 1 && now.within_a_second > 20;
        met.push(now);
        seen
    });
    eprintln!("nodes that share a lane: {met:?}");
    assert!(seen, "{met:?}");
}

/// How often nodes that share a lane may happen not to meet.
const TRIES: usize = 5;

#[test]
fn what_comes_in_elsewhere_wakes_the_lane_s_node() {
    let _measuring = measuring();
    let receiver = Receiver::ok();
    let url = shared().database();
    let hub = hub(&url);
    hub.route("out", once(&receiver.url("/")));
    let nodes = nodes(&hub);
    nodes[0].send("order.created", "first");
    receiver.first(1);
    let owner = owner(&url, "out", &nodes).expect("somebody has it");
    let mut took: Vec<_> = (1..10)
        .map(|at| {
            nodes[(owner + 1) % 3].send("order.created", at.to_string());
            let sent = Instant::now();
            receiver.first(at + 1)[at].at.saturating_duration_since(sent)
        })
        .collect();
    took.sort();
    eprintln!("from the answer at one node to the request by another: {took:?}");
    // Who is not told looks every second.
    assert!(took[4] < Duration::from_millis(300), "{took:?}");
}

#[test]
fn lanes_move_when_nodes_come_and_go_and_no_event_is_lost_or_doubled_or_overtakes() {
    const ROUTES: usize = 12;
    const ROUNDS: usize = 40;
    let _measuring = measuring();
    let url = shared().database();
    let hub = hub(&url);
    let receivers: Vec<_> = (0..ROUTES).map(|_| order::numbered(u32::MAX)).collect();
    for (at, (receiver, _)) in receivers.iter().enumerate() {
        let endpoint = "order = \"subject\"\nconcurrency = 4";
        hub.route(&format!("r{at}"), route(&receiver.url("/"), endpoint, &order::patient()));
    }
    let mut nodes = vec![Engine::start(&hub)];
    let has_all = |nodes: usize| {
        let sql = format!(
            "SELECT count(DISTINCT lease) = {nodes} AND count(*) = {ROUTES}
                           FROM lanes WHERE lease IS NOT NULL"
        );
        shared().sql(name(&url), &sql) == "t"
    };
    for round in 0..ROUNDS {
        match round {
            10 | 20 => nodes.push(Engine::start(&hub)),
            30 => assert_eq!(nodes.remove(0).stop().status, Some(0)),
            _ => {}
        }
        for subject in ["a", "b", "c"] {
            let node = &nodes[fastrand::usize(..nodes.len())];
            order::send(node, [(subject.to_owned(), round)]);
        }
        if matches!(round, 29 | 39) {
            // Each lane has something to be taken for, sooner or later.
            let share = if round == 29 { 3 } else { 2 };
            eventually("every node to have its share", || has_all(share).then_some(()));
        }
    }
    for (receiver, expected) in &receivers {
        eventually("all to be taken", || (order::lock(expected).taken == ROUNDS * 3).then_some(()));
        assert_eq!(order::lock(expected).wrong, [""; 0]);
        assert_eq!(receiver.received().len(), ROUNDS * 3);
    }
}

#[test]
fn a_successor_spends_of_a_rate_limit_what_is_left() {
    for killed in [false, true] {
        let receiver = Receiver::ok();
        let url = shared().database();
        let hub = hub(&url);
        hub.route("out", route(&receiver.url("/"), "rate_limit = \"60/m\"", "schedule = []"));
        let mut nodes = vec![Engine::start(&hub)];
        for at in 0..40 {
            nodes[0].send("order.created", at.to_string());
        }
        receiver.first(40);
        nodes[0].drained();
        nodes.push(Engine::start(&hub));
        let first = nodes.remove(0);
        let ended = if killed { first.kill() } else { first.stop() };
        assert_eq!(ended.status.is_none(), killed);
        for at in 40..100 {
            nodes[0].send("order.created", at.to_string());
        }
        receiver.first(60);
        // Nothing to wait for: that nothing comes.
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(receiver.received().len(), 60, "killed: {killed}");
    }
}

#[test]
fn a_breaker_that_opens_at_one_node_stops_all_and_outlives_that_node() {
    let _measuring = measuring();
    let receiver = Receiver::start(|_| Reply::status(500));
    let url = shared().database();
    let hub = hub(&url);
    let breaker = "[breaker]\nwindow = \"1m\"\nrequests = 20\nsuccess_ratio = 0.9\nrest = \"10m\"";
    let text = route(&receiver.url("/"), "concurrency = 4", "schedule = [\"1s\", \"1s\"]");
    hub.route("out", format!("{text}\n{breaker}\n"));
    let mut nodes = nodes(&hub).map(Some);
    let send = |nodes: &[Option<Engine>; 3], count: usize| {
        for at in 0..count {
            let live: Vec<_> = nodes.iter().flatten().collect();
            live[at % live.len()].send("order.created", "{}");
        }
    };
    let all_rest = |nodes: &[Option<Engine>; 3]| {
        eventually_within(SOON, "all nodes to know of the rest", || {
            nodes.iter().flatten().all(|it| health(it) == "resting").then_some(())
        });
    };
    send(&nodes, 30);
    receiver.first(20);
    all_rest(&nodes);
    let attempts = receiver.received().len();
    assert!((20..=24).contains(&attempts), "{attempts} attempts before the rest");
    // The node that knows it first-hand goes, and another one has the lane.
    let engines: Vec<Engine> = nodes.iter_mut().filter_map(Option::take).collect();
    let at = owner(&url, "out", &engines).expect("somebody has it");
    for (place, engine) in engines.into_iter().enumerate() {
        match place == at {
            true => drop(engine.kill()),
            false => nodes[place] = Some(engine),
        }
    }
    send(&nodes, 10);
    eventually("another node to have the lane", || {
        let sql = "SELECT epoch > 1 FROM lanes WHERE lease IS NOT NULL";
        (shared().sql(name(&url), sql) == "t").then_some(())
    });
    all_rest(&nodes);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(receiver.received().len(), attempts);
}

#[test]
fn an_endpoint_that_is_switched_off_at_one_node_gets_nothing_from_any() {
    let status = Arc::new(AtomicU16::new(200));
    let of_receiver = status.clone();
    let receiver = Receiver::start(move |_| Reply::status(of_receiver.load(Ordering::SeqCst)));
    let url = shared().database();
    let hub = hub(&url);
    hub.route("out", once(&receiver.url("/")));
    let nodes = nodes(&hub);
    let all_are = |wanted: &str| {
        let begun = Instant::now();
        eventually_within(SOON, "all nodes to know", || {
            nodes.iter().all(|it| health(it) == wanted).then_some(())
        });
        eprintln!("{wanted} at all nodes after {:?}", begun.elapsed());
    };
    let all_send = |wanted: &str| {
        for node in &nodes {
            let event = node.send("order.created", "{}");
            assert_eq!(node.ended(&event, "out")["status"], wanted);
        }
    };
    all_send("delivered");
    for at in 0..3 {
        let before = receiver.received().len();
        ask(nodes[at].admin, "POST", "/v1/endpoints/out/disable", &json!({}));
        all_are("disabled");
        all_send("dead");
        assert_eq!(receiver.received().len(), before);
        let enabled =
            ask(nodes[(at + 1) % 3].admin, "POST", "/v1/endpoints/out/enable", &json!({}));
        assert_eq!(enabled["changed"], true);
        all_are("ok");
        all_send("delivered");
        ask(nodes[(at + 2) % 3].admin, "POST", "/v1/endpoints/out/test", &json!({}));
        receiver.first(before + 4);
    }
    // What the endpoint itself says is seen by all as well.
    status.store(410, Ordering::SeqCst);
    nodes[0].send("order.created", "{}");
    all_are("disabled");
}

#[test]
fn a_node_that_was_stopped_makes_no_attempt_that_is_another_s_by_now() {
    const EVENTS: usize = 100;
    let _measuring = measuring();
    let receiver = Receiver::start(|_| {
        thread::sleep(Duration::from_millis(20));
        Reply::status(200)
    });
    let url = shared().database();
    let hub = hub(&url);
    hub.route("out", route(&receiver.url("/"), "concurrency = 1", "schedule = [\"1s\"]"));
    let stopped = Engine::start(&hub);
    stopped.send("order.created", "first");
    receiver.first(1);
    for at in 1..EVENTS {
        stopped.send("order.created", at.to_string());
    }
    signal(&stopped, "STOP");
    let successor = Engine::start(&hub);
    let there = receiver.received().len();
    assert!(there < EVENTS, "all were delivered before it was stopped");
    receiver.first(there + 10);
    signal(&stopped, "CONT");
    successor.drained();
    let received = receiver.received();
    // What was under way when it was stopped, and what was answered and not recorded yet.
    assert!(twice(&received) <= 2, "{} came twice", twice(&received));
    assert!((EVENTS..=EVENTS + 2).contains(&received.len()), "{}", received.len());
    assert_eq!(receiver.under_way_most(), 1);
    eventually("it to be a node again", || {
        stopped.stderr().contains("joins again").then_some(()).or_else(|| {
            stopped.post("/in/erp/order.created", &[], b"again");
            None
        })
    });
}

#[test]
fn a_subscription_made_changed_or_deleted_at_one_node_is_so_at_all() {
    let (receiver, other) = (Receiver::ok(), Receiver::ok());
    let url = shared().database();
    let hub = hub(&url);
    let nodes = nodes(&hub);
    let wanted = json!({ "types": ["order.*"], "url": receiver.url("/") });
    let made = ask(nodes[0].admin, "POST", "/v1/subscriptions", &wanted);
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().expect("an id"));
    let all_see = |what: &str, is_it: &dyn Fn(&client::Answer) -> bool| {
        let begun = Instant::now();
        eventually_within(SOON, what, || {
            nodes.iter().all(|it| is_it(&it.get(&path))).then_some(())
        });
        eprintln!("{what} at all nodes after {:?}", begun.elapsed());
    };
    all_see("made", &|it| it.status == 200);
    nodes[2].send("order.created", "1");
    nodes[1].send("order.created", "2");
    receiver.first(2);
    let moved = json!({ "url": other.url("/") });
    ask(nodes[1].admin, "PATCH", &path, &moved);
    all_see("changed", &|it| it.json()["url"] == moved["url"]);
    nodes.iter().for_each(|it| drop(it.send("order.created", "3")));
    other.first(3);
    // It promises no more, wherever an event comes in.
    ask(nodes[2].admin, "DELETE", &path, &Value::Null);
    let late = nodes[0].send("order.created", "perhaps");
    all_see("deleted", &|it| it.status == 404);
    for node in &nodes {
        let event = node.send("order.created", "4");
        assert!(node.deliveries(&format!("event_id={event}")).is_empty());
    }
    // What was promised by a node that did not know yet is ended.
    eventually("it to end", || {
        let rows = nodes[0].deliveries(&format!("event_id={late}"));
        rows.iter().all(|it| it["status"] != "pending").then_some(())
    });
    let again = ask(nodes[1].admin, "POST", "/v1/subscriptions", &wanted);
    assert_eq!(again["number"], 2);
    // Nor does it wait for a node that took the lane before it heard, and forgot it then.
    let sql = |text: &str| shared().sql(name(&url), text);
    for lease in sql("SELECT lease FROM nodes").lines() {
        let route = "(SELECT route FROM deliveries ORDER BY id DESC LIMIT 1)";
        sql(&format!(
            "INSERT INTO lanes (route, lease, epoch) SELECT {route}, {lease}, 1
                 ON CONFLICT (route) DO UPDATE SET lease = excluded.lease;
             UPDATE deliveries SET status = 0, lease = NULL, due = 0 WHERE route = {route}"
        ));
        eventually("it to end", || {
            (sql("SELECT count(*) FROM deliveries WHERE status = 0") == "0").then_some(())
        });
    }
}

#[test]
fn subscriptions_made_at_two_nodes_at_once_have_a_number_each() {
    const EACH: usize = 15;
    let url = shared().database();
    let hub = hub(&url);
    let nodes = nodes(&hub);
    let wanted =
        json!({ "types": ["order.*"], "url": "https://receiver.example.com/" }).to_string();
    // One that crosses another is refused, and tried again.
    let make = |node: &Engine| {
        let made = client::ask(node.admin, "POST", "/v1/subscriptions", &[], wanted.as_bytes());
        assert!(matches!(made.status, 201 | 503), "{}", made.text());
        (made.status == 201).then_some(())
    };
    thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(move || (0..EACH).for_each(|_| eventually("its turn", || make(node))));
        }
    });
    let sql = "SELECT count(*), count(DISTINCT number) FROM subscriptions";
    let all = EACH * nodes.len();
    assert_eq!(shared().sql(name(&url), sql), format!("{all}|{all}"));
}
