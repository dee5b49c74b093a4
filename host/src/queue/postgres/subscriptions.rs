//! Subscriptions, as statements.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::{GenericClient, Row};

use super::connection::{Session, get};
use crate::clock::UnixMs;
use crate::queue::QueueError;
use crate::queue::subscriptions::{
    AllKept, ChangedSubscriptions, DELETED, KeptChange, KeptSecret, KeptSubscription,
};
use crate::queue::values::{signed, unsigned};
use crate::subscription::SubscriptionId;
use crate::vault::{KeyId, Sealed};

pub(super) async fn change(
    session: &mut Session,
    changes: &[KeptChange],
    now: UnixMs,
) -> Result<(), QueueError> {
    let transaction = session.client.transaction().await?;
    // Changes are committed in the order of their numbers: this row is held to the end.
    let sql = "INSERT INTO progress (name, id) VALUES ('subscriptions', 1)
               ON CONFLICT (name) DO UPDATE SET id = progress.id + 1 RETURNING id";
    let number: i64 = get(&transaction.query_one(sql, &[]).await?, 0)?;
    let ids: Vec<Vec<u8>> = changes.iter().filter_map(id_of_change).collect();
    let sql = "INSERT INTO subscription_changes SELECT DISTINCT it, $2::bigint FROM
                   unnest($1::bytea[]) it
               ON CONFLICT (id) DO UPDATE SET number = excluded.number";
    transaction.execute(sql, &[&ids, &number]).await?;
    for change in changes {
        match change {
            KeptChange::Put(it) => put(&transaction, it).await?,
            KeptChange::Deleted(id) => delete(&transaction, *id, now).await?,
            KeptChange::Note { tenant, plugin, name, value: Some(value) } => {
                let sql = "INSERT INTO notes (tenant, plugin, name, value) VALUES ($1, $2, $3, $4)
                           ON CONFLICT (tenant, plugin, name) DO UPDATE SET value = excluded.value";
                transaction.execute(sql, &[tenant, plugin, name, value]).await?;
            }
            KeptChange::Note { tenant, plugin, name, value: None } => {
                let sql = "DELETE FROM notes WHERE tenant = $1 AND plugin = $2 AND name = $3";
                transaction.execute(sql, &[tenant, plugin, name]).await?;
            }
        }
    }
    transaction.commit().await?;
    Ok(())
}

fn id_of_change(change: &KeptChange) -> Option<Vec<u8>> {
    let id = match change {
        KeptChange::Put(it) => it.id,
        KeptChange::Deleted(id) => *id,
        KeptChange::Note { .. } => return None,
    };
    Some(id.0.to_be_bytes().to_vec())
}

/// The number of the last change.
pub(super) async fn last_change(session: &Session) -> Result<i64, QueueError> {
    let sql = "SELECT coalesce((SELECT id FROM progress WHERE name = 'subscriptions'), 0)";
    get(&session.client.query_one(sql, &[]).await?, 0)
}

/// What was changed after that number, and the number up to which.
pub(super) async fn changed(
    session: &Session,
    after: i64,
) -> Result<(ChangedSubscriptions, i64), QueueError> {
    let client = &session.client;
    if last_change(session).await? <= after {
        return Ok((ChangedSubscriptions::default(), after));
    }
    let sql = "SELECT id, number FROM subscription_changes WHERE number > $1 ORDER BY number";
    let rows = client.query(sql, &[&after]).await?;
    let mut ids: Vec<Vec<u8>> = Vec::with_capacity(rows.len());
    let mut last = after;
    for row in &rows {
        ids.push(get(row, 0)?);
        last = get(row, 1)?;
    }
    let put = read(client, Some(&ids)).await?;
    let mut deleted = Vec::new();
    for row in &rows {
        let id = id_of(row)?;
        if !put.iter().any(|it| it.id == id) {
            deleted.push(id);
        }
    }
    Ok((ChangedSubscriptions { put, deleted }, last))
}

/// End what still waits by those of these routes that are subscriptions and gone: a node
/// that did not know yet has promised it. One that did not know yet may have taken the lane
/// as well. Returns them.
pub(super) async fn bury_lost(
    session: &Session,
    routes: impl Iterator<Item = &Arc<str>>,
    now: UnixMs,
) -> Result<HashSet<Arc<str>>, QueueError> {
    let client = &session.client;
    let id = |route: &Arc<str>| Some((route.parse::<SubscriptionId>().ok()?, route.clone()));
    let mut lost: HashMap<SubscriptionId, Arc<str>> = routes.filter_map(id).collect();
    if lost.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<[u8; 16]> = lost.keys().map(|it| it.0.to_be_bytes()).collect();
    let ids: Vec<&[u8]> = ids.iter().map(<[u8; 16]>::as_slice).collect();
    for row in client.query("SELECT id FROM subscriptions WHERE id = ANY($1)", &[&ids]).await? {
        lost.remove(&id_of(&row)?);
    }
    for route in lost.values() {
        bury(client, route, now).await?;
    }
    Ok(lost.into_values().collect())
}

/// What a plugin noted of a tenant.
pub(super) async fn notes(
    session: &Session,
    tenant: &str,
    plugin: &str,
) -> Result<BTreeMap<String, String>, QueueError> {
    let sql = "SELECT name, value FROM notes WHERE tenant = $1 AND plugin = $2";
    let rows = session.client.query(sql, &[&tenant, &plugin]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

async fn put(client: &impl GenericClient, it: &KeptSubscription) -> Result<(), QueueError> {
    let id = it.id.0.to_be_bytes();
    let sql = "INSERT INTO subscriptions (id, number, tenant, made_by, form, created, updated)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (id) DO UPDATE SET form = excluded.form, updated = excluded.updated
               RETURNING xmax = 0";
    let (number, created) = (signed(it.number), signed(it.created.0));
    let updated = signed(it.updated.0);
    let row = client
        .query_one(
            sql,
            &[&id.as_slice(), &number, &it.tenant, &it.made_by, &it.form, &created, &updated],
        )
        .await?;
    if get(&row, 0)? {
        let sql = "INSERT INTO numbers (tenant, last) VALUES ($1, $2)
                   ON CONFLICT (tenant) DO UPDATE SET last = excluded.last
                   WHERE numbers.last < excluded.last";
        if client.execute(sql, &[&it.tenant, &number]).await? == 0 {
            return Err(QueueError::Crossed);
        }
    }
    client.execute("DELETE FROM sealed WHERE owner = $1", &[&id.as_slice()]).await?;
    let sql = "INSERT INTO sealed (owner, purpose, name, version, until, key, value)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    for KeptSecret { purpose, name, version, until, sealed } in &it.secrets {
        let until = until.map(|it| signed(it.0));
        let version = i32::try_from(*version).unwrap_or(i32::MAX);
        let (key, value) = (&sealed.key.0, &sealed.bytes);
        client.execute(sql, &[&id.as_slice(), purpose, name, &version, &until, key, value]).await?;
    }
    Ok(())
}

async fn delete(
    client: &impl GenericClient,
    id: SubscriptionId,
    now: UnixMs,
) -> Result<(), QueueError> {
    let bytes = id.0.to_be_bytes();
    client.execute("DELETE FROM sealed WHERE owner = $1", &[&bytes.as_slice()]).await?;
    client.execute("DELETE FROM subscriptions WHERE id = $1", &[&bytes.as_slice()]).await?;
    let route = id.to_string();
    let sql =
        "DELETE FROM endpoints WHERE route = (SELECT id FROM labels WHERE md5(text) = md5($1))";
    client.execute(sql, &[&route]).await?;
    bury(client, &route, now).await
}

/// What waits by a route that will not come back, and its lane.
async fn bury(client: &impl GenericClient, route: &str, now: UnixMs) -> Result<(), QueueError> {
    let sql = "DELETE FROM lanes WHERE route = (SELECT id FROM labels WHERE md5(text) = md5($1))";
    client.execute(sql, &[&route]).await?;
    let sql = "UPDATE deliveries SET status = 3, due = $2, error = $3
               WHERE route = (SELECT id FROM labels WHERE md5(text) = md5($1))
                   AND status = 0 AND lease IS NULL";
    client.execute(sql, &[&route, &signed(now.0), &DELETED]).await?;
    Ok(())
}

/// All of them; and what still waits by one that is gone is ended.
pub(super) async fn all(session: &Session, now: UnixMs) -> Result<AllKept, QueueError> {
    let client = &session.client;
    let rows = client.query("SELECT tenant, last FROM numbers", &[]).await?;
    let number = |row: &Row| Ok((get(row, 0)?, unsigned(get(row, 1)?)));
    let all = AllKept {
        subscriptions: read(client, None).await?,
        numbers: rows.iter().map(number).collect::<Result<_, QueueError>>()?,
    };
    let sql = "SELECT DISTINCT l.text FROM deliveries d JOIN labels l ON l.id = d.route
               WHERE d.status = 0 AND d.lease IS NULL AND l.text LIKE 'sub\\_%'";
    for row in client.query(sql, &[]).await? {
        let route: &str = get(&row, 0)?;
        let Ok(id) = route.parse::<SubscriptionId>() else { continue };
        if !all.subscriptions.iter().any(|it| it.id == id) {
            bury(client, route, now).await?;
        }
    }
    Ok(all)
}

/// Those of these ids, or all.
async fn read(
    client: &impl GenericClient,
    ids: Option<&[Vec<u8>]>,
) -> Result<Vec<KeptSubscription>, QueueError> {
    let sql = "SELECT id, number, tenant, made_by, form, created, updated FROM subscriptions
               WHERE $1::bytea[] IS NULL OR id = ANY($1) ORDER BY id";
    let kept = |row: &Row| {
        Ok(KeptSubscription {
            id: id_of(row)?,
            number: unsigned(get(row, 1)?),
            tenant: get(row, 2)?,
            made_by: get(row, 3)?,
            form: get(row, 4)?,
            created: UnixMs(unsigned(get(row, 5)?)),
            updated: UnixMs(unsigned(get(row, 6)?)),
            secrets: Vec::new(),
        })
    };
    let rows = client.query(sql, &[&ids]).await?;
    let mut all = rows.iter().map(kept).collect::<Result<Vec<_>, QueueError>>()?;
    let sql = "SELECT owner, purpose, name, version, until, key, value FROM sealed
               WHERE $1::bytea[] IS NULL OR owner = ANY($1) ORDER BY owner, purpose, name, version";
    for row in client.query(sql, &[&ids]).await? {
        let owner = id_of(&row)?;
        let Ok(at) = all.binary_search_by_key(&owner, |it| it.id) else { continue };
        let until: Option<i64> = get(&row, 4)?;
        all[at].secrets.push(KeptSecret {
            purpose: get(&row, 1)?,
            name: get(&row, 2)?,
            version: u32::try_from(get::<i32>(&row, 3)?).unwrap_or_default(),
            until: until.map(unsigned).map(UnixMs),
            sealed: Sealed { key: KeyId(get(&row, 5)?), bytes: get(&row, 6)? },
        });
    }
    Ok(all)
}

/// Seal what is kept anew where `seal` gives something for it, all or nothing.
pub(super) async fn reseal(
    session: &mut Session,
    mut seal: impl FnMut(SubscriptionId, &KeptSecret) -> Result<Option<Sealed>, String>,
) -> Result<(usize, usize), QueueError> {
    let transaction = session.client.transaction().await?;
    let (mut all, mut changed) = (0, 0);
    for subscription in read(&transaction, None).await? {
        for secret in &subscription.secrets {
            all += 1;
            let sealed = seal(subscription.id, secret);
            let sealed = sealed.map_err(|error| QueueError::Broken(error.into()))?;
            let Some(Sealed { key, bytes }) = sealed else { continue };
            changed += 1;
            let sql = "UPDATE sealed SET key = $5, value = $6
                       WHERE owner = $1 AND purpose = $2 AND name = $3 AND version = $4";
            let owner = subscription.id.0.to_be_bytes();
            let version = i32::try_from(secret.version).unwrap_or(i32::MAX);
            let (purpose, name) = (&secret.purpose, &secret.name);
            transaction
                .execute(sql, &[&owner.as_slice(), purpose, name, &version, &key.0, &bytes])
                .await?;
        }
    }
    transaction.commit().await?;
    Ok((all, changed))
}

fn id_of(row: &Row) -> Result<SubscriptionId, QueueError> {
    let bytes = <[u8; 16]>::try_from(get::<&[u8]>(row, 0)?);
    let wrong = |_| QueueError::Broken("an id of a subscription has not 16 bytes".into());
    Ok(SubscriptionId(u128::from_be_bytes(bytes.map_err(wrong)?)))
}
