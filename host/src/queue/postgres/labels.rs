//! Names that repeat in every row, as small numbers. They come from files, not from
//! strangers, so there are few.

use std::collections::HashMap;
use std::sync::Arc;

use super::connection::{Session, get};
use crate::queue::QueueError;

/// Those that this process has met.
#[derive(Debug, Default)]
pub(super) struct Labels(HashMap<Arc<str>, i32>);

impl Labels {
    /// Learn the numbers of these, outside of the transaction that will need them: one that
    /// nothing refers to does no harm.
    pub(super) async fn learn(
        &mut self,
        session: &mut Session,
        texts: impl Iterator<Item = &Arc<str>>,
    ) -> Result<(), QueueError> {
        let mut new: Vec<&str> =
            texts.filter(|it| !self.0.contains_key(*it)).map(|it| &**it).collect();
        if new.is_empty() {
            return Ok(());
        }
        // In one order, so that two nodes do not wait for each other.
        new.sort_unstable();
        new.dedup();
        let sql =
            "INSERT INTO labels (text) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING";
        session.client.execute(sql, &[&new]).await?;
        let sql = "SELECT text, id FROM labels WHERE md5(text) IN (SELECT md5(it) FROM unnest($1::text[]) it)";
        for row in session.client.query(sql, &[&new]).await? {
            self.0.insert(get::<&str>(&row, 0)?.into(), get(&row, 1)?);
        }
        Ok(())
    }

    /// The number of a text that was learnt.
    pub(super) fn id(&self, text: &str) -> Result<i32, QueueError> {
        let id = self.0.get(text).copied();
        id.ok_or_else(|| QueueError::Broken("a name has no number".into()))
    }
}
