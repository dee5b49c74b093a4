//! Writing down what became of deliveries in hand.

use rusqlite::{Statement, params};

use super::Store;
use crate::attempt::{Attempt, Fault};
use crate::clock::UnixMs;
use crate::delivery::{DeliveryId, Next};
use crate::queue::values::{signed, status_number};
use crate::queue::writer::Fact;
use crate::queue::{Made, QueueError, Settlement};

const ATTEMPT: &str = "INSERT INTO attempts
                           (delivery, number, started, duration_us, outcome, status_code,
                            error_code, error, method, url, headers, body, data_at, excerpt,
                            snapshot, plugins)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                            ?15, ?16)
                       ON CONFLICT DO NOTHING";
const ATTEMPTED: &str = "UPDATE deliveries SET leased = 0, status = ?2, due = ?3, attempts = ?4,
                             status_code = ?5, error = ?6 WHERE id = ?1";
const UNATTEMPTED: &str = "UPDATE deliveries SET leased = 0, status = ?2, due = ?3,
                               error = coalesce(?4, error) WHERE id = ?1";
const RELEASED: &str = "UPDATE deliveries SET leased = 0 WHERE id = ?1";

impl Store {
    /// All of them, by statements that are taken once.
    pub(super) fn settle(&self, facts: &[Fact]) -> Result<(), QueueError> {
        let mut attempt = self.connection.prepare_cached(ATTEMPT)?;
        let mut attempted = self.connection.prepare_cached(ATTEMPTED)?;
        for fact in facts {
            match fact {
                Fact::Settled(settled) => {
                    let Settlement { delivery, made, next, .. } = &settled.settlement;
                    let id = signed(delivery.0);
                    let status = status_number(next.status());
                    let due = signed(due(&settled.settlement).0);
                    match made {
                        Made::Attempt(made) => {
                            write_attempt(&mut attempt, *delivery, made)?;
                            let code = made.response.as_ref().map(|it| it.status);
                            let error = made.fault.as_ref().map(ToString::to_string);
                            attempted.execute(params![
                                id,
                                status,
                                due,
                                made.number,
                                code,
                                error
                            ])?;
                        }
                        Made::Nothing(fault) => {
                            let error = fault.as_ref().map(Fault::to_string);
                            let mut statement = self.connection.prepare_cached(UNATTEMPTED)?;
                            statement.execute(params![id, status, due, error])?;
                        }
                    }
                }
                Fact::Released(id, _) => {
                    self.connection.prepare_cached(RELEASED)?.execute([signed(id.0)])?;
                }
            }
        }
        Ok(())
    }
}

fn write_attempt(
    statement: &mut Statement<'_>,
    delivery: DeliveryId,
    attempt: &Attempt,
) -> Result<(), QueueError> {
    let request = attempt.request.as_ref();
    let (body, data_at) = request.map(|it| it.body.columns()).unwrap_or_default();
    let response = attempt.response.as_ref();
    let (code, message) = match &attempt.fault {
        Some(fault) => (Some(&fault.code), Some(&fault.message)),
        None => (None, None),
    };
    statement.execute(params![
        signed(delivery.0),
        attempt.number,
        signed(attempt.started.0),
        i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
        attempt.outcome.as_str(),
        response.map(|it| it.status),
        code,
        message,
        request.map(|it| it.method.as_str()),
        request.map(|it| &*it.url),
        request.map(|it| &*it.headers),
        body,
        data_at,
        response.map(|it| &*it.excerpt),
        signed(attempt.snapshot),
        attempt.plugins,
    ])?;
    Ok(())
}

/// When a delivery goes on; of one that has ended, when it did.
fn due(settlement: &Settlement) -> UnixMs {
    match settlement.next {
        Next::WaitUntil(at) => at,
        _ => settlement.now,
    }
}
