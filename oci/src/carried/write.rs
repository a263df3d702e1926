//! From caches' folders to a table and a pack.

use super::{
    Carried, CarriedCache, CarriedError, LEVEL, Pack, Place, VERSION,
    chunk::{Chunks, MOST},
};
use crate::{
    Algorithm, Digest, Hasher,
    blobs::Blobs,
    compression::Compression,
    layer::{Clamp, LayerError, LayerWriter, OverlayXattrs, diff},
    store::CacheAbout,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// With more packs than this, everything is written anew.
const MANY_PACKS: usize = 32;

/// The digests and lengths of a stream's chunks.
type Cut = Vec<(String, usize)>;

/// A cache that is to be carried.
pub struct Source {
    /// Its name in the store.
    pub name: String,
    /// What it is.
    pub about: CacheAbout,
    /// The archive: [`archive`].
    pub archive: File,
    /// The builder's record.
    pub seen: Vec<u8>,
}

/// What an export has to write.
pub struct Written {
    /// The new table.
    pub carried: Carried,
    /// Whether there is a new pack; its place in [`Carried::packs`] is the last.
    pub has_pack: bool,
}

impl Carried {
    /// Writes `sources` beside what `earlier` has: what is new goes to `pack`. Of the caches of `earlier` that are not among
    /// the sources those that `stays` says so of are carried on as they are.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub fn write(
        earlier: &Carried,
        sources: &mut [Source],
        stays: impl Fn(&CarriedCache) -> bool,
        pack: &mut dyn Write,
    ) -> Result<Written, CarriedError> {
        let kept: Vec<&CarriedCache> = earlier
            .caches
            .iter()
            .filter(|cache| !sources.iter().any(|source| source.name == cache.name) && stays(cache))
            .collect();
        let mut cuts = Vec::new();
        for source in sources.iter_mut() {
            source.archive.seek(SeekFrom::Start(0))?;
            let (archive, digest) = cut_of(&mut source.archive)?;
            cuts.push((archive, digest, cut_of(&*source.seen)?.0));
        }
        let used: HashSet<&str> = cuts
            .iter()
            .flat_map(|(archive, _, seen)| archive.iter().chain(seen))
            .map(|(of, _)| of.as_str())
            .collect();
        let mut writing = Writing::new(earlier, &kept, &used, pack);
        let mut caches: Vec<CarriedCache> = Vec::new();
        for (source, (archive, digest, seen)) in sources.iter_mut().zip(&cuts) {
            source.archive.seek(SeekFrom::Start(0))?;
            caches.push(CarriedCache {
                name: source.name.clone(),
                about: CacheAbout { made: 0, used: 0, ..source.about.clone() },
                archive: digest.clone(),
                size: archive.iter().map(|(_, size)| *size as u64).sum(),
                chunks: writing.add(archive, &mut source.archive)?,
                seen: writing.add(seen, &mut &*source.seen)?,
            });
        }
        for cache in kept {
            let mut again = |chunks: &[u32]| {
                chunks.iter().map(|number| writing.keep(&earlier.chunks[*number as usize])).collect()
            };
            let (chunks, seen) = (again(&cache.chunks), again(&cache.seen));
            caches.push(CarriedCache { chunks, seen, ..cache.clone() });
        }
        caches.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(writing.end(caches))
    }
}

/// A table and its pack while they are written.
struct Writing<'a> {
    carried: Carried,
    pack: &'a mut dyn Write,
    hasher: Hasher,
    /// The pack's number and length.
    number: u32,
    size: u64,
    /// Chunks of earlier packs that stay.
    before: HashMap<&'a str, &'a Place>,
    /// Numbers that those packs have now.
    packs: BTreeMap<u32, u32>,
    known: HashMap<String, u32>,
}

impl<'a> Writing<'a> {
    /// Which of the earlier packs stay: those that a cache needs of which there is nothing but them, and those of which more than
    /// half is of use.
    fn new(
        earlier: &'a Carried,
        kept: &[&CarriedCache],
        used: &HashSet<&str>,
        pack: &'a mut dyn Write,
    ) -> Writing<'a> {
        let alone = kept.iter().flat_map(|cache| cache.chunks.iter().chain(&cache.seen));
        let alone: HashSet<u32> = alone.map(|number| earlier.chunks[*number as usize].pack).collect();
        let mut useful: HashMap<u32, u64> = HashMap::new();
        for place in earlier.chunks.iter().filter(|place| used.contains(place.of.as_str())) {
            *useful.entry(place.pack).or_default() += u64::from(place.stored);
        }
        let (mut carried, mut packs) = (Carried { version: VERSION, ..Carried::default() }, BTreeMap::new());
        for (at, one) in earlier.packs.iter().enumerate() {
            let at = at as u32;
            let half =
                2 * useful.get(&at).copied().unwrap_or(0) >= one.size && earlier.packs.len() <= MANY_PACKS;
            if alone.contains(&at) || half && useful.contains_key(&at) {
                packs.insert(at, carried.packs.len() as u32);
                carried.packs.push(one.clone());
            }
        }
        let before = earlier.chunks.iter().filter(|place| packs.contains_key(&place.pack));
        Writing {
            number: carried.packs.len() as u32,
            before: before.map(|place| (place.of.as_str(), place)).collect(),
            carried,
            pack,
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
            packs,
            known: HashMap::new(),
        }
    }

    /// The number of an earlier chunk in the new table.
    fn keep(&mut self, place: &Place) -> u32 {
        if let Some(known) = self.known.get(&place.of) {
            return *known;
        }
        self.push(Place { pack: self.packs[&place.pack], ..place.clone() })
    }

    fn push(&mut self, place: Place) -> u32 {
        let number = self.carried.chunks.len() as u32;
        self.known.insert(place.of.clone(), number);
        self.carried.chunks.push(place);
        number
    }

    /// Numbers of a stream's chunks; those that are nowhere yet are written.
    fn add(&mut self, cut: &Cut, source: &mut dyn Read) -> Result<Vec<u32>, CarriedError> {
        let (mut numbers, mut bytes) = (Vec::with_capacity(cut.len()), vec![0; MOST]);
        for (at, (of, size)) in cut.iter().enumerate() {
            let bytes = &mut bytes[..*size];
            source.read_exact(bytes)?;
            if let Some(known) = self.known.get(of) {
                numbers.push(*known);
            } else if let Some(place) = self.before.get(of.as_str()).copied() {
                numbers.push(self.keep(place));
            } else {
                // it was read twice, and nobody writes an archive of ours meanwhile
                if Digest::sha256(bytes).hex() != *of {
                    return Err(CarriedError::Chunk(at));
                }
                let stored = zstd::bulk::compress(bytes, LEVEL)?;
                self.pack.write_all(&stored)?;
                self.hasher.update(&stored);
                let place = Place {
                    of: of.clone(),
                    size: *size as u32,
                    pack: self.number,
                    at: self.size,
                    stored: stored.len() as u32,
                };
                self.size += stored.len() as u64;
                numbers.push(self.push(place));
            }
        }
        Ok(numbers)
    }

    fn end(mut self, caches: Vec<CarriedCache>) -> Written {
        let has_pack = self.size > 0;
        if has_pack {
            self.carried.packs.push(Pack { digest: self.hasher.finish(), size: self.size });
        }
        Written { carried: Carried { caches, ..self.carried }, has_pack }
    }
}

/// The archive of a cache's folder, as it is carried: sorted, owners and modes, times in seconds. It has no name; `scratch` is an
/// empty folder for it meanwhile.
///
/// # Errors
/// When the folder cannot be read, has what no archive says (a file called `.wh.x`), or there is no room.
pub fn archive(folder: &Path, scratch: &Path, xattrs: OverlayXattrs) -> Result<File, CarriedError> {
    let blobs = Blobs::open(&scratch.join("blobs"), &scratch.join("tmp")).map_err(LayerError::from)?;
    let mut writer = LayerWriter::new(&blobs, Compression::None)?;
    // nobody's: the folder's own mode and owner are always written
    let root = (u32::MAX, u32::MAX, u32::MAX);
    let terms = diff::Terms { xattrs, clamp: Clamp::Keep, root, creator: (0, 0) };
    diff::append_upper(&mut writer, folder, &terms)?;
    let layer = writer.finish()?;
    Ok(blobs.open_blob(&layer.descriptor.digest).map_err(LayerError::from)?)
}

/// The chunks of a stream, and its digest.
pub(super) fn cut_of(source: impl Read) -> io::Result<(Cut, Digest)> {
    let (mut chunks, mut hasher, mut cut) = (Chunks::new(source), Hasher::new(Algorithm::Sha256), Vec::new());
    while let Some(one) = chunks.next(|bytes| {
        hasher.update(bytes);
        (Digest::sha256(bytes).hex(), bytes.len())
    })? {
        cut.push(one);
    }
    Ok((cut, hasher.finish()))
}
