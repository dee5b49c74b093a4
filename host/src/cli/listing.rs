//! Lists of the log, from a terminal: what can be asked of each, and a page of rows.

use clap::Args;
use serde_json::Value;

use super::remote::{Admin, query};
use super::{block_on, say};

/// Which rows, and how they are shown.
#[derive(Args)]
pub(super) struct Listing {
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

/// The rows at a path of the admin API.
pub(super) struct Rows {
    pub(super) path: &'static str,
    /// One of them, for a person.
    pub(super) line: fn(&Value) -> String,
}

impl Listing {
    pub(super) fn one(&self, of: &Rows, id: &str) -> anyhow::Result<bool> {
        let answer = block_on(self.admin.get(&format!("{}/{id}", of.path)))?;
        match self.json {
            true => say(answer)?,
            false => say(format!("{answer:#}"))?,
        }
        Ok(true)
    }

    /// A page of those that are also as `narrowed` says.
    pub(super) fn page(
        &self,
        of: &Rows,
        narrowed: &[(&str, &Option<String>)],
    ) -> anyhow::Result<bool> {
        let limit = Some(self.limit.to_string());
        let common = [
            ("type", &self.event_type),
            ("subject", &self.subject),
            ("source", &self.source),
            ("since", &self.since),
            ("until", &self.until),
            ("cursor", &self.cursor),
            ("limit", &limit),
        ];
        let asked = narrowed.iter().chain(&common).map(|(name, value)| (*name, value.as_deref()));
        let answer = block_on(self.admin.get(&format!("{}?{}", of.path, query(asked))))?;
        if self.json {
            say(answer)?;
        } else {
            let rows = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
            rows.iter().try_for_each(|row| say((of.line)(row)))?;
        }
        Ok(true)
    }
}
