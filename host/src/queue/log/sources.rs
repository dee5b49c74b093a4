//! Whose events are seen: an event belongs to the tenant of its source.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::OWN_SOURCE_OF;

/// The sources whose events are looked at.
#[derive(Clone, Debug, Default)]
pub(crate) enum Sources {
    #[default]
    All,
    /// A tenant's.
    Only(BTreeSet<Arc<str>>),
    /// All but those of other tenants, and what the engine tells these.
    AllBut(BTreeSet<Arc<str>>),
}

impl Sources {
    pub(crate) fn takes(&self, source: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(source),
            Self::AllBut(names) => !names.contains(source) && !source.starts_with(OWN_SOURCE_OF),
        }
    }
}
