//! What a node does beside writing: it says that it lives, hears from the others what is
//! due, looks for itself in case it was not told, and takes over from those that are gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{self, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::AsyncMessage;

use super::address::Address;
use super::connection::Session;
use super::node::{self, Node};
use super::{nodes, schema, waiting};
use crate::clock;
use crate::queue::QueueError;
use crate::queue::nodes::Report;
use crate::queue::writer::{Committed, Handover};

pub(super) struct Watch {
    address: Address,
    lease: Duration,
    node: Arc<Mutex<Node>>,
    handover: Handover,
    /// What this node says of itself.
    reported: sync::watch::Receiver<Option<Report>>,
}

/// How many commits can have something to tell before it is told.
pub(super) const TOLD_MAX: usize = 64;

/// Between two looks at what waits: so late is what nobody was told of.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Between two looks for missing partitions.
const DAYS_AGAIN: Duration = Duration::from_mins(10);

/// Telling the others waits so long for more to tell: each NOTIFY holds up every commit in
/// the database for a moment.
const TELL_PAUSE: Duration = Duration::from_millis(10);

/// Before a session that ended is opened again.
const OPEN_AGAIN: Duration = Duration::from_millis(500);

/// The longest payload that PostgreSQL takes is 8,000 bytes.
const PAYLOAD_MAX: usize = 7_900;

const CHANNEL: &str = "plugpost";

impl Watch {
    pub(super) fn new(
        address: Address,
        lease: Duration,
        node: Arc<Mutex<Node>>,
        handover: Handover,
        reported: sync::watch::Receiver<Option<Report>>,
    ) -> Self {
        Self { address, lease, node, handover, reported }
    }

    pub(super) async fn run(self, mut tell: mpsc::Receiver<Vec<Arc<str>>>) {
        loop {
            match self.watch(&mut tell).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "cannot hear from the other nodes"),
            }
            sleep(OPEN_AGAIN).await;
        }
    }

    /// With one session, until it ends; Ok when the store is closed.
    async fn watch(&self, tell: &mut mpsc::Receiver<Vec<Arc<str>>>) -> Result<(), QueueError> {
        let (heard, mut hear) = mpsc::channel(TOLD_MAX);
        let told = Box::new(move |message| {
            if let AsyncMessage::Notification(it) = message {
                // What does not fit is found by looking.
                let _ = heard.try_send(it.payload().to_owned());
            }
        });
        let mut session = Session::open_with(&self.address, told).await?;
        // First listen, then look: nothing falls between.
        session.client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        let mut reported = self.reported.clone();
        reported.mark_changed();
        let mut look = interval(LOOK_AGAIN);
        let mut renew = interval(self.lease / 3);
        let mut days = interval(DAYS_AGAIN);
        for interval in [&mut look, &mut renew, &mut days] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        // After an outage everybody gets the time to come back.
        let mut renewed_since = Instant::now();
        let mut renewed_last = Instant::now();
        // Nothing here may take so long that the node cannot say in time that it lives.
        let patience = self.lease / 3;
        loop {
            tokio::select! {
                routes = tell.recv() => {
                    let Some(mut routes) = routes else { return Ok(()) };
                    sleep(TELL_PAUSE).await;
                    while let Ok(more) = tell.try_recv() {
                        routes.extend(more);
                    }
                    within(patience, self::tell(&session, &routes)).await?;
                }
                payload = hear.recv() => {
                    let Some(payload) = payload else { return Err(ended()) };
                    self.hand_over(payload.lines().map(Arc::from).collect());
                }
                _ = look.tick() => {
                    let now = clock::now();
                    let waiting = within(patience, waiting::waiting(&session)).await?;
                    let due = waiting.into_iter().filter(|it| it.first_due <= now);
                    self.hand_over(due.map(|it| it.route).collect());
                }
                _ = renew.tick() => {
                    let node = *self.node.lock();
                    if renewed_last.elapsed() > self.lease {
                        renewed_since = Instant::now();
                    }
                    // A node that was given up joins again with its next write.
                    within(patience, node.renew(&session, self.lease)).await?;
                    reported.mark_changed();
                    renewed_last = Instant::now();
                    if renewed_since.elapsed() >= self.lease {
                        let routes = within(patience, node::bury(&mut session)).await?;
                        within(patience, self::tell(&session, &routes)).await?;
                    }
                }
                Ok(()) = reported.changed() => {
                    let (node, report) = (*self.node.lock(), reported.borrow_and_update().clone());
                    within(patience, nodes::report(&session, node, report.as_ref())).await?;
                }
                _ = days.tick() => {
                    if let Err(error) = schema::make_days(&mut session, clock::now()).await {
                        tracing::warn!(%error, "the partitions of the coming days are not made yet");
                    }
                }
            }
        }
    }

    fn hand_over(&self, routes: Vec<Arc<str>>) {
        if !routes.is_empty() {
            (self.handover)(Committed::stored(routes));
        }
    }
}

/// Tell every node, this one too, that something is due for these routes.
pub(super) async fn tell(session: &Session, routes: &[Arc<str>]) -> Result<(), QueueError> {
    let mut routes: Vec<&str> = routes.iter().map(|it| &**it).collect();
    routes.sort_unstable();
    routes.dedup();
    let mut payloads = vec![String::new()];
    for route in routes.into_iter().filter(|it| it.len() < PAYLOAD_MAX) {
        if payloads.last().is_some_and(|it| it.len() + route.len() >= PAYLOAD_MAX) {
            payloads.push(String::new());
        }
        if let Some(payload) = payloads.last_mut() {
            payload.push_str(route);
            payload.push('\n');
        }
    }
    payloads.retain(|it| !it.is_empty());
    if payloads.is_empty() {
        return Ok(());
    }
    let sql = "SELECT pg_notify($1, it) FROM unnest($2::text[]) it";
    session.client.query(sql, &[&CHANNEL, &payloads]).await?;
    Ok(())
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    let silent = |_| Err(QueueError::Broken("PostgreSQL did not answer in time".into()));
    timeout(patience, work).await.unwrap_or_else(silent)
}

fn ended() -> QueueError {
    QueueError::Broken("the session has ended".into())
}
