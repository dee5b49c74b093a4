//! The tests that run the real binary: real sockets, real files, real plugins,
//! real kills. In reading order: what a plugin is, how an event comes in, how it
//! goes out, what happens when things go wrong, and what a person types.

mod support;

mod plugins;
mod released;
mod wasi;

mod fidelity;
mod hostile_http;
mod ingest;

mod guard;
mod health;
mod isolation;
mod log;
mod migrate;
mod oauth;
mod order;
mod platforms;
mod proxy;
mod receivers;
mod reload;
mod retry;
mod search;
mod secrets;
mod session;
mod signatures;
mod steer;
mod subscriptions;
mod tls;
mod traces;

mod cluster;
mod days;
mod nodes;
mod nodes_shown;
mod pins;
mod registry;
mod shutdown;
mod store_conformance;
mod store_full;
mod torture;

mod authoring;
mod browser;
mod command_line;
mod config_check;
mod dashboard;
mod demo;
mod examples;
mod openapi;
mod plan;

mod measured;

mod readme;
mod tidy;
