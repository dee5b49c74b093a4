//! A commit's frames in one piece. SQLite writes each page of its log in two calls to the
//! kernel; a commit of thirty pages is sixty. Here files of the log hold what is written end
//! to end, until it is synced or anything else is done with the file. All the rest, and every
//! other file, is the system's own.
//!
//! Nothing is held that a commit has promised: with `synchronous = FULL` SQLite syncs the log
//! before it says that a commit is made, to us or to those who read.

#![expect(unsafe_code, reason = "SQLite's interface to files is C")]

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

/// The name SQLite knows it by.
const NAME: &CStr = c"plugpost";

/// A buffer of a commit as large as most; what is larger goes out in several.
const HELD_BYTES_MAX: usize = 128 << 10;

type Close = unsafe extern "C" fn(*mut ffi::sqlite3_file) -> c_int;
type Read = unsafe extern "C" fn(*mut ffi::sqlite3_file, *mut c_void, c_int, i64) -> c_int;
type Write = unsafe extern "C" fn(*mut ffi::sqlite3_file, *const c_void, c_int, i64) -> c_int;
type Truncate = unsafe extern "C" fn(*mut ffi::sqlite3_file, i64) -> c_int;
type Sync = unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int) -> c_int;
type Size = unsafe extern "C" fn(*mut ffi::sqlite3_file, *mut i64) -> c_int;
type Open = unsafe extern "C" fn(
    *mut ffi::sqlite3_vfs,
    *const std::ffi::c_char,
    *mut ffi::sqlite3_file,
    c_int,
    *mut c_int,
) -> c_int;

/// What the system's files are opened with.
struct System {
    open: Open,
    /// A file's bytes. A file of the log has a pointer to its [`Log`] behind them.
    file_bytes: usize,
}

/// None where SQLite has nothing to begin with.
static SYSTEM: OnceLock<Option<System>> = OnceLock::new();

/// A file of the log: its own methods, the system's, and what is held.
struct Log {
    methods: ffi::sqlite3_io_methods,
    close: Close,
    read: Read,
    write: Write,
    truncate: Truncate,
    sync: Sync,
    size: Size,
    held: Vec<u8>,
    /// Where it goes.
    at: i64,
}

/// The name to open the store with. Without one the system's files do as they are.
pub(super) fn name() -> Option<&'static CStr> {
    SYSTEM.get_or_init(register).as_ref().map(|_| NAME)
}

fn register() -> Option<System> {
    // SAFETY: a VFS that SQLite has found stays.
    let system = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()).as_ref()? };
    let file_bytes = usize::try_from(system.szOsFile).ok()?.next_multiple_of(8);
    let ours = Box::new(ffi::sqlite3_vfs {
        zName: NAME.as_ptr(),
        pNext: std::ptr::null_mut(),
        szOsFile: c_int::try_from(file_bytes + size_of::<*mut Log>()).ok()?,
        xOpen: Some(open),
        ..*system
    });
    let open = system.xOpen?;
    // SAFETY: it is whole, and nobody frees it.
    let registered = unsafe { ffi::sqlite3_vfs_register(Box::leak(ours), 0) };
    (registered == ffi::SQLITE_OK).then_some(System { open, file_bytes })
}

/// As the system opens it; a file of the log gets methods of ours on top.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const std::ffi::c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let Some(Some(system)) = SYSTEM.get() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: all of it is as SQLite gave it, and there is room for a pointer behind the file.
    unsafe {
        let result = (system.open)(vfs, name, file, flags, flags_out);
        if result != ffi::SQLITE_OK || flags & ffi::SQLITE_OPEN_WAL == 0 {
            return result;
        }
        if let Some(log) = (*file).pMethods.as_ref().and_then(Log::over) {
            let log = Box::into_raw(Box::new(log));
            file.byte_add(system.file_bytes).cast::<*mut Log>().write(log);
            (*file).pMethods = &raw const (*log).methods;
        }
        result
    }
}

impl Log {
    fn over(system: &ffi::sqlite3_io_methods) -> Option<Self> {
        let methods = ffi::sqlite3_io_methods {
            xClose: Some(close),
            xRead: Some(read),
            xWrite: Some(write),
            xTruncate: Some(truncate),
            xSync: Some(sync),
            xFileSize: Some(size),
            ..*system
        };
        Some(Self {
            methods,
            close: system.xClose?,
            read: system.xRead?,
            write: system.xWrite?,
            truncate: system.xTruncate?,
            sync: system.xSync?,
            size: system.xFileSize?,
            held: Vec::with_capacity(HELD_BYTES_MAX),
            at: 0,
        })
    }

    /// Hold it where it follows what is held; otherwise that goes out before.
    ///
    /// # Safety
    /// `file` is this log's.
    unsafe fn hold(&mut self, file: *mut ffi::sqlite3_file, bytes: &[u8], at: i64) -> c_int {
        let follows = self.at + self.held.len() as i64 == at;
        if !follows || self.held.len() + bytes.len() > HELD_BYTES_MAX {
            // SAFETY: as promised to this function.
            let result = unsafe { self.let_go(file) };
            if result != ffi::SQLITE_OK {
                return result;
            }
            self.at = at;
        }
        self.held.extend_from_slice(bytes);
        ffi::SQLITE_OK
    }

    /// Write what is held. If that fails it is gone, like a write of SQLite's own that fails:
    /// the transaction it belongs to fails with it.
    ///
    /// # Safety
    /// `file` is this log's.
    unsafe fn let_go(&mut self, file: *mut ffi::sqlite3_file) -> c_int {
        if self.held.is_empty() {
            return ffi::SQLITE_OK;
        }
        let Ok(length) = c_int::try_from(self.held.len()) else { return ffi::SQLITE_IOERR_WRITE };
        // SAFETY: the system's own method, on its own file.
        let result = unsafe { (self.write)(file, self.held.as_ptr().cast(), length, self.at) };
        self.held.clear();
        result
    }
}

/// The log of a file that [`open`] has made one of.
///
/// # Safety
/// The file has our methods, and SQLite calls one of them at a time.
unsafe fn of<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Log {
    let system = SYSTEM.get().and_then(Option::as_ref).expect("it has opened this file");
    // SAFETY: the pointer was written when the file got the methods.
    unsafe { &mut **file.byte_add(system.file_bytes).cast::<*mut Log>() }
}

/// Let go what is held and then do what the system does.
macro_rules! then {
    ($file:ident, $method:ident($($argument:expr),*)) => {{
        // SAFETY: SQLite calls this for a file with our methods, with arguments that are right.
        unsafe {
            let log = of($file);
            match log.let_go($file) {
                ffi::SQLITE_OK => (log.$method)($file, $($argument),*),
                error => error,
            }
        }
    }};
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    let Ok(length) = usize::try_from(length) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite calls this for a file with our methods, with so many bytes.
    unsafe { of(file).hold(file, std::slice::from_raw_parts(bytes.cast(), length), at) }
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    bytes: *mut c_void,
    length: c_int,
    at: i64,
) -> c_int {
    then!(file, read(bytes, length, at))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    then!(file, truncate(size))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    then!(file, sync(flags))
}

unsafe extern "C" fn size(file: *mut ffi::sqlite3_file, bytes: *mut i64) -> c_int {
    then!(file, size(bytes))
}

/// Closed it is in any case; that what is held could not be written is told.
unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite calls this for a file with our methods, and none of them after it. The
    // log came from a box.
    unsafe {
        let log: *mut Log = of(file);
        let held = (*log).let_go(file);
        let closed = ((*log).close)(file);
        drop(Box::from_raw(log));
        if held == ffi::SQLITE_OK { closed } else { held }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, OpenFlags};

    use super::*;

    /// More than the cache has room for: pages go into the log before the commit, and are
    /// read out of it again.
    #[test]
    fn what_is_held_is_read_and_rolled_back_and_committed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("store.db");
        let flags = OpenFlags::default();
        let name = name().expect("SQLite has a VFS");
        let writer = Connection::open_with_flags_and_vfs(&path, flags, name).expect("it opens");
        let reader = Connection::open(&path).expect("it opens");
        let wal = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = 8;
                   CREATE TABLE numbers (id INTEGER PRIMARY KEY, text TEXT NOT NULL);";
        writer.execute_batch(wal).expect("a WAL");
        let count = |connection: &Connection| -> i64 {
            let sql = "SELECT count(*) FROM numbers WHERE text = printf('%0900d', id)";
            connection.query_row(sql, [], |row| row.get(0)).expect("a count")
        };
        let fill = "BEGIN; WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
                    WHERE i < 1000) INSERT INTO numbers SELECT i, printf('%0900d', i) FROM n;";
        for (end, after) in [("ROLLBACK", 0), ("COMMIT", 1000)] {
            writer.execute_batch(fill).expect("rows");
            assert_eq!((count(&writer), count(&reader)), (1000, 0));
            writer.execute_batch(end).expect("an end");
            assert_eq!((count(&writer), count(&reader)), (after, after));
        }
        writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM numbers").expect("both");
        assert_eq!((count(&writer), count(&reader)), (0, 0));
        let sound: String =
            reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
        assert_eq!(sound, "ok");
    }
}
