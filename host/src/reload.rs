//! Changing what is in force while the engine runs.
//!
//! Folders are watched, with a slow look at every file behind that for file
//! systems that tell nothing. When what changed has settled, the whole folder is
//! read and checked off the hot path; a good one is published as one snapshot, a
//! bad one changes nothing and its problems are kept to be asked for.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::allocator;
use crate::clock::{self, UnixMs};
use crate::config::Problem;
use crate::engine::Engine;
use crate::queue::Location;
use crate::snapshot::{Changes, Loader};

/// Asks for a reload, and tells how the last one went.
#[derive(Clone, Debug)]
pub(crate) struct Reloader {
    requests: mpsc::Sender<oneshot::Sender<Reloaded>>,
    last: Arc<Mutex<Option<Last>>>,
}

/// The last reload, whatever it found.
#[derive(Clone, Debug)]
pub(crate) struct Last {
    pub(crate) at: UnixMs,
    /// Empty when it was published.
    pub(crate) problems: Vec<Problem>,
}

/// How a reload went.
#[derive(Clone, Debug)]
pub(crate) enum Reloaded {
    Published {
        snapshot: u64,
        changes: Changes,
    },
    Unchanged {
        snapshot: u64,
    },
    /// The last good snapshot goes on.
    Refused(Vec<Problem>),
}

/// Files are left alone until nothing has happened to them for so long.
const SETTLE: Duration = Duration::from_millis(150);

/// A file that is open for writing is waited for, but not for ever: some writers
/// never close, some file systems never say so.
const SETTLE_MAX: Duration = Duration::from_secs(8);

/// The look at every file's metadata, for changes that nobody told of.
const POLL: Duration = Duration::from_secs(5);

/// Folders of a hub that are watched, besides the hub itself.
const FOLDERS: [&str; 3] = ["plugins", "routes", "sources"];

impl Reloader {
    /// Watch a folder for a running engine.
    pub(crate) fn start(engine: &Arc<Engine>, loader: Loader) -> anyhow::Result<Self> {
        let (requests, asked) = mpsc::channel(16);
        let (touched, touches) = mpsc::channel(1024);
        let last = Arc::default();
        let reloader = Self { requests, last: Arc::clone(&last) };
        // The paths that are told are absolute, whatever the folder was called.
        let folder = fs::canonicalize(loader.folder())?;
        let store = match &engine.snapshot().hub.store {
            Location::Sqlite(path) => path.parent().and_then(|it| fs::canonicalize(it).ok()),
            Location::Postgres(_) => None,
        };
        let files = Files::watch(&folder, store, touched, touches);
        let hangup = signal(SignalKind::hangup())?;
        let watch = Watch {
            engine: Arc::downgrade(engine),
            loader: Arc::new(Mutex::new(loader)),
            files,
            asked,
            hangup,
            last,
        };
        tokio::spawn(watch.run());
        Ok(reloader)
    }

    /// Reload now, and wait for the result.
    pub(crate) async fn reload(&self) -> Option<Reloaded> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).await.ok()?;
        answer.await.ok()
    }

    pub(crate) fn last(&self) -> Option<Last> {
        self.last.lock().clone()
    }
}

/// The task that reloads.
struct Watch {
    engine: std::sync::Weak<Engine>,
    loader: Arc<Mutex<Loader>>,
    files: Files,
    asked: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    hangup: tokio::signal::unix::Signal,
    last: Arc<Mutex<Option<Last>>>,
}

impl Watch {
    async fn run(mut self) {
        // Empty: what changed while the engine was starting is found as well.
        let mut seen = Vec::new();
        self.files.watch_secrets(self.loader.lock().secret_files());
        loop {
            let mut reply = None;
            let mut forced = false;
            tokio::select! {
                path = self.files.touches.recv() => self.files.note(path),
                asked = self.asked.recv() => {
                    // The engine that could ask is gone.
                    let Some(asked) = asked else { return };
                    (reply, forced) = (Some(asked), true);
                }
                _ = self.hangup.recv() => forced = true,
                () = sleep(POLL) => {}
            }
            self.files.settle().await;
            let now = self.fingerprint();
            if std::mem::replace(&mut seen, now.clone()) == now && !forced {
                continue;
            }
            let Some(reloaded) = self.reload().await else { return };
            self.files.watch_folders();
            self.files.watch_secrets(self.loader.lock().secret_files());
            if let Some(reply) = reply {
                let _ = reply.send(reloaded);
            }
        }
    }

    async fn reload(&self) -> Option<Reloaded> {
        let loader = self.loader.clone();
        // This thread goes on to do other things, or nothing, with what loading left in its
        // part of the heap.
        let load = move || {
            let loaded = loader.lock().load();
            allocator::give_back();
            loaded
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let engine = self.engine.upgrade()?;
        let snapshot = engine.snapshot().number;
        let reloaded = match loaded {
            Ok(Ok((next, changes))) if changes.is_empty() => {
                drop(next);
                Reloaded::Unchanged { snapshot }
            }
            Ok(Ok((next, changes))) => {
                let snapshot = next.number;
                tracing::info!(snapshot, %changes, "published a new snapshot");
                let publishing = engine.clone();
                let published = tokio::task::spawn_blocking(move || publishing.publish(next));
                if let Err(error) = published.await {
                    tracing::error!(%error, "publishing ended in a bug of plugpost");
                }
                Reloaded::Published { snapshot, changes }
            }
            Ok(Err(problems)) => {
                for problem in &problems {
                    tracing::error!(%problem, "not reloaded: the last good snapshot goes on");
                }
                Reloaded::Refused(problems)
            }
            Err(error) => {
                tracing::error!(%error, "reloading ended in a bug of plugpost");
                Reloaded::Refused(Vec::new())
            }
        };
        engine.metrics.reloaded(!matches!(reloaded, Reloaded::Refused(_)));
        let problems = match &reloaded {
            Reloaded::Refused(problems) => problems.clone(),
            _ => Vec::new(),
        };
        *self.last.lock() = Some(Last { at: clock::now(), problems });
        allocator::give_back();
        Some(reloaded)
    }

    /// What tells a changed file from an unchanged one without reading it: a write
    /// changes the inode's change time, whatever the writer does to the others.
    fn fingerprint(&self) -> Vec<(PathBuf, [i64; 6])> {
        let loader = self.loader.lock();
        let mut files: Vec<PathBuf> = loader.secret_files().to_vec();
        files.push(loader.folder().join("plugpost.toml"));
        for folder in FOLDERS.map(|it| loader.folder().join(it)) {
            files.extend(fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()));
        }
        files.sort();
        let stat = |path: PathBuf| {
            let it = fs::metadata(&path).ok()?;
            let inode = i64::from_ne_bytes(it.ino().to_ne_bytes());
            let size = i64::try_from(it.size()).unwrap_or(i64::MAX);
            Some((path, [inode, size, it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()]))
        };
        files.into_iter().filter_map(stat).collect()
    }
}

/// Part of the configuration. What else lies in the hub itself is not: the store,
/// above all, is written to all the time.
fn is_ours(root: &Path, path: &Path) -> bool {
    let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    match path.parent() {
        Some(folder) if folder == root => name == "plugpost.toml" || FOLDERS.contains(&name),
        Some(folder) => FOLDERS.iter().any(|it| folder == root.join(it)),
        None => false,
    }
}

/// A secret, or a link that Kubernetes swaps beside one. Others may write to that
/// folder as much as they like.
fn is_secret(secrets: &HashSet<PathBuf>, path: &Path) -> bool {
    let is_beside = || secrets.iter().any(|it| it.parent() == path.parent());
    secrets.contains(path) || (path.ends_with("..data") && is_beside())
}

/// What the system tells about files.
struct Files {
    folder: PathBuf,
    /// None where the system watches no more: the poll finds everything, later.
    watcher: Option<RecommendedWatcher>,
    /// Where the store is written to all the time. It is not watched: each write would
    /// be told, for a twentieth of all processor time. The poll finds what changes there.
    store: Option<PathBuf>,
    touches: mpsc::Receiver<(PathBuf, bool)>,
    /// Written to, and not closed since.
    open: HashSet<PathBuf>,
    /// Beside what lies in the hub's folders.
    secrets: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Files {
    fn watch(
        folder: &Path,
        store: Option<PathBuf>,
        touched: mpsc::Sender<(PathBuf, bool)>,
        touches: mpsc::Receiver<(PathBuf, bool)>,
    ) -> Self {
        let secrets = Arc::<Mutex<HashSet<PathBuf>>>::default();
        let (root, known) = (folder.to_path_buf(), secrets.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that something was missed: the poll finds it.
            let Ok(event) = event else { return };
            let open = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => return,
                EventKind::Modify(notify::event::ModifyKind::Data(_)) => true,
                _ => false,
            };
            for path in event.paths {
                // A full channel means that there is plenty to wake up for already.
                if is_ours(&root, &path) || is_secret(&known.lock(), &path) {
                    let _ = touched.try_send((path, open));
                }
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "cannot watch files; they are looked at every few seconds");
        });
        let mut files = Self {
            folder: folder.into(),
            watcher: watcher.ok(),
            store,
            touches,
            open: HashSet::new(),
            secrets,
        };
        files.watch_folders();
        files
    }

    /// Folders, not files: a rename would leave a file's watch on the old inode. A
    /// folder that was made or replaced is watched from now on.
    fn watch_folders(&mut self) {
        let folders = FOLDERS.map(|it| self.folder.join(it));
        self.watch_all(std::iter::once(self.folder.clone()).chain(folders));
    }

    /// The folders that secrets lie in, wherever that is.
    fn watch_secrets(&mut self, files: &[PathBuf]) {
        let whole = |file: &PathBuf| {
            Some((fs::canonicalize(file.parent()?).ok()?, file.file_name()?.to_owned()))
        };
        let files: Vec<_> = files.iter().filter_map(whole).collect();
        *self.secrets.lock() = files.iter().map(|(folder, name)| folder.join(name)).collect();
        let folders: HashSet<_> = files.into_iter().map(|(folder, _)| folder).collect();
        self.watch_all(folders.into_iter());
    }

    fn watch_all(&mut self, folders: impl Iterator<Item = PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in folders.filter(|it| it.is_dir() && self.store.as_ref() != Some(it)) {
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "cannot watch; it is looked at every few seconds");
            }
        }
    }

    fn note(&mut self, touch: Option<(PathBuf, bool)>) {
        match touch {
            Some((path, true)) => drop(self.open.insert(path)),
            Some((path, false)) => drop(self.open.remove(&path)),
            None => {}
        }
    }

    /// Wait until nothing happens and nothing is half written.
    async fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE_MAX;
        while Instant::now() < deadline {
            match timeout(SETTLE, self.touches.recv()).await {
                Ok(touch) => self.note(touch),
                Err(_) if self.open.is_empty() => return,
                Err(_) => {}
            }
        }
        self.open.clear();
    }
}
