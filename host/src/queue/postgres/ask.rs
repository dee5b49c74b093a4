//! What people ask of the store, one by one: rare, so each is a transaction of its own.

use std::sync::Arc;

use tokio_postgres::{Row, Transaction};

use super::batch::lock_of;
use super::connection::{Session, get};
use super::writing::Store;
use super::{subscriptions, waiting};
use crate::clock::UnixMs;
use crate::delivery::{DeliveryId, Status};
use crate::endpoint::{Cause, Disabled, HealthRecord, OrderKey, Rest};
use crate::event::EventId;
use crate::queue::values::{CANCELLED, PARKED, signed, status_of, unsigned};
use crate::queue::writer::{Command, Owed, Reply};
use crate::queue::{Cancelled, EndpointRecord, QueueError, Resent};

impl Store {
    pub(super) async fn answer(&mut self, session: &mut Session, ask: Command, owed: &mut Owed) {
        match ask {
            Command::Resend { delivery, as_new, now, reply } => {
                let new_event = as_new.then(|| EventId(self.ids.next(now)));
                let new_delivery = DeliveryId(self.ids.next(now));
                let resent = resend(session, delivery, new_event, new_delivery, now).await;
                tell(
                    reply,
                    resent.map(|(resent, route)| {
                        owed.stored.push(route);
                        resent
                    }),
                );
            }
            Command::Cancel { delivery, now, reply } => {
                let cancelled = cancel(session, delivery, now).await;
                tell(
                    reply,
                    cancelled.map(|(cancelled, follows)| {
                        owed.stored.extend(follows);
                        cancelled
                    }),
                );
            }
            Command::Prune { retention, now, reply } => {
                tell(reply, super::prune::prune(session, &retention, now).await);
            }
            Command::Hasten { route, now, reply } => {
                let hastened = hasten(session, &route, now).await;
                owed.stored.push(route);
                tell(reply, hastened);
            }
            Command::Waiting { reply } => {
                let waiting = waiting::waiting(session).await;
                tell(reply, waiting.map(|it| it.into_iter().map(|(it, _)| it).collect()));
            }
            Command::GiveUp { route, lease, reply } => {
                let given = match lease == self.node.lease {
                    true => self.lanes.give_up(session, &route, self.node).await,
                    false => Ok(()),
                };
                owed.stored.push(route);
                tell(reply, given);
            }
            Command::Endpoints { reply } => tell(reply, endpoints(session).await),
            Command::ChangeSubscriptions { changes, now, reply } => {
                tell(reply, subscriptions::change(session, &changes, now).await);
                self.tell_change();
            }
            Command::Notes { tenant, plugin, reply } => {
                tell(reply, subscriptions::notes(session, &tenant, &plugin).await);
            }
            Command::Subscriptions { now, reply } => {
                tell(reply, subscriptions::all(session, now).await);
            }
            Command::Flush { reply } => {
                self.leave(session).await;
                tell(reply, Ok(()));
            }
            // They are part of the batch.
            Command::Note(_)
            | Command::Accept { .. }
            | Command::Claim { .. }
            | Command::Keep { .. } => {}
        }
    }
}

fn tell<T>(reply: Reply<T>, result: Result<T, QueueError>) {
    // Who hung up is not told.
    let _ = reply.send(result);
}

/// Take the lock of an order before looking at it.
async fn lock(
    transaction: &Transaction<'_>,
    route: &str,
    key: Option<i64>,
) -> Result<(), QueueError> {
    if let Some(key) = key {
        let sql = "SELECT pg_advisory_xact_lock($1)";
        transaction.query(sql, &[&lock_of(route, OrderKey(key))]).await?;
    }
    Ok(())
}

async fn resend(
    session: &mut Session,
    delivery: DeliveryId,
    new_event: Option<EventId>,
    new_delivery: DeliveryId,
    now: UnixMs,
) -> Result<(Resent, Arc<str>), QueueError> {
    let transaction = session.client.transaction().await?;
    let sql = "SELECT d.event, r.text, e.data_pruned, d.key FROM deliveries d
               JOIN events e ON e.id = d.event JOIN labels r ON r.id = d.route WHERE d.id = $1";
    let id = signed(delivery.0);
    let row = transaction.query_opt(sql, &[&id]).await?.ok_or(QueueError::NotFound)?;
    let (mut event, route): (i64, Arc<str>) = (get(&row, 0)?, get::<&str>(&row, 1)?.into());
    if get(&row, 2)? {
        return Err(QueueError::Pruned);
    }
    lock(&transaction, &route, get(&row, 3)?).await?;
    if let Some(new) = new_event {
        let sql = "INSERT INTO events (id, source, type, subject, time, attributes, data)
                   SELECT $2::bigint, source, type, subject, time, attributes, data
                   FROM events WHERE id = $1";
        let new = signed(new.0);
        transaction.execute(sql, &[&event, &new]).await?;
        event = new;
    }
    // As it was promised then, so that it overtakes nothing of its key either.
    let sql = "INSERT INTO deliveries
                   (id, event, route, endpoint, status, lease, due, attempts, key, place)
               SELECT $2::bigint, $3::bigint, route, endpoint, 0, NULL,
                   CASE WHEN key IS NOT NULL AND EXISTS (
                       SELECT 1 FROM deliveries p
                       WHERE p.route = d.route AND p.key = d.key AND p.status = 0)
                   THEN $5::bigint ELSE $4::bigint END,
                   0, key, CASE WHEN key IS NOT NULL THEN nextval('places') END
               FROM deliveries d WHERE id = $1";
    let (new, due) = (signed(new_delivery.0), signed(now.0));
    transaction.execute(sql, &[&id, &new, &event, &due, &PARKED]).await?;
    transaction.commit().await?;
    Ok((Resent { delivery: new_delivery, event: EventId(unsigned(event)) }, route))
}

/// Also the route of what waited behind it.
async fn cancel(
    session: &mut Session,
    delivery: DeliveryId,
    now: UnixMs,
) -> Result<(Cancelled, Option<Arc<str>>), QueueError> {
    let transaction = session.client.transaction().await?;
    let sql = "SELECT r.text, d.key, d.route FROM deliveries d JOIN labels r ON r.id = d.route
               WHERE d.id = $1";
    let id = signed(delivery.0);
    let Some(row) = transaction.query_opt(sql, &[&id]).await? else {
        return Ok((Cancelled::Unknown, None));
    };
    let (route, key): (Arc<str>, Option<i64>) = (get::<&str>(&row, 0)?.into(), get(&row, 1)?);
    lock(&transaction, &route, key).await?;
    let sql = "UPDATE deliveries SET status = 3, due = $2, error = $3
               WHERE id = $1 AND status = 0 AND lease IS NULL";
    let due = signed(now.0);
    if transaction.execute(sql, &[&id, &due, &CANCELLED]).await? == 0 {
        let sql = "SELECT status FROM deliveries WHERE id = $1";
        let status: i16 = get(&transaction.query_one(sql, &[&id]).await?, 0)?;
        return Ok(match status_of(status.into()) {
            Status::Pending => (Cancelled::InHand, None),
            status => (Cancelled::Ended(status), None),
        });
    }
    let sql = "UPDATE deliveries SET due = $3 WHERE due = $4 AND id =
                   (SELECT id FROM deliveries WHERE route = $1 AND key = $2 AND status = 0
                    ORDER BY place LIMIT 1)";
    let label: i32 = get(&row, 2)?;
    let freed = transaction.execute(sql, &[&label, &key, &due, &PARKED]).await?;
    transaction.commit().await?;
    Ok((Cancelled::Done, (freed > 0).then_some(route)))
}

/// Make due now what waits for a later attempt because a plugin broke.
async fn hasten(session: &Session, route: &str, now: UnixMs) -> Result<usize, QueueError> {
    let sql = "UPDATE deliveries SET due = $2
               WHERE route = (SELECT id FROM labels WHERE md5(text) = md5($1))
                   AND status = 0 AND lease IS NULL AND due > $2 AND due < $3
                   AND starts_with(error, 'plugin.')";
    let hastened = session.client.execute(sql, &[&route, &signed(now.0), &PARKED]).await?;
    Ok(usize::try_from(hastened).unwrap_or(usize::MAX))
}

async fn endpoints(session: &Session) -> Result<Vec<EndpointRecord>, QueueError> {
    let sql = "SELECT r.text, u.text, failing_since, disabled_since, reason, rest_until, rest_cause
               FROM endpoints JOIN labels r ON r.id = route JOIN labels u ON u.id = url";
    session.client.query(sql, &[]).await?.iter().map(record_of).collect()
}

/// Of the columns that `endpoints` asks for.
pub(super) fn record_of(row: &Row) -> Result<EndpointRecord, QueueError> {
    let moment = |it: i64| UnixMs(unsigned(it));
    let since = get::<Option<i64>>(row, 3)?.map(moment);
    let reason: Arc<str> = get::<Option<&str>>(row, 4)?.unwrap_or_default().into();
    let until = get::<Option<i64>>(row, 5)?.map(moment);
    let cause = Cause::named(get::<Option<&str>>(row, 6)?.unwrap_or_default());
    Ok(EndpointRecord {
        route: get::<&str>(row, 0)?.into(),
        url: get::<&str>(row, 1)?.into(),
        health: HealthRecord {
            failing_since: get::<Option<i64>>(row, 2)?.map(moment),
            disabled: since.map(|since| Disabled { since, reason }),
            rest: until.map(|until| Rest { until, cause }),
        },
    })
}
