//! Warm instances: made, configured, called a bounded number of times, replaced.
//!
//! A call runs first on the thread that asks, with a deadline of a few
//! milliseconds. A guest that exceeds it is called again, from the start, on a
//! side thread with the whole deadline; being pure, it cannot tell. One that was
//! slow goes there directly for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ThreadId};
use std::time::Instant;

use parking_lot::Mutex;
use wasmtime::component::Resource;
use wasmtime::{Store, Trap};

use super::bindings::exports::plugpost::plugin as exports;
use super::bindings::plugpost::plugin::types::Failure;
use super::clockwork::Turn;
use super::component::Component;
use super::imports::{Call, Input};
use super::meter::{Meter, Metered};
use super::rules::Rules;
use super::secrets::Secrets;
use super::text::printable;
use super::{MESSAGE_BYTES_MAX, Problem, Unfit};
use crate::attempt::Fault;
use crate::subscription::desk::Desk;

/// The instances of one component with the same settings.
pub(super) struct Pool {
    component: Arc<Component>,
    settings: Arc<str>,
    label: Arc<str>,
    /// What it has written down in place of being called to sign.
    pub(super) rules: Option<Rules>,
    idle: Mutex<Vec<Instance>>,
    /// How many calls to come go straight to the side threads.
    slow: AtomicU32,
}

/// An instance is replaced after so many calls, plus up to as many again by
/// chance: a guest cannot come to rely on what it remembers.
const CALLS_MIN: u32 = 512;

/// How many instances wait in one pool. More than run at once are never needed.
const IDLE_MAX: usize = 8;

/// After a call that was too slow for the asking thread.
const SLOW_CALLS: u32 = 64;

/// One instance of a component, configured.
pub(super) struct Instance {
    store: Store<Call>,
    plugin: exports::plugin::Guest,
    source: Option<exports::source::Guest>,
    filter: Option<exports::filter::Guest>,
    transform: Option<exports::transform::Guest>,
    auth: Option<exports::auth::Guest>,
    rules: Option<exports::auth_rules::Guest>,
    api: Option<exports::webhook_api::Guest>,
    calls_left: u32,
    /// Where it was called last: its memory is near that core.
    ran_on: ThreadId,
}

/// What a call is given beside its input.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) secrets: Arc<Secrets>,
    pub(super) meter: Option<Arc<Meter>>,
}

/// Call a role with an input.
pub(super) async fn call<T: Send + 'static>(
    pool: &Arc<Pool>,
    given: &Given,
    mut input: Input,
    role: fn(&mut Instance) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    // What is measured runs once, and where most calls run, as warm as they are: whoever
    // measures waits for nothing else, so it may take its whole time there.
    if given.meter.is_some() && !pool.component.needs_wasi {
        return pool.run(given, &mut input, Turn::Whole, role);
    }
    if given.meter.is_none() && !pool.is_slow() {
        match pool.run(given, &mut input, Turn::Short, role) {
            Err(fault) if &*fault.code == TIMEOUT => {
                pool.slow.store(SLOW_CALLS, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    // Boxed, because every call would take the room that these few need.
    Box::pin(aside(pool, given, input, role)).await
}

/// Call it on a side thread.
async fn aside<T: Send + 'static>(
    pool: &Arc<Pool>,
    given: &Given,
    mut input: Input,
    role: fn(&mut Instance) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    let job = {
        let (pool, given) = (pool.clone(), given.clone());
        move || pool.run(&given, &mut input, Turn::Aside, role)
    };
    let owner = Arc::as_ptr(pool) as usize;
    let busy = || Err(Fault::retry("plugin.busy", "too many calls of slow plugins wait"));
    pool.component.runtime.side.run(owner, job).await.unwrap_or_else(busy)
}

/// Ask a component who it is.
pub(super) fn describe(component: &Component) -> Result<exports::plugin::Description, Fault> {
    let _ticking = component.runtime.ticking(Turn::Whole);
    let mut instance = Instance::start(component)?;
    let said = instance.plugin.call_describe(&mut instance.store);
    said.map_err(|error| instance.fault(error))
}

/// Ask it after a request of which it takes note.
#[cfg(feature = "fuzz")]
pub(super) fn describe_told(
    component: &Component,
    told: Input,
) -> Result<exports::plugin::Description, Fault> {
    let _ticking = component.runtime.ticking(Turn::Whole);
    let mut instance = Instance::told(component, told)?;
    let said = instance.plugin.call_describe(&mut instance.store);
    said.map_err(|error| instance.fault(error))
}

/// Have it look at settings after a request of which it takes note.
#[cfg(feature = "fuzz")]
pub(super) fn configure_told(component: &Component, told: Input) -> Result<Vec<Problem>, Fault> {
    let _ticking = component.runtime.ticking(Turn::Whole);
    let mut instance = Instance::told(component, told)?;
    match instance.configure("{}") {
        Ok(()) => Ok(Vec::new()),
        Err(Unfit::Settings(problems)) => Ok(problems),
        Err(Unfit::Fault(fault)) => Err(fault),
    }
}

/// Have it write down rules after a request of which it takes note.
#[cfg(feature = "fuzz")]
pub(super) fn rules_told(component: &Component, told: Input) -> Result<Option<Rules>, Fault> {
    let _ticking = component.runtime.ticking(Turn::Whole);
    Instance::told(component, told)?.rules(component)
}

/// Ask, once, with the whole deadline.
pub(super) fn ask<T>(
    pool: &Pool,
    role: fn(&mut Instance) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    let given = Given { secrets: Arc::default(), meter: None };
    pool.run(&given, &mut Input::None, Turn::Whole, role)
}

const TIMEOUT: &str = "plugin.timeout";

impl Pool {
    /// A pool with its first instance, which tries the settings.
    pub(super) fn start(component: Arc<Component>, settings: &str) -> Result<Arc<Self>, Unfit> {
        let version = &component.description().version;
        let label = format!("{}@{version}", component.name()).into();
        // What imports WASI blocks in ways that only a side thread can afford.
        let slow = if component.needs_wasi { u32::MAX } else { 0 };
        let mut pool = Self {
            component,
            settings: settings.into(),
            label,
            rules: None,
            idle: Mutex::default(),
            slow: slow.into(),
        };
        let instance = {
            let _ticking = pool.component.runtime.ticking(Turn::Whole);
            let mut instance = pool.instance()?;
            pool.rules = instance.rules(&pool.component).map_err(Unfit::Fault)?;
            instance
        };
        pool.idle.lock().push(instance);
        Ok(Arc::new(pool))
    }

    fn is_slow(&self) -> bool {
        let count = |slow: u32| match slow {
            0 => None,
            u32::MAX => Some(u32::MAX),
            more => Some(more - 1),
        };
        self.slow.load(Ordering::Relaxed) != 0
            && self.slow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }

    /// One call. An instance that trapped is poisoned and dropped; nothing else is. The
    /// input comes back, so that the call can be made again.
    fn run<T>(
        &self,
        given: &Given,
        input: &mut Input,
        turn: Turn,
        role: fn(&mut Instance) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let runtime = &self.component.runtime;
        let _ticking = runtime.ticking(turn);
        let thread = thread::current().id();
        let mut instance = match self.take_idle(thread) {
            Some(instance) => instance,
            None => self.instance().map_err(|unfit| match unfit {
                Unfit::Fault(fault) => fault,
                Unfit::Settings(_) => {
                    Fault::retry("plugin.settings", "refused settings that it took before")
                }
            })?,
        };
        instance.ran_on = thread;
        let call = instance.store.data_mut();
        std::mem::swap(&mut call.input, input);
        if !Arc::ptr_eq(&call.secrets, &given.secrets) {
            call.secrets = given.secrets.clone();
        }
        call.log_bytes_left = runtime.limits.log_bytes;
        call.meter = given.meter.clone();
        call.time = runtime.time(turn);
        instance.store.set_epoch_deadline(1);
        let begun = Instant::now();
        let result = role(&mut instance).map_err(|error| instance.fault(error));
        let took = begun.elapsed();
        let call = instance.store.data_mut();
        std::mem::swap(&mut call.input, input);
        if let Some(meter) = &given.meter {
            let log_bytes = runtime.limits.log_bytes - call.log_bytes_left;
            meter.add_call(took, call.limits.memory_bytes, log_bytes);
        }
        // What is called again, with the whole deadline, counts there.
        let again =
            turn == Turn::Short && result.as_ref().is_err_and(|fault| &*fault.code == TIMEOUT);
        if !again {
            self.component.counter.add(took, result.is_ok(), &call.limits);
        }
        match result {
            Ok(value) => {
                self.give_back(instance);
                Ok(value)
            }
            Err(fault) => Err(fault),
        }
    }

    /// One that this thread has called before, if there is one.
    fn take_idle(&self, thread: ThreadId) -> Option<Instance> {
        let mut idle = self.idle.lock();
        match idle.iter().rposition(|it| it.ran_on == thread) {
            Some(at) => Some(idle.swap_remove(at)),
            None => idle.pop(),
        }
    }

    fn give_back(&self, mut instance: Instance) {
        instance.calls_left -= 1;
        if instance.calls_left == 0 {
            return;
        }
        let call = instance.store.data_mut();
        call.meter = None;
        call.said.forget();
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(instance);
        }
    }

    fn instance(&self) -> Result<Instance, Unfit> {
        let mut instance = Instance::start(&self.component).map_err(Unfit::Fault)?;
        instance.store.data_mut().plugin = self.label.clone();
        instance.configure(&self.settings)?;
        Ok(instance)
    }
}

impl Instance {
    /// A new instance, not configured. The deadline covers that as well.
    fn start(component: &Component) -> Result<Self, Fault> {
        let runtime = &component.runtime;
        let mut store = Store::new(
            &runtime.engine,
            Call::new(Metered::new(runtime.store_limits()), component.needs_wasi),
        );
        store.limiter(|call| &mut call.limits);
        store.set_hostcall_fuel(runtime.limits.output_bytes);
        store.set_max_component_handles(HANDLES_MAX);
        let clock = runtime.clock().clone();
        store.epoch_deadline_callback(move |mut store| Ok(clock.look(&mut store.data_mut().time)));
        store.set_epoch_deadline(1);
        store.data_mut().time = runtime.time(Turn::Whole);
        store.data_mut().log_bytes_left = runtime.limits.log_bytes;
        let exports = &component.exports;
        let mut load = || -> wasmtime::Result<_> {
            let made = component.instance_pre.instantiate(&mut store)?;
            let (source, filter) = (exports.source.as_ref(), exports.filter.as_ref());
            let (transform, auth) = (exports.transform.as_ref(), exports.auth.as_ref());
            let rules = exports.rules.as_ref();
            Ok((
                exports.plugin.load(&mut store, &made)?,
                source.map(|it| it.load(&mut store, &made)).transpose()?,
                filter.map(|it| it.load(&mut store, &made)).transpose()?,
                transform.map(|it| it.load(&mut store, &made)).transpose()?,
                auth.map(|it| it.load(&mut store, &made)).transpose()?,
                rules.map(|it| it.load(&mut store, &made)).transpose()?,
                exports.api.as_ref().map(|it| it.load(&mut store, &made)).transpose()?,
            ))
        };
        let loaded = load();
        let (plugin, source, filter, transform, auth, rules, api) =
            loaded.map_err(|error| store.data().said.with(fault_of(error)))?;
        let calls_left = CALLS_MIN + fastrand::u32(..CALLS_MIN);
        let ran_on = thread::current().id();
        Ok(Self { plugin, source, filter, transform, auth, rules, api, store, calls_left, ran_on })
    }

    fn configure(&mut self, settings: &str) -> Result<(), Unfit> {
        let problems = self.plugin.call_configure(&mut self.store, settings);
        let mut problems = problems.map_err(|error| Unfit::Fault(self.fault(error)))?;
        self.store.data().said.forget();
        if problems.is_empty() {
            return Ok(());
        }
        problems.truncate(PROBLEMS_MAX);
        for Problem { pointer, message } in &mut problems {
            for said in [pointer, message] {
                *said = printable(said, MESSAGE_BYTES_MAX).into();
            }
        }
        Err(Unfit::Settings(problems))
    }

    /// What it has written down, checked; none where it is to be called.
    fn rules(&mut self, component: &Component) -> Result<Option<Rules>, Fault> {
        let Some(rules) = &self.rules else { return Ok(None) };
        let said = rules.call_rules(&mut self.store).map_err(|error| self.fault(error))?;
        self.store.data().said.forget();
        let rules = match said {
            Some(said) => Rules::check(said, &component.description().secrets).map(Some),
            None if self.auth.is_some() => Ok(None),
            None => Err("it writes down none, and has no `auth` that could be called".into()),
        };
        rules.map_err(|message| {
            let message = printable(&message, MESSAGE_BYTES_MAX);
            Fault::reject("plugin.rules", format!("{}: {message}", component.name()))
        })
    }

    #[cfg(feature = "fuzz")]
    fn told(component: &Component, told: Input) -> Result<Self, Fault> {
        let mut instance = Self::start(component)?;
        instance.store.data_mut().input = told;
        let received = instance.receive();
        received.map_err(|error| instance.fault(error))?.ok();
        Ok(instance)
    }

    /// What went wrong in it, with what it said of that.
    fn fault(&self, error: wasmtime::Error) -> Fault {
        self.store.data().said.with(fault_of(error))
    }

    pub(super) fn receive(
        &mut self,
    ) -> wasmtime::Result<Result<Vec<exports::source::Received>, exports::source::Rejection>> {
        let source = self.source.as_ref().ok_or_else(|| no_role("source"))?;
        source.call_receive(&mut self.store, Resource::new_borrow(0))
    }

    pub(super) fn accept(&mut self) -> wasmtime::Result<Result<bool, Failure>> {
        let filter = self.filter.as_ref().ok_or_else(|| no_role("filter"))?;
        filter.call_accept(&mut self.store, Resource::new_borrow(0))
    }

    pub(super) fn apply(
        &mut self,
    ) -> wasmtime::Result<Result<exports::transform::Message, Failure>> {
        let transform = self.transform.as_ref().ok_or_else(|| no_role("transform"))?;
        transform.call_apply(&mut self.store, Resource::new_borrow(0))
    }

    pub(super) fn sign(&mut self) -> wasmtime::Result<Result<Vec<super::wit::Header>, Failure>> {
        let auth = self.auth.as_ref().ok_or_else(|| no_role("auth"))?;
        auth.call_sign(&mut self.store, Resource::new_borrow(0))
    }

    /// The answer, and what the guest left on its desk.
    pub(super) fn answer(
        &mut self,
    ) -> wasmtime::Result<(exports::webhook_api::Response, Option<Desk>)> {
        let api = self.api.as_ref().ok_or_else(|| no_role("webhook-api"))?;
        let call = self.store.data_mut();
        let caller = match &call.input {
            Input::Api(_, caller) => caller.clone(),
            _ => None,
        };
        let handle = caller.as_ref().map(|_| Resource::new_borrow(0));
        call.held.begin(caller);
        let response = api.call_answer(&mut self.store, Resource::new_borrow(0), handle)?;
        Ok((response, self.store.data_mut().held.end()))
    }

    pub(super) fn credentials(
        &mut self,
    ) -> wasmtime::Result<Vec<exports::webhook_api::Credential>> {
        let api = self.api.as_ref().ok_or_else(|| no_role("webhook-api"))?;
        api.call_credentials(&mut self.store)
    }
}

/// Handles a guest may hold at once; a call needs one, a platform's API a page of them.
const HANDLES_MAX: usize = 1024;

/// Of what a plugin finds wrong with its settings, so many are shown.
const PROBLEMS_MAX: usize = 64;

/// Loading has checked that a plugin has the roles it is used for.
fn no_role(role: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin has no role `{role}`"))
}

/// What went wrong in a guest, as a coded outcome.
fn fault_of(error: wasmtime::Error) -> Fault {
    let code = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => TIMEOUT,
        Some(Trap::StackOverflow) => "plugin.stack",
        Some(_) => "plugin.trap",
        None if let Some(code) = super::desk::code_of(&error) => code,
        None => code_of_text(&format!("{error:#}")),
    };
    Fault::retry(code, format!("{error:#}"))
}

/// Limits that wasmtime reports in words only; `tests/` pins the words.
fn code_of_text(text: &str) -> &'static str {
    if text.contains("fuel allocated for hostcalls") {
        "plugin.output"
    } else if text.contains("growing memory") || text.contains("memory growth") {
        "plugin.memory"
    } else if text.contains("store handle limit exceeded") {
        "plugin.handles"
    } else if text.contains("maximum concurrent") {
        "plugin.busy"
    } else {
        "plugin.trap"
    }
}
