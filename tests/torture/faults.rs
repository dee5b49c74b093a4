//! A disk that fails: each write, truncation and sync that a short life makes fails
//! once, or from then on. What is not on disk is not acknowledged, and what is
//! acknowledged is delivered when the disk is well again.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::Run;
use super::disk::{Dial, Disk, SYNCS, TRUNCATIONS, WRITES};
use super::load::{Scene, drained, pending};
use super::oracle::Findings;
use crate::support::engine::{Ended, Engine};
use crate::support::{beside_the_engine, eventually, measuring};

/// Of a short life.
const EVENTS: usize = 4;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    kinds: i64,
    errno: i32,
    /// Only this call; else all from it on.
    once: bool,
}

const FAULTS: [Fault; 4] = [
    Fault { kinds: WRITES | TRUNCATIONS | SYNCS, errno: EIO, once: true },
    Fault { kinds: WRITES | TRUNCATIONS | SYNCS, errno: EIO, once: false },
    Fault { kinds: WRITES | TRUNCATIONS, errno: ENOSPC, once: true },
    Fault { kinds: WRITES | TRUNCATIONS, errno: ENOSPC, once: false },
];

/// What became of the engines.
#[derive(Debug, Default)]
struct Ends {
    /// Did not begin: said why.
    did_not_start: usize,
    /// Ended when the disk failed: said why.
    ended: usize,
    /// Refused some events meanwhile, and went on.
    refused: usize,
    /// Nobody outside could tell.
    untroubled: usize,
}

#[test]
fn a_disk_that_fails_at_any_call_loses_nothing() {
    let _measuring = measuring();
    let mut disk = Disk::new();
    let calls = calls_of_a_life(&mut disk);
    let all = usize::try_from(calls).expect("some hundred") * FAULTS.len();
    let mut run = Run::begin("disk faults", 12, all);
    let (mut found, mut ends, mut failed) = (Findings::default(), Ends::default(), 0);
    let first = run.rng.usize(..all.div_ceil(run.rounds));
    for at in (first..all).step_by((all / run.rounds).max(1)) {
        let call = i64::try_from(at / FAULTS.len()).expect("some hundred") + 1;
        disk.wipe();
        let fault = FAULTS[at % FAULTS.len()];
        found.add(life(engine(), &mut disk, call, fault, &mut run, &mut ends));
        failed += disk.get(Dial::Failed);
    }
    run.end((calls, &found, &ends, failed));
    found.assert_sound();
    assert!(failed > 0 && ends.did_not_start + ends.ended + ends.refused > 0, "{ends:?}");
    let in_full = run.rounds == all;
    assert!(!in_full || (ends.did_not_start > 0 && ends.ended > 0 && ends.refused > 0), "{ends:?}");
}

/// With a rollback journal instead, a loss of power takes the last commit back.
#[test]
fn a_store_that_does_not_come_to_a_wal_is_not_opened() {
    let _measuring = measuring();
    let mut disk = Disk::new();
    let (mut opened, mut refused) = (0, 0);
    for call in 1..=12 {
        disk.wipe();
        let scene = Scene::new();
        disk.fail(call, call, WRITES | TRUNCATIONS | SYNCS, EIO);
        match Engine::try_start(disk.command(engine(), &scene.hub), &scene.hub) {
            Err(ended) => {
                refused += 1;
                says_why(&ended, &format!("call {call}"));
            }
            Ok(engine) => {
                opened += 1;
                drop(engine.kill());
                let store = fs::read(scene.hub.store()).expect("the store");
                // The file format's versions for writing and reading: 1 a journal, 2 a WAL.
                assert_eq!(store[18..20], [2, 2], "after call {call} failed");
            }
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

/// It has acknowledged already when the disk refuses what is to be kept.
#[test]
fn the_disk_faults_find_an_acknowledgement_before_the_commit() {
    let _measuring = measuring();
    let mut run = Run::begin("disk faults of the control", 200, 200);
    let control = beside_the_engine("plugpost-control", "make control");
    let mut disk = Disk::new();
    let calls = calls_of_a_life(&mut disk);
    let mut ends = Ends::default();
    for lives in 1..=run.rounds {
        let (call, fault) = (run.rng.i64(1..=calls), *run.rng.choice(&FAULTS).expect("some"));
        disk.wipe();
        let found = life(&control, &mut disk, call, fault, &mut run, &mut ends);
        if found.lost > 0 {
            run.end((lives, (call, fault), found, ends));
            return;
        }
    }
    panic!("{} lives of an engine that acknowledges before the commit: nothing lost", run.rounds);
}

/// How many calls a life without faults makes.
fn calls_of_a_life(disk: &mut Disk) -> i64 {
    disk.wipe();
    let mut scene = Scene::new();
    let engine = Engine::start_command(disk.command(engine(), &scene.hub), &scene.hub);
    assert_eq!(scene.send_some(&engine, EVENTS), 0);
    drained(&scene.hub);
    assert_eq!(engine.stop().status, Some(0));
    let calls = disk.get(Dial::Calls);
    assert!(calls > 50, "{calls} calls: are they seen?");
    calls
}

fn life(
    binary: &Path,
    disk: &mut Disk,
    call: i64,
    fault: Fault,
    run: &mut Run,
    ends: &mut Ends,
) -> Findings {
    let mut scene = Scene::new();
    let place = format!("call {call}, {fault:?}");
    let last = if fault.once { call } else { i64::MAX };
    disk.fail(call, last, fault.kinds, fault.errno);
    match Engine::try_start(disk.command(binary, &scene.hub), &scene.hub) {
        Err(ended) => {
            ends.did_not_start += 1;
            says_why(&ended, &place);
        }
        Ok(mut engine) => {
            let refused = scene.send_some(&engine, EVENTS);
            disk.heal();
            // Well again, it takes events and delivers all it has, unless it ends.
            let mut taken = false;
            let ended = eventually("it to go on, or to end", || {
                let ended = engine.has_ended();
                taken = taken || (!ended && scene.send_some(&engine, 2) == 0);
                (ended || (taken && pending(&scene.hub) == 0)).then_some(ended)
            });
            if ended {
                ends.ended += 1;
                says_why(&engine.end(Instant::now()), &place);
            } else {
                *(if refused > 0 { &mut ends.refused } else { &mut ends.untroubled }) += 1;
                let ended = engine.kill();
                assert!(!ended.stderr.contains("panicked"), "{place}: {}", ended.stderr);
            }
        }
    }
    // Whatever a failed sync left behind may be gone with the power.
    disk.heal();
    disk.lose_power(&scene.hub, &mut run.rng);
    scene.note_in_hand();
    let last = disk.command(engine(), &scene.hub);
    scene.judge(last)
}

fn engine() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_plugpost"))
}

/// An engine that ended says where and why, and did not panic.
fn says_why(ended: &Ended, place: &str) {
    let Ended { status, stderr, .. } = ended;
    assert_eq!(*status, Some(1), "{place}: {stderr}");
    assert!(!stderr.contains("panicked"), "{place}: {stderr}");
    assert!(stderr.contains("plugpost.db") || stderr.contains("disk"), "{place}: {stderr}");
}
