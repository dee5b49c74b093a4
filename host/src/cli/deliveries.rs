//! `plugpost deliveries` and `plugpost resend`: the log, from a terminal.

use clap::Args;
use serde_json::{Value, json};

use super::remote::{Admin, query};
use super::{block_on, say, styled};

/// List deliveries, newest first; with an id, show one with its attempts
#[derive(Args)]
pub(super) struct Deliveries {
    /// A delivery's id, dlv_…
    id: Option<String>,
    /// pending, delivered, filtered or dead
    #[arg(long)]
    status: Option<String>,
    /// An event type, or the start of one before a `*`
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The id of the resource the event is about
    #[arg(long)]
    subject: Option<String>,
    /// Where the event came in
    #[arg(long)]
    source: Option<String>,
    /// A route's name
    #[arg(long)]
    route: Option<String>,
    /// An endpoint's URL
    #[arg(long)]
    endpoint: Option<String>,
    /// From then on (RFC 3339)
    #[arg(long)]
    since: Option<String>,
    /// Before then (RFC 3339)
    #[arg(long)]
    until: Option<String>,
    /// An id, the start of one, or words of the last error
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

/// Make a new delivery of the same event
#[derive(Args)]
pub(super) struct Resend {
    /// A delivery's id, dlv_…
    id: String,
    /// Give the event a new id, so that receivers do not take it for a duplicate
    #[arg(long)]
    as_new: bool,
    #[command(flatten)]
    admin: Admin,
}

impl Deliveries {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let path = match &self.id {
            Some(id) => format!("/v1/deliveries/{id}"),
            None => format!("/v1/deliveries?{}", self.query()),
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

    fn query(&self) -> String {
        let limit = self.limit.to_string();
        query([
            ("status", self.status.as_deref()),
            ("type", self.event_type.as_deref()),
            ("subject", self.subject.as_deref()),
            ("source", self.source.as_deref()),
            ("route", self.route.as_deref()),
            ("endpoint", self.endpoint.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("q", self.q.as_deref()),
            ("cursor", self.cursor.as_deref()),
            ("limit", Some(&limit)),
        ])
    }
}

impl Resend {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let path = format!("/v1/deliveries/{}/resend", self.id);
        let answer = block_on(self.admin.post(&path, &json!({ "as_new": self.as_new })))?;
        say(answer["id"].as_str().unwrap_or_default())?;
        Ok(true)
    }
}

/// One delivery as one line.
fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or("-");
    format!(
        "{}  {}  {} {:>2}  {:<28} {:<20} {}",
        text("id"),
        text("created_at"),
        styled(text("status"), 9),
        row["attempts"],
        text("type"),
        text("route"),
        row["last_error"].as_str().unwrap_or_default(),
    )
}
