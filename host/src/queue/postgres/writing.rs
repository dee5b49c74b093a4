//! The store in the hands of the writer's thread: its session, opened again when it ends,
//! and what is known to be in hand.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use std::vec;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{self, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::address::Address;
use super::batch::{Batch, Failure};
use super::connection::{Session, get};
use super::labels::Labels;
use super::lanes::Lanes;
use super::node::Node;
use super::waiting::Floor;
use super::watch::{self, Tell, Watch};
use super::{schema, subscriptions};
use crate::clock::{self, IdClock};
use crate::queue::nodes::Report;
use crate::queue::values::signed;
use crate::queue::writer::{Command, Committed, Fact, Handover, Owed};
use crate::queue::{QueueError, Tenure, Terms, store};

/// The store of one node.
#[derive(Debug)]
pub(in crate::queue) struct Store {
    runtime: Handle,
    address: Address,
    terms: Terms,
    pub(super) ids: Arc<IdClock>,
    /// Who this process is; shared with [`watch`], which renews it.
    shared: Arc<Mutex<Node>>,
    pub(super) node: Node,
    pub(super) lanes: Arc<Lanes>,
    tenure: Tenure,
    session: Option<Session>,
    pub(super) labels: Labels,
    /// What is in hand under the node's lease. What has the lease in the database and is
    /// not here was leased by a commit whose answer never came.
    pub(super) held: HashSet<i64>,
    /// The answer to a commit did not come: it may have been made.
    pub(super) unsure: bool,
    /// The node has left: nothing is written any more.
    left: bool,
    /// What was not recorded because its lease had ended.
    pub(super) fenced: Arc<AtomicU64>,
    /// How large the store was, and when.
    size: Option<(Instant, u64)>,
    /// Tells the other nodes what is due.
    tell: mpsc::Sender<Tell>,
    handover: HandedOver,
    watching: JoinHandle<()>,
}

/// [`Handover`], for `Debug`.
struct HandedOver(Handover);

impl std::fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandedOver")
    }
}

/// A transaction that is not through by then is given up, with its session.
const WRITE_MAX: Duration = Duration::from_secs(20);

/// How long a measured size holds.
const SIZE_AGE_MAX: Duration = Duration::from_secs(2);

/// The writer's statements join a few values with indexed rows. A plan that was made when
/// the tables were empty must not read them whole when they are not.
const PLANS: &str = "
    SET plan_cache_mode TO force_generic_plan;
    SET enable_seqscan TO off;
    SET enable_hashjoin TO off;
    SET enable_mergejoin TO off";

impl Store {
    pub(in crate::queue) async fn open(
        address: &Address,
        terms: Terms,
        handover: Handover,
        reported: sync::watch::Receiver<Option<Report>>,
    ) -> Result<Self, QueueError> {
        let mut session = Session::open(address).await?;
        let now = clock::now();
        schema::migrate(&mut session).await?;
        schema::make_days(&mut session, now).await?;
        let ids = Arc::new(IdClock::after(0));
        let tenure = Tenure::of_a_node();
        let node = Node::join(&mut session, terms.lease, &tenure, &ids, now).await?;
        let lanes = Arc::<Lanes>::default();
        lanes.begin(node);
        lanes.look(&session).await?;
        session.client.batch_execute(PLANS).await?;
        let shared = Arc::new(Mutex::new(node));
        let (tell, told) = mpsc::channel(watch::TOLD_MAX);
        let watch = Watch {
            address: address.clone(),
            lease: terms.lease,
            node: shared.clone(),
            lanes: lanes.clone(),
            tenure: tenure.clone(),
            handover: handover.clone(),
            reported,
            subscriptions: subscriptions::last_change(&session).await?,
            waiting_again: Instant::now().into(),
        };
        let watching = tokio::spawn(watch.run(told));
        tracing::info!(number = node.number, "this node has joined {address}");
        Ok(Self {
            runtime: Handle::current(),
            address: address.clone(),
            terms,
            ids,
            shared,
            node,
            lanes,
            tenure,
            session: Some(session),
            labels: Labels::default(),
            held: HashSet::new(),
            unsure: false,
            left: false,
            fenced: Arc::default(),
            size: None,
            tell,
            handover: HandedOver(handover),
            watching,
        })
    }

    pub(in crate::queue) fn ids(&self) -> Arc<IdClock> {
        self.ids.clone()
    }

    pub(in crate::queue) fn fenced(&self) -> Arc<AtomicU64> {
        self.fenced.clone()
    }

    pub(in crate::queue) fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// The session, to be given back when all went well.
    async fn session(&mut self) -> Result<Session, QueueError> {
        if let Some(session) = self.session.take().filter(|it| !it.is_closed()) {
            return Ok(session);
        }
        let mut session = Session::open(&self.address).await?;
        session.client.batch_execute(PLANS).await?;
        if self.node.renew(&session, self.terms.lease, &self.tenure).await? {
            self.free_unknown(&session).await?;
            self.lanes.compare(&session, self.node).await?;
        } else {
            self.join_again(&mut session).await?;
        }
        tracing::info!("connected to the store again");
        Ok(session)
    }

    /// A commit whose answer never came may have leased what nobody has in hand.
    async fn free_unknown(&self, session: &Session) -> Result<(), QueueError> {
        let held: Vec<i64> = self.held.iter().copied().collect();
        let sql = "WITH freed AS (UPDATE deliveries SET lease = NULL
                                  WHERE lease = $1 AND id <> ALL($2::bigint[]) RETURNING route)
                   SELECT text FROM labels WHERE id IN (SELECT route FROM freed)";
        let rows = session.client.query(sql, &[&self.node.lease.0, &held]).await?;
        let routes: Result<Vec<_>, QueueError> =
            rows.iter().map(|it| Ok(Arc::from(get::<&str>(it, 0)?))).collect();
        let routes = routes?;
        if !routes.is_empty() {
            self.lanes.lower_all(Floor::default());
            (self.handover.0)(Committed::stored(routes));
        }
        Ok(())
    }

    /// The others have given this node up. What it has in hand is theirs now; from here on
    /// it is another node.
    async fn join_again(&mut self, session: &mut Session) -> Result<(), QueueError> {
        let before = self.node;
        let lease = self.terms.lease;
        self.node = Node::join(session, lease, &self.tenure, &self.ids, clock::now()).await?;
        self.lanes.begin(self.node);
        *self.shared.lock() = self.node;
        let in_hand = self.held.len();
        self.held.clear();
        tracing::warn!(
            before = before.number,
            number = self.node.number,
            in_hand,
            "the other nodes have given this one up, and what it has in hand: it joins again"
        );
        Ok(())
    }

    async fn write_all(
        &mut self,
        facts: &[Fact],
        asks: &mut vec::IntoIter<Command>,
        owed: &mut Owed,
    ) -> Result<(), QueueError> {
        if self.left {
            // Whatever it was in hand by has ended with the node.
            asks.for_each(|it| it.refuse(&QueueError::Broken("the store is closed".into())));
            return Ok(());
        }
        let mut session = self.session().await?;
        let full = self.is_full(&session).await?;
        let mut batch = Batch::gather(asks);
        if let Some(error) = full {
            batch.refuse_accepts(&error);
        }
        loop {
            match self.commit(&mut session, facts, &mut batch, owed).await {
                Ok(()) => break,
                Err(Failure::Fenced) => self.join_again(&mut session).await?,
                Err(Failure::Reused) => {}
                // Without what was asked it comes again.
                Err(Failure::Unfit(_)) if batch.is_empty() => {
                    self.write_each(&mut session, facts, owed).await?;
                    break;
                }
                Err(Failure::Broken(error) | Failure::Unfit(error)) => {
                    batch.refuse(&error);
                    return Err(error);
                }
            }
        }
        for ask in batch.others {
            self.answer(&mut session, ask, owed).await;
        }
        self.session = Some(session);
        self.notify(owed);
        Ok(())
    }

    /// One of these facts cannot be written, and would hold up all others for ever.
    async fn write_each(
        &mut self,
        session: &mut Session,
        facts: &[Fact],
        owed: &mut Owed,
    ) -> Result<(), QueueError> {
        for fact in facts {
            let one = std::slice::from_ref(fact);
            match self.commit(session, one, &mut Batch::of_facts(), owed).await {
                Ok(()) | Err(Failure::Reused) => {}
                Err(Failure::Fenced) => return self.join_again(session).await,
                Err(Failure::Broken(error)) => return Err(error),
                Err(Failure::Unfit(error)) => self.bury(session, fact, &error).await?,
            }
        }
        Ok(())
    }

    /// What cannot be recorded is a dead letter: it is listed, and can be resent.
    async fn bury(
        &mut self,
        session: &Session,
        fact: &Fact,
        error: &QueueError,
    ) -> Result<(), QueueError> {
        let (id, lease) = match fact {
            Fact::Released(id, lease) => (*id, *lease),
            Fact::Settled(it) => (it.settlement.delivery, it.settlement.lease),
        };
        tracing::error!(delivery = %id, %error, "an attempt cannot be recorded");
        let sql = "UPDATE deliveries SET lease = NULL, status = 3, error = $3
                   WHERE id = $1 AND lease = $2";
        let told = format!("store.unfit: what came of an attempt cannot be recorded: {error}");
        session.client.execute(sql, &[&signed(id.0), &lease.0, &told]).await?;
        self.held.remove(&signed(id.0));
        Ok(())
    }

    /// The others are told what waits in lanes of theirs. What is not told is looked for.
    fn notify(&self, owed: &mut Owed) {
        let theirs = owed.stored.iter().filter(|it| !self.lanes.holds(it));
        let theirs: Vec<_> = theirs.cloned().collect();
        if !theirs.is_empty() {
            let _ = self.tell.try_send(Tell::Due(theirs));
        }
        owed.stored.retain(|it| self.lanes.concerns(it));
    }

    /// Of what every node follows something was changed.
    pub(super) fn tell_change(&self) {
        let _ = self.tell.try_send(Tell::Changed);
    }

    async fn is_full(&mut self, session: &Session) -> Result<Option<QueueError>, QueueError> {
        let size = match self.size.filter(|(at, _)| at.elapsed() < SIZE_AGE_MAX) {
            Some((_, size)) => size,
            None => {
                let size = size(session).await?;
                self.size = Some((Instant::now(), size));
                size
            }
        };
        Ok((size > self.terms.bytes_max)
            .then(|| QueueError::Full("store.bytes_max is reached".into())))
    }
}

/// Bytes of all tables and indexes.
pub(super) async fn size(session: &Session) -> Result<u64, QueueError> {
    let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
               WHERE c.relkind = 'r' AND c.relnamespace = 'plugpost'::regnamespace";
    let row = session.client.query_one(sql, &[]).await?;
    Ok(get::<i64>(&row, 0)?.unsigned_abs())
}

impl store::Store for Store {
    fn write(
        &mut self,
        facts: &[Fact],
        asks: &mut vec::IntoIter<Command>,
        owed: &mut Owed,
    ) -> Result<(), QueueError> {
        let runtime = self.runtime.clone();
        let written = runtime.block_on(async {
            let written = timeout(WRITE_MAX, self.write_all(facts, asks, owed)).await;
            written.unwrap_or_else(|_| {
                Err(QueueError::Broken("PostgreSQL did not answer in time".into()))
            })
        });
        // Whatever it was that failed, a new session is free of it.
        if written.is_err() {
            self.session = None;
        }
        written
    }

    fn close(&mut self) {
        self.watching.abort();
    }
}

impl Store {
    /// Nothing more is written: what is in hand is left to the others.
    pub(super) async fn leave(&mut self, session: &mut Session) {
        self.watching.abort();
        self.left = true;
        match self.node.leave(session).await {
            Ok(routes) => {
                self.held.clear();
                let told = watch::tell(session, &routes, true).await;
                if let Err(error) = told {
                    tracing::debug!(%error, "the other nodes were not told");
                }
            }
            Err(error) => tracing::warn!(%error, "could not leave: the lease has to run out"),
        }
    }
}
