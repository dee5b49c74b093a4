//! What a guest may call on us, and what it is allowed to see while it runs.
//!
//! The resources of `wit/` are handles on the one input of the call in hand: an
//! event, an inbound or an outgoing request. They hold nothing themselves, so a
//! guest cannot keep one, and cannot reach another call's data.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::bindings::plugpost::plugin::{logging, requests, subscriptions, types};
use super::clockwork::CallTime;
use super::desk::Held;
use super::events;
use super::meter::{Meter, Metered};
use super::said::Said;
use super::secrets::Secrets;
use super::signing;
use super::text::printable;
use super::wasi::Wasi;
use crate::clock::UnixMs;
use crate::event::Event;
use crate::json;
use crate::subscription::desk::{Caller, Excess};

/// Stands for the event in hand.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct EventHandle;
/// Stands for the inbound request in hand.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct InboundHandle;
/// Stands for the outgoing request in hand.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct OutgoingHandle;

/// What a call is about.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing: the plugin is asked about itself.
    None,
    Event(EventView),
    Inbound(Arc<Inbound>),
    /// A request to a platform's API, and whoever made it.
    Api(Arc<Inbound>, Option<Arc<Caller>>),
    Outgoing(OutgoingView),
}

/// An event as a filter or a transform sees it: after another transform, with
/// that one's result as its data.
#[derive(Clone, Debug)]
pub(crate) struct EventView {
    pub(crate) event: Arc<Event>,
    pub(crate) data: Bytes,
    /// Where an earlier transform set another.
    pub(crate) media_type: Option<Arc<str>>,
}

/// A request that came to `/in/{source}` or `/platforms/{plugin}`.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) time: UnixMs,
    pub(crate) body: Bytes,
}

/// A request before its auth headers.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingView {
    pub(crate) event: Arc<Event>,
    pub(crate) time: UnixMs,
    pub(crate) method: http::Method,
    pub(crate) url: Arc<str>,
    pub(crate) headers: Arc<HeaderMap>,
    pub(crate) body: Bytes,
}

impl Input {
    pub(super) fn body(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Event(it) => &it.data,
            Self::Inbound(it) | Self::Api(it, _) => &it.body,
            Self::Outgoing(it) => &it.body,
        }
    }
}

/// The state of one instance: what the host keeps about the call in hand.
pub(super) struct Call {
    pub(super) input: Input,
    /// What a platform's API has in hand.
    pub(super) held: Held,
    pub(super) secrets: Arc<Secrets>,
    pub(super) limits: Metered,
    /// `name@version`, for the log; empty before the plugin has said it.
    pub(super) plugin: Arc<str>,
    pub(super) time: CallTime,
    /// How many more bytes this call may log.
    pub(super) log_bytes_left: usize,
    /// Where somebody measures.
    pub(super) meter: Option<Arc<Meter>>,
    /// What the guest said of what goes wrong.
    pub(super) said: Said,
    /// Only for guests that import WASI.
    pub(super) wasi: Option<Box<Wasi>>,
}

impl Call {
    pub(super) fn new(limits: Metered, needs_wasi: bool) -> Self {
        static NO_SECRETS: OnceLock<Arc<Secrets>> = OnceLock::new();
        let secrets = NO_SECRETS.get_or_init(Arc::default).clone();
        let said = Said::default();
        Self {
            input: Input::None,
            held: Held::default(),
            secrets,
            limits,
            plugin: "".into(),
            time: CallTime::default(),
            log_bytes_left: 0,
            meter: None,
            wasi: needs_wasi.then(|| Wasi::inert(said.clone())),
            said,
        }
    }

    /// The event in hand. A guest that asks for one in another role's call has
    /// forged a handle; wasmtime refuses that before we are called.
    pub(super) fn event(&self) -> Option<&EventView> {
        match &self.input {
            Input::Event(event) => Some(event),
            _ => None,
        }
    }

    fn inbound(&self) -> Option<&Inbound> {
        match &self.input {
            Input::Inbound(request) | Input::Api(request, _) => Some(request),
            _ => None,
        }
    }

    fn outgoing(&self) -> Option<&OutgoingView> {
        match &self.input {
            Input::Outgoing(request) => Some(request),
            _ => None,
        }
    }

    /// Some values of the body, which a guest cannot have again and again in one crossing.
    pub(super) fn values(
        &self,
        pointers: &[impl AsRef<str>],
    ) -> wasmtime::Result<Vec<Option<String>>> {
        let body = self.input.body();
        let found = json::fields(body, pointers);
        let bytes: usize = found.iter().flatten().map(|it| it.len()).sum();
        if pointers.len() > json::POINTERS_MAX || bytes > 2 * body.len() {
            let max = json::POINTERS_MAX;
            let message =
                format!("fields: more than {max} pointers, or the body more than twice over");
            return Err(Excess { code: "plugin.output", message }.into());
        }
        Ok(found.into_iter().map(|it| it.map(str::to_owned)).collect())
    }
}

/// All that a guest may call, but for WASI.
pub(super) fn add_to_linker(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
    requests::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
    logging::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
    subscriptions::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
    events::add_to_linker(linker)?;
    signing::add_to_linker(linker)
}

/// The name of a level.
const LEVEL_BYTES_MAX: usize = 16;

/// What a line costs beside its text: an empty one is not free.
const LOG_LINE_BYTES: usize = 64;

impl types::Host for Call {}
impl requests::Host for Call {}

impl requests::HostInbound for Call {
    fn method(&mut self, _: Resource<InboundHandle>) -> String {
        self.inbound().map(|it| it.method.to_string()).unwrap_or_default()
    }

    fn path(&mut self, _: Resource<InboundHandle>) -> String {
        self.inbound().map(|it| it.path.clone()).unwrap_or_default()
    }

    fn query(&mut self, _: Resource<InboundHandle>) -> Option<String> {
        self.inbound()?.query.clone()
    }

    fn header(&mut self, _: Resource<InboundHandle>, name: String) -> Option<String> {
        self.inbound()?.headers.get(name)?.to_str().ok().map(str::to_owned)
    }

    fn time(&mut self, _: Resource<InboundHandle>) -> u64 {
        self.inbound().map(|it| it.time.0).unwrap_or_default()
    }

    fn body(&mut self, _: Resource<InboundHandle>) -> Vec<u8> {
        self.input.body().to_vec()
    }

    fn field(&mut self, _: Resource<InboundHandle>, pointer: String) -> Option<String> {
        json::field(self.input.body(), &pointer).map(str::to_owned)
    }

    fn text(&mut self, _: Resource<InboundHandle>, pointer: String) -> Option<String> {
        json::text(self.input.body(), &pointer)
    }

    fn fields(
        &mut self,
        _: Resource<InboundHandle>,
        pointers: Vec<String>,
    ) -> wasmtime::Result<Vec<Option<String>>> {
        self.values(&pointers)
    }

    fn json_error(&mut self, _: Resource<InboundHandle>) -> Option<String> {
        json::error(self.input.body())
    }

    fn drop(&mut self, _: Resource<InboundHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl requests::HostOutgoing for Call {
    fn id(&mut self, _: Resource<OutgoingHandle>) -> String {
        self.outgoing().map(|it| (*it.event.id.text()).into()).unwrap_or_default()
    }

    fn time(&mut self, _: Resource<OutgoingHandle>) -> u64 {
        self.outgoing().map(|it| it.time.0).unwrap_or_default()
    }

    fn event_type(&mut self, _: Resource<OutgoingHandle>) -> String {
        self.outgoing().map(|it| it.event.event_type.to_string()).unwrap_or_default()
    }

    fn method(&mut self, _: Resource<OutgoingHandle>) -> String {
        self.outgoing().map(|it| it.method.to_string()).unwrap_or_default()
    }

    fn url(&mut self, _: Resource<OutgoingHandle>) -> String {
        self.outgoing().map(|it| it.url.to_string()).unwrap_or_default()
    }

    fn header(&mut self, _: Resource<OutgoingHandle>, name: String) -> Option<String> {
        let value = self.outgoing()?.headers.get(name)?;
        if value.is_sensitive() { None } else { value.to_str().ok().map(str::to_owned) }
    }

    fn body(&mut self, _: Resource<OutgoingHandle>) -> Vec<u8> {
        self.input.body().to_vec()
    }

    fn drop(&mut self, _: Resource<OutgoingHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl logging::Host for Call {
    fn log(&mut self, level: String, message: String) {
        if self.log_bytes_left == 0 {
            return;
        }
        let line = printable(&message, self.log_bytes_left);
        self.log_bytes_left = self.log_bytes_left.saturating_sub(line.len() + LOG_LINE_BYTES);
        if let Some(meter) = &self.meter {
            meter.add_line(&printable(&level, LEVEL_BYTES_MAX), &line);
        }
        let plugin = &*self.plugin;
        match level.as_str() {
            "error" => {
                self.said.add(line.as_bytes());
                self.said.add(b"\n");
                tracing::error!(plugin, "{line}");
            }
            "warn" => tracing::warn!(plugin, "{line}"),
            "debug" => tracing::debug!(plugin, "{line}"),
            _ => tracing::info!(plugin, "{line}"),
        }
    }
}
