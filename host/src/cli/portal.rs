//! `plugpost portal`: a link that shows one tenant's share of the dashboard.

use clap::Args;
use serde_json::{Value, json};

use super::remote::Admin;
use super::{block_on, say};

/// Make a link that shows one tenant's share of the dashboard
#[derive(Args)]
pub(super) struct Portal {
    /// The tenant
    tenant: String,
    /// For how long, from 1m to 7d
    #[arg(long, default_value = "1h")]
    expires_in: String,
    /// Who has it changes nothing
    #[arg(long)]
    read_only: bool,
    /// Where its readers reach the dashboard, such as https://hooks.example.com
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

impl Portal {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let wanted = json!({
            "tenant": self.tenant,
            "expires_in": self.expires_in,
            "read_only": self.read_only,
            "base": self.base,
        });
        let made: Value = block_on(self.admin.post("/v1/portal", &wanted))?;
        match self.json {
            true => say(&made)?,
            false => say(made["url"].as_str().unwrap_or_default())?,
        }
        Ok(true)
    }
}
