//! What a guest that answers a platform's API may call on us: handles on the desk
//! of the call in hand. A handle of an earlier call opens nothing: its number is
//! never given again, and what it stood for is gone.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::bindings::plugpost::plugin::subscriptions as wit;
use super::imports::Call;
use super::text::printable;
use crate::subscription::Subscription;
use crate::subscription::desk::{Caller, Desk, Draft, Excess, Refusal};

/// Stands for a subscription.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct SubscriptionHandle;
/// Stands for a draft.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct DraftHandle;
/// Stands for whoever called.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct CallerHandle;

/// The desk of one call, and what its guest holds handles on.
#[derive(Default)]
pub(super) struct Held {
    desk: Option<Desk>,
    subscriptions: HashMap<u32, Arc<Subscription>>,
    drafts: HashMap<u32, Draft>,
    /// Counts up for as long as the instance lives.
    next: u32,
}

/// Subscriptions given out at once.
const TAKE_MAX: usize = 256;

impl Held {
    /// A fresh desk.
    pub(super) fn begin(&mut self, caller: Option<Arc<Caller>>) {
        self.end();
        self.desk = caller.map(Desk::new);
    }

    /// The desk as the call has left it.
    pub(super) fn end(&mut self) -> Option<Desk> {
        self.subscriptions.clear();
        self.drafts.clear();
        self.desk.take()
    }

    fn desk(&mut self) -> wasmtime::Result<&mut Desk> {
        self.desk.as_mut().ok_or_else(|| wasmtime::Error::msg("this call has no caller"))
    }

    fn number(&mut self) -> wasmtime::Result<u32> {
        // Far more than the calls of one instance can use up in their time.
        self.next = self.next.checked_add(1).ok_or_else(|| wasmtime::Error::msg("no handles"))?;
        Ok(self.next)
    }

    fn hold(&mut self, kept: Arc<Subscription>) -> wasmtime::Result<Resource<SubscriptionHandle>> {
        let number = self.number()?;
        self.subscriptions.insert(number, kept);
        Ok(Resource::new_own(number))
    }

    fn subscription(
        &self,
        handle: &Resource<SubscriptionHandle>,
    ) -> wasmtime::Result<&Subscription> {
        self.subscriptions.get(&handle.rep()).map(|it| &**it).ok_or_else(stale)
    }

    /// Change a draft, when there is room for so many bytes more.
    fn say(
        &mut self,
        handle: &Resource<DraftHandle>,
        bytes: usize,
        set: impl FnOnce(&mut Draft),
    ) -> wasmtime::Result<()> {
        self.desk()?.say(bytes)?;
        set(self.drafts.get_mut(&handle.rep()).ok_or_else(stale)?);
        Ok(())
    }

    fn take_draft(&mut self, handle: &Resource<DraftHandle>) -> wasmtime::Result<Draft> {
        self.drafts.remove(&handle.rep()).ok_or_else(stale)
    }
}

fn stale() -> wasmtime::Error {
    wasmtime::Error::msg("a handle of an earlier call")
}

fn length(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

/// A refusal's words may come from another guest's settings check.
fn refusals(found: Vec<Refusal>) -> Vec<wit::Refusal> {
    let refusal = |it: Refusal| wit::Refusal {
        field: it.field,
        message: printable(&it.message, super::MESSAGE_BYTES_MAX).into(),
    };
    found.into_iter().map(refusal).collect()
}

impl wit::Host for Call {}

impl wit::HostSubscription for Call {
    fn id(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<String> {
        Ok(self.held.subscription(&it)?.id.to_string())
    }

    fn uuid(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<String> {
        Ok(self.held.subscription(&it)?.id.uuid())
    }

    fn number(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<u64> {
        Ok(self.held.subscription(&it)?.number)
    }

    fn made_by(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<String> {
        Ok(self.held.subscription(&it)?.made_by.to_string())
    }

    fn created(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<u64> {
        Ok(self.held.subscription(&it)?.created.0)
    }

    fn updated(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<u64> {
        Ok(self.held.subscription(&it)?.updated.0)
    }

    fn url(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<String> {
        Ok(self.held.subscription(&it)?.form.url.clone())
    }

    fn event_types(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<Vec<String>> {
        Ok(self.held.subscription(&it)?.form.types.clone())
    }

    fn sources(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<Vec<String>> {
        Ok(self.held.subscription(&it)?.form.from.clone())
    }

    fn active(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<bool> {
        Ok(self.held.subscription(&it)?.form.active)
    }

    fn name(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.held.subscription(&it)?.form.name.clone())
    }

    fn description(
        &mut self,
        it: Resource<SubscriptionHandle>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.held.subscription(&it)?.form.description.clone())
    }

    fn rate_limit(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.held.subscription(&it)?.form.rate_limit.clone())
    }

    fn settings(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<String> {
        Ok(self.held.subscription(&it)?.form.settings.to_string())
    }

    fn secrets(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<Vec<String>> {
        Ok(self.held.subscription(&it)?.form.secrets.keys().cloned().collect())
    }

    fn headers(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<Vec<String>> {
        Ok(self.held.subscription(&it)?.form.headers.keys().cloned().collect())
    }

    fn attribute(
        &mut self,
        it: Resource<SubscriptionHandle>,
        name: String,
    ) -> wasmtime::Result<Option<String>> {
        let form = &self.held.subscription(&it)?.form;
        Ok(form.attributes.get(&name).cloned())
    }

    fn drop(&mut self, it: Resource<SubscriptionHandle>) -> wasmtime::Result<()> {
        self.held.subscriptions.remove(&it.rep());
        Ok(())
    }
}

impl wit::HostDraft for Call {
    fn new(&mut self) -> wasmtime::Result<Resource<DraftHandle>> {
        self.held.desk()?.say(0)?;
        let number = self.held.number()?;
        self.held.drafts.insert(number, Draft::default());
        Ok(Resource::new_own(number))
    }

    fn set_url(&mut self, it: Resource<DraftHandle>, url: String) -> wasmtime::Result<()> {
        self.held.say(&it, url.len(), |draft| draft.url = Some(url))
    }

    fn set_event_types(
        &mut self,
        it: Resource<DraftHandle>,
        types: Vec<String>,
    ) -> wasmtime::Result<()> {
        self.held.say(&it, of_all(&types), |draft| draft.types = Some(types))
    }

    fn set_sources(
        &mut self,
        it: Resource<DraftHandle>,
        sources: Vec<String>,
    ) -> wasmtime::Result<()> {
        self.held.say(&it, of_all(&sources), |draft| draft.from = Some(sources))
    }

    fn set_active(&mut self, it: Resource<DraftHandle>, active: bool) -> wasmtime::Result<()> {
        self.held.say(&it, 0, |draft| draft.active = Some(active))
    }

    fn set_name(
        &mut self,
        it: Resource<DraftHandle>,
        name: Option<String>,
    ) -> wasmtime::Result<()> {
        self.held.say(&it, length(name.as_ref()), |draft| draft.name = Some(name))
    }

    fn set_description(
        &mut self,
        it: Resource<DraftHandle>,
        description: Option<String>,
    ) -> wasmtime::Result<()> {
        let bytes = length(description.as_ref());
        self.held.say(&it, bytes, |draft| draft.description = Some(description))
    }

    fn set_rate_limit(
        &mut self,
        it: Resource<DraftHandle>,
        limit: Option<String>,
    ) -> wasmtime::Result<()> {
        self.held.say(&it, length(limit.as_ref()), |draft| draft.rate_limit = Some(limit))
    }

    fn set_settings(
        &mut self,
        it: Resource<DraftHandle>,
        settings: String,
    ) -> wasmtime::Result<()> {
        self.held.say(&it, settings.len(), |draft| draft.settings = Some(settings))
    }

    fn set_header(
        &mut self,
        it: Resource<DraftHandle>,
        name: String,
        value: Option<String>,
    ) -> wasmtime::Result<()> {
        let value = value.map(Zeroizing::new);
        let bytes = name.len() + value.as_ref().map_or(0, |it| it.len());
        self.held.say(&it, bytes, |draft| draft.headers.push((name, value)))
    }

    fn set_secret(
        &mut self,
        it: Resource<DraftHandle>,
        name: String,
        value: Option<String>,
    ) -> wasmtime::Result<()> {
        let value = value.map(Zeroizing::new);
        let bytes = name.len() + value.as_ref().map_or(0, |it| it.len());
        self.held.say(&it, bytes, |draft| draft.secrets.push((name, value)))
    }

    fn set_attribute(
        &mut self,
        it: Resource<DraftHandle>,
        name: String,
        value: Option<String>,
    ) -> wasmtime::Result<()> {
        let bytes = name.len() + length(value.as_ref());
        self.held.say(&it, bytes, |draft| draft.attributes.push((name, value)))
    }

    fn drop(&mut self, it: Resource<DraftHandle>) -> wasmtime::Result<()> {
        self.held.drafts.remove(&it.rep());
        Ok(())
    }
}

/// What a list of texts counts for: each of them takes room.
fn of_all(texts: &[String]) -> usize {
    texts.iter().map(|it| it.len() + size_of::<String>()).sum()
}

impl wit::HostCaller for Call {
    fn tenant(&mut self, _: Resource<CallerHandle>) -> wasmtime::Result<String> {
        Ok(self.held.desk()?.caller().tenant.to_string())
    }

    fn name(&mut self, _: Resource<CallerHandle>) -> wasmtime::Result<String> {
        Ok(self.held.desk()?.caller().name.to_string())
    }

    fn count(&mut self, _: Resource<CallerHandle>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.held.desk()?.all().len()).unwrap_or(u32::MAX))
    }

    fn subscriptions(
        &mut self,
        _: Resource<CallerHandle>,
        skip: u32,
        take: u32,
    ) -> wasmtime::Result<Vec<Resource<SubscriptionHandle>>> {
        let take = (take as usize).min(TAKE_MAX);
        let page = self.held.desk()?.all().iter().skip(skip as usize).take(take);
        let page: Vec<_> = page.cloned().collect();
        page.into_iter().map(|it| self.held.hold(it)).collect()
    }

    fn get(
        &mut self,
        _: Resource<CallerHandle>,
        id: String,
    ) -> wasmtime::Result<Option<Resource<SubscriptionHandle>>> {
        let found = self.held.desk()?.get(&id).cloned();
        found.map(|it| self.held.hold(it)).transpose()
    }

    fn create(
        &mut self,
        _: Resource<CallerHandle>,
        draft: Resource<DraftHandle>,
    ) -> wasmtime::Result<Result<Resource<SubscriptionHandle>, Vec<wit::Refusal>>> {
        let draft = self.held.take_draft(&draft)?;
        match self.held.desk()?.create(draft)? {
            Ok(made) => Ok(Ok(self.held.hold(made)?)),
            Err(found) => Ok(Err(refusals(found))),
        }
    }

    fn update(
        &mut self,
        _: Resource<CallerHandle>,
        id: String,
        draft: Resource<DraftHandle>,
    ) -> wasmtime::Result<Result<Option<Resource<SubscriptionHandle>>, Vec<wit::Refusal>>> {
        let draft = self.held.take_draft(&draft)?;
        match self.held.desk()?.update(&id, draft)? {
            Ok(now) => Ok(Ok(now.map(|it| self.held.hold(it)).transpose()?)),
            Err(found) => Ok(Err(refusals(found))),
        }
    }

    fn delete(
        &mut self,
        _: Resource<CallerHandle>,
        id: String,
    ) -> wasmtime::Result<Option<Resource<SubscriptionHandle>>> {
        let gone = self.held.desk()?.delete(&id)?;
        gone.map(|it| self.held.hold(it)).transpose()
    }

    fn note(
        &mut self,
        _: Resource<CallerHandle>,
        name: String,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.held.desk()?.note(&name).map(str::to_owned))
    }

    fn set_note(
        &mut self,
        _: Resource<CallerHandle>,
        name: String,
        value: Option<String>,
    ) -> wasmtime::Result<()> {
        let desk = self.held.desk()?;
        desk.say(name.len() + length(value.as_ref()))?;
        Ok(desk.set_note(name, value)?)
    }

    fn drop(&mut self, _: Resource<CallerHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// The code of a guest that wanted too much.
pub(super) fn code_of(error: &wasmtime::Error) -> Option<&'static str> {
    error.downcast_ref::<Excess>().map(|it| it.code)
}
