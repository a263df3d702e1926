//! Takes away what nothing names any more.

use super::{Store, StoreError, io_at};
use crate::{Digest, file};
use rustix::{fs::FlockOperation, io::Errno};
use std::{collections::HashSet, fs};

/// What a collection took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Unpacked layers removed.
    pub layers: u64,
}

impl Store {
    /// Removes blobs and unpacked layers that no image and no cache entry needs. `None` where another process uses the
    /// store: then nothing was done, and a later collection will find the same.
    pub fn collect(&self) -> Result<Option<Collected>, StoreError> {
        let failed = |error: Errno| io_at("lock", &self.root.join("store.lock"))(error.into());
        match rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // converting may have dropped the shared lock (flock(2), "not guaranteed to be atomic")
                rustix::fs::flock(&self.lock, FlockOperation::LockShared).map_err(failed)?;
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        }
        let result = self.collect_alone();
        rustix::fs::flock(&self.lock, FlockOperation::LockShared).map_err(failed)?;
        result.map(Some)
    }

    fn collect_alone(&self) -> Result<Collected, StoreError> {
        let mut live: HashSet<Digest> = HashSet::new();
        let mut layers: HashSet<Digest> = HashSet::new();
        self.named_by_manifests(&mut live, &mut layers)?;
        for diff_id in self.cached_layers()? {
            live.extend(self.layer_forms(&diff_id)?.into_iter().map(|form| form.descriptor.digest));
            layers.insert(diff_id);
        }
        let mut collected = Collected::default();
        for digest in self.blobs().list()? {
            if !live.contains(&digest) {
                collected.bytes += self.blobs().size(&digest)?.unwrap_or(0);
                collected.blobs += 1;
                self.blobs().remove(&digest)?;
            }
        }
        self.collect_layers(&layers, &mut collected)?;
        Ok(collected)
    }

    /// What manifests need, as far as rows say: no blob is read, so one that cannot be read stops nothing.
    fn named_by_manifests(
        &self,
        live: &mut HashSet<Digest>,
        layers: &mut HashSet<Digest>,
    ) -> Result<(), StoreError> {
        let database = self.database();
        let mut manifests = database.prepare("SELECT digest FROM manifests")?;
        for digest in manifests.query_map([], |row| row.get::<_, String>(0))? {
            live.extend(digest?.parse());
        }
        let mut edges = database.prepare("SELECT child, diff_id FROM edges")?;
        let rows =
            edges.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))?;
        for row in rows {
            let (child, diff_id) = row?;
            live.extend(child.parse());
            layers.extend(diff_id.and_then(|text| text.parse().ok()));
        }
        Ok(())
    }

    fn cached_layers(&self) -> Result<Vec<Digest>, StoreError> {
        let database = self.database();
        let mut statement =
            database.prepare("SELECT DISTINCT diff_id FROM cache WHERE diff_id IS NOT NULL")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut digests = Vec::new();
        for row in rows {
            digests.extend(row?.parse());
        }
        Ok(digests)
    }

    fn collect_layers(&self, live: &HashSet<Digest>, collected: &mut Collected) -> Result<(), StoreError> {
        let kept: HashSet<&str> = live.iter().map(Digest::hex).collect();
        let folder = self.root.join("layers");
        for entry in fs::read_dir(&folder).map_err(io_at("list", &folder))? {
            let entry = entry.map_err(io_at("list", &folder))?;
            let name = entry.file_name();
            // every form of a layer begins with its diff id
            let hex = name.to_str().and_then(|name| name.split(['-', '.']).next());
            if hex.is_some_and(|hex| kept.contains(hex)) {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                // out of its place first: a crash half-way must not leave half a layer under its name
                let trash = self.root.join("tmp").join(file::temporary_name("trash"));
                fs::rename(&path, &trash).map_err(io_at("rename", &path))?;
                file::remove_tree(&trash).map_err(io_at("remove", &trash))?;
                collected.layers += 1;
            } else {
                fs::remove_file(&path).map_err(io_at("remove", &path))?;
            }
        }
        let database = self.database();
        let rows: Vec<String> = database
            .prepare("SELECT diff_id FROM layers")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for diff_id in rows.iter().filter(|text| !text.parse().is_ok_and(|digest| live.contains(&digest))) {
            database.execute("DELETE FROM layers WHERE diff_id = ?1", [diff_id])?;
            database.execute("DELETE FROM forms WHERE diff_id = ?1", [diff_id])?;
            database.execute("DELETE FROM unpacked WHERE diff_id = ?1", [diff_id])?;
        }
        Ok(())
    }
}
