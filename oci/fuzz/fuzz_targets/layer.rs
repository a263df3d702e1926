//! A layer's archive, perhaps compressed, on another one: indexed, unpacked, and read as ADD reads it.
//!
//! The first byte chooses; where a block looks like a header its checksum is made right, so that inputs get past it. What
//! is on the disk afterwards has to be what the table says, and nothing beside it, and so has what is in the file that the
//! kernel would mount.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipway_oci::{
    Digest, compression,
    erofs::Image,
    layer::{Entry, FileArchive, Footing, Kind, LayerError, OverlayXattrs, Toc, Tree, index, unpack, write_image},
};
use std::{
    io::Read,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

const REPAIR: u8 = 1;
const DECODE: u8 = 2;
/// Most bytes that an input may become: sparse files and bombs are the caps' to stop, and slow.
const MOST_BYTES: u64 = 1 << 20;

fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// Everything below `folder`, relative to it.
fn on_disk(folder: &Path) -> Vec<Vec<u8>> {
    let (mut pending, mut found): (Vec<PathBuf>, Vec<Vec<u8>>) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).expect("list").map(|entry| entry.expect("entry")) {
            let path = entry.path();
            found.push(path.strip_prefix(folder).expect("below").as_os_str().as_bytes().to_vec());
            if entry.file_type().expect("type").is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every path of a file that the kernel would mount.
fn in_image(image: &Image) -> Vec<Vec<u8>> {
    let (mut pending, mut found) = (vec![(Vec::new(), image.root().expect("root"))], Vec::new());
    while let Some((path, inode)) = pending.pop() {
        image.attributes(&inode).expect("attributes");
        for (name, nid) in if inode.is_directory() { image.list(&inode).expect("list") } else { Vec::new() } {
            let below = if path.is_empty() { name } else { [&path[..], b"/", &name].concat() };
            found.push(below.clone());
            pending.push((below, image.inode(nid).expect("inode")));
        }
    }
    found.sort();
    found
}

/// The table's entry that a path shows: of another name of a file that file's.
fn shown<'t>(toc: &'t Toc, entry: &'t Entry) -> &'t Entry {
    match entry.kind {
        Kind::Hardlink => toc.get(&entry.link).expect("the first name"),
        _ => entry,
    }
}

/// All that the table says of a path is in the file, and, where the layer was unpacked too, on the disk.
fn compared(toc: &Toc, image: &Image, disk: Option<&Path>) {
    for entry in toc.entries() {
        let inode = image.find(&entry.path).expect("look").expect("an entry of the table");
        let first = shown(toc, entry);
        assert_eq!((inode.owner(), inode.mtime()), ((first.uid, first.gid), first.mtime), "{entry:?}");
        if first.kind == Kind::File || first.kind == Kind::Symlink {
            let mut bytes = Vec::new();
            image.read(&inode).expect("open").take(MOST_BYTES).read_to_end(&mut bytes).expect("read");
            if first.kind == Kind::Symlink {
                assert_eq!(bytes, first.link, "{entry:?}");
            } else if first.size_bytes <= MOST_BYTES {
                assert_eq!(Some(Digest::content(&bytes)), first.content, "{entry:?}");
            }
        }
        let Some(disk) = disk else { continue };
        let found = std::fs::symlink_metadata(disk.join(entry.as_path())).expect("on the disk");
        // deletions are files of another kind where root's marks are not used
        if first.kind != Kind::Whiteout {
            assert_eq!(found.mode(), inode.mode(), "{entry:?}");
            let links = if found.is_dir() { 0 } else { found.nlink() };
            assert_eq!(links, if found.is_dir() { 0 } else { inode.links().into() }, "{entry:?}");
        }
    }
}

fn names(toc: &Toc) -> Vec<Vec<u8>> {
    let named = toc.entries().iter().filter(|entry| !entry.path.is_empty());
    named.map(|entry| entry.path.clone()).collect()
}

fn layers(base: &[u8], upper: &[u8], scratch: &Path) {
    let footing = index(base, None).ok().zip(index(upper, None).ok()).and_then(|(base, own)| {
        let tree = Tree::new(vec![Arc::new(base.toc)]);
        Footing::of(&own.toc, &tree).ok().flatten()
    });
    let indexed = index(upper, footing.as_ref());
    let target = scratch.join("layer");
    std::fs::create_dir(&target).expect("folder");
    let unpacked = unpack(upper, &target, OverlayXattrs::User, footing.as_ref());
    let file = tempfile();
    let written = write_image(upper, file.try_clone().expect("handle"), footing.as_ref());
    // what one form takes the other takes; root has every owner and device
    if rustix::process::geteuid().is_root() {
        match (&unpacked, &written) {
            (Ok(_), Err(error)) => panic!("a folder only: {error:?}"),
            (Err(error), Ok(_)) => panic!("a file only: {error:?}"),
            _ => {}
        }
    }
    match (&indexed, written) {
        (Ok(indexed), Ok((written, whole))) => {
            assert_eq!(indexed.toc, written.toc);
            assert!(whole.is_whole(&file).expect("read"), "what was written is not what was digested");
            let image = Image::open(file, Vec::new()).expect("what was written");
            assert_eq!(in_image(&image), names(&indexed.toc));
            compared(&indexed.toc, &image, unpacked.is_ok().then_some(target.as_path()));
        }
        // attributes, devices and links that no file system takes, and more of them than one file takes
        (Ok(_), Err(LayerError::Io { .. } | LayerError::Limit { .. })) => {}
        (Ok(_), Err(error)) => panic!("taken without a file only: {error:?}"),
        (Err(error), Ok(_)) => panic!("taken with a file only: {error:?}"),
        (Err(_), Err(_)) => {}
    }
    let outside = std::fs::read_dir(scratch).expect("list").count();
    assert_eq!(outside, 1, "something was made beside the layer");
    match (indexed, unpacked) {
        (Ok(indexed), Ok(unpacked)) => {
            assert_eq!(indexed.toc, unpacked.toc);
            assert_eq!(indexed.diff_id, unpacked.diff_id);
            assert_eq!(on_disk(&target), names(&unpacked.toc));
        }
        // the disk has rules of its own: names, owners, devices, room
        (Ok(_), Err(LayerError::Io { .. } | LayerError::NotMapped { .. })) => {}
        (Ok(_), Err(error)) => panic!("taken without a disk only: {error:?}"),
        (Err(error), Ok(_)) => panic!("taken with a disk only: {error:?}"),
        (Err(_), Err(_)) => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, rest @ ..] = data else { return };
    let mut bytes = Vec::new();
    if choice & DECODE != 0 {
        let Ok(decoder) = compression::decoder(rest) else { return };
        if decoder.take(MOST_BYTES).read_to_end(&mut bytes).is_err() {
            return;
        }
    } else {
        bytes.extend_from_slice(rest);
    }
    if choice & REPAIR != 0 {
        bytes = repaired(&bytes);
    }
    if let Ok(archive) = FileArchive::read(bytes.as_slice(), tempfile()) {
        for (at, entry) in archive.entries().iter().enumerate().filter(|(_, entry)| entry.kind == Kind::File) {
            let count = std::io::copy(&mut archive.open(at), &mut std::io::sink()).expect("kept bytes");
            assert_eq!(count, entry.size_bytes);
        }
    }
    let scratch = Path::new("/dev/shm").join(format!("slipway-fuzz-layer-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir(&scratch).expect("folder");
    let (base, upper) = bytes.split_at((usize::from(*cut) * 512).min(bytes.len()));
    layers(base, upper, &scratch);
    std::fs::remove_dir_all(&scratch).expect("the folder goes");
});

fn tempfile() -> std::fs::File {
    let path = Path::new("/dev/shm").join(format!("slipway-fuzz-file-{}", std::process::id()));
    let file =
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("file");
    std::fs::remove_file(path).expect("the name goes");
    file
}
