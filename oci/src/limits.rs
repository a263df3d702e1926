//! Every cap on what comes from outside, in one place.
//!
//! A number here is the most that is accepted, never a size that is allocated up front. Each says what attack or
//! accident it stops.

/// Largest manifest or index read or stored, in bytes. The distribution specification asks registries to take at
/// least 4 MiB; memory exhaustion by manifest was CVE-2017-11468.
pub const MANIFEST_BYTES: u64 = 4 << 20;

/// Largest image configuration read, in bytes.
pub const CONFIG_BYTES: u64 = 8 << 20;

/// Most layers in one image. The kernel's overlay stacks 500 lower folders; docker refuses 128.
pub const LAYERS: usize = 480;

/// Most layers in a manifest that is stored or passed on; artifacts have more than images.
pub const MANIFEST_LAYERS: usize = 4096;

/// Most manifests in one index.
pub const INDEX_ENTRIES: usize = 4096;

/// Most indexes within an index that are followed to an image.
pub const INDEX_DEPTH: usize = 2;

/// Most bytes of the table of a layer in chunks: what containers/storage reads (`maxTocSize`).
pub const CHUNK_TABLE_BYTES: u64 = 150 << 20;

/// Most entries in one layer archive (a bomb of empty files costs inodes, not bytes).
pub const LAYER_ENTRIES: u64 = 4_000_000;

/// Most names of hard-linked files that are looked at while one layer replaces first names (an archive that replaces them one
/// after the other would cost the square of its entries).
pub const LINKS_PASSED_ON: u64 = 1_000_000;

/// Most components of paths that links add to those that a layer's missing parents are looked up at, beyond some for each
/// parent (links that multiply, or lead into themselves).
pub const FOOTING_PATHS: usize = 10_000;

/// Most bytes that one archive or compressed stream may unpack to, and largest sum of one layer's file sizes (a
/// decompression bomb, an endless pipe); `--max-unpacked` names another.
pub const UNPACKED_BYTES: u64 = 64 << 30;

/// Bytes that a stream may unpack to however well it is compressed: an image of zeros is no attack.
pub const UNPACKED_FREE_BYTES: u64 = 4 << 30;

/// Most times its own size that a stream may unpack to beyond [`UNPACKED_FREE_BYTES`]. Source trees reach 10, logs 100;
/// gzip bombs 1,000, others 10,000 and more.
pub const UNPACKED_RATIO: u64 = 200;

/// Most bytes that git may write for one repository, its history and its files together (a hostile server fills the disk);
/// `--max-unpacked` names another. The largest public ones have some 10 GB with their whole history.
pub const REPOSITORY_BYTES: u64 = 32 << 30;

/// Most files and folders that git may make for one repository.
pub const REPOSITORY_ENTRIES: u64 = 4_000_000;

/// Most bytes of what a program that we run says that are kept; the rest is read and forgotten (a server's messages).
pub const PROGRAM_OUTPUT_BYTES: u64 = 256 << 10;

/// Most pieces of one sparse file of an archive.
pub const SPARSE_PIECES: usize = 1 << 20;

/// Largest sum of one sparse file's holes, in bytes: they cost nothing in the archive, and reading, digesting and
/// compressing in a layer.
pub const SPARSE_HOLE_BYTES: u64 = 64 << 30;

/// Largest sum of the PAX and GNU long-name headers of one entry of an archive, in bytes (all are in memory until the
/// entry comes).
pub const TAR_EXTENSION_BYTES: u64 = 1 << 20;

/// How often a path is looked up again that a rename elsewhere raced (openat2(2), `EAGAIN`).
pub const RESOLUTION_ATTEMPTS: u32 = 64;

/// Deepest folder nesting that is walked or unpacked.
pub const TREE_DEPTH: usize = 512;

/// Longest path inside an image, in bytes (Linux `PATH_MAX`).
pub const PATH_BYTES: usize = 4096;

/// Largest `/etc/passwd` or `/etc/group` of an image that is read, in bytes (CVE-2024-9676).
pub const ACCOUNT_FILE_BYTES: u64 = 8 << 20;

/// Largest Dockerfile, in bytes.
pub const RECIPE_BYTES: u64 = 16 << 20;

/// Largest file of variables or labels that a caller names, in bytes.
pub const ENV_FILE_BYTES: u64 = 16 << 20;

/// Largest secret that a caller names, in bytes (BuildKit's cap).
pub const SECRET_BYTES: u64 = 500 << 10;

/// Largest ignore file, in bytes.
pub const IGNORE_FILE_BYTES: u64 = 4 << 20;

/// Longest chain of symbolic links followed inside a root (Linux `MAXSYMLINKS`).
pub const SYMLINKS: usize = 40;

/// Largest extended attribute kept, in bytes (Linux `XATTR_SIZE_MAX`).
pub const XATTR_BYTES: usize = 64 << 10;

/// Longest repository name with its host, in bytes (distribution specification, section "Pulling manifests").
pub const REPOSITORY_NAME_BYTES: usize = 255;

/// Largest file of a lease that is read, in bytes: a line for each thing that its owner holds.
pub const LEASE_BYTES: u64 = 256 << 20;

/// Room that is kept for deletes on a full disk, in bytes: the database's log of a thousand changed pages.
pub const RESERVE_BYTES: usize = 4 << 20;

/// Largest table of carried caches, in bytes of JSON.
pub const CARRIED_TABLE_BYTES: u64 = 64 << 20;

/// Largest record of what a cache has seen that is carried, in bytes.
pub const CACHE_SEEN_BYTES: u64 = 64 << 20;

/// Largest file that says what a cache of `RUN --mount` is, in bytes.
pub const CACHE_ABOUT_BYTES: u64 = 256 << 10;

/// How exactly last uses are known, in seconds: writing each would make every look a write.
pub const USED_GRAIN: i64 = 3600;

/// Most entries of tables of contents that one process holds in memory, some 300 bytes each.
pub const HELD_ENTRIES: usize = 2_000_000;

/// Most bytes of a step's description that are kept with its result; a longer one is left out.
pub const DESCRIPTION_BYTES: usize = 256 << 10;

/// Bytes of a decompressed stream that are handed on together, and how many such pieces one stream is ahead of who reads
/// it at most: 2 MiB a layer.
pub const AHEAD_BYTES: usize = 256 << 10;

/// See [`AHEAD_BYTES`].
pub const PIECES_AHEAD: usize = 8;

/// Most layers that are made runnable at the same time while they come in. Each takes a decoder's window (8 MiB, of zstd
/// with long distances up to 128), [`AHEAD_BYTES`] times [`PIECES_AHEAD`], a buffer of the file and its table of contents.
pub const INTAKE_LAYERS: usize = 6;

/// Most manifests that are attached to one in the store.
pub const ATTACHED: usize = 256;

/// Most bytes of one thing that is attached, where it is fetched along with its image.
pub const ATTACHED_BYTES: u64 = 256 << 20;
