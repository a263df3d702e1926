//! What webhooks are to be told, until it was taken: beside the pointers of a folder in a database of its own, in PostgreSQL for
//! replicas. Each notice is sent by one process at a time, which claims it for a while; whoever dies meanwhile lets others.

use super::super::StorageError;
use crate::limits;
use std::time::Duration;

/// Why notices cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// SQLite refused.
    #[error("the database of notices cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer program made it.
    #[error("the database of notices has schema {found}, this program knows {known}: use a newer one")]
    Newer {
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Nobody takes them.
    #[error("{} notices wait already: more are not kept", limits::NOTICES)]
    Full,
    /// The database that replicas share failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// One that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order.
    pub id: i64,
    /// What is sent.
    pub body: String,
    /// Since when it waits.
    pub age: Duration,
    /// How often it was claimed; whoever claims it counts on.
    pub attempts: u32,
    /// How long nobody may claim it.
    pub wait: Duration,
}

/// Notices that wait for their receivers, in order. Ages and waits are by one clock, whichever process asks.
pub trait Outbox: Send + Sync {
    /// Adds notices by hook, all or none. Durable.
    fn add(&self, all: &[(&str, String)]) -> Result<(), OutboxError>;

    /// The first that waits for a hook.
    fn first(&self, hook: &str) -> Result<Option<Waiting>, OutboxError>;

    /// The first that wait, for whichever hook: number, hook and body, at most `count`.
    fn all(&self, count: u64) -> Result<Vec<(i64, String, String)>, OutboxError>;

    /// Takes one on for `time`, after which others may; whether nobody else has.
    fn claim(&self, waiting: &Waiting, time: Duration) -> Result<bool, OutboxError>;

    /// Whoever claimed it as number `attempts` sends it again after `pause`, unless others claimed it since.
    fn postpone(&self, id: i64, attempts: u32, pause: Duration) -> Result<(), OutboxError>;

    /// It was taken, or nobody takes it.
    fn remove(&self, id: i64) -> Result<(), OutboxError>;

    /// How many wait.
    fn count(&self) -> Result<u64, OutboxError>;
}
