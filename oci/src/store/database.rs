//! The database file `store.db`: its schema, and the way from earlier ones.

use super::{
    StoreError,
    manifests::{Edge, write_edges},
};
use crate::{
    Digest,
    blobs::Blobs,
    database::{self, OpenError, Schema, Settings},
    spec::{ImageConfig, Parsed},
};
use rusqlite::{Connection, Transaction};
use std::{path::Path, time::Duration};

const SCHEMA_VERSION: i64 = 4;

/// Version 4, but for what [`MOUNTED`] and [`DEVICES`] make. Digests are text in their written form; times are seconds since 1970.
const SCHEMA: &str = "
CREATE TABLE manifests (           -- images and indexes
    digest      TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,     -- 'image' or 'index'
    media_type  TEXT NOT NULL,
    size        INTEGER NOT NULL,  -- of the manifest, bytes
    config      TEXT,              -- image: digest of the configuration, docker's image id
    platform    TEXT,              -- image: os/architecture[/variant]
    built       INTEGER,           -- when it was put together here; NULL where it came from elsewhere
    added       INTEGER NOT NULL,
    used        INTEGER NOT NULL
);
CREATE TABLE edges (               -- what a manifest needs, in its order; what is named need not be here
    parent      TEXT NOT NULL,     -- a manifest
    place       INTEGER NOT NULL,
    kind        TEXT NOT NULL,     -- 'config', 'layer', 'manifest', or 'referrer': attached to it
    child       TEXT NOT NULL,     -- digest of a blob or manifest
    media_type  TEXT NOT NULL,
    size        INTEGER NOT NULL,
    diff_id     TEXT,              -- layer: digest of the uncompressed archive
    platform    TEXT,              -- manifest: what it is for
    PRIMARY KEY (parent, place)
) WITHOUT ROWID;
CREATE INDEX edges_by_child ON edges (child);
CREATE TABLE names (
    reference   TEXT PRIMARY KEY,  -- registry/repository:tag, fully written out
    digest      TEXT NOT NULL,     -- of a manifest: an image or an index
    updated     INTEGER NOT NULL,  -- when it got this digest
    used        INTEGER NOT NULL
);
CREATE INDEX names_by_digest ON names (digest);
CREATE TABLE layers (
    diff_id     TEXT PRIMARY KEY,
    archive     INTEGER NOT NULL,  -- size of the uncompressed archive, bytes; 0 where unknown
    used        INTEGER NOT NULL
);
CREATE TABLE unpacked (            -- folders in layers/
    diff_id     TEXT NOT NULL,
    beneath     TEXT NOT NULL,     -- '' or, where the archive leaves out parents, what it was unpacked against
    made_in     TEXT,              -- boot id, 'synced', or NULL where the folder is not there;
                                   -- followed by ' one id' where owners are beside the files
    made_at     INTEGER,
    used        INTEGER NOT NULL,
    PRIMARY KEY (diff_id, beneath)
) WITHOUT ROWID;
CREATE TABLE forms (               -- the blobs known of a layer
    diff_id     TEXT NOT NULL,
    digest      TEXT NOT NULL,     -- of the blob
    media_type  TEXT NOT NULL,
    size        INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE INDEX forms_by_digest ON forms (digest);
CREATE TABLE sources (
    digest      TEXT NOT NULL,     -- of a blob
    repository  TEXT NOT NULL,     -- registry/repository that was seen to have it; empty: made here
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE TABLE cache (
    key         TEXT PRIMARY KEY,
    diff_id     TEXT,              -- NULL: the step changed nothing
    step        TEXT NOT NULL,     -- for people
    description TEXT,              -- what the key is a digest of, JSON
    made        INTEGER NOT NULL,
    used        INTEGER NOT NULL
);
CREATE INDEX cache_by_layer ON cache (diff_id);
CREATE TABLE containers (
    id          TEXT PRIMARY KEY,  -- also of the lease that its monitor holds
    name        TEXT NOT NULL UNIQUE,
    manifest    TEXT NOT NULL,     -- the image's
    state       TEXT NOT NULL,     -- JSON
    created     INTEGER NOT NULL,
    used        INTEGER NOT NULL
);
CREATE TABLE builds (
    id          TEXT PRIMARY KEY,
    request     TEXT NOT NULL,     -- JSON: recipe, target, platform, arguments; no secret
    started     INTEGER NOT NULL,
    finished    INTEGER,           -- NULL: runs, or its process died
    outcome     TEXT,              -- 'built', 'failed' or 'cancelled'
    manifest    TEXT               -- what was made
);
CREATE TABLE steps (
    build       TEXT NOT NULL,
    number      INTEGER NOT NULL,
    stage       TEXT NOT NULL,
    step        TEXT NOT NULL,     -- for people
    key         TEXT,              -- in cache
    outcome     TEXT NOT NULL,     -- 'cached', 'done', 'failed' or 'cancelled'
    started     INTEGER NOT NULL,  -- milliseconds since the build began
    finished    INTEGER NOT NULL,
    PRIMARY KEY (build, number)
) WITHOUT ROWID;
CREATE INDEX steps_by_key ON steps (key);
";

/// What version 3 has beside version 2.
const MOUNTED: &str = "
CREATE TABLE mounted (             -- files in layers/ that are mounted
    diff_id     TEXT NOT NULL,
    beneath     TEXT NOT NULL,     -- as in unpacked
    made_in     TEXT,              -- boot id or 'synced'
    made_at     INTEGER,
    used        INTEGER NOT NULL,
    length      INTEGER NOT NULL,  -- of the file, bytes
    tables      INTEGER NOT NULL,  -- where that begins which the kernel parses
    digest      TEXT NOT NULL,     -- of that and of the first block
    checked_in  TEXT,              -- boot id in which it was last found so
    PRIMARY KEY (diff_id, beneath)
) WITHOUT ROWID;
";

/// What version 4 has beside version 3.
const DEVICES: &str = "
ALTER TABLE mounted ADD COLUMN devices INTEGER NOT NULL DEFAULT 0;
                                   -- how many files of earlier layers it has contents in: beside it, with a number each
CREATE TABLE contents (            -- a few of the contents that a layer has, by which similar layers are found
    digest      TEXT NOT NULL,     -- of a file in the layer
    diff_id     TEXT NOT NULL,
    PRIMARY KEY (digest, diff_id)
) WITHOUT ROWID;
CREATE INDEX contents_by_layer ON contents (diff_id);
CREATE TABLE pieces (              -- blobs that were written here in more than one piece
    digest      TEXT PRIMARY KEY,  -- of the blob
    pieces      BLOB NOT NULL      -- who made them, rows of fixed length: pieces.rs
) WITHOUT ROWID;
";

/// From version 1, beside what [`SCHEMA`] makes: there an image was a row of `images`, an unpacked folder a column of
/// `layers`, and nothing but `cache` knew its last use. Unpacked folders are not taken over: a layer that leaves out parents
/// had one folder for all bases, made for whichever came first.
const BEFORE_2: &str = "
ALTER TABLE names RENAME TO names_1;
ALTER TABLE layers RENAME TO layers_1;
ALTER TABLE forms RENAME TO forms_1;
ALTER TABLE sources RENAME TO sources_1;
ALTER TABLE cache RENAME TO cache_1;
DROP INDEX names_by_digest;
";
const TO_2: &str = "
INSERT INTO names SELECT reference, digest, unixepoch(), unixepoch() FROM names_1;
INSERT INTO layers SELECT diff_id, archive, unixepoch() FROM layers_1;
INSERT INTO forms SELECT diff_id, digest, media_type, size FROM forms_1;
INSERT INTO sources SELECT digest, repository FROM sources_1;
INSERT INTO cache SELECT key, diff_id, step, NULL, used, used FROM cache_1;
INSERT INTO manifests SELECT digest, 'image', media_type, size, config, NULL, NULL, added, unixepoch() FROM images;
DROP TABLE names_1;
DROP TABLE layers_1;
DROP TABLE forms_1;
DROP TABLE sources_1;
DROP TABLE cache_1;
DROP TABLE images;
";

const SETTINGS: Settings = Settings {
    // names follow content: blobs are synced before; a lost last transaction is a lost name, not a wrong one
    synchronous: "NORMAL",
    busy: Duration::from_secs(60),
    cache_kib: 8192,
};

pub(super) fn open(path: &Path, blobs: &Blobs) -> Result<Connection, StoreError> {
    let migrate = |transaction: &Transaction<'_>, from: i64| {
        if from < 2 {
            to_2(transaction, blobs)?;
        }
        if from < 3 {
            transaction.execute_batch(MOUNTED)?;
        }
        Ok(transaction.execute_batch(DEVICES)?)
    };
    let create = [SCHEMA, MOUNTED, DEVICES].concat();
    let schema = Schema { version: SCHEMA_VERSION, create: &create, migrate: &migrate };
    database::open(path, &SETTINGS, &schema).map_err(|error| match error {
        OpenError::Sqlite(error) => error.into(),
        OpenError::Newer { found, known } => StoreError::Newer { found, known },
        OpenError::Migration(error) => error,
    })
}

fn to_2(transaction: &Transaction<'_>, blobs: &Blobs) -> Result<(), StoreError> {
    transaction.execute_batch(BEFORE_2)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute_batch(TO_2)?;
    let digests: Vec<String> = transaction
        .prepare("SELECT digest FROM manifests")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for text in digests {
        let Ok(digest) = text.parse::<Digest>() else { continue };
        // an image that cannot be read has no edges to write, and stays to be named and removed
        let Ok(bytes) = blobs.read_manifest(&digest) else { continue };
        let Ok(Parsed::Manifest(manifest)) = Parsed::from_bytes(&bytes, None) else { continue };
        let config = blobs.read(&manifest.config.digest, crate::limits::CONFIG_BYTES).ok();
        let Some(config) = config.and_then(|bytes| ImageConfig::from_bytes(&bytes).ok()) else { continue };
        write_edges(transaction, &digest, &Edge::of_manifest(&manifest, Some(&config)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
