//! Base images: busybox for most tests, real Debian where xtask has made it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// When everything in the busybox base was last changed; its import's epoch as well.
pub const MTIME: u64 = 1_500_000_000;

/// An archive of a root file system with nothing but busybox, a few users and folders in it. Always the same bytes.
pub fn busybox() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("busybox-base.tar");
        let mut unfinished = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        write(unfinished.as_file_mut());
        fs::set_permissions(unfinished.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        // several test programs may make it at the same time: the bytes are the same
        unfinished.persist(&place).unwrap();
        place
    })
    .clone()
}

fn write(file: &mut fs::File) {
    let program =
        crate::support::find("busybox").expect("busybox-static is installed (cargo xtask test installs it)");
    let mut archive = tar::Builder::new(file);
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(MTIME);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            archive.append_data(&mut header, path, content).unwrap();
        } else {
            archive.append_link(&mut header, path, link).unwrap();
        }
    };
    for folder in ["bin", "dev", "etc", "home", "home/app", "proc", "root", "sys", "usr", "usr/bin", "var"] {
        add(folder, tar::EntryType::Directory, 0o755, "", b"");
    }
    add("tmp", tar::EntryType::Directory, 0o1777, "", b"");
    add("bin/busybox", tar::EntryType::Regular, 0o755, "", &fs::read(&program).unwrap());
    let applets = std::process::Command::new(&program).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|name| *name != "busybox") {
        add(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, "busybox", b"");
    }
    let users = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
    add("etc/passwd", tar::EntryType::Regular, 0o644, "", users.as_bytes());
    let groups = "root:x:0:\napp:x:1000:\nstaff:x:50:app\n";
    add("etc/group", tar::EntryType::Regular, 0o644, "", groups.as_bytes());
    add("etc/motd", tar::EntryType::Regular, 0o644, "", b"base\n");
    archive.finish().unwrap();
}

/// The Debian base that `cargo xtask test` made.
pub fn debian() -> Option<PathBuf> {
    // the folder of a target triple may lie between
    let above = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    above.map(|folder| folder.join("xtask/debian-base.tar")).find(|archive| archive.exists())
}
