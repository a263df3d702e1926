//! Where the entries of an archive go.
//!
//! [`super::unpack`] judges a hostile archive, decides what each entry means, and drives one of these: a folder
//! ([`super::disk::Disk`]), a file that the kernel mounts ([`crate::erofs::Writer`]), or nothing. So what is refused, what
//! a path means and what wins does not depend on the form that a layer gets.

use super::{
    LayerError,
    copied::copy_digested,
    entry::{Entry, Kind},
};
use crate::Digest;
use std::io::{self, Read};

/// Takes a layer's entries. Those that decide by the finished table of contents alone need only take bytes.
pub(crate) trait Sink {
    /// Makes what `entry` says in a folder that was made before, in the place of what is there; answers the digest of a
    /// file's bytes, which `source` gives.
    fn create(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Option<Digest>, LayerError>;

    /// Marks a path of lower layers as deleted.
    fn whiteout(&mut self, _path: &[u8]) -> Result<(), LayerError> {
        Ok(())
    }

    /// Marks a folder that was made before as hiding what lower layers have below it.
    fn set_opaque(&mut self, _path: &[u8]) -> Result<(), LayerError> {
        Ok(())
    }

    /// Takes a path and everything below it away.
    fn remove(&mut self, _path: &[u8]) -> Result<(), LayerError> {
        Ok(())
    }

    /// Gives a folder its owner, mode, attributes and time, when nothing more is made in it.
    fn finish_folder(&mut self, _entry: &Entry) -> Result<(), LayerError> {
        Ok(())
    }
}

/// Reads, and keeps nothing.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn create(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Option<Digest>, LayerError> {
        match entry.kind {
            Kind::File => copy_digested(source, &mut io::sink(), entry).map(Some),
            _ => Ok(None),
        }
    }
}
