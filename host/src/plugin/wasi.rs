//! The inert WASI for guests that import it because their language does: frozen
//! clocks, seeded randomness, no files, no sockets, no environment, and nothing
//! to wait for. Same event, same settings, same bytes still holds.

use std::time::Duration;

use futures_util::FutureExt as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
use wasmtime_wasi::p2::{DynPollable, Pollable};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
};

use super::imports::Call;
use super::said::Said;

pub(super) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    pub(super) fn inert(said: Said) -> Box<Self> {
        let seed = || Deterministic::new(vec![0x50, 0x6c, 0x75, 0x67]);
        let context = WasiCtxBuilder::new()
            .stderr(said)
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
    // A guest that waits would hold its thread past any deadline, because epochs do
    // not reach into host calls. A timer is over when it begins, since its clock
    // stands still: some languages' runtimes sleep for a moment to let others go on.
    // For anything else there is nothing to wait for.
    linker.allow_shadowing(true);
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    for name in ["subscribe-instant", "subscribe-duration"] {
        clock.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (_,): (u64,)| {
            let table = store.data_mut().ctx().table;
            let timer = table.push(Over)?;
            Ok((wasmtime_wasi::p2::subscribe(table, timer)?,))
        })?;
    }
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, Call>, (one,): (Handle,)| {
            if is_ready(store.data_mut(), one)? { Ok(()) } else { Err(cannot_wait()) }
        },
    )?;
    poll.func_wrap("poll", |mut store: StoreContextMut<'_, Call>, (all,): (Vec<Handle>,)| {
        let mut ready = Vec::new();
        for (index, one) in (0_u32..).zip(all) {
            if is_ready(store.data_mut(), one)? {
                ready.push(index);
            }
        }
        if ready.is_empty() { Err(cannot_wait()) } else { Ok((ready,)) }
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

type Handle = Resource<DynPollable>;

/// Asks, and does not wait for the answer.
fn is_ready(call: &mut Call, one: Handle) -> wasmtime::Result<bool> {
    let table = call.ctx().table;
    HostPollable::ready(table, one).now_or_never().unwrap_or(Ok(false))
}

fn cannot_wait() -> wasmtime::Error {
    wasmtime::Error::msg("a plugin cannot wait")
}

/// A timer, of any length.
struct Over;

#[wasmtime_wasi::async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| Wasi::inert(self.said.clone()));
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
        // Go takes 0 for a clock that is broken.
        1
    }
}
