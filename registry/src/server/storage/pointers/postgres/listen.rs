//! Hears what other replicas change, on a connection of its own, and looks several times a second whether it still hears.
//!
//! A server tells its listeners of a commit before it tells the one who committed. So once it has answered a statement, all
//! that was committed before that statement began has been told.

use super::{
    address::DatabaseAddress,
    line::Line,
    records::{PULSE, Records},
};
use crate::{
    limits,
    server::storage::{StorageError, pointers::Removed},
};
use postgres::Notification;
use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

/// Pause before the database is asked for a connection again.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins; it ends when nobody has the records any more.
pub(super) fn start(
    address: DatabaseAddress,
    records: &Arc<Records>,
    removed: Removed,
) -> Result<(), StorageError> {
    let (records, path) = (Arc::downgrade(records), address.to_string().into());
    let begun = thread::Builder::new().spawn(move || {
        while records.strong_count() > 0 {
            // whatever ended it: what was missed is not known
            let _ = listen(&address, &records, &removed);
            if let Some(records) = records.upgrade() {
                records.clear();
            }
            thread::sleep(PAUSE);
        }
    });
    let failed = |source| StorageError::Io { operation: "start a thread that listens to", path, source };
    begun.map(drop).map_err(failed)
}

/// Listens until the connection is gone, or nobody has the records any more.
fn listen(address: &DatabaseAddress, records: &Weak<Records>, removed: &Removed) -> Option<()> {
    let mut line = Line::open(address, limits::DATABASE_ANSWER).ok()?;
    line.ask(async |client| client.batch_execute("LISTEN slipway").await).ok()?;
    // whatever was read before is from before anything was heard
    records.upgrade()?.clear();
    let mut looked = None;
    loop {
        let heard = line.hear(PULSE).ok()?;
        let records = records.upgrade()?;
        if let Some(heard) = heard {
            hear(&records, removed, &heard);
            all(&mut line, &records, removed)?;
        }
        let due = looked.is_none_or(|looked: Instant| looked.elapsed() >= PULSE);
        if due && records.was_asked() {
            let begun = Instant::now();
            line.ask(async |client| client.batch_execute("SELECT 1").await).ok()?;
            all(&mut line, &records, removed)?;
            records.attest(begun);
            looked = Some(begun);
        }
    }
}

/// What has come by now.
fn all(line: &mut Line, records: &Records, removed: &Removed) -> Option<()> {
    while let Some(heard) = line.hear(Duration::ZERO).ok()? {
        hear(records, removed, &heard);
    }
    Some(())
}

fn hear(records: &Records, removed: &Removed, heard: &Notification) {
    let text = heard.payload();
    let known = match text.split_at_checked(1) {
        Some(("r", id)) => id.parse().ok().map(|id| records.changed(id)),
        Some(("t", rest)) => rest.split_once(' ').and_then(|(id, tag)| {
            let id = id.parse().ok()?;
            records.moved(id, tag);
            Some(())
        }),
        Some(("l", counts)) => {
            records.count(counts);
            Some(())
        }
        Some(("c", digest)) => digest.parse().ok().map(|digest| removed(&digest)),
        _ => None,
    };
    if known.is_none() {
        // of a version that knows more
        records.clear();
    }
}
