//! What a transaction does for each command, and what is owed to whoever asked
//! once it is on disk.

use std::sync::Arc;

use super::{Command, Committed, Fact, Reply};
use crate::clock::IdClock;
use crate::delivery::{Delivery, DeliveryId, Status};
use crate::event::EventId;
use crate::lane::Slot;
use crate::queue::sqlite::Store;
use crate::queue::{Cancelled, NewDelivery, NewEvent, QueueError, Settled};

/// What is owed once the transaction has ended, one way or the other.
#[derive(Default)]
pub(super) struct Owed {
    in_hand: Vec<(Delivery, Slot)>,
    /// What waited behind a delivery that has ended, and which.
    followers: Vec<(DeliveryId, Delivery)>,
    stored: Vec<Arc<str>>,
    accepted: Vec<(Reply<Vec<EventId>>, Vec<EventId>)>,
    answers: Vec<Answer>,
}

type Answer = Box<dyn FnOnce(Result<(), &QueueError>)>;

impl Owed {
    pub(super) fn note(&mut self, store: &mut Store, fact: &Fact) -> Result<(), QueueError> {
        let settled = match fact {
            Fact::Settled(settled) => settled,
            Fact::Released(id) => return store.release(*id),
        };
        let Settled { settlement, health, raised, slot } = settled;
        store.settle(settlement)?;
        if let Some(endpoint) = health {
            store.keep(endpoint)?;
        }
        for event in raised {
            self.raise(store, event)?;
        }
        // With room in the lane it goes on from memory, without it from the store.
        if slot.is_some()
            && settlement.next.status() != Status::Pending
            && let Some(next) = store.lease_follower(settlement.delivery, settlement.now)?
        {
            self.followers.push((settlement.delivery, next));
        }
        Ok(())
    }

    /// An event of the engine's own: nobody waits for it, and its deliveries wait
    /// in the store.
    fn raise(&mut self, store: &mut Store, event: &NewEvent) -> Result<(), QueueError> {
        store.insert_event(&event.event, None)?;
        for delivery in &event.deliveries {
            store.insert_delivery(delivery, &event.event, false)?;
            self.stored.push(delivery.route.clone());
        }
        Ok(())
    }

    pub(super) fn take(
        &mut self,
        store: &mut Store,
        ids: &IdClock,
        ask: Command,
    ) -> Result<(), QueueError> {
        match ask {
            Command::Note(fact) => self.note(store, &fact),
            Command::Accept { events, reply } => {
                // Found before anything of it is written: the others go on.
                match store.check(&events) {
                    Err(refusal @ (QueueError::KeyReused | QueueError::Full(_))) => {
                        let _ = reply.send(Err(refusal));
                        return Ok(());
                    }
                    result => result?,
                }
                let mut accepted = Vec::with_capacity(events.len());
                let result = self.accept(store, events, &mut accepted);
                self.accepted.push((reply, accepted));
                result
            }
            Command::Claim { route, count, now, reply } => {
                self.owe(reply, store.claim(&route, count, now))
            }
            Command::Resend { delivery, as_new, now, reply } => {
                let new_event = as_new.then(|| EventId(ids.next(now)));
                let new_delivery = DeliveryId(ids.next(now));
                match store.resend(delivery, new_event, new_delivery, now) {
                    Ok((resent, route)) => {
                        self.stored.push(route);
                        self.owe(reply, Ok(resent))
                    }
                    // Nothing was written: the others go on.
                    Err(refusal @ (QueueError::NotFound | QueueError::Pruned)) => {
                        let _ = reply.send(Err(refusal));
                        Ok(())
                    }
                    Err(error) => self.owe(reply, Err(error)),
                }
            }
            Command::Cancel { delivery, now, reply } => {
                let cancelled = store.cancel(delivery, now);
                if let Ok(Cancelled::Done) = cancelled {
                    self.stored.extend(store.unpark_follower(delivery, now)?);
                }
                self.owe(reply, cancelled)
            }
            Command::Prune { retention, now, reply } => {
                self.owe(reply, store.prune(&retention, now))
            }
            Command::Waiting { reply } => self.owe(reply, store.waiting()),
            Command::Hasten { route, now, reply } => {
                let hastened = store.hasten(&route, now);
                self.stored.push(route);
                self.owe(reply, hastened)
            }
            Command::Keep { endpoint, raised, reply } => {
                let kept = store.keep(&endpoint);
                let told =
                    kept.and_then(|()| raised.iter().try_for_each(|it| self.raise(store, it)));
                self.owe(reply, told)
            }
            Command::Endpoints { reply } => self.owe(reply, store.endpoints()),
            Command::ChangeSubscriptions { changes, now, reply } => {
                self.owe(reply, store.change_subscriptions(&changes, now))
            }
            Command::Notes { tenant, plugin, reply } => {
                self.owe(reply, store.notes(&tenant, &plugin))
            }
            Command::Subscriptions { now, reply } => self.owe(reply, store.subscriptions(now)),
            Command::Flush { reply } => self.owe(reply, Ok(())),
        }
    }

    fn accept(
        &mut self,
        store: &mut Store,
        events: Vec<NewEvent>,
        accepted: &mut Vec<EventId>,
    ) -> Result<(), QueueError> {
        for NewEvent { event, duplicate_key, deliveries } in events {
            if let Some(first) = store.insert_event(&event, duplicate_key.as_ref())? {
                accepted.push(first);
                continue;
            }
            accepted.push(event.id);
            for delivery in deliveries {
                // What waits behind another gives its room back; its turn brings new room.
                let parked = store.insert_delivery(&delivery, &event, delivery.slot.is_some())?;
                let NewDelivery { id, route, key, slot, .. } = delivery;
                match slot {
                    _ if parked => {}
                    Some(slot) => {
                        let event = event.clone();
                        let delivery = Delivery { id, event, route, attempts: 0, key };
                        self.in_hand.push((delivery, slot));
                    }
                    None => self.stored.push(route),
                }
            }
        }
        Ok(())
    }

    /// Answer when the transaction has ended; a failure ends it.
    fn owe<T: 'static>(
        &mut self,
        reply: Reply<T>,
        result: Result<T, QueueError>,
    ) -> Result<(), QueueError> {
        match result {
            Ok(value) => {
                self.answers.push(Box::new(move |ended| {
                    let _ = reply.send(ended.map(|()| value).map_err(Clone::clone));
                }));
                Ok(())
            }
            Err(error) => {
                let _ = reply.send(Err(error.clone()));
                Err(error)
            }
        }
    }

    /// The transaction is on disk: tell whoever waits, and pass on what is due. The
    /// room of each delivery that has ended goes to the one that waited behind it.
    pub(super) fn paid(mut self, facts: Vec<Fact>) -> Committed {
        for answer in self.answers {
            answer(Ok(()));
        }
        let slots = facts.into_iter().filter_map(|it| match it {
            Fact::Settled(settled) => Some((settled.settlement.delivery, settled.slot?)),
            Fact::Released(_) => None,
        });
        for (ended, slot) in slots {
            match self.followers.iter().position(|(it, _)| *it == ended) {
                Some(at) => {
                    let (_, next) = self.followers.swap_remove(at);
                    let slot = slot.for_next(next.event.data.len());
                    self.in_hand.push((next, slot));
                }
                None => drop(slot),
            }
        }
        Committed { in_hand: self.in_hand, stored: self.stored, accepted: self.accepted }
    }

    /// Nothing of it happened. The slots in `in_hand` give their room back.
    pub(super) fn refuse(self, error: &QueueError) {
        for (reply, _) in self.accepted {
            let _ = reply.send(Err(error.clone()));
        }
        for answer in self.answers {
            answer(Err(error));
        }
    }
}
