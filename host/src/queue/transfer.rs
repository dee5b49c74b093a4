//! A SQLite store moved into an empty PostgreSQL one: every row of every table below, under
//! its own id. What only serves one store (blocks of columns to search, leases) is made anew
//! by the other.
//!
//! Rows go over in batches; until the last is there, the database says that it is being
//! filled, and no engine starts on it. Interrupted, it is begun again from the start: in
//! between an engine may have gone on with the file.

use std::path::Path;

use tokio::sync::mpsc;

use super::postgres::{self, Address, Import};
use super::sqlite::Export;
use super::{QueueError, values};
use crate::clock;

/// A table, as both stores have it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// Its rows in the order in which they were made.
    pub(super) order: &'static str,
    /// A column that only PostgreSQL has, and what is in it.
    pub(super) added: Option<(&'static str, &'static str)>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Big,
    Int,
    Small,
    Bool,
    /// The number of a name: another in each store.
    Label,
    Text,
    Bytes,
}

use Kind::{Big, Bool, Bytes, Int, Label, Small, Text};

/// What is moved, in this order.
pub(super) const TABLES: &[Table] = &[
    Table::new(
        "events",
        &[
            ("id", Big),
            ("source", Label),
            ("type", Text),
            ("subject", Text),
            ("time", Big),
            ("attributes", Text),
            ("data", Bytes),
            ("data_pruned", Bool),
        ],
        "id",
    ),
    Table {
        // The order of a key is that of the ids in a file.
        added: Some(("place", "CASE WHEN key IS NOT NULL THEN nextval('places') END")),
        ..Table::new(
            "deliveries",
            &[
                ("id", Big),
                ("event", Big),
                ("route", Label),
                ("endpoint", Label),
                ("status", Small),
                ("due", Big),
                ("attempts", Int),
                ("status_code", Int),
                ("error", Text),
                ("key", Big),
            ],
            "id",
        )
    },
    Table::new(
        "attempts",
        &[
            ("delivery", Big),
            ("number", Int),
            ("started", Big),
            ("duration_us", Big),
            ("outcome", Text),
            ("status_code", Int),
            ("error_code", Text),
            ("error", Text),
            ("method", Text),
            ("url", Text),
            ("headers", Text),
            ("body", Bytes),
            ("data_at", Int),
            ("excerpt", Bytes),
            ("snapshot", Big),
            ("plugins", Text),
        ],
        "delivery, number",
    ),
    Table::new("seen", &[("key", Bytes), ("body", Bytes), ("event", Big)], "key"),
    Table::new(
        "endpoints",
        &[
            ("route", Label),
            ("url", Label),
            ("failing_since", Big),
            ("disabled_since", Big),
            ("reason", Text),
        ],
        "route, url",
    ),
    Table::new(
        "subscriptions",
        &[
            ("id", Bytes),
            ("number", Big),
            ("tenant", Text),
            ("made_by", Text),
            ("form", Text),
            ("created", Big),
            ("updated", Big),
        ],
        "id",
    ),
    Table::new(
        "sealed",
        &[
            ("owner", Bytes),
            ("purpose", Text),
            ("name", Text),
            ("version", Int),
            ("until", Big),
            ("key", Text),
            ("value", Bytes),
        ],
        "owner, purpose, name, version",
    ),
    Table::new("numbers", &[("tenant", Text), ("last", Big)], "tenant"),
    Table::new(
        "notes",
        &[("tenant", Text), ("plugin", Text), ("name", Text), ("value", Text)],
        "tenant, plugin, name",
    ),
    Table::new("progress", &[("name", Text), ("id", Big)], "name"),
];

impl Table {
    const fn new(
        name: &'static str,
        columns: &'static [(&'static str, Kind)],
        order: &'static str,
    ) -> Self {
        Self { name, columns, order, added: None }
    }

    pub(super) fn column_names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// Values of one column.
#[derive(Debug)]
pub(super) enum Values {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

/// Some rows of a table, by column.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) table: &'static Table,
    pub(super) columns: Vec<Values>,
    pub(super) rows: u64,
}

/// What a batch holds at most, but for the last row of it.
pub(super) const BATCH_ROWS: u64 = 2_000;
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// Batches that are read while one is written.
const BATCHES_AHEAD: usize = 1;

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) table: &'static str,
    pub(crate) rows: u64,
    pub(crate) of: u64,
}

/// What there was to move.
#[derive(Debug)]
pub(crate) struct Transferred {
    /// Rows of each table.
    pub(crate) tables: Vec<Moved>,
    /// What subscriptions' secrets are sealed with.
    pub(crate) keys: Vec<String>,
}

/// Move all of a file that no engine has open into a database that no engine uses.
pub(crate) async fn transfer(
    from: &Path,
    to: &Address,
    mut told: impl FnMut(Moved),
) -> Result<Transferred, QueueError> {
    let export = Export::open(from)?;
    let now = clock::now();
    let last = clock::ms_of_id(export.last_id()?);
    // Nodes do not follow ids that are farther ahead: a new one could be one that is moved.
    if last > now.plus(clock::AHEAD_MAX) {
        let text = format!("the newest row was made at {last}, and it is {now}: wait until then");
        return Err(QueueError::Broken(text.into()));
    }
    let statuses = export.statuses()?;
    let keys = export.keys()?;
    let mut tables = Vec::new();
    for table in TABLES {
        tables.push(Moved { table: table.name, rows: 0, of: export.count(table)? });
    }
    let mut import = Import::begin(to).await?;
    import.learn(export.labels()?).await?;
    import.make_days(&export.days(postgres::DAY)?, now).await?;

    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let reading = tokio::task::spawn_blocking(move || export.read(&sender));
    while let Some(batch) = batches.recv().await {
        let Batch { table, rows, .. } = batch;
        import.write(batch).await?;
        if let Some(moved) = tables.iter_mut().find(|it| it.table == table.name) {
            moved.rows += rows;
            told(*moved);
        }
    }
    let read = reading.await;
    // Held until here: the file stays what it was.
    let _export = read.map_err(|error| QueueError::Broken(error.to_string().into()))??;

    for moved in &tables {
        let there = import.count(moved.table).await?;
        differ(moved.table, moved.of, there)?;
    }
    let there = import.statuses().await?;
    for status in 0..=3 {
        let count = |of: &[(i64, u64)]| of.iter().find(|it| it.0 == status).map_or(0, |it| it.1);
        let name = format!("{} deliveries", values::status_of(status).as_str());
        differ(&name, count(&statuses), count(&there))?;
    }
    import.end().await?;
    Ok(Transferred { tables, keys })
}

fn differ(what: &str, here: u64, there: u64) -> Result<(), QueueError> {
    if here == there {
        return Ok(());
    }
    let text = format!("{here} {what} were to be moved, and {there} are there: begin again");
    Err(QueueError::Broken(text.into()))
}
