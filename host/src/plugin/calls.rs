//! What a plugin takes: how often it was called, for how long, with how much memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::meter::Metered;

/// Counts of one component, from when it was loaded.
#[derive(Debug, Default)]
pub(super) struct Counter {
    calls: AtomicU64,
    faults: AtomicU64,
    time_us: AtomicU64,
    memory_bytes_most: AtomicU64,
}

/// What the calls of a plugin took.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Calls {
    calls: u64,
    /// Calls that trapped or took too long.
    faults: u64,
    /// Of all calls together.
    time_us: u64,
    /// The most linear memory that one instance had.
    memory_bytes_most: u64,
}

impl Counter {
    pub(super) fn add(&self, took: Duration, good: bool, limits: &Metered) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.faults.fetch_add(u64::from(!good), Ordering::Relaxed);
        self.time_us.fetch_add(us, Ordering::Relaxed);
        self.memory_bytes_most.fetch_max(limits.memory_bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn so_far(&self) -> Calls {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Calls {
            calls: read(&self.calls),
            faults: read(&self.faults),
            time_us: read(&self.time_us),
            memory_bytes_most: read(&self.memory_bytes_most),
        }
    }
}
