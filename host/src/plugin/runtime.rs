//! The engine all plugins share: its limits, its clockwork, and compiling.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component as Compiled, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, StoreLimits,
    StoreLimitsBuilder, WasmBacktraceDetails,
};

use super::clockwork::{CallTime, Clock, Clockwork, Ticking, Turn};
use super::compile::{self, CompileError};
use super::imports::{self, Call};
use super::side::Side;
use super::wasi;

/// What one plugin call may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a call may take. Past it, the guest traps.
    pub(crate) deadline: Duration,
    /// The guest's linear memory.
    pub(crate) memory_bytes: usize,
    /// What the host copies out of the guest in one crossing.
    pub(crate) output_bytes: usize,
    /// What a call may write to the log.
    pub(crate) log_bytes: usize,
    /// The size of a component's file.
    pub(crate) component_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            memory_bytes: 64 << 20,
            // Twice the largest body that ingest takes by default, and room for headers.
            output_bytes: 4 << 20,
            log_bytes: 16 << 10,
            // A JavaScript component is 12 MB, a Python one 18 to 40 MB.
            component_bytes: 64 << 20,
        }
    }
}

/// The engine, and what keeps it going.
pub(crate) struct Runtime {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Call>,
    /// The same with an inert WASI, for guests whose language imports it.
    pub(super) linker_with_wasi: Linker<Call>,
    pub(super) limits: Limits,
    pub(super) side: Side,
    clockwork: Clockwork,
}

impl Runtime {
    pub(crate) fn start(limits: Limits) -> wasmtime::Result<Arc<Self>> {
        let engine = Engine::new(&config(Some(pool(&limits))))
            // Address space can be short (containers, `ulimit -v`): slower, but it works.
            .or_else(|_| Engine::new(&config(None)))?;
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker)?;
        let mut linker_with_wasi = linker.clone();
        wasi::add_to_linker(&mut linker_with_wasi)?;
        let clockwork = Clockwork::start(engine.clone())?;
        Ok(Arc::new(Self {
            engine,
            linker,
            linker_with_wasi,
            limits,
            side: Side::start()?,
            clockwork,
        }))
    }

    /// Compile a component, and load the machine code into the engine.
    pub(super) fn compile(&self, component: &[u8]) -> Result<Compiled, CompileError> {
        let code = compile::in_a_child(component)?;
        // SAFETY: these bytes come through a pipe from this same program, and nobody else has had them.
        #[expect(unsafe_code, reason = "deserialising is unsafe for bytes of unknown origin")]
        unsafe { Compiled::deserialize(&self.engine, &code) }
            .map_err(|error| CompileError::Refused(format!("{error:#}")))
    }

    pub(super) fn store_limits(&self) -> StoreLimits {
        StoreLimitsBuilder::new()
            .memory_size(self.limits.memory_bytes)
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(CORE_INSTANCES_MAX as usize)
            .tables(CORE_INSTANCES_MAX as usize)
            .memories(2)
            .trap_on_grow_failure(true)
            .build()
    }

    /// What time it is for guests.
    pub(super) fn clock(&self) -> &Arc<Clock> {
        self.clockwork.clock()
    }

    /// The time of a call that begins now.
    pub(super) fn time(&self, turn: Turn) -> CallTime {
        self.clock().time(turn, self.limits.deadline)
    }

    /// Keep the clock ticking until the guard is dropped.
    pub(super) fn ticking(&self, turn: Turn) -> Ticking<'_> {
        self.clockwork.ticking(turn)
    }
}

/// How many core instances wit-component makes of one component, and room.
const CORE_INSTANCES_MAX: u32 = 32;
const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Slots for instances that keep memory while nobody uses them.
const UNUSED_SLOTS_MAX: u32 = 4;

/// How many component instances may live at once, warm ones included.
pub(super) const INSTANCES_MAX: u32 = 512;

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What the compiler and the engine that runs its code must agree on.
pub(super) fn config(pool: Option<PoolingAllocationConfig>) -> Config {
    let mut config = Config::new();
    config
        // Guests are called synchronously; support for more makes each call dearer.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(256 << 10)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // A trap costs a backtrace otherwise, and a hostile guest can trap at will.
        .wasm_backtrace_max_frames(None)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Room for instances, reserved once: making one is then a matter of microseconds.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * 4)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * 2)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(2)
        .max_tables_per_component(8)
        .max_tables_per_module(4)
        .max_memory_size(limits.memory_bytes)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Small guests are reset by writing zeros, not by asking the kernel.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        // A slot that was used keeps memory. Without this, every plugin that is loaded
        // anew takes fresh ones, up to a hundred, beside those of plugins that are gone.
        .max_unused_warm_slots(UNUSED_SLOTS_MAX)
        // On 48, a page that was swapped out can leak into the next instance.
        .pagemap_scan(Enabled::No);
    pool
}
