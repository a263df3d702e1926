//! A layer of which nobody knows beforehand what it holds, written while earlier ones are looked for that it is like.
//!
//! Each content that the file did not have is shown to a search. Once that knows a layer which the new one resembles, all
//! contents of it are there to be referred to; what came before stays written. At the end the table of contents says how much
//! of each earlier file is of use, and what is not worth a device is copied.

use super::{
    earlier::Earlier,
    write::{Writer, Written, failed},
};
use crate::{
    Digest,
    layer::{Entry, Kind, LayerError, Sink, Toc},
};
use std::io::Read;

/// Looks for earlier layers.
pub(crate) trait Search {
    /// Is shown a new content and its size in bytes; may add what an earlier layer has.
    fn see(&mut self, digest: &Digest, size_bytes: u64, earlier: &mut Earlier);

    /// The least that an earlier file of this length has to be of use, both in bytes.
    fn least_bytes(&self, device_bytes: u64) -> u64;
}

/// A writer that looks for earlier layers.
pub(crate) struct Seeking<'s> {
    writer: Writer,
    search: &'s mut dyn Search,
}

impl Seeking<'_> {
    /// Writes with `writer`, which knows no earlier layers.
    pub(crate) fn new(writer: Writer, search: &mut dyn Search) -> Seeking<'_> {
        Seeking { writer, search }
    }

    /// Writes what `toc` says, and ends the file.
    pub(crate) fn finish(mut self, toc: &Toc) -> Result<Written, LayerError> {
        let search = self.search;
        self.writer.settle(toc, &|bytes| search.least_bytes(bytes)).map_err(failed)?;
        self.writer.finish(toc)
    }
}

impl Sink for Seeking<'_> {
    fn create(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Option<Digest>, LayerError> {
        let digest = self.writer.create(entry, source)?;
        if let Some(digest) = digest.as_ref().filter(|_| entry.kind == Kind::File)
            && self.writer.is_own(digest)
            && let Some(earlier) = self.writer.earlier_mut()
        {
            self.search.see(digest, entry.size_bytes, earlier);
        }
        Ok(digest)
    }
}
