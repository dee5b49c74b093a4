//! `plugpost plugin bench`: how long calls take, on warm instances, and how long a
//! fresh one takes to be there.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::load;
use super::test::bytes;
use crate::cases::{self, Run};
use crate::cli::{block_on, say};

/// Measure a plugin with its golden cases
#[derive(Args)]
pub(in crate::cli) struct Bench {
    /// A component, or a core module with its component type
    file: PathBuf,
    /// The folder with the cases, *.json
    cases: PathBuf,
    /// Calls of each case
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=CALLS_MAX))]
    calls: u32,
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

const CALLS_MAX: i64 = 1_000_000;
/// Fresh instances made; one takes longer than many calls.
const STARTS: usize = 50;

impl Bench {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let component = load(&self.file)?;
        let run = Run { component: &component, folder: &self.cases, seed: 0 };
        let mut rows = Vec::new();
        for file in cases::files(&self.cases)? {
            let Some(case) = run.repeated(&file)? else { continue };
            let starts = sorted(case.starts(STARTS)?);
            let calls = usize::try_from(self.calls)?;
            let (times, spent) = block_on(case.calls(calls))?;
            rows.push((case.name.clone(), sorted(times), starts, spent.memory_bytes));
        }
        if self.json {
            let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX);
            let row = |(name, calls, starts, memory): &(String, Vec<_>, Vec<_>, usize)| {
                json!({
                    "name": name,
                    "calls": calls.len(),
                    "p50_ns": nanos(at(calls, 50)),
                    "p99_ns": nanos(at(calls, 99)),
                    "fresh_p50_ns": nanos(at(starts, 50)),
                    "fresh_p99_ns": nanos(at(starts, 99)),
                    "memory_bytes": memory,
                })
            };
            let cases: Vec<_> = rows.iter().map(row).collect();
            say(format!("{:#}", json!({ "plugin": component.name(), "cases": cases })))?;
            return Ok(!cases.is_empty());
        }
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        let line = |name: &str, cells: [String; 5]| {
            let cells = cells.map(|it| format!(" {it:>10}")).concat();
            say(format!("{name:width$} {cells}"))
        };
        line("", ["call p50", "p99", "fresh p50", "p99", "memory"].map(str::to_owned))?;
        for (name, calls, starts, memory) in &rows {
            let times = [at(calls, 50), at(calls, 99), at(starts, 50), at(starts, 99)];
            let [p50, p99, fresh, fresh_p99] = times.map(micros);
            line(name, [p50, p99, fresh, fresh_p99, bytes(*memory)])?;
        }
        // A folder without calls shows nothing.
        Ok(!rows.is_empty())
    }
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

/// The time that so many of a hundred do not exceed.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

fn micros(it: Duration) -> String {
    format!("{:.1} µs", it.as_secs_f64() * 1e6)
}
