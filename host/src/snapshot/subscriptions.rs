//! Binding subscriptions: a subscription is checked as a route file is, with the
//! plugins of the snapshot it becomes a part of. What is wrong is said by field.

use std::collections::HashMap;
use std::sync::Arc;

use super::build::{Build, Loaded};
use super::dial::Dials;
use super::{Snapshot, known_sources};
use crate::clock::UnixMs;
use crate::config::read_subscription;
use crate::plugin::Component;
use crate::route::{Live, Route};
use crate::subscription::{Form, Subscription};

/// What is bound with.
#[derive(Debug)]
pub(super) struct Binder {
    pub(super) plugins: Arc<HashMap<String, Loaded>>,
    pub(super) dials: Dials,
}

/// A field, and what is wrong with it. Parts of a field stand behind it as in a JSON
/// pointer: `types/0`, `settings/mode`, `secrets/key`.
pub(crate) type Wrong = (String, String);

impl Snapshot {
    /// The route that a subscription is, or all that is wrong with it.
    pub(crate) fn bind(&self, it: &Subscription, now: UnixMs) -> Result<Route, Vec<Wrong>> {
        let (file, headers, mut fields) = read_subscription(it, now);
        // Another tenant's sources are not even there.
        let is_own =
            |tenant: &Option<Arc<str>>| tenant.as_ref().is_none_or(|own| *own == it.tenant);
        let sources = self.sources.values().filter(|source| source.tenant == it.tenant);
        let tokens = self.hub.tokens.iter().filter(|token| is_own(&token.tenant));
        let known = known_sources(sources.map(|it| &*it.name), tokens);
        let mut build = Build {
            plugins: self.binder.plugins.clone(),
            dials: self.binder.dials.clone(),
            problems: Vec::new(),
            refused: Vec::new(),
            stand_in: None,
        };
        let route = build.route(&file, &self.hub, &known);
        let problems = build.problems.into_iter().map(|it| {
            let line = it.at.map_or(usize::MAX, |(line, _)| line);
            (fields.name(line).to_owned(), it.message)
        });
        let mut wrong: Vec<_> = problems.collect();
        wrong.splice(0..0, std::mem::take(&mut fields.wrong));
        match route {
            Some(route) if wrong.is_empty() => Ok(Route { headers, ..route }),
            _ => Err(wrong),
        }
    }

    /// The same subscription with the plugins of this snapshot. Where they do not fit any
    /// more, its deliveries wait, and the route says why.
    pub(crate) fn bind_again(&self, before: &Live, now: UnixMs) -> Live {
        let subscription = before.subscription.clone();
        let route = self
            .bind(&subscription, now)
            .unwrap_or_else(|wrong| self.resting(&subscription, &before.route, &reason(&wrong)));
        Live { subscription, route: Arc::new(route) }
    }

    /// A subscription from the store, whatever it has come to there. None when not even
    /// its URL can be read.
    pub(crate) fn bind_kept(&self, it: Arc<Subscription>, now: UnixMs) -> Option<Live> {
        let route = match self.bind(&it, now) {
            Ok(route) => route,
            Err(wrong) => {
                // Without what does not fit: enough to promise deliveries by.
                let Form { types, url, .. } = it.form.clone();
                let bare = Form { types, url, ..Form::default() };
                let bare = Subscription { form: bare, ..(*it).clone() };
                let bare = self.bind(&bare, now).ok()?;
                let from = it.form.from.iter().map(|it| it.as_str().into()).collect::<Vec<_>>();
                let before = Route { from: (!from.is_empty()).then_some(from), ..bare };
                self.resting(&it, &before, &reason(&wrong))
            }
        };
        Some(Live { subscription: it, route: Arc::new(route) })
    }

    /// What it was before, so that events still become deliveries; without plugins, so
    /// that theirs can go.
    fn resting(&self, it: &Subscription, before: &Route, reason: &str) -> Route {
        tracing::warn!(subscription = %it.id, %reason, "a subscription rests: its deliveries wait");
        Route {
            name: before.name.clone(),
            tenant: before.tenant.clone(),
            from: before.from.clone(),
            types: before.types.clone(),
            filters: Vec::new(),
            transforms: Vec::new(),
            auths: Vec::new(),
            endpoint: before.endpoint.clone(),
            retry: before.retry.clone(),
            headers: before.headers.clone(),
            plugins: "".into(),
            rests: Some(reason.into()),
        }
    }

    /// Are subscriptions bound with the same here and there?
    pub(crate) fn binds_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.binder, &other.binder)
    }

    /// The plugin of that name.
    pub(crate) fn plugin(&self, name: &str) -> Option<&Arc<Component>> {
        self.plugins.iter().find(|it| it.name() == name)
    }
}

fn reason(wrong: &[Wrong]) -> String {
    let each = wrong.iter().map(|(field, message)| format!("{field}: {message}"));
    each.collect::<Vec<_>>().join("; ")
}
