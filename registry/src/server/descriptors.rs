//! File descriptors: the process takes as many as it may have, and keeps room for what is not a connection.

use super::Budgets;
use crate::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Raises the soft limit to the hard one and divides the descriptors: connections on one side, files that replies keep
/// open on the other. A reply without a permit opens its file for each piece.
pub(super) fn divide(budgets: &mut Budgets) -> Arc<Semaphore> {
    let limit = getrlimit(Resource::Nofile);
    // what cannot be raised is lived with: the budget below follows what there is
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let available = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (connections, files) = share(available, budgets.connections);
    budgets.connections = connections;
    Arc::new(Semaphore::new(files))
}

/// Connections and files out of `available` descriptors, of at most `wanted` connections.
fn share(available: u64, wanted: usize) -> (usize, usize) {
    let kept = limits::DESCRIPTORS_KEPT.min(available / 2);
    let half = usize::try_from((available - kept) / 2).unwrap_or(usize::MAX);
    let connections = wanted.min(half).max(1);
    (connections, half.min(limits::CONNECTIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (available, wanted, connections, files) in [
            (u64::MAX, 4096, 4096, 4096),
            (1024, 4096, 384, 384),
            (1024, 8, 8, 384),
            (20_000, 4096, 4096, 4096),
            (64, 4096, 16, 16),
            (2, 4096, 1, 0),
        ] {
            let found = share(available, wanted);
            assert_eq!(found, (connections, files), "{available} {wanted}");
        }
    }
}
