//! The one thread that writes. It takes everything that has gathered, puts it
//! into one transaction, commits, and only then answers: one fsync serves a
//! batch, and nothing is acknowledged before it is on disk.

mod owed;
#[cfg(test)]
mod simulated;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::store::Store;
use super::subscriptions::{AllKept, ChangedSubscriptions, KeptChange};
use super::{
    COMMANDS_MAX, Cancelled, Claimed, EndpointRecord, NewEvent, QueueError, Resent, Retention,
    Settled, Waiting,
};
use crate::clock::UnixMs;
use crate::delivery::{Delivery, DeliveryId, Lease};
use crate::event::EventId;
use crate::lane::Slot;

pub(super) use owed::Owed;

/// Something to be written.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moving 300 bytes is cheaper than allocating them")]
pub(super) enum Command {
    /// A fact: it happened, nobody waits for it, and it must not be lost.
    Note(Fact),
    Accept {
        events: Vec<NewEvent>,
        reply: Reply<Vec<EventId>>,
    },
    Claim {
        route: Arc<str>,
        count: usize,
        now: UnixMs,
        reply: Reply<Claimed>,
    },
    GiveUp {
        route: Arc<str>,
        lease: Lease,
        reply: Reply<()>,
    },
    Resend {
        delivery: DeliveryId,
        as_new: bool,
        now: UnixMs,
        reply: Reply<Resent>,
    },
    Cancel {
        delivery: DeliveryId,
        now: UnixMs,
        reply: Reply<Cancelled>,
    },
    Prune {
        retention: Retention,
        now: UnixMs,
        reply: Reply<usize>,
    },
    Waiting {
        reply: Reply<Vec<Waiting>>,
    },
    Hasten {
        route: Arc<str>,
        now: UnixMs,
        reply: Reply<usize>,
    },
    Keep {
        endpoint: EndpointRecord,
        raised: Vec<NewEvent>,
        reply: Reply<()>,
    },
    Endpoints {
        reply: Reply<Vec<EndpointRecord>>,
    },
    ChangeSubscriptions {
        changes: Vec<KeptChange>,
        now: UnixMs,
        reply: Reply<()>,
    },
    Notes {
        tenant: Arc<str>,
        plugin: Arc<str>,
        reply: Reply<BTreeMap<String, String>>,
    },
    Subscriptions {
        now: UnixMs,
        reply: Reply<AllKept>,
    },
    Flush {
        reply: Reply<()>,
    },
}

/// What became of a delivery in hand.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are of the large kind")]
pub(super) enum Fact {
    Settled(Settled),
    /// Given back, unattempted.
    Released(DeliveryId, Lease),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// What other nodes have done.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Lanes that another node is to have.
    pub(crate) leave: Vec<Arc<str>>,
    /// What is known of endpoints, and the number of the change.
    pub(crate) endpoints: Vec<(i64, EndpointRecord)>,
    pub(crate) subscriptions: ChangedSubscriptions,
}

/// What a commit made ready to be delivered.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Leased at birth: to be attempted now.
    pub(crate) in_hand: Vec<(Delivery, Slot)>,
    /// Routes for which something due now waits in the store.
    pub(crate) stored: Vec<Arc<str>>,
    pub(crate) news: News,
    accepted: Vec<(Reply<Vec<EventId>>, Vec<EventId>)>,
}

impl Committed {
    /// Something due waits for these routes; nothing was accepted.
    pub(super) fn stored(stored: Vec<Arc<str>>) -> Self {
        Self { in_hand: Vec::new(), stored, news: News::default(), accepted: Vec::new() }
    }

    pub(super) fn news(news: News) -> Self {
        Self { news, ..Self::stored(Vec::new()) }
    }

    fn is_empty(&self) -> bool {
        self.in_hand.is_empty() && self.stored.is_empty() && self.accepted.is_empty()
    }

    /// Tell the senders. Done by the receiver of the handover, whose thread can
    /// wake their tasks cheaply.
    pub(crate) fn answer(&mut self) {
        for (reply, ids) in self.accepted.drain(..) {
            // A sender that hung up is not told; its event is kept all the same.
            let _ = reply.send(Ok(ids));
        }
    }
}

/// Takes over what a commit made ready.
pub(crate) type Handover = Arc<dyn Fn(Committed) + Send + Sync>;

#[derive(Debug)]
pub(super) struct Writer {
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Inbox {
    gathered: Mutex<Gathered>,
    arrived: Condvar,
    #[cfg(test)]
    simulated: tokio::sync::Notify,
}

impl Inbox {
    fn wake(&self) {
        self.arrived.notify_one();
        #[cfg(test)]
        self.simulated.notify_one();
    }
}

#[derive(Debug, Default)]
struct Gathered {
    commands: Vec<Command>,
    /// Somebody waits for an answer; facts alone can wait for company.
    urgent: bool,
    closed: bool,
}

/// How long facts wait for an accept to share its commit: a crash within
/// it costs a repeated attempt, and at 200 events/s it halves the fsyncs.
const COMPANY_WAIT: Duration = Duration::from_millis(4);

/// What so many ask for at once is under load: there the next batch gathers for a
/// moment, because on a quick disk commits are the dearer the fewer share one.
const ASKS_UNDER_LOAD: usize = 8;
const GATHERING: Duration = Duration::from_micros(500);

/// How many commands one transaction takes: it bounds how long the first waits
/// for the last.
const BATCH_MAX: usize = 1024;

/// Between two tries to write facts to a store that refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Writer {
    pub(super) fn start(store: Box<dyn Store>, handover: Handover) -> Result<Self, QueueError> {
        let inbox = Arc::new(Inbox::default());
        let mut run = Run {
            store,
            handover,
            inbox: inbox.clone(),
            unwritten: Vec::new(),
            spare: Vec::new(),
            under_load: false,
        };
        #[cfg(test)]
        if crate::simulation::is_on() {
            simulated::begin(run);
            return Ok(Self { inbox, thread: Mutex::new(None) });
        }
        let thread = thread::Builder::new()
            .name("queue-writer".into())
            .spawn(move || run.until_closed())
            .map_err(|error| QueueError::Broken(error.to_string().into()))?;
        Ok(Self { inbox, thread: Mutex::new(Some(thread)) })
    }

    /// Hand over a command that somebody waits for.
    pub(super) fn push(&self, command: Command) -> Result<(), QueueError> {
        let mut gathered = self.inbox.gathered.lock();
        if gathered.commands.len() >= COMMANDS_MAX {
            return Err(QueueError::Behind);
        }
        gathered.commands.push(command);
        if !mem::replace(&mut gathered.urgent, true) {
            self.inbox.wake();
        }
        Ok(())
    }

    /// Hand over a fact, which can wait a moment for company unless another delivery
    /// waits for it. Bounded by the deliveries in hand, so never refused.
    pub(super) fn note(&self, fact: Fact) {
        let urgent = matches!(&fact, Fact::Settled(Settled { slot: Some(_), .. }));
        let mut gathered = self.inbox.gathered.lock();
        gathered.commands.push(Command::Note(fact));
        let was_urgent = gathered.urgent;
        gathered.urgent |= urgent;
        if gathered.commands.len() == 1 || (urgent && !was_urgent) {
            self.inbox.wake();
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.inbox.gathered.lock().commands.len()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.inbox.gathered.lock().closed = true;
        self.inbox.wake();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// The writer thread's own state.
struct Run {
    store: Box<dyn Store>,
    handover: Handover,
    inbox: Arc<Inbox>,
    /// What the store has refused so far. Bounded by the deliveries in hand.
    unwritten: Vec<Fact>,
    /// Where the next commands gather: a list that grows anew for each batch is copied
    /// again and again.
    spare: Vec<Command>,
    /// The last batch was one of many asks.
    under_load: bool,
}

impl Run {
    fn until_closed(&mut self) {
        while let Some(commands) = self.next_batch() {
            self.write_all(commands);
        }
        self.store.close();
    }

    fn write_all(&mut self, mut commands: Vec<Command>) {
        loop {
            let rest = commands.split_off(commands.len().min(BATCH_MAX));
            self.write(mem::replace(&mut commands, rest));
            if commands.is_empty() {
                break;
            }
        }
    }

    /// Wait for commands; facts wait for somebody who waits, but not long. Empty when what
    /// was refused is to be tried again. None when the queue is closed and there is nothing
    /// to write, or no store to take it.
    fn next_batch(&mut self) -> Option<Vec<Command>> {
        if self.under_load {
            thread::sleep(GATHERING);
        }
        let mut gathered = self.inbox.gathered.lock();
        while gathered.commands.is_empty() {
            if gathered.closed {
                return None;
            }
            if self.unwritten.is_empty() {
                self.inbox.arrived.wait(&mut gathered);
            } else {
                self.inbox.arrived.wait_for(&mut gathered, RETRY_PAUSE);
                break;
            }
        }
        if !gathered.urgent && !gathered.closed && self.unwritten.is_empty() {
            self.inbox.arrived.wait_for(&mut gathered, COMPANY_WAIT);
        }
        gathered.urgent = false;
        Some(mem::replace(&mut gathered.commands, mem::take(&mut self.spare)))
    }

    /// One transaction. Facts come first, so that a claim sees them. When it
    /// fails, whoever waits is told, and the facts are written again.
    fn write(&mut self, mut commands: Vec<Command>) {
        let notes = commands.iter().filter(|it| matches!(it, Command::Note(_))).count();
        let mut facts = mem::take(&mut self.unwritten);
        facts.reserve_exact(notes);
        let mut asks = Vec::with_capacity(commands.len() - notes);
        for command in commands.drain(..) {
            match command {
                Command::Note(fact) => facts.push(fact),
                ask => asks.push(ask),
            }
        }
        if commands.capacity() <= 2 * BATCH_MAX {
            self.spare = commands;
        }
        let had_asks = !asks.is_empty();
        self.under_load = asks.len() >= ASKS_UNDER_LOAD;
        match self.attempt(facts, asks) {
            // It may have been what was asked.
            Err(facts) if had_asks && !facts.is_empty() => {
                self.unwritten = self.attempt(facts, Vec::new()).err().unwrap_or_default();
            }
            Err(facts) => self.unwritten = facts,
            Ok(()) => {}
        }
    }

    /// Gives the facts back when the store did not take them.
    fn attempt(&mut self, facts: Vec<Fact>, asks: Vec<Command>) -> Result<(), Vec<Fact>> {
        let mut asks = asks.into_iter();
        let mut owed = Owed::default();
        match self.store.write(&facts, &mut asks, &mut owed) {
            Ok(()) => {
                let committed = owed.paid(facts);
                if !committed.is_empty() {
                    (self.handover)(committed);
                }
                Ok(())
            }
            Err(error) => {
                let waiting = facts.len();
                tracing::error!(%error, waiting, "a transaction failed and was rolled back");
                owed.refuse(&error);
                asks.for_each(|ask| ask.refuse(&error));
                Err(facts)
            }
        }
    }
}

impl Command {
    pub(super) fn refuse(self, error: &QueueError) {
        fn tell<T>(reply: Reply<T>, error: &QueueError) {
            let _ = reply.send(Err(error.clone()));
        }
        match self {
            Self::Note(_) => {}
            Self::Accept { reply, .. } => tell(reply, error),
            Self::Claim { reply, .. } => tell(reply, error),
            Self::GiveUp { reply, .. } => tell(reply, error),
            Self::Resend { reply, .. } => tell(reply, error),
            Self::Cancel { reply, .. } => tell(reply, error),
            Self::Prune { reply, .. } => tell(reply, error),
            Self::Waiting { reply } => tell(reply, error),
            Self::Hasten { reply, .. } => tell(reply, error),
            Self::Keep { reply, .. } => tell(reply, error),
            Self::Endpoints { reply } => tell(reply, error),
            Self::ChangeSubscriptions { reply, .. } => tell(reply, error),
            Self::Notes { reply, .. } => tell(reply, error),
            Self::Subscriptions { reply, .. } => tell(reply, error),
            Self::Flush { reply } => tell(reply, error),
        }
    }
}
