//! The PostgreSQL that the tests start.

#[path = "../support/postgres.rs"]
pub(crate) mod postgres;
#[expect(dead_code, reason = "the certificates' file asks for it")]
#[path = "../support/receiver.rs"]
pub(crate) mod receiver;
#[expect(dead_code, reason = "the tests do more with it")]
#[path = "../support/tls.rs"]
pub(crate) mod tls;

use std::thread;
use std::time::{Duration, Instant};

/// It only ends what would never end.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Ask until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
