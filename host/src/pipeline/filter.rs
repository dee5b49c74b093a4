//! Does this route want this event? Pure guests decide; all must accept.

use std::sync::Arc;

use crate::attempt::Fault;
use crate::event::Event;
use crate::plugin::EventView;
use crate::route::Route;

/// True when a filter declines. A filter that fails has not declined.
pub(super) async fn declines(route: &Route, event: &Arc<Event>) -> Result<bool, Fault> {
    for filter in &route.filters {
        let view = EventView { event: event.clone(), data: event.data.clone(), media_type: None };
        if !filter.accept(view).await? {
            return Ok(true);
        }
    }
    Ok(false)
}
