//! Connections: how many, how long, and what is tried again.

use super::{address::DatabaseAddress, line::Line};
use crate::{
    limits,
    server::storage::{StorageError, answers::Answers, traffic::Traffic},
};
use postgres::{
    Row, Statement,
    error::SqlState,
    types::{FromSqlOwned, ToSql},
};
use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

/// What each connection is told first. A replica that stands still in a transaction loses it, with the locks that others wait for, and so
/// does one that is gone.
fn begin() -> String {
    format!(
        "SET search_path = slipway, pg_temp; SET default_transaction_isolation = 'read committed';
        SET statement_timeout = '{}s'; SET idle_in_transaction_session_timeout = '15s';
        SET client_connection_check_interval = '5s'; SET jit = off",
        limits::DATABASE_STATEMENT.as_secs()
    )
}

/// Values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection, with the statements that it has prepared.
pub(super) struct Database {
    line: Line,
    prepared: HashMap<String, Statement>,
}

impl Database {
    fn open(address: &DatabaseAddress, patience: Duration) -> Result<Database, StorageError> {
        let mut database = Database { line: Line::open(address, patience)?, prepared: HashMap::new() };
        database.batch(&begin()).map_err(away)?;
        Ok(database)
    }

    fn prepare(&mut self, text: &str) -> Result<Statement, StorageError> {
        if let Some(statement) = self.prepared.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.line.ask(async |client| client.prepare(text).await)?;
        self.prepared.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// All rows that a statement answers.
    pub(super) fn rows(&mut self, text: &str, values: Values<'_>) -> Result<Vec<Row>, StorageError> {
        let statement = self.prepare(text)?;
        self.line.ask(async |client| client.query(&statement, values).await)
    }

    /// The one row that it answers, if any.
    pub(super) fn row(&mut self, text: &str, values: Values<'_>) -> Result<Option<Row>, StorageError> {
        let statement = self.prepare(text)?;
        self.line.ask(async |client| client.query_opt(&statement, values).await)
    }

    /// The one value that it always answers.
    pub(super) fn one<T: FromSqlOwned>(&mut self, text: &str, values: Values<'_>) -> Result<T, StorageError> {
        let statement = self.prepare(text)?;
        Ok(self.line.ask(async |client| client.query_one(&statement, values).await)?.try_get(0)?)
    }

    /// How many rows it changed.
    pub(super) fn run(&mut self, text: &str, values: Values<'_>) -> Result<u64, StorageError> {
        let statement = self.prepare(text)?;
        self.line.ask(async |client| client.execute(&statement, values).await)
    }

    /// Statements without values, which are not kept prepared.
    pub(super) fn batch(&mut self, text: &str) -> Result<(), StorageError> {
        self.line.ask(async |client| client.batch_execute(text).await)
    }

    /// The rest of this transaction looks through everything, however long that takes.
    pub(super) fn take_time(&mut self) -> Result<(), StorageError> {
        self.batch("SET LOCAL statement_timeout = 0")?;
        self.line.patience = limits::DATABASE_PASS;
        Ok(())
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
    /// How long an answer is waited for.
    patience: Duration,
    idle: Mutex<Idle>,
    returned: Condvar,
    answers: Answers,
    pub(super) traffic: Traffic,
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
    pub(super) fn new(address: DatabaseAddress) -> Pool {
        Pool::patient(address, limits::DATABASE_ANSWER)
    }

    /// The same, with answers waited for so long.
    pub(super) fn patient(mut address: DatabaseAddress, patience: Duration) -> Pool {
        let config = address.config();
        config
            .application_name("slipway")
            .connect_timeout(limits::DATABASE_CONNECT)
            .tcp_user_timeout(limits::DATABASE_SILENCE)
            .keepalives_idle(limits::DATABASE_SILENCE)
            .keepalives_interval(limits::DATABASE_ALIVE.0)
            .keepalives_retries(limits::DATABASE_ALIVE.1);
        let (idle, returned) = (Mutex::default(), Condvar::new());
        Pool { address, patience, idle, returned, answers: Answers::default(), traffic: Traffic::default() }
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
            if self.answers.is_silent() {
                // what others waited for in vain
                return Err(StorageError::Silent);
            }
        }
        idle.in_use += 1;
        if let Some(database) = idle.databases.pop() {
            return Ok(database);
        }
        drop(idle);
        // not while the pool is held: it takes as long as a network lets it
        Database::open(&self.address, self.patience).inspect_err(|_| self.give(None))
    }

    fn give(&self, database: Option<Database>) {
        let database = database.map(|mut database| {
            database.line.patience = self.patience;
            database
        });
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
        let failed =
            done.as_ref().is_err_and(|error| error.is_away() || matches!(error, StorageError::Postgres(_)));
        self.traffic.count(begun, failed);
        done
    }

    fn try_again<T>(&self, work: impl Fn(&mut Database) -> Result<T, Failed>) -> Result<T, StorageError> {
        let mut tries = 0;
        loop {
            let asking = self.answers.ask().ok_or(StorageError::Silent)?;
            let taken = self.take();
            if let Err(StorageError::Silent) = &taken {
                asking.ended(true);
            }
            let mut database = taken?;
            tries += 1;
            let last = tries >= limits::DATABASE_TRIES;
            let worked = work(&mut database);
            asking.ended(matches!(
                worked,
                Err(Failed::Broken(StorageError::Silent) | Failed::Unsure(StorageError::Silent))
            ));
            drop(asking);
            match worked {
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
                    // what waited in vain once is not to wait again
                    if last || !is_gone(&error) || matches!(error, StorageError::Silent) {
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
    let error = match error {
        StorageError::Postgres(error) => error,
        other => return matches!(other, StorageError::Silent),
    };
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
