//! `plugpost check`: everything that is wrong with a folder, at once.

use std::path::Path;

use serde_json::json;

use super::say;
use crate::config::Problem;
use crate::snapshot;

pub(super) fn run(folder: &Path, json: bool) -> anyhow::Result<bool> {
    let result = snapshot::load(folder);
    if json {
        let problems = result.as_ref().err().map_or(&[][..], Vec::as_slice);
        let problems: Vec<_> = problems
            .iter()
            .map(|it| {
                json!({
                    "file": it.file,
                    "line": it.at.map(|(line, _)| line),
                    "column": it.at.map(|(_, column)| column),
                    "message": it.message,
                })
            })
            .collect();
        say(json!({ "problems": problems }))?;
        return Ok(problems.is_empty());
    }
    match result {
        Ok(snapshot) => {
            for plugin in &snapshot.plugins {
                let roles: Vec<_> = plugin.roles().iter().map(|it| it.as_str()).collect();
                let version = &plugin.description().version;
                say(format!("plugin  {:<20} {version:<8} {}", plugin.name(), roles.join(", ")))?;
            }
            let mut sources: Vec<_> = snapshot.sources.values().collect();
            sources.sort_by(|a, b| a.name.cmp(&b.name));
            for source in sources {
                let by = source.plugin.as_ref().map_or("any bytes".into(), |it| it.label());
                say(format!("source  {:<20} {by}", source.name))?;
            }
            let mut routes: Vec<_> = snapshot.routes.iter().collect();
            routes.sort_by(|a, b| a.name.cmp(&b.name));
            for route in routes {
                let endpoint = &route.endpoint;
                let rate = endpoint.rate_limit.map_or(String::new(), |it| format!(", {it}"));
                say(format!(
                    "route   {:<20} {} ({} attempts, {:?}, {} at once{rate})",
                    route.name,
                    endpoint.url,
                    route.retry.schedule.len() + 1,
                    endpoint.timeout,
                    endpoint.concurrency,
                ))?;
            }
            say("all is well")?;
            Ok(true)
        }
        Err(problems) => {
            report(&problems);
            Ok(false)
        }
    }
}

/// Each problem on a line of its own, and how many there are.
pub(super) fn report(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        1 => eprintln!("error: 1 problem"),
        many => eprintln!("error: {many} problems"),
    }
}
