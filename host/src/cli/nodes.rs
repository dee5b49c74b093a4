//! `plugpost nodes`: who shares the work, and whether they serve the same folder.

use clap::Args;
use serde_json::Value;

use super::remote::Admin;
use super::{block_on, say};

/// List the engines on the store; ends with 1 when they do not serve the same folder
#[derive(Args)]
pub(super) struct Nodes {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// So much of a digest tells two folders apart.
const DIGEST_SHOWN: usize = 12;

impl Nodes {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let nodes = block_on(self.admin.get("/v1/nodes"))?;
        let agree = nodes["agree"] == true;
        if self.json {
            say(&nodes)?;
            return Ok(agree);
        }
        for it in nodes["data"].as_array().into_iter().flatten() {
            say(line(it))?;
        }
        if let Some(since) = nodes["disagree_since"].as_str() {
            say(format!("they do not serve the same folder, since {since}"))?;
        }
        Ok(agree)
    }
}

fn line(it: &Value) -> String {
    let text = |name: &str| it[name].as_str().unwrap_or("-");
    let snapshot = text("snapshot");
    let snapshot = snapshot.get(..DIGEST_SHOWN).unwrap_or(snapshot);
    let differs = if it["differs"] == true { "  differs" } else { "" };
    let silent = if it["alive"] == true { "" } else { "  silent" };
    format!(
        "{:>4}  {}  {}  {snapshot} since {}  seen {}{differs}{silent}",
        it["number"],
        text("name"),
        text("version"),
        text("snapshot_since"),
        text("seen_at"),
    )
}
