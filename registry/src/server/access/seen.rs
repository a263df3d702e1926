//! Whoever was let in a moment ago: so that a read costs neither a password's work nor a signature's.
//!
//! Keyed by a hash under a key of this process, so that the table holds no password, and nobody outside can aim at a row.

use super::Caller;
use crate::limits;
use ring::hmac;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

/// The key of a row.
pub(in crate::server) type Mark = [u8; 32];

struct Row {
    /// `None`: refused.
    caller: Option<Arc<Caller>>,
    until: Instant,
}

pub(in crate::server) struct Seen {
    key: hmac::Key,
    rows: Mutex<HashMap<Mark, Row>>,
}

impl Seen {
    /// `None` where the system has no random numbers.
    pub(super) fn new() -> Option<Seen> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        Some(Seen { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), rows: Mutex::default() })
    }

    pub(in crate::server) fn mark(&self, credential: &[u8]) -> Mark {
        let mut mark = [0; 32];
        mark.copy_from_slice(hmac::sign(&self.key, credential).as_ref());
        mark
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Mark, Row>> {
        self.rows.lock().expect("no panic happens while the rows are held")
    }

    /// What was found out, if that was a moment ago.
    pub(in crate::server) fn find(&self, mark: &Mark) -> Option<Option<Arc<Caller>>> {
        let rows = self.rows();
        let row = rows.get(mark)?;
        (row.until > Instant::now()).then(|| row.caller.clone())
    }

    pub(in crate::server) fn keep(&self, mark: Mark, caller: Option<Arc<Caller>>, until: Instant) {
        let mut rows = self.rows();
        if rows.len() >= limits::CALLERS_SEEN {
            let now = Instant::now();
            rows.retain(|_, row| row.until > now);
            // whoever fills it with wrong passwords costs everybody one more look, and no memory
            if rows.len() >= limits::CALLERS_SEEN {
                rows.clear();
            }
        }
        rows.insert(mark, Row { caller, until });
    }
}
