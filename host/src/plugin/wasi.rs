//! The inert WASI for guests that import it because their language does: frozen
//! clocks, seeded randomness, no files, no sockets, no environment, and nothing
//! to wait for. Same event, same settings, same bytes still holds.

use std::time::Duration;

use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
};

use super::imports::Call;

pub(super) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    pub(super) fn inert() -> Box<Self> {
        let seed = || Deterministic::new(vec![0x50, 0x6c, 0x75, 0x67]);
        let context = WasiCtxBuilder::new()
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .wall_clock(Frozen)
            .monotonic_clock(Frozen)
            .secure_random(seed())
            .insecure_random(seed())
            .insecure_random_seed(0)
            .build();
        Box::new(Self { context, table: ResourceTable::new() })
    }
}

/// Add WASI to a linker whose guests need it.
pub(super) fn add_to_linker(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    // A guest that waits for a timer would hold its thread past any deadline,
    // because epochs do not reach into host calls. There is nothing to wait for.
    linker.allow_shadowing(true);
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    type Pollable = Resource<wasmtime_wasi::p2::DynPollable>;
    poll.func_wrap("[method]pollable.block", |_, (_,): (Pollable,)| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("a plugin cannot wait"))
    })?;
    poll.func_wrap("poll", |_, (_,): (Vec<Pollable>,)| -> wasmtime::Result<(Vec<u32>,)> {
        Err(wasmtime::Error::msg("a plugin cannot wait"))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(Wasi::inert);
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// 2020-01-01T00:00:00Z, for ever.
struct Frozen;

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(1_577_836_800)
    }
}

impl HostMonotonicClock for Frozen {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}
