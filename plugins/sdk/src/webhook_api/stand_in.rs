//! A caller without a host: subscriptions in memory, for a plugin's own tests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Caller, CallerIs, Draft, Refusal};

/// A tenant's subscriptions of one plugin, kept in memory. It keeps everything that
/// has a URL; what the host would refuse, a test says with [`refusing`](Self::refusing).
#[derive(Debug, Default)]
pub struct StandIn {
    tenant: String,
    token: RefCell<String>,
    refusals: Vec<Refusal>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<Kept>,
    notes: BTreeMap<String, String>,
    number: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) made_by: String,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) said: Draft,
}

/// 2026-05-04T10:00:00Z, and a second for each change.
const START: u64 = 1_777_888_800_000;

impl StandIn {
    /// Nothing kept yet; calls are made with a token of that name.
    pub fn new(tenant: &str, token: &str) -> Self {
        Self { tenant: tenant.into(), token: RefCell::new(token.into()), ..Self::default() }
    }

    /// The same, but everything that is to be kept is refused for this.
    pub fn refusing(mut self, field: &str, message: &str) -> Self {
        self.refusals.push(Refusal { field: field.into(), message: message.into() });
        self
    }

    /// From now on another token of the tenant calls.
    pub fn with_token(&self, token: &str) {
        *self.token.borrow_mut() = token.into();
    }

    /// Whoever calls.
    pub fn caller(&self) -> Caller<'_> {
        Caller(CallerIs::StandIn(self))
    }

    pub(super) fn tenant(&self) -> String {
        self.tenant.clone()
    }

    pub(super) fn name(&self) -> String {
        self.token.borrow().clone()
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.state.borrow().kept.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn page(&self, skip: u32, take: u32) -> Vec<Kept> {
        let state = self.state.borrow();
        state.kept.iter().skip(skip as usize).take(take as usize).cloned().collect()
    }

    pub(super) fn get(&self, id: &str) -> Option<Kept> {
        self.state.borrow().kept.iter().find(|it| it.is(id)).cloned()
    }

    pub(super) fn create(&self, draft: Draft) -> Result<Kept, Vec<Refusal>> {
        self.check(draft.url.as_deref())?;
        let mut state = self.state.borrow_mut();
        state.number += 1;
        let number = state.number;
        let created = START + number * 1000;
        let made_by = self.name();
        let mut said = Draft::new();
        said.take(draft);
        let kept = Kept { number, made_by, created, updated: created, said };
        state.kept.push(kept.clone());
        Ok(kept)
    }

    pub(super) fn update(&self, id: &str, draft: Draft) -> Result<Option<Kept>, Vec<Refusal>> {
        let mut state = self.state.borrow_mut();
        let Some(kept) = state.kept.iter_mut().find(|it| it.is(id)) else { return Ok(None) };
        self.check(draft.url.as_deref().or(kept.said.url.as_deref()))?;
        kept.said.take(draft);
        kept.updated += 1000;
        Ok(Some(kept.clone()))
    }

    pub(super) fn delete(&self, id: &str) -> Option<Kept> {
        let mut state = self.state.borrow_mut();
        let at = state.kept.iter().position(|it| it.is(id))?;
        Some(state.kept.remove(at))
    }

    pub(super) fn note(&self, name: &str) -> Option<String> {
        self.state.borrow().notes.get(name).cloned()
    }

    pub(super) fn set_note(&self, name: &str, value: Option<&str>) {
        let notes = &mut self.state.borrow_mut().notes;
        match value {
            Some(value) => drop(notes.insert(name.into(), value.into())),
            None => drop(notes.remove(name)),
        }
    }

    fn check(&self, url: Option<&str>) -> Result<(), Vec<Refusal>> {
        let mut refusals = self.refusals.clone();
        if url.is_none_or(str::is_empty) {
            refusals.push(Refusal { field: "url".into(), message: "is missing".into() });
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals) }
    }
}

impl Kept {
    pub(super) fn uuid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.number)
    }

    pub(super) fn settings(&self) -> String {
        self.said.settings.clone().unwrap_or_else(|| "{}".into())
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        given(&self.said.secrets)
    }

    pub(super) fn headers(&self) -> Vec<String> {
        given(&self.said.headers)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let found = self.said.attributes.iter().find(|(it, _)| it == name);
        found.and_then(|(_, value)| value.clone())
    }

    fn is(&self, id: &str) -> bool {
        id == self.number.to_string() || id == self.uuid() || id == format!("sub_{}", self.number)
    }
}

/// The names of what has a value, in their order.
fn given(pairs: &[(String, Option<String>)]) -> Vec<String> {
    let given = pairs.iter().filter(|(_, value)| value.is_some());
    let mut names: Vec<_> = given.map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

impl Draft {
    /// What another one says goes over what this one said.
    fn take(&mut self, other: Self) {
        fn over<T>(place: &mut Option<T>, said: Option<T>) {
            if said.is_some() {
                *place = said;
            }
        }
        fn by_name(place: &mut Vec<(String, Option<String>)>, said: Vec<(String, Option<String>)>) {
            for (name, value) in said {
                place.retain(|(it, _)| !it.eq_ignore_ascii_case(&name));
                place.push((name, value));
            }
        }
        over(&mut self.url, other.url);
        over(&mut self.event_types, other.event_types);
        over(&mut self.sources, other.sources);
        over(&mut self.active, other.active);
        over(&mut self.name, other.name);
        over(&mut self.description, other.description);
        over(&mut self.rate_limit, other.rate_limit);
        over(&mut self.settings, other.settings);
        by_name(&mut self.headers, other.headers);
        by_name(&mut self.secrets, other.secrets);
        by_name(&mut self.attributes, other.attributes);
    }
}
