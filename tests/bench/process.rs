//! A process being measured: its processor time and memory, as Linux counts them.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// Ended in order when it is dropped, as an operator would: what it holds of a database goes
/// to the next at once.
pub(crate) struct Process(pub(crate) Child);

/// `CONF_CLK_TCK`, which Linux fixes at 100 for programs.
const TICKS_PER_SECOND: u64 = 100;

/// An engine that takes longer to end is killed.
const PATIENCE: Duration = Duration::from_secs(30);

impl Process {
    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.0.id(), 2)
    }

    /// Resident now.
    pub(crate) fn memory_mib(&self) -> f64 {
        self.status_mib("VmRSS:")
    }

    /// Resident at most, so far.
    pub(crate) fn memory_most_mib(&self) -> f64 {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, name: &str) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|it| it.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

/// User and system time of a process; with four fields, of its children that have ended too.
fn cpu(id: u32, fields: usize) -> Duration {
    let numbers = stat(id);
    let ticks: u64 = numbers.iter().skip(11).take(fields).flat_map(|it| it.parse::<u64>()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// What Linux counts of a process, from its state on.
fn stat(id: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // After the name in parentheses, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_whitespace().map(str::to_owned).collect()
}

/// Of a process, those it has started and those of them that have ended.
pub(crate) fn family_cpu(id: u32) -> Duration {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let children = ids.filter(|it| stat(*it).get(1).is_some_and(|it| *it == id.to_string()));
    children.map(|it| cpu(it, 4)).sum::<Duration>() + cpu(id, 4)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
