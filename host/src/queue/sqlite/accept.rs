//! Taking events in, with the deliveries that are promised for them: most of what a
//! transaction does, so its statements are taken once for all that stand in a row.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::columns::{Columns, EventHashes};
use super::room::Room;
use super::waiting::is_held;
use super::{Labels, Store, sums};
use crate::clock;
use crate::delivery::{Delivery, Lease};
use crate::event::{Event, EventId};
use crate::queue::values::{PARKED, attributes_text, signed, unsigned};
use crate::queue::writer::{Owed, Reply};
use crate::queue::{DuplicateKey, NewDelivery, NewEvent, QueueError};

const EVENT: &str = "INSERT INTO events (id, source, type, subject, time, attributes, data, sum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const DELIVERY: &str = "INSERT INTO deliveries
                            (id, event, route, endpoint, status, leased, due, attempts, key, sum)
                        VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, 0, ?7, ?8)";

pub(super) struct Accepting<'s> {
    connection: &'s Connection,
    labels: &'s mut Labels,
    columns: &'s mut Columns,
    room: &'s mut Room,
    event: CachedStatement<'s>,
    delivery: CachedStatement<'s>,
}

/// What an event's deliveries have of it.
struct Inserted {
    sum: i64,
    hashes: EventHashes,
}

impl Store {
    pub(super) fn accepting(&mut self) -> Result<Accepting<'_>, QueueError> {
        let Self { connection, labels, columns, room, .. } = self;
        let (event, delivery) =
            (connection.prepare_cached(EVENT)?, connection.prepare_cached(DELIVERY)?);
        Ok(Accepting { connection, labels, columns, room, event, delivery })
    }
}

impl Accepting<'_> {
    /// Refuse what would grow the store beyond its size, and keys that came with
    /// another body before. Writes nothing.
    fn check(&mut self, events: &[NewEvent]) -> Result<(), QueueError> {
        self.room.take(self.connection, events)?;
        for NewEvent { duplicate_key, .. } in events {
            let Some(DuplicateKey { key, body: Some(body) }) = duplicate_key else { continue };
            let sql = "SELECT body IS NOT ?2 FROM seen WHERE key = ?1";
            let differs = (self.connection.prepare_cached(sql)?)
                .query_row(params![key, body], |row| row.get(0))
                .optional()?;
            if differs == Some(true) {
                return Err(QueueError::KeyReused);
            }
        }
        Ok(())
    }

    /// Events that somebody sent, who is told their ids or why they are refused. That is
    /// found before anything of them is written: others go on.
    pub(super) fn take(
        &mut self,
        owed: &mut Owed,
        events: Vec<NewEvent>,
        reply: Reply<Vec<EventId>>,
    ) -> Result<(), QueueError> {
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

    fn accept(
        &mut self,
        owed: &mut Owed,
        events: Vec<NewEvent>,
        accepted: &mut Vec<EventId>,
    ) -> Result<(), QueueError> {
        for NewEvent { event, duplicate_key, deliveries } in events {
            if let Some(key) = &duplicate_key
                && let Some(first) = self.seen(key, event.id)?
            {
                accepted.push(first);
                continue;
            }
            let inserted = self.insert_event(&event)?;
            accepted.push(event.id);
            for delivery in deliveries {
                // What waits behind another gives its room back; its turn brings new room.
                let leased = delivery.slot.is_some();
                let parked = self.insert_delivery(&delivery, &event, &inserted, leased)?;
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

    /// An event of the engine's own: nobody waits for it, and its deliveries wait
    /// in the store.
    pub(super) fn raise(&mut self, owed: &mut Owed, event: &NewEvent) -> Result<(), QueueError> {
        let inserted = self.insert_event(&event.event)?;
        for delivery in &event.deliveries {
            self.insert_delivery(delivery, &event.event, &inserted, false)?;
            owed.stored.push(delivery.route.clone());
        }
        Ok(())
    }

    /// The event that came with this key before; from now on this one is.
    fn seen(
        &self,
        DuplicateKey { key, body }: &DuplicateKey,
        event: EventId,
    ) -> Result<Option<EventId>, QueueError> {
        let sql = "INSERT INTO seen (key, body, event) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let values = params![key, body, signed(event.0)];
        if self.connection.prepare_cached(sql)?.execute(values)? == 1 {
            return Ok(None);
        }
        let first = (self.connection)
            .prepare_cached("SELECT event FROM seen WHERE key = ?1")?
            .query_row([key], |row| row.get(0).map(unsigned))?;
        Ok(Some(EventId(first)))
    }

    fn insert_event(&mut self, event: &Event) -> Result<Inserted, QueueError> {
        let source = self.labels.id(self.connection, &event.source)?;
        let attributes = attributes_text(&event.attributes);
        let sum = sums::of_event(event, &attributes);
        self.event.execute(params![
            signed(event.id.0),
            source,
            event.event_type,
            event.subject,
            signed(event.time.0),
            attributes,
            &*event.data,
            sum,
        ])?;
        let hashes = self.columns.event(self.connection, event)?;
        Ok(Inserted { sum, hashes })
    }

    /// Promise a delivery, due now; `leased` when it is in hand already. True when it
    /// has to wait behind another of its key instead.
    fn insert_delivery(
        &mut self,
        delivery: &NewDelivery,
        event: &Event,
        of_event: &Inserted,
        leased: bool,
    ) -> Result<bool, QueueError> {
        let route = self.labels.id(self.connection, &delivery.route)?;
        let endpoint = self.labels.id(self.connection, &delivery.endpoint)?;
        let parked = is_held(self.connection, route, delivery.key)?;
        let due = if parked { PARKED } else { signed(clock::ms_of_id(delivery.id.0).0) };
        self.delivery.execute(params![
            signed(delivery.id.0),
            signed(event.id.0),
            route,
            endpoint,
            leased && !parked,
            due,
            delivery.key.map(|it| it.0),
            sums::of_delivery(delivery.id, event.id, &delivery.route, of_event.sum),
        ])?;
        let (route, endpoint) = (&delivery.route, &delivery.endpoint);
        self.columns.delivery(self.connection, delivery.id, of_event.hashes, route, endpoint)?;
        Ok(parked)
    }
}
