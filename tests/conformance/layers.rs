//! Every layer that a case makes, in each form that it can have on disk: the archive, the folder, and the file that the
//! kernel mounts say the same of every path, and `fsck.erofs` accepts the file.

use crate::support::image::{blob, entries, text};
use crate::support::{self, Slipway};
use serde_json::Value;
use slipway_oci::{
    Digest, compression,
    erofs::Image,
    layer::{OverlayXattrs, unpack, write_image},
};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

/// Layers that were looked at: most cases stand on the same.
static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// What a path is, in words that can be compared: mode, owner, time, links, and a digest of its bytes or a link's text.
type Listing = BTreeMap<Vec<u8>, String>;

/// Looks at the layers of an image; answers what is wrong with them.
pub(crate) fn check(slipway: &Slipway, manifest: &Value) -> Result<(), String> {
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let digest = text(&layer["digest"]);
        if SEEN.lock().unwrap().insert(digest.to_owned()) {
            one(&blob(slipway, digest)).map_err(|words| format!("layer {digest}: {words}"))?;
        }
    }
    Ok(())
}

fn one(bytes: &[u8]) -> Result<(), String> {
    let mut archive = Vec::new();
    compression::decoder(bytes).unwrap().read_to_end(&mut archive).unwrap();
    let scratch = support::scratch();
    let (folder, file) = (scratch.path().join("folder"), scratch.path().join("file"));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let wrong = |error: slipway_oci::layer::LayerError| slipway_oci::error::chain(&error);
    let unpacked = unpack(&archive[..], &folder, OverlayXattrs::Trusted, None).map_err(wrong)?;
    let made = File::options().read(true).write(true).create_new(true).open(&file).unwrap();
    let (written, _) = write_image(&archive[..], made, None).map_err(wrong)?;
    if unpacked.toc != written.toc {
        return Err("the tables differ".to_owned());
    }
    let names_root = unpacked.toc.get(b"").is_some();
    let on_disk = of_folder(&folder, names_root);
    let in_file = of_image(&Image::open(File::open(&file).unwrap(), Vec::new()).unwrap(), names_root);
    same("folder", &on_disk, "file", &in_file)?;
    // of a path that occurs several times the last counts; other names of a file have its facts
    let mut said = Listing::new();
    for entry in entries(bytes).into_iter().filter(|entry| !entry.path.contains(".wh.")) {
        let whole = match entry.kind {
            tar::EntryType::Link => continue,
            tar::EntryType::Regular => Digest::sha256(&entry.content).short(),
            _ => entry.link.clone(),
        };
        let facts = format!("{:o} {}:{} {} {whole}", entry.mode, entry.uid, entry.gid, entry.mtime);
        let path = entry.path.trim_start_matches("./").trim_matches('.').as_bytes().to_vec();
        said.insert(path, facts);
    }
    for (path, facts) in &said {
        // a type's bits come before, the number of links after
        let found = in_file.get(path).ok_or_else(|| format!("`{}` is missing", shown(path)))?;
        let (_, found) = found.split_once(' ').unwrap();
        let (found, _) = found.rsplit_once(" links ").unwrap();
        let facts = if facts.starts_with("777 ") { facts.trim_end() } else { facts.as_str() };
        if found.trim_end() != facts.trim_end() {
            return Err(format!("`{}`: the archive says {facts}, the file {found}", shown(path)));
        }
    }
    match support::find("fsck.erofs") {
        None => Ok(()),
        Some(fsck) => {
            let output = Command::new(fsck).arg("-d1").arg(&file).output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() && !words.contains("<E>") { Ok(()) } else { Err(words) }
        }
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn same(first: &str, these: &Listing, second: &str, those: &Listing) -> Result<(), String> {
    for path in these.keys().chain(those.keys()) {
        let (this, that) = (these.get(path), those.get(path));
        if this != that {
            return Err(format!("`{}`: the {first} says {this:?}, the {second} {that:?}", shown(path)));
        }
    }
    Ok(())
}

/// One line of a listing. Times of deletions, and of a root that the archive does not name, are of the moment.
fn line(
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    device: u64,
    whole: &str,
    links: u64,
    named: bool,
) -> String {
    let kind = mode & types::FORMAT;
    let is_deletion = kind == types::CHARACTER && device == 0;
    let mtime = if is_deletion || !named { 0 } else { mtime };
    let links = if kind == types::FOLDER || is_deletion { 1 } else { links };
    format!("{:o}/{device} {:o} {}:{} {mtime} {whole} links {links}", kind, mode & 0o7777, owner.0, owner.1)
}

/// File types in a mode (inode(7)).
mod types {
    pub(super) const FORMAT: u32 = 0o170_000;
    pub(super) const FOLDER: u32 = 0o040_000;
    pub(super) const CHARACTER: u32 = 0o020_000;
    pub(super) const BLOCK: u32 = 0o060_000;
    pub(super) const LINK: u32 = 0o120_000;
    pub(super) const FILE: u32 = 0o100_000;
}

fn of_folder(top: &Path, names_root: bool) -> Listing {
    let mut listing = Listing::new();
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let here = top.join(OsStr::from_bytes(&path));
        let metadata = fs::symlink_metadata(&here).unwrap();
        if metadata.is_dir() {
            for entry in fs::read_dir(&here).unwrap() {
                pending.push(below(&path, entry.unwrap().file_name().as_bytes()));
            }
        }
        let whole = match metadata.mode() & types::FORMAT {
            types::FILE => Digest::sha256(&fs::read(&here).unwrap()).short(),
            types::LINK => shown(fs::read_link(&here).unwrap().as_os_str().as_bytes()),
            _ => String::new(),
        };
        let owner = (metadata.uid(), metadata.gid());
        let named = !path.is_empty() || names_root;
        let (mode, mtime) = (metadata.mode(), metadata.mtime());
        listing.insert(path, line(mode, owner, mtime, metadata.rdev(), &whole, metadata.nlink(), named));
    }
    listing
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn of_image(image: &Image, names_root: bool) -> Listing {
    let mut listing = Listing::new();
    let mut pending = vec![(Vec::new(), image.root().unwrap())];
    while let Some((path, inode)) = pending.pop() {
        if inode.is_directory() {
            for (name, nid) in image.list(&inode).unwrap() {
                pending.push((below(&path, &name), image.inode(nid).unwrap()));
            }
        }
        let read = || {
            let mut bytes = Vec::new();
            image.read(&inode).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let kind = inode.mode() & types::FORMAT;
        let whole = match kind {
            types::FILE => Digest::sha256(&read()).short(),
            types::LINK => shown(&read()),
            _ => String::new(),
        };
        // the kernel's form of a number: twelve bits of it are the major one
        let number = inode.device();
        let device = match kind {
            types::CHARACTER | types::BLOCK => {
                rustix::fs::makedev(number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00)
            }
            _ => 0,
        };
        let named = !path.is_empty() || names_root;
        let facts =
            line(inode.mode(), inode.owner(), inode.mtime(), device, &whole, inode.links().into(), named);
        listing.insert(path, facts);
    }
    listing
}
