//! One transaction for all that has gathered: a few statements of many rows, in two steps
//! whose statements do not wait for each other's answers. Where nothing in the second hangs
//! on what the first says, both are sent at once, COMMIT included.
//!
//! It begins with the row of the node. If that is gone the statement fails, and with it the
//! whole transaction: a node that was given up writes nothing.
//!
//! Order by key holds over nodes: whoever adds a delivery with a key, or ends one, first
//! takes the lock of that route and key, so it sees what others have committed for it.

mod follow;
mod new;
mod settle;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::vec;

use futures_util::future::join_all;
use tokio::join;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::connection::{Session, get};
use super::rows::delivery_of;
use super::waiting::{self, Claim};
use super::writing::Store;
use crate::delivery::{Delivery, DeliveryId, Lease};
use crate::endpoint::OrderKey;
use crate::event::EventId;
use crate::queue::values::signed;
use crate::queue::writer::{Command, Fact, Owed, Reply};
use crate::queue::{Claimed, EndpointRecord, Hold, NewDelivery, NewEvent, QueueError, Settled};
use follow::{Ended, Kept, Spending};
use new::{New, Seen};
use settle::Settlements;

/// What one transaction is about, beside the facts.
pub(super) struct Batch {
    accepts: Vec<Accept>,
    claims: Vec<Claim>,
    keeps: Vec<Keep>,
    /// What is done one by one, afterwards.
    pub(super) others: Vec<Command>,
}

struct Accept {
    events: Vec<NewEvent>,
    reply: Reply<Vec<EventId>>,
}

struct Keep {
    endpoint: EndpointRecord,
    raised: Vec<NewEvent>,
    reply: Reply<()>,
}

/// Why a batch was not written.
pub(super) enum Failure {
    /// The node's lease has ended.
    Fenced,
    /// Accepts were refused for their keys, and are gone from the batch: the rest goes again.
    Reused,
    /// There is something in it that the database takes in no way.
    Unfit(QueueError),
    Broken(QueueError),
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::Broken(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::DIVISION_BY_ZERO) => Self::Fenced,
            // Data, constraints, limits: it would fail again.
            Some(code) if ["22", "23", "54"].contains(&&code.code()[..2]) => {
                Self::Unfit(error.into())
            }
            _ => Self::Broken(error.into()),
        }
    }
}

/// Fails by a division when the row is gone: what was sent behind it fails too.
const FENCE: &str = "
    SELECT 1 / count(*) FROM
        (SELECT 1 FROM nodes WHERE number = $1 AND lease = $2 FOR KEY SHARE) node";

/// In the order of the numbers, so that two nodes do not wait for each other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(it) FROM unnest($1::bigint[]) it";

impl Batch {
    pub(super) fn of_facts() -> Self {
        Self { accepts: Vec::new(), claims: Vec::new(), keeps: Vec::new(), others: Vec::new() }
    }

    pub(super) fn gather(asks: &mut vec::IntoIter<Command>) -> Self {
        let mut batch = Self::of_facts();
        for ask in asks {
            match ask {
                Command::Accept { events, reply } => batch.accepts.push(Accept { events, reply }),
                Command::Claim { route, count, now, reply } => {
                    batch.claims.push(Claim { route, count, now, reply });
                }
                Command::Keep { endpoint, raised, reply } => {
                    batch.keeps.push(Keep { endpoint, raised, reply });
                }
                other => batch.others.push(other),
            }
        }
        batch
    }

    pub(super) fn refuse_accepts(&mut self, error: &QueueError) {
        for Accept { reply, .. } in self.accepts.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    pub(super) fn refuse(mut self, error: &QueueError) {
        self.refuse_accepts(error);
        for Claim { reply, .. } in self.claims {
            let _ = reply.send(Err(error.clone()));
        }
        for Keep { reply, .. } in self.keeps {
            let _ = reply.send(Err(error.clone()));
        }
        self.others.into_iter().for_each(|it| it.refuse(error));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accepts.is_empty() && self.claims.is_empty() && self.keeps.is_empty()
    }

    fn new_events(&self) -> impl Iterator<Item = &NewEvent> {
        let accepted = self.accepts.iter().flat_map(|it| &it.events);
        accepted.chain(self.keeps.iter().flat_map(|it| &it.raised))
    }

    /// Answer the accepts whose keys came with another body before. True when there are any.
    fn refuse_reused(&mut self, seen: &HashMap<[u8; 32], Seen>) -> bool {
        let is_reused = |event: &NewEvent| {
            event.duplicate_key.as_ref().is_some_and(|it| {
                it.body.is_some() && seen.get(&it.key).is_some_and(|seen| seen.body != it.body)
            })
        };
        let accepts = std::mem::take(&mut self.accepts);
        let before = accepts.len();
        for accept in accepts {
            if accept.events.iter().any(is_reused) {
                let _ = accept.reply.send(Err(QueueError::KeyReused));
            } else {
                self.accepts.push(accept);
            }
        }
        self.accepts.len() < before
    }
}

impl Store {
    /// Write the batch, and owe what it leads to.
    pub(super) async fn commit(
        &mut self,
        session: &mut Session,
        facts: &[Fact],
        batch: &mut Batch,
        owed: &mut Owed,
    ) -> Result<(), Failure> {
        if facts.is_empty() && batch.is_empty() {
            return Ok(());
        }
        let settlements = Settlements::of(facts);
        self.learn(session, &settlements, batch).await?;
        let claimed = batch.claims.iter().map(|it| &it.route);
        self.lanes.take(session, claimed, &self.labels, self.node).await?;
        batch.claims = self.answer_for_others(std::mem::take(&mut batch.claims), owed);
        if facts.is_empty() && batch.is_empty() {
            return Ok(());
        }
        let statements = Statements::prepare(session).await?;
        let written = self.transaction(session, &statements, &settlements, batch, owed).await;
        match &written {
            Ok(()) => self.unsure = false,
            Err(Failure::Broken(_)) => self.unsure = true,
            // The session goes on.
            Err(Failure::Fenced | Failure::Reused | Failure::Unfit(_)) => {
                session.client.batch_execute("ROLLBACK").await?;
            }
        }
        written
    }

    /// What another node has is not claimed.
    fn answer_for_others(&self, claims: Vec<Claim>, owed: &mut Owed) -> Vec<Claim> {
        let (ours, theirs) = claims.into_iter().partition(|it: &Claim| self.lanes.holds(&it.route));
        for Claim { reply, .. } in theirs {
            let nothing = Claimed { hold: Hold::Not, deliveries: Vec::new(), next_due: None };
            let _ = owed.owe(reply, Ok(nothing));
        }
        ours
    }

    async fn learn(
        &mut self,
        session: &mut Session,
        settlements: &Settlements<'_>,
        batch: &Batch,
    ) -> Result<(), QueueError> {
        let events = batch.new_events().chain(settlements.all.iter().flat_map(|it| &it.raised));
        let of_event = |it: &'_ NewEvent| {
            let of_deliveries =
                it.deliveries.iter().flat_map(|it| [it.route.clone(), it.endpoint.clone()]);
            of_deliveries.chain([it.event.source.clone()]).collect::<Vec<_>>()
        };
        let mut texts: Vec<Arc<str>> = events.flat_map(of_event).collect();
        let kept = settlements.all.iter().filter_map(|it| it.health.as_ref());
        for endpoint in kept.chain(batch.keeps.iter().map(|it| &it.endpoint)) {
            texts.extend([endpoint.route.clone(), endpoint.url.clone()]);
        }
        texts.extend(settlements.all.iter().map(|it| it.settlement.route.clone()));
        texts.extend(batch.claims.iter().map(|it| it.route.clone()));
        self.labels.learn(session, texts.iter()).await
    }

    async fn transaction(
        &mut self,
        session: &Session,
        sql: &Statements,
        settlements: &Settlements<'_>,
        batch: &mut Batch,
        owed: &mut Owed,
    ) -> Result<(), Failure> {
        let client = &session.client;
        let Lease(lease) = self.node.lease;

        // First what has happened, and who may do more.
        let locks = locks(settlements, batch);
        let keys = new::Keys::of(batch);
        let node: [&(dyn ToSql + Sync); 2] = [&self.node.number, &lease];
        let to_lock: [&(dyn ToSql + Sync); 1] = [&locks];
        let first = async {
            let (begun, fence, locked, saw, seen, recorded) = join!(
                client.batch_execute("BEGIN"),
                rows(client, &sql.fence, &node, false),
                rows(client, &sql.lock, &to_lock, locks.is_empty()),
                keys.see(client, &sql.see),
                keys.seen(client, &sql.seen),
                settlements.write(client, sql),
            );
            begun?;
            fence?;
            locked?;
            saw?;
            Ok::<_, Failure>((new::seen(&seen?)?, recorded?))
        };
        let mut first = Box::pin(first);
        let mut said = None;
        if !keys.is_empty() || settlements.lead_on() {
            said = Some(first.as_mut().await?);
        }
        let seen = said.as_mut().map(|(seen, _)| std::mem::take(seen)).unwrap_or_default();
        if batch.refuse_reused(&seen) {
            return Err(Failure::Reused);
        }

        // Then what follows from it.
        let mut told: Vec<&Settled> = Vec::new();
        if let Some((_, recorded)) = &said {
            told.extend(settlements.all.iter().filter(|it| recorded.has(it)));
        }
        let mut news: Vec<New<'_>> = Vec::new();
        for event in batch.accepts.iter().flat_map(|it| &it.events) {
            news.push(New { event, may_begin: true });
        }
        let raised = batch.keeps.iter().flat_map(|it| &it.raised);
        for event in raised.chain(told.iter().flat_map(|it| &it.raised)) {
            news.push(New { event, may_begin: false });
        }
        news.retain(|it| new::first_of(it.event, &seen).is_none());
        let events = new::Events::of(&news, &self.labels)?;
        let deliveries = new::Deliveries::of(&news, lease, &self.labels, &self.lanes)?;
        let kept = told.iter().filter_map(|it| it.health.as_ref());
        let kept =
            Kept::of(kept.chain(batch.keeps.iter().map(|it| &it.endpoint)), lease, &self.labels)?;
        let spent = Spending::of(&told, lease, &self.labels)?;
        let ended = Ended::of(&told, &self.labels)?;
        if let Some(since) = settlements.released_since() {
            self.lanes.lower_all(since);
        }
        let claims = batch.claims.iter().map(|it| {
            waiting::claim(
                client,
                [&sql.claim, &sql.next_due],
                it,
                self.labels.id(&it.route),
                lease,
                self.lanes.floor(&it.route),
            )
        });
        let second = async {
            join!(
                events.write(client, &sql.event),
                deliveries.write(client, &sql.delivery),
                kept.write(client, &sql.keep),
                spent.write(client, &sql.spend),
                ended.write(client, &sql.follow, lease),
                join_all(claims),
                client.batch_execute("COMMIT"),
            )
        };
        let (recorded, second) = match said {
            Some((_, recorded)) => {
                drop(first);
                (recorded, second.await)
            }
            None => {
                let (first, second) = join!(first, second);
                (first?.1, second)
            }
        };
        let (wrote, inserted, keeping, spending, followers, claimed, committed) = second;
        wrote?;
        let parked = deliveries.parked(&inserted?)?;
        let begun = deliveries.begun();
        keeping?;
        spending?;
        let followers = followers?;
        let claimed = claimed.into_iter().collect::<Result<Vec<_>, _>>()?;
        // An error in any of them has made the COMMIT a ROLLBACK.
        committed?;

        // It is on disk.
        self.recorded(settlements, &recorded);
        if !kept.is_empty() {
            self.tell_change();
        }
        for row in &followers {
            let next = delivery_of(row, self.node.lease)?;
            self.held.insert(signed(next.id.0));
            owed.followers.push((DeliveryId(get::<i64>(row, 11)?.unsigned_abs()), next));
        }
        for event in news.iter().filter(|it| !it.may_begin) {
            owed.stored.extend(event.event.deliveries.iter().map(|it| it.route.clone()));
        }
        for (claim, claimed) in std::mem::take(&mut batch.claims).into_iter().zip(claimed) {
            let hold = self.lanes.hold(&claim.route, self.node.lease);
            let (before, floor) = claimed.floors(&claim);
            self.lanes.raise(&claim.route, before, floor);
            let claimed = claimed.with_lease(&claim.route, self.node.lease, hold)?;
            self.held.extend(claimed.deliveries.iter().map(|it| signed(it.id.0)));
            let _ = owed.owe(claim.reply, Ok(claimed));
        }
        for Keep { reply, .. } in batch.keeps.drain(..) {
            let _ = owed.owe(reply, Ok(()));
        }
        for Accept { events, reply } in std::mem::take(&mut batch.accepts) {
            let mut ids = Vec::with_capacity(events.len());
            for event in events {
                if let Some(first) = new::first_of(&event, &seen) {
                    ids.push(first);
                    continue;
                }
                ids.push(event.event.id);
                self.begin(event, &parked, &begun, owed);
            }
            owed.accepted.push((reply, ids));
        }
        Ok(())
    }

    /// What has room begins; what waits behind another gives its room back.
    fn begin(&mut self, event: NewEvent, parked: &[i64], begun: &HashSet<i64>, owed: &mut Owed) {
        let NewEvent { event, deliveries, .. } = event;
        for NewDelivery { id, route, key, slot, .. } in deliveries {
            match slot {
                _ if parked.binary_search(&signed(id.0)).is_ok() => {}
                Some(slot) if begun.contains(&signed(id.0)) => {
                    let (event, lease) = (event.clone(), self.node.lease);
                    self.held.insert(signed(id.0));
                    let delivery = Delivery { id, lease, event, route, attempts: 0, key };
                    owed.in_hand.push((delivery, slot));
                }
                _ => owed.stored.push(route),
            }
        }
    }

    /// What is written down is no longer in hand; what was not is somebody else's.
    fn recorded(&mut self, settlements: &Settlements<'_>, recorded: &settle::Recorded) {
        let mut fenced = 0_u64;
        for (id, lease) in settlements.deliveries() {
            if lease == self.node.lease {
                self.held.remove(&signed(id.0));
            }
            fenced += u64::from(!recorded.has_id(id));
        }
        // After a commit that was not answered they may have been written the first time.
        if fenced > 0 && !self.unsure {
            self.fenced.fetch_add(fenced, std::sync::atomic::Ordering::Relaxed);
            tracing::warn!(
                deliveries = fenced,
                "this node had lost the lease of what it came to record: nothing was recorded, \
                 another node has it"
            );
        }
    }
}

/// What the writer's transactions are made of.
pub(super) struct Statements {
    fence: Statement,
    lock: Statement,
    see: Statement,
    seen: Statement,
    attempted: Statement,
    declined: Statement,
    released: Statement,
    event: Statement,
    delivery: Statement,
    keep: Statement,
    spend: Statement,
    follow: Statement,
    claim: Statement,
    next_due: Statement,
}

impl Statements {
    async fn prepare(session: &mut Session) -> Result<Self, QueueError> {
        Ok(Self {
            fence: session.prepared(FENCE).await?,
            lock: session.prepared(LOCK).await?,
            see: session.prepared(new::SEE).await?,
            seen: session.prepared(new::SEEN).await?,
            attempted: session.prepared(settle::ATTEMPTED).await?,
            declined: session.prepared(settle::DECLINED).await?,
            released: session.prepared(settle::RELEASED).await?,
            event: session.prepared(new::EVENT).await?,
            delivery: session.prepared(new::DELIVERY).await?,
            keep: session.prepared(follow::KEEP).await?,
            spend: session.prepared(follow::SPEND).await?,
            follow: session.prepared(follow::FOLLOW).await?,
            claim: session.prepared(waiting::CLAIM).await?,
            next_due: session.prepared(waiting::NEXT_DUE).await?,
        })
    }
}

/// A statement, unless there is nothing for it to do.
async fn rows(
    client: &Client,
    statement: &Statement,
    values: &[&(dyn ToSql + Sync)],
    skip: bool,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if skip { Ok(Vec::new()) } else { client.query(statement, values).await }
}

/// The locks of every key that a delivery joins or leaves.
fn locks(settlements: &Settlements<'_>, batch: &Batch) -> Vec<i64> {
    let raised = settlements.all.iter().flat_map(|it| &it.raised);
    let joins = batch.new_events().chain(raised).flat_map(|it| &it.deliveries);
    let joins = joins.filter_map(|it| Some(lock_of(&it.route, it.key?)));
    let leaves = settlements.all.iter().filter(|it| it.slot.is_some());
    let leaves = leaves.filter_map(|it| Some(lock_of(&it.settlement.route, it.settlement.key?)));
    let mut locks: Vec<i64> = joins.chain(leaves).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// FNV-1a of the route and the key. Two that share a lock wait for each other, no more.
pub(super) fn lock_of(route: &str, key: OrderKey) -> i64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = route.bytes().chain(key.0.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    hash.cast_signed()
}
