//! A disk that is full for a while, under load: nothing more is taken in, nothing
//! that was is lost, and when there is room again it goes on by itself.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Run;
use super::disk::{Dial, Disk};
use super::load::Scene;
use crate::support::engine::Engine;
use crate::support::{beside_the_engine, eventually, measuring};

/// Bytes that are left when it begins: none, less than a page, some transactions.
const ROOM_MAX: i64 = 200_000;

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let _measuring = measuring();
    let mut run = Run::begin("full disks", 2, 60);
    let binary = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let (disk, mut scene) = (Disk::new(), Scene::new());
    let (mut killed, mut refused) = (0, 0);
    let mut engine = Engine::start_command(disk.command(binary, &scene.hub), &scene.hub);
    for _ in 0..run.rounds {
        let room = run.rng.i64(0..ROOM_MAX);
        let before = scene.refused_and_taken();
        let again = scene.under_load(&engine, |watch| {
            thread::sleep(Duration::from_millis(run.rng.u64(10..200)));
            disk.set(Dial::Room, room + 1);
            eventually("a full disk to be noticed", || {
                (watch.refused_and_taken().0 > before.0 + 5).then_some(())
            });
            if run.rng.u8(..3) == 0 {
                return true;
            }
            disk.heal();
            let (_, taken) = watch.refused_and_taken();
            eventually("events to be taken again", || {
                (watch.refused_and_taken().1 > taken + 20).then_some(())
            });
            false
        });
        refused = scene.refused_and_taken().0;
        if again {
            // Killed while the disk is full, and started when it is not.
            let ended = engine.kill();
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            killed += 1;
            disk.heal();
            scene.note_in_hand();
            engine = Engine::start_command(disk.command(binary, &scene.hub), &scene.hub);
        }
    }
    let ended = engine.kill();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    scene.note_in_hand();
    let last = disk.command(binary, &scene.hub);
    let found = scene.judge(last);
    run.end((&found, refused, killed));
    found.assert_sound();
}

/// It answers 202 to everything, and keeps what there is room for.
#[test]
fn the_full_disks_find_an_acknowledgement_before_the_commit() {
    let _measuring = measuring();
    let mut run = Run::begin("full disks of the control", 20, 20);
    let engine = Path::new(env!("CARGO_BIN_EXE_plugpost"));
    let control = beside_the_engine("plugpost-control", "make control");
    for times in 1..=run.rounds {
        let (disk, mut scene) = (Disk::new(), Scene::new());
        let serving = Engine::start_command(disk.command(&control, &scene.hub), &scene.hub);
        let room = run.rng.i64(0..ROOM_MAX);
        scene.under_load(&serving, |watch| {
            disk.set(Dial::Room, room + 1);
            eventually("more than there is room for", || {
                (watch.refused_and_taken().1 > 1000).then_some(())
            });
            disk.heal();
        });
        serving.kill();
        scene.note_in_hand();
        let last = disk.command(engine, &scene.hub);
        let found = scene.judge(last);
        if found.lost > 0 {
            run.end((times, found));
            return;
        }
    }
    panic!("{} full disks of an engine that acknowledges all the same: nothing lost", run.rounds);
}
