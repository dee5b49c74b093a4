//! `plugpost plan`: what a folder would change, shown on what was really sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::diff::{self, indented, pretty, text};
use super::{block_on, check, say};
use crate::plan::{Difference, Fate, Message, Plan};
use crate::queue::Location;
use crate::queue::log::Log;

/// Show what a folder's routes and plugins would send otherwise than it was sent
#[derive(Args)]
pub(super) struct Arguments {
    /// The folder with plugpost.toml, sources/, routes/ and plugins/
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// How many of the events that came in last
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
    /// The store of another folder: plan a copy against what runs
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Differences shown in full for each route
    #[arg(long, value_name = "N", default_value_t = 3)]
    show: usize,
    /// Print all of them as JSON
    #[arg(long)]
    json: bool,
}

/// Events read ahead of the comparison.
const READ_AHEAD: usize = 16;

/// A body that is longer is compared as a whole and not shown.
const SHOWN_BYTES_MAX: usize = 256 << 10;

impl Arguments {
    /// False when anything would change.
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let plan = match Plan::of(&self.folder) {
            Ok(plan) => plan,
            Err(problems) => {
                check::report(&problems);
                return Ok(false);
            }
        };
        let (differences, events, compared) = block_on(self.compare(plan))?;
        if self.json {
            let all: Vec<_> = differences.iter().map(as_json).collect();
            let answer = json!({ "events": events, "compared": compared, "differences": all });
            say(format!("{answer:#}"))?;
        } else {
            self.show(&differences)?;
            let changes = differences.len();
            let verb = if changes == 1 { "differs" } else { "differ" };
            say(format!("{events} events, {compared} deliveries compared: {changes} {verb}"))?;
        }
        Ok(differences.is_empty())
    }

    async fn compare(&self, plan: Plan) -> anyhow::Result<(Vec<Difference>, usize, usize)> {
        let store = match &self.store {
            Some(path) => &Location::Sqlite(path.clone()),
            None => plan.store(),
        };
        if let Location::Sqlite(path) = store
            && !path.is_file()
        {
            bail!("there is no store {store}: no event was recorded yet");
        }
        let log = Log::of(store).await.with_context(|| store.to_string())?;
        let (sender, mut recorded) = mpsc::channel(READ_AHEAD);
        let last = self.last;
        let read = tokio::spawn(async move {
            log.recorded(last, move |it| drop(sender.blocking_send(it))).await
        });
        let (mut differences, mut events, mut compared) = (Vec::new(), 0, 0);
        while let Some(it) = recorded.recv().await {
            let (found, count) = plan.compare(it).await;
            differences.extend(found);
            compared += count;
            events += 1;
        }
        read.await??;
        Ok((differences, events, compared))
    }

    fn show(&self, differences: &[Difference]) -> anyhow::Result<()> {
        let mut by_route = BTreeMap::<&str, Vec<&Difference>>::new();
        for difference in differences {
            by_route.entry(&difference.route).or_default().push(difference);
        }
        for (route, differences) in by_route {
            say(format!("route {route}"))?;
            for difference in differences.iter().take(self.show) {
                say(format!("  {} {}", difference.event.id, difference.event.event_type))?;
                say(indented(&changes(&difference.then, &difference.now)))?;
            }
            if let Some(more @ 1..) = differences.len().checked_sub(self.show) {
                say(format!("  and {more} more"))?;
            }
        }
        Ok(())
    }
}

/// What is different, as lines that begin with `-` for then and `+` for now.
fn changes(then: &Fate, now: &Fate) -> String {
    match (then, now) {
        (Fate::Sent(then), Fate::Sent(now)) => of_messages(then, now),
        (then, now) => format!("- {}\n+ {}\n", in_words(then), in_words(now)),
    }
}

fn in_words(fate: &Fate) -> String {
    match fate {
        Fate::NotRouted => "no delivery".into(),
        Fate::Filtered => "filtered".into(),
        Fate::Failed { code, message } => format!("{code}: {message}"),
        Fate::Sent(message) => {
            format!("{} {} ({} bytes)", message.method, message.url, message.body.len())
        }
    }
}

fn of_messages(then: &Message, now: &Message) -> String {
    let mut text = String::new();
    let mut line =
        |sign: char, what: std::fmt::Arguments<'_>| text.push_str(&format!("{sign} {what}\n"));
    if (&then.method, &then.url) != (&now.method, &now.url) {
        line('-', format_args!("{} {}", then.method, then.url));
        line('+', format_args!("{} {}", now.method, now.url));
    }
    let value = |it: &Option<String>| it.clone().unwrap_or_else(|| "(depends on a secret)".into());
    for (name, before) in &then.headers {
        if now.headers.get(name) != Some(before) {
            line('-', format_args!("{name}: {}", value(before)));
        }
    }
    for (name, after) in &now.headers {
        if then.headers.get(name) != Some(after) {
            line('+', format_args!("{name}: {}", value(after)));
        }
    }
    if then.body != now.body {
        text.push_str(&of_bodies(&then.body, &now.body));
    }
    text
}

fn of_bodies(then: &Bytes, now: &Bytes) -> String {
    if then.len().max(now.len()) > SHOWN_BYTES_MAX {
        return format!("- a body of {} bytes\n+ a body of {} bytes\n", then.len(), now.len());
    }
    let (then, now) = match (pretty(then), pretty(now)) {
        // Where only spaces or escapes differ, the text as it is.
        (Some(then), Some(now)) if then != now => (then, now),
        _ => (text(then), text(now)),
    };
    diff::of_lines(&then, &now)
}

fn as_json(difference: &Difference) -> Value {
    json!({
        "event_id": difference.event.id.to_string(),
        "type": *difference.event.event_type,
        "route": difference.route,
        "then": fate_as_json(&difference.then),
        "now": fate_as_json(&difference.now),
    })
}

fn fate_as_json(fate: &Fate) -> Value {
    match fate {
        Fate::NotRouted => json!({ "verdict": "not routed" }),
        Fate::Filtered => json!({ "verdict": "filtered" }),
        Fate::Failed { code, message } => {
            json!({ "verdict": "failed", "code": code, "message": message })
        }
        Fate::Sent(message) => json!({
            "verdict": "sent",
            "method": message.method,
            "url": message.url,
            "headers": message.headers,
            "body": text(&message.body),
        }),
    }
}
