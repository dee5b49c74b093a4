//! Which store the hubs of a test have.

use std::cell::Cell;

use super::postgres;

thread_local! {
    static POSTGRES: Cell<bool> = const { Cell::new(false) };
}

/// Run a test whose hubs have a PostgreSQL database each.
pub(crate) fn on_postgres(test: impl FnOnce()) {
    POSTGRES.set(true);
    test();
}

/// The URL of a new store; none for a file in the hub's folder.
pub(super) fn new() -> Option<String> {
    POSTGRES.get().then(|| postgres::shared().database())
}
