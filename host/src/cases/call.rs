//! A case of a platform's API: one request, with a caller who has no subscriptions yet
//! or with none, and what is answered. Everything that is made is taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::file::ReceiveCase;
use super::made::Made;
use super::ready::inbound;
use crate::plugin::{Api, Component, Inbound, Meter};
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

/// A request to a plugin's API, ready to be made.
pub(super) struct Asked<'a> {
    api: Api,
    request: Arc<Inbound>,
    caller: Option<&'a CallerCase>,
    component: &'a Component,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        component: &'a Arc<Component>,
        case: &'a CallCase,
        meter: &Arc<Meter>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let api = Api::of(component).map_err(anyhow::Error::msg)?.measured_by(meter);
        let request = Arc::new(inbound(&case.request, folder)?);
        Ok(Self { api, request, caller: case.caller.as_ref(), component })
    }

    /// What the plugin's API answers.
    pub(super) async fn answered(&self) -> anyhow::Result<Made> {
        let caller = self.caller.map(|it| Arc::new(self.caller(it)));
        let answered = self.api.answer(self.request.clone(), caller).await;
        let answered = answered.map_err(|fault| anyhow::anyhow!("{fault}"))?;
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answered.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        Ok(Made::Response {
            status: answered.status.as_u16(),
            headers: headers.collect(),
            body: answered.body,
        })
    }

    fn caller(&self, case: &CallerCase) -> Caller {
        let number = AtomicU64::new(0);
        Caller {
            tenant: case.tenant.as_str().into(),
            name: case.name.as_str().into(),
            platform: self.component.name().into(),
            kept: Vec::new(),
            notes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            now: self.request.time,
            next: Box::new(move || {
                let number = number.fetch_add(1, Ordering::Relaxed) + 1;
                (SubscriptionId(number.into()), number)
            }),
            check: Box::new(|_| Vec::new()),
        }
    }
}
