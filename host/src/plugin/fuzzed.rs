//! Plugins for the fuzzer: bytes that are loaded as one, and a guest whose every answer is
//! whatever the fuzzer says, so that the host lifts it and goes on with it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use wasmparser::{Validator, WasmFeatures};
use wit_component::StringEncoding;
use wit_parser::Resolve;

use super::api::{Answered, Api};
use super::component::{self, Component, Description};
use super::imports::{EventView, Inbound, Input, OutgoingView};
use super::runtime::{Limits, Runtime};
use super::secrets::{Key, Secrets};
use super::{Bound, Message, Named, OutHeader, Problem, Received, Rejection, warm};
use crate::attempt::Fault;
use crate::clock::UnixMs;
use crate::event::{Event, EventId};

fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let limits = Limits { deadline: Duration::from_millis(20), ..Limits::default() };
        Runtime::start(limits).expect("the engine for plugins starts")
    })
}

/// Load a plugin, as far as it is one. A compiler is a process, and processes take time: of
/// what is not valid, one in so many is handed to it.
pub(crate) fn load(bytes: &[u8]) -> Option<Result<Arc<Component>, String>> {
    const HANDED_ON: u32 = 64;
    if !component::looks_right(bytes) {
        return None;
    }
    let is_valid = Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_ok();
    if !is_valid && !crc32fast::hash(bytes).is_multiple_of(HANDED_ON) {
        return None;
    }
    let loaded = Component::load(runtime(), "fuzzed", bytes);
    Some(loaded.map_err(|error| error.to_string()))
}

/// The guest that says what it is told to say.
pub(crate) struct Parrot {
    component: Arc<Component>,
    bound: Bound,
    api: Api,
}

/// The secret it may name.
pub(crate) const SECRET: (&str, &str) = ("key", "hush-5f1c0e77");

/// What it is told lies at the beginning of its memory. What a function returns is a place
/// there: the first four bytes say which. A request whose fifth byte is not zero is rather
/// noted than answered: what is said next is then what it has.
const GUEST: &str = r#"(module
    (import "plugpost:plugin/events@0.1.0" "[method]event.data" (func $event (param i32 i32)))
    (import "plugpost:plugin/events@0.1.0" "[resource-drop]event" (func $no_event (param i32)))
    (import "plugpost:plugin/requests@0.1.0" "[method]inbound.body" (func $inbound (param i32 i32)))
    (import "plugpost:plugin/requests@0.1.0" "[resource-drop]inbound" (func $no_inbound (param i32)))
    (import "plugpost:plugin/requests@0.1.0" "[method]outgoing.body" (func $outgoing (param i32 i32)))
    (import "plugpost:plugin/requests@0.1.0" "[resource-drop]outgoing" (func $no_outgoing (param i32)))
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 65536))
    (global $told (mut i32) (i32.const 0))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.get $free)
        (global.set $free (i32.and (i32.const -8)
            (i32.add (i32.const 7) (i32.add (global.get $free) (local.get 3))))))
    (func $note
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 16384))
        (memory.copy (i32.const 0) (i32.load (i32.const 20000)) (i32.load (i32.const 20004)))
        (global.set $free (i32.const 65536))
        (global.set $told (i32.const 1)))
    (func $say (param i32) (result i32)
        (select (i32.load (i32.const 0)) (local.get 0) (global.get $told)))
    (func (export "plugpost:plugin/plugin@0.1.0#describe") (result i32) (call $say (i32.const 32000)))
    (func (export "plugpost:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32)
        (call $say (i32.const 24000)))
    (func (export "plugpost:plugin/source@0.1.0#receive") (param i32) (result i32)
        (call $inbound (local.get 0) (i32.const 20000)) (call $no_inbound (local.get 0)) (call $note)
        (select (i32.const 24000) (call $say (i32.const 24000)) (i32.load8_u (i32.const 4))))
    (func $of_event (param i32) (result i32)
        (call $event (local.get 0) (i32.const 20000)) (call $no_event (local.get 0)) (call $note)
        (call $say (i32.const 24000)))
    (export "plugpost:plugin/filter@0.1.0#accept" (func $of_event))
    (export "plugpost:plugin/transform@0.1.0#apply" (func $of_event))
    (func (export "plugpost:plugin/auth@0.1.0#sign") (param i32) (result i32)
        (call $outgoing (local.get 0) (i32.const 20000)) (call $no_outgoing (local.get 0)) (call $note)
        (call $say (i32.const 24000)))
    (func (export "plugpost:plugin/auth-rules@0.1.0#rules") (result i32) (call $say (i32.const 24000)))
    (func (export "plugpost:plugin/webhook-api@0.1.0#credentials") (result i32)
        (call $say (i32.const 28000)))
    (func (export "plugpost:plugin/webhook-api@0.1.0#answer") (param i32 i32 i32) (result i32)
        (call $inbound (local.get 0) (i32.const 20000)) (call $no_inbound (local.get 0)) (call $note)
        (call $say (i32.const 24000)))
    (data (i32.const 28000) "\68\6d\00\00\01\00\00\00")
    (data (i32.const 28008) "\78\6d\00\00\07\00\00\00\00\00\00\00\00\00\00\00")
    (data (i32.const 28024) "x-token")
    (data (i32.const 32000) "\40\7d\00\00\06\00\00\00\46\7d\00\00\05\00\00\00\40\7d\00\00\06\00\00\00\4b\7d\00\00\02\00\00\00\50\7d\00\00\01")
    (data (i32.const 32064) "parrot1.0.0{}")
    (data (i32.const 32080) "\70\7d\00\00\03\00\00\00\73\7d\00\00\04\00\00\00\00\00\00\00\40\7d\00\00\06\00\00\00")
    (data (i32.const 32112) "keytext"))"#;

/// What a file may have of it: not more than the guest has room for.
const TOLD_BYTES_MAX: usize = 16_384;

impl Parrot {
    pub(crate) fn start() -> Result<Self, String> {
        let component = Component::load(runtime(), "parrot", &guest()?);
        let component = component.map_err(|error| error.to_string())?;
        let api = Api::of(&component)?;
        let key = Key::decode(SECRET.1.to_owned().into(), super::Encoding::Text)?;
        let secrets = Secrets::new(vec![(SECRET.0.into(), vec![key])]);
        let bound = Bound::new(component.clone(), "{}", secrets).map_err(|it| it.to_string())?;
        Ok(Self { component, bound, api })
    }

    pub(crate) fn describe(&self, told: &[u8]) -> Result<Description, String> {
        let said =
            warm::describe_told(&self.component, noted(told)).map_err(|it| it.to_string())?;
        component::described(said)
    }

    pub(crate) fn configure(&self, told: &[u8]) -> Result<Vec<Problem>, Fault> {
        warm::configure_told(&self.component, noted(told))
    }

    pub(crate) async fn credentials(&self, told: &[u8]) -> Result<Api, String> {
        // The same instance is asked: it is the only one.
        let Input::Inbound(request) = noted(told) else { return Err("no request".into()) };
        self.bound.receive(request).await.map_err(|fault| fault.to_string())?.ok();
        Api::of(&self.component)
    }

    pub(crate) async fn receive(
        &self,
        told: &[u8],
    ) -> Result<Result<Vec<Received>, Rejection>, Fault> {
        self.bound.receive(inbound(image(told, 0))).await
    }

    pub(crate) async fn accept(&self, told: &[u8]) -> Result<bool, Fault> {
        self.bound.accept(event(told)).await
    }

    pub(crate) async fn apply(&self, told: &[u8]) -> Result<Message, Fault> {
        self.bound.apply(event(told)).await
    }

    pub(crate) async fn sign(&self, told: &[u8]) -> Result<Vec<OutHeader>, Fault> {
        let EventView { event, data, .. } = event(told);
        let request = OutgoingView {
            event,
            time: UnixMs(0),
            method: Method::POST,
            url: "https://receiver.example.com/".into(),
            headers: Arc::default(),
            body: data,
        };
        self.bound.sign(request).await
    }

    pub(crate) fn ruled(&self, told: &[u8]) -> Result<Vec<OutHeader>, Fault> {
        let Some(rules) = warm::rules_told(&self.component, noted(told))? else {
            return Ok(Vec::new());
        };
        let body = image(told, 0);
        let (id, url) = ("evt_0000000000000", "https://receiver.example.com/");
        let named = Named { id, time: UnixMs(0), method: &Method::POST, url, body: &body };
        self.bound.follow(&rules, named)
    }

    pub(crate) async fn answer(&self, told: &[u8]) -> Result<Answered, Fault> {
        self.api.answer(inbound(image(told, 0)), None).await
    }
}

fn guest() -> Result<Vec<u8>, String> {
    let wit: [&str; 5] = [
        include_str!("../../../wit/types.wit"),
        include_str!("../../../wit/host.wit"),
        include_str!("../../../wit/roles.wit"),
        include_str!("../../../wit/subscriptions.wit"),
        include_str!("../../../wit/worlds.wit"),
    ];
    let mut bytes = wat::parse_str(GUEST).map_err(|error| error.to_string())?;
    let mut resolve = Resolve::default();
    let typed = resolve.push_str("parrot.wit", &wit.concat()).and_then(|package| {
        let world = resolve.select_world(&[package], Some("every-role"))?;
        wit_component::embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)
    });
    typed.map_err(|error| format!("{error:#}"))?;
    Ok(bytes)
}

/// What the guest's memory begins with.
fn image(told: &[u8], flag: u8) -> Vec<u8> {
    let mut image = told[..told.len().min(TOLD_BYTES_MAX)].to_vec();
    if let Some(it) = image.get_mut(4) {
        *it = flag;
    }
    image
}

fn noted(told: &[u8]) -> Input {
    Input::Inbound(inbound(image(told, 1)))
}

fn inbound(body: Vec<u8>) -> Arc<Inbound> {
    Arc::new(Inbound {
        method: Method::POST,
        path: String::new(),
        query: None,
        headers: HeaderMap::new(),
        time: UnixMs(0),
        body: body.into(),
    })
}

fn event(told: &[u8]) -> EventView {
    EventView { event: Arc::new(an_event()), data: image(told, 0).into(), media_type: None }
}

pub(crate) fn an_event() -> Event {
    Event {
        id: EventId(1 << 20),
        source: "erp".into(),
        event_type: "order.created".into(),
        subject: None,
        time: UnixMs(0),
        attributes: Vec::new(),
        data: Bytes::new(),
    }
}
