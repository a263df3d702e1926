//! What the kernel and other readers see of a file is what unpacking the same archive makes.

use super::{Image, Inode, Written};
use crate::{
    Digest,
    blobs::Blobs,
    compression::Compression,
    layer::{
        Entry, Kind, LayerError, LayerWriter, OverlayXattrs, Unpacked, name_of, parent_of, unpack,
        write_image,
    },
};
use proptest::prelude::*;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, FileTypeExt, MetadataExt},
        },
    },
    path::Path,
};

/// An entry of an archive, and a file's bytes.
pub(super) type Item = (Entry, Vec<u8>);

pub(super) fn archive(items: &[Item]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("folder");
    let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("t")).expect("blobs");
    let mut writer = LayerWriter::new(&blobs, Compression::None).expect("writer");
    for (entry, bytes) in items {
        let mut entry = entry.clone();
        entry.size_bytes = bytes.len() as u64;
        writer.append_file(entry, &mut &bytes[..]).expect("append");
    }
    let layer = writer.finish().expect("finish");
    let mut bytes = Vec::new();
    blobs.open_blob(&layer.descriptor.digest).expect("blob").read_to_end(&mut bytes).expect("read");
    bytes
}

fn written(bytes: &[u8]) -> Result<(File, Unpacked, Written), LayerError> {
    let file = tempfile::tempfile().expect("file");
    let (unpacked, written) = write_image(bytes, file.try_clone().expect("handle"), None)?;
    assert!(written.is_whole(&file).expect("read"));
    Ok((file, unpacked, written))
}

/// All that a program can see of a path, but for what file systems count in their own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    /// Of a folder none.
    links: u64,
    /// Of a folder or link none.
    size: u64,
    device: u64,
    text: Vec<u8>,
    content: Option<Digest>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(super) type Listing = BTreeMap<Vec<u8>, Seen>;

pub(super) fn digest(mut source: impl Read) -> Digest {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).expect("read");
    Digest::content(&bytes)
}

/// By our own reader.
pub(super) fn of_image(image: &Image) -> Listing {
    let mut listing = Listing::new();
    let mut pending = vec![(Vec::new(), image.root().expect("root"))];
    while let Some((path, inode)) = pending.pop() {
        if inode.is_directory() {
            for (name, nid) in image.list(&inode).expect("list") {
                let below = if path.is_empty() { name } else { [&path[..], b"/", &name].concat() };
                let child = image.inode(nid).expect("inode");
                assert_eq!(
                    image.find(&below).expect("look"),
                    Some(child),
                    "{}",
                    String::from_utf8_lossy(&below)
                );
                pending.push((below, child));
            }
        }
        listing.insert(path, of_inode(image, &inode));
    }
    listing
}

fn of_inode(image: &Image, inode: &Inode) -> Seen {
    let kind = inode.mode() & libc::S_IFMT;
    let mut text = Vec::new();
    if kind == libc::S_IFLNK {
        image.read(inode).expect("link").read_to_end(&mut text).expect("read");
    }
    let is_device = matches!(kind, libc::S_IFCHR | libc::S_IFBLK);
    let (major, minor) =
        (inode.device() >> 8 & 0xfff, inode.device() & 0xff | inode.device() >> 12 & 0xfff00);
    Seen {
        mode: inode.mode(),
        owner: inode.owner(),
        mtime: inode.mtime(),
        links: if inode.is_directory() { 0 } else { inode.links().into() },
        size: if kind == libc::S_IFREG { inode.size_bytes() } else { 0 },
        device: if is_device { rustix::fs::makedev(major, minor) } else { 0 },
        text,
        content: (kind == libc::S_IFREG).then(|| digest(image.read(inode).expect("file"))),
        attributes: image.attributes(inode).expect("attributes"),
    }
}

/// By the kernel.
pub(super) fn of_folder(top: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let here = top.join(std::ffi::OsStr::from_bytes(&path));
        // the top may be a descriptor's link
        let metadata = if path.is_empty() { fs::metadata(&here) } else { fs::symlink_metadata(&here) };
        let metadata = metadata.expect("metadata");
        let kind = metadata.file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(&here).expect("list") {
                let name = entry.expect("entry").file_name();
                pending.push(if path.is_empty() {
                    name.as_bytes().to_vec()
                } else {
                    [&path[..], b"/", name.as_bytes()].concat()
                });
            }
        }
        let is_device = kind.is_char_device() || kind.is_block_device();
        let seen = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: metadata.mtime(),
            links: if kind.is_dir() { 0 } else { metadata.nlink() },
            size: if kind.is_file() { metadata.len() } else { 0 },
            device: if is_device { metadata.rdev() } else { 0 },
            text: match kind.is_symlink() {
                true => fs::read_link(&here).expect("link").as_os_str().as_bytes().to_vec(),
                false => Vec::new(),
            },
            content: kind.is_file().then(|| digest(File::open(&here).expect("file"))),
            attributes: attributes(&here, path.is_empty()),
        };
        listing.insert(path, seen);
    }
    listing
}

fn attributes(path: &Path, follow: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0u8; 64 << 10];
    let length = match follow {
        true => rustix::fs::listxattr(path, &mut list[..]),
        false => rustix::fs::llistxattr(path, &mut list[..]),
    };
    let mut found = Vec::new();
    for name in list[..length.expect("list")].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 << 10];
        let length = match follow {
            true => rustix::fs::getxattr(path, name, &mut value[..]),
            false => rustix::fs::lgetxattr(path, name, &mut value[..]),
        };
        value.truncate(length.expect("value"));
        found.push((name.to_vec(), value));
    }
    found.sort();
    found
}

/// Mounts a file without a place; `None` on kernels that cannot.
fn mounted(file: &File, devices: &[File]) -> Option<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    let path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    fsconfig_set_string(&context, "source", path(file)).expect("source");
    for device in devices {
        fsconfig_set_string(&context, "device", path(device)).expect("device");
    }
    fsconfig_set_flag(&context, "ro").expect("read-only");
    match fsconfig_create(&context) {
        // before Linux 6.12, or without CONFIG_EROFS_FS_BACKED_BY_FILE
        Err(rustix::io::Errno::NOTBLK) => return None,
        other => other.expect("mounted"),
    }
    Some(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("a mount"))
}

pub(super) fn of_mount(file: &File, devices: &[File]) -> Option<Listing> {
    let tree = mounted(file, devices)?;
    Some(of_folder(Path::new(&format!("/proc/self/fd/{}", tree.as_raw_fd()))))
}

/// What unpacking leaves to the moment: times of deletions, and of a root that the archive does not name.
fn without_chance(mut listing: Listing, names_root: bool) -> Listing {
    for (path, seen) in &mut listing {
        let is_deletion = seen.mode & libc::S_IFMT == libc::S_IFCHR && seen.device == 0;
        if is_deletion || path.is_empty() && !names_root {
            seen.mtime = 0;
        }
    }
    listing
}

fn item(path: &str, kind: Kind) -> Item {
    (Entry::new(path, kind, 0o644), Vec::new())
}

pub(super) fn file(path: &str, bytes: impl Into<Vec<u8>>) -> Item {
    (Entry::new(path, Kind::File, 0o644), bytes.into())
}

pub(super) fn link(path: &str, kind: Kind, target: &str) -> Item {
    let mut entry = Entry::new(path, kind, 0o777);
    entry.link = target.into();
    (entry, Vec::new())
}

fn node(path: &str, kind: Kind, device: (u32, u32)) -> Item {
    let mut entry = Entry::new(path, kind, 0o600);
    entry.device = device;
    (entry, Vec::new())
}

/// An access list of a named user.
const NAMED: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16,
    0, 5, 0, 255, 255, 255, 255, 32, 0, 1, 0, 255, 255, 255, 255,
];
/// One that says no more than a mode.
const PLAIN: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 2, 0, 255, 255, 255,
    255,
];
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Everything that a layer can hold.
pub(super) fn everything() -> Vec<Item> {
    let mut items = vec![
        file("plain", "x"),
        file("same", "x"),
        file("empty", ""),
        file("block", vec![1; 4096]),
        file("more", vec![2; 4097]),
        file("zeros", vec![0; 3 << 20]),
        file("mixed", [vec![3; 5000], vec![0; 100_000], vec![4; 1]].concat()),
        link("hard", Kind::Hardlink, "more"),
        link("harder", Kind::Hardlink, "hard"),
        link("short", Kind::Symlink, "plain"),
        link("long", Kind::Symlink, &"l".repeat(4095)),
        link("middle", Kind::Symlink, &"m".repeat(4096 - 64)),
        link("larger", Kind::Symlink, &"m".repeat(4096 - 63)),
        node("character", Kind::CharDevice, (5, 1)),
        node("block-device", Kind::BlockDevice, (259, 70_000)),
        item("fifo", Kind::Fifo),
        item("gone", Kind::Whiteout),
        file("folder/with/parents/implied", "y"),
        file("!before-the-dot", "z"),
        file("-", "z"),
        file(&"n".repeat(255), "z"),
        file("naïve/ü", "z"),
        item("folder/gone", Kind::Whiteout),
    ];
    for (mode, path) in [(0o7777, "all-bits"), (0, "none"), (0o4755, "setuid"), (0o2710, "setgid")] {
        let mut made = file(path, "m");
        made.0.mode = mode;
        items.push(made);
    }
    let mut owned = file("owned", "o");
    (owned.0.uid, owned.0.gid) = (3_000_000_000, 4_294_967_294);
    owned.0.xattrs = vec![
        (b"security.capability".to_vec(), CAPABILITY.to_vec()),
        (b"system.posix_acl_access".to_vec(), NAMED.to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
        (b"user.large".to_vec(), vec![7; 1500]),
    ];
    let mut again = file("again", "o");
    again.0.xattrs = vec![(b"user.large".to_vec(), vec![7; 1500])];
    let mut plain = file("plainly", "o");
    plain.0.xattrs = vec![(b"system.posix_acl_access".to_vec(), PLAIN.to_vec())];
    let mut opaque = item("opaque", Kind::Directory);
    (opaque.0.mode, opaque.0.opaque, opaque.0.mtime) = (0o1777, true, 1_700_000_000);
    opaque.0.xattrs = vec![(b"system.posix_acl_default".to_vec(), NAMED.to_vec())];
    let mut linked = link("attributed", Kind::Symlink, "plain");
    linked.0.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
    items.extend([owned, again, plain, opaque, file("opaque/new", "n"), linked]);
    items
}

/// The three forms of one archive, which are compared entry by entry.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    let scratch = tempfile::tempdir().expect("folder");
    let target = scratch.path().join("layer");
    fs::create_dir(&target).expect("folder");
    fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let unpacked = unpack(bytes, &target, OverlayXattrs::Trusted, None);
    let (unpacked, file, made) = match (unpacked, written(bytes)) {
        (Ok(unpacked), Ok((file, made, _))) => (unpacked, file, made),
        (Err(_), Err(_)) => return Ok(()),
        (unpacked, written) => {
            return Err(TestCaseError::fail(format!(
                "one form only: {:?}, {:?}",
                unpacked.err(),
                written.err()
            )));
        }
    };
    prop_assert_eq!(&unpacked.toc, &made.toc);
    prop_assert_eq!(unpacked.diff_id, made.diff_id);
    let names_root = unpacked.toc.get(b"").is_some();
    let folder = without_chance(of_folder(&target), names_root);
    let image = of_image(&Image::open(file.try_clone().expect("handle"), Vec::new()).expect("open"));
    prop_assert_eq!(&without_chance(image.clone(), names_root), &folder);
    if let Some(kernel) = of_mount(&file, &[]) {
        prop_assert_eq!(kernel, image);
    }
    Ok(())
}

#[test]
fn privileged_everything_is_as_it_is_unpacked() {
    slipway_skip::need_root!();
    let items = everything();
    compare(&archive(&items)).expect("equal");
    compare(&archive(&[])).expect("an empty layer");
    let reversed: Vec<Item> =
        items.into_iter().filter(|(entry, _)| entry.kind != Kind::Hardlink).rev().collect();
    compare(&archive(&reversed)).expect("in another order");
}

#[test]
fn what_is_replaced_in_the_archive_does_not_show() {
    let items = [
        file("first", "old"),
        link("second", Kind::Hardlink, "first"),
        link("third", Kind::Hardlink, "first"),
        file("first", "new"),
        file("folder/below", "b"),
        link("beside", Kind::Hardlink, "folder/below"),
        file("folder", "now a file"),
        file("mode", "1"),
        item("mode", Kind::Directory),
    ];
    let (file, unpacked, _) = written(&archive(&items)).expect("written");
    let image = Image::open(file, Vec::new()).expect("open");
    let read = |path: &str| {
        let inode = image.find(path.as_bytes()).expect("look").expect("there");
        (io::read_to_string(image.read(&inode).expect("file")).expect("text"), inode.links())
    };
    for (path, text, links) in [
        ("first", "new", 1),
        ("second", "old", 2),
        ("third", "old", 2),
        ("beside", "b", 1),
        ("folder", "now a file", 1),
    ] {
        assert_eq!(read(path), (text.to_owned(), links), "{path}");
    }
    assert!(image.find(b"folder/below").expect("look").is_none());
    assert!(image.find(b"mode").expect("look").expect("there").is_directory());
    let second = unpacked.toc.get(b"second").expect("entry");
    assert_eq!((second.kind, second.content.clone()), (Kind::File, Some(Digest::content(b"old"))));
    assert_eq!(unpacked.toc.get(b"third").map(|entry| entry.link.clone()), Some(b"second".to_vec()));
}

#[test]
fn times_of_any_year_are_kept() {
    let times = [i64::MIN / 2, -2_208_988_800, -1, 0, 4_294_967_296, 4_300_000_000, 253_402_300_800];
    let items: Vec<Item> = times
        .iter()
        .enumerate()
        .map(|(number, time)| {
            let mut made = file(&format!("f{number}"), "");
            made.0.mtime = *time;
            made
        })
        .collect();
    let (file, ..) = written(&archive(&items)).expect("written");
    let image = Image::open(file.try_clone().expect("handle"), Vec::new()).expect("open");
    let seen = |listing: &Listing| -> Vec<i64> {
        (0..times.len()).map(|number| listing[format!("f{number}").as_bytes()].mtime).collect()
    };
    assert_eq!(seen(&of_image(&image)), times);
    if slipway_skip::is_root()
        && let Some(kernel) = of_mount(&file, &[])
    {
        assert_eq!(seen(&kernel), times);
    }
}

#[test]
fn folders_of_a_hundred_thousand_entries_are_searched() {
    let items: Vec<Item> = (0..100_000u32)
        .map(|number| item(&format!("many/{}-{number}", number.wrapping_mul(2_654_435_761)), Kind::Fifo))
        .collect();
    let (file, ..) = written(&archive(&items)).expect("written");
    let image = Image::open(file.try_clone().expect("handle"), Vec::new()).expect("open");
    for (entry, _) in items.iter().step_by(997) {
        assert!(image.find(&entry.path).expect("look").is_some());
        let missing = [&entry.path[..], b"!"].concat();
        assert!(image.find(&missing).expect("look").is_none());
    }
    let many = image.find(b"many").expect("look").expect("there");
    assert_eq!(image.list(&many).expect("list").len(), items.len());
    if slipway_skip::is_root()
        && let Some(tree) = mounted(&file, &[])
    {
        let top = format!("/proc/self/fd/{}", tree.as_raw_fd());
        assert_eq!(fs::read_dir(format!("{top}/many")).expect("list").count(), items.len());
        for (entry, _) in items.iter().step_by(997) {
            let path = Path::new(&top).join(entry.as_path());
            assert!(fs::symlink_metadata(path).expect("there").file_type().is_fifo());
        }
    }
    let named = tempfile::NamedTempFile::new().expect("file");
    io::copy(&mut { file }, &mut named.as_file()).expect("copy");
    assert_eq!(complaints(named.path()), [] as [String; 0]);
}

/// A sparse file of five gigabytes in the form of GNU tar, between two others.
fn sparse() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut plain = tar::Header::new_gnu();
    plain.set_size(3);
    plain.set_mode(0o644);
    builder.append_data(&mut plain.clone(), "before", &b"bef"[..]).expect("append");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("sparse").expect("path");
    header.set_mode(0o600);
    header.set_size(4);
    let gnu = header.as_gnu_mut().expect("gnu");
    gnu.set_real_size(5 << 30);
    let at = (5u64 << 30) - 10;
    gnu.sparse[0].offset.copy_from_slice(format!("{at:011o}\0").as_bytes());
    gnu.sparse[0].numbytes.copy_from_slice(format!("{:011o}\0", 4).as_bytes());
    header.set_cksum();
    builder.append(&header, &b"data"[..]).expect("append");
    builder.append_data(&mut plain, "after", &b"aft"[..]).expect("append");
    builder.into_inner().expect("archive")
}

#[test]
fn holes_cost_nothing() {
    let (file, ..) = written(&sparse()).expect("written");
    let metadata = file.metadata().expect("metadata");
    assert!(metadata.len() > 5 << 30 && metadata.blocks() < 2048, "{} blocks", metadata.blocks());
    let image = Image::open(file.try_clone().expect("handle"), Vec::new()).expect("open");
    let inode = image.find(b"sparse").expect("look").expect("there");
    assert_eq!(inode.size_bytes(), 5 << 30);
    if slipway_skip::is_root()
        && let Some(tree) = mounted(&file, &[])
    {
        let top = format!("/proc/self/fd/{}", tree.as_raw_fd());
        let sparse = File::open(format!("{top}/sparse")).expect("open");
        let mut bytes = [9; 14];
        sparse.read_exact_at(&mut bytes, (5 << 30) - 14).expect("read");
        assert_eq!(&bytes, b"\0\0\0\0data\0\0\0\0\0\0");
        assert_eq!(fs::read(format!("{top}/after")).expect("read"), b"aft");
    }
}

/// Five gigabytes with holes, as they are unpacked: the same length, and the same bytes wherever the folder has any.
#[test]
fn privileged_holes_are_where_unpacking_leaves_them() {
    slipway_skip::need_root!();
    let bytes = sparse();
    let (file, made, _) = written(&bytes).expect("written");
    let scratch = tempfile::tempdir().expect("folder");
    let unpacked = unpack(&bytes[..], scratch.path(), OverlayXattrs::Trusted, None).expect("unpacked");
    assert_eq!(unpacked.toc, made.toc);
    let image = Image::open(file, Vec::new()).expect("open");
    let inode = image.find(b"sparse").expect("look").expect("there");
    let folder = File::open(scratch.path().join("sparse")).expect("open");
    assert_eq!(folder.metadata().expect("metadata").len(), inode.size_bytes());
    let mut content = image.read(&inode).expect("content");
    let (mut at, mut data) = (0, 0);
    let (mut here, mut there) = (vec![0; 4 << 20], vec![0; 4 << 20]);
    while at < inode.size_bytes() {
        let most = here.len().min((inode.size_bytes() - at) as usize);
        content.read_exact(&mut here[..most]).expect("read");
        folder.read_exact_at(&mut there[..most], at).expect("read");
        assert!(here[..most] == there[..most], "from {at} on");
        data += here[..most].iter().filter(|byte| **byte != 0).count();
        at += most as u64;
    }
    assert_eq!(data, 4);
}

/// What `fsck.erofs` and `dump.erofs` say against a file; nothing where they are not installed.
fn complaints(path: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for (program, flag) in [("fsck.erofs", "-d1"), ("dump.erofs", "-S")] {
        let Some(program) = slipway_skip::find(program) else { continue };
        let output = std::process::Command::new(&program).arg(flag).arg(path).output().expect("runs");
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || said.contains("<E>") {
            complaints.push(format!("{}: {said}", program.display()));
        }
    }
    complaints
}

#[test]
fn other_tools_take_every_file() {
    slipway_skip::need!("fsck.erofs", "dump.erofs");
    let many: Vec<Item> = (0..3000).map(|number| file(&format!("many/{number:0100}"), "")).collect();
    let folder = tempfile::tempdir().expect("folder");
    for (name, bytes) in [
        ("everything", archive(&everything())),
        ("empty", archive(&[])),
        ("many", archive(&many)),
        ("sparse", sparse()),
    ] {
        let path = folder.path().join(name);
        write_image(&bytes[..], File::create_new(&path).expect("file"), None).expect("written");
        assert_eq!(complaints(&path), [] as [String; 0], "{name}");
    }
}

#[test]
fn equal_archives_make_equal_files_and_change_is_seen() {
    let bytes = archive(&everything());
    let (file, _, first) = written(&bytes).expect("written");
    let (_, _, second) = written(&bytes).expect("written");
    assert_eq!(first, second);
    for at in [1024, 1024 + 48, first.tables, first.tables + 4096, first.length_bytes - 4096] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 1], at).expect("write");
        assert!(!first.is_whole(&file).expect("read"), "{at}");
        file.write_all_at(&byte, at).expect("write");
    }
    assert!(first.is_whole(&file).expect("read"));
    file.set_len(first.length_bytes - 4096).expect("cut");
    assert!(!first.is_whole(&file).expect("read"));
}

#[test]
fn damage_is_an_error_and_no_panic() {
    let (file, _, made) = written(&archive(&everything())).expect("written");
    let mut seed = 1u64;
    let mut next = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    for _ in 0..300 {
        let mut changed = Vec::new();
        for _ in 0..8 {
            let at = match next(4) {
                0 => 1024 + next(128),
                _ => made.tables + next(made.length_bytes - made.tables),
            };
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("read");
            changed.push((at, byte));
            file.write_all_at(&[next(256) as u8], at).expect("write");
        }
        if let Ok(image) = Image::open(file.try_clone().expect("handle"), Vec::new()) {
            let mut pending: Vec<Inode> = image.root().into_iter().collect();
            let mut steps = 0;
            while let Some(inode) = pending.pop() {
                steps += 1;
                if steps > 500 {
                    break; // a folder that holds itself
                }
                let _ = image.attributes(&inode);
                if let Ok(content) = image.read(&inode) {
                    let _ = io::copy(&mut content.take(1 << 20), &mut io::sink());
                }
                let names = image.list(&inode).unwrap_or_default();
                pending.extend(names.iter().filter_map(|(_, nid)| image.inode(*nid).ok()));
            }
        }
        for (at, byte) in changed.iter().rev() {
            file.write_all_at(byte, *at).expect("write");
        }
    }
}

#[test]
fn what_no_file_system_takes_is_refused() {
    let mut capability = file("f", "");
    capability.0.xattrs = vec![(b"security.capability".to_vec(), vec![1, 2, 3])];
    for (what, item) in [
        ("a device that means a deletion", node("d", Kind::CharDevice, (0, 0))),
        ("a device number", node("d", Kind::BlockDevice, (4096, 0))),
        ("a link's length", link("l", Kind::Symlink, &"x".repeat(4096))),
        ("a capability", capability),
    ] {
        assert!(matches!(written(&archive(&[item])), Err(LayerError::Io { .. })), "{what}");
    }
    // of names, where an archive says them itself, its reader has the word
    for path in ["x".repeat(256), format!("a/{}/b", "x".repeat(256))] {
        assert!(written(&archive(&[file(&path, "")])).is_err(), "{path}");
    }
    // by a link whose text alone is allowed
    let led = [link("l", Kind::Symlink, &"x".repeat(256)), file("l/f", "")];
    assert!(matches!(written(&archive(&led)), Err(LayerError::Io { .. })));
    // as long as a name may be
    written(&archive(&[file(&format!("{}/f", "x".repeat(255)), "")])).expect("written");
}

fn names() -> impl Strategy<Value = String> {
    let name = proptest::sample::select(vec!["a", "b", "-", "!", ".x", "a.b", "ab", "é", "\u{1}"]);
    let long = proptest::sample::select(vec!["n".repeat(255), "m".repeat(200)]);
    let name = prop_oneof![20 => name.prop_map(str::to_owned), 1 => long];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

/// From 1902, where ext4 begins, to 2446, where it ends; often beside the limits of 32 bits.
fn times() -> impl Strategy<Value = i64> {
    let edges = [-1, 0, 1, i64::from(i32::MIN) + 1, i64::from(i32::MAX), i64::from(i32::MAX) + 1];
    let later = [i64::from(u32::MAX), i64::from(u32::MAX) + 1, 15_000_000_000];
    let edges: Vec<i64> = edges.into_iter().chain(later).collect();
    prop_oneof![-2_147_000_000..15_000_000_000i64, proptest::sample::select(edges)]
}

/// Texts of links, up to the longest.
fn targets() -> impl Strategy<Value = String> {
    prop_oneof![6 => names(), 1 => (1..4096usize).prop_map(|length| "t".repeat(length))]
}

pub(super) fn items() -> impl Strategy<Value = Item> {
    let kind = proptest::sample::select(vec![
        Kind::File,
        Kind::File,
        Kind::File,
        Kind::Directory,
        Kind::Directory,
        Kind::Symlink,
        Kind::Hardlink,
        Kind::Hardlink,
        Kind::Whiteout,
        Kind::Fifo,
        Kind::CharDevice,
        Kind::BlockDevice,
    ]);
    let size = proptest::sample::select(vec![0usize, 1, 100, 4095, 4096, 4097, 9000]);
    let attribute = proptest::sample::select(vec![
        None,
        None,
        None,
        Some(("user.k", b"v".to_vec())),
        Some(("user.large", vec![1; 700])),
        Some(("system.posix_acl_access", NAMED.to_vec())),
        Some(("system.posix_acl_access", PLAIN.to_vec())),
        Some(("system.posix_acl_default", NAMED.to_vec())),
        Some(("security.capability", CAPABILITY.to_vec())),
    ]);
    let numbers = (0..0o10000u32, 0..u32::MAX - 1, 0..70_000u32, times());
    let flags = (any::<bool>(), 0..4u8);
    (kind, names(), targets(), size, attribute, numbers, flags).prop_map(
        |(kind, path, link, size, attribute, (mode, uid, gid, mtime), (opaque, byte))| {
            let mut entry = Entry::new(path, kind, mode);
            (entry.uid, entry.gid, entry.mtime) = (uid, gid, mtime);
            entry.opaque = opaque && kind == Kind::Directory;
            if matches!(kind, Kind::Symlink | Kind::Hardlink) {
                entry.link = link.into_bytes();
            }
            if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
                entry.device = (1 + u32::from(byte) * 1000, 3 + uid % 1_000_000);
            }
            let portable = kind != Kind::Hardlink && kind != Kind::Whiteout;
            if let Some((name, value)) = attribute.filter(|_| portable) {
                entry.xattrs = vec![(name.as_bytes().to_vec(), value)];
            }
            (entry, if kind == Kind::File { vec![byte; size] } else { Vec::new() })
        },
    )
}

/// Entries that fail the whole archive make poor trees: hard links go to what is there already.
pub(super) fn sensible(mut items: Vec<Item>) -> Vec<Item> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for (entry, _) in &mut items {
        if entry.kind == Kind::Hardlink {
            match files.get(entry.link.len() % files.len().max(1)) {
                Some(first) if *first != entry.path => entry.link = first.clone(),
                _ => *entry = Entry::new(entry.path.clone(), Kind::Fifo, 0o600),
            }
        }
        if entry.kind == Kind::File {
            files.push(entry.path.clone());
        }
        if entry.kind != Kind::Directory {
            entry.xattrs.retain(|(name, _)| name != b"system.posix_acl_default");
        }
    }
    items
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn privileged_any_archive_is_as_it_is_unpacked(items in proptest::collection::vec(items(), 0..30)) {
        if !slipway_skip::is_root() {
            return Ok(());
        }
        compare(&archive(&sensible(items)))?;
    }

    #[test]
    fn any_archive_is_as_its_table_says(items in proptest::collection::vec(items(), 0..60)) {
        let Ok((file, unpacked, _)) = written(&archive(&items)) else { return Ok(()) };
        let shown = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        prop_assert_eq!(complaints(Path::new(&shown)), [] as [String; 0]);
        let listing = of_image(&Image::open(file, Vec::new()).expect("open"));
        let entries = unpacked.toc.entries();
        let root = usize::from(unpacked.toc.get(b"").is_none());
        prop_assert_eq!(listing.len(), entries.len() + root);
        for entry in entries {
            let seen = &listing[&entry.path];
            let first = if entry.kind == Kind::Hardlink { unpacked.toc.get(&entry.link).expect("first") } else { entry };
            prop_assert_eq!(seen.owner, (first.uid, first.gid));
            prop_assert_eq!(seen.mtime, first.mtime);
            prop_assert_eq!(&seen.content, &first.content);
            prop_assert!(entry.path.is_empty() || listing.contains_key(parent_of(&entry.path).expect("parent")));
            prop_assert!(name_of(&entry.path).len() < 256);
        }
    }
}
