//! The disk and the clock that an engine sees: `disk.c` in front of the system's,
//! in the real binary. It fails as it is told, and after a loss of power it holds
//! what was synced and, of what was not, whatever luck kept.

use std::fs::{self, File, OpenOptions};
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use tempfile::TempDir;

use crate::support::engine::command;
use crate::support::hub::Hub;
use crate::support::{root, shell};

/// A disk for the store of one hub after the other.
#[derive(Debug)]
pub(super) struct Disk {
    folder: TempDir,
    dials: File,
    /// What is on it, whatever happens. Empty for one whose power is never lost.
    durable: [Entry; FILES],
}

/// A file of the store; none when there is no such file.
type Entry = Option<Vec<u8>>;

/// The database, its WAL and its rollback journal.
const FILES: usize = 3;
const SUFFIXES: [&str; FILES] = ["", "-wal", "-journal"];

/// The numbers that `disk.c` reads, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dial {
    Calls,
    FailFirst,
    FailLast,
    FailKinds,
    FailErrno,
    Failed,
    Lie,
    Room,
    ClockOffset,
}

const DIALS: usize = 9;

pub(super) const WRITES: i64 = 1;
pub(super) const TRUNCATIONS: i64 = 2;
pub(super) const SYNCS: i64 = 4;

/// What was not synced when the power was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    pub(super) changes: usize,
    /// Of them, those that reached the disk all the same, and those that did in part.
    pub(super) kept: usize,
    pub(super) in_part: usize,
}

/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

/// What a system writes back by itself.
const PAGE: usize = 4096;

impl Disk {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (library, source) =
            (folder.path().join("disk.so"), root().join("tests/torture/disk.c"));
        let line = "${CC:-cc} -shared -fPIC -O1 -Wall -o \"$1\" \"$2\" -ldl -lpthread";
        let built = shell(line, &[library.as_os_str(), source.as_os_str()]).status();
        assert!(built.is_ok_and(|it| it.success()), "a C compiler makes {}", source.display());
        let dials = folder.path().join("dials");
        fs::write(&dials, [0; DIALS * 8]).expect("a file");
        let dials = OpenOptions::new().read(true).write(true).open(dials).expect("a file");
        Self { folder, dials, durable: Default::default() }
    }

    /// A command that serves this hub with its store on this disk.
    pub(super) fn command(&self, binary: &Path, hub: &Hub) -> Command {
        let mut command = command(binary);
        let folder = hub.path().canonicalize().expect("the hub is there");
        command
            .env("LD_PRELOAD", self.folder.path().join("disk.so"))
            .env("TORTURE_STORE", folder.join("plugpost.db"))
            .env("TORTURE_DIAL", self.folder.path().join("dials"))
            .env("TORTURE_JOURNAL", self.journal())
            .arg("serve")
            .arg(folder);
        command
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub(super) fn set(&self, dial: Dial, value: i64) {
        let at = dial as u64 * 8;
        self.dials.write_all_at(&value.to_le_bytes(), at).expect("a file");
    }

    pub(super) fn get(&self, dial: Dial) -> i64 {
        let mut bytes = [0; 8];
        self.dials.read_exact_at(&mut bytes, dial as u64 * 8).expect("a file");
        i64::from_le_bytes(bytes)
    }

    /// From the `first` to the `last` call, those of these kinds fail so.
    pub(super) fn fail(&self, first: i64, last: i64, kinds: i64, errno: i32) {
        self.set(Dial::FailLast, last);
        self.set(Dial::FailKinds, kinds);
        self.set(Dial::FailErrno, errno.into());
        self.set(Dial::FailFirst, first);
    }

    /// All is well again.
    pub(super) fn heal(&self) {
        self.set(Dial::FailFirst, 0);
        self.set(Dial::Room, 0);
    }

    /// An empty disk, for another store.
    pub(super) fn wipe(&mut self) {
        self.heal();
        for dial in [Dial::Calls, Dial::Failed, Dial::Lie] {
            self.set(dial, 0);
        }
        self.durable = Default::default();
        fs::write(self.journal(), []).expect("a file");
    }

    /// The power is gone, and the engine with it. Each change that was not synced is
    /// on the disk by luck, one in so many of its sectors alone.
    pub(super) fn lose_power(&mut self, hub: &Hub, rng: &mut Rng) -> Lost {
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][rng.usize(..5)];
        self.lose_power_but(kept, hub, rng)
    }

    /// The same, and this share of the changes that were not synced is there.
    pub(super) fn lose_power_but(&mut self, share: f64, hub: &Hub, rng: &mut Rng) -> Lost {
        let mut lost = Lost::default();
        let mut files = mem::take(&mut self.durable).map(Contents::of);
        let journal = fs::read(self.journal()).expect("the journal");
        replay(&journal, &mut files);
        self.durable = files.map(|it| it.after_the_loss(share, rng, &mut lost));
        for (entry, suffix) in self.durable.iter().zip(SUFFIXES) {
            let path = hub.path().join(format!("plugpost.db{suffix}"));
            match entry {
                Some(bytes) => fs::write(path, bytes).expect("a file"),
                None => drop(fs::remove_file(path)),
            }
        }
        // It is memory: nothing of it outlives the system.
        let _ = fs::remove_file(hub.path().join("plugpost.db-shm"));
        fs::write(self.journal(), []).expect("a file");
        lost
    }
}

/// A name in the folder, on disk and as the engine sees it. They differ between a
/// creation or a removal and the next sync of the folder.
struct Contents {
    on_disk: Option<usize>,
    seen: Option<usize>,
    files: Vec<Synced>,
}

/// A file: what is on disk, and what was done since.
#[derive(Default)]
struct Synced {
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// Of `struct record` in `disk.c`.
const RECORD: usize = 24;

fn replay(mut journal: &[u8], names: &mut [Contents; FILES]) {
    let number = |bytes: &[u8]| {
        let number = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        usize::try_from(number).expect("it fits in memory")
    };
    // The engine may have been killed while it wrote a record: then its change was
    // not made yet.
    while let Some((record, rest)) = journal.split_at_checked(RECORD) {
        let (what, file) = (record[0], usize::from(record[1]));
        let (offset, length) = (number(&record[8..16]), number(&record[16..]));
        let taken = if what == b'w' { length } else { 0 };
        let Some((bytes, rest)) = rest.split_at_checked(taken) else { return };
        journal = rest;
        match what {
            b'd' => names.iter_mut().for_each(|it| it.on_disk = it.seen),
            b'c' => names[file].create(),
            b'u' => names[file].seen = None,
            b's' => names[file].seen().sync(),
            b't' => names[file].seen().changes.push(Change::Truncate(offset)),
            b'w' => names[file].seen().write(offset, bytes),
            other => panic!("a record of kind {other} in the journal"),
        }
    }
}

impl Contents {
    fn of(entry: Entry) -> Self {
        let there = entry.is_some().then_some(0);
        let files = entry.map(|bytes| Synced { bytes, changes: Vec::new() });
        Self { on_disk: there, seen: there, files: files.into_iter().collect() }
    }

    fn create(&mut self) {
        self.seen = Some(self.files.len());
        self.files.push(Synced::default());
    }

    fn seen(&mut self) -> &mut Synced {
        let seen = self.seen.expect("what is changed is there");
        &mut self.files[seen]
    }

    fn after_the_loss(mut self, share: f64, rng: &mut Rng, lost: &mut Lost) -> Entry {
        // A name that was not synced either is there or is not.
        let name = if rng.f64() < share { self.seen } else { self.on_disk };
        let file = &mut self.files[name?];
        for change in mem::take(&mut file.changes) {
            lost.changes += 1;
            if rng.f64() < share {
                lost.kept += 1;
                change.apply(&mut file.bytes);
            } else if share > 0.0 && rng.u8(..10) == 0 {
                lost.in_part += 1;
                change.apply_in_part(&mut file.bytes, rng);
            }
        }
        Some(mem::take(&mut file.bytes))
    }
}

impl Synced {
    /// Page by page: one may reach the disk without the other.
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let pages = pieces(offset, bytes, PAGE);
        self.changes.extend(pages.map(|(offset, page)| Change::Write(offset, page.to_vec())));
    }

    fn sync(&mut self) {
        for change in mem::take(&mut self.changes) {
            change.apply(&mut self.bytes);
        }
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => write(file, *offset, bytes),
            Self::Truncate(length) => file.resize(*length, 0),
        }
    }

    fn apply_in_part(&self, file: &mut Vec<u8>, rng: &mut Rng) {
        let Self::Write(offset, bytes) = self else { return };
        for (offset, sector) in pieces(*offset, bytes, SECTOR) {
            if rng.bool() {
                write(file, offset, sector);
            }
        }
    }
}

/// What a write is in blocks of that size, each with where it goes.
fn pieces(
    mut offset: usize,
    mut bytes: &[u8],
    size: usize,
) -> impl Iterator<Item = (usize, &[u8])> {
    std::iter::from_fn(move || {
        let piece = bytes.split_off(..(size - offset % size).min(bytes.len()))?;
        let at = offset;
        offset += piece.len();
        (!piece.is_empty()).then_some((at, piece))
    })
}

fn write(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

#[test]
fn what_was_synced_is_there_after_a_loss_of_power_and_nothing_else_need_be() {
    let mut journal = Vec::new();
    let mut note = |what: u8, file: u8, offset: u64, bytes: &[u8]| {
        journal.extend_from_slice(&[what, file, 0, 0, 0, 0, 0, 0]);
        journal.extend_from_slice(&offset.to_le_bytes());
        journal.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        journal.extend_from_slice(bytes);
    };
    note(b'c', 0, 0, b"");
    note(b'w', 0, 0, b"synced");
    note(b's', 0, 0, b"");
    note(b'd', 4, 0, b"");
    note(b'w', 0, 2, b"---");
    note(b'c', 1, 0, b"");
    note(b'w', 1, 0, b"no name");
    note(b's', 1, 0, b"");
    let after = |share: f64| {
        let mut files = [const { None }; FILES].map(Contents::of);
        replay(&journal, &mut files);
        let (mut rng, mut lost) = (Rng::with_seed(7), Lost::default());
        files.map(|it| it.after_the_loss(share, &mut rng, &mut lost))
    };
    assert_eq!(after(0.0), [Some(b"synced".to_vec()), None, None]);
    assert_eq!(after(1.0), [Some(b"sy---d".to_vec()), Some(b"no name".to_vec()), None]);
}
