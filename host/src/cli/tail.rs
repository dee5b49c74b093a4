//! `plugpost tail`: attempts as they happen.

use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::remote::{Admin, query};
use super::{block_on, say, styled};

/// Show attempts as they happen
#[derive(Args)]
pub(super) struct Tail {
    /// A route's name
    #[arg(long)]
    route: Option<String>,
    /// An event type, or the start of one before a `*`
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Where the delivery stands after the attempt: pending, delivered or dead
    #[arg(long)]
    status: Option<String>,
    /// Print each attempt as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// One event of the stream; the engine sends none that is larger.
const EVENT_BYTES_MAX: usize = 1 << 20;

impl Tail {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        block_on(self.follow())
    }

    async fn follow(&self) -> anyhow::Result<bool> {
        let asked = query([
            ("route", self.route.as_deref()),
            ("type", self.event_type.as_deref()),
            ("status", self.status.as_deref()),
        ]);
        let mut body = self.admin.open(&format!("/v1/stream?{asked}")).await?;
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            read.extend_from_slice(&data);
            while let Some(end) = read.windows(2).position(|it| it == b"\n\n") {
                let event: Vec<u8> = read.drain(..end + 2).collect();
                self.show(&String::from_utf8_lossy(&event))?;
            }
            anyhow::ensure!(read.len() < EVENT_BYTES_MAX, "this is not an engine's stream");
        }
        anyhow::bail!("the engine has ended the stream");
    }

    fn show(&self, event: &str) -> anyhow::Result<()> {
        let field = |name: &str| {
            let of = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
            event.lines().find_map(of)
        };
        let (Some(kind), Some(data)) = (field("event"), field("data")) else { return Ok(()) };
        let data: Value = serde_json::from_str(&data)?;
        match kind.as_str() {
            "attempt" if self.json => say(data),
            "attempt" => say(line(&data)),
            "lagged" => {
                let missed = data["missed"].as_u64().map_or("some".to_owned(), |it| it.to_string());
                eprintln!("{missed} attempts were missed: they came too fast");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// One attempt as one line.
fn line(attempt: &Value) -> String {
    let text = |name: &str| attempt[name].as_str().unwrap_or("-");
    let ms = attempt["duration_us"].as_f64().unwrap_or_default() / 1000.0;
    let status_code = attempt["status_code"].as_u64().map_or("-".into(), |it| it.to_string());
    format!(
        "{}  {} {status_code:>3} {ms:>9.1} ms  #{:<2} {}  {:<28} {:<20} {}",
        text("started_at"),
        styled(text("outcome"), 9),
        attempt["attempt"].as_u64().unwrap_or_default(),
        text("delivery_id"),
        text("type"),
        text("route"),
        attempt["error"].as_str().unwrap_or_default(),
    )
}
