//! What calls took, for whoever measures: `plugin test` and `plugin bench`. In
//! production only memory is counted.

use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::{ResourceLimiter, StoreLimits};

use super::Received;
use super::wit::{Body, Header, HeaderValue};

/// Adds up what the calls of one use of a plugin took.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Spent>);

/// What some calls took together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    /// In the guest.
    pub(crate) time: Duration,
    /// The linear memory of the instance after the largest of the calls; it never shrinks.
    pub(crate) memory_bytes: usize,
    /// What the largest answer has, in bytes and text.
    pub(crate) output_bytes: usize,
    /// Of the one that logged most.
    pub(crate) log_bytes: usize,
    pub(crate) log: Vec<LogLine>,
}

/// What a guest said to the operator.
#[derive(Clone, Debug)]
pub(crate) struct LogLine {
    pub(crate) level: String,
    pub(crate) message: String,
}

impl Meter {
    /// What was spent since it was last asked.
    pub(crate) fn take(&self) -> Spent {
        std::mem::take(&mut *self.0.lock())
    }

    pub(super) fn add_call(&self, time: Duration, memory_bytes: usize, log_bytes: usize) {
        let mut spent = self.0.lock();
        spent.time += time;
        spent.memory_bytes = spent.memory_bytes.max(memory_bytes);
        spent.log_bytes = spent.log_bytes.max(log_bytes);
    }

    pub(super) fn add_output(&self, bytes: usize) {
        let mut spent = self.0.lock();
        spent.output_bytes = spent.output_bytes.max(bytes);
    }

    pub(super) fn add_line(&self, level: &str, message: &str) {
        let line = LogLine { level: level.to_owned(), message: message.to_owned() };
        self.0.lock().log.push(line);
    }
}

/// The bytes of an event that a source made.
pub(super) fn of_event(event: &Received) -> usize {
    let pairs = event.attributes.iter().map(|(name, value)| name.len() + value.len());
    let length = |it: &Option<String>| it.as_ref().map_or(0, String::len);
    let texts = event.type_.len() + length(&event.subject) + length(&event.duplicate_key);
    texts + pairs.sum::<usize>() + of_body(&event.data)
}

/// The bytes of headers, before the host puts secrets in.
pub(super) fn of_headers(headers: &[Header]) -> usize {
    headers.iter().map(|it| it.name.len() + of_value(&it.value)).sum()
}

pub(super) fn of_value(value: &HeaderValue) -> usize {
    match value {
        HeaderValue::Text(text) => text.len(),
        HeaderValue::Secret(it) => it.prefix.len() + it.secret.len(),
        HeaderValue::Basic(it) => it.username.len() + it.password.len(),
    }
}

pub(super) fn of_body(body: &Body) -> usize {
    match body {
        Body::Unchanged => 0,
        Body::Bytes(bytes) => bytes.len(),
    }
}

/// The limits of a store, and how much linear memory it has come to.
pub(super) struct Metered {
    limits: StoreLimits,
    pub(super) memory_bytes: usize,
}

impl Metered {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self { limits, memory_bytes: 0 }
    }
}

impl ResourceLimiter for Metered {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = self.limits.memory_growing(current, desired, maximum)?;
        if allowed {
            self.memory_bytes += desired.saturating_sub(current);
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.limits.memory_grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.limits.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
