//! Pages: rows and the cursor of the next page.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::query::limit;
use crate::problem::HttpProblem;

/// A page.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub(super) next: Option<String>,
}

impl<T> Page<T> {
    /// Of one row more than asked for, which tells whether there is a next page.
    pub(super) fn of(mut rows: Vec<T>, limit: usize, id: impl Fn(&T) -> String) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(id);
        Self { data: rows, next }
    }
}

/// Which page of a list that goes by name.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ByName {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<String>,
}

impl ByName {
    /// The page of these items.
    pub(super) fn page<I, T>(
        &self,
        items: impl IntoIterator<Item = I>,
        name: impl Fn(&I) -> &str,
        row: impl Fn(&I) -> T,
    ) -> Result<Page<T>, HttpProblem> {
        let limit = limit(self.limit.as_ref())?;
        let mut items: Vec<I> = items.into_iter().collect();
        items.retain(|it| self.cursor.as_deref().is_none_or(|cursor| name(it) > cursor));
        items.sort_by(|a, b| name(a).cmp(name(b)));
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|it| name(it).to_owned());
        Ok(Page { data: items.iter().map(row).collect(), next })
    }
}
