//! The container's tree: attaches what was prepared, makes what belongs to the new namespaces, leaves the old root.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, mkdirat, openat2, statat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::{At, Failure};
use crate::error::Step;
use crate::sandbox::detached::{self, ATTR_RDONLY};
use crate::sandbox::devices::NODES;
use crate::sandbox::plan::{Hidden, Plan, STANDARD, STANDARD_PLACE, SystemMounts};
use crate::sandbox::sys;
use crate::sandbox::sys::mount::MountAttr;

/// Builds the tree and makes it the root.
pub(super) fn build(plan: &Plan) -> Result<(), Failure> {
    // Nothing that happens from here on may reach the host's mount namespace.
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at(Step::Propagation)?;
    // Over the old root: lookups of absolute paths, of which there are none from here on, would still see the old one.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&plan.root, c"", CWD, c"/", flags).at(Step::Root)?;
    // Kept modes are what the specification says, whatever the caller's mask.
    rustix::process::umask(Mode::empty());
    let root = plan.root.as_fd();
    // The kernel refuses a user namespace a fresh /proc once no whole one is visible, so before the old root goes.
    let proc_mount = proc_file_system(&plan.system).at(Step::Proc)?;
    attach(&proc_mount, &standard(plan, 0)?).at(Step::Proc)?;
    let sys_mount = sys_file_system(plan).at(Step::Sys)?;
    attach(&sys_mount, &standard(plan, 1)?).at(Step::Sys)?;
    if plan.system.cgroup2 {
        cgroup_file_system(&sys_mount, plan.system.sys_writable).at(Step::Sys)?;
    }
    devices(plan, &standard(plan, 2)?)?;
    requested(plan)?;
    hide(plan.hidden_node(), &plan.hidden, root)?;
    if plan.root_readonly {
        let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
        sys::mount::set_attributes(root, false, &attributes).at(Step::Root)?;
    }
    pivot(root).at(Step::Pivot)
}

/// Attaches a detached mount to a place held open.
fn attach(mount: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

/// Attaches a detached mount to a name in a folder of ours, where nobody else can change names yet.
fn attach_in(mount: &OwnedFd, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    move_mount(mount, c"", folder, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// `/proc`, `/sys` or `/dev`: a real folder of the root, made if missing, never a link (CVE-2023-27561, CVE-2026-41579).
fn standard(plan: &Plan, place: usize) -> Result<OwnedFd, Failure> {
    let (root, name) = (&plan.root, STANDARD[place]);
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(root, name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    };
    let make = || {
        mkdirat(root, name, Mode::from_raw_mode(0o755))?;
        if let Some(made) = plan.report.standard_made() {
            made.fetch_or(1 << place, Ordering::Relaxed);
        }
        open()
    };
    let found = match open() {
        Err(Errno::NOENT) => make(),
        result => result,
    };
    found.at_place(Step::MountPoint, STANDARD_PLACE + place)
}

fn strict() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// A file system without options, of this process's namespaces, detached.
fn fresh(kind: &CStr, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // The first word of the line in /proc/mounts; programs know these by their type's name.
    fsconfig_set_string(&context, c"source", kind)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn proc_file_system(system: &SystemMounts) -> Result<OwnedFd, Errno> {
    match (fresh(c"proc", strict()), &system.host_proc) {
        // Parts of the caller's own /proc are masked; showing more than it sees itself is refused.
        (Err(Errno::PERM), Some(host)) => rustix::io::fcntl_dupfd_cloexec(host, 3),
        (result, _) => result,
    }
}

fn sys_file_system(plan: &Plan) -> Result<OwnedFd, Errno> {
    let mut attributes = strict();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !plan.system.sys_writable);
    let Some(host) = &plan.system.host_sys else {
        return fresh(c"sysfs", attributes);
    };
    let set = MountAttr { set: u64::from(attributes.bits()), ..MountAttr::default() };
    sys::mount::set_attributes(host.as_fd(), true, &set)?;
    rustix::io::fcntl_dupfd_cloexec(host, 3)
}

/// The one hierarchy, as seen from the process's own group.
fn cgroup_file_system(sys_mount: &OwnedFd, writable: bool) -> Result<(), Errno> {
    let mut attributes = strict();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !writable);
    attach_in(&fresh(c"cgroup2", attributes)?, sys_mount, "fs/cgroup")
}

fn devices(plan: &Plan, place: &OwnedFd) -> Result<(), Failure> {
    let dev = &plan.devices.folder;
    attach(dev, place).at_place(Step::MountPoint, STANDARD_PLACE + 2)?;
    let named = plan.devices.nodes.iter().zip(NODES.iter().map(|(name, ..)| *name));
    for (mount, name) in named.chain([(&plan.pts, "pts"), (&plan.devices.shm, "shm")]) {
        attach_in(mount, dev, name).at_place(Step::MountPoint, STANDARD_PLACE + 2)?;
    }
    match fresh(c"mqueue", strict()) {
        // The queues of others show only to those who are root among them; they can be used without being shown.
        Err(Errno::PERM) if plan.namespaces.foreign_ipc => {}
        queues => attach_in(&queues.at(Step::Mqueue)?, dev, "mqueue").at(Step::Mqueue)?,
    }
    if let Some(terminal) = &plan.terminal {
        let console = clone_of(&terminal.slave).at(Step::Terminal)?;
        attach_in(&console, dev, "console").at(Step::Terminal)?;
    }
    Ok(())
}

/// A detached clone of what a descriptor of this namespace shows.
fn clone_of(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(fd, c"", flags)
}

/// The specification's own mounts, in its order.
fn requested(plan: &Plan) -> Result<(), Failure> {
    for (place, mount) in plan.mounts.iter().enumerate() {
        let made = plan.report.mount_made(place).ok_or(Errno::NOMEM).at_place(Step::MountPoint, place)?;
        let target = mount.target.open(plan.root.as_fd(), made).at_place(Step::MountPoint, place)?;
        // Through a link of the image a target can lead into /proc, where a mount would fake what runtimes read and
        // write there (CVE-2019-19921).
        let found = fstatfs(&target).at_place(Step::MountPoint, place)?;
        if found.f_type == PROC_SUPER_MAGIC {
            return Err(Errno::PERM).at_place(Step::InsideProc, place);
        }
        let attached = match mount.is_file_inside {
            true => attach_file_inside(&mount.source, &plan.devices.folder, &target),
            false => attach(&mount.source, &target),
        };
        attached.at_place(Step::Mount, place)?;
    }
    Ok(())
}

/// Attaches the file of a detached file system. Kernels before 6.15 clone no part of what is in no namespace, so it is in
/// ours for a moment, on a folder of our own `/dev`.
fn attach_file_inside(source: &OwnedFd, dev: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    attach_in(source, dev, "shm")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let file = open_tree(source, detached::FILE, flags)?;
    fchdir(source)?;
    unmount(c".", UnmountFlags::DETACH)?;
    let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    sys::mount::set_attributes(file.as_fd(), false, &attributes)?;
    attach(&file, target)
}

/// Masks and write-protects paths of `/proc` and `/sys`. They are looked up beneath the root's descriptor without
/// following any link; what is bound over a file is the null device that was checked when it was opened.
fn hide(null: Option<&OwnedFd>, hidden: &Hidden, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut empty_is_attached = false;
    for (place, path) in hidden.masked.iter().enumerate() {
        let Some(target) = existing(root, path).at_place(Step::Mask, place)? else { continue };
        let mode = statat(&target, c"", AtFlags::EMPTY_PATH).at_place(Step::Mask, place)?.st_mode;
        let cover = match (FileType::from_raw_mode(mode), &hidden.empty, null) {
            (FileType::Directory, Some(empty), _) => empty,
            (_, _, Some(null)) => null,
            _ => return Err(Errno::NODEV).at_place(Step::Mask, place),
        };
        if FileType::from_raw_mode(mode) == FileType::Directory && !empty_is_attached {
            attach(cover, &target).at_place(Step::Mask, place)?;
            empty_is_attached = true;
        } else {
            clone_of(cover).and_then(|clone| attach(&clone, &target)).at_place(Step::Mask, place)?;
        }
    }
    for (place, path) in hidden.readonly.iter().enumerate() {
        let Some(target) = existing(root, path).at_place(Step::ReadOnly, place)? else { continue };
        read_only(&target).at_place(Step::ReadOnly, place)?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    let resolution = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolution) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Covers a path with a read-only clone of itself; the attribute is set before anybody can reach the clone.
fn read_only(target: &OwnedFd) -> Result<(), Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = open_tree(target, c"", flags | OpenTreeFlags::AT_RECURSIVE)?;
    let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    sys::mount::set_attributes(clone.as_fd(), true, &attributes)?;
    attach(&clone, target)
}

/// Makes the tree the root and lets the old one go. `.` twice stacks the old root on the new, where it is detached at
/// once, so no folder for it is needed (pivot_root(2), NOTES).
fn pivot(root: BorrowedFd<'_>) -> Result<(), Errno> {
    fchdir(root)?;
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    chdir(c"/")?;
    // The clones of host mounts are peers of theirs until here.
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}
