//! Some plugins and the SDK they stand on, the same source as the guests', with the
//! host's functions in this process instead of on the other side of a boundary.
//! `make bench` holds a guest's time against it.

extern crate self as plugpost_plugin;

pub mod bindings;

#[path = "../../../plugins/sdk/src/credentials.rs"]
pub mod credentials;
#[path = "../../../plugins/sdk/src/description.rs"]
mod description;
#[path = "../../../plugins/sdk/src/event.rs"]
mod event;
#[path = "../../../host/src/json.rs"]
mod host_json;
#[path = "../../../plugins/sdk/src/inbound.rs"]
mod inbound;
#[path = "../../../plugins/sdk/src/json.rs"]
pub mod json;
#[path = "../../../plugins/sdk/src/rfc3339.rs"]
pub mod rfc3339;
#[path = "../../../plugins/sdk/src/roles.rs"]
mod roles;
#[path = "../../../plugins/sdk/src/rules.rs"]
pub mod rules;
#[path = "../../../plugins/sdk/src/secrets.rs"]
pub mod secrets;
#[path = "../../../plugins/sdk/src/standard_webhooks.rs"]
pub mod standard_webhooks;
// A link: it has modules of its own.
pub mod webhook_api;

pub use bindings::base::plugpost::plugin::events::Event;
pub use bindings::base::plugpost::plugin::requests::{Inbound, Outgoing};
pub use bindings::base::plugpost::plugin::types::{Body, Failure, Header, HeaderValue, Problem};
pub use bindings::source::exports::plugpost::plugin::source::{Received, Rejection};
pub use bindings::transform::exports::plugpost::plugin::transform::Message;
pub use description::{Description, Encoding};
pub use roles::{Auth, AuthRules, Filter, NoSettings, Plugin, Source, Transform};

/// Here nothing is exported: a plugin is made, and its transform is called.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($role:ident),+ $(,)?) => {
        /// The plugin as a transform, with these settings.
        pub fn shaping(settings: &str) -> impl $crate::Transform + use<> {
            let settings = serde_json::from_str(settings).expect("settings");
            let made = <$plugin as $crate::Plugin>::new(settings);
            made.unwrap_or_else(|_| panic!("refused settings"))
        }
    };
}

#[path = "../../../plugins/bigcommerce-b2b/src/lib.rs"]
pub mod bigcommerce_b2b;
#[path = "../../../plugins/buildr/src/lib.rs"]
pub mod buildr;
#[path = "../../../plugins/ordermentum/src/lib.rs"]
pub mod ordermentum;
