//! Losses of power: what was not synced is gone, or there in part. A kill cannot
//! see a sync that is missing; this can.

use std::path::Path;

use super::Run;
use super::disk::{Dial, Disk, Lost};
use super::load::Scene;
use super::oracle::Findings;
use crate::support::{beside_the_engine, measuring};

/// Losses on one store: the whole of it is worked out anew after each.
const OF_ONE_STORE: usize = 20;

#[test]
fn losses_of_power_lose_nothing_and_change_nothing() {
    let _measuring = measuring();
    let mut run = Run::begin("losses of power", 8, 300);
    let engine = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let (mut all, mut unsynced) = (Findings::default(), Lost::default());
    let mut left = run.rounds;
    while left > 0 {
        let losses = left.min(OF_ONE_STORE);
        left -= losses;
        let mut disk = Disk::new();
        let mut scene = Scene::new();
        for _ in 0..losses {
            scene.kill_under_load(disk.command(engine, &scene.hub), &mut run.rng);
            let lost = disk.lose_power(&scene.hub, &mut run.rng);
            unsynced.add(lost);
            scene.note_in_hand();
        }
        let last = disk.command(engine, &scene.hub);
        all.add(scene.judge(last));
    }
    run.end((&all, unsynced));
    all.assert_sound();
    assert!(all.acknowledged > 10 * run.rounds, "too little load to say anything: {all:?}");
    assert!(unsynced.changes > 0, "nothing was lost: {unsynced:?}");
}

/// Two ways to acknowledge what is not on disk yet: an engine that does not wait for
/// the commit, and a disk that says it has synced and has not.
#[test]
fn losses_of_power_find_what_was_not_synced() {
    let _measuring = measuring();
    let mut run = Run::begin("losses of power, controls", 20, 20);
    let engine = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let control = beside_the_engine("plugpost-control", "make control");
    for (binary, lie) in [(control.as_path(), 0), (engine, 1)] {
        let found = (1..=run.rounds).find_map(|losses| {
            let mut disk = Disk::new();
            let mut scene = Scene::new();
            // A store to begin with, on an honest disk.
            scene.kill_under_load(disk.command(engine, &scene.hub), &mut run.rng);
            disk.lose_power_but(0.0, &scene.hub, &mut run.rng);
            scene.note_in_hand();
            disk.set(Dial::Lie, lie);
            scene.kill_under_load(disk.command(binary, &scene.hub), &mut run.rng);
            disk.lose_power_but(0.0, &scene.hub, &mut run.rng);
            scene.note_in_hand();
            disk.set(Dial::Lie, 0);
            let last = disk.command(engine, &scene.hub);
            let found = scene.judge(last);
            // What a receiver had got already is missing from the log.
            (found.lost + found.unlogged > 0).then_some((losses, found))
        });
        let found = found.unwrap_or_else(|| panic!("{binary:?}, lie {lie}: nothing lost"));
        run.end(found);
    }
}

impl Lost {
    fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.kept += other.kept;
        self.in_part += other.in_part;
    }
}
