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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn desk() -> Desk {
        let number = AtomicU64::new(6);
        Desk::new(Arc::new(Caller {
            tenant: "acme".into(),
            name: "shop".into(),
            platform: "parcels".into(),
            kept: Vec::new(),
            notes: BTreeMap::from([("emails".to_owned(), "before".to_owned())]),
            secrets: BTreeMap::from([("key".to_owned(), Zeroizing::new("of-token".to_owned()))]),
            now: UnixMs(1_000),
            next: Box::new(move || {
                let number = number.fetch_add(1, Ordering::Relaxed) + 1;
                (SubscriptionId(number.into()), number)
            }),
            check: Box::new(|it| match it.form.url.starts_with("https:") {
                true => Vec::new(),
                false => vec![Refusal { field: "url".into(), message: "no".into() }],
            }),
        }))
    }

    fn to(url: &str) -> Draft {
        Draft { url: Some(url.into()), ..Draft::default() }
    }

    #[test]
    fn a_call_sees_what_it_changed_and_leaves_it_to_be_kept() {
        let mut desk = desk();
        let made = desk.create(to("https://a.example/")).expect("little").expect("it fits");
        assert_eq!((made.number, &*made.made_by, made.created), (7, "shop", UnixMs(1_000)));
        assert_eq!(made.form.secrets["key"][0].text.as_str(), "of-token");
        for id in ["7", &made.id.to_string(), &made.id.uuid()] {
            assert!(desk.get(id).is_some(), "{id}");
        }
        for id in ["07", "+7", "8", "", "sub_7"] {
            assert!(desk.get(id).is_none(), "{id}");
        }
        let off = Draft { active: Some(false), ..Draft::default() };
        let now = desk.update("7", off).expect("little").expect("it fits").expect("it is there");
        assert_eq!((now.form.active, now.form.url.as_str()), (false, "https://a.example/"));
        desk.set_note("emails".into(), None).expect("little");
        assert_eq!(desk.note("emails"), None);
        assert!(desk.delete("7").expect("little").is_some());
        assert!(desk.all().is_empty());
        let staged = desk.into_staged();
        assert!(matches!(
            staged[..],
            [Staged::Put(_), Staged::Put(_), Staged::Deleted(_), Staged::Note { .. }]
        ));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_staged() {
        let mut desk = desk();
        for (draft, field) in [
            (Draft::default(), "url"),
            (to("http://a.example/"), "url"),
            (Draft { settings: Some("[]".into()), ..to("https://a.example/") }, "settings"),
        ] {
            let refusals = desk.create(draft).expect("little").expect_err("it does not fit");
            assert_eq!(refusals[0].field, field);
        }
        let made = desk.create(to("https://a.example/")).expect("little").expect("it fits");
        let refused = desk.update("9", to("http://b.example/")).expect("little");
        assert!(refused.expect_err("it does not fit")[0].field == "url");
        assert_eq!(desk.get("9").map(|it| it.form.url.clone()), Some(made.form.url.clone()));
        assert!(
            desk.update("1", to("https://b.example/")).expect("little").expect("none").is_none()
        );
        assert_eq!(desk.into_staged().len(), 1);
    }

    #[test]
    fn a_call_has_its_limits_and_says_which() {
        let mut desk = desk();
        let left = desk.say(BYTES_MAX).expect_err("too much");
        assert_eq!(left.code, "plugin.output");
        for _ in 0..CHANGES_MAX {
            desk.create(to("https://a.example/")).expect("not yet").expect("it fits");
        }
        let left = desk.create(to("https://a.example/")).expect_err("too many");
        assert_eq!(left.code, "plugin.changes");
        let noted = (0..=NOTES_MAX).map(|it| desk.set_note(it.to_string(), Some("x".into())));
        assert_eq!(noted.filter(Result::is_err).count(), 2);
    }
}
