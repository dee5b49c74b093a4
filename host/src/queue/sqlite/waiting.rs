//! What lanes ask of the store: what is due, what follows what, and what was kept
//! of the endpoints.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, event_of, sums};
use crate::clock::UnixMs;
use crate::delivery::{Delivery, DeliveryId, Lease};
use crate::endpoint::{Disabled, HealthRecord, OrderKey};
use crate::queue::values::{PARKED, attributes_text, signed, unsigned};
use crate::queue::{Claimed, EndpointRecord, Hold, QueueError, Waiting};

/// What a delivery says as its error whose row was damaged.
const DAMAGED: &str = "store.damaged: the disk has changed this event or delivery: not sent";

/// Bodies that one claim takes into memory: an eighth of what may be in hand.
const CLAIM_BYTES_MAX: usize = 8 << 20;

/// A delivery with its event, as [`delivery_of`] reads it. One whose event is not to be
/// found is a row all the same: else it would be looked for again and again.
const DELIVERY: &str = "
    SELECT d.id, d.attempts, d.key, r.text, e.id, s.text, e.type, e.subject, e.time,
           e.attributes, e.data, e.sum, d.sum
    FROM deliveries d
    LEFT JOIN events e ON e.id = d.event
    LEFT JOIN labels s ON s.id = e.source
    LEFT JOIN labels r ON r.id = d.route";

impl Store {
    /// Lease up to `count` due deliveries of a route, oldest due first.
    pub(super) fn claim(
        &mut self,
        route: &Arc<str>,
        count: usize,
        now: UnixMs,
    ) -> Result<Claimed, QueueError> {
        let label = self.labels.id(&self.connection, route)?;
        let sql = format!(
            "{DELIVERY} WHERE d.route = ?1 AND d.status = 0 AND d.leased = 0 AND d.due <= ?2
             ORDER BY d.due, d.id LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let (mut deliveries, mut damaged) = (Vec::new(), Vec::new());
        let mut rows = statement.query(params![label, signed(now.0), count])?;
        let mut bytes = 0;
        while bytes < CLAIM_BYTES_MAX
            && let Some(row) = rows.next()?
        {
            match delivery_of(row)? {
                Ok(delivery) => {
                    bytes += delivery.event.data.len();
                    deliveries.push(Delivery { route: route.clone(), ..delivery });
                }
                Err(id) => damaged.push(id),
            }
        }
        drop(rows);
        drop(statement);
        for id in damaged {
            self.end_damaged(id, now)?;
            self.unpark_follower(id, now)?;
        }
        let mut lease =
            self.connection.prepare_cached("UPDATE deliveries SET leased = 1 WHERE id = ?1")?;
        for delivery in &deliveries {
            lease.execute([signed(delivery.id.0)])?;
        }
        let sql = "SELECT min(due) FROM deliveries
                   WHERE route = ?1 AND status = 0 AND leased = 0 AND due < ?2";
        let next_due = (self.connection.prepare_cached(sql)?)
            .query_row(params![label, PARKED], |row| {
                Ok(row.get::<_, Option<i64>>(0)?.map(|it| UnixMs(unsigned(it))))
            })?;
        Ok(Claimed { hold: Hold::Held(Lease::OF_THE_PROCESS), deliveries, next_due })
    }

    /// Lease the delivery that waited behind this one, which has ended.
    pub(super) fn lease_follower(
        &mut self,
        ended: DeliveryId,
        now: UnixMs,
    ) -> Result<Option<Delivery>, QueueError> {
        while let Some(next) = self.follower(ended)? {
            let sql = format!("{DELIVERY} WHERE d.id = ?1");
            let read = self.connection.prepare_cached(&sql)?.query_row([next], delivery_of)?;
            match read {
                Ok(delivery) => {
                    let sql = "UPDATE deliveries SET leased = 1, due = ?2 WHERE id = ?1";
                    self.connection.prepare_cached(sql)?.execute(params![next, signed(now.0)])?;
                    return Ok(Some(delivery));
                }
                Err(id) => self.end_damaged(id, now)?,
            }
        }
        Ok(None)
    }

    /// A delivery that is not what was accepted any more: nothing of it is sent.
    fn end_damaged(&self, id: DeliveryId, now: UnixMs) -> Result<(), QueueError> {
        tracing::error!(delivery = %id, "the disk has changed it: it is not sent");
        let sql = "UPDATE deliveries SET status = 3, leased = 0, due = ?2, error = ?3
                   WHERE id = ?1";
        self.connection.execute(sql, params![signed(id.0), signed(now.0), DAMAGED])?;
        Ok(())
    }

    /// Make due what waited behind this one, which has ended where it was not in
    /// hand; returns its route.
    pub(super) fn unpark_follower(
        &mut self,
        ended: DeliveryId,
        now: UnixMs,
    ) -> Result<Option<Arc<str>>, QueueError> {
        let Some(next) = self.follower(ended)? else { return Ok(None) };
        let sql = "UPDATE deliveries SET due = ?2 WHERE due = ?3 AND id = ?1
                   RETURNING (SELECT text FROM labels WHERE id = route)";
        let values = params![next, signed(now.0), PARKED];
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(values, |row| row.get(0)).optional()?)
    }

    /// What waits next in the order that this one was in.
    fn follower(&self, ended: DeliveryId) -> Result<Option<i64>, QueueError> {
        let sql = "SELECT n.id FROM deliveries d JOIN deliveries n
                       ON n.route = d.route AND n.key = d.key AND n.status = 0
                   WHERE d.id = ?1 ORDER BY n.id LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([signed(ended.0)], |row| row.get(0)).optional()?)
    }

    /// Make due now what waits for a later attempt because a plugin broke.
    pub(super) fn hasten(&mut self, route: &Arc<str>, now: UnixMs) -> Result<usize, QueueError> {
        let route = self.labels.id(&self.connection, route)?;
        let sql = "UPDATE deliveries SET due = ?2
                   WHERE route = ?1 AND status = 0 AND leased = 0 AND due > ?2 AND due < ?3
                       AND error GLOB 'plugin.*'";
        Ok(self.connection.execute(sql, params![route, signed(now.0), PARKED])?)
    }

    /// The routes that have something waiting, and when the first of it is due.
    pub(super) fn waiting(&mut self) -> Result<Vec<Waiting>, QueueError> {
        let sql = "SELECT r.text, min(d.due) FROM deliveries d JOIN labels r ON r.id = d.route
                   WHERE d.status = 0 AND d.leased = 0 AND d.due < ?1 GROUP BY d.route";
        let rows = (self.connection.prepare_cached(sql)?)
            .query_map([PARKED], |row| {
                Ok(Waiting { route: row.get(0)?, first_due: UnixMs(unsigned(row.get(1)?)) })
            })?
            .collect::<Result<_, _>>()?;
        Ok(rows)
    }

    pub(super) fn keep(&mut self, endpoint: &EndpointRecord) -> Result<(), QueueError> {
        let route = self.labels.id(&self.connection, &endpoint.route)?;
        let url = self.labels.id(&self.connection, &endpoint.url)?;
        // A rest ends with the process.
        let HealthRecord { failing_since, disabled, rest: _ } = &endpoint.health;
        let sql = "INSERT INTO endpoints (route, url, failing_since, disabled_since, reason)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET failing_since = excluded.failing_since,
                       disabled_since = excluded.disabled_since, reason = excluded.reason";
        self.connection.execute(
            sql,
            params![
                route,
                url,
                failing_since.map(|it| signed(it.0)),
                disabled.as_ref().map(|it| signed(it.since.0)),
                disabled.as_ref().map(|it| &*it.reason),
            ],
        )?;
        Ok(())
    }

    pub(super) fn endpoints(&mut self) -> Result<Vec<EndpointRecord>, QueueError> {
        let sql = "SELECT r.text, u.text, failing_since, disabled_since, reason FROM endpoints
                   JOIN labels r ON r.id = route JOIN labels u ON u.id = url";
        let moment = |it: i64| UnixMs(unsigned(it));
        let record = |row: &Row<'_>| {
            let since = row.get::<_, Option<i64>>(3)?.map(moment);
            let reason = row.get::<_, Option<Arc<str>>>(4)?.unwrap_or_default();
            Ok(EndpointRecord {
                route: row.get(0)?,
                url: row.get(1)?,
                health: HealthRecord {
                    failing_since: row.get::<_, Option<i64>>(2)?.map(moment),
                    disabled: since.map(|since| Disabled { since, reason }),
                    rest: None,
                },
            })
        };
        let mut statement = self.connection.prepare(sql)?;
        let records = statement.query_map([], record)?.collect::<Result<_, _>>()?;
        Ok(records)
    }
}

/// Does a delivery of this key wait or run already? What has no key waits for none.
pub(super) fn is_held(
    connection: &Connection,
    route: i64,
    key: Option<OrderKey>,
) -> Result<bool, QueueError> {
    let Some(key) = key else { return Ok(false) };
    let sql = "SELECT 1 FROM deliveries WHERE route = ?1 AND key = ?2 AND status = 0 LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.exists(params![route, key.0])?)
}

/// A delivery, or the id of one that is not as it was written.
fn delivery_of(row: &Row<'_>) -> rusqlite::Result<Result<Delivery, DeliveryId>> {
    let id = DeliveryId(unsigned(row.get(0)?));
    let read = || -> rusqlite::Result<Option<Delivery>> {
        let delivery = Delivery {
            id,
            lease: Lease::OF_THE_PROCESS,
            attempts: row.get(1)?,
            key: row.get::<_, Option<i64>>(2)?.map(OrderKey),
            route: row.get(3)?,
            event: Arc::new(event_of(row, 4)?),
        };
        let (of_event, of_delivery) = (row.get::<_, Option<i64>>(11)?, row.get(12)?);
        let Some(of_event) = of_event else { return Ok(Some(delivery)) };
        let Delivery { event, route, .. } = &delivery;
        let whole = sums::of_event(event, &attributes_text(&event.attributes)) == of_event
            && Some(sums::of_delivery(id, event.id, route, of_event)) == of_delivery;
        // The other mistake of the control: it sends what it reads.
        let whole = whole || cfg!(feature = "control");
        Ok(whole.then_some(delivery))
    };
    // What cannot be read at all is damaged as well.
    Ok(read().ok().flatten().ok_or(id))
}
