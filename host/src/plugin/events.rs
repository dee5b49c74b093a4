//! The interface `events`, linked by hand: pointers are read where they lie in the guest's
//! memory, and texts that are shared are answered without a copy for the bindings. Every
//! delivery asks it.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmStr};

use super::imports::{Call, EventHandle};
use crate::event::{MEDIA_TYPE, OWN_SOURCE, is_own};
use crate::json;

/// Its name, as components import it.
const INTERFACE: &str = "plugpost:plugin/events@0.1.0";

type Guest<'a> = StoreContextMut<'a, Call>;

/// The event in hand; what is asked of it is asked of the call.
type Event = Resource<EventHandle>;

pub(super) fn add_to_linker(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    let mut linked = linker.instance(INTERFACE)?;
    linked.resource("event", ResourceType::host::<EventHandle>(), |_, _| Ok(()))?;
    linked.func_wrap("[method]event.id", |guest: Guest<'_>, (_,): (Event,)| {
        let id = guest.data().event().map(|it| (*it.event.id.text()).to_owned());
        Ok((id.unwrap_or_default(),))
    })?;
    linked.func_wrap("[method]event.type", |guest: Guest<'_>, (_,): (Event,)| {
        let event_type = guest.data().event().map(|it| it.event.event_type.clone());
        Ok((event_type.unwrap_or_default(),))
    })?;
    linked.func_wrap("[method]event.source", |guest: Guest<'_>, (_,): (Event,)| {
        // Whomever it tells: plugins know nothing of tenants.
        let source = guest.data().event().map(|it| match is_own(&it.event.source) {
            true => Arc::from(OWN_SOURCE),
            false => it.event.source.clone(),
        });
        Ok((source.unwrap_or_default(),))
    })?;
    linked.func_wrap("[method]event.subject", |guest: Guest<'_>, (_,): (Event,)| {
        let event = guest.data().event();
        Ok((event.and_then(|it| it.event.subject.as_deref()).map(str::to_owned),))
    })?;
    linked.func_wrap("[method]event.time", |guest: Guest<'_>, (_,): (Event,)| {
        Ok((guest.data().event().map(|it| it.event.time.0).unwrap_or_default(),))
    })?;
    linked.func_wrap("[method]event.attribute", attribute)?;
    linked.func_wrap("[method]event.attributes", attributes)?;
    linked.func_wrap("[method]event.data", |guest: Guest<'_>, (_,): (Event,)| {
        Ok((guest.data().input.body().to_vec(),))
    })?;
    linked.func_wrap("[method]event.field", |guest: Guest<'_>, (_, at): (Event, WasmStr)| {
        let at = at.to_str(&guest)?;
        Ok((json::field(guest.data().input.body(), &at).map(str::to_owned),))
    })?;
    linked.func_wrap("[method]event.text", |guest: Guest<'_>, (_, at): (Event, WasmStr)| {
        let at = at.to_str(&guest)?;
        Ok((json::text(guest.data().input.body(), &at),))
    })?;
    linked.func_wrap("[method]event.fields", fields)
}

fn attribute(guest: Guest<'_>, (_, name): (Event, WasmStr)) -> wasmtime::Result<(Option<String>,)> {
    let Some(view) = guest.data().event() else { return Ok((None,)) };
    let name = name.to_str(&guest)?;
    let value = match &view.media_type {
        Some(media_type) if name == MEDIA_TYPE => Some(&**media_type),
        _ => view.event.attribute(&name),
    };
    Ok((value.map(str::to_owned),))
}

fn attributes(guest: Guest<'_>, (_,): (Event,)) -> wasmtime::Result<(Vec<(String, String)>,)> {
    let Some(view) = guest.data().event() else { return Ok((Vec::new(),)) };
    let pair = |(name, value): &(Box<str>, Box<str>)| match &view.media_type {
        Some(media_type) if &**name == MEDIA_TYPE => (name.to_string(), media_type.to_string()),
        _ => (name.to_string(), value.to_string()),
    };
    Ok((view.event.attributes.iter().map(pair).collect(),))
}

fn fields(
    guest: Guest<'_>,
    (_, pointers): (Event, Vec<WasmStr>),
) -> wasmtime::Result<(Vec<Option<String>>,)> {
    let pointers = pointers.iter().map(|it| it.to_str(&guest));
    let pointers = pointers.collect::<wasmtime::Result<SmallVec<[Cow<'_, str>; 8]>>>()?;
    Ok((guest.data().values(&pointers)?,))
}
