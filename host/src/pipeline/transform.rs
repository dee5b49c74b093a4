//! Event → message. Without a transform the data goes out byte for byte.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};

use super::{Outgoing, WEBHOOK_ID, header_value};
use crate::attempt::Fault;
use crate::clock::UnixMs;
use crate::event::{Event, MEDIA_TYPE};
use crate::plugin::EventView;
use crate::route::Route;

/// What every request carries.
const PLUGPOST: HeaderValue =
    HeaderValue::from_static(concat!("Plugpost/", env!("CARGO_PKG_VERSION")));

/// The request that the route's transforms make of an event.
pub(super) async fn shape(
    route: &Route,
    event: &Arc<Event>,
    time: UnixMs,
) -> Result<Outgoing, Fault> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(USER_AGENT, PLUGPOST);
    if let Some(id) = header_value(&event.id.text()) {
        headers.insert(WEBHOOK_ID, id);
    }
    for (name, value) in &route.headers {
        headers.insert(name, value.clone());
    }
    if let Some(media_type) = event.attribute(MEDIA_TYPE).and_then(header_value) {
        headers.insert(CONTENT_TYPE, media_type);
    }
    let mut outgoing = Outgoing {
        event: event.clone(),
        time,
        method: Method::POST,
        url: route.endpoint.url.clone(),
        headers: Arc::new(headers),
        body: event.data.clone(),
    };
    for (at, transform) in route.transforms.iter().enumerate() {
        let made = outgoing.headers.get(CONTENT_TYPE).filter(|_| at > 0);
        let media_type = made.and_then(|it| it.to_str().ok()).map(Arc::from);
        let view = EventView { event: event.clone(), data: outgoing.body.clone(), media_type };
        let message = transform.apply(view).await?;
        outgoing.method = message.method;
        outgoing.set_headers(message.headers)?;
        if let Some(body) = message.body {
            outgoing.body = body;
        }
    }
    Ok(outgoing)
}
