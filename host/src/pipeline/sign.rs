//! Auth plugins add their headers. They come last: what they see is what is sent.

use super::Outgoing;
use crate::attempt::Fault;
use crate::plugin::{Named, OutgoingView};
use crate::route::Route;

pub(super) async fn sign(route: &Route, outgoing: &mut Outgoing) -> Result<(), Fault> {
    for auth in &route.auths {
        let named = Named {
            id: &outgoing.event.id.text(),
            time: outgoing.time,
            method: &outgoing.method,
            url: &outgoing.url,
            body: &outgoing.body,
        };
        if let Some(headers) = auth.ruled(named) {
            outgoing.set_headers(headers?)?;
            continue;
        }
        let view = OutgoingView {
            event: outgoing.event.clone(),
            time: outgoing.time,
            method: outgoing.method.clone(),
            url: outgoing.url.clone(),
            headers: outgoing.headers.clone(),
            body: outgoing.body.clone(),
        };
        outgoing.set_headers(auth.sign(view).await?)?;
    }
    Ok(())
}
