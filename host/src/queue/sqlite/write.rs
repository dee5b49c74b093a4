//! What a transaction does for each command.

use std::vec;

use super::{Store, sums};
use crate::delivery::{Delivery, DeliveryId, Lease, Status};
use crate::event::EventId;
use crate::queue::writer::{Command, Fact, Owed};
use crate::queue::{Cancelled, NewDelivery, NewEvent, QueueError, Settled, store};

impl store::Store for Store {
    fn write(
        &mut self,
        facts: &[Fact],
        asks: &mut vec::IntoIter<Command>,
        owed: &mut Owed,
    ) -> Result<(), QueueError> {
        self.transaction(|store| {
            facts.iter().try_for_each(|fact| store.note(owed, fact))?;
            asks.try_for_each(|ask| store.take(owed, ask))
        })
    }
}

impl Store {
    fn note(&mut self, owed: &mut Owed, fact: &Fact) -> Result<(), QueueError> {
        let settled = match fact {
            Fact::Settled(settled) => settled,
            Fact::Released(id, _) => return self.release(*id),
        };
        let Settled { settlement, health, raised, slot, spent: _ } = settled;
        self.settle(settlement)?;
        if let Some(endpoint) = health {
            self.keep(endpoint)?;
        }
        for event in raised {
            self.raise(owed, event)?;
        }
        // With room in the lane it goes on from memory, without it from the store.
        if slot.is_some()
            && settlement.next.status() != Status::Pending
            && let Some(next) = self.lease_follower(settlement.delivery, settlement.now)?
        {
            owed.followers.push((settlement.delivery, next));
        }
        Ok(())
    }

    /// An event of the engine's own: nobody waits for it, and its deliveries wait
    /// in the store.
    fn raise(&mut self, owed: &mut Owed, event: &NewEvent) -> Result<(), QueueError> {
        let sum = sums::of_event(&event.event);
        self.insert_event(&event.event, sum, None)?;
        for delivery in &event.deliveries {
            self.insert_delivery(delivery, &event.event, sum, false)?;
            owed.stored.push(delivery.route.clone());
        }
        Ok(())
    }

    fn take(&mut self, owed: &mut Owed, ask: Command) -> Result<(), QueueError> {
        match ask {
            Command::Note(fact) => self.note(owed, &fact),
            Command::Accept { events, reply } => {
                // Found before anything of it is written: the others go on.
                match self.check(&events) {
                    Err(refusal @ (QueueError::KeyReused | QueueError::Full(_))) => {
                        let _ = reply.send(Err(refusal));
                        return Ok(());
                    }
                    result => result?,
                }
                let mut accepted = Vec::with_capacity(events.len());
                let result = self.accept(owed, events, &mut accepted);
                owed.accepted.push((reply, accepted));
                result
            }
            Command::Claim { route, count, now, reply } => {
                owed.owe(reply, self.claim(&route, count, now))
            }
            // They are all its own.
            Command::GiveUp { reply, .. } => owed.owe(reply, Ok(())),
            Command::Resend { delivery, as_new, now, reply } => {
                let new_event = as_new.then(|| EventId(self.ids.next(now)));
                let new_delivery = DeliveryId(self.ids.next(now));
                match self.resend(delivery, new_event, new_delivery, now) {
                    Ok((resent, route)) => {
                        owed.stored.push(route);
                        owed.owe(reply, Ok(resent))
                    }
                    // Nothing was written: the others go on.
                    Err(refusal @ (QueueError::NotFound | QueueError::Pruned)) => {
                        let _ = reply.send(Err(refusal));
                        Ok(())
                    }
                    Err(error) => owed.owe(reply, Err(error)),
                }
            }
            Command::Cancel { delivery, now, reply } => {
                let cancelled = self.cancel(delivery, now);
                if let Ok(Cancelled::Done) = cancelled {
                    owed.stored.extend(self.unpark_follower(delivery, now)?);
                }
                owed.owe(reply, cancelled)
            }
            Command::Prune { retention, now, reply } => {
                owed.owe(reply, self.prune(&retention, now))
            }
            Command::Waiting { reply } => owed.owe(reply, self.waiting()),
            Command::Hasten { route, now, reply } => {
                let hastened = self.hasten(&route, now);
                owed.stored.push(route);
                owed.owe(reply, hastened)
            }
            Command::Keep { endpoint, raised, reply } => {
                let kept = self.keep(&endpoint);
                let told =
                    kept.and_then(|()| raised.iter().try_for_each(|it| self.raise(owed, it)));
                owed.owe(reply, told)
            }
            Command::Endpoints { reply } => owed.owe(reply, self.endpoints()),
            Command::ChangeSubscriptions { changes, now, reply } => {
                owed.owe(reply, self.change_subscriptions(&changes, now))
            }
            Command::Notes { tenant, plugin, reply } => {
                owed.owe(reply, self.notes(&tenant, &plugin))
            }
            Command::Subscriptions { now, reply } => owed.owe(reply, self.subscriptions(now)),
            Command::Flush { reply } => owed.owe(reply, Ok(())),
        }
    }

    fn accept(
        &mut self,
        owed: &mut Owed,
        events: Vec<NewEvent>,
        accepted: &mut Vec<EventId>,
    ) -> Result<(), QueueError> {
        for NewEvent { event, duplicate_key, deliveries } in events {
            let sum = sums::of_event(&event);
            if let Some(first) = self.insert_event(&event, sum, duplicate_key.as_ref())? {
                accepted.push(first);
                continue;
            }
            accepted.push(event.id);
            for delivery in deliveries {
                // What waits behind another gives its room back; its turn brings new room.
                let leased = delivery.slot.is_some();
                let parked = self.insert_delivery(&delivery, &event, sum, leased)?;
                let NewDelivery { id, route, key, slot, .. } = delivery;
                match slot {
                    _ if parked => {}
                    Some(slot) => {
                        let (event, lease) = (event.clone(), Lease::OF_THE_PROCESS);
                        let delivery = Delivery { id, lease, event, route, attempts: 0, key };
                        owed.in_hand.push((delivery, slot));
                    }
                    None => owed.stored.push(route),
                }
            }
        }
        Ok(())
    }
}
