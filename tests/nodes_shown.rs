//! Who shares the work is shown, and whether all serve the same folder.

use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::hub::{Hub, to};
use crate::support::postgres;
use crate::support::receiver::Receiver;
use crate::support::{eventually, plugpost};

#[test]
fn nodes_that_serve_different_folders_are_shown_until_they_agree() {
    let url = postgres::shared().database();
    let hubs = [(); 2].map(|()| Hub::stored(Some(&url), "", "[store]\nlease = \"2s\"\n"));
    let receiver = Receiver::ok();
    for hub in &hubs {
        hub.route("out", to(&receiver.url("/")));
    }
    let engines = hubs.each_ref().map(Engine::start);
    let nodes = |engine: &Engine| engine.get("/v1/nodes").json();
    let both = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
        engines
            .each_ref()
            .map(|engine| eventually(what, || Some(nodes(engine)).filter(|it| is_it(it))))
    };
    let of = |nodes: &Value, name: &str| -> Vec<Value> {
        let data = nodes["data"].as_array().expect("a list");
        data.iter().map(|it| it[name].clone()).collect()
    };
    let two = both("two nodes that have said what they serve", &|it| {
        let snapshots = of(it, "snapshot");
        snapshots.len() == 2 && snapshots.iter().all(Value::is_string)
    });
    for it in &two {
        assert_eq!((&it["agree"], &it["disagree_since"]), (&true.into(), &Value::Null), "{it}");
        assert_eq!(of(it, "version"), [env!("CARGO_PKG_VERSION"); 2]);
        assert_eq!(
            (of(it, "alive"), of(it, "differs")),
            (vec![true.into(); 2], vec![false.into(); 2])
        );
        let names = of(it, "name");
        let pids = engines.each_ref().map(|it| format!(":{}", it.pid()));
        let name = |it: &Value| it.as_str().expect("a name").to_owned();
        assert!(pids.iter().all(|pid| names.iter().any(|it| name(it).ends_with(pid))), "{it}");
    }
    let ask =
        |admin: std::net::SocketAddr| plugpost(["nodes", "--admin", &format!("http://{admin}")]);
    let ran = ask(engines[0].admin);
    assert_eq!((ran.status, ran.stdout.lines().count()), (Some(0), 2), "{ran:?}");

    hubs[1].route("out", to(&receiver.url("/changed")));
    for it in both("a disagreement", &|it| it["agree"] == false) {
        assert_eq!(of(&it, "differs").iter().filter(|it| **it == true).count(), 1, "{it}");
        let data = it["data"].as_array().expect("a list");
        // What was put in force last is what is meant.
        let newest = data.iter().find(|it| it["differs"] == false).expect("one is right");
        assert!(
            newest["name"].as_str().expect("a name").ends_with(&format!(":{}", engines[1].pid()))
        );
        assert_eq!(it["disagree_since"], newest["snapshot_since"], "{it}");
    }
    let metrics = engines[0].get("/metrics");
    for line in ["plugpost_nodes 2\n", "plugpost_nodes_differing 1\n"] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    let ran = ask(engines[1].admin);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains("  differs\n") && ran.stdout.contains("not serve the same folder"),
        "{ran:?}"
    );

    hubs[0].route("out", to(&receiver.url("/changed")));
    both("an agreement", &|it| it["agree"] == true);
    let [first, second] = engines;
    second.stop();
    eventually("one to be left", || (of(&nodes(&first), "number").len() == 1).then_some(()));
}

#[test]
fn a_file_has_one_node_itself() {
    let engine = Engine::start(&Hub::stored(None, "", ""));
    let nodes = engine.get("/v1/nodes").json();
    let data = nodes["data"].as_array().expect("a list");
    assert_eq!((data.len(), &nodes["agree"]), (1, &true.into()), "{nodes}");
    assert!(data[0]["name"].as_str().expect("a name").ends_with(&format!(":{}", engine.pid())));
    assert_eq!(data[0]["snapshot"].as_str().map(str::len), Some(64), "{nodes}");
    assert!(engine.get("/metrics").text().contains("plugpost_nodes 1\n"));
}
