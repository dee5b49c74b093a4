//! What was overdue when the engine started goes out at the pace of its lanes: no
//! rush at the beginning, and every limit holds on the way.

use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, params};

use crate::support::engine::Engine;
use crate::support::hub::{Hub, route};
use crate::support::receiver::Receiver;
use crate::support::{eventually_within, measuring};

const DELIVERIES: usize = 100_000;
const ROUTES: usize = 20;

/// Attempts in a second at the one route that is limited.
const RATE: usize = 200;

/// Give a store that many more deliveries, due long ago, spread over the routes.
fn make_overdue(hub: &Hub, routes: &[String]) {
    let mut store = Database::open(hub.store()).expect("the store opens");
    let changes = store.transaction().expect("a transaction");
    {
        let label = |text: &str| -> i64 {
            let sql = "INSERT INTO labels (text) VALUES (?1) RETURNING id";
            changes.query_row(sql, [text], |row| row.get(0)).expect("a label")
        };
        let source = label("overdue");
        let endpoint = label("http://receiver.example/");
        let routes: Vec<_> = routes.iter().map(|it| label(it)).collect();
        let columns = |table: &str| -> Vec<String> {
            let sql = format!("SELECT name FROM pragma_table_info('{table}') WHERE \"notnull\"");
            let mut statement = changes.prepare(&sql).expect("a statement");
            let rows = statement.query_map([], |row| row.get(0)).expect("rows");
            rows.collect::<Result<_, _>>().expect("names")
        };
        // The rows as the engine writes them; a column that is new shows here.
        assert_eq!(columns("events").join(" "), "source type time attributes data data_pruned");
        let mut event = changes
            .prepare("INSERT INTO events (id, source, type, time, attributes, data) VALUES (?1, ?2, 'late', 0, '[]', ?3)")
            .expect("a statement");
        let mut delivery = changes
            .prepare(
                "INSERT INTO deliveries (id, event, route, endpoint, status, leased, due, attempts)
                 VALUES (?1, ?1, ?2, ?3, 0, 0, ?1, 0)",
            )
            .expect("a statement");
        for at in 0..DELIVERIES {
            let id = 1 + at as i64;
            event.execute(params![id, source, at.to_string().as_bytes()]).expect("an event");
            delivery.execute(params![id, routes[at % ROUTES], endpoint]).expect("a delivery");
        }
    }
    changes.commit().expect("it is written");
}

#[test]
fn a_hundred_thousand_that_are_overdue_make_no_rush_and_break_no_limit() {
    let _measuring = measuring();
    let open = Receiver::ok();
    let limited = Receiver::ok();
    let narrow = Receiver::ok();
    let hub = Hub::new();
    let names: Vec<_> = (0..ROUTES).map(|at| format!("r{at:02}")).collect();
    for (at, name) in names.iter().enumerate() {
        let (url, keys) = match at {
            0 => (limited.url("/"), format!("rate_limit = \"{RATE}/s\"")),
            1 => (narrow.url("/"), "concurrency = 1".to_owned()),
            _ => (open.url("/"), "concurrency = 4".to_owned()),
        };
        let text = route(&url, &keys, "").replace("from = \"*\"", "from = \"erp\"");
        hub.route(name, text);
    }
    // Once for the tables.
    Engine::start(&hub).stop();
    make_overdue(&hub, &names);

    let begun = Instant::now();
    let engine = Engine::start(&hub);
    let share = DELIVERIES / ROUTES;
    eventually_within(Duration::from_mins(4), "the open ones to drain", || {
        (open.received().len() == share * (ROUTES - 2)).then_some(())
    });
    let took = begun.elapsed();
    let mut bins = vec![0_usize; took.as_secs() as usize + 1];
    for it in open.received().iter() {
        bins[(it.at - begun).as_secs() as usize] += 1;
    }
    // The last second is not a whole one.
    let whole = &bins[..bins.len().saturating_sub(1).max(1)];
    let mean = whole.iter().sum::<usize>() / whole.len();
    eprintln!("{} in {took:?}, by the second: {bins:?}", share * (ROUTES - 2));
    assert!(whole.iter().all(|it| *it <= 3 * mean), "a rush: {bins:?}");
    assert!(open.under_way_most() <= 4 * (ROUTES - 2));

    eventually_within(Duration::from_mins(2), "the limited and the narrow one", || {
        (limited.received().len() == share && narrow.received().len() == share).then_some(())
    });
    engine.drained();
    assert_eq!(narrow.under_way_most(), 1);
    // That no window has more is tested beside the other limits; here, over the whole.
    let all = limited.received();
    let drained = all[all.len() - 1].at - all[0].at;
    let least = Duration::from_secs((share / RATE - 1) as u64);
    assert!(drained + Duration::from_millis(100) >= least, "{share} in {drained:?}");
    assert_eq!(open.received().len(), share * (ROUTES - 2), "some came twice");
}
