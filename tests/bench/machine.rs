//! What it was measured on, as far as it matters: no name, no address.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::ms;
use crate::results::figure;
use crate::support::postgres;

pub(crate) fn facts() -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (p50, p99) = fsync_ms(folder.path());
    json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": thread::available_parallelism().map_or(0, |it| it.get()),
        "memory_gib": memory_gib(),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "filesystem": filesystem(folder.path()),
        "fsync_p50_ms": figure(p50),
        "fsync_p99_ms": figure(p99),
        "postgres": postgres::shared().sql("postgres", "SHOW server_version"),
        "rustc": said("rustc"),
    })
}

/// How long it takes until a page that is written over is on the disk: half and 99 of a hundred.
fn fsync_ms(folder: &Path) -> (f64, f64) {
    let mut file = File::create(folder.join("page")).expect("a file");
    let mut took: Vec<_> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            file.seek(SeekFrom::Start(0)).expect("its beginning");
            file.write_all(&[7; 4096]).expect("written");
            file.sync_data().expect("synced");
            ms(begun.elapsed())
        })
        .collect();
    took.sort_unstable_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|it| it.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |it| it.1).trim().to_owned()
}

fn memory_gib() -> Value {
    let kib = field("/proc/meminfo", "MemTotal");
    let kib = kib.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
    figure(kib.unwrap_or_default() / f64::from(1 << 20))
}

/// Of the folder that stores are in while it is measured.
fn filesystem(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|it| {
        let mut words = it.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let within = mounts.filter(|(at, _)| folder.starts_with(at));
    within.max_by_key(|it| it.0.len()).map_or_else(String::new, |it| it.1.to_owned())
}

fn said(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map_or_else(|_| String::new(), |it| String::from_utf8_lossy(&it.stdout).trim().into())
}
