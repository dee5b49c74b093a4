//! Databases on the PostgreSQL of this run: what the engines on one store into, and what its
//! server has worked for it.

use std::fs;
use std::time::Duration;

use crate::engine::Hub;
use crate::process::family_cpu;
use crate::support::postgres::{self, Cluster};

/// A database of its own, on a server that others use in their turn.
pub(crate) struct Database {
    url: String,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self { url: postgres::shared().database() }
    }

    /// Let a hub keep its events here.
    pub(crate) fn serve(&self, hub: &Hub) {
        store_into(hub, &self.url);
    }
}

pub(crate) fn store_into(hub: &Hub, url: &str) {
    hub.append("plugpost.toml", &format!("[store]\nurl = \"{url}\"\n"));
}

/// What all processes of the shared server have worked.
pub(crate) fn cpu() -> Duration {
    server_cpu(postgres::shared())
}

pub(crate) fn server_cpu(cluster: &Cluster) -> Duration {
    let data = cluster.root().with_file_name("data");
    let id = fs::read_to_string(data.join("postmaster.pid")).expect("the server runs");
    let id = id.lines().next().and_then(|it| it.trim().parse().ok());
    family_cpu(id.expect("its number is on the first line"))
}
