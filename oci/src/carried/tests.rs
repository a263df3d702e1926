use super::*;
use crate::{
    blobs::Blobs,
    layer::{Entry, Kind, LayerWriter, OverlayXattrs},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// Bytes that nobody can compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

struct Bench {
    top: tempfile::TempDir,
    folder: PathBuf,
    name: String,
    packs: HashMap<Digest, Vec<u8>>,
    carried: Carried,
}

impl Bench {
    /// A cache of so many files of so many bytes.
    fn new(files: usize, bytes: usize) -> Bench {
        let top = tempfile::tempdir().expect("folder");
        let folder = top.path().join("cache");
        fs::create_dir_all(folder.join("deep/er")).expect("folders");
        for number in 0..files {
            fs::write(folder.join(format!("deep/{number}")), noise(bytes, number as u64 + 1)).expect("file");
        }
        std::os::unix::fs::symlink("deep/0", folder.join("link")).expect("link");
        let name = Digest::sha256(b"cache").hex();
        Bench { top, folder, name, packs: HashMap::new(), carried: Carried::default() }
    }

    fn source(&self) -> Source {
        let scratch = self.top.path().join("scratch");
        let archive = archive(&self.folder, &scratch, OverlayXattrs::User).expect("archive");
        let about = CacheAbout { id: "things".to_owned(), made: 5, used: 6, ..CacheAbout::default() };
        Source { name: self.name.clone(), about, archive, seen: b"slipway seen 1\nx".to_vec() }
    }

    /// Exports it; answers how many bytes are new.
    fn export(&mut self) -> u64 {
        let mut pack = Vec::new();
        let written =
            Carried::write(&self.carried, &mut [self.source()], |_| true, &mut pack).expect("written");
        let table = written.carried.to_bytes().expect("table");
        self.carried = Carried::from_bytes(&table).expect("read again");
        assert_eq!(self.carried, written.carried);
        let new = pack.len();
        if written.has_pack {
            let last = self.carried.packs().last().expect("a pack").clone();
            assert_eq!((last.size, &last.digest), (pack.len() as u64, &Digest::sha256(&pack)));
            self.packs.insert(last.digest, pack);
        }
        (new + table.len()) as u64
    }

    /// Packs that are needed beside what `have` has, as files.
    fn files(&self, carried: &Carried, have: &Local) -> (HashMap<Digest, File>, u64) {
        let cache = carried.get(&self.name).expect("it is there");
        let mut bytes = 0;
        let files = carried.needed(cache, have).into_iter().map(|pack| {
            let mut file = tempfile::tempfile().expect("file");
            file.write_all(&self.packs[&pack.digest]).expect("written");
            bytes += pack.size;
            (pack.digest, file)
        });
        (files.collect(), bytes)
    }

    fn import(&self, carried: &Carried, have: &Local, to: &str) -> Result<(PathBuf, u64), CarriedError> {
        let target = self.top.path().join(to);
        fs::create_dir_all(&target).expect("target");
        let (packs, bytes) = self.files(carried, have);
        let cache = carried.get(&self.name).expect("it is there");
        let seen = carried.unpack(cache, (&packs, have), &target, OverlayXattrs::User)?;
        assert_eq!(seen, b"slipway seen 1\nx");
        Ok((target, bytes))
    }
}

/// Every path below a folder with what it holds.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).expect("folder").flatten() {
            let kind = entry.file_type().expect("kind");
            let name = entry.path().strip_prefix(folder).expect("below").to_owned();
            if kind.is_dir() {
                open.push(entry.path());
                found.insert(name, Vec::new());
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).expect("link");
                found.insert(name, target.as_os_str().as_encoded_bytes().to_vec());
            } else {
                found.insert(name, fs::read(entry.path()).expect("file"));
            }
        }
    }
    found
}

#[test]
fn a_cache_arrives_as_it_left_and_then_only_what_changed_travels() {
    let (files, bytes) = (100, 100_000);
    let mut bench = Bench::new(files, bytes);
    let first = bench.export();
    assert!(first > (files * bytes) as u64);
    let (there, fetched) = bench.import(&bench.carried, &Local::default(), "there").expect("imported");
    assert_eq!(contents(&there), contents(&bench.folder));
    assert!(fetched >= (files * bytes) as u64);
    // the same again is the same bytes
    let same = bench.carried.clone();
    let again = bench.export();
    assert_eq!(bench.carried, same);
    assert!(again < 100_000, "{again} bytes of a table");
    // a few files of many
    for number in [3, 40, 77] {
        fs::write(bench.folder.join(format!("deep/{number}")), noise(bytes, 1000 + number)).expect("changed");
    }
    let changed = 3 * bytes as u64;
    let second = bench.export();
    assert!(second * 2 < changed * 5, "{second} bytes written for {changed} changed");
    assert_eq!(bench.carried.packs().len(), 2);
    let here = archive(&there, &bench.top.path().join("s2"), OverlayXattrs::User).expect("archive");
    let have = Local::of(here, b"slipway seen 1\nx").expect("cut");
    let (later, fetched) = bench.import(&bench.carried, &have, "later").expect("imported");
    assert_eq!(contents(&later), contents(&bench.folder));
    assert!(fetched * 2 < changed * 5, "{fetched} bytes read for {changed} changed");
}

#[test]
fn packs_of_which_little_is_of_use_are_written_anew_and_others_caches_stay() {
    let mut bench = Bench::new(20, 50_000);
    bench.export();
    for number in 0..16 {
        fs::write(bench.folder.join(format!("deep/{number}")), noise(50_000, 500 + number)).expect("changed");
    }
    bench.export();
    assert_eq!(bench.carried.packs().len(), 1, "a fifth of the first is of use");
    let (there, _) = bench.import(&bench.carried, &Local::default(), "there").expect("imported");
    assert_eq!(contents(&there), contents(&bench.folder));
    // another cache is written; this one is carried on without being read
    let mut other = bench.source();
    other.name = Digest::sha256(b"other").hex();
    other.seen = Vec::new();
    let mut pack = Vec::new();
    let written = Carried::write(&bench.carried, &mut [other], |_| true, &mut pack).expect("written");
    assert!(!written.has_pack, "the same chunks");
    assert_eq!(written.carried.caches().len(), 2);
    let (there, _) = bench.import(&written.carried, &Local::default(), "beside").expect("imported");
    assert_eq!(contents(&there), contents(&bench.folder));
    let mut pack = Vec::new();
    let none = Carried::write(&written.carried, &mut [], |_| false, &mut pack).expect("written");
    assert_eq!((none.carried.caches().len(), none.carried.packs().len()), (0, 0));
}

#[test]
fn what_was_poisoned_is_refused_whole() {
    let mut bench = Bench::new(3, 50_000);
    bench.export();
    let good = bench.carried.clone();
    let refused =
        |bench: &Bench, carried: &Carried, name: &str| match bench.import(carried, &Local::default(), name) {
            Ok(_) => panic!("{name} was taken"),
            Err(error) => error.to_string(),
        };
    // a byte of a pack
    let digest = good.packs()[0].digest.clone();
    bench.packs.get_mut(&digest).expect("pack")[70_000] ^= 1;
    assert!(refused(&bench, &good, "a bit").contains("is damaged"));
    bench.packs.get_mut(&digest).expect("pack")[70_000] ^= 1;
    // a chunk in another's place, of the same length and digest of its own
    let mut swapped = good.clone();
    swapped.caches[0].chunks.swap(0, 1);
    assert!(!refused(&bench, &swapped, "swapped").is_empty());
    // the table says something else than its packs
    let mut other = good.clone();
    other.caches[0].archive = Digest::sha256(b"another");
    assert!(refused(&bench, &other, "archive").contains("is not the one of its table"));
    type Case = (&'static str, fn(&mut Carried));
    let tables: [Case; 9] = [
        ("a pack that is not there", |table| table.chunks[0].pack = 9),
        ("beyond the pack", |table| table.chunks[0].at = u64::MAX - 3),
        ("more than a chunk", |table| table.chunks[0].size = u32::MAX),
        ("nothing at all", |table| table.chunks[0].size = 0),
        ("a chunk that is not there", |table| table.caches[0].chunks[0] = 900_000),
        ("another length", |table| table.caches[0].size += 1),
        ("a path for a name", |table| table.caches[0].name = "../../etc".to_owned()),
        ("a cache twice", |table| table.caches.push(table.caches[0].clone())),
        ("a later version", |table| table.version = 2),
    ];
    for (name, change) in tables {
        let mut table = good.clone();
        change(&mut table);
        assert!(Carried::from_bytes(&table.to_bytes().expect("bytes")).is_err(), "{name}");
    }
    // a table that unpacks to more than any
    let bomb = zstd::encode_all(io::repeat(b' ').take(limits::CARRIED_TABLE_BYTES + 100), 3).expect("bomb");
    assert!(Carried::from_bytes(&bomb).is_err());
    for bytes in [&b""[..], b"{}", b"\x28\xb5\x2f\xfd"] {
        assert!(Carried::from_bytes(bytes).is_err());
    }
}

/// An archive that somebody made by hand.
fn forged(bench: &Bench, entries: Vec<(Entry, &[u8])>) -> Carried {
    let blobs = Blobs::open(&bench.top.path().join("b"), &bench.top.path().join("t")).expect("blobs");
    let mut writer = LayerWriter::new(&blobs, compression::Compression::None).expect("writer");
    for (mut entry, bytes) in entries {
        entry.size_bytes = bytes.len() as u64;
        writer.append_file(entry, &mut &*bytes).expect("entry");
    }
    let layer = writer.finish().expect("layer");
    let archive = blobs.open_blob(&layer.descriptor.digest).expect("archive");
    let source = Source { archive, ..bench.source() };
    let mut pack = Vec::new();
    let written = Carried::write(&Carried::default(), &mut [source], |_| true, &mut pack).expect("written");
    fs::write(bench.top.path().join("pack"), pack).expect("pack");
    written.carried
}

#[test]
fn what_no_cache_may_hold_is_refused_and_paths_stay_within() {
    let file = |path: &str| Entry::new(path, Kind::File, 0o644);
    let mut device = Entry::new("null", Kind::CharDevice, 0o666);
    device.device = (1, 3);
    let mut link = Entry::new("out", Kind::Symlink, 0o777);
    link.link = b"/etc".to_vec();
    type Case = (&'static str, Vec<(Entry, &'static [u8])>);
    let cases: Vec<Case> = vec![
        ("device", vec![(device, b"")]),
        ("whiteout", vec![(file("x"), b"x"), (Entry::new("gone", Kind::Whiteout, 0), b"")]),
        ("through a link", vec![(link, b""), (file("out/passwd"), b"x")]),
    ];
    for (name, entries) in cases {
        let mut bench = Bench::new(1, 10);
        let carried = forged(&bench, entries);
        let pack = fs::read(bench.top.path().join("pack")).expect("pack");
        bench.packs.insert(carried.packs()[0].digest.clone(), pack);
        let before = fs::read("/etc/passwd").expect("passwd");
        let result = bench.import(&carried, &Local::default(), "target");
        // a link leads where it leads within the cache, as in a container
        assert!(result.is_err() || name == "through a link", "{name} was taken");
        assert_eq!(fs::read("/etc/passwd").expect("passwd"), before, "{name}");
    }
}
