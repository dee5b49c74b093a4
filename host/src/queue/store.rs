//! What the writer asks of a store.

use std::vec;

use super::QueueError;
use super::writer::{Command, Fact, Owed};

/// A store, in the hands of the writer's thread.
pub(super) trait Store: Send {
    /// Write all of it down: when this returns, it is on disk. What is answered then, or
    /// begins then, is put into `owed`.
    ///
    /// After an error nothing of it was written: `owed`, and the commands that are left in
    /// `asks`, are refused, and the facts come again.
    fn write(
        &mut self,
        facts: &[Fact],
        asks: &mut vec::IntoIter<Command>,
        owed: &mut Owed,
    ) -> Result<(), QueueError>;

    /// Nothing is written any more: give back what is held.
    fn close(&mut self) {}
}
