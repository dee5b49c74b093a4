//! The parts of a running engine, and how they hold together: the queue hands
//! what is due to the lanes, the lanes run the pipeline, the pipeline's result
//! goes back to the queue. [`subscriptions`] are kept there and in force here.

mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::{self, UnixMs};
use crate::event::Event;
use crate::lane::{Lanes, Slot};
use crate::metrics::Metrics;
use crate::queue::nodes::Report;
use crate::queue::{NewDelivery, Queue, QueueError, Retention};
use crate::recover::Recoveries;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::stream::Stream;
use crate::traces::Traces;
use subscriptions::Subscriptions;

pub(crate) use subscriptions::{NotKept, Tenant};

/// A running engine. Held by the listeners and, weakly, by the lanes.
#[derive(Debug)]
pub(crate) struct Engine {
    snapshot: ArcSwap<Snapshot>,
    pub(crate) queue: Queue,
    pub(crate) lanes: Lanes,
    pub(crate) metrics: Metrics,
    pub(crate) stream: Stream,
    pub(crate) recoveries: Recoveries,
    pub(crate) traces: Traces,
    subscriptions: Subscriptions,
}

/// Between two batches of pruning: what comes in goes first.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// Open the store and take up what waits in it.
    pub(crate) async fn start(
        mut snapshot: Snapshot,
        traces: Traces,
    ) -> Result<Arc<Self>, QueueError> {
        // From the writer's thread into the runtime: one task spreads a commit's
        // deliveries from inside, where waking another task is cheap.
        let (sender, mut commits) = mpsc::unbounded_channel();
        let handover = Arc::new(move |committed| drop(sender.send(committed)));
        let hub = snapshot.hub.clone();
        let queue = Queue::open(&hub.store, hub.store_terms, handover).await?;
        let kept = queue.subscriptions(clock::now()).await?;
        let subscriptions = Subscriptions::open(kept, &mut snapshot)?;
        queue.report(report_of(&snapshot));
        let tenure = queue.tenure();
        let engine = Arc::new_cyclic(|engine| Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            queue,
            lanes: Lanes::new(engine.clone(), tenure),
            metrics: Metrics::default(),
            stream: Stream::default(),
            recoveries: Recoveries::default(),
            traces,
            subscriptions,
        });
        let weak = Arc::downgrade(&engine);
        let (follow, followed) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            // Bounded by the writer: it hands over once a commit, and each delivery has a slot.
            while let Some(mut committed) = commits.recv().await {
                committed.answer();
                let Some(engine) = weak.upgrade() else { return };
                let changed = std::mem::take(&mut committed.news.subscriptions);
                if !changed.is_empty() {
                    let _ = follow.send(changed);
                }
                engine.lanes.take_over(committed);
            }
        });
        tokio::spawn(subscriptions::follow(Arc::downgrade(&engine), followed));
        let kept = engine.queue.endpoints().await?;
        engine.lanes.restore(&engine.snapshot(), kept);
        let now = clock::steady();
        for waiting in engine.queue.waiting().await? {
            engine.lanes.of(&waiting.route).wake_at(waiting.first_due, now);
        }
        tokio::spawn(prune(Arc::downgrade(&engine), hub.retention));
        tokio::spawn(subscriptions::expire(Arc::downgrade(&engine)));
        Ok(engine)
    }

    /// What is in force now. A delivery loads it once and keeps it to its end.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The promise that an event is delivered by a route.
    pub(crate) fn promise(
        &self,
        route: &Route,
        event: &Event,
        slot: Option<Slot>,
        now: UnixMs,
    ) -> NewDelivery {
        NewDelivery {
            id: self.queue.next_delivery_id(now),
            route: route.name.clone(),
            endpoint: route.endpoint.url.clone(),
            key: route.endpoint.order.key(event.subject.as_deref()),
            slot,
        }
    }

    /// Put a new snapshot in force, whole, with the subscriptions there are. Deliveries in
    /// hand keep theirs. Runs plugins: not for a thread that others wait for.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let (before, now) = self.carry_over(snapshot);
        self.queue.report(report_of(&now));
        // Another node may have it still.
        for gone in before.routes.iter().filter(|it| now.routes.get(&it.name).is_none()) {
            self.lanes.leave(&gone.name);
        }
        let mut routes: Vec<_> = now.routes.iter().collect();
        // In one order, so that what a reload sets off is the same each time.
        routes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for route in routes {
            // What is in hand already is held to the new limits, too.
            self.lanes.configure(route);
            match before.routes.get(&route.name) {
                None => self.lanes.came(route),
                Some(before) if route.has_plugins_of(before) => {}
                Some(_) => self.lanes.of(&route.name).repaired(),
            }
        }
    }

    /// Stop attempting, wait for what is under way, write what is known.
    pub(crate) async fn stop(&self, deadline: Instant) {
        self.lanes.stop(deadline).await;
        self.queue.close().await;
        self.traces.close().await;
    }
}

/// What the other nodes hear of a snapshot.
fn report_of(snapshot: &Snapshot) -> Report {
    Report { snapshot: hex::encode(snapshot.digest), since: clock::now() }
}

async fn prune(engine: std::sync::Weak<Engine>, retention: Retention) {
    loop {
        tokio::time::sleep(retention.pause()).await;
        loop {
            let Some(engine) = engine.upgrade() else { return };
            match engine.queue.prune(retention, clock::now()).await {
                Ok(0) => break,
                Ok(events) => {
                    tracing::debug!(events, "pruned what is kept no longer");
                    tokio::time::sleep(BATCH_PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "could not prune");
                    break;
                }
            }
        }
    }
}
