//! A SQLite store is moved into PostgreSQL: an engine goes on there as if it had been there
//! all the time.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::ingest::cloud_event;
use crate::subscriptions::{KEY, fits, id, signed, subscribe};
use crate::support::engine::{Engine, command};
use crate::support::eventually;
use crate::support::hub::{Hub, once, route};
use crate::support::postgres;
use crate::support::receiver::{Gate, Receiver, Reply};

/// What both engines seal with.
const SECRET_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// More than one batch of rows.
const BULK: usize = 2_500;

fn with_key() -> Command {
    let mut command = command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    command.env("PLUGPOST_SECRET_KEY", SECRET_KEY);
    command
}

fn serve(hub: &Hub) -> Engine {
    let mut command = with_key();
    command.arg("serve").arg(hub.path());
    Engine::start_command(command, hub)
}

fn migrate(hub: &Hub, url: &str) -> Command {
    let mut command = with_key();
    command.args(["store", "migrate", "--to", url]).arg(hub.path()).stdin(Stdio::null());
    command
}

/// To its end; what it printed, or the error.
fn ran(mut command: Command) -> Result<String, String> {
    let output = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// Every delivery that the log lists, with its attempts.
fn log(engine: &Engine) -> HashMap<String, Value> {
    let rows = engine.deliveries("limit=500");
    assert!(rows.len() < 500, "one page is enough");
    let with_attempts = |row: &Value| (id(row).to_owned(), engine.delivery(id(row)));
    rows.iter().map(with_attempts).collect()
}

#[test]
fn a_store_with_everything_in_it_goes_on_in_postgres() {
    let (well, gate) = (Arc::new(AtomicBool::new(false)), Gate::closed());
    let script = (well.clone(), gate.clone());
    let receiver = Receiver::start(move |request| match request.path.as_str() {
        "/gone" => Reply::status(500),
        "/down" if !script.0.load(Ordering::SeqCst) => Reply::status(503),
        "/slow" => {
            script.1.pass();
            Reply::status(200)
        }
        _ => Reply::status(200),
    });
    let url = postgres::shared().database();
    let [file, database] = [None, Some(url.as_str())].map(|url| {
        let hub = Hub::stored(url, "", "");
        let rests = "[breaker]\nenabled = false\n";
        let typed = |text: String, of: &str| {
            text.replace("types = [\"*\"]", &format!("types = [\"{of}\"]"))
        };
        let often = vec!["\"200ms\""; 40].join(", ");
        let often = format!("schedule = [{often}]\njitter = 0\n{rests}");
        let down = receiver.url("/down");
        hub.plugin("standard-webhooks");
        hub.route("fine", typed(once(&receiver.url("/fine")), "fine"));
        hub.route("gone", typed(once(&receiver.url("/gone")), "gone"));
        hub.route("slow", typed(once(&receiver.url("/slow")), "slow"));
        hub.route(
            "hour",
            typed(route(&down, "", &format!("schedule = [\"1h\"]\n{rests}")), "hour"),
        );
        let made =
            "[[transform]]\nplugin = \"jq\"\nsettings.program = \"{order: .}\"\n\n[endpoint]";
        let around = typed(once(&receiver.url("/around")), "around");
        hub.plugin("jq").route("around", around.replace("[endpoint]", made));
        hub.route("line", typed(route(&down, "order = \"endpoint\"", &often), "line"));
        hub.route("t", typed(once(&receiver.url("/t")), "t"));
        hub
    });
    let engine = serve(&file);
    let subscription = subscribe(&engine, &signed(&receiver.url("/hook"), &KEY));
    let fine = engine.send("fine", [0, 255, b'\n']);
    let gone = engine.send("gone", "{\"n\":1.10}");
    let around = engine.send("around", r#"{"id":2279,"name":"Harbour hall","total":12.50}"#);
    let hour = engine.send("hour", "later");
    let line: Vec<String> = (0..5).map(|at| engine.send("line", at.to_string())).collect();
    let key = cloud_event(&engine, "key-1", "one").event_ids();
    engine.send("order.created", "{}");
    assert!(fits(
        receiver
            .until("the subscription's", |it| it.iter().find(|it| it.path == "/hook").cloned())
            .as_ref(),
        &KEY
    ));
    let bulk = |at: usize| json!({ "specversion": "1.0", "id": at.to_string(), "source": "/bulk", "type": "bulk", "data": at });
    for part in 0..BULK / 500 {
        let batch: Value = (part * 500..(part + 1) * 500).map(bulk).collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        assert_eq!(engine.post("/events", &headers, batch.to_string().as_bytes()).status, 202);
    }
    engine.ended(&fine, "fine");
    engine.ended(&gone, "gone");
    engine.ended(&around, "around");
    engine.delivery_when(&hour, "hour", "waiting", |it| it["last_status_code"] == 503);
    engine.delivery_when(&line[0], "line", "waiting", |it| it["last_status_code"] == 503);
    let disabled = crate::support::client::ask(
        engine.admin,
        "POST",
        "/v1/endpoints/gone/disable",
        &[],
        b"{\"reason\":\"by hand\"}",
    );
    assert_eq!(disabled.status, 200, "{}", disabled.text());
    // In hand when the engine is killed: its lease means nothing to anybody else.
    let slow = engine.send("slow", "in hand");
    receiver.until("what is slow", |it| it.iter().any(|it| it.path == "/slow").then_some(()));
    let refused = ran(migrate(&file, &url)).expect_err("an engine has it open");
    assert!(refused.contains("in use by another process"), "{refused}");
    let before = log(&engine);
    engine.kill();
    gate.open();

    // Killed while it moves the attempts: no engine goes on with the half of it.
    let cluster = postgres::shared();
    let (_, name) = url.rsplit_once('/').expect("a URL");
    serve(&database).stop();
    let slowly = "CREATE FUNCTION slowly() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'
                      LANGUAGE plpgsql;
                  CREATE TRIGGER slowly BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION slowly()";
    cluster.sql(name, slowly);
    let mut child = migrate(&file, &url).stdout(Stdio::null()).spawn().expect("it starts");
    eventually("the deliveries to be there", || {
        (cluster.sql(name, "SELECT count(*) > 0 FROM deliveries") == "t").then_some(())
    });
    let meanwhile = ran(migrate(&file, &url)).expect_err("one at a time");
    assert!(meanwhile.contains("in use by another process"), "{meanwhile}");
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid();
               DROP TRIGGER slowly ON attempts";
    cluster.sql(name, end);
    let mut too_early = with_key();
    too_early.arg("serve").arg(database.path());
    let too_early = ran(too_early).expect_err("half of a store is none");
    assert!(too_early.contains("run it to its end"), "{too_early}");

    let told = ran(migrate(&file, &url)).expect("moved");
    assert!(told.contains(&format!("{} events", BULK + 12)), "{told}");
    assert!(told.contains("1 sealed") && told.contains("PLUGPOST_SECRET_KEY"), "{told}");
    let again = ran(migrate(&file, &url)).expect_err("it is there already");
    assert!(again.contains("there are events in this database already"), "{again}");

    let engine = serve(&database);
    let refused = ran(migrate(&file, &url)).expect_err("an engine uses it");
    assert!(refused.contains("engines use this database"), "{refused}");
    let after = log(&engine);
    assert_eq!(after.len(), before.len());
    let rests = ["fine", "around", "gone", "hour", "t"];
    for (id, delivery) in &before {
        let route = delivery["route"].as_str().expect("a route");
        if rests.contains(&route) || route.starts_with("sub_") {
            assert_eq!(&after[id], delivery);
        }
    }
    let event = |engine: &Engine, id: &str| engine.get(&format!("/v1/events/{id}")).json();
    assert_eq!(event(&engine, &fine)["data_base64"], "AP8K");
    assert_eq!(event(&engine, &gone)["data"], "{\"n\":1.10}");
    assert_eq!(cloud_event(&engine, "key-1", "one").event_ids(), key);
    cloud_event(&engine, "key-1", "other").problem(409);
    let endpoints = engine.get("/v1/endpoints").json();
    let endpoints = endpoints["data"].as_array().expect("a list");
    let disabled = endpoints.iter().find(|it| it["route"] == "gone").expect("the route");
    assert_eq!(disabled["health"], "disabled", "{disabled}");
    // What waited arrives, each once and in its order; so does what was in hand.
    well.store(true, Ordering::SeqCst);
    engine.ended(&slow, "slow");
    for event in &line {
        assert_eq!(engine.ended(event, "line")["status"], "delivered");
    }
    let received = receiver.received();
    let mut arrived: Vec<_> =
        received.iter().filter(|it| it.path == "/down").map(|it| it.webhook_id()).collect();
    let hours = arrived.iter().filter(|it| **it == &hour[..]).count();
    arrived.retain(|it| *it != &hour[..]);
    arrived.dedup();
    assert_eq!((hours, arrived), (1, line.iter().map(String::as_str).collect()));
    assert_eq!(received.iter().filter(|it| it.path == "/slow").count(), 2);
    // The subscription signs, and new ids are after those that came along.
    let shown = engine.get(&format!("/v1/subscriptions/{}", id(&subscription)));
    assert_eq!(shown.json(), subscription);
    let new = engine.send("order.created", "{\"new\":true}");
    let hook = receiver.until("the subscription's", |it| {
        it.iter().find(|it| it.path == "/hook" && it.webhook_id() == new).cloned()
    });
    assert!(fits(&hook, &KEY));
    assert!(before.values().all(|it| it["event_id"].as_str() < Some(new.as_str())));
    assert_eq!(
        subscribe(&engine, &json!({ "types": ["x"], "url": receiver.url("/") }))["number"],
        2
    );
    // Days have their partitions, so that they can be dropped.
    let kept = "SELECT (SELECT count(*) FROM events_kept), (SELECT count(*) FROM attempts_kept)";
    assert_eq!(cluster.sql(name, kept), "0|0");
    engine.stop();
}
