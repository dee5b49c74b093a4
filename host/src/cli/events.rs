//! `plugpost events`: what came in, from a terminal.

use clap::Args;
use serde_json::Value;

use super::listing::{Listing, Rows};

/// List events, newest first; with an id, show one as it came in
#[derive(Args)]
pub(super) struct Events {
    /// An event's id, evt_…
    id: Option<String>,
    /// An id or the start of one
    #[arg(long, short)]
    q: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

const ROWS: Rows = Rows { path: "/v1/events", line };

impl Events {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        match &self.id {
            Some(id) => self.listing.one(&ROWS, id),
            None => self.listing.page(&ROWS, &[("q", &self.q)]),
        }
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
