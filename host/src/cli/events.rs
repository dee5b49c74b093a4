//! `plugpost events`: what came in, from a terminal.

use clap::Args;
use serde_json::Value;

use super::remote::{Admin, query};
use super::{block_on, say};

/// List events, newest first; with an id, show one as it came in
#[derive(Args)]
pub(super) struct Events {
    /// An event's id, evt_…
    id: Option<String>,
    /// An event type, or the start of one before a `*`
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The id of the resource the event is about
    #[arg(long)]
    subject: Option<String>,
    /// Where the event came in
    #[arg(long)]
    source: Option<String>,
    /// From then on (RFC 3339)
    #[arg(long)]
    since: Option<String>,
    /// Before then (RFC 3339)
    #[arg(long)]
    until: Option<String>,
    /// An id or the start of one
    #[arg(long, short)]
    q: Option<String>,
    /// `next` of the page before, as --json shows it
    #[arg(long)]
    cursor: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

impl Events {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let limit = self.limit.to_string();
        let path = match &self.id {
            Some(id) => format!("/v1/events/{id}"),
            None => {
                let asked = query([
                    ("type", self.event_type.as_deref()),
                    ("subject", self.subject.as_deref()),
                    ("source", self.source.as_deref()),
                    ("since", self.since.as_deref()),
                    ("until", self.until.as_deref()),
                    ("q", self.q.as_deref()),
                    ("cursor", self.cursor.as_deref()),
                    ("limit", Some(&limit)),
                ]);
                format!("/v1/events?{asked}")
            }
        };
        let answer = block_on(self.admin.get(&path))?;
        if self.json {
            say(answer)?;
        } else if self.id.is_some() {
            say(format!("{answer:#}"))?;
        } else {
            let rows = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
            rows.iter().try_for_each(|row| say(line(row)))?;
        }
        Ok(true)
    }
}

/// One event as one line.
fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or("-");
    format!(
        "{}  {}  {:<28} {:<20} {}",
        text("id"),
        text("received_at"),
        text("type"),
        text("source"),
        text("subject"),
    )
}
