//! The demo's receiver: a customer's server that checks what arrives.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};

use super::exchange::Exchange;
use crate::clock;
use crate::server::Listener;

/// What arrived.
#[derive(Debug)]
pub(super) struct Receipt {
    /// The exchange whose path it came to, or the path itself.
    pub(super) name: String,
    pub(super) webhook_id: String,
    pub(super) body_bytes: usize,
    pub(super) verified: Result<String, String>,
}

/// Larger bodies than any example has.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Listen where the exchanges say; every arrival is checked and reported.
pub(super) async fn start(
    exchanges: Vec<Exchange>,
    receipts: mpsc::UnboundedSender<Receipt>,
) -> anyhow::Result<SocketAddr> {
    let address = exchanges.first().context("there is no exchange")?.receive.address;
    let one_address = exchanges.iter().all(|it| it.receive.address == address);
    ensure!(one_address, "the exchanges name more than one receiver");
    let listener =
        Listener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let exchanges = Arc::new(exchanges);
    let answer = move |request| answer(exchanges.clone(), receipts.clone(), request);
    let (keep, stop) = watch::channel(false);
    tokio::spawn(async move {
        listener.serve(answer, stop).await;
        drop(keep);
    });
    Ok(address)
}

async fn answer(
    exchanges: Arc<Vec<Exchange>>,
    receipts: mpsc::UnboundedSender<Receipt>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|it| it.to_bytes());
    let body = body.unwrap_or_default();
    let path = parts.uri.path();
    let exchange = exchanges.iter().find(|it| it.receive.path == path);
    let verified = match exchange {
        Some(it) => it.receive.proof.check(&parts.headers, clock::now().0 / 1000, &body),
        None => Err(format!("nobody listens at {path}")),
    };
    let mut response = Response::new(Full::default());
    if verified.is_err() {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    }
    let id = parts.headers.get("webhook-id").and_then(|it| it.to_str().ok());
    let _ = receipts.send(Receipt {
        name: exchange.map_or_else(|| path.to_owned(), |it| it.name.clone()),
        webhook_id: id.unwrap_or_default().to_owned(),
        body_bytes: body.len(),
        verified,
    });
    response
}
