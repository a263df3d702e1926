//! Containers that are kept: a row and a folder each.
//!
//! The row has the name, which is unique, and keeps the image and its layers from being taken away. The folder
//! `containers/<id>/` has what the container is made from and what it has written; who works on it holds the lock of its
//! file `lock`, and what the row says of a container whose lock nobody holds is what it came to. The folder comes before the row
//! and goes after it: what a killed command has left of one alone, [`Store::sweep_containers`] takes away.

use super::{Store, StoreError, io_at, now};
use crate::{Digest, file, private};
use rustix::{fs::FlockOperation, io::Errno};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How old a folder without a row is at least when it is swept: somebody may just be about to write the row.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// The row of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptContainer {
    /// 64 hexadecimal digits, as docker's.
    pub id: String,
    /// Its name, without docker's slash.
    pub name: String,
    /// The manifest of its image.
    pub manifest: Digest,
    /// What it came to, in the caller's own form.
    pub state: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// The columns of [`KeptContainer`].
const COLUMNS: &str = "SELECT id, name, manifest, state, created FROM containers";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<KeptContainer> {
    let manifest: String = row.get(2)?;
    let manifest = manifest.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(KeptContainer {
        id: row.get(0)?,
        name: row.get(1)?,
        manifest,
        state: row.get(3)?,
        created: row.get(4)?,
    })
}

impl Store {
    /// The folder of a container.
    pub fn container_folder(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// Makes the empty folder of a new container, and holds its lock.
    pub fn new_container_folder(&self, id: &str) -> Result<(PathBuf, File), StoreError> {
        let folder = self.container_folder(id);
        let all = self.root.join("containers");
        match private::new_folder(&all) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(io_at("create", &all))?,
        }
        private::new_folder(&folder).map_err(io_at("create", &folder))?;
        let lock = self.lock_container(id)?;
        // nobody else knows of it yet
        let lock = lock.ok_or_else(|| io_at("lock", &folder)(io::ErrorKind::WouldBlock.into()))?;
        Ok((folder, lock))
    }

    /// Takes a container's lock, which is held for as long as the file is open, by whomever; `None` where somebody has it.
    pub fn lock_container(&self, id: &str) -> Result<Option<File>, StoreError> {
        lock(&self.container_folder(id))
    }

    /// Takes away folders of containers that have no row, but for young ones.
    pub fn sweep_containers(&self) -> Result<(), StoreError> {
        let all = self.root.join("containers");
        let entries = match fs::read_dir(&all) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_at("list", &all)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(io_at("list", &all))?;
            let name = entry.file_name();
            let Some(id) = name.to_str() else { continue };
            let age = entry.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok());
            let known: bool = self.database().query_row(
                "SELECT EXISTS (SELECT 1 FROM containers WHERE id = ?1)",
                [id],
                |row| row.get(0),
            )?;
            if !known && age.is_some_and(|age| age > LEFT_OVER) && self.lock_container(id)?.is_some() {
                file::remove_tree(&entry.path()).map_err(io_at("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Writes the row of a container whose folder is there.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] where another has the name.
    pub fn add_container(&self, container: &KeptContainer) -> Result<(), StoreError> {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        name_is_free(&transaction, &container.name)?;
        transaction.prepare_cached("INSERT INTO containers VALUES (?1, ?2, ?3, ?4, ?5, ?5)")?.execute((
            &container.id,
            &container.name,
            container.manifest.to_string(),
            &container.state,
            container.created,
        ))?;
        Ok(transaction.commit()?)
    }

    /// All of them, the youngest first.
    pub fn containers(&self) -> Result<Vec<KeptContainer>, StoreError> {
        let database = self.database();
        let mut statement =
            database.prepare_cached(&format!("{COLUMNS} ORDER BY created DESC, rowid DESC"))?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Those that somebody is said to attend to: whose state, which is JSON, has such a `status`, or `starting`.
    pub fn containers_up(&self) -> Result<Vec<KeptContainer>, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached(&format!(
            "{COLUMNS} WHERE CASE WHEN json_valid(state) THEN json_extract(state, '$.status') IN ('running', 'restarting')
                OR json_extract(state, '$.starting') ELSE 0 END"
        ))?;
        let rows = statement.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The one with this id, this name, or an id that begins so: in this order, as docker looks.
    ///
    /// # Errors
    /// [`StoreError::NoContainer`], and [`StoreError::AmbiguousContainer`] where several ids begin so.
    pub fn container(&self, text: &str) -> Result<KeptContainer, StoreError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let database = self.database();
        let mut named = database
            .prepare_cached(&format!("{COLUMNS} WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC"))?;
        if let Some(found) = named.query_map([text], read)?.next() {
            return Ok(found?);
        }
        let is_id = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let missing = || StoreError::NoContainer(text.to_owned());
        if !is_id {
            return Err(missing());
        }
        // digits come before `g`
        let mut begun =
            database.prepare_cached(&format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2"))?;
        let mut rows = begun.query_map([text], read)?;
        match (rows.next().transpose()?, rows.next().is_some()) {
            (Some(_), true) => Err(StoreError::AmbiguousContainer(text.to_owned())),
            (Some(found), false) => Ok(found),
            (None, _) => Err(missing()),
        }
    }

    /// Changes what is written down of a container, with nobody in between; gives what is there then, `None` for one whose row
    /// is gone.
    pub fn change_container(
        &self,
        id: &str,
        change: impl FnOnce(&KeptContainer) -> String,
    ) -> Result<Option<KeptContainer>, StoreError> {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let found = {
            let mut statement = transaction.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?;
            statement.query_map([id], read)?.next().transpose()?
        };
        let Some(mut found) = found else { return Ok(None) };
        found.state = change(&found);
        transaction
            .prepare_cached("UPDATE containers SET state = ?2, used = ?3 WHERE id = ?1")?
            .execute((id, &found.state, now()))?;
        transaction.commit()?;
        Ok(Some(found))
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] where another has the name.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<(), StoreError> {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        name_is_free(&transaction, name)?;
        transaction.execute("UPDATE containers SET name = ?2 WHERE id = ?1", (id, name))?;
        Ok(transaction.commit()?)
    }

    /// Takes a container away, whose lock the caller holds: its row, so that nobody finds it any more, then its folder. Works on a
    /// full disk as well.
    ///
    /// The lock is given back in between: FUSE keeps a file that is open under another name, and the folder with it.
    pub fn remove_container(&self, id: &str, lock: Option<File>) -> Result<(), StoreError> {
        self.reserve.within(StoreError::is_full, || {
            self.database().execute("DELETE FROM containers WHERE id = ?1", [id])?;
            Ok::<_, StoreError>(())
        })?;
        drop(lock);
        let folder = self.container_folder(id);
        match fs::symlink_metadata(&folder) {
            Ok(_) => file::remove_tree(&folder).map_err(io_at("remove", &folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_at("look at", &folder)(error)),
        }
    }
}

/// Takes the lock in a container's folder; `None` where somebody has it.
pub(super) fn lock(folder: &Path) -> Result<Option<File>, StoreError> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(io_at("open", &path))?;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(io_at("lock", &path)(errno.into())),
    }
}

fn name_is_free(transaction: &rusqlite::Transaction<'_>, name: &str) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached("SELECT id FROM containers WHERE name = ?1")?;
    let other: Option<String> = statement.query_map([name], |row| row.get(0))?.next().transpose()?;
    other.map_or(Ok(()), |id| Err(StoreError::NameTaken { name: name.to_owned(), id }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::OverlayXattrs;

    fn row(id: &str, name: &str) -> KeptContainer {
        let manifest = Digest::sha256(b"image");
        KeptContainer {
            id: id.repeat(64),
            name: name.to_owned(),
            manifest,
            state: "{}".to_owned(),
            created: 7,
        }
    }

    #[test]
    fn containers_are_found_by_name_and_by_the_beginning_of_their_id() {
        let top = tempfile::tempdir().expect("folder");
        let store = Store::open(&top.path().join("store"), OverlayXattrs::Trusted).expect("store");
        let (one, two) = (row("a", "web"), row("ab", "abc"));
        let two = KeptContainer { id: two.id[..64].to_owned(), ..two };
        let (folder, lock) = store.new_container_folder(&one.id).expect("folder");
        assert!(store.lock_container(&one.id).expect("looked").is_none());
        drop(lock);
        assert!(store.lock_container(&one.id).expect("looked").is_some());
        store.add_container(&one).expect("added");
        store.add_container(&two).expect("added");
        let taken = store.add_container(&row("c", "web")).expect_err("one name");
        assert!(matches!(&taken, StoreError::NameTaken { id, .. } if *id == one.id), "{taken}");
        for (text, found) in [
            ("web", &one),
            ("/web", &one),
            ("aa", &one),
            ("ab", &two),
            ("abc", &two),
            (one.id.as_str(), &one),
        ] {
            assert_eq!(store.container(text).expect(text), *found, "{text}");
        }
        assert!(matches!(store.container("a"), Err(StoreError::AmbiguousContainer(_))));
        for text in ["", "d", "we", "WEB", "a%", "_"] {
            assert!(matches!(store.container(text), Err(StoreError::NoContainer(_))), "{text}");
        }
        assert_eq!(store.containers().expect("all"), [two.clone(), one.clone()]);
        assert_eq!(store.containers_up().expect("none"), []);
        let up = "{\"status\":\"running\"}".to_owned();
        // one that is damaged stops nobody
        store.change_container(&two.id, |_| "{".to_owned()).expect("written");
        assert_eq!(store.containers_up().expect("none"), []);
        let starting = "{\"status\":\"created\",\"starting\":true}".to_owned();
        for state in [up, starting] {
            store.change_container(&two.id, |_| state).expect("written");
            assert_eq!(store.containers_up().expect("one").len(), 1);
        }
        store.change_container(&two.id, |_| "{}".to_owned()).expect("written");
        let longer = |row: &KeptContainer| row.state.replace('}', " }");
        let changed = store.change_container(&one.id, longer).expect("written");
        assert_eq!(changed.expect("row").state, "{ }");
        assert_eq!(store.container("web").expect("found").state, "{ }");
        assert!(matches!(store.rename_container(&one.id, "abc"), Err(StoreError::NameTaken { .. })));
        store.rename_container(&one.id, "other").expect("renamed");
        // a name that is another's id is not that one's
        store.rename_container(&two.id, &one.id).expect("renamed");
        assert_eq!(store.container(&one.id).expect("found").name, "other");
        store.rename_container(&two.id, "abc").expect("renamed");
        store.remove_container(&one.id, None).expect("removed");
        store.remove_container(&one.id, None).expect("gone already");
        assert!(!folder.exists());
        assert_eq!(store.change_container(&one.id, |_| "late".to_owned()).expect("looked"), None);
        assert_eq!(store.containers().expect("all"), [two]);
    }

    #[test]
    fn folders_of_no_container_are_swept_when_they_are_old() {
        let top = tempfile::tempdir().expect("folder");
        let store = Store::open(&top.path().join("store"), OverlayXattrs::Trusted).expect("store");
        store.sweep_containers().expect("nothing there");
        let folders =
            ["a", "b", "c", "d"].map(|id| store.new_container_folder(&id.repeat(64)).expect("folder"));
        let [(old, lock), (held, _lock), (young, young_lock), (known, known_lock)] = folders;
        store.add_container(&row("d", "known")).expect("row");
        drop((lock, young_lock, known_lock));
        let before = std::time::SystemTime::now() - 2 * LEFT_OVER;
        for folder in [&old, &held, &known] {
            File::open(folder).expect("folder").set_modified(before).expect("older");
        }
        store.sweep_containers().expect("swept");
        assert_eq!([&old, &held, &young, &known].map(|folder| folder.exists()), [false, true, true, true]);
    }
}
