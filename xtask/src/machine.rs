//! What the machine has, and what can be put on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{built, find, quiet};
use crate::{Failure, failed};

/// A program that the richer parts use, and where it comes from.
pub(crate) struct Tool {
    program: &'static str,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Debian's package of this name.
    Debian(&'static str),
    /// A package of the Go module proxy, in one version: built here, kept in the user's cache folder.
    Go(&'static str, &'static str),
    /// A program of the Python package index, in one version, with what it needs in a folder beside it.
    Pip(&'static str, &'static str),
    /// A program of crates.io likewise, with these features alone.
    Cargo(&'static str, &'static str, &'static str),
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, source: Source::Debian(package) }
}

const fn go(program: &'static str, package: &'static str, version: &'static str) -> Tool {
    Tool { program, source: Source::Go(package, version) }
}

const fn cargo(
    program: &'static str,
    package: &'static str,
    version: &'static str,
    features: &'static str,
) -> Tool {
    Tool { program, source: Source::Cargo(package, version, features) }
}

impl Tool {
    /// What a person types to have it.
    fn hint(&self) -> String {
        match self.source {
            Source::Debian(package) => format!("{} (as root: apt-get install {package})", self.program),
            Source::Go(package, version) => format!("{} (go install {package}@{version})", self.program),
            Source::Pip(package, version) => format!("{} (pip install {package}=={version})", self.program),
            Source::Cargo(package, version, _) => {
                format!("{} (cargo install --locked {package}@{version})", self.program)
            }
        }
    }

    /// What is to be installed.
    fn package(&self) -> &'static str {
        match self.source {
            Source::Debian(package)
            | Source::Go(package, _)
            | Source::Pip(package, _)
            | Source::Cargo(package, ..) => package,
        }
    }

    /// Where it is put when it is built here, below the folder of all of those.
    fn made(&self) -> PathBuf {
        match self.source {
            Source::Debian(package) => package.into(),
            Source::Go(package, version) => {
                let name = package.rsplit('/').next().unwrap_or(package);
                Path::new(&package.replace('/', "-")).join(version).join(name)
            }
            Source::Pip(package, version) => {
                Path::new(&format!("pip-{package}")).join(version).join(self.program)
            }
            Source::Cargo(package, version, _) => {
                Path::new(&format!("crate-{package}")).join(version).join(self.program)
            }
        }
    }

    /// Whether it is on this machine, in the version that is asked for where it is built here.
    pub(crate) fn is_here(&self) -> bool {
        match self.source {
            Source::Debian(_) => find(self.program).is_some(),
            Source::Go(..) | Source::Pip(..) | Source::Cargo(..) => {
                let link = fs::read_link(built().join(self.program));
                link.is_ok_and(|target| target == self.made()) && find(self.program).is_some()
            }
        }
    }
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
    // what registry replicas share
    tool("initdb", "postgresql"),
    go("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    // what stands around them in examples/cluster
    tool("nginx", "nginx-light"),
    tool("curl", "curl"),
    tool("docker-compose", "docker-compose"),
    Tool { program: "kubernetes-validate", source: Source::Pip("kubernetes-validate", "1.34.1") },
    // what others measure registries with, and use them by
    go(
        "oci-conformance",
        "github.com/opencontainers/distribution-spec/conformance",
        "v0.0.0-20260831232431-97274622c111",
    ),
    go("oras", "oras.land/oras/cmd/oras", "v1.3.6"),
    go("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
];

/// A second object store, of three nodes: it takes minutes to build, so only `cargo xtask test --cluster` does.
pub(crate) const CLUSTER_TOOLS: &[Tool] = &[cargo("garage", "garage", "2.5.0", "bundled-libs,lmdb")];

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
    tool("sqlite3", "sqlite3"),
    tool("docker-registry", "docker-registry"),
    tool("skopeo", "skopeo"),
];

/// What the benchmark of replicas uses beside them.
pub(crate) const CLUSTER_BENCH_TOOLS: &[Tool] =
    &[tool("initdb", "postgresql"), go("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0")];

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
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !tool.is_here()).collect();
    let (debian, own): (Vec<&Tool>, Vec<&Tool>) =
        missing.iter().partition(|tool| matches!(tool.source, Source::Debian(_)));
    let debian: Vec<&str> = debian.iter().map(|tool| tool.package()).collect();
    if !debian.is_empty() && is_root() && Path::new("/usr/bin/apt-get").exists() {
        install_all(&debian);
    }
    for tool in own {
        if let Err(failure) = build(tool) {
            println!("{failure}");
        }
    }
    let missing: Vec<&Tool> = missing.into_iter().filter(|tool| !tool.is_here()).collect();
    for tool in &missing {
        println!("not on this machine: {}", tool.hint());
    }
    missing.iter().map(|tool| tool.package()).collect()
}

fn install_all(packages: &[&str]) {
    println!("installing {}", packages.join(" "));
    let Err(first) = install(packages) else { return };
    println!("{first}\nupdating the package lists and trying again");
    let _ = quiet(apt().arg("update"));
    // one at a time: a package that this release lacks must not keep the others away
    for package in packages {
        if let Err(failure) = install(&[package]) {
            println!("{failure}");
        }
    }
}

/// Builds a program and lets it be found under its name here.
fn build(tool: &Tool) -> Result<(), Failure> {
    println!("building {}", tool.package());
    let folder = built();
    let target = tool.made();
    let place = folder.join(&target);
    let place = place.parent().expect("it lies in a folder of its version");
    fs::create_dir_all(place).map_err(failed(format!("cannot create `{}`", place.display())))?;
    match tool.source {
        Source::Debian(package) => install(&[package])?,
        Source::Go(package, version) => {
            quiet(Command::new("go").arg("install").arg(format!("{package}@{version}")).env("GOBIN", place))?;
        }
        Source::Pip(package, version) => {
            install_python(tool.program, place, &format!("{package}=={version}"))?
        }
        Source::Cargo(package, version, features) => {
            install_crate(tool.program, place, &format!("{package}@{version}"), features)?;
        }
    }
    let link = folder.join(tool.program);
    let _ = fs::remove_file(&link);
    symlink(target, &link).map_err(failed(format!("cannot link `{}`", link.display())))
}

/// Puts a Python program and what it needs into `place`.
fn install_python(program: &str, place: &Path, package: &str) -> Result<(), Failure> {
    let site = place.join("site");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    quiet(pip.arg("--target").arg(&site).arg(package))?;
    let script = place.join(program);
    let text =
        format!("#!/bin/sh\nPYTHONPATH='{0}' exec python3 '{0}/bin/{program}' \"$@\"\n", site.display());
    let written = fs::write(&script, text)
        .and_then(|()| fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)));
    written.map_err(failed(format!("cannot write `{}`", script.display())))
}

/// Builds a crate's program into `place`. What it is made of goes again: it is larger than all that is kept.
fn install_crate(program: &str, place: &Path, package: &str, features: &str) -> Result<(), Failure> {
    let pieces = place.join("target");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "--no-track", "--no-default-features", "--features", features]);
    cargo.arg("--root").arg(place).arg(package);
    // a test's engine is built once and run for minutes
    cargo.env("CARGO_TARGET_DIR", &pieces).env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    quiet(&mut cargo)?;
    let (made, wanted) = (place.join("bin").join(program), place.join(program));
    fs::rename(&made, &wanted).map_err(failed(format!("cannot move `{}`", made.display())))?;
    fs::remove_dir_all(&pieces).map_err(failed(format!("cannot remove `{}`", pieces.display())))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    quiet(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages)).map(|_| ())
}
