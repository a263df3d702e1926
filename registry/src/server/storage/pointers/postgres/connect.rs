//! Connections: how many, how long, and what is tried again.

use super::address::{AddressError, DatabaseAddress};
use crate::{
    limits,
    server::storage::{StorageError, traffic::Traffic},
};
use postgres::{
    Client, Row, Statement,
    error::SqlState,
    types::{FromSqlOwned, ToSql},
};
use std::{
    collections::HashMap,
    error::Error as _,
    mem::ManuallyDrop,
    sync::{Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

/// What each connection is told first. A replica that stands still in a transaction loses it, with the locks that others wait for.
const BEGIN: &str =
    "SET search_path = slipway, pg_temp; SET default_transaction_isolation = 'read committed';
    SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s'; SET jit = off";

/// Values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection, with the statements that it has prepared.
pub(super) struct Database {
    client: Client,
    prepared: HashMap<String, Statement>,
}

impl Database {
    fn open(address: &DatabaseAddress) -> Result<Database, StorageError> {
        let mut client = address.connect().map_err(|error| match error {
            AddressError::Postgres(error) => StorageError::Away(error),
            AddressError::Tls(error) => StorageError::DatabaseTls(error),
        })?;
        client.batch_execute(BEGIN).map_err(StorageError::Away)?;
        Ok(Database { client, prepared: HashMap::new() })
    }

    fn prepare(&mut self, text: &str) -> Result<Statement, StorageError> {
        if let Some(statement) = self.prepared.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(text)?;
        self.prepared.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// All rows that a statement answers.
    pub(super) fn rows(&mut self, text: &str, values: Values<'_>) -> Result<Vec<Row>, StorageError> {
        let statement = self.prepare(text)?;
        Ok(self.client.query(&statement, values)?)
    }

    /// The one row that it answers, if any.
    pub(super) fn row(&mut self, text: &str, values: Values<'_>) -> Result<Option<Row>, StorageError> {
        let statement = self.prepare(text)?;
        Ok(self.client.query_opt(&statement, values)?)
    }

    /// The one value that it always answers.
    pub(super) fn one<T: FromSqlOwned>(&mut self, text: &str, values: Values<'_>) -> Result<T, StorageError> {
        let statement = self.prepare(text)?;
        Ok(self.client.query_one(&statement, values)?.try_get(0)?)
    }

    /// How many rows it changed.
    pub(super) fn run(&mut self, text: &str, values: Values<'_>) -> Result<u64, StorageError> {
        let statement = self.prepare(text)?;
        Ok(self.client.execute(&statement, values)?)
    }

    /// Statements without values, which are not kept prepared.
    pub(super) fn batch(&mut self, text: &str) -> Result<(), StorageError> {
        Ok(self.client.batch_execute(text)?)
    }
}

/// Connections that nobody uses, and how many are in use.
#[derive(Default)]
struct Idle {
    databases: Vec<Database>,
    in_use: usize,
}

/// The connections of one process.
pub(super) struct Pool {
    address: DatabaseAddress,
    idle: Mutex<Idle>,
    returned: Condvar,
    pub(super) traffic: Traffic,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // closing one waits for its runtime, which a thread that serves connections must not
        let idle = ManuallyDrop::new(std::mem::take(&mut *self.idle()));
        // where there is no thread they are left to the end of the process
        let closing = thread::Builder::new().spawn(move || drop(ManuallyDrop::into_inner(idle)));
        drop(closing);
    }
}

/// How a piece of work on a connection failed.
enum Failed {
    /// Nothing of it happened, and the connection is as before.
    Undone(StorageError),
    /// Nothing of it happened, and the connection is of no use any more.
    Broken(StorageError),
    /// It may have happened.
    Unsure(StorageError),
}

impl Pool {
    /// The address of a database, which is not asked yet.
    pub(super) fn new(mut address: DatabaseAddress) -> Pool {
        let config = address.config();
        config
            .application_name("slipway")
            .connect_timeout(limits::DATABASE_CONNECT)
            .tcp_user_timeout(limits::DATABASE_SILENCE)
            .keepalives_idle(limits::DATABASE_SILENCE);
        Pool { address, idle: Mutex::default(), returned: Condvar::new(), traffic: Traffic::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().expect("no panic happens while the pool is held")
    }

    fn take(&self) -> Result<Database, StorageError> {
        let until = Instant::now() + limits::DATABASE_PATIENCE;
        let mut idle = self.idle();
        while idle.databases.is_empty() && idle.in_use >= limits::DATABASE_CONNECTIONS {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StorageError::Crowded);
            }
            let waited = self.returned.wait_timeout(idle, left);
            idle = waited.expect("no panic happens while the pool is held").0;
        }
        idle.in_use += 1;
        if let Some(database) = idle.databases.pop() {
            return Ok(database);
        }
        drop(idle);
        // not while the pool is held: it takes as long as a network lets it
        Database::open(&self.address).inspect_err(|_| self.give(None))
    }

    fn give(&self, database: Option<Database>) {
        let mut idle = self.idle();
        idle.in_use -= 1;
        idle.databases.extend(database);
        drop(idle);
        self.returned.notify_one();
    }

    /// Those that were made before are as broken as the one that was just met.
    fn forget(&self) {
        let old = std::mem::take(&mut self.idle().databases);
        drop(old);
    }

    /// Runs statements that may be run again, whatever became of them.
    pub(super) fn read<T>(
        &self,
        work: impl Fn(&mut Database) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.again(|database| {
            work(database).map_err(|error| match is_gone(&error) {
                true => Failed::Broken(error),
                false => Failed::Undone(error),
            })
        })
    }

    /// Runs statements in one transaction. It is repeated where others were in its way or the connection went, unless it may
    /// have been committed: then its caller is told that the database is away, and has to look.
    pub(super) fn write<T>(
        &self,
        work: impl Fn(&mut Database) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.again(|database| {
            let begun = database.batch("BEGIN").and_then(|()| work(database));
            match begun {
                Ok(done) => match database.batch("COMMIT") {
                    Ok(()) => Ok(done),
                    // a refused commit is undone, one without an answer may be either
                    Err(error) if is_gone(&error) => Err(Failed::Unsure(error)),
                    Err(error) => Err(Failed::Undone(error)),
                },
                Err(error) if is_gone(&error) => Err(Failed::Broken(error)),
                Err(error) => match database.batch("ROLLBACK") {
                    Ok(()) => Err(Failed::Undone(error)),
                    Err(_) => Err(Failed::Broken(error)),
                },
            }
        })
    }

    fn again<T>(&self, work: impl Fn(&mut Database) -> Result<T, Failed>) -> Result<T, StorageError> {
        let begun = Instant::now();
        let done = self.try_again(work);
        // what was refused by a rule was answered
        let failed = done.as_ref().is_err_and(|error| {
            matches!(error, StorageError::Away(_) | StorageError::Postgres(_) | StorageError::Crowded)
        });
        self.traffic.count(begun, failed);
        done
    }

    fn try_again<T>(&self, work: impl Fn(&mut Database) -> Result<T, Failed>) -> Result<T, StorageError> {
        let mut tries = 0;
        loop {
            let mut database = self.take()?;
            tries += 1;
            let last = tries >= limits::DATABASE_TRIES;
            match work(&mut database) {
                Ok(done) => {
                    self.give(Some(database));
                    return Ok(done);
                }
                Err(Failed::Undone(error)) => {
                    self.give(Some(database));
                    if last || !is_in_the_way(&error) {
                        return Err(error);
                    }
                }
                Err(Failed::Broken(error)) => {
                    drop(database);
                    self.give(None);
                    self.forget();
                    if last || !is_gone(&error) {
                        return Err(away(error));
                    }
                }
                Err(Failed::Unsure(error)) => {
                    drop(database);
                    self.give(None);
                    self.forget();
                    return Err(away(error));
                }
            }
            // of those that met, none comes back at the same moment as another
            let mut one = [0_u8; 1];
            getrandom::fill(&mut one)?;
            thread::sleep(Duration::from_millis(u64::from(one[0] % 16) * tries));
        }
    }
}

/// Whether the connection is of no use any more, or its server is going.
fn is_gone(error: &StorageError) -> bool {
    let StorageError::Postgres(error) = error else { return false };
    let code = error.code().map(SqlState::code).unwrap_or_default();
    error.is_closed()
        || error.source().is_some_and(|source| source.is::<std::io::Error>())
        || code.starts_with("08")
        || ["57P01", "57P02", "57P03", "25P03"].contains(&code)
}

/// Whether other transactions were in the way of this one.
fn is_in_the_way(error: &StorageError) -> bool {
    let StorageError::Postgres(error) = error else { return false };
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}

fn away(error: StorageError) -> StorageError {
    match error {
        StorageError::Postgres(error) => StorageError::Away(error),
        other => other,
    }
}
