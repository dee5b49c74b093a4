//! `plugpost demo`: the engine on an example folder, a sender that speaks as the
//! platforms do, and a receiver that verifies every request by code of its own.
//!
//! It knows no platform: `demo/*.toml` of the folder says what is sent and what
//! must arrive.

mod exchange;
mod receiver;
pub(super) mod signing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{say, serve};
use crate::queue::Location;
use crate::snapshot;
use exchange::Exchange;
use receiver::Receipt;

/// Start everything with a receiver of its own, and show deliveries as they happen
#[derive(Args)]
pub(super) struct Demo {
    /// The example folder
    #[arg(default_value = "examples/five-platforms")]
    folder: PathBuf,
    /// End when everything has arrived: status 0 only if all of it was verified
    #[arg(long)]
    exit: bool,
}

/// Everything arrives within milliseconds, unless something is wrong.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(20);

impl Demo {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.show())
    }

    async fn show(&self) -> anyhow::Result<bool> {
        let exchanges = exchange::read_all(&self.folder)?;
        ensure!(!exchanges.is_empty(), "{} has no demo/*.toml", self.folder.display());
        let mut snapshot = match snapshot::load(&self.folder) {
            Ok(snapshot) => snapshot,
            Err(problems) => {
                super::check::report(&problems);
                return Ok(false);
            }
        };
        // A store of its own, gone afterwards: a second run sends the same events again.
        let store = TemporaryFolder::new()?;
        let hub = Arc::get_mut(&mut snapshot.hub).context("the configuration is in use")?;
        hub.store = Location::Sqlite(store.0.join("plugpost.db"));

        let (receipts, mut arrivals) = mpsc::unbounded_channel();
        let receiver = receiver::start(exchanges.clone(), receipts).await?;
        let running = serve::start(snapshot, None).await?;
        let (public, admin) = (running.public, running.admin);
        say(format!(
            "engine    http://{public} takes events in, http://{admin} answers questions"
        ))?;
        say(format!("receiver  http://{receiver} verifies what arrives by code of its own\n"))?;

        for exchange in &exchanges {
            let status = exchange.send(public).await?;
            say(format!("sent      {:<16} {:<34} {status}", exchange.name, exchange.send.path))?;
        }
        let verified = self.watch(&exchanges, &mut arrivals).await?;
        let all = exchanges.len();
        say(format!("\n{verified} of {all} deliveries arrived and were verified"))?;
        if !self.exit {
            say(format!("\nthe log:  curl http://{admin}/v1/deliveries\nstop with Ctrl-C"))?;
            let shown = async {
                while let Some(it) = arrivals.recv().await {
                    show(&it)?
                }
                Ok(())
            };
            tokio::select! {
                result = shown => { let result: anyhow::Result<()> = result; result? }
                () = serve::asked_to_stop()? => {}
            }
        }
        running.stop().await;
        Ok(verified == all)
    }

    /// Show arrivals until each exchange has been seen; returns how many were verified.
    async fn watch(
        &self,
        exchanges: &[Exchange],
        arrivals: &mut mpsc::UnboundedReceiver<Receipt>,
    ) -> anyhow::Result<usize> {
        let mut missing: Vec<&str> = exchanges.iter().map(|it| it.name.as_str()).collect();
        let mut verified = 0;
        while !missing.is_empty() {
            let Ok(Some(receipt)) = timeout(ARRIVAL_TIMEOUT, arrivals.recv()).await else {
                say(format!("missing   {}", missing.join(", ")))?;
                break;
            };
            show(&receipt)?;
            if let Some(at) = missing.iter().position(|it| *it == receipt.name) {
                missing.swap_remove(at);
                verified += usize::from(receipt.verified.is_ok());
            }
        }
        Ok(verified)
    }
}

fn show(receipt: &Receipt) -> anyhow::Result<()> {
    let verdict = match &receipt.verified {
        Ok(how) => format!("verified: {how}"),
        Err(why) => format!("NOT VERIFIED: {why}"),
    };
    let (name, id) = (&receipt.name, &receipt.webhook_id);
    say(format!("arrived   {name:<16} {id:<18} {:>6} bytes  {verdict}", receipt.body_bytes))
}

/// A folder that goes when it is dropped.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> anyhow::Result<Self> {
        let name = format!("plugpost-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The text of a secret's file, without its line end.
fn read_secret(folder: &Path, file: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(folder.join(file)).with_context(|| format!("reading {file}"))?;
    let text = text.trim_end().to_owned();
    if text.is_empty() {
        bail!("{file} is empty");
    }
    Ok(text)
}
