//! `[traces]` of `plugpost.toml`: the collector that spans are sent to.

use std::path::Path;

use http::{HeaderName, HeaderValue, Uri};

use super::document::Table;
use super::route::parse_url;
use super::secret::{self, SecretFrom};

/// Where spans go, and how many.
#[derive(Debug)]
pub(crate) struct TracesKeys {
    /// With its path: `http://localhost:4318/v1/traces`.
    pub(crate) url: Uri,
    /// Of the traces that begin here; one that began elsewhere is measured if the
    /// one before says so.
    pub(crate) share: f64,
    /// What a hosted collector wants.
    pub(crate) headers: Vec<(String, SecretFrom)>,
}

impl TracesKeys {
    pub(super) fn read(root: &Table<'_, '_>, folder: &Path) -> Option<Self> {
        let traces = root.table("traces")?;
        let (table, at) = (traces.value, traces.at);
        let share = table.share("share").map_or(1.0, |it| it.value);
        let headers = secret::read_all(&table, "headers", folder);
        let mut said = Vec::new();
        for (name, versions) in headers {
            let header = name.value.parse::<HeaderName>();
            match (header, versions.into_iter().next()) {
                (Err(_), _) => table.problem(name.at, format!("`{}` is not a header", name.value)),
                // That it could not be read has been said.
                (_, None) => {}
                (_, Some(value)) if HeaderValue::from_str(&value.text).is_err() => {
                    table.problem(value.at, "this cannot be the value of a header");
                }
                (Ok(_), Some(value)) => said.push((name.value, value)),
            }
        }
        let url = table.parsed("url", parse_url);
        if !table.has("url") {
            table.problem(at, "traces go to a url such as \"http://localhost:4318/v1/traces\"");
        }
        Some(Self { url: url?.value, share, headers: said })
    }
}
