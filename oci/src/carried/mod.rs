//! Caches of `RUN --mount=type=cache` in the form in which they travel.
//!
//! ```text
//! table   JSON, compressed with zstd ([`MOUNTS_TYPE`]): which caches, of which chunks; which packs, and where in them a chunk is
//! pack    chunks one after the other, each a zstd frame of its own ([`PACK_TYPE`]); each export adds one with what is new in it
//! ```
//!
//! A cache is an archive (tar, as a layer's, with its own times) that is cut into chunks by content ([`chunk`]), and the
//! builder's record of what it has seen. So of a cache that was carried before only what changed travels, in both directions:
//! an export writes one pack with the chunks that no kept pack has, an import reads the packs that have a chunk which is not
//! here. A pack of which less than half is of use is written anew, and all are once there are many.
//!
//! Whoever reads one trusts nothing but digests: the table's and the packs' blobs are held against their descriptors, a chunk
//! against its length and digest, the whole against the archive's digest, and what the archive says is unpacked as a hostile
//! layer is (`crate::layer`), where a device or a whiteout makes all of it refused. The same caches are the same bytes:
//! there is no time in a table, no host and no user.

mod chunk;
mod read;
mod write;

pub use read::Local;
pub use write::{Source, Written, archive};

use crate::{Digest, compression, layer::LayerError, limits, store::CacheAbout};
use chunk::MOST;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    io::{self, BufReader, Read},
};

/// What a table is, as a blob.
pub const MOUNTS_TYPE: &str = "application/vnd.slipway.cache.mounts.v1.json+zstd";
/// What a pack is, as a blob.
pub const PACK_TYPE: &str = "application/vnd.slipway.cache.pack.v1";

const VERSION: u32 = 1;
/// Level of zstd for chunks: caches hold what was compressed already, most often.
const LEVEL: i32 = 3;
/// Most packs of a table that is read.
const MOST_PACKS: usize = 256;
/// Most caches of a table.
const MOST_CACHES: usize = 4096;
/// Most chunks of a table: 256 GiB of them.
const MOST_CHUNKS: usize = 4 << 20;

/// Why what was carried is not taken, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CarriedError {
    /// The table is none.
    #[error("the table of caches is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Made by a later Slipway.
    #[error("the table of caches has version {0}, this slipway knows {VERSION}: use a newer slipway")]
    Version(u32),
    /// It contradicts itself, or has more than is taken.
    #[error("the table of caches is refused: {0}")]
    Table(&'static str),
    /// A chunk that is not what the table says.
    #[error("chunk {0} of the cache is damaged")]
    Chunk(usize),
    /// The archive is not what the table says.
    #[error("the cache is not the one of its table: it has digest `{0}`")]
    Archive(Digest),
    /// The archive holds what no cache may.
    #[error("the cache has {0} at `{1}`")]
    Entry(&'static str, String),
    /// It cannot be unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The file system refused.
    #[error("cannot read or write the cache")]
    Io(#[from] io::Error),
}

/// A blob that chunks are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Where a chunk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Hexadecimal SHA-256 of its bytes.
    of: String,
    /// Their length.
    size: u32,
    /// In which pack.
    pack: u32,
    /// Where in it.
    at: u64,
    /// How long it is there.
    stored: u32,
}

/// One cache of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedCache {
    /// Its name in a store.
    pub name: String,
    /// What it is; without times.
    pub about: CacheAbout,
    /// Digest of the archive.
    pub archive: Digest,
    /// Length of the archive in bytes.
    pub size: u64,
    /// The archive's chunks, by number.
    chunks: Vec<u32>,
    /// Those of the builder's record.
    seen: Vec<u32>,
}

/// Caches, and where their chunks are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    version: u32,
    packs: Vec<Pack>,
    chunks: Vec<Place>,
    caches: Vec<CarriedCache>,
}

/// Whether a cache is more than may be unpacked, by the rules for layers: one chunk may stand in it as often as its table says.
fn is_bomb(size: u64, packed: u64) -> bool {
    let beyond = size > limits::UNPACKED_FREE_BYTES && size / limits::UNPACKED_RATIO > packed;
    size > crate::unpacking::most_bytes() || (crate::unpacking::allowed().is_none() && beyond)
}

impl Carried {
    /// The caches.
    pub fn caches(&self) -> &[CarriedCache] {
        &self.caches
    }

    /// The packs.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// The cache of this name.
    pub fn get(&self, name: &str) -> Option<&CarriedCache> {
        self.caches.iter().find(|cache| cache.name == name)
    }

    /// The table as a blob.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CarriedError> {
        Ok(zstd::encode_all(&*serde_json::to_vec(self)?, LEVEL)?)
    }

    /// Reads a table whose blob was verified.
    ///
    /// # Errors
    /// When anything about it is not as it is written here: nothing of it is taken then.
    pub fn from_bytes(bytes: &[u8]) -> Result<Carried, CarriedError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let most = limits::CARRIED_TABLE_BYTES;
        let mut json = Vec::new();
        compression::decoder(BufReader::new(bytes))?.take(most + 1).read_to_end(&mut json)?;
        if json.len() as u64 > most {
            return Err(CarriedError::Table("it is too long"));
        }
        let Versioned { version } = serde_json::from_slice(&json)?;
        if version != VERSION {
            return Err(CarriedError::Version(version));
        }
        let carried: Carried = serde_json::from_slice(&json)?;
        carried.check().map_err(CarriedError::Table)?;
        Ok(carried)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.packs.len() > MOST_PACKS || self.caches.len() > MOST_CACHES || self.chunks.len() > MOST_CHUNKS
        {
            return Err("it has more than is taken");
        }
        for place in &self.chunks {
            let pack = self.packs.get(place.pack as usize).ok_or("it names a pack that it does not have")?;
            let end = place.at.checked_add(u64::from(place.stored)).ok_or("a chunk ends nowhere")?;
            // a frame of what cannot be compressed is a little longer
            let fits = place.size as usize <= MOST && place.stored as usize <= 2 * MOST && place.size > 0;
            if end > pack.size || !fits {
                return Err("a chunk is not within its pack");
            }
        }
        let packed = self.packs.iter().fold(0u64, |sum, pack| sum.saturating_add(pack.size));
        let mut names = HashSet::new();
        for cache in &self.caches {
            if !names.insert(&cache.name) || !crate::store::is_cache_name(&cache.name) {
                return Err("a cache has no name of its own");
            }
            let sizes = |chunks: &[u32]| -> Result<u64, &'static str> {
                let size =
                    |number: &u32| self.chunks.get(*number as usize).map(|place| u64::from(place.size));
                chunks.iter().map(size).sum::<Option<u64>>().ok_or("it names a chunk that it does not have")
            };
            if sizes(&cache.chunks)? != cache.size || sizes(&cache.seen)? > limits::CACHE_SEEN_BYTES {
                return Err("a cache has not the length of its chunks");
            }
            if is_bomb(cache.size, packed) {
                return Err("a cache becomes more than is taken");
            }
        }
        Ok(())
    }

    /// The packs that have a chunk of `cache` which `have` has not.
    pub fn needed(&self, cache: &CarriedCache, have: &Local) -> Vec<Pack> {
        let chunks = cache.chunks.iter().chain(&cache.seen).map(|number| &self.chunks[*number as usize]);
        let missing: HashSet<u32> =
            chunks.filter(|place| !have.has(&place.of)).map(|place| place.pack).collect();
        let packs = self.packs.iter().enumerate().filter(|(at, _)| missing.contains(&(*at as u32)));
        packs.map(|(_, pack)| pack.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
