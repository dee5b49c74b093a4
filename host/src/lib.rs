//! Plugpost, the host. It reads as the way of an event:
//!
//! ```text
//! POST → ingest → [source plugin: verify, decode] → queue.accept ── commit, then 202
//!                                                        │
//!          lane (one per route's endpoint: concurrency, rate)
//!                                                        │
//!    pipeline:  filter → transform → sign → deliver → settle
//! ```
//!
//! - The nouns are pure: [`event`], [`route`], [`endpoint`], [`delivery`],
//!   [`attempt`], [`retry`] do no I/O, read no clock and draw no randomness.
//! - [`config`] reads the folder a user writes; [`snapshot`] makes of it one
//!   checked set of sources, routes and plugins.
//! - [`ingest`] takes requests in, [`queue`] keeps events and deliveries,
//!   [`lane`] says how many at once and how fast, [`pipeline`] makes an attempt,
//!   [`client`] sends it.
//! - [`platforms`] answers platforms' own management APIs, by their plugins.
//! - [`operational`] tells, as events, what the engine itself has to tell.
//! - [`reload`] watches the folder and publishes a new snapshot when it is good.
//! - [`subscription`] is a route made at run time, [`vault`] keeps its secrets from
//!   whoever reads the disk.
//! - [`plugin`] runs WebAssembly components. Only it knows of wasmtime.
//! - [`registry`] pulls plugins from OCI registries by their digest, and pushes them.
//! - [`stream`] tells of attempts as they happen, [`recover`] resends a range.
//! - [`plan`] holds what would be sent now against what was sent; [`cases`] are a
//!   plugin's own tests.
//! - [`metrics`] counts and [`traces`] measures for those who watch.
//! - [`admin`] shows the log; [`cli`] is what a user types.
//!
//! `ARCHITECTURE.md` walks one event through all of it.

mod clock;
mod json;

mod attempt;
mod delivery;
mod endpoint;
mod event;
mod retry;
mod route;
mod subscription;

mod config;
mod snapshot;

mod access;
mod ingest;
mod platforms;
mod problem;
mod reply;
mod server;

mod engine;
mod lane;
mod operational;
mod pipeline;
mod queue;
mod recover;
mod reload;
mod stream;

mod client;
mod plugin;
mod registry;
mod vault;

#[expect(unused_qualifications, reason = "what utoipa's macros write is qualified")]
mod admin;
mod metrics;
mod traces;

mod allocator;
mod cases;
pub mod cli;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod plan;
#[cfg(test)]
mod simulation;
