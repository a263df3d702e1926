//! What an image's root needs before a sandbox can mount on it: files that every container has, and mount points.
//!
//! Mount points that an image lacks are not made in it: they come from an extra overlay layer *beneath* the image,
//! which the image's own paths cover. So nothing that the sandbox needs is ever part of what a command changed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use slipway_oci::{file, layer::Tree};

use crate::sandbox::spec::{BindSource, Mount};

/// A place that something is mounted on, free of links.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountPoint {
    /// Path relative to the root.
    pub path: PathBuf,
    /// Whether a folder is mounted there, or a file.
    pub is_folder: bool,
}

/// Where the standard mounts and `mounts` go on the file system `tree`, links resolved, sorted, each once.
///
/// # Errors
/// When a target's links cannot be followed or a source cannot be looked at.
pub fn mount_points(tree: &Tree, mounts: &[Mount]) -> io::Result<Vec<MountPoint>> {
    let standard = ["dev", "proc", "sys"];
    let mut points: Vec<MountPoint> =
        standard.iter().map(|path| MountPoint { path: PathBuf::from(path), is_folder: true }).collect();
    for mount in mounts {
        let (target, is_folder) = match mount {
            Mount::Bind { source: BindSource::Path(source), target, .. } => (target, source.is_dir()),
            Mount::Bind { source: BindSource::Fd(descriptor), target, .. } => {
                let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode);
                (target, kind.is_dir())
            }
            Mount::Tmpfs { target, .. } => (target, true),
            Mount::File { target, .. } => (target, false),
        };
        let resolved = tree.resolve(target.as_os_str().as_bytes(), true).map_err(io::Error::other)?;
        // /dev is always ours: what is mounted below it is made there
        if !resolved.path.starts_with(b"dev/") && !resolved.path.is_empty() {
            points.push(MountPoint { path: PathBuf::from(OsStr::from_bytes(&resolved.path)), is_folder });
        }
    }
    points.sort();
    points.dedup();
    Ok(points)
}

/// What a mount point has that the image lacks: every user of the container passes through.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Makes the mount points in `folder`, which serves as the lowest overlay layer.
///
/// # Errors
/// When one cannot be made.
pub fn make_mount_points(folder: &Path, points: &[MountPoint]) -> io::Result<()> {
    for point in points {
        let path = folder.join(&point.path);
        if point.is_folder {
            file::make_folders(&path, FOLDER_MODE)?;
        } else {
            file::make_folders(path.parent().unwrap_or(folder), FOLDER_MODE)?;
            if !path.exists() {
                file::write_new(&path, b"", FILE_MODE)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_oci::layer::{Entry, Kind, Toc};
    use std::fs;

    #[test]
    fn links_are_resolved_and_points_made_once() {
        let mut link = Entry::new("etc/resolv.conf", Kind::Symlink, 0o777);
        link.link = b"../run/resolve/stub.conf".to_vec();
        let tree = Tree::new(vec![std::sync::Arc::new(Toc::new(vec![
            Entry::new("etc", Kind::Directory, 0o755),
            link,
        ]))]);
        let folder = tempfile::tempdir().expect("folder");
        let mounts = crate::container::standard_files(
            folder.path(),
            &[("db".into(), "10.0.0.2".into())],
            crate::container::Name::Localhost("x"),
        )
        .expect("files");
        assert!(fs::read_to_string(folder.path().join("hosts")).expect("hosts").contains("10.0.0.2\tdb"));
        let points = mount_points(&tree, &mounts).expect("points");
        let names: Vec<_> = points.iter().map(|point| point.path.display().to_string()).collect();
        assert_eq!(names, ["dev", "etc/hosts", "proc", "run/resolve/stub.conf", "sys"]);
        let target = folder.path().join("points");
        make_mount_points(&target, &points).expect("made");
        assert!(target.join("run/resolve/stub.conf").is_file() && target.join("proc").is_dir());
    }
}
