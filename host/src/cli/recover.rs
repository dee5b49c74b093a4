//! `plugpost recover`: a range is sent again by the engine; this shows how far it is.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::remote::Admin;
use super::{block_on, say};

/// Send a range of deliveries again, and show how far it is
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["route", "endpoint"]))]
pub(super) struct Recover {
    /// A route's name
    #[arg(long)]
    route: Option<String>,
    /// An endpoint's URL
    #[arg(long)]
    endpoint: Option<String>,
    /// Deliveries made from then on (RFC 3339)
    #[arg(long)]
    since: String,
    /// Deliveries made before then (RFC 3339); now, unless given
    #[arg(long)]
    until: Option<String>,
    /// dead, delivered or filtered
    #[arg(long, default_value = "dead")]
    status: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

impl Recover {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        block_on(self.show())
    }

    async fn show(&self) -> anyhow::Result<bool> {
        let mut range = Map::new();
        for (name, value) in [
            ("route", &self.route),
            ("endpoint", &self.endpoint),
            ("since", &Some(self.since.clone())),
            ("until", &self.until),
            ("status", &Some(self.status.clone())),
        ] {
            range.extend(value.as_ref().map(|it| (name.to_owned(), json!(it))));
        }
        let mut run = self.admin.post("/v1/recover", &Value::Object(range)).await?;
        let path = format!("/v1/recover/{}", run["id"].as_str().unwrap_or_default());
        let terminal = std::io::stderr().is_terminal();
        loop {
            if terminal && !self.json {
                eprint!("\r\x1b[K{}", line(&run));
                let _ = std::io::stderr().flush();
            }
            if run["state"] != "running" {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => run = self.admin.get(&path).await?,
                _ = tokio::signal::ctrl_c() => run = self.admin.delete(&path).await?,
            }
        }
        if terminal && !self.json {
            eprint!("\r\x1b[K");
        }
        match self.json {
            true => say(&run)?,
            false => say(line(&run))?,
        }
        Ok(run["state"] == "done")
    }
}

fn line(run: &Value) -> String {
    let text = |name: &str| run[name].as_str();
    let reached = text("reached").map_or(String::new(), |it| format!(", up to {it}"));
    let error = text("error").map_or(String::new(), |it| format!(": {it}"));
    format!(
        "{}  {}  {} sent again, {} skipped{reached}{error}",
        text("id").unwrap_or_default(),
        text("state").unwrap_or_default(),
        run["resent"],
        run["skipped"],
    )
}
