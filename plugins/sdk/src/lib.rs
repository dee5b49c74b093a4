//! Write a Plugpost plugin in Rust: one type, one trait per role, one macro.
//!
//! ```no_run
//! use plugpost_plugin::{Description, Event, Failure, Filter, Plugin, Problem, export};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Settings { currency: String }
//!
//! struct OnlyCurrency { currency: String }
//!
//! impl Plugin for OnlyCurrency {
//!     type Settings = Settings;
//!
//!     fn describe() -> Description {
//!         Description::new("only-currency", "0.1.0", "lets one currency pass").settings_schema(
//!             r#"{"type":"object","properties":{"currency":{"type":"string"}},"required":["currency"]}"#,
//!         )
//!     }
//!
//!     fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
//!         Ok(Self { currency: settings.currency })
//!     }
//! }
//!
//! impl Filter for OnlyCurrency {
//!     fn accept(&self, event: &Event) -> Result<bool, Failure> {
//!         Ok(event.text("/order/currency").is_some_and(|it| it == self.currency))
//!     }
//! }
//!
//! export!(OnlyCurrency: filter);
//! # fn main() {}
//! ```
//!
//! In reading order: [`describe`](Description) says who the plugin is, the role
//! traits say what it does, [`secrets`] uses keys it never sees, [`rules`] are headers
//! that it is not even called for, and [`export!`] makes the component. What several
//! platforms share stands beside them: [`credentials`] in a header, the
//! [`standard_webhooks`] signature, [`json`] that is not parsed twice, [`webhook_api`]
//! for a platform's own API, [`rfc3339`] times, [`places`] that settings name, and an
//! [`excerpt`] of what a user wrote. The crate holds no platform's rules. In Wasm it
//! sets the global allocator, one that is made for short calls.

#[cfg(any(target_family = "wasm", test))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
pub mod credentials;
mod description;
mod event;
pub mod excerpt;
mod inbound;
mod instance;
pub mod json;
pub mod places;
pub mod rfc3339;
mod roles;
pub mod rules;
pub mod secrets;
pub mod standard_webhooks;
pub mod webhook_api;

#[doc(hidden)]
pub use instance::{Instance, Kept, configure};

pub use bindings::base::plugpost::plugin::events::Event;
pub use bindings::base::plugpost::plugin::requests::{Inbound, Outgoing};
pub use bindings::base::plugpost::plugin::types::{Body, Failure, Header, HeaderValue, Problem};
pub use bindings::source::exports::plugpost::plugin::source::{Received, Rejection};
pub use bindings::transform::exports::plugpost::plugin::transform::Message;
pub use description::{Description, Encoding};
pub use roles::{Auth, AuthRules, Filter, NoSettings, Plugin, Source, Transform};

/// Write a line to the operator's log at `info`.
pub fn log(message: &str) {
    bindings::base::plugpost::plugin::logging::log("info", message);
}

#[cfg(target_family = "wasm")]
#[global_allocator]
static MEMORY: allocator::Allocator = allocator::Allocator::new();
