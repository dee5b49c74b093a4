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
use super::lanes::{self, Lanes};
use super::node::{self, Node};
use super::{nodes, schema, subscriptions, waiting};
use crate::clock;
use crate::queue::nodes::Report;
use crate::queue::writer::{Committed, Handover, News};
use crate::queue::{QueueError, Tenure};

pub(super) struct Watch {
    pub(super) address: Address,
    pub(super) lease: Duration,
    pub(super) node: Arc<Mutex<Node>>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) tenure: Tenure,
    pub(super) handover: Handover,
    /// What this node says of itself.
    pub(super) reported: sync::watch::Receiver<Option<Report>>,
    /// The number of the last change of subscriptions that is in force here.
    pub(super) subscriptions: i64,
    /// When it is looked again for what waits.
    pub(super) waiting_again: Instant,
}

/// What the others are told.
#[derive(Debug)]
pub(super) enum Tell {
    /// Something is due in lanes of theirs.
    Due(Vec<Arc<str>>),
    /// Look at once: nodes, endpoints or subscriptions are not what they were.
    Changed,
}

/// What the others have told.
enum Heard {
    Due(String),
    Changed,
}

/// How many commits can have something to tell before it is told.
pub(super) const TOLD_MAX: usize = 64;

/// Between two looks at what waits: so late is what nobody was told of.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looking for what waits takes so small a share of the time, if need be more seldom: under
/// a long transaction it passes over all that no longer waits.
const LOOK_SHARE: u32 = 10;
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(10);

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
const CHANGED: &str = "plugpost_changed";

/// So long a transaction can take from what it has written to its commit.
const COMMIT_MAX: Duration = Duration::from_secs(30);

impl Watch {
    pub(super) async fn run(mut self, mut tell: mpsc::Receiver<Tell>) {
        let mut looked = Instant::now();
        loop {
            match self.watch(&mut tell, &mut looked).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "cannot hear from the other nodes"),
            }
            sleep(OPEN_AGAIN).await;
        }
    }

    /// With one session, until it ends; Ok when the store is closed.
    async fn watch(
        &mut self,
        tell: &mut mpsc::Receiver<Tell>,
        looked: &mut Instant,
    ) -> Result<(), QueueError> {
        let (heard, mut hear) = mpsc::channel(TOLD_MAX);
        let told = Box::new(move |message| {
            if let AsyncMessage::Notification(it) = message {
                // What does not fit is found by looking.
                let _ = heard.try_send(match it.channel() {
                    CHANGED => Heard::Changed,
                    _ => Heard::Due(it.payload().to_owned()),
                });
            }
        });
        let mut session = Session::open_with(&self.address, told).await?;
        // First listen, then look: nothing falls between.
        session.client.batch_execute(&format!("LISTEN {CHANNEL}; LISTEN {CHANGED}")).await?;
        // Another node has come.
        self::tell(&session, &[], true).await?;
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
                first = tell.recv() => {
                    let Some(first) = first else { return Ok(()) };
                    sleep(TELL_PAUSE).await;
                    let (mut routes, mut changed, mut next) = (Vec::new(), false, Some(first));
                    while let Some(it) = next {
                        match it {
                            Tell::Due(more) => routes.extend(more),
                            Tell::Changed => changed = true,
                        }
                        next = tell.try_recv().ok();
                    }
                    within(patience, self::tell(&session, &routes, changed)).await?;
                }
                heard = hear.recv() => match heard {
                    Some(Heard::Due(payload)) => {
                        let routes = payload.lines().map(Arc::from);
                        self.hand_over(routes.filter(|it| self.lanes.concerns(it)).collect());
                    }
                    Some(Heard::Changed) => look.reset_immediately(),
                    None => return Err(ended()),
                },
                _ = look.tick() => {
                    within(patience, self.look(&session, looked)).await?;
                }
                _ = renew.tick() => {
                    let node = *self.node.lock();
                    if renewed_last.elapsed() > self.lease {
                        renewed_since = Instant::now();
                    }
                    // A node that was given up joins again with its next write.
                    within(patience, node.renew(&session, self.lease, &self.tenure)).await?;
                    reported.mark_changed();
                    renewed_last = Instant::now();
                    if renewed_since.elapsed() >= self.lease {
                        let routes = within(patience, node::bury(&mut session)).await?;
                        within(patience, self::tell(&session, &routes, false)).await?;
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

    /// What waits, and what other nodes have done.
    async fn look(&mut self, session: &Session, last: &mut Instant) -> Result<(), QueueError> {
        let now = Instant::now();
        let leave = self.lanes.look(session).await?;
        if now >= self.waiting_again {
            self.look_for_waiting(session).await?;
        }
        let own = self.node.lock().lease;
        let within = (now - *last + COMMIT_MAX).as_secs_f64();
        let endpoints = lanes::changed(session, own, within).await?;
        let (subscriptions, number) = subscriptions::changed(session, self.subscriptions).await?;
        for id in &subscriptions.deleted {
            self.lanes.forget(&id.to_string());
        }
        let news = News { leave, endpoints, subscriptions };
        (self.handover)(Committed::news(news));
        self.subscriptions = number;
        *last = now;
        Ok(())
    }

    async fn look_for_waiting(&mut self, session: &Session) -> Result<(), QueueError> {
        let began = Instant::now();
        let waiting = waiting::waiting(session).await?;
        let pause = began.elapsed().saturating_mul(LOOK_SHARE).min(LOOK_PAUSE_MAX);
        self.waiting_again = Instant::now() + pause;
        self.lanes.lower(&waiting);
        let at = clock::steady();
        let due = waiting.into_iter().filter(|(it, _)| it.first_due <= at);
        let mut due: Vec<_> = due.map(|(it, holder)| (it.route, holder)).collect();
        // What another node has is that node's to look after.
        let own = self.node.lock().lease.0;
        let seen_to = due.iter().filter(|(_, holder)| holder.is_none_or(|it| it == own));
        let lost = subscriptions::bury_lost(session, seen_to.map(|(route, _)| route), at).await?;
        due.retain(|(route, _)| !lost.contains(route));
        lost.iter().for_each(|it| self.lanes.forget(it));
        self.hand_over(self.lanes.wait(due));
        Ok(())
    }

    fn hand_over(&self, routes: Vec<Arc<str>>) {
        if !routes.is_empty() {
            (self.handover)(Committed::stored(routes));
        }
    }
}

/// Tell every node, this one too, that something is due for these routes.
pub(super) async fn tell(
    session: &Session,
    routes: &[Arc<str>],
    changed: bool,
) -> Result<(), QueueError> {
    if changed {
        session.client.batch_execute(&format!("NOTIFY {CHANGED}")).await?;
    }
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
