//! What wit-bindgen makes of `wit/`: one module per world, so that a component
//! exports the roles it names and no others. Nothing here is written by hand. Where
//! exports have the prefix `unused:`, `export_kept!` exports the calls.

pub mod base {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "base",
        generate_all,
        // What a plugin hands to the host is not copied for it first.
        ownership: Borrowing { duplicate_if_necessary: false },
        pub_export_macro: true,
        export_macro_name: "export_base",
        default_bindings_module: "plugpost_plugin::bindings::base",
    });
}

pub mod source {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "source-role",
        pub_export_macro: true,
        export_macro_name: "export_source",
        export_prefix: "unused:",
        default_bindings_module: "plugpost_plugin::bindings::source",
        with: {
            "plugpost:plugin/types@0.1.0": crate::bindings::base::plugpost::plugin::types,
            "plugpost:plugin/requests@0.1.0": crate::bindings::base::plugpost::plugin::requests,
        },
    });
}

pub mod filter {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "filter-role",
        pub_export_macro: true,
        export_macro_name: "export_filter",
        export_prefix: "unused:",
        default_bindings_module: "plugpost_plugin::bindings::filter",
        with: {
            "plugpost:plugin/types@0.1.0": crate::bindings::base::plugpost::plugin::types,
            "plugpost:plugin/events@0.1.0": crate::bindings::base::plugpost::plugin::events,
        },
    });
}

pub mod transform {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "transform-role",
        pub_export_macro: true,
        export_macro_name: "export_transform",
        export_prefix: "unused:",
        default_bindings_module: "plugpost_plugin::bindings::transform",
        with: {
            "plugpost:plugin/types@0.1.0": crate::bindings::base::plugpost::plugin::types,
            "plugpost:plugin/events@0.1.0": crate::bindings::base::plugpost::plugin::events,
        },
    });
}

pub mod auth {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "auth-role",
        pub_export_macro: true,
        export_macro_name: "export_auth",
        export_prefix: "unused:",
        default_bindings_module: "plugpost_plugin::bindings::auth",
        with: {
            "plugpost:plugin/types@0.1.0": crate::bindings::base::plugpost::plugin::types,
            "plugpost:plugin/requests@0.1.0": crate::bindings::base::plugpost::plugin::requests,
        },
    });
}

pub mod auth_rules {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "auth-rules-role",
        pub_export_macro: true,
        export_macro_name: "export_auth_rules",
        default_bindings_module: "plugpost_plugin::bindings::auth_rules",
        with: {
            "plugpost:plugin/types@0.1.0": crate::bindings::base::plugpost::plugin::types,
        },
    });
}

pub mod webhook_api {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "webhook-api-role",
        pub_export_macro: true,
        export_macro_name: "export_webhook_api",
        default_bindings_module: "plugpost_plugin::bindings::webhook_api",
        generate_all,
        with: {
            "plugpost:plugin/requests@0.1.0": crate::bindings::base::plugpost::plugin::requests,
        },
    });
}
