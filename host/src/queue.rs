//! The durable queue's whole API. It knows nothing of HTTP, plugins or routes'
//! contents: it keeps events and deliveries, and says what is due.
//!
//! All writing is done by one thread ([`writer`]) that puts whatever has gathered
//! since its last commit into the next one: concurrent requests share an fsync.
//! Reading for people is in [`log`], what was sent in [`recorded`].
//!
//! Two stores can do it: a file in [`sqlite`], for one process, and a database in
//! [`postgres`], for many. Each has all of its SQL; what they share is [`store`].

pub(crate) mod log;
pub(crate) mod nodes;
mod postgres;
pub(crate) mod recorded;
mod retention;
mod sqlite;
mod store;
pub(crate) mod subscriptions;
mod tenure;
mod transfer;
mod values;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::attempt::{Attempt, Fault};
use crate::clock::{self, IdClock, UnixMs};
use crate::delivery::{Delivery, DeliveryId, Lease, Next, Status};
use crate::endpoint::{HealthRecord, OrderKey};
use crate::event::{Event, EventId};
use crate::lane::Slot;

use nodes::Report;
pub(crate) use postgres::Address;
pub(crate) use retention::Retention;
use subscriptions::{AllKept, KeptChange};
pub(crate) use tenure::Tenure;
pub(crate) use transfer::{Moved, Transferred, transfer};
pub(crate) use writer::{Committed, Handover};

/// A handle on the queue. Cheap to clone; the writer ends when the last is gone.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    writer: Arc<writer::Writer>,
    ids: Arc<IdClock>,
    reader: log::Log,
    fenced: Arc<AtomicU64>,
    /// What this node says of itself.
    report: Arc<watch::Sender<Option<Report>>>,
    tenure: Tenure,
}

/// An event that asks to be kept.
#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) event: Arc<Event>,
    /// A second event with the same key is the same event.
    pub(crate) duplicate_key: Option<DuplicateKey>,
    pub(crate) deliveries: Vec<NewDelivery>,
}

/// What two firings of one event have in common.
#[derive(Clone, Debug)]
pub(crate) struct DuplicateKey {
    /// A digest of the scope and the key itself.
    pub(crate) key: [u8; 32],
    /// A digest of the body, where the same key with another body is an error.
    pub(crate) body: Option<[u8; 32]>,
}

/// A delivery that is promised together with its event.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    pub(crate) id: DeliveryId,
    pub(crate) route: Arc<str>,
    pub(crate) endpoint: Arc<str>,
    /// What it shares with those that it must not overtake.
    pub(crate) key: Option<OrderKey>,
    /// The lane's room for it; with it the delivery is leased at birth, without
    /// it the delivery waits in the store.
    pub(crate) slot: Option<Slot>,
}

/// What one attempt, or a filter, did to a delivery.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) delivery: DeliveryId,
    pub(crate) lease: Lease,
    pub(crate) route: Arc<str>,
    pub(crate) key: Option<OrderKey>,
    pub(crate) made: Made,
    pub(crate) next: Next,
    pub(crate) now: UnixMs,
}

impl Settlement {
    pub(crate) fn of(delivery: &Delivery, made: Made, next: Next, now: UnixMs) -> Self {
        let Delivery { id, lease, ref route, key, .. } = *delivery;
        Self { delivery: id, lease, route: route.clone(), key, made, next, now }
    }
}

/// What there is to write down of a delivery's turn.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moving 300 bytes is cheaper than allocating them")]
pub(crate) enum Made {
    Attempt(Attempt),
    /// Nothing was attempted: a filter declined the event or, with the reason,
    /// there was nobody to attempt it with.
    Nothing(Option<Fault>),
}

/// A settlement and what goes with it, in one transaction.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) settlement: Settlement,
    /// What the lane learned of its endpoint that outlives the process.
    pub(crate) health: Option<EndpointRecord>,
    /// What there is to tell, as events.
    pub(crate) raised: Vec<NewEvent>,
    /// Of a delivery that others wait behind: its room goes to the next.
    pub(crate) slot: Option<Slot>,
    /// For the next node that has the lane: what its rate limit has had to bear lately.
    pub(crate) spent: Option<Spent>,
}

/// What is kept of a route's endpoint.
#[derive(Clone, Debug)]
pub(crate) struct EndpointRecord {
    pub(crate) route: Arc<str>,
    pub(crate) url: Arc<str>,
    pub(crate) health: HealthRecord,
}

/// Moments, and how many attempts were made then; few, whatever the limit is.
pub(crate) type Spent = Vec<(UnixMs, u64)>;

/// Has this process a lane?
#[derive(Debug)]
pub(crate) enum Hold {
    /// Another has it, or may have it.
    Not,
    /// For as long as that lease lasts.
    Held(Lease),
    /// From now on.
    Taken(Taken),
}

/// What another process has left of a lane.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) lease: Lease,
    pub(crate) spent: Spent,
    /// Attempts that may have been made beyond these.
    pub(crate) unsure: u64,
    pub(crate) known: Vec<EndpointRecord>,
}

/// What a lane gets from the store.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) hold: Hold,
    pub(crate) deliveries: Vec<Delivery>,
    /// When the route's next waiting delivery is due; none when none waits.
    pub(crate) next_due: Option<UnixMs>,
}

/// A route's share of what waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) route: Arc<str>,
    pub(crate) first_due: UnixMs,
}

/// What became of the wish to end a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It waited, and is dead now.
    Done,
    /// An attempt is under way, or about to be.
    InHand,
    /// It had ended before.
    Ended(Status),
    /// There is none of that id.
    Unknown,
}

/// Where the store is.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    /// A file, for one process.
    Sqlite(PathBuf),
    /// A database, for many.
    Postgres(Box<Address>),
}

/// How a store is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Above this size no more is taken in; what is accepted goes on.
    pub(crate) bytes_max: u64,
    /// How long a node of several may be silent before the others take over what it has
    /// in hand.
    pub(crate) lease: Duration,
}

/// Why the queue could not do its part.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The disk or the configured size is used up; what is accepted stays.
    #[error("store full: {0}")]
    Full(Arc<str>),
    /// Too much is waiting to be written; try again soon.
    #[error("store behind: more than {COMMANDS_MAX} writes wait")]
    Behind,
    /// Another node has given the number of a new subscription meanwhile; try again soon.
    #[error("another node changed this tenant's subscriptions at the same moment: try again")]
    Crossed,
    /// The same idempotency key came with another body.
    #[error("this idempotency key was used for a different request")]
    KeyReused,
    /// There is no delivery, or no event, of that id.
    #[error("nothing of that id")]
    NotFound,
    /// The event's data is gone, by the retention of payloads.
    #[error("the event's data was pruned (store.retention_payloads): it cannot be sent again")]
    Pruned,
    /// Anything else.
    #[error("store: {0}")]
    Broken(Arc<str>),
}

/// How many writes may wait for the next commits. An ingest of 8 KiB each would
/// be half a gigabyte; the limit on bytes in hand is reached long before.
pub(crate) const COMMANDS_MAX: usize = 65_536;

impl Queue {
    /// Open or create the store. `handover` gets what each commit made ready.
    pub(crate) async fn open(
        location: &Location,
        terms: Terms,
        handover: Handover,
    ) -> Result<Self, QueueError> {
        let (report, reported) = watch::channel(None);
        let (store, ids, reader, fenced, tenure): (Box<dyn store::Store>, _, _, _, _) =
            match location {
                Location::Sqlite(path) => {
                    let store = sqlite::Store::open(path, terms.bytes_max)?;
                    let reader = log::Log::Sqlite(sqlite::log::Log::open(path, store.tails())?);
                    let ids = store.ids();
                    (Box::new(store), ids, reader, Arc::default(), Tenure::default())
                }
                Location::Postgres(address) => {
                    let store =
                        postgres::Store::open(address, terms, handover.clone(), reported).await?;
                    let reader = log::Log::of(location).await?;
                    let (ids, fenced, tenure) = (store.ids(), store.fenced(), store.tenure());
                    (Box::new(store), ids, reader, fenced, tenure)
                }
            };
        let writer = Arc::new(writer::Writer::start(store, handover)?);
        Ok(Self { writer, ids, reader, fenced, report: Arc::new(report), tenure })
    }

    /// Ids go with the steady clock: the next process learns from the newest where it was.
    pub(crate) fn next_event_id(&self, now: UnixMs) -> EventId {
        EventId(self.ids.next(now.max(clock::steady())))
    }

    pub(crate) fn next_delivery_id(&self, now: UnixMs) -> DeliveryId {
        DeliveryId(self.ids.next(now.max(clock::steady())))
    }

    /// Keep the events and their deliveries, all or none; return when they are
    /// on disk. Each id is the event's own or, for a duplicate, the first one's.
    pub(crate) async fn accept(&self, events: Vec<NewEvent>) -> Result<Vec<EventId>, QueueError> {
        // The mistake that the crash tests must be able to see.
        #[cfg(feature = "control")]
        {
            let ids = events.iter().map(|it| it.event.id).collect();
            let (reply, _) = oneshot::channel();
            self.writer.push(writer::Command::Accept { events, reply })?;
            Ok(ids)
        }
        #[cfg(not(feature = "control"))]
        self.ask(|reply| writer::Command::Accept { events, reply }).await
    }

    /// Record an attempt and the state it leads to, in one transaction. Returns
    /// at once: losing it in a crash costs one more attempt, never a delivery.
    pub(crate) fn settle(&self, settled: Settled) {
        self.writer.note(writer::Fact::Settled(settled));
    }

    /// Lease up to `count` due deliveries of a route, oldest due first; fewer when
    /// their bodies are large.
    pub(crate) async fn claim(
        &self,
        route: Arc<str>,
        count: usize,
        now: UnixMs,
    ) -> Result<Claimed, QueueError> {
        self.ask(|reply| writer::Command::Claim { route, count, now, reply }).await
    }

    /// Give a leased delivery back, unattempted.
    pub(crate) fn release(&self, delivery: &Delivery) {
        self.writer.note(writer::Fact::Released(delivery.id, delivery.lease));
    }

    /// Let go of a lane of which nothing is in hand: another node may take it.
    pub(crate) async fn give_up(&self, route: Arc<str>, lease: Lease) -> Result<(), QueueError> {
        self.ask(|reply| writer::Command::GiveUp { route, lease, reply }).await
    }

    /// A new delivery of the same event, due now; `as_new` copies the event
    /// under a new id first.
    pub(crate) async fn resend(
        &self,
        delivery: DeliveryId,
        as_new: bool,
        now: UnixMs,
    ) -> Result<Resent, QueueError> {
        self.ask(|reply| writer::Command::Resend { delivery, as_new, now, reply }).await
    }

    /// End a delivery that waits: it becomes dead.
    pub(crate) async fn cancel(
        &self,
        delivery: DeliveryId,
        now: UnixMs,
    ) -> Result<Cancelled, QueueError> {
        self.ask(|reply| writer::Command::Cancel { delivery, now, reply }).await
    }

    /// Delete a batch of what is kept no longer and is not waiting. Returns how many
    /// events it touched; 0 when there is nothing left to do.
    pub(crate) async fn prune(
        &self,
        retention: Retention,
        now: UnixMs,
    ) -> Result<usize, QueueError> {
        self.ask(|reply| writer::Command::Prune { retention, now, reply }).await
    }

    /// Make due now what waits for a later attempt because a plugin broke: it has
    /// been repaired.
    pub(crate) async fn hasten(&self, route: Arc<str>, now: UnixMs) -> Result<usize, QueueError> {
        self.ask(|reply| writer::Command::Hasten { route, now, reply }).await
    }

    /// Keep what a person decided about an endpoint, and tell it.
    pub(crate) async fn keep(
        &self,
        endpoint: EndpointRecord,
        raised: Vec<NewEvent>,
    ) -> Result<(), QueueError> {
        self.ask(|reply| writer::Command::Keep { endpoint, raised, reply }).await
    }

    /// What was kept of the endpoints.
    pub(crate) async fn endpoints(&self) -> Result<Vec<EndpointRecord>, QueueError> {
        self.ask(|reply| writer::Command::Endpoints { reply }).await
    }

    /// The routes that have deliveries waiting, and since when.
    pub(crate) async fn waiting(&self) -> Result<Vec<Waiting>, QueueError> {
        self.ask(|reply| writer::Command::Waiting { reply }).await
    }

    /// Keep changes of subscriptions, all or none; return when they are on disk.
    pub(crate) async fn change_subscriptions(
        &self,
        changes: Vec<KeptChange>,
        now: UnixMs,
    ) -> Result<(), QueueError> {
        self.ask(|reply| writer::Command::ChangeSubscriptions { changes, now, reply }).await
    }

    /// What a plugin noted of a tenant.
    pub(crate) async fn notes(
        &self,
        tenant: Arc<str>,
        plugin: Arc<str>,
    ) -> Result<BTreeMap<String, String>, QueueError> {
        self.ask(|reply| writer::Command::Notes { tenant, plugin, reply }).await
    }

    /// All that is kept of subscriptions.
    pub(crate) async fn subscriptions(&self, now: UnixMs) -> Result<AllKept, QueueError> {
        self.ask(|reply| writer::Command::Subscriptions { now, reply }).await
    }

    /// Commit what is left and stop the writer.
    pub(crate) async fn close(&self) {
        let _ = self.ask(|reply| writer::Command::Flush { reply }).await;
    }

    /// The log, for reading.
    pub(crate) fn log(&self) -> &log::Log {
        &self.reader
    }

    /// How many writes wait for the next commit.
    pub(crate) fn depth(&self) -> usize {
        self.writer.depth()
    }

    /// For how long this process may act on what it has in hand.
    pub(crate) fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// How much was not recorded because another node had taken it over.
    pub(crate) fn fenced(&self) -> u64 {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Tell the other nodes what this one serves from now on.
    pub(crate) fn report(&self, report: Report) {
        self.report.send_replace(Some(report));
    }

    /// The processes on this store.
    pub(crate) async fn nodes(&self) -> Result<Vec<nodes::Node>, QueueError> {
        match &self.reader {
            log::Log::Postgres(it) => it.nodes().await,
            log::Log::Sqlite(_) => Ok(vec![nodes::Node {
                number: 0,
                name: nodes::name(),
                version: Some(nodes::VERSION.into()),
                report: self.report.borrow().clone(),
                seen: clock::now(),
                alive: true,
            }]),
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> writer::Command,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.writer.push(command(reply))?;
        answer.await.unwrap_or_else(|_| Err(QueueError::Broken("the writer has stopped".into())))
    }
}

impl Location {
    /// The file, where it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(address) => write!(f, "{address}"),
        }
    }
}

/// What a resend made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resent {
    pub(crate) delivery: DeliveryId,
    pub(crate) event: EventId,
}
