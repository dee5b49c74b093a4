//! `plugpost test`: a hub's golden cases.

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::json;

use super::{block_on, check, diff, say};
use crate::cases;
use crate::cases::hub::{HubCase, Made};
use crate::snapshot::{Loader, Snapshot};

/// Run a folder's golden cases, tests/*.json: an event in, requests out by route
#[derive(Args)]
pub(super) struct Arguments {
    /// The folder with plugpost.toml, sources/, routes/, plugins/ and tests/
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Write what was made into the cases that do not hold
    #[arg(long)]
    bless: bool,
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

/// One case, run.
struct Ran {
    name: String,
    about: String,
    /// What is wrong, on lines.
    broken: Option<String>,
    blessed: bool,
}

impl Arguments {
    /// False when a case does not hold, or there is none.
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        // No secret is read, and none has to be there.
        let snapshot = match Loader::new(&self.folder).with_stand_ins(1).load() {
            Ok((snapshot, _)) => snapshot,
            Err(problems) => {
                check::report(&problems);
                return Ok(false);
            }
        };
        let ran = block_on(self.all(&snapshot))?;
        let failed = ran.iter().filter(|it| it.broken.is_some()).count();
        let passed = ran.len() - failed;
        if self.json {
            let case = |it: &Ran| {
                json!({
                    "name": it.name,
                    "about": it.about,
                    "passed": it.broken.is_none(),
                    "blessed": it.blessed,
                    "detail": it.broken,
                })
            };
            let cases: Vec<_> = ran.iter().map(case).collect();
            say(format!("{:#}", json!({ "passed": passed, "failed": failed, "cases": cases })))?;
        } else {
            for case in &ran {
                show(case)?;
            }
            say(format!("{passed} passed, {failed} failed"))?;
        }
        Ok(failed == 0 && !ran.is_empty())
    }

    async fn all(&self, snapshot: &Snapshot) -> anyhow::Result<Vec<Ran>> {
        let folder = self.folder.join("tests");
        let mut all = Vec::new();
        for file in cases::files(&folder)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut ran = Ran { name, about: String::new(), broken: None, blessed: false };
            let result = async {
                let case = HubCase::read(&file)?;
                ran.about.clone_from(&case.about);
                let made = case.make(snapshot, &folder).await?;
                let expected = case.expected(&folder)?;
                if expected.as_ref() == Some(&made) {
                    return Ok(None);
                }
                if self.bless {
                    case.bless(&made, &file)?;
                    ran.blessed = true;
                    return Ok(None);
                }
                anyhow::Ok(Some(difference(expected.as_ref(), &made)))
            }
            .await;
            ran.broken = result.unwrap_or_else(|error| Some(format!("{error:#}")));
            all.push(ran);
        }
        Ok(all)
    }
}

fn show(case: &Ran) -> anyhow::Result<()> {
    let coloured = |colour: AnsiColor| Style::new().fg_color(Some(colour.into())).bold();
    let (good, bad) = (coloured(AnsiColor::Green), coloured(AnsiColor::Red));
    match &case.broken {
        None if case.blessed => {
            say(format!("{good}blessed{good:#} {}: read it before you commit it", case.name))
        }
        None => say(format!("{good}ok{good:#}      {}", case.name)),
        Some(broken) => {
            say(format!("{bad}FAILED{bad:#}  {}: {}", case.name, case.about))?;
            say(diff::indented(broken))
        }
    }
}

fn difference(expected: Option<&Made>, made: &Made) -> String {
    let Some(expected) = expected else {
        let lines = made.lines(&diff::readable);
        let lines: String = lines.lines().map(|line| format!("+{line}\n")).collect();
        return format!("the case has no `routes`; with --bless they would be\n{lines}");
    };
    let lines = |how: fn(&[u8]) -> String| (expected.lines(&how), made.lines(&how));
    let (then, now) = match lines(diff::readable) {
        (then, now) if then != now => (then, now),
        // Where only spaces or escapes differ, the text as it is.
        _ => lines(diff::text),
    };
    format!("- expected\n+ made\n{}", diff::of_lines(&then, &now))
}
