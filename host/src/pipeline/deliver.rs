//! Send what was signed, byte for byte. The only stage that dials out: for a
//! token, where the endpoint wants one, and to the endpoint.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use http_body_util::Full;
use tokio::time::Instant;

use super::Outgoing;
use crate::attempt::{Fault, Response, SentRequest};
use crate::endpoint::Endpoint;
use crate::route::Route;
use crate::traces::Open;

/// Within the endpoint's timeout, the token's request included. What is sent is
/// left for the log before it goes.
pub(super) async fn deliver(
    route: &Route,
    mut outgoing: Outgoing,
    open: &Open,
    log: &mut Option<SentRequest>,
) -> Result<Response, Fault> {
    let endpoint = &route.endpoint;
    let deadline = Instant::now() + endpoint.timeout;
    open.told_by(Arc::make_mut(&mut outgoing.headers));
    *log = Some(outgoing.for_the_log());
    let mut token = None;
    if let Some(grant) = &endpoint.grant {
        // Boxed, because every attempt would take the room that these few need.
        let good = Box::pin(grant.token(deadline)).await?;
        Arc::make_mut(&mut outgoing.headers).insert(AUTHORIZATION, good.header.clone());
        if let Some(log) = log {
            log.headers = outgoing.headers_for_the_log();
        }
        token = Some((grant, good));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let result = endpoint.client.send(request(endpoint, outgoing), left).await;
    if let (Some((grant, token)), Ok(response)) = (token, &result) {
        grant.answered(&token, response.status);
    }
    result
}

fn request(endpoint: &Endpoint, outgoing: Outgoing) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(outgoing.body));
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = endpoint.uri.clone();
    *request.headers_mut() = Arc::unwrap_or_clone(outgoing.headers);
    request
}
