//! Sending a delivery again, and ending one that waits.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::log::{delivery_id, find, no_such};
use super::session::Caller;
use crate::clock;
use crate::delivery::DeliveryId;
use crate::engine::Engine;
use crate::problem::HttpProblem;
use crate::queue::Cancelled;

/// Which delivery.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path")]
pub(super) struct DeliveryPath {
    /// A delivery's id.
    #[param(pattern = "^dlv_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    id: String,
}

/// How to send again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Resend {
    /// Give the event a new id, so that receivers do not take it for a duplicate.
    as_new: bool,
}

/// What a resend, or a test, made.
#[derive(Serialize, ToSchema)]
pub(super) struct Resent {
    /// The new delivery, `dlv_…`
    pub(super) id: String,
    /// `evt_…`
    pub(super) event_id: String,
}

/// Deliver the same event again, as a new delivery
#[utoipa::path(post, path = "/v1/deliveries/{id}/resend", tag = "steer", params(DeliveryPath),
    request_body(content = Option<Resend>),
    responses(
        (status = 202, description = "The new delivery is on disk", body = Resent),
        (status = 404, description = "There is none of that id"),
        (status = 410, description = "The event's data was pruned"),
        (status = 413, description = "The body is too large"),
    ))]
pub(super) async fn resend(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Resent>), HttpProblem> {
    let id = delivery_id(&id)?;
    let Resend { as_new } = json_or_default(&body)?;
    is_own(&engine, &caller, id).await?;
    let resent = engine.queue.resend(id, as_new, clock::now()).await?;
    let answer = Resent { id: resent.delivery.to_string(), event_id: resent.event.to_string() };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// What a cancelled delivery is now.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelledDelivery {
    id: String,
    /// `dead`
    status: &'static str,
}

/// End a delivery that waits: it becomes dead, with the error `cancelled`
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "steer", params(DeliveryPath),
    responses(
        (status = 200, description = "It is dead now", body = CancelledDelivery),
        (status = 404, description = "There is none of that id"),
        (status = 409, description = "It has ended, or an attempt is under way"),
    ))]
pub(super) async fn cancel(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<CancelledDelivery>, HttpProblem> {
    let delivery = delivery_id(&id)?;
    is_own(&engine, &caller, delivery).await?;
    let conflict = |detail: &str| Err(HttpProblem::new(StatusCode::CONFLICT, detail));
    match engine.queue.cancel(delivery, clock::now()).await? {
        Cancelled::Done => Ok(Json(CancelledDelivery { id, status: "dead" })),
        Cancelled::InHand => conflict("an attempt is under way, or about to be: try again"),
        Cancelled::Ended(status) => conflict(&format!("it has ended already: {}", status.as_str())),
        Cancelled::Unknown => Err(no_such("delivery")),
    }
}

/// Is the delivery the caller's affair? Who sees everybody's need not be asked.
async fn is_own(engine: &Engine, caller: &Caller, id: DeliveryId) -> Result<(), HttpProblem> {
    match caller.tenant {
        None => Ok(()),
        Some(_) => find(engine, caller, id).await.map(drop),
    }
}

/// A body of JSON, whatever it says of itself.
pub(super) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, HttpProblem> {
    serde_json::from_slice(body)
        .map_err(|error| HttpProblem::bad_request(format!("the body: {error}")))
}

/// The same where there may be no body, or null.
pub(super) fn json_or_default<T: serde::de::DeserializeOwned + Default>(
    body: &[u8],
) -> Result<T, HttpProblem> {
    match body.is_empty() {
        true => Ok(T::default()),
        false => json::<Option<T>>(body).map(Option::unwrap_or_default),
    }
}
