//! The PostgreSQL store: one database, many nodes. What it keeps is what
//! [`sqlite`](super::sqlite) keeps; what differs follows from there being others.
//!
//! A process is a [`node`]: it has a number, which is part of the ids it makes, and a
//! lease of its own, which stands in every delivery it has in hand. Every transaction that
//! writes holds that lease's row; whoever finds the row gone has been given up by the
//! others, and writes nothing under it. No transaction is open while HTTP runs.
//!
//! - [`address`] is the URL, [`connection`] a session with the database.
//! - [`schema`] makes the tables and their partitions, [`prune`] drops them.
//! - [`batch`] writes what has gathered, in a few statements of many rows; [`ask`] does
//!   what people and lanes ask for one by one; [`waiting`] says what is due.
//! - [`lanes`] says which node has which lane.
//! - [`watch`] is told by the other nodes, renews, and takes over from the dead.
//! - [`log`] and [`search`] read; [`subscriptions`] keeps those; [`import`] fills an empty one.

mod address;
mod ask;
mod batch;
mod connection;
mod import;
mod labels;
mod lanes;
pub(super) mod log;
mod node;
mod nodes;
mod prune;
mod rows;
mod schema;
mod search;
mod subscriptions;
mod waiting;
mod watch;
mod writing;

pub(crate) use address::Address;
pub(super) use import::Import;
pub(super) use schema::DAY;
pub(super) use writing::Store;

use tokio_postgres::error::SqlState;

use super::QueueError;
use super::subscriptions::KeptSecret;
use crate::subscription::SubscriptionId;
use crate::vault::Sealed;

/// As [`subscriptions::reseal`], with a session of its own.
pub(super) async fn reseal(
    address: &Address,
    seal: impl FnMut(SubscriptionId, &KeptSecret) -> Result<Option<Sealed>, String>,
) -> Result<(usize, usize), QueueError> {
    let mut session = connection::Session::open(address).await?;
    schema::migrate(&mut session).await?;
    subscriptions::reseal(&mut session, seal).await
}

/// What went wrong, with the server's own words: the library's are only `db error`.
fn failed(error: &tokio_postgres::Error) -> QueueError {
    let Some(told) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(it) = source {
            text = format!("{text}: {it}");
            source = it.source();
        }
        return QueueError::Broken(format!("PostgreSQL: {text}").into());
    };
    let text = format!("PostgreSQL: {} ({})", told.message(), told.code().code());
    match told.code() {
        &SqlState::DISK_FULL => QueueError::Full(text.into()),
        _ => QueueError::Broken(text.into()),
    }
}

/// Of an error of the store, what is not said twice when it is part of another.
fn words(error: &QueueError) -> &str {
    match error {
        QueueError::Broken(text) | QueueError::Full(text) => text,
        _ => "",
    }
}

impl From<tokio_postgres::Error> for QueueError {
    fn from(error: tokio_postgres::Error) -> Self {
        failed(&error)
    }
}
