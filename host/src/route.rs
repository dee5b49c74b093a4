//! Which events go where, and through which plugins. [`subscribed`] has the routes
//! that are subscriptions.

mod subscribed;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;

use crate::endpoint::Endpoint;
use crate::event::{OWN_SOURCE, TypePattern, is_own};
use crate::plugin::Bound;
use crate::retry::RetryPolicy;
use crate::subscription::SubscriptionId;

pub(crate) use subscribed::{Live, Subscribed};

/// The tenant of what says none.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// One route file, or one subscription, checked.
#[derive(Debug)]
pub(crate) struct Route {
    /// The file's stem, or the subscription's id.
    pub(crate) name: Arc<str>,
    /// Whose events it takes; none for everybody's.
    pub(crate) tenant: Option<Arc<str>>,
    /// The sources it takes events from; none for every source.
    pub(crate) from: Option<Vec<Arc<str>>>,
    /// The event types it takes.
    pub(crate) types: Vec<TypePattern>,
    /// In order; the first that declines ends it.
    pub(crate) filters: Vec<Bound>,
    /// In order; each sees what the one before made.
    pub(crate) transforms: Vec<Bound>,
    /// In order; each adds its headers.
    pub(crate) auths: Vec<Bound>,
    /// Where it delivers.
    pub(crate) endpoint: Endpoint,
    /// When it tries again.
    pub(crate) retry: RetryPolicy,
    /// Set on every request before the plugins do; none where there are none.
    pub(crate) headers: HeaderMap,
    /// `name@version` of each plugin, separated by spaces.
    pub(crate) plugins: Arc<str>,
    /// Why its deliveries wait, when its plugins cannot be used.
    pub(crate) rests: Option<Arc<str>>,
}

impl Route {
    /// Does the other one use the same plugins with the same settings?
    pub(crate) fn has_plugins_of(&self, other: &Self) -> bool {
        let uses = |it: &Self| {
            it.filters.iter().chain(&it.transforms).chain(&it.auths).cloned().collect::<Vec<_>>()
        };
        let (mine, others) = (uses(self), uses(other));
        mine.len() == others.len() && mine.iter().zip(&others).all(|(a, b)| a.is_same_as(b))
    }

    fn takes(&self, tenant: &str, event_type: &str) -> bool {
        self.tenant.as_ref().is_none_or(|it| **it == *tenant)
            && self.types.iter().any(|it| it.matches(event_type))
    }
}

/// All routes. Those of files stay as they are from one reload to the next; the
/// subscriptions change by themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    files: Arc<Files>,
    pub(crate) subscribed: Subscribed,
}

/// The routes of files, found by source first: an event's cost does not grow with the
/// routes of other sources.
#[derive(Debug, Default)]
struct Files {
    by_name: HashMap<Arc<str>, Arc<Route>>,
    by_source: HashMap<Arc<str>, Vec<Arc<Route>>>,
    from_anywhere: Vec<Arc<Route>>,
}

impl Files {
    fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut all = Self::default();
        for route in routes.into_iter().map(Arc::new) {
            match &route.from {
                Some(sources) => {
                    for source in sources {
                        all.by_source.entry(source.clone()).or_default().push(route.clone());
                    }
                }
                None => all.from_anywhere.push(route.clone()),
            }
            all.by_name.insert(route.name.clone(), route);
        }
        all
    }
}

impl Routes {
    pub(crate) fn new(files: impl IntoIterator<Item = Route>) -> Self {
        Self { files: Arc::new(Files::new(files)), subscribed: Subscribed::default() }
    }

    /// The routes that take a tenant's event of this source and type. What the engine
    /// itself tells goes only where it is named.
    pub(crate) fn matching<'a>(
        &'a self,
        tenant: &'a str,
        source: &str,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Route>> {
        let files = &*self.files;
        let source = if is_own(source) { OWN_SOURCE } else { source };
        let from_anywhere = (source != OWN_SOURCE).then_some(&files.from_anywhere);
        (files.by_source.get(source).into_iter().flatten())
            .chain(from_anywhere.into_iter().flatten())
            .filter(move |it| it.takes(tenant, event_type))
            .chain(self.subscribed.matching(tenant, source, event_type))
    }

    /// The route of that name, while deliveries are attempted by it.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Route>> {
        let subscribed = || self.subscribed.called(name.parse().ok()?);
        self.files.by_name.get(name).or_else(subscribed)
    }

    /// The route of that name, whether deliveries are attempted by it or wait.
    pub(crate) fn known(&self, name: &str) -> Option<&Arc<Route>> {
        let subscribed = || self.subscribed.get(name.parse().ok()?).map(|it| &it.route);
        self.files.by_name.get(name).or_else(subscribed)
    }

    /// A subscription that was there, and will not come back?
    pub(crate) fn is_deleted(&self, name: &str) -> bool {
        name.parse::<SubscriptionId>().is_ok() && self.known(name).is_none()
    }

    /// The routes of files, in no order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.files.by_name.values()
    }

    /// Every route by which deliveries are attempted, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.files().chain(self.subscribed.all_called())
    }
}
