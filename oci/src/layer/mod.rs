//! Layers: trees as archives, as folders in overlayfs form, and as tables of contents.
//!
//! One layer has several faces. The *archive* is what travels: a tar whose uncompressed digest is the diff id, with
//! deletions as `.wh.name` and `.wh..wh..opq` (image-spec `layer.md`). The *folder* is what overlayfs stacks:
//! deletions as character devices 0:0 and the xattr `overlay.opaque`. The *table of contents* ([`Toc`]) says of each
//! path its type, owner, mode and content digest, so that destinations and cache keys are worked out ([`Tree`]) with
//! no layer on disk.
//!
//! - [`LayerWriter`]: entries in, archive and table out, in one pass.
//! - [`unpack`]: archive in, folder and table out. The archive is hostile.
//! - [`write_image`]: archive in, a file that the kernel mounts and table out ([`crate::erofs`]).
//! - [`diff`]: an overlay's upper folder in, entries out.
//! - [`lay_out`] and [`append_changed`]: the same where nothing can be mounted, as one plain folder.

mod archive;
mod changed;
mod compare;
mod copied;
mod describe;
pub mod diff;
mod disk;
mod entry;
mod files;
mod flat;
mod footing;
mod import;
mod list;
pub mod owner;
mod sink;
mod sparse;
mod toc;
mod tree;
mod unpack;
mod waste;
mod write;
mod xattr;

pub(crate) use archive::Archive as ArchiveReader;
pub use archive::{SNIFF_BYTES, is_header};
pub use changed::{Before, append_changed};
pub use compare::{Aspect, Difference, compare};
pub(crate) use copied::copy_digested;
pub(crate) use describe::describe as describe_item;
pub use diff::Clamp;
pub use entry::{Entry, Kind};
pub(crate) use entry::{join, name_of, parent_of};
pub use files::{ArchiveError, FileArchive};
pub use flat::lay_out;
pub use footing::Footing;
pub use import::{import_archive, import_folder};
pub use list::list;
pub(crate) use sink::Sink;
pub use toc::{Toc, TocError};
pub(crate) use tree::components;
pub use tree::{Found, Resolved, Tree, TreeError};
pub use unpack::{Unpacked, index, unpack, write_image, write_image_on};
pub(crate) use unpack::{index_ahead, unpack_ahead, write_image_ahead, write_image_seeking};
pub use waste::{Copies, Hidden, Left, Waste, waste};
pub use write::{Layer, LayerWriter, NewImage};
pub(crate) use xattr::set_opaque;
pub use xattr::{Attributes, OverlayXattrs, read_at};

use std::{io, path::PathBuf};

/// A failure while a layer is read, written or walked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The file system refused.
    #[error("cannot {operation} {}", in_layer(path))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Path within the layer.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An owner that this user namespace has not.
    #[error(
        "`{path}` of the layer belongs to {uid}:{gid}, and this user has no such id: give it more subordinate ids \
         in /etc/subuid and /etc/subgid, or run as root"
    )]
    NotMapped {
        /// Path within the layer.
        path: PathBuf,
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
    /// The archive cannot be read.
    #[error("the layer archive cannot be read")]
    Archive(#[source] io::Error),
    /// An archive entry that no honest tool writes.
    #[error("the layer archive has a bad entry `{path}`: {reason}")]
    Entry {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A bomb or an accident.
    #[error("the layer has more {what} than the {most} that are taken")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The cap.
        most: u64,
    },
    /// A bomb, or more than was expected.
    #[error("the layer is too large")]
    TooMuch(#[source] crate::unpacking::TooMuch),
    /// The blob could not be stored.
    #[error(transparent)]
    Blob(#[from] crate::blobs::BlobError),
    /// A file whose name means a deletion in layers.
    #[error("`{0}` cannot be in a layer: names that begin with `.wh.` mean that a file is deleted")]
    WhiteoutName(PathBuf),
    /// A file changed while it was read.
    #[error("`{0}` changed while it was read: build again when it is at rest")]
    Changed(PathBuf),
}

/// A path of a layer in words; the layer itself has none.
fn in_layer(path: &std::path::Path) -> String {
    match path.as_os_str().is_empty() {
        true => "the layer".to_owned(),
        false => format!("`{}` of the layer", path.display()),
    }
}

pub(crate) fn io_at(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> LayerError {
    let path = path.to_owned();
    move |source| LayerError::Io { operation, path, source }
}
