//! `plugpost check`: everything that is wrong with a folder, at once.

use std::path::Path;

use serde_json::json;

use super::say;
use crate::config::{Problem, duration_text};
use crate::endpoint::{Endpoint, Order};
use crate::route::Route;
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
                say(format!("route   {:<20} {}", route.name, route.endpoint.url))?;
                for line in rules(route) {
                    say(format!("{:29}{line}", ""))?;
                }
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

/// How a route delivers: what its file says, its platform, or the defaults.
fn rules(route: &Route) -> [String; 2] {
    let Endpoint { timeout, concurrency, rate_limit, order, breaker, disable_after, .. } =
        &route.endpoint;
    let attempts = route.retry.schedule.len() + 1;
    let within = duration_text(route.retry.schedule.iter().sum());
    let rate = rate_limit.map_or(String::new(), |it| format!(", {it}"));
    let order = match order {
        Order::Free => String::new(),
        order => format!(", in order by {}", order.as_str()),
    };
    let breaker = breaker.map_or("no breaker".to_owned(), |it| {
        format!(
            "rests {} when fewer than {} % of {} or more succeed in {}",
            duration_text(it.rest),
            (it.success_ratio * 1000.0).round() / 10.0,
            it.requests,
            duration_text(it.window),
        )
    });
    let disabled = disable_after.map_or("never disabled for failing".to_owned(), |it| {
        format!("disabled after {} of failures only", duration_text(it))
    });
    let timeout = duration_text(*timeout);
    [
        format!(
            "{attempts} attempts over {within}, {timeout} each, {concurrency} at once{rate}{order}"
        ),
        format!("{breaker}; {disabled}"),
    ]
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
