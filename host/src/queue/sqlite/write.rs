//! What a transaction does for each command.

use std::{slice, vec};

use super::Store;
use crate::delivery::{DeliveryId, Status};
use crate::event::EventId;
use crate::queue::writer::{Command, Fact, Owed};
use crate::queue::{Cancelled, QueueError, Settled, store};

impl store::Store for Store {
    fn write(
        &mut self,
        facts: &[Fact],
        asks: &mut vec::IntoIter<Command>,
        owed: &mut Owed,
    ) -> Result<(), QueueError> {
        self.transaction(|store| {
            store.settle(facts)?;
            facts.iter().try_for_each(|fact| store.follow(owed, fact))?;
            loop {
                store.accept(owed, asks)?;
                let Some(ask) = asks.next() else { return Ok(()) };
                store.take(owed, ask)?;
            }
        })
    }
}

impl Store {
    /// What follows from a delivery that is settled.
    fn follow(&mut self, owed: &mut Owed, fact: &Fact) -> Result<(), QueueError> {
        let Fact::Settled(Settled { settlement, health, raised, slot, spent: _ }) = fact else {
            return Ok(());
        };
        if let Some(endpoint) = health {
            self.keep(endpoint)?;
        }
        for event in raised {
            self.accepting()?.raise(owed, event)?;
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

    /// Take in what comes next, if it is events.
    fn accept(
        &mut self,
        owed: &mut Owed,
        asks: &mut vec::IntoIter<Command>,
    ) -> Result<(), QueueError> {
        let is_next = |asks: &vec::IntoIter<Command>| {
            matches!(asks.as_slice().first(), Some(Command::Accept { .. }))
        };
        if !is_next(asks) {
            return Ok(());
        }
        let mut accepting = self.accepting()?;
        while is_next(asks)
            && let Some(Command::Accept { events, reply }) = asks.next()
        {
            accepting.take(owed, events, reply)?;
        }
        Ok(())
    }

    fn take(&mut self, owed: &mut Owed, ask: Command) -> Result<(), QueueError> {
        match ask {
            Command::Note(fact) => {
                self.settle(slice::from_ref(&fact))?;
                self.follow(owed, &fact)
            }
            Command::Accept { events, reply } => self.accepting()?.take(owed, events, reply),
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
                let told = kept.and_then(|()| {
                    raised.iter().try_for_each(|it| self.accepting()?.raise(owed, it))
                });
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
}
