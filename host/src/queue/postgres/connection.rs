//! A session with the database: opened, prepared for, and noticed when it is gone.

use std::collections::HashMap;

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket, Statement};

use super::address::{Address, Tls};
use crate::queue::QueueError;

/// A session. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    /// Moves the bytes; ended by hand because an open pipeline would keep it.
    driver: JoinHandle<()>,
}

/// What every session begins with. Statements that hang are ended by the server, and so is
/// a transaction whose node was stopped in the middle of it: others wait for its locks.
const BEGIN: &str = "
    SET search_path TO plugpost;
    SET synchronous_commit TO on;
    SET statement_timeout TO '30s';
    SET lock_timeout TO '10s';
    SET idle_in_transaction_session_timeout TO '5s';
    SET jit TO off";

/// Takes what the server says unasked.
pub(super) type Told = Box<dyn FnMut(AsyncMessage) + Send>;

impl Session {
    pub(super) async fn open(address: &Address) -> Result<Self, QueueError> {
        Self::open_with(address, Box::new(|_| {})).await
    }

    pub(super) async fn open_with(address: &Address, told: Told) -> Result<Self, QueueError> {
        let (client, driver) = match &address.tls {
            Tls::Off(tls) => connect(address, *tls, told).await?,
            Tls::On(tls) => connect(address, tls.clone(), told).await?,
        };
        let session = Self { client, statements: HashMap::new(), driver };
        session.client.batch_execute(BEGIN).await?;
        Ok(session)
    }

    /// The statement, prepared once.
    pub(super) async fn prepared(&mut self, sql: &'static str) -> Result<Statement, QueueError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn connect<T>(
    address: &Address,
    tls: T,
    mut told: Told,
) -> Result<(Client, JoinHandle<()>), QueueError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection): (Client, Connection<Socket, T::Stream>) =
        address.config.connect(tls).await.map_err(|error| unreachable(address, &error))?;
    let driver = tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|it| connection.poll_message(it)).await {
            match message {
                Ok(message) => told(message),
                Err(error) => {
                    tracing::debug!(%error, "a session with PostgreSQL has ended");
                    return;
                }
            }
        }
    });
    Ok((client, driver))
}

/// Why there is no session, and what to do about it.
fn unreachable(address: &Address, error: &tokio_postgres::Error) -> QueueError {
    let fix = match error.code() {
        Some(&(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION)) => {
            "look at the user and the password in store.url"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            "create the database, or name another in store.url"
        }
        Some(&SqlState::TOO_MANY_CONNECTIONS) => "a node takes up to 6 connections",
        Some(&SqlState::CANNOT_CONNECT_NOW) => "it is starting or stopping",
        Some(_) => "the server has refused",
        None => "is it running there, and are host, port and sslmode in store.url right?",
    };
    let error = super::failed(error);
    QueueError::Broken(format!("{address}: {}: {fix}", super::words(&error)).into())
}

/// A column of one row; the schema says that it is there.
pub(super) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    at: usize,
) -> Result<T, QueueError> {
    Ok(row.try_get(at)?)
}
