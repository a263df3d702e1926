//! What a layer holds, read from its archive and kept small: names in one piece, a row of numbers for each path.
//!
//! The archive is hostile: bytes, time, paths and names have caps, and what a cap cut off is said. Nothing of it touches a file
//! system.

use super::read::Blob;
use crate::{
    limits,
    server::storage::{Storage, StorageError},
};
use slipway_oci::{
    Digest, compression,
    layer::{self, Entry, Kind},
};
use std::{
    collections::HashMap,
    error::Error,
    io::{self, BufReader, Read},
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::sync::Semaphore;

/// Why a list is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Cut {
    Paths,
    Names,
    Bytes,
    Time,
    /// It cannot be read further, and why.
    Broken(String),
    /// The registry does not have it.
    Missing,
}

impl Cut {
    /// In words that begin after the layer was named.
    pub(in crate::server) fn words(&self) -> String {
        match self {
            Cut::Paths => {
                format!("has more than {} paths; the others are not shown", limits::WEB_LAYER_PATHS)
            }
            Cut::Names => "has longer names than are kept; the other paths are not shown".to_owned(),
            Cut::Bytes => "unpacks to more than is read for a page; the other paths are not shown".to_owned(),
            Cut::Time => "takes too long to read; the paths after that are not shown".to_owned(),
            Cut::Broken(why) => format!("cannot be read to its end: {why}"),
            Cut::Missing => "is not in this registry".to_owned(),
        }
    }
}

/// One path.
#[derive(Clone, Debug)]
pub(in crate::server) struct Row {
    start: u32,
    path: u16,
    link: u16,
    pub(in crate::server) kind: Kind,
    pub(in crate::server) opaque: bool,
    pub(in crate::server) mode: u16,
    pub(in crate::server) uid: u32,
    pub(in crate::server) gid: u32,
    pub(in crate::server) mtime: i64,
    pub(in crate::server) size_bytes: u64,
    /// The beginning of a file's digest.
    pub(in crate::server) content: [u8; 16],
}

/// A layer's paths, sorted.
#[derive(Debug, Default)]
pub(in crate::server) struct Listing {
    names: Vec<u8>,
    pub(in crate::server) rows: Vec<Row>,
    pub(in crate::server) cut: Option<Cut>,
}

impl Listing {
    pub(in crate::server) fn path<'a>(&'a self, row: &Row) -> &'a [u8] {
        let start = row.start as usize;
        &self.names[start..start + usize::from(row.path)]
    }

    pub(in crate::server) fn link<'a>(&'a self, row: &Row) -> &'a [u8] {
        let start = row.start as usize + usize::from(row.path);
        &self.names[start..start + usize::from(row.link)]
    }

    fn bytes(&self) -> usize {
        self.names.len() + self.rows.len() * size_of::<Row>() + size_of::<Listing>()
    }

    /// A list of nothing, and why.
    pub(in crate::server) fn none(cut: Cut) -> Listing {
        Listing { cut: Some(cut), ..Listing::default() }
    }

    /// Reads an archive, compressed or not.
    pub(in crate::server) fn read(source: impl Read + Send, until: Instant) -> Listing {
        let mut listing = Listing::default();
        let source = BufReader::with_capacity(limits::PIECE_BYTES, source);
        let cut = match compression::decoder(source) {
            Ok(unpacked) => {
                let bounded = Bounded { source: unpacked, left: limits::WEB_LAYER_BYTES, until };
                layer::list(bounded, &mut |entry| listing.take(entry)).err().map(|error| cut(&error))
            }
            Err(error) => Some(cut(&error)),
        };
        listing.cut = listing.cut.take().or(cut);
        listing.sort();
        listing
    }

    fn take(&mut self, entry: Entry) -> ControlFlow<()> {
        let cut = match () {
            () if self.rows.len() >= limits::WEB_LAYER_PATHS => Some(Cut::Paths),
            () if self.names.len() + entry.path.len() + entry.link.len() > limits::WEB_LAYER_NAMES => {
                Some(Cut::Names)
            }
            () => None,
        };
        if cut.is_some() {
            self.cut = cut;
            return ControlFlow::Break(());
        }
        let mut content = [0; 16];
        if let Some(digest) = &entry.content {
            content.copy_from_slice(&digest.as_bytes()[..16]);
        }
        let start = u32::try_from(self.names.len()).expect("names are capped below 4 GiB");
        // paths and links have no more than `PATH_BYTES`
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let (path, link) = (length(&entry.path), length(&entry.link));
        self.names.extend_from_slice(&entry.path);
        self.names.extend_from_slice(&entry.link[..usize::from(link)]);
        self.rows.push(Row {
            start,
            path,
            link,
            kind: entry.kind,
            opaque: entry.opaque,
            mode: (entry.mode & 0o7777) as u16,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            size_bytes: entry.size_bytes,
            content,
        });
        ControlFlow::Continue(())
    }

    /// Sorts by path. Of several of one path the last counts, as when an archive is unpacked; what hides a folder's former content
    /// stays said.
    fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by(|a, b| self.path(a).cmp(self.path(b)));
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        for row in rows {
            match kept.last_mut().filter(|last| self.path(last) == self.path(&row)) {
                Some(last) if row.kind == Kind::Whiteout => last.opaque |= last.kind == Kind::Directory,
                Some(last) => {
                    let hides = row.kind == Kind::Directory && (last.opaque || last.kind == Kind::Whiteout);
                    *last = Row { opaque: row.opaque || hides, ..row };
                }
                None => kept.push(row),
            }
        }
        self.rows = kept;
    }
}

/// What ends an archive that is too large or takes too long.
#[derive(Debug, thiserror::Error)]
enum Bound {
    #[error("too many bytes")]
    Bytes,
    #[error("too late")]
    Time,
}

struct Bounded<R> {
    source: R,
    left: u64,
    until: Instant,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::Error::other(Bound::Time));
        }
        let count = self.source.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(Bound::Bytes))?;
        Ok(count)
    }
}

fn cut(error: &(dyn Error + 'static)) -> Cut {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(one) = next {
        let inner = one.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        if let Some(bound) = inner.and_then(|inner| inner.downcast_ref::<Bound>()) {
            return match bound {
                Bound::Bytes => Cut::Bytes,
                Bound::Time => Cut::Time,
            };
        }
        if inner.is_some_and(|inner| inner.downcast_ref::<slipway_oci::unpacking::TooMuch>().is_some()) {
            return Cut::Bytes;
        }
        words.push(one.to_string());
        next = one.source();
    }
    Cut::Broken(words.join(": "))
}

/// Lists that were read, the ones used last.
pub(in crate::server) struct Lists {
    kept: Mutex<Kept>,
    /// Turns to read something large.
    pub(in crate::server) readers: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    lists: HashMap<Digest, (Arc<Listing>, u64)>,
    bytes: usize,
    uses: u64,
}

impl Kept {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Listing>> {
        self.uses += 1;
        let uses = self.uses;
        let (listing, used) = self.lists.get_mut(digest)?;
        *used = uses;
        Some(Arc::clone(listing))
    }

    fn put(&mut self, digest: &Digest, listing: &Arc<Listing>) {
        self.uses += 1;
        if let Some((old, _)) = self.lists.insert(digest.clone(), (Arc::clone(listing), self.uses)) {
            self.bytes -= old.bytes();
        }
        self.bytes += listing.bytes();
        while self.bytes > limits::WEB_LISTS_BYTES && self.lists.len() > 1 {
            let oldest =
                self.lists.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| digest.clone());
            let Some((old, _)) = oldest.and_then(|oldest| self.lists.remove(&oldest)) else { return };
            self.bytes -= old.bytes();
        }
    }
}

impl Lists {
    pub(in crate::server) fn new() -> Lists {
        Lists { kept: Mutex::default(), readers: Arc::new(Semaphore::new(limits::WEB_READERS)) }
    }

    fn kept(&self, digest: &Digest) -> Option<Arc<Listing>> {
        self.kept.lock().expect("no panic happens while the lists are held").get(digest)
    }

    /// The list of a layer that the repository has. Blocks.
    pub(in crate::server) fn of(
        &self,
        storage: &Storage,
        repository: &str,
        digest: &Digest,
        until: Instant,
    ) -> Result<Arc<Listing>, StorageError> {
        // remembered or not, the repository has to have it
        let Some(blob) = Blob::open(storage, repository, digest)? else {
            return Ok(Arc::new(Listing::none(Cut::Missing)));
        };
        if let Some(known) = self.kept(digest) {
            return Ok(known);
        }
        let own = Instant::now() + limits::WEB_LAYER_TIME;
        let listing = Arc::new(Listing::read(blob, own.min(until)));
        // one that the request's own time cut is read again by the next one
        let hurried = listing.cut == Some(Cut::Time) && until < own;
        if !hurried {
            self.kept.lock().expect("no panic happens while the lists are held").put(digest, &listing);
        }
        Ok(listing)
    }
}
