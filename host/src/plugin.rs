//! Plugins: what the rest of the host may ask of one. The only place that knows
//! of wasmtime; what it hands out are values and [`Fault`]s.
//!
//! [`component`] takes a file in and finds out what it is; [`compile`] compiles it;
//! [`runtime`] is the engine and keeps time; [`warm`] keeps instances; [`imports`] is what a
//! guest may call, [`events`] what it may ask of an event, [`signing`] what it may have done
//! with keys; [`secrets`] holds those; [`rules`] are headers it is not called for; this file
//! is one use of a plugin, [`Bound`].

mod api;
mod bindings;
mod calls;
mod clockwork;
mod compile;
mod component;
mod desk;
mod events;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzzed;
mod imports;
mod meter;
mod priority;
mod rules;
mod runtime;
mod said;
mod secrets;
mod side;
mod signing;
mod text;
mod warm;
mod wasi;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::attempt::Fault;
use bindings::exports::plugpost::plugin::{source, transform};
use bindings::plugpost::plugin::types as wit;
use imports::Input;
use rules::{Rules, Unmade};
use warm::{Given, Instance, Pool};

pub(crate) use api::{Answered, Api};
pub(crate) use calls::Calls;
pub(crate) use compile::{COMMAND as COMPILE_COMMAND, child as compile_child};
#[cfg(feature = "fuzz")]
pub(crate) use component::Description;
pub(crate) use component::{Component, Role, SecretNeed};
pub(crate) use imports::{EventView, Inbound, OutgoingView};
pub(crate) use meter::{Meter, Spent};
pub(crate) use rules::Named;
pub(crate) use runtime::{Limits, Runtime};
/// Why the engine for plugins did not start.
pub(crate) type RuntimeError = wasmtime::Error;
pub(crate) use secrets::{Encoding, Key, Secrets};

/// One use of a plugin: the component, its settings, and the secrets it is given.
#[derive(Clone)]
pub(crate) struct Bound {
    component: Arc<Component>,
    pool: Arc<Pool>,
    given: Given,
}

/// What a source plugin made of a request.
pub(crate) type Received = source::Received;
/// Why a source plugin did not take a request.
pub(crate) type Rejection = source::Rejection;
/// The bytes of a message or an event.
pub(crate) type Body = wit::Body;
/// What a plugin found wrong with its settings.
pub(crate) type Problem = wit::Problem;

/// What a transform made.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) method: http::Method,
    pub(crate) headers: Vec<OutHeader>,
    /// None: the body stays as it is.
    pub(crate) body: Option<Bytes>,
}

/// A header on its way out.
#[derive(Clone, Debug)]
pub(crate) struct OutHeader {
    pub(crate) name: http::HeaderName,
    pub(crate) value: http::HeaderValue,
}

impl Bound {
    /// Bind a component to settings (JSON text that fits its schema) and secrets.
    /// Fails when the plugin finds problems in the settings.
    pub(crate) fn new(
        component: Arc<Component>,
        settings: &str,
        secrets: Secrets,
    ) -> Result<Self, Unfit> {
        let pool = component.pool(settings)?;
        Ok(Self { component, pool, given: Given { secrets: Arc::new(secrets), meter: None } })
    }

    /// The same, with every call measured.
    pub(crate) fn measured_by(mut self, meter: &Arc<Meter>) -> Self {
        self.given.meter = Some(meter.clone());
        self
    }

    /// The same with these texts as secrets, where the plugin has them; others that it was
    /// given stay stand-ins.
    pub(crate) fn with_secrets(
        mut self,
        texts: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, String> {
        let mut keys = Vec::new();
        for need in &self.component.description().secrets {
            let decode = |text: &String| {
                let key = Key::decode(Zeroizing::new(text.clone()), need.encoding);
                key.map_err(|message| format!("secrets.{}: {message}", need.name))
            };
            let versions = match texts.get(&need.name) {
                Some(texts) => texts.iter().map(decode).collect::<Result<_, _>>()?,
                None if self.given.secrets.has(&need.name) => vec![Key::stand_in(1)],
                None => continue,
            };
            keys.push((need.name.as_str().into(), versions));
        }
        self.given.secrets = Arc::new(Secrets::new(keys));
        Ok(self)
    }

    /// The names of the secrets it may be given.
    pub(crate) fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.component.description().secrets.iter().map(|it| it.name.as_str())
    }

    /// `name@version`, for the log.
    pub(crate) fn label(&self) -> String {
        format!("{}@{}", self.component.name(), self.component.description().version)
    }

    /// The same component with the same settings? Secrets may differ.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pool, &other.pool)
    }

    /// An inbound request becomes events, or is rejected as the platform does.
    pub(crate) async fn receive(
        &self,
        request: Arc<Inbound>,
    ) -> Result<Result<Vec<Received>, Rejection>, Fault> {
        let mut received = self.call(Input::Inbound(request), Instance::receive).await?;
        self.measure(|| match &received {
            Ok(events) => events.iter().map(meter::of_event).sum(),
            Err(rejection) => rejection.message.len(),
        });
        if let Err(rejection) = &mut received {
            rejection.message = text::printable(&rejection.message, MESSAGE_BYTES_MAX).into();
        }
        Ok(received)
    }

    /// Does the filter let the event pass?
    pub(crate) async fn accept(&self, event: EventView) -> Result<bool, Fault> {
        let accepted = self.call(Input::Event(event), Instance::accept).await?;
        accepted.map_err(|failure| self.fault(failure))
    }

    /// The message a transform makes of an event.
    pub(crate) async fn apply(&self, event: EventView) -> Result<Message, Fault> {
        let made = self.call(Input::Event(event), Instance::apply).await?;
        let transform::Message { method, headers, body } =
            made.map_err(|failure| self.fault(failure))?;
        self.measure(|| method.len() + meter::of_headers(&headers) + meter::of_body(&body));
        Ok(Message {
            method: self.method(&method)?,
            headers: self.headers(headers)?,
            body: match body {
                Body::Unchanged => None,
                Body::Bytes(bytes) => Some(bytes.into()),
            },
        })
    }

    /// The headers that an auth plugin adds to a request by the rules it has written down;
    /// none when it is to be called.
    pub(crate) fn ruled(&self, named: Named<'_>) -> Option<Result<Vec<OutHeader>, Fault>> {
        self.pool.rules.as_ref().map(|rules| self.follow(rules, named))
    }

    fn follow(&self, rules: &Rules, named: Named<'_>) -> Result<Vec<OutHeader>, Fault> {
        rules.headers(&self.given.secrets, named).map_err(|unmade| match unmade {
            Unmade::Broken(message) => self.broken("plugin.header", &message),
            Unmade::NoSecret(secret) => {
                self.lacking("secret", format!("the secret {secret} is not configured"))
            }
            Unmade::Unsigned => self.lacking("key", "no version of the key can sign".into()),
        })
    }

    /// What the route may come to have.
    fn lacking(&self, code: &str, message: String) -> Fault {
        Fault::retry(format!("{}.{code}", self.component.name()), message)
    }

    /// The headers an auth plugin adds to a request when it is called.
    pub(crate) async fn sign(&self, request: OutgoingView) -> Result<Vec<OutHeader>, Fault> {
        let signed = self.call(Input::Outgoing(request), Instance::sign).await?;
        let headers = signed.map_err(|failure| self.fault(failure))?;
        self.measure(|| meter::of_headers(&headers));
        self.headers(headers)
    }

    fn measure(&self, output_bytes: impl FnOnce() -> usize) {
        if let Some(meter) = &self.given.meter {
            meter.add_output(output_bytes());
        }
    }

    fn call<T: Send + 'static>(
        &self,
        input: Input,
        role: fn(&mut Instance) -> wasmtime::Result<T>,
    ) -> impl Future<Output = Result<T, Fault>> {
        warm::call(&self.pool, &self.given, input, role)
    }

    fn fault(&self, failure: wit::Failure) -> Fault {
        let code = text::printable(&failure.code, CODE_BYTES_MAX);
        let message = text::printable(&failure.message, MESSAGE_BYTES_MAX);
        Fault {
            code: format!("{}.{code}", self.component.name()).into(),
            message: message.into(),
            retry: failure.retry,
        }
    }

    fn method(&self, method: &str) -> Result<http::Method, Fault> {
        match method {
            "POST" => Ok(http::Method::POST),
            "PUT" => Ok(http::Method::PUT),
            "PATCH" => Ok(http::Method::PATCH),
            "DELETE" => Ok(http::Method::DELETE),
            other => {
                Err(self.broken("plugin.method", &format!("{other:?} is no method for a message")))
            }
        }
    }

    /// Names and values that cannot harm the framing, secrets put in.
    fn headers(&self, headers: Vec<wit::Header>) -> Result<Vec<OutHeader>, Fault> {
        let headers = headers.into_iter().map(|it| self.header(it)).collect::<Result<_, _>>();
        headers.map_err(|message| self.broken("plugin.header", &message))
    }

    /// It returned what it may not. What is wrong with that may quote all of it.
    fn broken(&self, code: &str, message: &str) -> Fault {
        let message = text::printable(message, MESSAGE_BYTES_MAX);
        Fault::retry(code, format!("{}: {message}", self.component.name()))
    }

    fn header(&self, wit::Header { name, value }: wit::Header) -> Result<OutHeader, String> {
        let (text, sensitive) = text_of(&value, &self.given.secrets)?;
        checked_header(&name, &text, sensitive)
    }
}

/// The text of a header's value, and whether a secret is in it.
fn text_of<'a>(
    value: &'a wit::HeaderValue,
    secrets: &Secrets,
) -> Result<(Cow<'a, str>, bool), String> {
    let newest = |secret: &str| {
        secrets.newest(secret).ok_or_else(|| format!("there is no secret `{secret}`"))
    };
    Ok(match value {
        wit::HeaderValue::Text(text) => (text.into(), false),
        wit::HeaderValue::Secret(it) => ([&it.prefix, newest(&it.secret)?].concat().into(), true),
        wit::HeaderValue::Basic(it) if it.username.contains(':') => {
            return Err("a user name for Basic has no colon".into());
        }
        wit::HeaderValue::Basic(it) => {
            use base64::prelude::{BASE64_STANDARD, Engine as _};
            let pair = format!("{}:{}", it.username, newest(&it.password)?);
            (format!("Basic {}", BASE64_STANDARD.encode(pair)).into(), true)
        }
    })
}

/// A header that a plugin may set: it neither frames nor splits a request.
pub(crate) fn checked_header(
    name: &str,
    value: &str,
    sensitive: bool,
) -> Result<OutHeader, String> {
    let name = checked_name(name)?;
    let value = checked_value(&name, value, sensitive)?;
    Ok(OutHeader { name, value })
}

fn checked_name(name: &str) -> Result<http::HeaderName, String> {
    let name = http::HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not a header name"))?;
    if crate::client::frames_the_request(&name) {
        return Err(format!("a plugin cannot set the header `{name}`"));
    }
    Ok(name)
}

fn checked_value(
    name: &http::HeaderName,
    value: &str,
    sensitive: bool,
) -> Result<http::HeaderValue, String> {
    let mut value = http::HeaderValue::from_str(value)
        .map_err(|_| format!("the value of `{name}` has bytes that a header cannot hold"))?;
    value.set_sensitive(sensitive);
    Ok(value)
}

/// A code is a short name.
const CODE_BYTES_MAX: usize = 64;
/// Of what a guest says to a person.
const MESSAGE_BYTES_MAX: usize = 2 << 10;

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(&self.label()).finish()
    }
}

/// Why a component cannot be used so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The plugin found problems in its settings.
    #[error("the settings have problems")]
    Settings(Vec<Problem>),
    /// It did not even come to that.
    #[error("{0}")]
    Fault(Fault),
}
