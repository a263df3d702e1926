//! The OCI specifications' objects, digests, the local store, layers and path-safe roots.
//!
//! Everything that more than one part of Slipway says in the specifications' words lives here and knows no
//! sibling: what a digest, a reference, a manifest and a layer are ([`digest`], [`reference`], [`spec`]), how bytes
//! come to rest under their digest ([`blobs`]), how a path is reached without being led out of its root ([`root`]),
//! how a tree becomes a layer and a layer a tree ([`layer`]) or a file that is mounted ([`erofs`]), and the one store that several processes share
//! ([`store`]).
//!
//! Invariants: content first, pointer last; bytes are kept as they came; whatever was read from outside is hostile
//! until its digest and bounds ([`limits`]) are checked.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))] // tables of cases are as long as they are

pub mod artifact;
pub mod blobs;
pub mod carried;
pub mod chunked;
pub mod compression;
pub mod database;
pub mod digest;
pub mod erofs;
pub mod error;
pub mod file;
pub mod layer;
pub mod layout;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod pieces;
pub mod platform;
pub mod pool;
pub mod private;
pub mod reference;
pub mod reserve;
pub mod root;
pub mod spec;
pub mod store;
pub mod unpacking;

pub use digest::{Algorithm, Digest, Hasher};
pub use platform::Platform;
pub use pool::{Pool, Pooled};
pub use reference::Reference;
pub use root::Root;
pub use spec::Descriptor;
