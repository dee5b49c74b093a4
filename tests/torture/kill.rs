//! `kill -9`: the process is gone, what it told the system is not.

use std::path::Path;
use std::process::Command;

use super::Run;
use super::load::Scene;
use super::oracle::Findings;
use crate::support::engine::command;
use crate::support::{beside_the_engine, measuring};

/// Kills of one store; more of them need another one, or it grows and grows.
const OF_ONE_STORE: usize = 50;

#[test]
fn kills_lose_nothing_and_change_nothing() {
    let _measuring = measuring();
    let mut run = Run::begin("kills", 15, 1000);
    let engine = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let mut all = Findings::default();
    let mut left = run.rounds;
    while left > 0 {
        let kills = left.min(OF_ONE_STORE);
        left -= kills;
        all.add(kill(engine, kills, &mut run));
    }
    run.end(&all);
    all.assert_sound();
    assert!(all.acknowledged > 10 * run.rounds, "too little load to say anything: {all:?}");
}

#[test]
fn the_kills_find_an_acknowledgement_before_the_commit() {
    let _measuring = measuring();
    let mut run = Run::begin("kills of the control", 50, 50);
    let control = beside_the_engine("plugpost-control", "make control");
    for kills in 1..=run.rounds {
        let found = kill(&control, 1, &mut run);
        if found.lost > 0 {
            run.end((kills, found));
            return;
        }
    }
    panic!("{} kills of an engine that acknowledges before the commit: nothing lost", run.rounds);
}

fn kill(binary: &Path, kills: usize, run: &mut Run) -> Findings {
    let mut scene = Scene::new();
    for _ in 0..kills {
        scene.kill_under_load(serve(binary, &scene), &mut run.rng);
        scene.note_in_hand();
    }
    let last = serve(binary, &scene);
    scene.judge(last)
}

fn serve(binary: &Path, scene: &Scene) -> Command {
    let mut command = command(binary);
    command.arg("serve").arg(scene.hub.path());
    command
}
