//! What the sandbox tests share: a root made of busybox, and a way to run a command in it.
#![allow(dead_code, unreachable_pub)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use slipway_oci::{blobs::Blobs, compression::Compression, layer};
use slipway_runtime::root::Via;
use slipway_runtime::{Error, Exit, Lower, RootFs, SandboxSpec, Stdio, Stream, spawn};

/// How strong a sandbox the test's process can make; what differs is what the kernel lets whom do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Root,
    SubordinateIds,
    SingleId,
}

impl Level {
    pub const ALL: [Level; 3] = [Level::Root, Level::SubordinateIds, Level::SingleId];

    pub fn name(self) -> &'static str {
        match self {
            Level::Root => "root",
            Level::SubordinateIds => "subordinate-ids",
            Level::SingleId => "single-id",
        }
    }

    pub fn is_root(self) -> bool {
        self == Level::Root
    }
}

static LEVEL: OnceLock<Level> = OnceLock::new();

/// The level of this process.
pub fn level() -> Level {
    LEVEL.get().copied().unwrap_or(Level::Root)
}

pub fn set_level(level: Level) {
    LEVEL.set(level).expect("a process has one level");
}

/// Whether privileged tests can run; says so where they cannot.
pub fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root() && !slipway_runtime::levels::needed();
    let busybox = Path::new("/bin/busybox").exists();
    let able = root && busybox;
    if !able {
        slipway_skip::skip(&format!("it needs root ({root}) and /bin/busybox ({busybox})"));
    }
    able
}

/// A scratch folder with a root in it.
pub struct Scratch {
    pub folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        make_root(&root);
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Scratch { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn directory(&self) -> RootFs {
        RootFs::Directory(self.path("root"))
    }

    /// A fresh overlay over the root.
    pub fn overlay(&self, name: &str) -> RootFs {
        self.overlay_marked(name, !level().is_root())
    }

    /// The root as a layer: its folder, or of root's a file where such a shape is asked for.
    fn layer(&self, name: &str, userxattr: bool) -> Lower {
        let via = match slipway_skip::shape().as_deref() {
            Some("mounted") if !userxattr => Via::File,
            Some("loop") if !userxattr => Via::Loop,
            _ => return self.path("root").into(),
        };
        let path = self.path(&format!("{name}.erofs"));
        let (blobs, temporary) = (self.path("layer-blobs"), self.path("layer-temporary"));
        let blobs = Blobs::open(&blobs, &temporary).unwrap();
        let layer = layer::import_folder(&blobs, &self.path("root"), Compression::None, None).unwrap();
        let archive = blobs.open_blob(&layer.descriptor.digest).unwrap();
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        layer::write_image(archive, file, None).unwrap();
        Lower::Image { path, devices: Vec::new(), via }
    }

    pub fn overlay_marked(&self, name: &str, userxattr: bool) -> RootFs {
        let (upper, work) = (self.path(&format!("{name}-upper")), self.path(&format!("{name}-work")));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let lower = vec![self.layer(name, userxattr)];
        RootFs::Overlay { lower, upper, work, volatile: true, userxattr }
    }
}

/// Busybox, its applets, and a few files.
pub fn make_root(root: &Path) {
    for folder in ["bin", "etc", "tmp", "dev", "proc", "sys", "root", "home"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let applets = "sh true false cat ls id echo sleep stat mkdir touch pwd env test readlink mount mknod hostname \
                   kill ps grep ip chown ulimit printf setsid tty dd wc head umask rm sed stty nc chmod mv ln";
    for applet in applets.split_whitespace() {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/not-executable"), "data").unwrap();
}

/// A shell script in the sandbox.
pub fn script(root: RootFs, text: &str) -> SandboxSpec {
    spec(root, &["/bin/sh", "-c", text])
}

/// A command in a sandbox of this process's level.
pub fn spec(root: RootFs, args: &[&str]) -> SandboxSpec {
    let mut spec = SandboxSpec::new(root, args);
    spec.single_id = level() == Level::SingleId;
    spec
}

/// Runs and gives exit and whole output, both streams.
pub fn output(mut spec: SandboxSpec) -> Result<(Exit, String), Error> {
    let (reader, writer) = std::io::pipe().unwrap();
    let errors = writer.try_clone().unwrap();
    spec.stdio = Stdio::Streams {
        stdin: Stream::Null,
        stdout: Stream::Fd(writer.into()),
        stderr: Stream::Fd(errors.into()),
    };
    let mut running = spawn(&spec)?;
    drop(spec);
    let mut text = String::new();
    File::from(OwnedFd::from(reader)).read_to_string(&mut text).unwrap();
    Ok((running.wait()?, text))
}

/// The output of a script that must succeed.
pub fn succeed(spec: SandboxSpec) -> String {
    let (exit, text) =
        output(spec).unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    assert_eq!(exit, Exit::Code(0), "{text}");
    text
}
