//! Turns at asking what the server depends on: one that does not answer is asked by one at a time.

use super::storage::Dependency;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The turns.
pub(super) struct Probes([Arc<Semaphore>; 2]);

impl Default for Probes {
    fn default() -> Probes {
        Probes([Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1))])
    }
}

impl Probes {
    /// That of a dependency.
    pub(super) fn of(&self, dependency: Dependency) -> Arc<Semaphore> {
        Arc::clone(&self.0[usize::from(dependency == Dependency::Content)])
    }
}
