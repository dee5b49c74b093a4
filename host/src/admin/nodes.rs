//! `/v1/nodes`: the engines on this store, and whether they serve the same folder.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::Asked;
use super::session::{Caller, Nothing};
use crate::engine::Engine;
use crate::problem::HttpProblem;
use crate::queue::nodes::{self, disagree_since, prevailing};

/// Who shares the work.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    data: Vec<Node>,
    /// Do all serve the same folder, as far as they have said?
    agree: bool,
    /// Since when they do not; null when they do.
    #[schema(format = DateTime)]
    disagree_since: Option<String>,
}

/// An engine on this store.
#[derive(Serialize, ToSchema)]
struct Node {
    /// Of its ids; a number is given again when its node is gone.
    number: u32,
    /// Its host and its process.
    name: String,
    /// None before it has said so.
    version: Option<String>,
    /// A digest of the folder that it serves: every file that was read, secrets' files too.
    snapshot: Option<String>,
    #[schema(format = DateTime)]
    snapshot_since: Option<String>,
    /// Is it another than most nodes have, or than the newer of two has?
    differs: bool,
    /// Its last sign of life.
    #[schema(format = DateTime)]
    seen_at: String,
    /// False when it was silent for longer than `store.lease`: the others are about to give
    /// it up.
    alive: bool,
}

/// Engines on this store
#[utoipa::path(get, path = "/v1/nodes", operation_id = "nodes", tag = "in force",
    responses((status = 200, description = "Every node, and whether they agree", body = Nodes)))]
pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Nodes>, HttpProblem> {
    caller.must_run_the_engine()?;
    let nodes = engine.queue.nodes().await?;
    let prevails = prevailing(&nodes);
    let node = |it: &nodes::Node| {
        let snapshot = it.report.as_ref().map(|it| it.snapshot.clone());
        Node {
            number: it.number,
            name: it.name.clone(),
            version: it.version.clone(),
            differs: snapshot.is_some() && snapshot.as_deref() != prevails,
            snapshot,
            snapshot_since: it.report.as_ref().map(|it| it.since.to_string()),
            seen_at: it.seen.to_string(),
            alive: it.alive,
        }
    };
    let since = disagree_since(&nodes);
    Ok(Json(Nodes {
        data: nodes.iter().map(node).collect(),
        agree: since.is_none(),
        disagree_since: since.map(|it| it.to_string()),
    }))
}
