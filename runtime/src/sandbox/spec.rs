//! What a caller asks of a sandbox: plain data, checked by [`Plan::new`](crate::Plan::new).
//!
//! The defaults are docker's; [`SandboxSpec::new`] gives them, and the fields are public to be changed.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::CgroupSpec;
use crate::container::identity::Identity;
use crate::root::RootFs;
use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::seccomp::Profile;

/// One sandbox: a root, a process, and what it may see and do.
#[derive(Debug)]
pub struct SandboxSpec {
    /// What the process sees as `/`.
    pub root: RootFs,
    /// Whether `/` is mounted read-only (mounts below it keep their own setting).
    pub root_readonly: bool,
    /// The command and how it runs.
    pub process: Process,
    /// Where its input comes from and its output goes.
    pub stdio: Stdio,
    /// The host name, in a UTS namespace of the sandbox's own; `None` leaves what is there.
    pub hostname: Option<String>,
    /// Which namespaces are its own.
    pub namespaces: Namespaces,
    /// Mounts after the standard set (`/proc`, `/sys`, `/dev` with its children), in this order.
    pub mounts: Vec<Mount>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Masked and read-only paths.
    pub security: Security,
    /// Limits; `None` leaves the process in the caller's group.
    pub cgroup: Option<CgroupSpec>,
    /// Host devices beside the six that every container has.
    pub devices: Vec<Device>,
    /// Only one user id and one group id are mapped ([`Tier::SingleId`](crate::levels::Tier::SingleId)). A process of
    /// another id than 0 has a user namespace of its own, in which the one id is the asked one: its ids and capabilities
    /// are those asked for, supplementary groups are none, and every file appears as its own. Who is 0 gets the kernel's
    /// answer when it switches to another id.
    pub single_id: bool,
    /// Whether it ends with its caller.
    pub life: Life,
}

impl SandboxSpec {
    /// A sandbox with docker's defaults: root's identity, fourteen capabilities, the default filter, no
    /// input and output, no network but loopback.
    pub fn new<A: Into<OsString>>(root: RootFs, args: impl IntoIterator<Item = A>) -> Self {
        SandboxSpec {
            root,
            root_readonly: false,
            process: Process::new(args),
            stdio: Stdio::null(),
            hostname: None,
            namespaces: Namespaces::default(),
            mounts: Vec::new(),
            seccomp: Seccomp::Default,
            security: Security::default(),
            cgroup: None,
            devices: Vec::new(),
            single_id: false,
            life: Life::WithCaller,
        }
    }
}

/// How long a sandbox lives at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Life {
    /// As long as its caller: whatever ends that, the kernel ends the sandbox.
    #[default]
    WithCaller,
    /// Beyond its caller, until its first process ends or is killed. That is the caller's own child, of which a caller that
    /// stays learns the exit as of any other; dropping its [`Running`](crate::Running) leaves it, and
    /// [`Handle::find`](crate::Handle::find) finds it again. What goes with the caller: the far ends of the streams and of
    /// the terminal, if it held them, and with [`single_id`](SandboxSpec::single_id) the answers to changes of owner, which
    /// then fail with `ENOSYS`. A group of limits is removed by the next [`sweep`](crate::sweep) that finds it empty.
    Beyond,
}

/// Where a namespace of the sandbox comes from.
#[derive(Debug, Default)]
pub enum Namespace {
    /// One of its own.
    #[default]
    New,
    /// The caller's.
    Host,
    /// The one that this file shows: `/proc/PID/ns/NAME`, or what is mounted on another file (namespaces(7)).
    Join(OwnedFd),
}

impl Namespace {
    /// Whether the sandbox has one of its own.
    pub fn is_new(&self) -> bool {
        matches!(self, Namespace::New)
    }

    /// Whether it is the caller's.
    pub fn is_host(&self) -> bool {
        matches!(self, Namespace::Host)
    }
}

/// Where the sandbox's namespaces come from. Those of mounts and processes are always its own: a tree of mounts belongs to
/// one root, and the kernel ends the processes of a sandbox by its pid namespace (`sandbox/guard.rs`).
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Interfaces, addresses, ports, abstract sockets; a new one has nothing but loopback, up.
    pub network: Namespace,
    /// System V objects and message queues; with the caller's goes its `/dev/shm`.
    pub ipc: Namespace,
    /// The host name.
    pub uts: Namespace,
    /// What of the control groups is seen; a new one begins at the sandbox's own group.
    pub cgroup: Namespace,
}

impl Namespaces {
    /// All its own but the caller's network.
    pub fn with_hosts_network() -> Namespaces {
        Namespaces { network: Namespace::Host, ..Namespaces::default() }
    }
}

/// The command that is executed, and its credentials.
#[derive(Debug, Clone)]
pub struct Process {
    /// The command and its arguments; a command without a slash is searched in `PATH` of `env`.
    pub args: Vec<OsString>,
    /// The whole environment, `NAME=value` each; nothing of the caller's is added.
    pub env: Vec<OsString>,
    /// The working folder in the container; absolute, must exist.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: Identity,
    /// The file mode creation mask.
    pub umask: u32,
    /// Whether set-user-id programs lose their effect (prctl PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// The bounding set, and for user 0 also the permitted and effective sets. What the caller does not have itself is
    /// left out silently, as the runtime specification asks.
    pub capabilities: CapabilitySet,
    /// Resource limits to set.
    pub rlimits: Vec<Rlimit>,
    /// Whether the command gets a first process above it that passes signals on and reaps ([`crate::init`]).
    pub init: bool,
}

impl Process {
    /// The command with docker's defaults, run by user 0 in `/` with `PATH` alone.
    pub fn new<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        Process {
            args: args.into_iter().map(Into::into).collect(),
            env: vec![OsString::from(format!("PATH={DEFAULT_PATH}"))],
            cwd: PathBuf::from("/"),
            user: Identity::default(),
            umask: 0o022,
            no_new_privileges: false,
            capabilities: CapabilitySet::DOCKER,
            rlimits: Vec::new(),
            init: false,
        }
    }
}

/// The `PATH` that docker assumes where an image sets none (moby `oci.DefaultPathEnv`).
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One resource limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*` as the kernel numbers it.
    pub resource: u32,
    /// The soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// The hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}

/// The process's three streams.
#[derive(Debug)]
pub enum Stdio {
    /// Three streams of the caller's choice. The process starts a session of its own and has no controlling terminal.
    Streams {
        /// Standard input.
        stdin: Stream,
        /// Standard output.
        stdout: Stream,
        /// Standard error.
        stderr: Stream,
    },
    /// A new terminal in the container's own `/dev/pts`, controlling, also at `/dev/console`;
    /// [`Running::terminal`](crate::Running::terminal) has the other side.
    Terminal {
        /// Rows and columns at the start.
        size: Option<(u16, u16)>,
    },
}

impl Stdio {
    /// No input, and output that nobody sees.
    pub fn null() -> Self {
        Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null }
    }
}

/// One of the process's streams. There is no way to hand on the caller's own: a terminal could be read through it, and a
/// file's or device's mode and owner changed.
#[derive(Debug)]
pub enum Stream {
    /// `/dev/null`.
    Null,
    /// This pipe or socket; anything else is refused. It is given to the process's user, so that `/dev/stdout` can be
    /// opened anew.
    Fd(OwnedFd),
}

/// A mount beyond the standard set. Targets are container paths, resolved inside the root, never through `/proc`.
#[derive(Debug)]
pub enum Mount {
    /// A host file or folder shown in the container.
    Bind {
        /// What is shown.
        source: BindSource,
        /// Where.
        target: PathBuf,
        /// Whether it, and with `recursive` all below it, is read-only.
        readonly: bool,
        /// Whether mounts below the source come along.
        recursive: bool,
        /// Whether a missing target is made (an empty file or folder, as the source is).
        create: bool,
    },
    /// An empty file system in memory; set-user-id programs and devices have no effect on it.
    Tmpfs {
        /// Where; made if missing.
        target: PathBuf,
        /// The most it may hold.
        size_bytes: Option<u64>,
        /// The mode of its top folder.
        mode: u32,
        /// Whether programs on it may be executed.
        exec: bool,
    },
    /// A read-only file in memory that exists in the sandbox alone: no path of the host leads to it at any time, and it
    /// is gone with the sandbox, however that ends.
    File {
        /// What it holds.
        content: FileContent,
        /// Where; made if missing.
        target: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner, as the caller's user namespace counts.
        uid: u32,
        /// Its group, as the caller's user namespace counts.
        gid: u32,
    },
}

impl Mount {
    /// The same mount, for another sandbox.
    ///
    /// # Errors
    /// When a descriptor cannot be copied.
    pub fn try_clone(&self) -> std::io::Result<Mount> {
        Ok(match self {
            Mount::Bind { source, target, readonly, recursive, create } => Mount::Bind {
                source: match source {
                    BindSource::Path(path) => BindSource::Path(path.clone()),
                    BindSource::Fd(descriptor) => BindSource::Fd(descriptor.try_clone()?),
                },
                target: target.clone(),
                readonly: *readonly,
                recursive: *recursive,
                create: *create,
            },
            Mount::Tmpfs { target, size_bytes, mode, exec } => {
                Mount::Tmpfs { target: target.clone(), size_bytes: *size_bytes, mode: *mode, exec: *exec }
            }
            Mount::File { content, target, mode, uid, gid } => Mount::File {
                content: FileContent(content.0.clone()),
                target: target.clone(),
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
        })
    }
}

/// The bytes of a file, which may be a secret and are shown nowhere.
pub struct FileContent(pub Vec<u8>);

impl std::fmt::Debug for FileContent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// The host's side of a bind mount.
#[derive(Debug)]
pub enum BindSource {
    /// A path, resolved once, now, as the caller.
    Path(PathBuf),
    /// An open file or folder, `O_PATH` allowed; for sources that were found beneath a root.
    Fd(OwnedFd),
}

/// A host device that the container gets: it may read and write it, and change nothing about the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The host's node.
    pub source: PathBuf,
    /// Where it appears; made if missing.
    pub target: PathBuf,
}

/// The system call filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's default profile for the process's capabilities, without terminal injection.
    Default,
    /// None.
    Unconfined,
    /// The caller's own.
    Profile(Arc<Profile>),
}

/// Which parts of `/proc` and `/sys` are hidden or read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Paths that appear empty; missing ones are passed over.
    pub masked: Vec<PathBuf>,
    /// Paths that cannot be written; missing ones are passed over.
    pub readonly: Vec<PathBuf>,
    /// Whether `/sys` (and `/sys/fs/cgroup`) may be written.
    pub sys_writable: bool,
    /// Whether device nodes outside `/dev` can be opened. Without it the root and the binds are mounted `nodev`, which
    /// keeps what `CAP_MKNOD` makes from being a way to the host's disks.
    pub device_nodes: bool,
    /// Whether abstract unix sockets of others can be reached where the network is shared. Without it the kernel hides them
    /// where it can (Landlock, Linux 6.12); they know no owner and no mode.
    pub abstract_sockets: bool,
}

impl Default for Security {
    /// Docker's lists (moby `daemon/pkg/oci/defaults.go`).
    fn default() -> Self {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        Security {
            masked: paths(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/sys/devices/virtual/powercap",
                "/sys/firmware",
            ]),
            readonly: paths(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            sys_writable: false,
            device_nodes: false,
            abstract_sockets: false,
        }
    }
}

impl Security {
    /// Nothing masked, nothing read-only: for `RUN --security=insecure` and `run --privileged`.
    pub fn insecure() -> Self {
        Security {
            masked: Vec::new(),
            readonly: Vec::new(),
            sys_writable: true,
            device_nodes: true,
            abstract_sockets: true,
        }
    }
}
