//! The Grafana dashboard that comes with the engine names what the engine counts.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, to};
use crate::support::receiver::Receiver;
use crate::support::root;

#[test]
fn every_metric_of_the_dashboard_is_counted() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("hostile").route("out", to(&receiver.url("/")));
    let declines = "\n[[filter]]\nplugin = \"hostile\"\nsettings.behaviour = \"decline\"\n";
    hub.route("none", to(&receiver.url("/")) + declines);
    let engine = Engine::start(&hub);
    engine.send("order.created", "{}");
    engine.drained();
    hub.route("more", to(&receiver.url("/")));
    let reloaded = crate::support::client::ask(engine.admin, "POST", "/v1/reload", &[], b"");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let counted = names(engine.get("/metrics").text());
    let wanted = names_in_dashboard();
    assert!(wanted.len() >= 9, "{wanted:?}");
    let missing: Vec<_> = wanted.difference(&counted).collect();
    assert!(missing.is_empty(), "{missing:?} are not in {counted:?}");
}

#[test]
fn a_metric_that_is_not_counted_is_found() {
    assert_eq!(
        names("x plugpost_a_total{b=\"c\"} + plugpost_d"),
        ["plugpost_a_total", "plugpost_d"].map(String::from).into()
    );
}

fn names_in_dashboard() -> BTreeSet<String> {
    let file = root().join("examples/grafana/plugpost.json");
    let dashboard: Value =
        serde_json::from_slice(&fs::read(file).expect("the dashboard")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|it| it["targets"].as_array().expect("targets"));
    targets.flat_map(|it| names(it["expr"].as_str().expect("an expression"))).collect()
}

/// Every word that begins as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|it| it.starts_with("plugpost_")).map(str::to_owned).collect()
}
