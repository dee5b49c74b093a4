//! `plugpost plugin test`: a plugin's golden cases, what each took, and what is
//! different where one does not hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value, json};

use super::load;
use crate::cases::{Broken, Made, Ran, Run};
use crate::cli::{block_on, diff, say};
use crate::plugin::{Limits, Spent};

/// Run a plugin's golden cases through the engine
#[derive(Args)]
pub(in crate::cli) struct Test {
    /// A component, or a core module with its component type
    file: PathBuf,
    /// The folder with the cases, *.json
    cases: PathBuf,
    /// Write what was made into the cases that do not hold
    #[arg(long)]
    bless: bool,
    /// Show what the plugin logs
    #[arg(short, long)]
    verbose: bool,
    /// Repeat the order of an earlier run
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

impl Test {
    /// False when a case does not hold, or there is none: a folder without cases shows nothing.
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let component = load(&self.file)?;
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..SEEDS));
        let run = Run { component: &component, folder: &self.cases, seed };
        let mut ran = block_on(run.all())?;
        let mut blessed = 0;
        if self.bless {
            for case in &mut ran {
                match case.bless() {
                    Ok(written) => {
                        let differs = matches!(case.result, Err(Broken::Differs { .. }));
                        if written || differs {
                            blessed += 1;
                            case.result = Ok(());
                        }
                    }
                    Err(error) => case.result = Err(Broken::Unfit(error)),
                }
            }
        }
        let failed = ran.iter().filter(|it| it.result.is_err()).count();
        let passed = ran.len() - failed;
        if self.json {
            say(format!("{:#}", as_json(component.name(), &ran, seed, blessed)))?;
            return Ok(failed == 0 && !ran.is_empty());
        }
        say(heading(ran.iter().map(|it| it.name.len()).max().unwrap_or_default()))?;
        for case in &ran {
            self.show(case, ran.iter().map(|it| it.name.len()).max().unwrap_or_default())?;
        }
        if ran.iter().any(|it| matches!(it.result, Err(Broken::HiddenState { .. }))) {
            say(format!("the order of this run: --seed {seed}"))?;
        }
        if blessed > 0 {
            say(format!("{blessed} blessed: read what was written before you commit it"))?;
        }
        say(format!("{}: {passed} passed, {failed} failed", component.name()))?;
        Ok(failed == 0 && !ran.is_empty())
    }

    fn show(&self, case: &Ran, width: usize) -> anyhow::Result<()> {
        let numbers = numbers(&case.warm, &case.fresh);
        match &case.result {
            Ok(()) => {
                let good = Style::new().fg_color(Some(AnsiColor::Green.into()));
                say(format!("{good}ok    {good:#} {:width$}{numbers}", case.name))?;
            }
            Err(broken) => {
                let bad = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
                say(format!("{bad}FAILED{bad:#} {}: {}", case.name, case.about))?;
                say(diff::indented(&in_words(broken)))?;
            }
        }
        if self.verbose {
            for line in &case.fresh.log {
                say(format!("       {}: {}", line.level, line.message))?;
            }
        }
        Ok(())
    }
}

/// Test a plugin that is being worked on, logs and all.
pub(in crate::cli) fn test(file: &Path, cases: &Path) -> anyhow::Result<bool> {
    let (file, cases) = (file.to_path_buf(), cases.to_path_buf());
    Test { file, cases, bless: false, verbose: true, seed: None, json: false }.run()
}

/// Short enough to be typed.
const SEEDS: u64 = 1_000_000;

/// How a case does not hold, with the difference.
pub(in crate::cli) fn in_words(broken: &Broken) -> String {
    match broken {
        Broken::Unfit(error) => format!("{error:#}"),
        Broken::Differs { expected: None, made } => format!(
            "the case does not say what is expected; with --bless it would be\n{}",
            plus(&made.lines(&diff::readable))
        ),
        Broken::Differs { expected: Some(expected), made } => {
            format!("- expected\n+ made\n{}", difference(expected, made))
        }
        Broken::HiddenState { fresh, used, after } => format!(
            "hidden state: after {} on the same instance, something else was made than on a fresh \
             one.\nInstances are reused and replaced by chance, so nothing that a call changes \
             may change the next:\nno counter, cache or random number that shows in what is \
             made.\n- on a fresh instance\n+ on a used instance\n{}",
            after_words(after),
            difference(fresh, used)
        ),
    }
}

fn after_words(after: &[String]) -> String {
    match after {
        [] => "being configured again".into(),
        [one] => format!("`{one}`"),
        [.., last] => format!("{} calls, the last of them `{last}`,", after.len()),
    }
}

fn plus(text: &str) -> String {
    text.lines().map(|line| format!("+{line}\n")).collect()
}

fn difference(one: &Made, other: &Made) -> String {
    let lines = |how: fn(&[u8]) -> String| (one.lines(&how), other.lines(&how));
    let (then, now) = match lines(diff::readable) {
        (then, now) if then != now => (then, now),
        // Where only spaces or escapes differ, the text as it is.
        _ => lines(diff::text),
    };
    diff::of_lines(&then, &now)
}

fn heading(width: usize) -> String {
    let limits = Limits::default();
    let dimmed = Style::new().dimmed();
    let row = |name: &str, numbers: [String; 5]| {
        let [warm, fresh, memory, output, log] = numbers;
        format!(
            "{dimmed}{name:<7}{:width$}  {warm:>9} {fresh:>9} {memory:>9} {output:>9} {log:>9}{dimmed:#}",
            ""
        )
    };
    let deadline = format!("{} ms", limits.deadline.as_millis());
    let names = ["warm", "fresh", "memory", "output", "log"].map(str::to_owned);
    let most = [
        deadline.clone(),
        deadline,
        bytes(limits.memory_bytes),
        bytes(limits.output_bytes),
        bytes(limits.log_bytes),
    ];
    format!("{}\n{}", row("", names), row("limit", most))
}

fn numbers(warm: &Spent, fresh: &Spent) -> String {
    let limits = Limits::default();
    let micros = |it: Duration| (it.as_micros(), limits.deadline.as_micros());
    let of = |it: usize, max: usize| (it as u128, max as u128);
    let memory = fresh.memory_bytes.max(warm.memory_bytes);
    let lines = fresh.log.len();
    let log = match lines {
        0 => "0".to_owned(),
        more => format!("{more}: {}", bytes(fresh.log_bytes)),
    };
    let cells = [
        (time(warm.time), micros(warm.time)),
        (time(fresh.time), micros(fresh.time)),
        (bytes(memory), of(memory, limits.memory_bytes)),
        (bytes(fresh.output_bytes), of(fresh.output_bytes, limits.output_bytes)),
        (log, of(fresh.log_bytes, limits.log_bytes)),
    ];
    let cell = |(text, (is, max)): &(String, (u128, u128))| {
        let style = match is * 2 > *max {
            true => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            false => Style::new(),
        };
        format!(" {style}{text:>9}{style:#}")
    };
    format!(" {}", cells.iter().map(cell).collect::<String>())
}

pub(super) fn time(it: Duration) -> String {
    match it.as_micros() {
        us @ ..10_000 => format!("{us} µs"),
        us => format!("{} ms", us / 1000),
    }
}

pub(super) fn bytes(it: usize) -> String {
    match it {
        0..1024 => format!("{it} B"),
        1024..1_048_576 => format!("{} KiB", it / 1024),
        _ => format!("{:.1} MiB", it as f64 / 1_048_576.0),
    }
}

fn as_json(plugin: &str, ran: &[Ran], seed: u64, blessed: usize) -> Value {
    let limits = Limits::default();
    let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
    let case = |it: &Ran| {
        let log: Vec<_> = (it.fresh.log.iter())
            .map(|line| json!({ "level": line.level, "message": line.message }))
            .collect();
        let problem = it.result.as_ref().err().map(|broken| match broken {
            Broken::Unfit(_) => "unfit",
            Broken::Differs { .. } => "differs",
            Broken::HiddenState { .. } => "hidden state",
        });
        json!({
            "name": it.name,
            "about": it.about,
            "passed": it.result.is_ok(),
            "problem": problem,
            "detail": it.result.as_ref().err().map(in_words),
            "fresh_us": micros(it.fresh.time),
            "warm_us": micros(it.warm.time),
            "memory_bytes": it.fresh.memory_bytes.max(it.warm.memory_bytes),
            "output_bytes": it.fresh.output_bytes,
            "log_bytes": it.fresh.log_bytes,
            "log": log,
        })
    };
    let passed = ran.iter().filter(|it| it.result.is_ok()).count();
    json!({
        "plugin": plugin,
        "passed": passed,
        "failed": ran.len() - passed,
        "blessed": blessed,
        "seed": seed,
        "limits": {
            "time_us": micros(limits.deadline),
            "memory_bytes": limits.memory_bytes,
            "output_bytes": limits.output_bytes,
            "log_bytes": limits.log_bytes,
        },
        "cases": ran.iter().map(case).collect::<Vec<_>>(),
    })
}
