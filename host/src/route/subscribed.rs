//! Subscriptions as routes. The maps share what did not change with those before,
//! so changing one of many thousands costs little; and an event's cost does not grow
//! with subscriptions that do not take it.

use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::Route;
use crate::event::{OWN_SOURCE, TypePattern};
use crate::subscription::{Subscription, SubscriptionId};

/// All subscriptions of one snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribed {
    by_id: HashTrieMapSync<SubscriptionId, Arc<Live>>,
    by_tenant: HashTrieMapSync<Arc<str>, OfTenant>,
}

/// A subscription and the route it is.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) route: Arc<Route>,
}

#[derive(Clone, Debug, Default)]
struct OfTenant {
    all: RedBlackTreeMapSync<SubscriptionId, Arc<Live>>,
    by_source: HashTrieMapSync<Arc<str>, ByType>,
    from_anywhere: ByType,
}

/// Routes by the types they take.
#[derive(Clone, Debug, Default)]
struct ByType {
    exactly: HashTrieMapSync<Arc<str>, Takers>,
    starting_with: HashTrieMapSync<Arc<str>, Takers>,
    /// Lengths of the starts, ascending, and how many starts are so long. Few: a pattern
    /// is short.
    lengths: Vec<(usize, usize)>,
}

/// Those that take the same, oldest first.
type Takers = RedBlackTreeMapSync<SubscriptionId, Arc<Route>>;

impl Live {
    /// Events become deliveries, and deliveries are attempted.
    fn is_called(&self) -> bool {
        self.subscription.form.active && self.route.rests.is_none()
    }
}

impl Subscribed {
    /// Put it in force, in the place of what has its id.
    pub(crate) fn put(&mut self, live: Arc<Live>) {
        let id = live.subscription.id;
        self.delete(id);
        let tenant = &live.subscription.tenant;
        let mut of_tenant = self.by_tenant.get(&**tenant).cloned().unwrap_or_default();
        of_tenant.all.insert_mut(id, live.clone());
        if live.subscription.form.active {
            of_tenant.each(&live.route, |by_type, pattern| by_type.add(pattern, id, &live.route));
        }
        self.by_tenant.insert_mut(tenant.clone(), of_tenant);
        self.by_id.insert_mut(id, live);
    }

    pub(crate) fn delete(&mut self, id: SubscriptionId) {
        let Some(live) = self.by_id.get(&id).cloned() else { return };
        self.by_id.remove_mut(&id);
        let tenant = &live.subscription.tenant;
        let Some(mut of_tenant) = self.by_tenant.get(&**tenant).cloned() else { return };
        of_tenant.all.remove_mut(&id);
        if live.subscription.form.active {
            of_tenant.each(&live.route, |by_type, pattern| by_type.remove(pattern, id));
        }
        if of_tenant.all.is_empty() {
            self.by_tenant.remove_mut(&**tenant);
        } else {
            self.by_tenant.insert_mut(tenant.clone(), of_tenant);
        }
    }

    /// Those of a tenant that take an event of this source and type, each once.
    pub(crate) fn matching<'a>(
        &'a self,
        tenant: &str,
        source: &str,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Route>> {
        let of_tenant = self.by_tenant.get(tenant);
        let named = of_tenant.and_then(|it| it.by_source.get(source));
        let from_anywhere = of_tenant.map(|it| &it.from_anywhere);
        let from_anywhere = from_anywhere.filter(|_| source != OWN_SOURCE);
        named.into_iter().chain(from_anywhere).flat_map(move |it| it.matching(event_type))
    }

    pub(crate) fn get(&self, id: SubscriptionId) -> Option<&Arc<Live>> {
        self.by_id.get(&id)
    }

    /// The route of a subscription, while it is called.
    pub(super) fn called(&self, id: SubscriptionId) -> Option<&Arc<Route>> {
        self.get(id).filter(|it| it.is_called()).map(|it| &it.route)
    }

    pub(super) fn all_called(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_id.values().filter(|it| it.is_called()).map(|it| &it.route)
    }

    /// All of a tenant, oldest first.
    pub(crate) fn of_tenant(&self, tenant: &str) -> impl Iterator<Item = &Arc<Live>> {
        self.by_tenant.get(tenant).into_iter().flat_map(|it| it.all.values())
    }

    /// How many a tenant has.
    pub(crate) fn count(&self, tenant: &str) -> usize {
        self.by_tenant.get(tenant).map_or(0, |it| it.all.size())
    }

    /// All there are, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.by_id.values()
    }
}

impl OfTenant {
    /// Every place where the route is found.
    fn each(&mut self, route: &Route, mut act: impl FnMut(&mut ByType, &TypePattern)) {
        let patterns: Vec<_> = (0..route.types.len())
            .filter(|at| !is_covered(*at, &route.types))
            .map(|at| &route.types[at])
            .collect();
        let Some(sources) = &route.from else {
            return patterns.into_iter().for_each(|it| act(&mut self.from_anywhere, it));
        };
        let mut sources: Vec<_> = sources.iter().collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let mut by_type = self.by_source.get(&**source).cloned().unwrap_or_default();
            patterns.iter().for_each(|it| act(&mut by_type, it));
            if by_type.exactly.is_empty() && by_type.starting_with.is_empty() {
                self.by_source.remove_mut(&**source);
            } else {
                self.by_source.insert_mut(source.clone(), by_type);
            }
        }
    }
}

/// Another pattern takes all that this one takes: an event is found once.
fn is_covered(at: usize, patterns: &[TypePattern]) -> bool {
    let (TypePattern::Exactly(text) | TypePattern::StartingWith(text)) = &patterns[at];
    patterns.iter().enumerate().any(|(other, it)| match it {
        _ if other == at => false,
        it if *it == patterns[at] => other < at,
        TypePattern::Exactly(_) => false,
        TypePattern::StartingWith(start) => text.starts_with(&**start),
    })
}

impl ByType {
    fn add(&mut self, pattern: &TypePattern, id: SubscriptionId, route: &Arc<Route>) {
        if let TypePattern::StartingWith(start) = pattern
            && !self.starting_with.contains_key(&**start)
        {
            match self.lengths.binary_search_by_key(&start.len(), |it| it.0) {
                Ok(at) => self.lengths[at].1 += 1,
                Err(at) => self.lengths.insert(at, (start.len(), 1)),
            }
        }
        let (map, text) = self.place(pattern);
        let mut takers = map.get(&**text).cloned().unwrap_or_default();
        takers.insert_mut(id, route.clone());
        map.insert_mut(text.clone(), takers);
    }

    fn remove(&mut self, pattern: &TypePattern, id: SubscriptionId) {
        let (map, text) = self.place(pattern);
        let Some(mut takers) = map.get(&**text).cloned() else { return };
        takers.remove_mut(&id);
        if !takers.is_empty() {
            return map.insert_mut(text.clone(), takers);
        }
        map.remove_mut(&**text);
        if let TypePattern::StartingWith(start) = pattern
            && let Ok(at) = self.lengths.binary_search_by_key(&start.len(), |it| it.0)
        {
            self.lengths[at].1 -= 1;
            self.lengths.retain(|(_, starts)| *starts > 0);
        }
    }

    fn place<'p>(
        &mut self,
        pattern: &'p TypePattern,
    ) -> (&mut HashTrieMapSync<Arc<str>, Takers>, &'p Arc<str>) {
        match pattern {
            TypePattern::Exactly(text) => (&mut self.exactly, text),
            TypePattern::StartingWith(text) => (&mut self.starting_with, text),
        }
    }

    fn matching<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a Arc<Route>> {
        let starts = self.lengths.iter().filter_map(|(length, _)| event_type.get(..*length));
        let starting = starts.filter_map(|it| self.starting_with.get(it));
        self.exactly.get(event_type).into_iter().chain(starting).flat_map(|it| it.values())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Client;
    use crate::client::guard::Guard;
    use crate::clock::UnixMs;
    use crate::endpoint::{Endpoint, Order};
    use crate::retry::RetryPolicy;
    use crate::subscription::Form;

    fn live(id: u128, tenant: &str, from: &[&str], types: &[&str], active: bool) -> Arc<Live> {
        let names = || from.iter().map(|it| Arc::from(*it)).collect::<Vec<Arc<str>>>();
        let pattern = |it: &&str| TypePattern::parse(it).expect("a pattern");
        let route = Route {
            name: SubscriptionId(id).to_string().into(),
            tenant: Some(tenant.into()),
            from: (!from.is_empty()).then(names),
            types: types.iter().map(pattern).collect(),
            filters: Vec::new(),
            transforms: Vec::new(),
            auths: Vec::new(),
            endpoint: Endpoint {
                url: "http://receiver.example/".into(),
                uri: http::Uri::from_static("http://receiver.example/"),
                timeout: Duration::from_secs(15),
                concurrency: 16,
                rate_limit: None,
                order: Order::Free,
                breaker: None,
                disable_after: None,
                disable_when_exhausted: false,
                client: Arc::new(Client::new(Guard::default())),
                grant: None,
            },
            retry: RetryPolicy::default(),
            headers: http::HeaderMap::new(),
            plugins: "".into(),
            rests: None,
        };
        let subscription = Subscription {
            id: SubscriptionId(id),
            number: 1,
            tenant: tenant.into(),
            made_by: "".into(),
            form: Form { active, ..Form::default() },
            created: UnixMs(0),
            updated: UnixMs(0),
        };
        Arc::new(Live { subscription: Arc::new(subscription), route: Arc::new(route) })
    }

    /// What is found through the maps is what a look at every subscription finds.
    #[test]
    fn those_that_take_an_event_are_found_each_once() {
        const WORDS: [&str; 12] =
            ["*", "a*", "a", "ab", "ab*", "a.b", "a.*", "b", "b*", "é", "é*", "a.b.c"];
        const SOURCES: [&str; 4] = ["x", "y", "z", OWN_SOURCE];
        const TYPES: [&str; 10] = ["a", "ab", "abc", "a.b", "a.b.c", "b", "", "é", "éa", "c"];
        let mut random = fastrand::Rng::with_seed(7);
        let mut subscribed = Subscribed::default();
        let mut all: Vec<Arc<Live>> = Vec::new();
        for round in 0..2000 {
            let mut pick = |from: &[&'static str], most: usize| -> Vec<&'static str> {
                (0..random.usize(..=most)).map(|_| from[random.usize(..from.len())]).collect()
            };
            let (types, from) = (pick(&WORDS, 5), pick(&SOURCES, 2));
            let id = random.u128(..60);
            let tenant = if id.is_multiple_of(2) { "t" } else { "u" };
            all.retain(|it| it.subscription.id.0 != id);
            match random.usize(..4) {
                0 => subscribed.delete(SubscriptionId(id)),
                kind => {
                    let live = live(id, tenant, &from, &types, kind != 1);
                    subscribed.put(live.clone());
                    all.push(live);
                }
            }
            let event_type = TYPES[random.usize(..TYPES.len())];
            let source = SOURCES[random.usize(..SOURCES.len())];
            for tenant in ["t", "u", "v"] {
                let found = subscribed.matching(tenant, source, event_type);
                let mut found: Vec<_> = found.map(|it| it.name.clone()).collect();
                found.sort();
                let comes_from = |it: &Route| match &it.from {
                    Some(names) => names.iter().any(|it| **it == *source),
                    None => source != OWN_SOURCE,
                };
                let takes = |it: &&Arc<Live>| {
                    it.subscription.form.active
                        && *it.subscription.tenant == *tenant
                        && comes_from(&it.route)
                        && it.route.types.iter().any(|it| it.matches(event_type))
                };
                let looked = all.iter().filter(takes).map(|it| it.route.name.clone());
                let mut looked: Vec<_> = looked.collect();
                looked.sort();
                assert_eq!(found, looked, "round {round}: {tenant} {source} {event_type:?}");
            }
        }
        // Nothing is left behind.
        all.iter().for_each(|it| subscribed.delete(it.subscription.id));
        assert!(subscribed.by_tenant.is_empty() && subscribed.by_id.is_empty());
    }
}
