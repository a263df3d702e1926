//! Files and folders as the blobs of artifacts, in ORAS's form: a file as it is, a folder as a gzip tar whose names begin with
//! the folder's own (ORAS, `content/file`).
//!
//! What is packed is the same for the same content, whoever packs it and when. What is unpacked is hostile: names are resolved
//! within the target by [`Root`], links lead nowhere else, and there is a cap on all of it.

use crate::{
    Digest, Root, compression,
    digest::HashingWriter,
    file::{self, CopyError},
    layer::ArchiveReader,
    limits, unpacking,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// The name of a layer's file or folder (image-spec `annotations.md`).
pub const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";
/// The digest of a folder's uncompressed tar (ORAS).
pub const ANNOTATION_DIGEST: &str = "io.deis.oras.content.digest";
/// Says that a layer is a folder (ORAS).
pub const ANNOTATION_UNPACK: &str = "io.deis.oras.content.unpack";
/// The type of a layer of which nothing is said.
pub const FILE_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// The type of a folder of which nothing is said.
pub const FOLDER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The configuration of an artifact that has none (image-spec `manifest.md`).
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Its bytes.
pub const EMPTY: &[u8] = b"{}";
/// The type of an artifact of which nothing is said (ORAS).
pub const UNKNOWN_TYPE: &str = "application/vnd.unknown.artifact.v1";

/// Most entries of a folder.
const ENTRIES: usize = 1_000_000;

/// Why a folder is not packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file cannot be read or written.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// At what.
        operation: &'static str,
        /// Of which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive is damaged.
    #[error("cannot read the artifact's archive")]
    Archive(#[source] io::Error),
    /// Neither file, folder nor link.
    #[error("`{0}` is neither a file, a folder nor a link")]
    Kind(PathBuf),
    /// A name or link that leads out of the folder.
    #[error("`{0}` of the artifact leads out of the folder that it is for")]
    Outside(String),
    /// More than is taken.
    #[error("the artifact has more {0} than are taken")]
    Limit(&'static str),
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    move |source| ArtifactError::Io { operation, path: path.to_owned(), source }
}

/// The name under which an artifact may have a file: relative, without `..`, as a key and as a path.
pub fn safe_name(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    let plain = !parts.is_empty() && !name.chars().any(char::is_control);
    plain.then(|| parts.join("/"))
}

/// Packs a folder under `name` and answers the digest of the uncompressed tar.
pub fn pack(folder: &Path, name: &str, output: impl Write) -> Result<Digest, ArtifactError> {
    let gzip = flate2::write::GzEncoder::new(output, flate2::Compression::default());
    let mut tar = tar::Builder::new(HashingWriter::new(gzip));
    let mut count = 0;
    add(&mut tar, folder, Path::new(name), 0, &mut count)?;
    let whole = failed("pack", folder);
    let (gzip, digest, _) = match tar.into_inner() {
        Ok(writer) => writer.finish(),
        Err(error) => return Err(whole(error)),
    };
    gzip.finish().and_then(|mut output| output.flush()).map_err(failed("pack", folder))?;
    Ok(digest)
}

fn add(
    tar: &mut tar::Builder<impl Write>,
    path: &Path,
    name: &Path,
    depth: usize,
    count: &mut usize,
) -> Result<(), ArtifactError> {
    *count += 1;
    if *count > ENTRIES || depth > limits::TREE_DEPTH {
        return Err(ArtifactError::Limit("files"));
    }
    let metadata = fs::symlink_metadata(path).map_err(failed("read", path))?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(metadata.permissions().mode() & 0o7777);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let kind = metadata.file_type();
    if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        let target = fs::read_link(path).map_err(failed("read", path))?;
        tar.append_link(&mut header, name, target).map_err(failed("pack", path))
    } else if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, name, io::empty()).map_err(failed("pack", path))?;
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(failed("read", path))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            add(tar, &entry.path(), &name.join(entry.file_name()), depth + 1, count)?;
        }
        Ok(())
    } else if kind.is_file() {
        header.set_size(metadata.len());
        let file = File::open(path).map_err(failed("read", path))?;
        // a file that grows meanwhile has the size that its header says
        let mut file = file.take(metadata.len());
        tar.append_data(&mut header, name, &mut file).map_err(failed("pack", path))?;
        match file.limit() {
            0 => Ok(()),
            _ => Err(failed("read", path)(io::Error::other("it became shorter meanwhile"))),
        }
    } else {
        Err(ArtifactError::Kind(path.to_owned()))
    }
}

/// Opens a file of an artifact for writing within a folder, in the place of what has the name.
pub fn create(into: &Root, name: &str, mode: u32) -> Result<File, ArtifactError> {
    let path = Path::new(name);
    let write = || failed("write", path);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        into.create_folders(parent, Mode::from_raw_mode(0o755)).map_err(write())?;
    }
    let (parent, last) = into.parent(path).map_err(write())?;
    match rustix::fs::unlinkat(&parent, &last, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(write()(error.into())),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(&parent, &last, flags, Mode::from_raw_mode(mode & 0o777));
    Ok(File::from(file.map_err(|error| write()(error.into()))?))
}

/// Unpacks a folder of an artifact, compressed or not, whose names all lie within `name`.
pub fn unpack(source: impl Read + Send, into: &Root, name: &str) -> Result<(), ArtifactError> {
    let decoder = compression::decoder(BufReader::with_capacity(1 << 18, source));
    let mut archive = ArchiveReader::new(decoder.map_err(ArtifactError::Archive)?);
    let (mut count, mut bytes) = (0, 0u64);
    while let Some(item) = archive.next_item().map_err(ArtifactError::Archive)? {
        count += 1;
        bytes = bytes.saturating_add(item.size_bytes);
        if count > ENTRIES {
            return Err(ArtifactError::Limit("files"));
        }
        if bytes > unpacking::most_bytes() {
            return Err(ArtifactError::Limit("bytes"));
        }
        let written = String::from_utf8_lossy(&item.path).into_owned();
        let inside =
            |path: &String| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        let path = safe_name(&written).filter(inside).ok_or(ArtifactError::Outside(written))?;
        let place = Path::new(&path);
        let mode = item.header.mode().unwrap_or(0o644);
        match item.header.entry_type() {
            tar::EntryType::Directory => {
                into.create_folders(place, Mode::from_raw_mode(0o755)).map_err(failed("create", place))?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut file = create(into, &path, mode)?;
                file::copy(&mut archive, &mut file).map_err(|error| match error {
                    CopyError::Read(error) => ArtifactError::Archive(error),
                    CopyError::Write(error) => failed("write", place)(error),
                })?;
            }
            tar::EntryType::Symlink => link(into, place, &item.link)?,
            _ => return Err(ArtifactError::Kind(place.to_owned())),
        }
    }
    Ok(())
}

/// Makes a link that leads somewhere below the target folder. Names are counted, so each has to be what it looks like: no
/// folder above the link is itself a link, and none of the target's names is left again by `..` (through a link that
/// leads up, `a/link/..` would be far above `a`).
fn link(into: &Root, path: &Path, target: &[u8]) -> Result<(), ArtifactError> {
    let target = Path::new(std::ffi::OsStr::from_bytes(target));
    let outside = || ArtifactError::Outside(format!("{} -> {}", path.display(), target.display()));
    let above: Vec<&Path> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    let up = target.components().take_while(|one| matches!(one, Component::ParentDir | Component::CurDir));
    let up = up.filter(|one| *one == Component::ParentDir).count();
    let is_named = |one: Component<'_>| matches!(one, Component::Normal(_) | Component::CurDir);
    let is_down = target.components().filter(|one| *one != Component::CurDir).skip(up).all(is_named);
    if up > above.len() || !is_down {
        return Err(outside());
    }
    let write = || failed("write", path);
    if let Some(parent) = above.first() {
        into.create_folders(parent, Mode::from_raw_mode(0o755)).map_err(write())?;
    }
    for folder in above {
        let found = into.metadata(folder).map_err(write())?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(outside());
        }
    }
    let (parent, last) = into.parent(path).map_err(write())?;
    let _ = rustix::fs::unlinkat(&parent, &last, AtFlags::empty());
    rustix::fs::symlinkat(target, &parent, &last).map_err(|error| write()(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_back_as_it_was_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().expect("folder");
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("sub/deeper")).expect("folders");
        fs::write(from.join("b"), b"bytes").expect("file");
        fs::write(from.join("sub/a"), b"").expect("file");
        fs::set_permissions(from.join("b"), fs::Permissions::from_mode(0o755)).expect("mode");
        std::os::unix::fs::symlink("../b", from.join("sub/link")).expect("link");
        let pack = || {
            let mut bytes = Vec::new();
            let digest = pack(&from, "name/of", &mut bytes).expect("packed");
            (bytes, digest)
        };
        let (bytes, digest) = pack();
        assert_eq!((bytes.clone(), digest), pack());
        let into = folder.path().join("into");
        fs::create_dir(&into).expect("folder");
        unpack(&bytes[..], &Root::open(&into).expect("root"), "name/of").expect("unpacked");
        let read = |path: &str| fs::read(into.join("name/of").join(path)).expect(path);
        assert_eq!(
            (read("b"), read("sub/link"), read("sub/a")),
            (b"bytes".to_vec(), b"bytes".to_vec(), vec![])
        );
        let mode = fs::metadata(into.join("name/of/b")).expect("b").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert!(into.join("name/of/sub/deeper").is_dir());
        // again, over what is there
        unpack(&bytes[..], &Root::open(&into).expect("root"), "name/of").expect("unpacked");
        // under another name it is another folder's
        let other = unpack(&bytes[..], &Root::open(&into).expect("root"), "name/off");
        assert!(matches!(other, Err(ArtifactError::Outside(_))));
    }

    #[test]
    fn nothing_leads_out() {
        for (path, kind, link) in [
            ("../x", tar::EntryType::Regular, ""),
            ("n/../../x", tar::EntryType::Regular, ""),
            ("/n/x", tar::EntryType::Regular, ""),
            ("nn/x", tar::EntryType::Regular, ""),
            ("n/l", tar::EntryType::Symlink, "/etc"),
            ("n/l", tar::EntryType::Symlink, "../../etc"),
            ("n/l", tar::EntryType::Symlink, "a/../../../etc"),
            ("n/l", tar::EntryType::Link, "n/x"),
            ("n/l", tar::EntryType::Fifo, ""),
            ("n/l", tar::EntryType::Char, ""),
        ] {
            let mut header = tar::Header::new_gnu();
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            let bytes = [header.as_bytes().as_slice(), &[0; 1024]].concat();
            let folder = tempfile::tempdir().expect("folder");
            let into = folder.path().join("into");
            fs::create_dir(&into).expect("folder");
            let unpacked = unpack(&bytes[..], &Root::open(&into).expect("root"), "n");
            assert!(unpacked.is_err(), "{path} -> {link}");
            assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "{path} -> {link}");
            assert!(fs::symlink_metadata(into.join("n/l")).is_err(), "{path} -> {link}");
        }
    }

    #[test]
    fn no_row_of_links_leads_out() {
        let up = ("n/p/q/up", "../..");
        for (links, leads_out) in [
            (vec![("n/p/l", "../a"), ("n/m", "./p/l"), ("n/o", ".././n/a"), ("n/up", "..")], false),
            // each within the folder by what it says
            (vec![up, ("n/m", "p/q/up/../../etc")], true),
            (vec![up, ("n/p/q/up/x", "../../../../etc")], true),
            (vec![("n/m", "a/..")], true),
            (vec![("n/m", "../..")], true),
        ] {
            let mut tar = tar::Builder::new(Vec::new());
            for (path, target) in &links {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, path, target).expect("an entry");
            }
            let bytes = tar.into_inner().expect("an archive");
            let folder = tempfile::tempdir().expect("folder");
            let unpacked = unpack(&bytes[..], &Root::open(folder.path()).expect("root"), "n");
            assert_eq!(unpacked.is_err(), leads_out, "{links:?}: {unpacked:?}");
            let last = links.last().expect("a link").0;
            let there = fs::symlink_metadata(folder.path().join(last)).is_ok();
            assert_eq!(there, !leads_out, "{links:?}");
        }
    }

    #[test]
    fn names_are_safe() {
        for (name, safe) in [
            ("a", Some("a")),
            ("./a//b/", Some("a/b")),
            ("a b.tar", Some("a b.tar")),
            ("../a", None),
            ("a/../b", None),
            ("/a", None),
            ("", None),
            (".", None),
            ("a\nb", None),
        ] {
            assert_eq!(safe_name(name).as_deref(), safe, "{name:?}");
        }
    }
}
