//! What one call of a platform's API sees of a tenant's subscriptions, and what it
//! changes: staged, checked at once, kept by others when the call has ended well.
//! Pure: a call that is made again begins with a fresh desk.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Form, SecretVersion, Staged, Subscription, SubscriptionId};
use crate::clock::UnixMs;

/// Whoever called, and what there was when they did.
pub(crate) struct Caller {
    pub(crate) tenant: Arc<str>,
    /// Of the token.
    pub(crate) name: Arc<str>,
    /// The plugin that answers.
    pub(crate) platform: Arc<str>,
    /// The tenant's subscriptions of this plugin, oldest first.
    pub(crate) kept: Vec<Arc<Subscription>>,
    /// What the plugin noted of the tenant as a whole.
    pub(crate) notes: BTreeMap<String, String>,
    /// What a new subscription of this token has unless it brings its own.
    pub(crate) secrets: BTreeMap<String, Zeroizing<String>>,
    pub(crate) now: UnixMs,
    /// An id and a number for a new one.
    pub(crate) next: Box<dyn Fn() -> (SubscriptionId, u64) + Send + Sync>,
    /// What is wrong with one that is about to be staged.
    pub(crate) check: Check,
}

/// What is wrong with a subscription.
pub(crate) type Check = Box<dyn Fn(&Subscription) -> Vec<Refusal> + Send + Sync>;

/// Why a subscription is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) field: String,
    pub(crate) message: String,
}

/// What came of a change.
type Made<T> = Result<Result<T, Vec<Refusal>>, Excess>;

/// More than one call may do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Excess {
    /// `plugin.changes` and the like.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Changes that one call may stage.
const CHANGES_MAX: usize = 256;
/// Of all that one call says in drafts and notes.
const BYTES_MAX: usize = 1 << 20;
/// Notes that a plugin may keep of one tenant.
const NOTES_MAX: usize = 16;

/// One call's view.
pub(crate) struct Desk {
    caller: Arc<Caller>,
    /// None as long as nothing was staged.
    changed: Option<Vec<Arc<Subscription>>>,
    staged: Vec<Staged>,
    /// By name; none to remove it.
    notes: BTreeMap<String, Option<String>>,
    bytes_left: usize,
}

impl Desk {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self {
            caller,
            changed: None,
            staged: Vec::new(),
            notes: BTreeMap::new(),
            bytes_left: BYTES_MAX,
        }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// As they are now, oldest first.
    pub(crate) fn all(&self) -> &[Arc<Subscription>] {
        self.changed.as_deref().unwrap_or(&self.caller.kept)
    }

    /// By id, UUID or number.
    pub(crate) fn get(&self, text: &str) -> Option<&Arc<Subscription>> {
        self.position(text).map(|at| &self.all()[at])
    }

    fn position(&self, text: &str) -> Option<usize> {
        let id = SubscriptionId::find(text);
        let number = (text.parse().ok())
            .filter(|_| text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0'));
        self.all().iter().position(|it| id.map_or(number == Some(it.number), |id| id == it.id))
    }

    /// Count what a guest says against what one call may say.
    pub(crate) fn say(&mut self, bytes: usize) -> Result<(), Excess> {
        // An empty text takes room as well.
        let left = self.bytes_left.checked_sub(bytes + TEXT_BYTES);
        self.bytes_left = left.ok_or_else(|| Excess {
            code: "plugin.output",
            message: format!("a call says at most {BYTES_MAX} bytes in drafts and notes"),
        })?;
        Ok(())
    }

    pub(crate) fn create(&mut self, draft: Draft) -> Made<Arc<Subscription>> {
        let caller = self.caller.clone();
        let secrets = caller.secrets.iter().map(|(name, text)| {
            let version = SecretVersion { text: text.clone(), until: None };
            (name.clone(), vec![version])
        });
        let mut form = Form {
            platform: Some(caller.platform.to_string()),
            secrets: secrets.collect(),
            ..Form::default()
        };
        if let Err(refusal) = draft.apply(&mut form) {
            return Ok(Err(vec![refusal]));
        }
        self.count()?;
        let (id, number) = (caller.next)();
        let made = Subscription {
            id,
            number,
            tenant: caller.tenant.clone(),
            made_by: caller.name.clone(),
            form,
            created: caller.now,
            updated: caller.now,
        };
        let kept = match self.put(made) {
            Ok(kept) => kept,
            Err(refusals) => return Ok(Err(refusals)),
        };
        self.change().push(kept.clone());
        Ok(Ok(kept))
    }

    /// None when there is none of that id.
    pub(crate) fn update(&mut self, text: &str, draft: Draft) -> Made<Option<Arc<Subscription>>> {
        let Some(at) = self.position(text) else { return Ok(Ok(None)) };
        let mut now = Subscription::clone(&self.all()[at]);
        if let Err(refusal) = draft.apply(&mut now.form) {
            return Ok(Err(vec![refusal]));
        }
        self.count()?;
        now.updated = self.caller.now;
        let kept = match self.put(now) {
            Ok(kept) => kept,
            Err(refusals) => return Ok(Err(refusals)),
        };
        self.change()[at] = kept.clone();
        Ok(Ok(Some(kept)))
    }

    pub(crate) fn delete(&mut self, text: &str) -> Result<Option<Arc<Subscription>>, Excess> {
        let Some(at) = self.position(text) else { return Ok(None) };
        self.count()?;
        let gone = self.change().remove(at);
        self.staged.push(Staged::Deleted(gone.id));
        Ok(Some(gone))
    }

    pub(crate) fn note(&self, name: &str) -> Option<&str> {
        match self.notes.get(name) {
            Some(changed) => changed.as_deref(),
            None => self.caller.notes.get(name).map(String::as_str),
        }
    }

    pub(crate) fn set_note(&mut self, name: String, value: Option<String>) -> Result<(), Excess> {
        let known = self.caller.notes.keys().chain(self.notes.keys());
        let known: std::collections::BTreeSet<_> = known.chain([&name]).collect();
        if known.len() > NOTES_MAX {
            let message = format!("a plugin notes at most {NOTES_MAX} things of a tenant");
            return Err(Excess { code: "plugin.changes", message });
        }
        self.notes.insert(name, value);
        Ok(())
    }

    /// What there is to keep.
    pub(crate) fn into_staged(self) -> Vec<Staged> {
        let platform = &self.caller.platform;
        let note = |(name, value)| Staged::Note { platform: platform.clone(), name, value };
        self.staged.into_iter().chain(self.notes.into_iter().map(note)).collect()
    }

    fn count(&self) -> Result<(), Excess> {
        match self.staged.len() < CHANGES_MAX {
            true => Ok(()),
            false => Err(Excess {
                code: "plugin.changes",
                message: format!("a call changes at most {CHANGES_MAX} subscriptions"),
            }),
        }
    }

    fn change(&mut self) -> &mut Vec<Arc<Subscription>> {
        self.changed.get_or_insert_with(|| self.caller.kept.clone())
    }

    fn put(&mut self, subscription: Subscription) -> Result<Arc<Subscription>, Vec<Refusal>> {
        let refusals = match subscription.form.url.is_empty() {
            true => vec![Refusal { field: "url".into(), message: "is missing".into() }],
            false => (self.caller.check)(&subscription),
        };
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let subscription = Arc::new(subscription);
        self.staged.push(Staged::Put(subscription.clone()));
        Ok(subscription)
    }
}

/// What a text costs beside its bytes.
const TEXT_BYTES: usize = 64;

/// What is to be said of a subscription. What is not said stays.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) url: Option<String>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) from: Option<Vec<String>>,
    pub(crate) active: Option<bool>,
    pub(crate) name: Option<Option<String>>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) rate_limit: Option<Option<String>>,
    pub(crate) settings: Option<String>,
    pub(crate) headers: Vec<(String, Option<Zeroizing<String>>)>,
    pub(crate) secrets: Vec<(String, Option<Zeroizing<String>>)>,
    pub(crate) attributes: Vec<(String, Option<String>)>,
}

impl Draft {
    fn apply(self, form: &mut Form) -> Result<(), Refusal> {
        set(&mut form.url, self.url);
        set(&mut form.types, self.types);
        set(&mut form.from, self.from);
        set(&mut form.active, self.active);
        set(&mut form.name, self.name);
        set(&mut form.description, self.description);
        set(&mut form.rate_limit, self.rate_limit);
        if let Some(text) = self.settings {
            form.settings =
                serde_json::from_str(&text).ok().filter(Value::is_object).ok_or_else(|| {
                    Refusal { field: "settings".into(), message: "is not a JSON object".into() }
                })?;
        }
        for (name, value) in self.headers {
            // One header, however its name is written.
            form.headers.retain(|it, _| !it.eq_ignore_ascii_case(&name));
            form.headers.extend(value.map(|it| (name, it)));
        }
        for (name, value) in self.secrets {
            match value {
                Some(text) => {
                    drop(form.secrets.insert(name, vec![SecretVersion { text, until: None }]));
                }
                None => drop(form.secrets.remove(&name)),
            }
        }
        for (name, value) in self.attributes {
            match value {
                Some(value) => drop(form.attributes.insert(name, value)),
                None => drop(form.attributes.remove(&name)),
            }
        }
        Ok(())
    }
}

fn set<T>(place: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *place = said;
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({} of {})", self.name, self.tenant)
    }
}
