//! The real binary as a process: started on a folder, asked over HTTP, stopped
//! or killed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{self, Answer, Headers};
use super::hub::{Hub, TOKEN};
use super::{PATIENCE, eventually, shell};

/// A running engine. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    /// Held: the folder stays for as long as it is served.
    _hub: Hub,
}

/// An engine that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stderr: String,
    /// From the signal to the end.
    pub(crate) took: Duration,
}

/// The binary, without what the tests' own environment would tell it.
pub(crate) fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for name in [
        "PLUGPOST_ADMIN",
        "PLUGPOST_PUBLIC",
        "PLUGPOST_SECRET_KEY",
        "PLUGPOST_TOKEN",
        "PLUGPOST_LOG",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

impl Engine {
    /// Serve a folder; returns when it listens.
    #[track_caller]
    pub(crate) fn start(hub: &Hub) -> Self {
        Self::start_binary(Path::new(env!("CARGO_BIN_EXE_plugpost")), hub)
    }

    #[track_caller]
    pub(crate) fn start_binary(binary: &Path, hub: &Hub) -> Self {
        let mut command = command(binary);
        command.arg("serve").arg(hub.path());
        Self::start_command(command, hub)
    }

    /// A command that ends in `serve` on that folder.
    #[track_caller]
    pub(crate) fn start_command(command: Command, hub: &Hub) -> Self {
        let started = Self::try_start(command, hub);
        started.unwrap_or_else(|ended| panic!("the engine does not listen: {}", ended.stderr))
    }

    /// The same, or how it ended without listening.
    #[track_caller]
    pub(crate) fn try_start(mut command: Command, hub: &Hub) -> Result<Self, Ended> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = Arc::<Mutex<String>>::default();
        let reader = {
            let (pipe, stderr) = (child.stderr.take().expect("piped"), stderr.clone());
            thread::spawn(move || gather(pipe, &stderr))
        };
        let (sender, first_line) = mpsc::channel();
        let stdout = child.stdout.take().expect("piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut engine = Self {
            child,
            public: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            stderr,
            reader: Some(reader),
            _hub: hub.clone(),
        };
        let Ok(line) = first_line.recv_timeout(PATIENCE) else {
            return Err(engine.end(Instant::now()));
        };
        (engine.public, engine.admin) = addresses(&line).unwrap_or_else(|| panic!("{line:?}"));
        Ok(engine)
    }

    /// POST to the public listener with the token of the source `erp`.
    pub(crate) fn post(&self, path: &str, headers: Headers<'_>, body: &[u8]) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        client::ask(self.public, "POST", path, &all, body)
    }

    /// Send an event to the source `erp`; returns its id.
    #[track_caller]
    pub(crate) fn send(&self, event_type: &str, body: impl AsRef<[u8]>) -> String {
        let path = format!("/in/erp/{event_type}");
        let answer = self.post(&path, &[("content-type", "application/json")], body.as_ref());
        answer.event_ids().remove(0)
    }

    /// GET from the admin listener.
    pub(crate) fn get(&self, path: &str) -> Answer {
        client::ask(self.admin, "GET", path, &[], b"")
    }

    /// The rows that `GET /v1/deliveries` lists.
    #[track_caller]
    pub(crate) fn deliveries(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/deliveries?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"].as_array().expect("a list").clone()
    }

    /// One delivery with its attempts.
    #[track_caller]
    pub(crate) fn delivery(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/deliveries/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The one delivery of an event by a route, with its attempts, when `is_it` says so.
    #[track_caller]
    pub(crate) fn delivery_when(
        &self,
        event: &str,
        route: &str,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Value {
        let query = format!("event_id={event}&route={route}");
        let mut last = Value::Null;
        eventually(&format!("{event} by {route} to be {what}"), || {
            let rows = self.deliveries(&query);
            let [row] = rows.as_slice() else { return None };
            last = row.clone();
            is_it(row).then(|| self.delivery(row["id"].as_str().expect("an id")))
        })
    }

    /// The one delivery of an event by a route, with its attempts, when it has ended.
    #[track_caller]
    pub(crate) fn ended(&self, event: &str, route: &str) -> Value {
        self.delivery_when(event, route, "at its end", |it| it["status"] != "pending")
    }

    /// Wait until no delivery is pending.
    #[track_caller]
    pub(crate) fn drained(&self) {
        eventually("the queue to drain", || {
            self.deliveries("status=pending&limit=1").is_empty().then_some(())
        });
    }

    /// Fill what the store keeps in memory (16 MiB), for a test that measures memory
    /// afterwards: it would grow by that otherwise, whatever is tested.
    pub(crate) fn fill_the_store(&self) {
        for _ in 0..2000 {
            self.send("no-route-wants-this", [b'1'; 16 << 10]);
        }
    }

    /// Everything it has logged so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it ended by itself?
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its own child").is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status("VmRSS").unwrap_or_else(|| {
            // Elsewhere than on Linux.
            let mut output = Command::new("ps");
            output.args(["-o", "rss=", "-p", &self.pid().to_string()]);
            let kib = output.output().ok().and_then(|it| String::from_utf8(it.stdout).ok());
            let kib = kib.and_then(|it| it.trim().parse::<u64>().ok());
            kib.expect("the system says how much memory a process holds") * 1024
        })
    }

    /// The most that its resident memory ever was; elsewhere than on Linux, what
    /// it is now.
    pub(crate) fn resident_bytes_most(&self) -> u64 {
        self.status("VmHWM").unwrap_or_else(|| self.resident_bytes())
    }

    fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = shell("kill -TERM \"$1\"", &[pid.as_ref()]).status();
        assert!(sent.is_ok_and(|it| it.success()), "SIGTERM to {pid}");
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        let begun = Instant::now();
        self.terminate();
        self.end(begun)
    }

    /// SIGKILL, while others still talk to it.
    pub(crate) fn kill_now(&self) {
        let pid = self.child.id().to_string();
        let sent = shell("kill -KILL \"$1\"", &[pid.as_ref()]).status();
        assert!(sent.is_ok_and(|it| it.success()), "SIGKILL to {pid}");
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(mut self) -> Ended {
        let begun = Instant::now();
        self.child.kill().expect("SIGKILL");
        self.end(begun)
    }

    /// Wait until it has ended by itself.
    #[track_caller]
    pub(crate) fn end(mut self, begun: Instant) -> Ended {
        let status: ExitStatus =
            eventually("the engine to end", || self.child.try_wait().expect("its own child"));
        let took = begun.elapsed();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading its stderr");
        }
        Ended { status: status.code(), stderr: self.stderr(), took }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let stderr = self.stderr();
            let start = stderr.len().saturating_sub(STDERR_SHOWN);
            eprintln!("the engine said:\n{}", &stderr[stderr.ceil_char_boundary(start)..]);
        }
    }
}

/// The end of what an engine said, for a test that fails.
const STDERR_SHOWN: usize = 4 << 10;

/// Of `events at http://ADDRESS, questions at http://ADDRESS`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (public, admin) =
        line.strip_prefix("events at http://")?.split_once(", questions at http://")?;
    Some((public.parse().ok()?, admin.parse().ok()?))
}

fn gather(mut pipe: impl Read, into: &Mutex<String>) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..count]);
        into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    }
}
