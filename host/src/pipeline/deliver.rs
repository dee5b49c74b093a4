//! Send what was signed, byte for byte. The only stage that dials out.

use std::sync::Arc;

use http::Request;
use http_body_util::Full;

use super::Outgoing;
use crate::attempt::{Fault, Response};
use crate::client::Client;
use crate::route::Route;

pub(super) async fn deliver(
    client: &Client,
    route: &Route,
    outgoing: Outgoing,
) -> Result<Response, Fault> {
    let mut request = Request::new(Full::new(outgoing.body));
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = route.endpoint.uri.clone();
    *request.headers_mut() = Arc::unwrap_or_clone(outgoing.headers);
    client.send(request, route.endpoint.timeout).await
}
