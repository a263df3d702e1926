//! A bucket that somebody else wrote, which is only read.

use super::{BucketConfig, bucket::Bucket, read::ObjectReader};
use crate::{
    limits,
    server::storage::{StorageError, content::Reader},
};
use std::{sync::Arc, time::SystemTime};

/// Objects below a prefix.
pub struct ForeignBucket(Arc<Bucket>);

/// An object, by its name below the prefix.
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub written: SystemTime,
}

/// An object that is open, and its size in bytes.
pub type Opened = (Arc<dyn Reader>, u64);

impl ForeignBucket {
    /// The bucket, of which nothing is asked yet.
    pub fn open(config: &BucketConfig) -> Result<ForeignBucket, StorageError> {
        Ok(ForeignBucket(Arc::new(Bucket::open(config)?)))
    }

    /// Objects below a name, those after another one where it is given, in order; none at the end.
    pub fn list(&self, below: &str, after: Option<&str>) -> Result<Vec<Found>, StorageError> {
        let after = after.map(|name| self.0.key(name));
        let found = self.0.list(below, after, limits::STORE_LIST, |_| true)?;
        let one = |object: &object_store::ObjectMeta| Found {
            name: self.0.name(&object.location).to_owned(),
            size_bytes: object.size,
            written: object.last_modified.into(),
        };
        Ok(found.iter().map(one).collect())
    }

    /// The bytes of a small object, of at most `most` bytes; `None` where there is none, or a larger one.
    pub fn small(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let key = self.0.key(name);
        if self.0.size(&key)?.is_none_or(|size| size > most) {
            return Ok(None);
        }
        Ok(self.0.whole(&key)?.map(|bytes| bytes.to_vec()))
    }

    /// An object and its size in bytes.
    pub fn object(&self, name: &str) -> Result<Option<Opened>, StorageError> {
        let key = self.0.key(name);
        let Some(size) = self.0.size(&key)? else { return Ok(None) };
        let reader: Arc<dyn Reader> = Arc::new(ObjectReader::new(Arc::clone(&self.0), key, size));
        Ok(Some((reader, size)))
    }
}
