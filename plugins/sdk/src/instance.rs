//! The one plugin value of a component, and the macro that exports it.

use std::cell::{Cell, OnceCell};
use std::ptr;

use crate::{Plugin, Problem};

/// Holds the plugin from `configure` to the end of the instance.
#[derive(Debug)]
pub struct Instance<P>(OnceCell<P>);

// SAFETY: a component is single-threaded; the host enters it one call at a time.
#[expect(unsafe_code, reason = "a static must be Sync, and Wasm guests have one thread")]
unsafe impl<P> Sync for Instance<P> {}

impl<P> Instance<P> {
    /// No plugin yet.
    #[expect(clippy::new_without_default, reason = "const, for a static")]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// The plugin. The host configures an instance before it calls a role.
    pub fn plugin(&self) -> &P {
        self.0.get().expect("the host calls configure before any role")
    }
}

/// What a call has answered stays in the guest's memory until the next call of its role, which
/// lets go of it. With the export that the bindings make, the host enters the guest a second
/// time after each call for that; and entering is most of what a small call costs.
#[derive(Debug)]
pub struct Kept(Cell<*mut u8>);

// SAFETY: as for `Instance`.
#[expect(unsafe_code, reason = "a static must be Sync, and Wasm guests have one thread")]
unsafe impl Sync for Kept {}

impl Kept {
    /// No call yet.
    pub const fn nothing() -> Self {
        Self(Cell::new(ptr::null_mut()))
    }

    /// Let go of the last answer, and make the next.
    ///
    /// # Safety
    /// `let_go` takes what `call` makes, and nobody reads the last answer any more.
    #[expect(unsafe_code, reason = "answers are raw memory")]
    pub unsafe fn replace(
        &self,
        let_go: unsafe fn(*mut u8),
        call: impl FnOnce() -> *mut u8,
    ) -> *mut u8 {
        let last = self.0.replace(ptr::null_mut());
        if !last.is_null() {
            // SAFETY: as promised to this function; it is let go of once.
            unsafe { let_go(last) };
        }
        self.0.set(call());
        self.0.get()
    }
}

/// Make the plugin from its settings, or say what is wrong with them.
pub fn configure<P: Plugin>(instance: &Instance<P>, settings: &str) -> Vec<Problem> {
    // Without it a panic would only be `unreachable`.
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        crate::bindings::base::plugpost::plugin::logging::log("error", &panic.to_string());
    }));
    let settings = match serde_json::from_str::<P::Settings>(settings) {
        Ok(settings) => settings,
        Err(error) => return vec![Problem::at("", error.to_string())],
    };
    match P::new(settings) {
        Ok(plugin) => {
            // A second configure cannot happen: the host makes an instance for each.
            let _ = instance.0.set(plugin);
            Vec::new()
        }
        Err(problems) => problems,
    }
}

/// Export a type as a component with the roles named:
/// `export!(Buildr: source, transform, auth);`
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($role:ident),+ $(,)?) => {
        const _: () = {
            struct Component;

            static INSTANCE: $crate::Instance<$plugin> = $crate::Instance::new();

            impl $crate::bindings::base::exports::plugpost::plugin::plugin::Guest for Component {
                fn describe()
                -> $crate::bindings::base::exports::plugpost::plugin::plugin::Description {
                    <$plugin as $crate::Plugin>::describe().into_wit()
                }

                fn configure(settings: String) -> Vec<$crate::Problem> {
                    $crate::configure::<$plugin>(&INSTANCE, &settings)
                }
            }

            $crate::bindings::base::export_base!(Component with_types_in $crate::bindings::base);
            $($crate::export_role!($plugin, $role);)+
        };
    };
}

/// One role's exports; part of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! export_role {
    ($plugin:ty, source) => {
        impl $crate::bindings::source::exports::plugpost::plugin::source::Guest for Component {
            fn receive(request: &$crate::Inbound) -> Result<Vec<$crate::Received>, $crate::Rejection> {
                let plugin = INSTANCE.plugin();
                $crate::Source::verify(plugin, request)?;
                $crate::Source::decode(plugin, request)
            }
        }
        $crate::bindings::source::export_source!(Component with_types_in $crate::bindings::source);
        $crate::export_kept!(
            source, "plugpost:plugin/source@0.1.0#receive", _export_receive_cabi, __post_return_receive
        );
    };
    ($plugin:ty, filter) => {
        impl $crate::bindings::filter::exports::plugpost::plugin::filter::Guest for Component {
            fn accept(event: &$crate::Event) -> Result<bool, $crate::Failure> {
                $crate::Filter::accept(INSTANCE.plugin(), event)
            }
        }
        $crate::bindings::filter::export_filter!(Component with_types_in $crate::bindings::filter);
        $crate::export_kept!(
            filter, "plugpost:plugin/filter@0.1.0#accept", _export_accept_cabi, __post_return_accept
        );
    };
    ($plugin:ty, transform) => {
        impl $crate::bindings::transform::exports::plugpost::plugin::transform::Guest for Component {
            fn apply(event: &$crate::Event) -> Result<$crate::Message, $crate::Failure> {
                $crate::Transform::apply(INSTANCE.plugin(), event)
            }
        }
        $crate::bindings::transform::export_transform!(
            Component with_types_in $crate::bindings::transform
        );
        $crate::export_kept!(
            transform, "plugpost:plugin/transform@0.1.0#apply", _export_apply_cabi, __post_return_apply
        );
    };
    ($plugin:ty, auth) => {
        impl $crate::bindings::auth::exports::plugpost::plugin::auth::Guest for Component {
            fn sign(request: &$crate::Outgoing) -> Result<Vec<$crate::Header>, $crate::Failure> {
                $crate::Auth::sign(INSTANCE.plugin(), request)
            }
        }
        $crate::bindings::auth::export_auth!(Component with_types_in $crate::bindings::auth);
        $crate::export_kept!(
            auth, "plugpost:plugin/auth@0.1.0#sign", _export_sign_cabi, __post_return_sign
        );
    };
    ($plugin:ty, auth_rules) => {
        impl $crate::bindings::auth_rules::exports::plugpost::plugin::auth_rules::Guest for Component {
            fn rules() -> Option<Vec<$crate::rules::Rule>> {
                $crate::AuthRules::rules(INSTANCE.plugin())
            }
        }
        $crate::bindings::auth_rules::export_auth_rules!(
            Component with_types_in $crate::bindings::auth_rules
        );
    };
    ($plugin:ty, webhook_api) => {
        impl $crate::webhook_api::wit::Guest for Component {
            fn credentials() -> Vec<$crate::webhook_api::wit::Credential> {
                $crate::webhook_api::credentials::<$plugin>()
            }

            fn answer(
                request: &$crate::Inbound,
                caller: Option<&$crate::webhook_api::wit::Caller>,
            ) -> $crate::webhook_api::wit::Response {
                $crate::webhook_api::answer(INSTANCE.plugin(), request, caller)
            }
        }
        $crate::bindings::webhook_api::export_webhook_api!(
            Component with_types_in $crate::bindings::webhook_api
        );
    };
}

/// A role's call, in place of the export that the bindings make: see [`Kept`].
#[doc(hidden)]
#[macro_export]
macro_rules! export_kept {
    ($role:ident, $name:literal, $call:ident, $let_go:ident) => {
        const _: () = {
            use $crate::bindings::$role::exports::plugpost::plugin::$role::{$call, $let_go};

            static LAST: $crate::Kept = $crate::Kept::nothing();

            #[unsafe(export_name = $name)]
            unsafe extern "C" fn call(handle: i32) -> *mut u8 {
                // SAFETY: the host calls with a handle that is right, and has read what was
                // answered to the call before.
                unsafe { LAST.replace($let_go::<Component>, || $call::<Component>(handle)) }
            }
        };
    };
}
