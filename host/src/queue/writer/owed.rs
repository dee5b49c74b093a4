//! What is owed to whoever asked, once a transaction is on disk.

use std::sync::Arc;

use super::{Committed, Fact, News, Reply};
use crate::delivery::{Delivery, DeliveryId};
use crate::event::EventId;
use crate::lane::Slot;
use crate::queue::QueueError;

/// What is owed once the transaction has ended, one way or the other.
#[derive(Default)]
pub(in crate::queue) struct Owed {
    /// Leased at birth: to be attempted now.
    pub(in crate::queue) in_hand: Vec<(Delivery, Slot)>,
    /// What waited behind a delivery that has ended, and which.
    pub(in crate::queue) followers: Vec<(DeliveryId, Delivery)>,
    /// Routes for which something due now waits in the store.
    pub(in crate::queue) stored: Vec<Arc<str>>,
    pub(in crate::queue) accepted: Vec<(Reply<Vec<EventId>>, Vec<EventId>)>,
    answers: Vec<Answer>,
}

type Answer = Box<dyn FnOnce(Result<(), &QueueError>)>;

impl Owed {
    /// Answer when the transaction has ended; a failure ends it.
    pub(in crate::queue) fn owe<T: 'static>(
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
    pub(in crate::queue) fn paid(mut self, facts: Vec<Fact>) -> Committed {
        for answer in self.answers {
            answer(Ok(()));
        }
        let slots = facts.into_iter().filter_map(|it| match it {
            Fact::Settled(settled) => Some((settled.settlement.delivery, settled.slot?)),
            Fact::Released(..) => None,
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
        let news = News::default();
        Committed { in_hand: self.in_hand, stored: self.stored, news, accepted: self.accepted }
    }

    /// Nothing of it happened. The slots in `in_hand` give their room back.
    pub(in crate::queue) fn refuse(self, error: &QueueError) {
        for (reply, _) in self.accepted {
            let _ = reply.send(Err(error.clone()));
        }
        for answer in self.answers {
            answer(Err(error));
        }
    }
}
