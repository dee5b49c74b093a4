//! The writer of a simulation: the same but for its thread, on a disk that takes its time
//! and now and then takes nothing. The oracle hears what is on disk; the mistakes that it
//! must see are made here.

use std::mem;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use bytes::Bytes;

use super::{Command, Fact, Owed, RETRY_PAUSE, Run};
use crate::delivery::Next;
use crate::event::Event;
use crate::queue::store::Store;
use crate::queue::{NewEvent, QueueError, Settled};
use crate::simulation::{self, Mistake, errs};

pub(super) fn begin(mut run: Run) {
    let store = mem::replace(&mut run.store, Box::new(Nothing));
    run.store = Box::new(Watched(store));
    tokio::spawn(async move {
        loop {
            run.inbox.simulated.notified().await;
            while !run.is_idle() {
                simulation::commits().await;
                let mut commands = {
                    let mut gathered = run.inbox.gathered.lock();
                    gathered.urgent = false;
                    mem::take(&mut gathered.commands)
                };
                commands.retain_mut(err);
                run.write_all(commands);
                if !run.unwritten.is_empty() {
                    simulation::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    });
}

impl Run {
    fn is_idle(&self) -> bool {
        self.unwritten.is_empty() && self.inbox.gathered.lock().commands.is_empty()
    }
}

/// What is written is told.
struct Watched(Box<dyn Store>);

impl Store for Watched {
    fn write(
        &mut self,
        facts: &[Fact],
        asks: &mut vec::IntoIter<Command>,
        owed: &mut Owed,
    ) -> Result<(), QueueError> {
        simulation::disk()?;
        let switched = asks.as_slice().iter().filter_map(|it| match it {
            Command::Keep { endpoint, raised, .. } => {
                Some((endpoint.clone(), raised.iter().map(simulation::Raised::of).collect()))
            }
            _ => None,
        });
        let switched: Vec<(_, Vec<_>)> = switched.collect();
        self.0.write(facts, asks, owed)?;
        for fact in facts {
            if let Fact::Settled(settled) = fact {
                simulation::settled(settled);
                settled.raised.iter().map(simulation::Raised::of).for_each(simulation::raised);
            }
        }
        for (endpoint, raised) in switched {
            simulation::kept(&endpoint);
            raised.into_iter().for_each(simulation::raised);
        }
        Ok(())
    }
}

/// In the place of the store until it is there.
struct Nothing;

impl Store for Nothing {
    fn write(
        &mut self,
        _: &[Fact],
        _: &mut vec::IntoIter<Command>,
        _: &mut Owed,
    ) -> Result<(), QueueError> {
        Ok(())
    }
}

/// Make the mistake of this world, if it makes one; false for a command that is lost.
fn err(command: &mut Command) -> bool {
    match command {
        Command::Accept { events, .. } => events.iter_mut().for_each(err_about),
        Command::Note(Fact::Settled(Settled { settlement, .. })) => match settlement.next {
            Next::WaitUntil(_) if errs(Mistake::Hurries) => {
                settlement.next = Next::WaitUntil(settlement.now);
            }
            Next::WaitUntil(at) if errs(Mistake::Dawdles) => {
                settlement.next = Next::WaitUntil(at.plus(Duration::from_hours(30 * 24)));
            }
            Next::WaitUntil(_) if errs(Mistake::GivesUp) => settlement.next = Next::Dead,
            _ => return !errs(Mistake::Loses),
        },
        Command::Claim { .. } => return !errs(Mistake::Stalls),
        _ => {}
    }
    true
}

fn err_about(new: &mut NewEvent) {
    if errs(Mistake::Forgets) {
        new.deliveries.clear();
    }
    if errs(Mistake::Mixes) {
        new.deliveries.iter_mut().for_each(|it| it.key = None);
    }
    if errs(Mistake::Alters) {
        let data = Bytes::from_static(b"something else");
        new.event = Arc::new(Event { data, ..(*new.event).clone() });
    }
}
