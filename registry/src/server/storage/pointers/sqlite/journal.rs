//! The journal: what it takes to make the database again where that is lost, in plain lines beside it.
//!
//! ```text
//! pointers/snapshot      everything at one moment
//! pointers/log.<number>  what changed before the last snapshot began; only until that is whole
//! pointers/log           what changed since
//! pointers/lock          held by the process that makes a snapshot
//! ```
//!
//! A line is eight hexadecimal digits of the SHA-256 of the rest, a space, and a JSON array: a kind, and the values of a row. Each says
//! what is so from then on, so that lines may be read twice, but not in another order:
//!
//! ```text
//! ["b", repository, digest, size, deleted]                     a blob is there; ["B", repository, digest] no more
//! ["m", repository, digest, media type, size, pushed, deleted] a manifest is there; ["M", repository, digest] no more
//! ["t", repository, tag, digest, updated]                      a tag points at it; ["T", repository, tag] no more
//! ["h", repository, tag, former, digest, at, who, origin]      a tag was moved
//! ```
//!
//! Triggers of the one connection that writes make the lines, so that no statement can forget them. They are written within the
//! transaction, before it is committed: in the order of commits, by all processes. A push waits for no sync of them: these come
//! seconds later ([`limits::JOURNAL_SYNC`]), for the database is the truth, and after a power cut the next server makes a snapshot.
//! A line whose transaction failed is taken back by the next snapshot too.

use crate::{
    limits,
    server::storage::{StorageError, error::io_error},
};
use rusqlite::Connection;
use slipway_oci::{Digest, file, lock::Lock};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// The rows of each table as lines; `new` and `old` are a trigger's, a table's name is a snapshot's.
const BLOB: &str = "json_array('b', (SELECT name FROM repositories WHERE id = new.repository), new.digest, new.size, new.deleted)";
const MANIFEST: &str =
    "json_array('m', (SELECT name FROM repositories WHERE id = new.repository), new.digest, new.media_type,
    new.size, new.pushed, new.deleted)";
const TAG: &str = "json_array('t', (SELECT name FROM repositories WHERE id = new.repository), new.name, new.digest, new.updated)";
const MOVE: &str = "json_array('h', (SELECT name FROM repositories WHERE id = new.repository), new.tag, new.former, new.digest,
    new.at, new.who, new.origin)";

/// What each table's rows are called when they are there and when they are gone, which columns count, and what names a row.
const TABLES: [(&str, &str, &str, &str, &str); 3] = [
    ("blobs", BLOB, "B", "size, deleted", "digest"),
    ("manifests", MANIFEST, "M", "media_type, size, pushed, deleted", "digest"),
    ("tags", TAG, "T", "digest, updated", "name"),
];

/// Has every change of this connection noted. The table and its triggers are the connection's alone, and go with a savepoint that
/// is rolled back.
pub(super) fn watch(database: &Connection) -> Result<(), StorageError> {
    database.pragma_update(None, "temp_store", "MEMORY")?;
    let mut statements =
        "CREATE TEMP TABLE slipway_journal (id INTEGER PRIMARY KEY, line TEXT NOT NULL);".to_owned();
    for (table, row, gone, columns, name) in TABLES {
        statements.push_str(&format!(
            "CREATE TEMP TRIGGER journal_{table}_new AFTER INSERT ON main.{table} BEGIN
                INSERT INTO slipway_journal (line) VALUES ({row}); END;
             CREATE TEMP TRIGGER journal_{table}_changed AFTER UPDATE OF {columns} ON main.{table} BEGIN
                INSERT INTO slipway_journal (line) VALUES ({row}); END;
             CREATE TEMP TRIGGER journal_{table}_gone AFTER DELETE ON main.{table} BEGIN
                INSERT INTO slipway_journal (line) VALUES (json_array('{gone}',
                    (SELECT name FROM repositories WHERE id = old.repository), old.{name})); END;"
        ));
    }
    statements.push_str(&format!(
        "CREATE TEMP TRIGGER journal_moves AFTER INSERT ON main.tag_history BEGIN
            INSERT INTO slipway_journal (line) VALUES ({MOVE}); END;"
    ));
    Ok(database.execute_batch(&statements)?)
}

/// Where a database's journal lies.
pub(in crate::server::storage) fn folder(database: &Path) -> PathBuf {
    database.with_file_name("pointers")
}

/// A line as it is written.
fn sealed(line: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(&Digest::sha256(line.as_bytes()).hex().as_bytes()[..8]);
    to.push(b' ');
    to.extend_from_slice(line.as_bytes());
    to.push(b'\n');
}

/// What a line says, if it is whole.
pub(in crate::server::storage) fn opened(line: &[u8]) -> Option<&str> {
    let (seal, rest) = line.split_at_checked(9)?;
    let right = Digest::sha256(rest).hex().as_bytes()[..8] == seal[..8] && seal[8] == b' ';
    std::str::from_utf8(rest).ok().filter(|_| right)
}

/// Whether lines were lost, so that a snapshot has to make up for them.
#[derive(Clone, Default)]
pub(super) struct Lossy(Arc<AtomicBool>);

impl Lossy {
    pub(super) fn lose(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The log as the writing thread has it.
pub(super) struct Journal {
    folder: PathBuf,
    open: Option<(u64, File)>,
    dirty: Option<Instant>,
    lossy: Lossy,
}

impl Journal {
    pub(super) fn new(database: &Path, lossy: Lossy) -> Journal {
        Journal { folder: folder(database), open: None, dirty: None, lossy }
    }

    /// Writes what the transaction under way has changed, as its last act. A disk that is full must not keep anybody from deleting:
    /// what cannot be written is made up for by a snapshot.
    pub(super) fn note(&mut self, database: &Connection) -> Result<(), StorageError> {
        let mut lines = Vec::new();
        {
            let mut statement = database.prepare_cached("SELECT line FROM slipway_journal ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                sealed(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, &mut lines);
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        database.prepare_cached("DELETE FROM slipway_journal")?.execute([])?;
        if self.append(&lines).is_err() {
            self.lose();
        }
        Ok(())
    }

    /// The last transaction was not committed, or was not written down.
    pub(super) fn lose(&mut self) {
        self.open = None;
        self.lossy.lose();
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let path = self.folder.join("log");
        // somebody may have made a snapshot and moved the log away
        let now = fs::metadata(&path).map(|found| found.ino()).ok();
        if self.open.as_ref().map(|(inode, _)| *inode) != now || now.is_none() {
            fs::create_dir_all(&self.folder)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            self.open = Some((file.metadata()?.ino(), file));
        }
        let (_, file) = self.open.as_mut().expect("it was opened");
        file.write_all(lines)?;
        self.dirty.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Since when something is not certain to be on the disk.
    pub(super) fn dirty(&self) -> Option<Instant> {
        self.dirty
    }

    /// Brings it to the disk.
    pub(super) fn sync(&mut self) {
        self.dirty = None;
        if let Some((_, file)) = &self.open
            && file.sync_data().is_err()
        {
            self.lose();
        }
    }
}

/// Whether a snapshot is due: there is none, lines were lost, or the log is long for what it is a log of. `began`: a server has just
/// started, and a power cut before that may have taken lines of the log.
pub(super) fn is_due(database: &Path, lossy: &Lossy, began: bool) -> bool {
    let length = |name: &str| fs::metadata(folder(database).join(name)).ok().map(|found| found.len());
    let log = length("log").unwrap_or(0);
    match length("snapshot") {
        None => true,
        Some(snapshot) => {
            lossy.0.load(Ordering::Relaxed)
                || began && log > 0
                || log > limits::JOURNAL_BYTES.max(snapshot / 2)
        }
    }
}

/// Takes the turn of making a snapshot.
pub(super) fn turn(database: &Path) -> Result<Option<Lock>, StorageError> {
    let folder = folder(database);
    fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error("open", &path))?;
    Lock::try_alone(file).map_err(io_error("lock", &path))
}

/// Logs that were moved away, the oldest first.
pub(in crate::server::storage) fn former(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", folder))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log.")).map(str::parse::<u64>);
        if let Some(Ok(number)) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Moves the log away: what is committed from now on goes into a new one. Within a transaction that writes, so that nobody is about
/// to add to the former. Answers what a snapshot of afterwards makes superfluous.
pub(super) fn rotate(database: &Path, lossy: &Lossy) -> Result<Vec<PathBuf>, StorageError> {
    let folder = folder(database);
    let mut all = former(&folder)?;
    let (from, to) = (folder.join("log"), all.last().map_or(1, |(number, _)| number + 1));
    let to = (to, folder.join(format!("log.{to}")));
    match fs::rename(&from, &to.1) {
        Ok(()) => all.push(to),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("rename", &from)(error)),
    }
    // what is lost from now on is lost of the new one
    lossy.0.store(false, Ordering::Relaxed);
    Ok(all.into_iter().map(|(_, path)| path).collect())
}

/// Writes everything down as it is in one moment, and removes the logs before.
pub(super) fn snapshot(
    database: &Connection,
    path: &Path,
    superfluous: &[PathBuf],
) -> Result<(), StorageError> {
    let folder = folder(path);
    let (new, whole) = (folder.join("snapshot.new"), folder.join("snapshot"));
    let failed = |error| io_error("write", &new)(error);
    let mut file = BufWriter::new(File::create(&new).map_err(failed)?);
    // one transaction: all tables at the same moment
    let transaction = database.unchecked_transaction()?;
    for (table, row) in [("blobs", BLOB), ("manifests", MANIFEST), ("tags", TAG), ("tag_history", MOVE)] {
        let order = if table == "tag_history" { "ORDER BY number" } else { "" };
        let mut statement = transaction.prepare(&format!("SELECT {row} FROM {table} AS new {order}"))?;
        let mut rows = statement.query([])?;
        let mut line = Vec::new();
        while let Some(row) = rows.next()? {
            line.clear();
            sealed(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, &mut line);
            file.write_all(&line).map_err(failed)?;
        }
    }
    transaction.finish()?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_data().map_err(failed)?;
    fs::rename(&new, &whole).map_err(io_error("rename", &new))?;
    file::sync_folder(&folder).map_err(io_error("sync", &folder))?;
    for path in superfluous {
        fs::remove_file(path).map_err(io_error("remove", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables that are noted, that are made from the others and from manifests' bytes, and that are of the moment.
    const NOTED: [&str; 4] = ["blobs", "manifests", "tag_history", "tags"];
    const DERIVED: [&str; 5] = ["edges", "holdings", "members", "namespaces", "repositories"];
    const MOMENTARY: [&str; 3] = ["condemned", "signing_keys", "uploads"];

    #[test]
    fn every_table_is_noted_or_known_not_to_be() {
        let folder = tempfile::tempdir().expect("folder");
        let database = super::super::schema::open(&folder.path().join("registry.db")).expect("a database");
        let mut statement = database
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .expect("a statement");
        let names = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        let names: Vec<String> = names.collect::<Result<_, _>>().expect("names");
        let mut known: Vec<&str> = NOTED.iter().chain(&DERIVED).chain(&MOMENTARY).copied().collect();
        known.sort_unstable();
        // a new table gets lines of its own here and in `keep/reindex.rs`, or is said to be lost (docs/registry.md)
        assert_eq!(names, known);
    }

    #[test]
    fn lines_are_whole_or_none() {
        let mut line = Vec::new();
        sealed(r#"["t","a","v"]"#, &mut line);
        let line = line.strip_suffix(b"\n").expect("its end");
        assert_eq!(opened(line), Some(r#"["t","a","v"]"#));
        for at in 0..line.len() {
            let mut wrong = line.to_vec();
            wrong[at] ^= 1;
            assert_eq!(opened(&wrong), None, "{at}");
            assert_eq!(opened(&line[..at]), None, "{at}");
        }
        assert_eq!(opened("00000000\u{e4}".as_bytes()), None);
    }
}
