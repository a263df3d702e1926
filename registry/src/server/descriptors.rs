//! File descriptors: the process takes as many as it may have, and keeps room for what is not a connection.

use super::Budgets;
use crate::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What the descriptors beside the connections are for.
pub(super) struct Division {
    /// Files that replies keep open. A reply without a permit opens its file for each piece.
    pub(super) files: Arc<Semaphore>,
    /// What is asked of other registries, of all upstreams together.
    pub(super) fetches: Fetches,
}

/// Turns for requests to other registries: for what is answered at once, and for blobs, which take their time. Neither keeps
/// the other from its turn.
pub(super) struct Fetches {
    pub(super) answers: Arc<Semaphore>,
    pub(super) streams: Arc<Semaphore>,
}

/// Raises the soft limit to the hard one and divides the descriptors.
pub(super) fn divide(budgets: &mut Budgets) -> Division {
    let limit = getrlimit(Resource::Nofile);
    // what cannot be raised is lived with: the budget below follows what there is
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let available = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (connections, files, fetches) = share(available, budgets.connections);
    budgets.connections = connections;
    let turns = |count| Arc::new(Semaphore::new(count));
    Division { files: turns(files), fetches: Fetches { answers: turns(fetches), streams: turns(fetches) } }
}

/// Connections, files of replies, and fetches of each kind, out of `available` descriptors, of at most `wanted` connections.
fn share(available: u64, wanted: usize) -> (usize, usize, usize) {
    let kept = limits::DESCRIPTORS_KEPT.min(available / 2);
    let half = usize::try_from((available - kept) / 2).unwrap_or(usize::MAX);
    let connections = wanted.min(half).max(1);
    // a request that is answered at once has a connection, a blob's a connection, the file that is written and that is read
    let fetches = (half / 16).clamp(1, limits::FETCHES);
    (connections, half.saturating_sub(4 * fetches).min(limits::CONNECTIONS), fetches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (available, wanted, connections, files, fetches) in [
            (u64::MAX, 4096, 4096, 4096, 256),
            (1024, 4096, 384, 288, 24),
            (1024, 8, 8, 288, 24),
            (20_000, 4096, 4096, 4096, 256),
            (64, 4096, 16, 12, 1),
            (2, 4096, 1, 0, 1),
        ] {
            let found = share(available, wanted);
            assert_eq!(found, (connections, files, fetches), "{available} {wanted}");
            // a fetch waits for its turn where there is room for no other
            let all = (connections + files + 4 * fetches) as u64;
            assert!(available < 64 || all <= available, "{available} {wanted}: {all}");
        }
    }
}
