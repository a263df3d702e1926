//! What the machine has, and what can be put on it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::process::{find, quiet};

/// A program that the richer parts use, and Debian's package that has it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What the whole of the tests uses.
pub(crate) const TEST_TOOLS: &[Tool] = &[
    tool("busybox", "busybox-static"),
    tool("git", "git"),
    tool("mmdebstrap", "mmdebstrap"),
    tool("newuidmap", "uidmap"),
    tool("skopeo", "skopeo"),
    tool("umoci", "umoci"),
    tool("podman", "podman"),
    tool("runc", "runc"),
    tool("dockerd", "docker.io"),
    tool("buildah", "buildah"),
    tool("crun", "crun"),
    tool("docker-registry", "docker-registry"),
    tool("pebble", "pebble"),
    tool("openssl", "openssl"),
    tool("make", "make"),
    tool("perl", "perl"),
    tool("python3", "python3"),
    tool("setfattr", "attr"),
    tool("fsck.erofs", "erofs-utils"),
    // the registry's web page
    tool("chromium", "chromium"),
    // file systems that a store may lie on
    tool("mkfs.btrfs", "btrfs-progs"),
    tool("mkfs.xfs", "xfsprogs"),
    tool("mkfs.vfat", "dosfstools"),
    tool("mkfs.exfat", "exfatprogs"),
    tool("mount.exfat-fuse", "exfat-fuse"),
    tool("bindfs", "bindfs"),
    tool("fuse-overlayfs", "fuse-overlayfs"),
];

/// What the demo uses.
pub(crate) const DEMO_TOOLS: &[Tool] = &[tool("mmdebstrap", "mmdebstrap")];

/// What the benchmark uses.
pub(crate) const BENCH_TOOLS: &[Tool] = &[
    tool("busybox", "busybox-static"),
    tool("zstd", "zstd"),
    tool("podman", "podman"),
    tool("runc", "runc"),
    tool("buildah", "buildah"),
    tool("crun", "crun"),
];

/// What the registry's benchmark uses.
pub(crate) const REGISTRY_BENCH_TOOLS: &[Tool] = &[
    tool("wrk", "wrk"),
    tool("nginx", "nginx-light"),
    tool("docker-registry", "docker-registry"),
    tool("skopeo", "skopeo"),
];

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// Whether this is CI, where what cannot run must fail.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Installs what is missing, where that is possible, and says what stays missing.
pub(crate) fn provide(tools: &[Tool]) -> Vec<&'static str> {
    let missing = |tools: &[Tool]| -> Vec<&'static str> {
        tools.iter().filter(|tool| find(tool.program).is_none()).map(|tool| tool.package).collect()
    };
    let wanted = missing(tools);
    if wanted.is_empty() {
        return wanted;
    }
    if is_root() && Path::new("/usr/bin/apt-get").exists() {
        println!("installing {}", wanted.join(" "));
        if let Err(first) = install(&wanted) {
            println!("{first}\nupdating the package lists and trying again");
            let _ = quiet(apt().arg("update"));
            // one at a time: a package that this release lacks must not keep the others away
            for package in &wanted {
                if let Err(failure) = install(&[package]) {
                    println!("{failure}");
                }
            }
        }
    }
    let left = missing(tools);
    if !left.is_empty() {
        println!("not on this machine: {} (as root: apt-get install {})", left.join(", "), left.join(" "));
    }
    left
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn install(packages: &[&str]) -> Result<(), crate::Failure> {
    quiet(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages)).map(|_| ())
}
