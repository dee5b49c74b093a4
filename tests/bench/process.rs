//! A process being measured: its processor time and memory, as Linux counts them.

use std::fs;
use std::process::Child;
use std::time::Duration;

/// Killed when it is dropped.
pub(crate) struct Process(pub(crate) Child);

/// `CONF_CLK_TCK`, which Linux fixes at 100 for programs.
const TICKS_PER_SECOND: u64 = 100;

impl Process {
    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // After the name in parentheses, which may hold anything, come the numbers.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    pub(crate) fn memory_mib(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
