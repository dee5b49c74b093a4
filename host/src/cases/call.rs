//! A case of a platform's API: one request, with a caller who has no subscriptions yet
//! or with none, and what is answered. Everything that is made is taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::file::ReceiveCase;
use super::inbound;
use super::made::Made;
use crate::plugin::{Api, Component, Meter};
use crate::subscription::SubscriptionId;
use crate::subscription::desk::Caller;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallCase {
    request: ReceiveCase,
    caller: Option<CallerCase>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerCase {
    tenant: String,
    /// Of the token.
    name: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResponseCase {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_file: Option<String>,
}

/// What the plugin's API answers.
pub(super) async fn called(
    component: &Arc<Component>,
    case: &CallCase,
    meter: &Arc<Meter>,
    folder: &Path,
) -> anyhow::Result<Made> {
    let api = Api::of(component).map_err(anyhow::Error::msg)?.measured_by(meter);
    let request = Arc::new(inbound(&case.request, folder)?);
    let now = request.time;
    let number = AtomicU64::new(0);
    let caller = case.caller.as_ref().map(|it| Caller {
        tenant: it.tenant.as_str().into(),
        name: it.name.as_str().into(),
        platform: component.name().into(),
        kept: Vec::new(),
        notes: BTreeMap::new(),
        secrets: BTreeMap::new(),
        now,
        next: Box::new(move || {
            let number = number.fetch_add(1, Ordering::Relaxed) + 1;
            (SubscriptionId(number.into()), number)
        }),
        check: Box::new(|_| Vec::new()),
    });
    let answered = api.answer(request, caller.map(Arc::new)).await;
    let answered = answered.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answered.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    Ok(Made::Response {
        status: answered.status.as_u16(),
        headers: headers.collect(),
        body: answered.body,
    })
}
