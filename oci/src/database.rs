//! The one way in which this house opens an SQLite file, and what its errors mean.
//!
//! Every file has a schema version in `user_version`. An empty file gets the newest schema, an older one is migrated in
//! one transaction, a newer one is refused and left as it is. All of it holds between processes: whoever gets the
//! write lock first does the work, the others look again.

use rusqlite::{Connection, Transaction, TransactionBehavior, config::DbConfig};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How a database file is used.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// SQLite's `synchronous`: `NORMAL` where a lost last transaction is harmless, else `FULL`.
    pub synchronous: &'static str,
    /// How long a writer waits for another process.
    pub busy: Duration,
    /// Memory for pages, in KiB.
    pub cache_kib: i64,
}

/// A file's schema.
pub struct Schema<'a, E> {
    /// Its version.
    pub version: i64,
    /// Makes it in an empty file.
    pub create: &'a str,
    /// Brings a file of an earlier version up to it, inside one transaction.
    #[allow(clippy::type_complexity)]
    pub migrate: &'a dyn Fn(&Transaction<'_>, i64) -> Result<(), E>,
}

/// A file that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Made by a later version of this program.
    #[error("format {found} is newer than {known}")]
    Newer {
        /// The version found.
        found: i64,
        /// The version known.
        known: i64,
    },
    /// The migration failed; the file is as it was.
    #[error("cannot bring the file to the present format")]
    Migration(#[source] E),
}

/// A connection without a look at the schema.
pub fn connect(path: &Path, settings: &Settings) -> Result<Connection, rusqlite::Error> {
    let database = Connection::open(path)?;
    // other processes write too; a writer waits rather than fails
    database.busy_timeout(settings.busy)?;
    database.pragma_update(None, "synchronous", settings.synchronous)?;
    database.pragma_update(None, "cache_size", -settings.cache_kib)?;
    // else a statement that a partial index might serve is parsed and planned again for every value (sqlite.org/queryplanner-ng,
    // "The Query Planner Stability Guarantee")
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(database)
}

/// Opens a file for writing and sees to its schema.
pub fn open<E>(path: &Path, settings: &Settings, schema: &Schema<'_, E>) -> Result<Connection, OpenError<E>> {
    let mut database = connect(path, settings)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    let found = version(&database)?;
    allocate_shared_memory(path)?;
    if found > schema.version {
        return Err(OpenError::Newer { found, known: schema.version });
    }
    if found == schema.version {
        return Ok(database);
    }
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // another process may have been first
    match version(&transaction)? {
        found if found > schema.version => {
            return Err(OpenError::Newer { found, known: schema.version });
        }
        found if found == schema.version => {}
        0 => transaction.execute_batch(schema.create)?,
        found => (schema.migrate)(&transaction, found).map_err(OpenError::Migration)?,
    }
    transaction.pragma_update(None, "user_version", schema.version)?;
    transaction.commit()?;
    Ok(database)
}

/// Files that stay open: closing any descriptor of a file takes the process's locks on it away (fcntl(2), "Record locking"),
/// SQLite's among them.
static KEPT: Mutex<BTreeMap<PathBuf, (u64, File)>> = Mutex::new(BTreeMap::new());

/// Has the disk set aside what the log's index needs. SQLite writes a byte of each of its pages before it maps it, but ext4 gives
/// those no blocks yet, and near its end it may then have none: touching the page is SIGBUS (`ext4_page_mkwrite` after
/// `ext4_nonda_switch`, fs/ext4/inode.c).
fn allocate_shared_memory(database: &Path) -> Result<(), rusqlite::Error> {
    let mut name = database.as_os_str().to_owned();
    name.push("-shm");
    let path = PathBuf::from(name);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    // where there is none SQLite maps nothing
    let Ok(found) = fs::metadata(&path) else { return Ok(()) };
    if kept.get(&path).is_none_or(|(inode, _)| *inode != found.ino()) {
        let Ok(file) = File::options().read(true).write(true).open(&path) else { return Ok(()) };
        kept.insert(path.clone(), (found.ino(), file));
    }
    let Some((_, file)) = kept.get(&path) else { return Ok(()) };
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, found.len().max(1)) {
        Err(Errno::NOSPC | Errno::DQUOT) => {
            Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None))
        }
        // a file system that has no such call
        _ => Ok(()),
    }
}

fn version(database: &Connection) -> Result<i64, rusqlite::Error> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// `SQLITE_IOERR_SHMSIZE`: the index of the log could not grow, which is how a full disk meets the first reader.
const SHARED_MEMORY_SIZE: i32 = 10 | 19 << 8;

/// Whether SQLite failed because the disk is full.
pub fn is_full(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return false };
    failure.code == rusqlite::ErrorCode::DiskFull || failure.extended_code == SHARED_MEMORY_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const SETTINGS: Settings =
        Settings { synchronous: "NORMAL", busy: Duration::from_secs(5), cache_kib: 512 };

    fn open_as(path: &Path, version: i64) -> Result<Connection, OpenError<Infallible>> {
        let migrate = |transaction: &Transaction<'_>, from: i64| {
            transaction.execute("INSERT INTO seen VALUES (?1)", [from]).expect("insert");
            Ok(())
        };
        let schema = Schema { version, create: "CREATE TABLE seen (version INTEGER)", migrate: &migrate };
        open(path, &SETTINGS, &schema)
    }

    #[test]
    fn files_are_made_migrated_once_and_newer_ones_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x.db");
        let seen = |database: &Connection| -> Vec<i64> {
            let mut rows = database.prepare("SELECT version FROM seen").expect("query");
            rows.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("row")).collect()
        };
        assert_eq!(seen(&open_as(&path, 1).expect("made")), Vec::<i64>::new());
        assert_eq!(seen(&open_as(&path, 3).expect("migrated")), [1]);
        assert_eq!(seen(&open_as(&path, 3).expect("once")), [1]);
        let error = open_as(&path, 2).expect_err("refused");
        assert!(matches!(error, OpenError::Newer { found: 3, known: 2 }), "{error}");
        assert_eq!(seen(&open_as(&path, 3).expect("left as it was")), [1]);
    }
}
