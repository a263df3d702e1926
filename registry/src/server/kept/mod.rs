//! What the web page reads of the storage, and what it keeps of that: facts of images, and lists of what layers hold. All of it is
//! made again where it is not there; whether a repository has something is asked every time.

pub(super) mod facts;
pub(super) mod listing;
pub(super) mod read;

use crate::limits;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What was read before and is small.
pub(super) struct Kept {
    pub(super) facts: facts::Known,
    pub(super) lists: listing::Lists,
    /// Who looks something up for the page: clients' requests go on beside them, whatever is asked of it.
    pub(super) looks: Arc<Semaphore>,
}

impl Kept {
    /// Nothing so far.
    pub(super) fn new() -> Kept {
        Kept {
            facts: facts::Known::default(),
            lists: listing::Lists::new(),
            looks: Arc::new(Semaphore::new(limits::WEB_LOOKS)),
        }
    }
}
