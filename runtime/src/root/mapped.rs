//! A root whose owners are shown in the ids of a user namespace: idmapped mounts (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
//!
//! A user namespace that root enters has other ids than those that layers are kept in. Nothing on disk is changed for it:
//! each layer, folder or file, is handed to the overlay as a detached mount whose ids go through the namespace's map, and
//! so is the upper folder. What is owned by 0 in a layer is owned by the namespace's 0 in the root; what its processes make
//! is owned in the upper folder as in any other, so that a layer made of it is the same to the byte. Overlayfs takes such
//! layers since Linux 5.19, EROFS gives them since 5.19, tmpfs since 6.3; upper folders without a place since 6.15.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::Error;
use crate::sandbox::detached::clone_of;
use crate::sandbox::sys;
use crate::sandbox::sys::clone::{Memory, Request, Stack};
use crate::sandbox::sys::mount::MountAttr;
use crate::sandbox::undumpable;

/// `MOUNT_ATTR_IDMAP` (linux/mount.h).
const ATTR_IDMAP: u64 = 0x0010_0000;
/// The most lines of an id map (`UID_GID_MAP_MAX_EXTENTS`, linux/user_namespace.h).
const MAX_EXTENTS: usize = 340;

/// A run of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first inside.
    pub inside: u32,
    /// The first outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A user namespace, for its ids.
#[derive(Debug, Clone)]
pub struct IdMap {
    namespace: Arc<OwnedFd>,
    /// What its user and group 0 are outside.
    root: (u32, u32),
}

impl PartialEq for IdMap {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.namespace, &other.namespace)
    }
}

impl Eq for IdMap {}

/// What an id is outside.
fn outside(extents: &[Extent], id: u32) -> Option<u32> {
    extents.iter().find_map(|extent| {
        let at = id.checked_sub(extent.inside).filter(|at| *at < extent.count)?;
        extent.outside.checked_add(at)
    })
}

impl IdMap {
    /// A new namespace with these ids, 0 among them; it needs `CAP_SETUID` and `CAP_SETGID`, as root has.
    ///
    /// # Errors
    /// When the kernel refuses the namespace or the maps, which must not overlap.
    pub fn new(uids: &[Extent], gids: &[Extent]) -> Result<IdMap, Error> {
        let lengths = [uids.len(), gids.len()];
        if lengths.iter().any(|length| !(1..=MAX_EXTENTS).contains(length)) {
            let reason = "have no lines, or more than the kernel's 340";
            return Err(Error::Invalid { what: "id maps".to_owned(), reason });
        }
        let root = outside(uids, 0).zip(outside(gids, 0)).ok_or_else(|| Error::Invalid {
            what: "id maps".to_owned(),
            reason: "have no 0, which is to be the namespace's root",
        })?;
        let prepare = |source| Error::Prepare { what: "a user namespace".to_owned(), source };
        let failed = |errno: Errno| prepare(errno.into());
        let request = Request { memory: Memory::Copied, flags: libc::CLONE_NEWUSER as u64, cgroup: None };
        let mut stack = Stack::new().map_err(failed)?;
        let mask = sys::signal::set_mask(u64::MAX).map_err(failed)?;
        let made = sys::clone::fork(&request, &mut stack, stand, &());
        sys::signal::set_mask(mask).map_err(failed)?;
        let pidfd = sys::exec::adopt(made.map_err(failed)?);
        let namespace = mapped(&pidfd, uids, gids);
        // the namespace lives on in its descriptor
        sys::signal::send(pidfd.as_fd(), libc::SIGKILL).map_err(failed)?;
        let ended = || waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        rustix::io::retry_on_intr(ended).map_err(failed)?;
        let namespace = Arc::new(namespace.map_err(prepare)?);
        Ok(IdMap { namespace, root })
    }

    /// Does what makes an overlay as the namespace's root would be seen to do it: overlayfs keeps these ids, and writes in an
    /// upper folder that knows no others. What it may do stays what this process may.
    pub(super) fn mounting<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let (uid, gid) = self.root;
        let as_its_root = || {
            let failed = |errno: Errno| Error::Prepare {
                what: "the ids of a user namespace".to_owned(),
                source: errno.into(),
            };
            let allowed = sys::process::permitted_capabilities().map_err(failed)?;
            sys::process::set_file_ids(uid, gid).map_err(failed)?;
            // the kernel sets the attribute of the whole process with each change of ids; in the end it is as it was
            let _ = sys::process::prctl(libc::PR_SET_DUMPABLE, 0);
            sys::process::set_capabilities(allowed).map_err(failed)?;
            work()
        };
        let _held = undumpable::hold();
        // ids are a thread's own in the kernel, and this one ends here
        match std::thread::scope(|scope| scope.spawn(as_its_root).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A detached clone of the folder at `path` with these ids.
    pub(super) fn folder(&self, path: &Path) -> Result<OwnedFd, Error> {
        let failed = |errno: Errno| Error::Open { path: path.to_owned(), source: errno.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let tree = clone_of(held.as_fd(), false).map_err(failed)?;
        self.apply(&tree, path)?;
        Ok(tree)
    }

    /// The folder of `upper` and `work` with these ids.
    pub(super) fn changes(&self, upper: &Path, work: &Path) -> Result<Changed, Error> {
        let parent = upper.parent().filter(|parent| work.parent() == Some(*parent));
        let parent = parent.ok_or_else(|| Error::Invalid {
            what: format!("upper folder {upper:?}"),
            reason: "does not lie beside its work folder",
        })?;
        Ok(Changed(self.folder(parent)?))
    }

    /// Shows a detached mount in these ids; what is mounted below it keeps its own.
    pub(super) fn apply(&self, tree: &OwnedFd, path: &Path) -> Result<(), Error> {
        let userns = self.namespace.as_raw_fd() as u64;
        let attributes =
            MountAttr { set: ATTR_IDMAP, propagation: libc::MS_PRIVATE, userns, ..MountAttr::default() };
        sys::mount::set_attributes(tree.as_fd(), false, &attributes).map_err(|errno| Error::Layer {
            path: path.to_owned(),
            log: "its file system shows no other ids (idmapped mounts)".to_owned(),
            source: errno.into(),
        })
    }
}

/// Where changes go, shown in a namespace's ids.
pub(super) struct Changed(OwnedFd);

impl Changed {
    /// The path of a folder that lies in it.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        let name = folder.file_name().unwrap_or_default();
        Path::new(&format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }
}

/// The life of a process that a namespace needs until it has its descriptor. It is in a copy of this process's memory and
/// may make system calls only.
fn stand((): &()) -> ! {
    // its parent ends it; this is for a parent that is killed in between
    let _ = sys::process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize);
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}

/// Gives the namespace of the process its ids; answers its descriptor.
fn mapped(pidfd: &OwnedFd, uids: &[Extent], gids: &[Extent]) -> io::Result<OwnedFd> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    let pid = pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a pidfd without a process"))?;
    for (file, extents) in [("uid_map", uids), ("gid_map", gids)] {
        let line = |extent: &Extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count);
        fs::write(format!("/proc/{pid}/{file}"), extents.iter().map(line).collect::<String>())?;
    }
    Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
}

#[cfg(test)]
mod tests {
    use super::super::layer::{Lower, Via, mount};
    use super::super::{RootFs, detached};
    use super::*;
    use slipway_oci::blobs::Blobs;
    use slipway_oci::compression::Compression;
    use slipway_oci::layer::{self, Entry, Kind, LayerWriter, OverlayXattrs};
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    const OUTSIDE: u32 = 300_000;

    fn map() -> IdMap {
        let all = Extent { inside: 0, outside: OUTSIDE, count: 65_536 };
        IdMap::new(&[all], &[all]).unwrap()
    }

    /// A layer with owners, links, devices and attributes, as a folder and as a file.
    fn layer(scratch: &Path) -> (PathBuf, PathBuf) {
        let blobs = Blobs::open(&scratch.join("b"), &scratch.join("t")).unwrap();
        let mut writer = LayerWriter::new(&blobs, Compression::None).unwrap();
        let owned = |path: &str, kind, (uid, gid): (u32, u32)| {
            let mut entry = Entry::new(path, kind, if kind == Kind::Directory { 0o750 } else { 0o4644 });
            (entry.uid, entry.gid, entry.mtime) = (uid, gid, 1_000_000);
            entry
        };
        let mut roots = owned("roots", Kind::File, (0, 0));
        roots.size_bytes = 5;
        roots.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
        writer.append_file(roots, &mut &b"bytes"[..]).unwrap();
        for (path, kind, owner) in [
            ("folder", Kind::Directory, (1000, 50)),
            ("folder/gone", Kind::Whiteout, (0, 0)),
            ("folder/kept", Kind::File, (65_535, 65_535)),
            ("nobodys", Kind::File, (70_000, 0)),
            ("pipe", Kind::Fifo, (7, 8)),
        ] {
            writer.append(owned(path, kind, owner)).unwrap();
        }
        for (path, kind, to) in [("hard", Kind::Hardlink, "roots"), ("soft", Kind::Symlink, "roots")] {
            let mut link = owned(path, kind, (1000, 1000));
            link.link = to.into();
            writer.append(link).unwrap();
        }
        let made = writer.finish().unwrap();
        let archive = || blobs.open_blob(&made.descriptor.digest).unwrap();
        let (folder, file) = (scratch.join("folder"), scratch.join("file"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        layer::unpack(archive(), &folder, OverlayXattrs::Trusted, None).unwrap();
        layer::write_image(archive(), File::create_new(&file).unwrap(), None).unwrap();
        (folder, file)
    }

    /// A shell as the root of the namespace, whose folder is `tree`; answers what it said.
    fn within(ids: &IdMap, tree: &OwnedFd, script: &str) -> String {
        let [ids, tree] = [ids.namespace.as_fd(), tree.as_fd()].map(|fd| fd.try_clone_to_owned().unwrap());
        for fd in [&ids, &tree] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
        }
        let script = format!("cd /proc/self/fd/{} && exec 2>&1; {script}", tree.as_raw_fd());
        let output = Command::new("nsenter")
            .arg(format!("--user=/proc/self/fd/{}", ids.as_raw_fd()))
            .args(["--setuid=0", "--setgid=0", "/bin/busybox", "sh", "-c", &script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    const LOOK: &str = "stat -c '%n %A %u:%g %s %Y %h' hard nobodys roots soft folder/kept pipe; \
                        stat -c '%n %A %u:%g' folder; ls folder; cat soft";
    const CHANGE: &str = "echo more >> roots; echo new > new; chown 12:34 new; mkdir made; chown 5:6 made; rm folder/kept; \
                          mv pipe moved; chmod 700 folder; touch nobodys || true";

    #[test]
    fn privileged_every_shape_of_layer_is_shown_in_the_ids_of_a_namespace() {
        if !crate::host::tests_may_mount() {
            return;
        }
        slipway_skip::need!("nsenter", "busybox");
        let scratch = tempfile::tempdir().unwrap();
        let (folder, file) = layer(scratch.path());
        let image = |via| Lower::Image { path: file.clone(), devices: Vec::new(), via };
        let below = scratch.path().join("below");
        fs::create_dir_all(below.join("folder")).unwrap();
        fs::write(below.join("folder/gone"), "x").unwrap();
        let mut seen = Vec::new();
        for (name, lower) in
            [("folder", Lower::Folder(folder)), ("mounted", image(Via::File)), ("loop", image(Via::Loop))]
        {
            if let Lower::Image { path, via, .. } = &lower
                && let Err(error) = mount(path, &[], *via)
            {
                slipway_skip::skip(&format!("{name}: {error}"));
                continue;
            }
            let own = scratch.path().join(format!("own-{name}"));
            let (upper, work) = (own.join("upper"), own.join("work"));
            for folder in [&own, &upper, &work] {
                fs::create_dir(folder).unwrap();
                fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            }
            let overlay = RootFs::Overlay {
                lower: vec![lower, below.clone().into()],
                upper: upper.clone(),
                work,
                volatile: true,
                userxattr: false,
            };
            let ids = map();
            let root = RootFs::Mapped { root: Box::new(overlay), ids: ids.clone() };
            let tree = match detached(&root, true) {
                Ok(tree) => tree,
                // before Linux 6.15 overlayfs takes no upper folder without a place
                Err(error) if !slipway_skip::has_kernel(6, 15) => {
                    return slipway_skip::skip(&format!("{error:?}"));
                }
                Err(error) => panic!("{name}: {error:?}"),
            };
            let from_outside = |path: &str| {
                let found = rustix::fs::statat(&tree, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
                (found.st_uid, found.st_gid)
            };
            assert_eq!(from_outside("roots"), (OUTSIDE, OUTSIDE), "{name}");
            assert_eq!(from_outside("folder/kept"), (OUTSIDE + 65_535, OUTSIDE + 65_535), "{name}");
            let before = within(&ids, &tree, LOOK);
            assert!(before.contains("roots -rwSr--r-- 0:0 5 1000000 2"), "{name}: {before}");
            assert!(
                before.contains("nobodys -rwSr--r-- 65534:0"),
                "{name}: an id that is not mapped: {before}"
            );
            let said = within(&ids, &tree, CHANGE);
            let after =
                within(&ids, &tree, "stat -c '%n %A %u:%g' hard roots new made moved folder; ls folder");
            // on the disk the ids are those of any other layer
            let mut kept: Vec<String> = ["new", "made", "roots", "moved", "folder"]
                .iter()
                .map(|path| {
                    let found = fs::symlink_metadata(upper.join(path)).unwrap();
                    format!("{path} {:o} {}:{}", found.mode(), found.uid(), found.gid())
                })
                .collect();
            kept.push(fs::symlink_metadata(upper.join("pipe")).unwrap().rdev().to_string());
            assert!(kept[0] == "new 100644 12:34" && kept[1] == "made 40755 5:6", "{kept:?}");
            seen.push((name, before, said, after, kept));
        }
        for pair in seen.windows(2) {
            let [(first, a1, a2, a3, a4), (second, b1, b2, b3, b4)] = pair else { unreachable!() };
            assert_eq!((a1, a2, a3, a4), (b1, b2, b3, b4), "{first} and {second}");
        }
    }

    #[test]
    fn privileged_maps_that_the_kernel_refuses_are_errors() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let extent = |inside, outside, count| Extent { inside, outside, count };
        for wrong in [
            vec![extent(0, 0, 1), extent(5, 5, 0)],
            vec![extent(0, 5, 10), extent(5, 50, 10)],
            vec![extent(0, 0, u32::MAX), extent(u32::MAX, 7, 1)],
        ] {
            assert!(matches!(IdMap::new(&wrong, &wrong), Err(Error::Prepare { .. })), "{wrong:?}");
        }
        let many = vec![extent(0, 0, 1); MAX_EXTENTS + 1];
        for (uids, gids) in [(&many[..], &many[..1]), (&many[..1], &[]), (&[], &many[..1])] {
            assert!(matches!(IdMap::new(uids, gids), Err(Error::Invalid { .. })));
        }
        let scratch = tempfile::tempdir().unwrap();
        let overlay = RootFs::Overlay {
            lower: vec![scratch.path().to_owned().into()],
            upper: scratch.path().join("a/upper"),
            work: scratch.path().join("b/work"),
            volatile: false,
            userxattr: false,
        };
        let root = RootFs::Mapped { root: Box::new(overlay), ids: map() };
        assert!(matches!(detached(&root, true), Err(Error::Invalid { .. })));
        let without = [extent(1, 1, 10)];
        assert!(matches!(IdMap::new(&without, &without), Err(Error::Invalid { .. })));
    }
}
