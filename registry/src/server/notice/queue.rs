//! Notices that wait for their receivers: a database of its own, `notices.db`, beside that of the pointers.
//!
//! It is written only where there are hooks, and losing it loses notices alone.

use crate::{
    limits,
    server::storage::pointers::{Outbox, OutboxError, Waiting},
};
use rusqlite::{Connection, OptionalExtension, Transaction};
use slipway_oci::database::{self, OpenError, Schema, Settings};
use std::{
    path::Path,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

/// The version of [`SCHEMA`].
const VERSION: i64 = 1;

/// Version 1; times are seconds since 1970.
const SCHEMA: &str = "
CREATE TABLE notices (
    id            INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they are sent
    hook          TEXT NOT NULL,
    body          TEXT NOT NULL,
    made          INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    due           INTEGER NOT NULL                   -- no process sends it before
);
CREATE INDEX notices_by_hook ON notices (hook, id);
";

/// What a client was told of is told on.
const SETTINGS: Settings = Settings { synchronous: "FULL", busy: Duration::from_secs(30), cache_kib: 512 };

/// The database.
pub(in crate::server) struct Queue(Mutex<Connection>);

impl Queue {
    pub(in crate::server) fn open(path: &Path) -> Result<Queue, OutboxError> {
        let migrate = |_: &Transaction<'_>, _| Ok::<(), rusqlite::Error>(());
        let schema = Schema { version: VERSION, create: SCHEMA, migrate: &migrate };
        let database = database::open(path, &SETTINGS, &schema).map_err(|error| match error {
            OpenError::Sqlite(error) | OpenError::Migration(error) => error.into(),
            OpenError::Newer { found, known } => OutboxError::Newer { found, known },
        })?;
        Ok(Queue(Mutex::new(database)))
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        // a panic between statements leaves SQLite's own state whole
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Outbox for Queue {
    fn add(&self, all: &[(&str, String)]) -> Result<(), OutboxError> {
        let mut database = self.database();
        let transaction = database.transaction()?;
        let count: u64 = transaction.query_row("SELECT count(*) FROM notices", [], |row| row.get(0))?;
        if count + all.len() as u64 > limits::NOTICES {
            return Err(OutboxError::Full);
        }
        let made = now();
        for (hook, body) in all {
            transaction
                .prepare_cached(
                    "INSERT INTO notices (hook, body, made, attempts, due) VALUES (?1, ?2, ?3, 0, ?3)",
                )?
                .execute((hook, body, made))?;
        }
        Ok(transaction.commit()?)
    }

    fn first(&self, hook: &str) -> Result<Option<Waiting>, OutboxError> {
        let database = self.database();
        let mut statement = database.prepare_cached(
            "SELECT id, body, made, attempts, due FROM notices WHERE hook = ?1 ORDER BY id LIMIT 1",
        )?;
        let now = now();
        let seconds = |of: i64| Duration::from_secs(u64::try_from(of).unwrap_or(0));
        let row = statement.query_row([hook], |row| {
            Ok(Waiting {
                id: row.get(0)?,
                body: row.get(1)?,
                age: seconds(now - row.get::<_, i64>(2)?),
                attempts: row.get(3)?,
                wait: seconds(row.get::<_, i64>(4)? - now),
            })
        });
        Ok(row.optional()?)
    }

    fn all(&self, count: u64) -> Result<Vec<(i64, String, String)>, OutboxError> {
        let database = self.database();
        let mut statement =
            database.prepare_cached("SELECT id, hook, body FROM notices ORDER BY id LIMIT ?1")?;
        let rows = statement.query_map([count], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn claim(&self, waiting: &Waiting, time: Duration) -> Result<bool, OutboxError> {
        let database = self.database();
        let mut statement = database.prepare_cached(
            "UPDATE notices SET due = ?1, attempts = attempts + 1 WHERE id = ?2 AND attempts = ?3 AND due <= ?4",
        )?;
        let now = now();
        Ok(statement.execute((now + whole(time), waiting.id, waiting.attempts, now))? == 1)
    }

    fn postpone(&self, id: i64, attempts: u32, pause: Duration) -> Result<(), OutboxError> {
        let database = self.database();
        let mut statement =
            database.prepare_cached("UPDATE notices SET due = ?1 WHERE id = ?2 AND attempts = ?3")?;
        statement.execute((now() + whole(pause), id, attempts))?;
        Ok(())
    }

    fn remove(&self, id: i64) -> Result<(), OutboxError> {
        self.database().prepare_cached("DELETE FROM notices WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    fn count(&self) -> Result<u64, OutboxError> {
        Ok(self.database().query_row("SELECT count(*) FROM notices", [], |row| row.get(0))?)
    }
}

/// Whole seconds of a time.
fn whole(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX >> 1)
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_stay_in_order_until_they_are_taken_and_one_process_sends_each() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notices.db");
        let queue = Queue::open(&path).expect("a queue");
        queue.add(&[("a", "1".into()), ("b", "2".into()), ("a", "3".into())]).expect("added");
        drop(queue);
        let (queue, other) = (Queue::open(&path).expect("again"), Queue::open(&path).expect("another"));
        assert_eq!(queue.count().expect("a count"), 3);
        let first = queue.first("a").expect("read").expect("one");
        assert_eq!((first.body.as_str(), first.attempts), ("1", 0));
        assert_eq!(first.wait, Duration::ZERO);
        assert!(queue.claim(&first, Duration::from_secs(60)).expect("claimed"));
        assert!(
            !other.claim(&first, Duration::from_secs(60)).expect("looked at"),
            "it is somebody's already"
        );
        let again = other.first("a").expect("read").expect("one");
        assert_eq!((again.id, again.attempts), (first.id, 1));
        assert!(again.wait > Duration::from_secs(50));
        assert!(!other.claim(&again, Duration::from_secs(60)).expect("looked at"), "it is not over");
        // who claimed it is told apart from whoever does next
        other.postpone(first.id, 0, Duration::ZERO).expect("nothing");
        assert!(!other.claim(&again, Duration::from_secs(60)).expect("looked at"));
        queue.postpone(first.id, 1, Duration::ZERO).expect("postponed");
        assert!(other.claim(&again, Duration::from_secs(60)).expect("claimed"));
        queue.remove(first.id).expect("removed");
        assert_eq!(queue.first("a").expect("read").expect("one").body, "3");
        assert_eq!(queue.first("c").expect("read"), None);
    }
}
