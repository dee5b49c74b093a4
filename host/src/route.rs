//! Which events go where, and through which plugins.

use std::collections::HashMap;
use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::event::{OWN_SOURCE, TypePattern};
use crate::plugin::Bound;
use crate::retry::RetryPolicy;

/// One route file, checked.
#[derive(Debug)]
pub(crate) struct Route {
    /// The file's stem.
    pub(crate) name: Arc<str>,
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
    /// `name@version` of each plugin, separated by spaces.
    pub(crate) plugins: Arc<str>,
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

    fn takes(&self, event_type: &str) -> bool {
        self.types.iter().any(|it| it.matches(event_type))
    }
}

/// All routes, found by source first: an event's cost does not grow with the
/// routes of other sources.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    by_name: HashMap<Arc<str>, Arc<Route>>,
    by_source: HashMap<Arc<str>, Vec<Arc<Route>>>,
    from_anywhere: Vec<Arc<Route>>,
}

impl Routes {
    pub(crate) fn new(routes: impl IntoIterator<Item = Route>) -> Self {
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

    /// The routes that take an event of this source and type. What the engine itself
    /// tells goes only where it is named.
    pub(crate) fn matching<'a>(
        &'a self,
        source: &str,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Route>> {
        let from_anywhere = (source != OWN_SOURCE).then_some(&self.from_anywhere);
        (self.by_source.get(source).into_iter().flatten())
            .chain(from_anywhere.into_iter().flatten())
            .filter(move |it| it.takes(event_type))
    }

    /// The route of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Route>> {
        self.by_name.get(name)
    }

    /// Every route, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_name.values()
    }
}
