//! Auth plugins add their headers. They come last: what they see is what is sent.

use super::Outgoing;
use crate::attempt::Fault;
use crate::plugin::OutgoingView;
use crate::route::Route;

pub(super) async fn sign(route: &Route, outgoing: &mut Outgoing) -> Result<(), Fault> {
    for auth in &route.auths {
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
