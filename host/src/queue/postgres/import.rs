//! Filling an empty database with another store's rows.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Transaction};

use super::address::Address;
use super::connection::{Session, get};
use super::labels::Labels;
use super::rows::text;
use super::schema;
use crate::clock::UnixMs;
use crate::queue::QueueError;
use crate::queue::transfer::{Batch, Kind, TABLES, Table, Values};

/// A database that is being filled. No node joins before its end.
#[derive(Debug)]
pub(in crate::queue) struct Import {
    session: Session,
    /// The numbers of names: those of the other store, and this one's.
    labels: HashMap<i64, i32>,
}

/// Held by whoever fills the database, for as long as it lives: "filling!", as a number.
const IMPORT_LOCK: i64 = 0x6669_6c6c_696e_6721;

/// Names that are learnt at once.
const LABELS_AT_ONCE: usize = 1_000;

impl Import {
    pub(in crate::queue) async fn begin(address: &Address) -> Result<Self, QueueError> {
        let mut session = Session::open(address).await?;
        // One batch is a few megabytes; to count all rows may take long.
        session.client.batch_execute("SET statement_timeout TO 0").await?;
        let sql = format!("SELECT pg_try_advisory_lock({IMPORT_LOCK})");
        if !get::<bool>(&session.client.query_one(&sql, &[]).await?, 0)? {
            return Err(broken("another `plugpost store migrate` fills this database"));
        }
        schema::migrate(&mut session).await?;
        let transaction = session.client.transaction().await?;
        // Nobody joins meanwhile.
        transaction.batch_execute("LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE").await?;
        let sql = "UPDATE nodes SET lease = NULL WHERE expires < clock_timestamp()";
        transaction.execute(sql, &[]).await?;
        let sql = "SELECT count(*) FROM nodes WHERE lease IS NOT NULL";
        let nodes: i64 = get(&transaction.query_one(sql, &[]).await?, 0)?;
        if nodes > 0 {
            let text = format!("{nodes} engines use this database: stop them first");
            return Err(broken(&text));
        }
        if is_filling(&transaction).await? {
            let tables: Vec<_> = TABLES.iter().map(|it| it.name).collect();
            let sql = format!("TRUNCATE {}; DELETE FROM transfers", tables.join(", "));
            transaction.batch_execute(&sql).await?;
            tracing::info!("what an interrupted migration had left is deleted");
        }
        for table in TABLES {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
            if get(&transaction.query_one(&sql, &[]).await?, 0)? {
                let text = format!(
                    "there are {} in this database already: a store is moved into an empty one",
                    table.name
                );
                return Err(broken(&text));
            }
        }
        transaction.execute("INSERT INTO transfers VALUES (clock_timestamp())", &[]).await?;
        transaction.commit().await?;
        Ok(Self { session, labels: HashMap::new() })
    }

    /// Learn the names that rows have as numbers.
    pub(in crate::queue) async fn learn(
        &mut self,
        names: Vec<(i64, String)>,
    ) -> Result<(), QueueError> {
        let mut labels = Labels::default();
        for names in names.chunks(LABELS_AT_ONCE) {
            let texts: Vec<Arc<str>> = names.iter().map(|(_, it)| it.as_str().into()).collect();
            labels.learn(&mut self.session, texts.iter()).await?;
            for ((id, _), text) in names.iter().zip(&texts) {
                self.labels.insert(*id, labels.id(text)?);
            }
        }
        Ok(())
    }

    /// Make the partitions of these days, before there is a row in them.
    pub(in crate::queue) async fn make_days(
        &mut self,
        days: &[UnixMs],
        now: UnixMs,
    ) -> Result<(), QueueError> {
        for day in days {
            schema::make_day(&mut self.session, schema::day_of(*day)).await?;
        }
        schema::make_days(&mut self.session, now).await
    }

    pub(in crate::queue) async fn write(&mut self, batch: Batch) -> Result<(), QueueError> {
        let Batch { table, columns, .. } = batch;
        let mut values: Vec<Box<dyn ToSql + Sync + Send>> = Vec::new();
        for ((_, kind), column) in table.columns.iter().zip(columns) {
            values.push(match column {
                Values::Numbers(all) if *kind == Kind::Label => Box::new(self.translated(&all)?),
                Values::Numbers(all) => Box::new(all),
                Values::Bytes(all) => Box::new(all),
                Values::Texts(all) => {
                    let fit = |it: Option<String>| it.map(|it| text(&it).into_owned());
                    Box::new(all.into_iter().map(fit).collect::<Vec<_>>())
                }
            });
        }
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|it| &**it as _).collect();
        self.session.client.execute(&insert(table), &values).await?;
        Ok(())
    }

    /// This store's numbers of names.
    fn translated(&self, all: &[Option<i64>]) -> Result<Vec<Option<i64>>, QueueError> {
        let unknown = || broken("a row has a name that is not there");
        let number = |it: &i64| self.labels.get(it).map(|it| i64::from(*it)).ok_or_else(unknown);
        all.iter().map(|it| it.as_ref().map(number).transpose()).collect()
    }

    pub(in crate::queue) async fn count(&self, table: &str) -> Result<u64, QueueError> {
        let sql = format!("SELECT count(*) FROM {table}");
        let row = self.session.client.query_one(&sql, &[]).await?;
        Ok(get::<i64>(&row, 0)?.unsigned_abs())
    }

    /// How many deliveries have each status.
    pub(in crate::queue) async fn statuses(&self) -> Result<Vec<(i64, u64)>, QueueError> {
        let sql = "SELECT status::bigint, count(*) FROM deliveries GROUP BY status";
        let rows = self.session.client.query(sql, &[]).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, get::<i64>(row, 1)?.unsigned_abs()))).collect()
    }

    /// It is all there: nodes may join.
    pub(in crate::queue) async fn end(self) -> Result<(), QueueError> {
        let tables = schema::PARTITIONED.map(|(name, _)| name).join(", ");
        self.session.client.batch_execute(&format!("ANALYZE {tables}")).await?;
        self.session.client.execute("DELETE FROM transfers", &[]).await?;
        Ok(())
    }
}

/// Refuse a database that is not all there.
pub(super) async fn check(transaction: &Transaction<'_>) -> Result<(), QueueError> {
    match is_filling(transaction).await? {
        false => Ok(()),
        true => Err(broken(
            "`plugpost store migrate` fills this database, or was interrupted: run it to its end",
        )),
    }
}

async fn is_filling(client: &impl GenericClient) -> Result<bool, QueueError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM transfers)";
    get(&client.query_one(sql, &[]).await?, 0)
}

fn insert(table: &Table) -> String {
    let Table { name, columns, added, .. } = table;
    let mut names = table.column_names();
    let cast = |(name, kind): &(&str, Kind)| match kind {
        Kind::Int | Kind::Label => format!("v.{name}::int"),
        Kind::Small => format!("v.{name}::smallint"),
        Kind::Bool => format!("v.{name} <> 0"),
        Kind::Big | Kind::Text | Kind::Bytes => format!("v.{name}"),
    };
    let mut values: Vec<String> = columns.iter().map(cast).collect();
    let array = |(at, (_, kind)): (usize, &(&str, Kind))| match kind {
        Kind::Text => format!("${}::text[]", at + 1),
        Kind::Bytes => format!("${}::bytea[]", at + 1),
        _ => format!("${}::bigint[]", at + 1),
    };
    let arrays: Vec<String> = columns.iter().enumerate().map(array).collect();
    let of = names.clone();
    if let Some((column, value)) = added {
        names = format!("{names}, {column}");
        values.push((*value).to_owned());
    }
    format!(
        "INSERT INTO {name} ({names}) SELECT {} FROM unnest({}) AS v ({of})",
        values.join(", "),
        arrays.join(", ")
    )
}

fn broken(text: &str) -> QueueError {
    QueueError::Broken(text.into())
}
