//! Writing the log back into the file. That takes as long as many commits, so a thread does
//! it while they go on, with a connection of its own. It never comes to the end of a log that
//! grows: the little that is left then the writer does, after a commit. That log is done with,
//! and the next commit begins it anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};

use super::opening;

/// 8 MiB of 4 KiB pages. With more there is less to write, because what is in the log several
/// times is written once; and it takes a processor from those who deliver for longer.
const BEGUN_AT: u32 = 2048;

/// On a disk that cannot follow, the writer waits rather than let the log grow on.
const NEW_MAX: u32 = 4 * BEGUN_AT;

/// What may be left to the writer: as much as a large commit, which the thread would never
/// come to the end of.
const LEFT: u32 = 512;

/// What came while the thread wrote is less each time, but not without end.
const TIMES: usize = 4;

#[derive(Debug)]
pub(super) struct Checkpoints {
    path: PathBuf,
    /// How many frames the log has, as of the last commit.
    frames: Arc<AtomicU32>,
    /// How many it had when the last one was done.
    seen: u32,
    under_way: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// In place of this connection's own. They are to be asked after each commit of it.
    pub(super) fn of(connection: &mut Connection, path: &Path) -> rusqlite::Result<Self> {
        let frames = Arc::new(AtomicU32::new(0));
        let counted = frames.clone();
        connection.wal_hook(Some(move |_: &mut Wal, frames| {
            counted.store(u32::try_from(frames).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { path: path.into(), frames, seen: 0, under_way: None })
    }

    /// What one of them does not do, because the disk fails or somebody reads what it would
    /// overwrite, the next one does: nothing of the log is given up before.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        let frames = self.frames.load(Ordering::Relaxed);
        if frames < self.seen {
            self.seen = 0;
        }
        let new = frames - self.seen;
        if let Some(done) = self.under_way.take_if(|it| it.is_finished() || new >= NEW_MAX) {
            let _ = done.join();
        } else if self.under_way.is_some() || new < BEGUN_AT || self.begin() {
            return;
        }
        let _ = connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE);
        self.seen = frames;
    }

    /// Whether there is a thread for it.
    fn begin(&mut self) -> bool {
        let (path, frames) = (self.path.clone(), self.frames.clone());
        let thread = thread::Builder::new().name("queue-checkpoint".into());
        let begun = thread.spawn(move || {
            if let Err(error) = write_back(&path, &frames) {
                tracing::warn!(%error, "the store's log is not written back");
            }
        });
        self.under_way = begun.ok();
        self.under_way.is_some()
    }
}

/// The connection that it belongs to is to be the last.
impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(thread) = self.under_way.take() {
            let _ = thread.join();
        }
    }
}

fn write_back(path: &Path, frames: &AtomicU32) -> rusqlite::Result<()> {
    let connection = opening::connect(path)?;
    // A connection knows that there is a log when it has read.
    connection.pragma_query_value(None, "schema_version", |_| Ok(()))?;
    for _ in 0..TIMES {
        let (_, written) = connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE)?;
        let written = u32::try_from(written).unwrap_or_default();
        if frames.load(Ordering::Relaxed).saturating_sub(written) <= LEFT {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A commit of about seventeen frames; how many the log has then.
    fn commit(connection: &Connection, checkpoints: &mut Checkpoints) -> u32 {
        let sql = "INSERT INTO notes (tenant, plugin, name, value)
                   VALUES ('t', 'p', hex(randomblob(16)), hex(randomblob(32768)))";
        connection.execute(sql, []).expect("a note");
        checkpoints.after_commit(connection);
        checkpoints.frames.load(Ordering::Relaxed)
    }

    #[test]
    fn a_log_is_begun_anew_while_commits_go_on_and_when_nobody_reads_it_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let (mut connection, _lock) = opening::open(&path).expect("a store");
        let mut checkpoints = Checkpoints::of(&mut connection, &path).expect("its checkpoints");

        let reader = opening::connect(&path).expect("a reader");
        reader.execute_batch("BEGIN; SELECT count(*) FROM notes").expect("it reads");
        let (mut commits, mut frames) = (0, 0);
        while frames < 3 * BEGUN_AT {
            let now = commit(&connection, &mut checkpoints);
            assert!(now > frames, "frames that are read are overwritten");
            (commits, frames) = (commits + 1, now);
        }
        reader.execute_batch("COMMIT").expect("it has read");

        let most = frames + BEGUN_AT + NEW_MAX;
        for _ in 0..3 {
            loop {
                let now = commit(&connection, &mut checkpoints);
                commits += 1;
                assert!(now < most, "the log has {now} frames and grows on");
                if now < std::mem::replace(&mut frames, now) {
                    break;
                }
            }
        }
        drop(checkpoints);
        let ask = |sql| reader.query_row(sql, [], |row| row.get::<_, String>(0));
        assert_eq!(ask("SELECT count(*) || '' FROM notes").expect("a count"), commits.to_string());
        assert_eq!(ask("PRAGMA integrity_check").expect("an answer"), "ok");
    }
}
