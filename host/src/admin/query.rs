//! What a request asks for: parameters that are described, or a problem that says
//! which one is wrong and what it should be.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;

use super::{PAGE_DEFAULT, PAGE_MAX};
use crate::clock::{LATEST, UnixMs};
use crate::config::nearest;
use crate::problem::HttpProblem;

/// Query parameters; one that is not described is refused.
pub(super) struct Asked<T>(pub(super) T);

/// A longer value matches nothing that is kept.
const VALUE_BYTES_MAX: usize = 4096;

impl<T, S> FromRequestParts<S> for Asked<T>
where
    T: DeserializeOwned + IntoParams,
    S: Send + Sync,
{
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpProblem> {
        let bad = |error: axum::extract::rejection::QueryRejection| {
            HttpProblem::bad_request(error.body_text())
        };
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(bad)?.0;
        let known = T::into_params(|| Some(ParameterIn::Query));
        for (name, value) in &pairs {
            if !known.iter().any(|it| it.name == *name) {
                let names = || known.iter().map(|it| it.name.as_str());
                let hint = match nearest(name, names()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
                };
                let detail = format!("unknown parameter `{name}`: {hint}");
                return Err(HttpProblem::bad_request(detail));
            }
            if value.len() > VALUE_BYTES_MAX {
                let detail = format!("{name} is longer than {VALUE_BYTES_MAX} bytes");
                return Err(HttpProblem::bad_request(detail));
            }
        }
        Ok(Self(Query::<T>::try_from_uri(&parts.uri).map_err(bad)?.0))
    }
}

/// Says of a parameter what it should have been.
pub(super) fn wrong(name: &str, value: &str, wanted: &str) -> HttpProblem {
    HttpProblem::bad_request(format!("{name}={value:?} is not {wanted}"))
}

/// A parameter that means something more than its text.
pub(super) fn parsed<T>(
    name: &str,
    value: Option<&String>,
    wanted: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, HttpProblem> {
    match value {
        None => Ok(None),
        Some(value) => parse(value).map(Some).ok_or_else(|| wrong(name, value, wanted)),
    }
}

/// RFC 3339; what lies outside of what ids can tell is the first or the last moment.
pub(super) fn moment(name: &str, value: Option<&String>) -> Result<Option<UnixMs>, HttpProblem> {
    parsed(name, value, "an RFC 3339 time", |text| {
        let ns = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        let ms = u64::try_from(ns.div_euclid(1_000_000).max(0)).ok()?;
        Some(UnixMs(ms).min(LATEST))
    })
}

/// How many rows.
pub(super) fn limit(value: Option<&String>) -> Result<usize, HttpProblem> {
    let wanted = format!("a number from 1 to {PAGE_MAX}");
    let limit = parsed("limit", value, &wanted, |text| {
        text.parse().ok().filter(|it| (1..=PAGE_MAX).contains(it))
    })?;
    Ok(limit.unwrap_or(PAGE_DEFAULT))
}
