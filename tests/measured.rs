//! What is held to a time or to an amount of memory. `make test` runs these after the others, one
//! at a time, so that what they measure is the engine and not the test beside them.

mod backlog;
mod footprint;
mod hostile_plugins;
pub(crate) mod lanes;
mod plugin_limits;
mod reload_under_load;
