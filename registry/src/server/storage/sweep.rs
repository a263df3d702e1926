//! Removes upload sessions that nobody finishes, and files that a crash left.

use super::{Storage, StorageError, UploadId, error::io_error, writer::Durability};
use crate::limits;
use std::{
    collections::HashSet,
    fs::{self, File},
    time::SystemTime,
};

impl Storage {
    /// Removes sessions without a write since [`limits::SESSION_AGE`], files without a session older than
    /// [`limits::ORPHAN_AGE`], and sessions without a file. Answers how many went.
    pub fn sweep_uploads(&self, now: SystemTime) -> Result<usize, StorageError> {
        let sessions: HashSet<String> = self.readers.read(|database| {
            let mut statement = database.prepare_cached("SELECT id FROM uploads")?;
            let ids = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(ids)
        })?;
        let mut swept = 0;
        let mut present = HashSet::new();
        for entry in fs::read_dir(&self.uploads).map_err(io_error("list", &self.uploads))? {
            let entry = entry.map_err(io_error("list", &self.uploads))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let session = sessions.contains(&name);
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            // gone meanwhile: somebody else finished it
            let Ok(modified) = modified else { continue };
            let age = now.duration_since(modified).unwrap_or_default();
            let most = if session { limits::SESSION_AGE } else { limits::ORPHAN_AGE };
            // a lock that is held means that a request is writing, however slowly
            let free = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if age < most || !free() {
                present.insert(name);
                continue;
            }
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            swept += 1;
        }
        let gone: Vec<String> = sessions.difference(&present).cloned().collect();
        self.forget_sessions(gone)?;
        Ok(swept)
    }

    fn forget_sessions(&self, ids: Vec<String>) -> Result<(), StorageError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut states = self.hash_states.lock().expect("no panic happens while the states are held");
        for id in ids.iter().filter_map(|id| id.parse::<UploadId>().ok()) {
            states.remove(&id);
        }
        drop(states);
        self.writer.write(Durability::Lazy, move |database, _| {
            for id in ids {
                database.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([id])?;
            }
            Ok(())
        })
    }
}
