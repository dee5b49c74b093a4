//! `plugpost deliveries` and `plugpost resend`: the log, from a terminal.

use clap::Args;
use serde_json::{Value, json};

use super::listing::{Listing, Rows};
use super::remote::Admin;
use super::{block_on, say, styled};

/// List deliveries, newest first; with an id, show one with its attempts
#[derive(Args)]
pub(super) struct Deliveries {
    /// A delivery's id, dlv_…
    id: Option<String>,
    /// pending, delivered, filtered or dead
    #[arg(long)]
    status: Option<String>,
    /// A route's name
    #[arg(long)]
    route: Option<String>,
    /// An endpoint's URL
    #[arg(long)]
    endpoint: Option<String>,
    /// An id, the start of one, or words of the last error
    #[arg(long, short)]
    q: Option<String>,
    #[command(flatten)]
    listing: Listing,
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

const ROWS: Rows = Rows { path: "/v1/deliveries", line };

impl Deliveries {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        match &self.id {
            Some(id) => self.listing.one(&ROWS, id),
            None => {
                let narrowed = [
                    ("status", &self.status),
                    ("route", &self.route),
                    ("endpoint", &self.endpoint),
                    ("q", &self.q),
                ];
                self.listing.page(&ROWS, &narrowed)
            }
        }
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
