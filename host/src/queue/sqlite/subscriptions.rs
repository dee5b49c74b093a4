//! Subscriptions, as statements.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Row, params};

use super::Store;
use crate::clock::UnixMs;
use crate::queue::QueueError;
use crate::queue::subscriptions::{AllKept, DELETED, KeptChange, KeptSecret, KeptSubscription};
use crate::queue::values::{signed, unsigned};
use crate::subscription::SubscriptionId;
use crate::vault::{KeyId, Sealed};

impl Store {
    pub(in crate::queue) fn change_subscriptions(
        &mut self,
        changes: &[KeptChange],
        now: UnixMs,
    ) -> Result<(), QueueError> {
        changes.iter().try_for_each(|change| match change {
            KeptChange::Put(it) => self.put_subscription(it),
            KeptChange::Deleted(id) => self.delete_subscription(*id, now),
            KeptChange::Note { tenant, plugin, name, value } => {
                self.note_of_tenant(tenant, plugin, name, value.as_deref())
            }
        })
    }

    fn note_of_tenant(
        &mut self,
        tenant: &str,
        plugin: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), QueueError> {
        let sql = match value {
            Some(_) => {
                "INSERT INTO notes (tenant, plugin, name, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET value = excluded.value"
            }
            None => {
                "DELETE FROM notes WHERE tenant = ?1 AND plugin = ?2 AND name = ?3 AND ?4 IS NULL"
            }
        };
        self.connection.prepare_cached(sql)?.execute(params![tenant, plugin, name, value])?;
        Ok(())
    }

    /// What a plugin noted of a tenant.
    pub(in crate::queue) fn notes(
        &mut self,
        tenant: &str,
        plugin: &str,
    ) -> Result<BTreeMap<String, String>, QueueError> {
        let sql = "SELECT name, value FROM notes WHERE tenant = ?1 AND plugin = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([tenant, plugin], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn put_subscription(&mut self, it: &KeptSubscription) -> Result<(), QueueError> {
        let id = it.id.0.to_be_bytes();
        let sql = "INSERT INTO subscriptions (id, number, tenant, made_by, form, created, updated)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT DO UPDATE SET form = excluded.form, updated = excluded.updated";
        self.connection.prepare_cached(sql)?.execute(params![
            id,
            signed(it.number),
            it.tenant,
            it.made_by,
            it.form,
            signed(it.created.0),
            signed(it.updated.0),
        ])?;
        let sql = "INSERT INTO numbers (tenant, last) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET last = max(last, excluded.last)";
        self.connection.prepare_cached(sql)?.execute(params![it.tenant, signed(it.number)])?;
        self.connection.prepare_cached("DELETE FROM sealed WHERE owner = ?1")?.execute([id])?;
        let sql = "INSERT INTO sealed (owner, purpose, name, version, until, key, value)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut insert = self.connection.prepare_cached(sql)?;
        for KeptSecret { purpose, name, version, until, sealed } in &it.secrets {
            let until = until.map(|it| signed(it.0));
            insert.execute(params![
                id,
                purpose,
                name,
                version,
                until,
                sealed.key.0,
                sealed.bytes
            ])?;
        }
        Ok(())
    }

    fn delete_subscription(&mut self, id: SubscriptionId, now: UnixMs) -> Result<(), QueueError> {
        let bytes = id.0.to_be_bytes();
        self.connection.prepare_cached("DELETE FROM sealed WHERE owner = ?1")?.execute([bytes])?;
        let sql = "DELETE FROM subscriptions WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute([bytes])?;
        let label = self.labels.id(&self.connection, &id.to_string().into())?;
        self.connection
            .prepare_cached("DELETE FROM endpoints WHERE route = ?1")?
            .execute([label])?;
        self.bury(label, now)
    }

    /// What waits by a route that will not come back.
    fn bury(&mut self, route: i64, now: UnixMs) -> Result<(), QueueError> {
        let sql = "UPDATE deliveries SET status = 3, due = ?2, error = ?3
                   WHERE route = ?1 AND status = 0 AND leased = 0";
        self.connection.prepare_cached(sql)?.execute(params![route, signed(now.0), DELETED])?;
        Ok(())
    }

    /// All of them; and what still waits by one that is gone is ended.
    pub(in crate::queue) fn subscriptions(&mut self, now: UnixMs) -> Result<AllKept, QueueError> {
        let all = AllKept {
            subscriptions: self.read_subscriptions()?,
            numbers: (self.connection.prepare("SELECT tenant, last FROM numbers")?)
                .query_map([], |row| Ok((row.get(0)?, row.get(1).map(unsigned)?)))?
                .collect::<Result<_, _>>()?,
        };
        let sql =
            "SELECT DISTINCT d.route, l.text FROM deliveries d JOIN labels l ON l.id = d.route
                   WHERE d.status = 0 AND d.leased = 0";
        let waiting: Vec<(i64, String)> = (self.connection.prepare(sql)?)
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (label, route) in waiting {
            let Ok(id) = route.parse::<SubscriptionId>() else { continue };
            if !all.subscriptions.iter().any(|it| it.id == id) {
                self.bury(label, now)?;
            }
        }
        Ok(all)
    }

    /// The same value, sealed otherwise.
    fn replace_sealed(
        &mut self,
        owner: SubscriptionId,
        secret: &KeptSecret,
        sealed: &Sealed,
    ) -> Result<(), QueueError> {
        let KeptSecret { purpose, name, version, .. } = secret;
        let sql = "UPDATE sealed SET key = ?5, value = ?6
                   WHERE owner = ?1 AND purpose = ?2 AND name = ?3 AND version = ?4";
        let owner = owner.0.to_be_bytes();
        self.connection.prepare_cached(sql)?.execute(params![
            owner,
            purpose,
            name,
            version,
            sealed.key.0,
            sealed.bytes
        ])?;
        Ok(())
    }

    fn read_subscriptions(&mut self) -> Result<Vec<KeptSubscription>, QueueError> {
        let sql = "SELECT id, number, tenant, made_by, form, created, updated FROM subscriptions
                   ORDER BY id";
        let mut all: Vec<KeptSubscription> = (self.connection.prepare(sql)?)
            .query_map([], |row| {
                Ok(KeptSubscription {
                    id: id_of(row, 0)?,
                    number: row.get(1).map(unsigned)?,
                    tenant: row.get(2)?,
                    made_by: row.get(3)?,
                    form: row.get(4)?,
                    created: row.get(5).map(unsigned).map(UnixMs)?,
                    updated: row.get(6).map(unsigned).map(UnixMs)?,
                    secrets: Vec::new(),
                })
            })?
            .collect::<Result<_, _>>()?;
        let sql = "SELECT owner, purpose, name, version, until, key, value FROM sealed
                   ORDER BY owner, purpose, name, version";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let owner = id_of(row, 0)?;
            let Ok(at) = all.binary_search_by_key(&owner, |it| it.id) else { continue };
            let until: Option<i64> = row.get(4)?;
            all[at].secrets.push(KeptSecret {
                purpose: row.get(1)?,
                name: row.get(2)?,
                version: row.get(3)?,
                until: until.map(unsigned).map(UnixMs),
                sealed: Sealed { key: KeyId(row.get(5)?), bytes: row.get(6)? },
            });
        }
        Ok(all)
    }
}

/// Seal what is kept anew where `seal` gives something for it, all or nothing.
pub(in crate::queue) fn reseal(
    path: &Path,
    mut seal: impl FnMut(SubscriptionId, &KeptSecret) -> Result<Option<Sealed>, String>,
) -> Result<(usize, usize), QueueError> {
    let mut store = Store::open(path, u64::MAX)?;
    let (mut all, mut changed) = (0, 0);
    store.transaction(|store| {
        for subscription in store.read_subscriptions()? {
            for secret in &subscription.secrets {
                all += 1;
                let sealed = seal(subscription.id, secret);
                let sealed = sealed.map_err(|error| QueueError::Broken(error.into()))?;
                if let Some(sealed) = sealed {
                    changed += 1;
                    store.replace_sealed(subscription.id, secret, &sealed)?;
                }
            }
        }
        Ok(())
    })?;
    Ok((all, changed))
}

fn id_of(row: &Row<'_>, at: usize) -> rusqlite::Result<SubscriptionId> {
    Ok(SubscriptionId(u128::from_be_bytes(row.get(at)?)))
}
