//! What makes a file a store: it is nobody else's, a commit to it is on disk when it
//! returns, and its tables are of today.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{broken, frames};
use crate::queue::QueueError;

/// The tables, as `user_version` counts them: one step a schema change, never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/0001_init.sql"),
    include_str!("../../../migrations/0002_lanes.sql"),
    include_str!("../../../migrations/0003_search.sql"),
    include_str!("../../../migrations/0004_subscriptions.sql"),
    include_str!("../../../migrations/0005_notes.sql"),
    include_str!("../../../migrations/0006_sums.sql"),
    include_str!("../../../migrations/0007_clock.sql"),
    include_str!("../../../migrations/0008_bodies.sql"),
    include_str!("../../../migrations/0009_undelivered.sql"),
];

/// The first SQLite without the bug that lets a WAL reset corrupt a database
/// (3.7.0 to 3.51.2).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Page cache of the writer: the recent leaves of every index fit many times over. It is
/// no larger, because SQLite walks through all of it at many a commit.
const CACHE_KIB: i64 = 4 * 1024;

/// What a delivery uses is among them and stays.
const STATEMENTS: usize = 64;

/// A connection to the store, and what keeps other processes out for as long as it lives.
pub(super) fn open(path: &Path) -> Result<(Connection, File), QueueError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(broken("this SQLite is older than 3.51.3 and can corrupt a database"));
    }
    let lock = lock(path)?;
    let mut connection = connect(path)?;
    into_wal(&connection)?;
    // FULL: a commit is on disk, not only in the operating system, when it returns.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // What a disk has changed is found when it is read, where it can be.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection)?;
    Ok((connection, lock))
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    match frames::name() {
        Some(name) => Connection::open_with_flags_and_vfs(path, OpenFlags::default(), name),
        None => Connection::open(path),
    }
}

/// One process per file. SQLite's own locks would let a second one in.
fn lock(path: &Path) -> Result<File, QueueError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let in_lock = |error: std::io::Error| broken(&format!("{}: {error}", lock_path.display()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(in_lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(broken(&format!("{} is in use by another process", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(in_lock(error)),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), QueueError> {
    let at: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let at = usize::try_from(at).unwrap_or_default();
    if at > MIGRATIONS.len() {
        return Err(broken("the store was written by a newer plugpost"));
    }
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(at) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", step as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// A store that stays with its rollback journal, because the disk failed or knows no shared
/// memory, is no store: a commit to that is the removal of a file, which a loss of power
/// takes back. SQLite names the new mode first and goes into it when it is asked for more.
fn into_wal(connection: &Connection) -> Result<(), QueueError> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let modes: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    match modes.concat().as_str() {
        "wal" => Ok(()),
        mode => Err(broken(&format!(
            "SQLite keeps no WAL here but a journal `{mode}`: put the store on a disk of this machine"
        ))),
    }
}
