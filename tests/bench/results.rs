//! What was measured: shown as it comes, and kept in `target/bench.json`, section by
//! section, so that a section that is measured again replaces only itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::machine;

/// Figures and what they are of, in the order in which they are shown.
pub(crate) type Row = Vec<(&'static str, Value)>;

/// The rows of one section.
#[derive(Default)]
pub(crate) struct Section {
    rows: Vec<Value>,
    header: Vec<&'static str>,
}

impl Section {
    /// Show a row and keep it.
    pub(crate) fn row(&mut self, row: Row) {
        let header: Vec<_> = row.iter().map(|it| it.0).collect();
        let line = |cell: &dyn Fn(&(&str, Value)) -> String| {
            let cells: Vec<_> = row.iter().map(|it| padded(&cell(it), it)).collect();
            println!("{}", cells.join("  ").trim_end());
        };
        if header != self.header {
            line(&|it| it.0.replace('_', " "));
            self.header = header;
        }
        line(&|it| text(&it.1));
        let kept: Map<_, _> = row.into_iter().map(|(name, value)| (name.into(), value)).collect();
        self.rows.push(kept.into());
    }
}

/// Words to the left, figures to the right.
fn padded(text: &str, (name, value): &(&str, Value)) -> String {
    match value {
        Value::String(_) => format!("{text:<26}"),
        _ => format!("{text:>width$}", width = name.len().max(11)),
    }
}

/// Several rounds as the one in the middle, and how far the others were from it.
fn text(value: &Value) -> String {
    let number = |it: &Value| it.as_f64().unwrap_or_default();
    match value {
        Value::String(text) => text.clone(),
        Value::Object(it) if it.contains_key("median") => {
            let (least, most) = (number(&it["min"]), number(&it["max"]));
            let off = 50.0 * (most - least) / number(&it["median"]).max(f64::MIN_POSITIVE);
            format!("{} ±{off:.0}%", it["median"])
        }
        Value::Object(it) => it.values().map(text).collect::<Vec<_>>().join(" / "),
        Value::Null => "–".into(),
        other => other.to_string(),
    }
}

/// One figure, to four digits: the rest is noise.
pub(crate) fn figure(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { 0.into() } else { Value::Null };
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return (value.round() as i64).into();
    }
    let scale = 10_f64.powi(digits);
    json!((value * scale).round() / scale)
}

/// The one in the middle of several rounds, and how far apart they were.
pub(crate) fn spread(rounds: impl IntoIterator<Item = f64>) -> Value {
    let mut rounds: Vec<f64> = rounds.into_iter().collect();
    rounds.sort_unstable_by(f64::total_cmp);
    let (least, most) = (rounds[0], rounds[rounds.len() - 1]);
    json!({
        "median": figure(rounds[rounds.len() / 2]), "min": figure(least), "max": figure(most),
        "rounds": rounds.len(),
    })
}

/// The file.
pub(crate) struct Results {
    path: PathBuf,
    machine: Value,
}

impl Results {
    pub(crate) fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench.json");
        Self { path, machine: machine::facts() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Put a section in the place of what was measured before under its name.
    pub(crate) fn put(
        &mut self,
        name: &str,
        about: &str,
        seconds: Duration,
        took: Duration,
        section: Section,
    ) {
        let before = fs::read(&self.path).unwrap_or_default();
        let mut all: Value = serde_json::from_slice(&before).unwrap_or_else(|_| json!({}));
        all["machine"] = self.machine.clone();
        all["sections"][name] = json!({
            "about": about,
            "date": OffsetDateTime::now_utc().date().to_string(),
            "commit": commit(),
            "round_s": seconds.as_secs(),
            "took_s": took.as_secs(),
            "rows": section.rows,
        });
        let text = serde_json::to_string_pretty(&all).expect("values are JSON");
        fs::write(&self.path, text + "\n").expect("target/bench.json can be written");
    }
}

/// What was measured, and whether files that count were changed since.
fn commit() -> Value {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return Value::Null };
    let changed = git(&[
        "status",
        "--porcelain",
        "--",
        "../host",
        "../plugins",
        "../tests/bench/*.rs",
        "../wit",
    ]);
    let changed = changed.is_none_or(|it| !it.is_empty());
    json!(if changed { format!("{commit} with changes") } else { commit })
}
