//! What a guest says of what goes wrong in it: what it logs as an error, and what it
//! writes to its standard error, where languages put why they give up. The beginning
//! is kept for the fault's message, and the rest is not.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::text::lines;
use crate::attempt::Fault;

/// One instance's; every handle is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Arc<Mutex<Vec<u8>>>);

/// Of one call: a message and some of its trace.
const SAID_BYTES_MAX: usize = 1 << 10;

/// What a guest may write at once.
const WRITE_BYTES_MAX: usize = 4 << 10;

impl Said {
    pub(super) fn add(&self, bytes: &[u8]) {
        let mut said = self.0.lock();
        let room = SAID_BYTES_MAX - said.len();
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The call went well.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }

    /// A fault, behind what was said before it.
    pub(super) fn with(&self, mut fault: Fault) -> Fault {
        let said = std::mem::take(&mut *self.0.lock());
        let said = String::from_utf8_lossy(&said);
        if !said.trim().is_empty() {
            let said = lines(said.trim(), SAID_BYTES_MAX);
            fault.message = format!("{said}\n{}", fault.message).into();
        }
        fault
    }
}

impl StdoutStream for Said {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Of WASI 0.3, which plugins do not have.
        Box::new(tokio::io::sink())
    }
}

impl IsTerminal for Said {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl OutputStream for Said {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Said {
    async fn ready(&mut self) {}
}
