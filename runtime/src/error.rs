//! What can go wrong between a specification and a running process.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::sandbox::seccomp::ALL_INSTRUCTIONS;

/// Why a sandbox did not start, or could not be waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification holds something that no kernel call can take.
    #[error("{what}: {reason}")]
    Invalid {
        /// The field and value.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A host file or folder could not be opened.
    #[error("cannot open `{path}` on the host")]
    Open {
        /// The host path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The root file system could not be mounted; `log` is the kernel's own explanation where it gives one.
    #[error("cannot mount the root file system{}", explained(log))]
    Root {
        /// What overlayfs wrote to its configuration descriptor.
        log: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A layer's file could not be mounted; `log` is the kernel's own explanation where it gives one.
    #[error("cannot mount the layer `{}`{}", path.display(), explained(log))]
    Layer {
        /// The file.
        path: PathBuf,
        /// What the file system wrote to its configuration descriptor.
        log: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The upper folder is on an overlay itself, which the kernel does not stack.
    #[error(
        "cannot mount the root file system: `{}` is on an overlay, as in a container, on which the kernel mounts no other: \
         put the store on a volume or another disk (--root DIR, SLIPWAY_ROOT)", upper.display()
    )]
    NestedOverlay {
        /// The upper folder.
        upper: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file system could not be made ready.
    #[error("cannot prepare {what}")]
    Prepare {
        /// The file system and its place.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A container path that a mount needs is a link or of the wrong kind, or cannot be made.
    #[error("cannot use `{target}` in the container as a mount point")]
    MountPoint {
        /// The container path.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mount could not be attached.
    #[error("cannot mount on `{target}` in the container")]
    Mount {
        /// The container path.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mount's target lies in `/proc`, where a mount could redirect what the runtime and others rely on.
    #[error("refusing to mount on `{target}`: it lies in `/proc`")]
    InsideProc {
        /// The container path.
        target: PathBuf,
    },
    /// A limit was asked for that this machine cannot set.
    #[error("cannot set the {limit} limit: {reason}")]
    Limit {
        /// `memory`, `pids`, `cpu` or `cpuset`.
        limit: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },
    /// An id that is asked for is not there.
    #[error(
        "{what} is {uid}:{gid}, and this user has no such id: give it more subordinate ids in /etc/subuid and /etc/subgid, \
         or run as root"
    )]
    NoSuchId {
        /// Whose it is to be.
        what: String,
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
    /// A system call filter is longer than the kernel takes, also in parts.
    #[error(
        "the seccomp profile `{name}` is too long: {instructions} instructions for the kernel, which takes {most} {}; give it \
         fewer rules with arguments", of_what(*most)
    )]
    Profile {
        /// What the caller calls it.
        name: String,
        /// How many instructions it has, or the one system call that is too much.
        instructions: usize,
        /// How many there may be.
        most: usize,
    },
    /// A control group could not be made or written.
    #[error("control group `{path}`")]
    Cgroup {
        /// The group's folder or file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process could not be made.
    #[error("cannot create the container's process")]
    Clone {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A gate could not be made or opened.
    #[error("cannot use the gate `{}`", path.display())]
    Gate {
        /// The FIFO.
        path: PathBuf,
        /// The kernel's answer; `ENXIO` is a FIFO at which nobody waits, `EINVAL` a file of another kind.
        source: io::Error,
    },
    /// A namespace that the caller named could not be joined.
    #[error("cannot join the {namespace} namespace")]
    Join {
        /// Its kind.
        namespace: &'static str,
        /// The kernel's answer; `EINVAL` is a file of no namespace of this kind.
        source: io::Error,
    },
    /// A step inside the new namespaces failed.
    #[error("cannot {step} for the container")]
    Setup {
        /// What was being done.
        step: Step,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The working folder does not exist, is no folder, may not be entered, or lies outside the root.
    #[error("cannot enter the working directory `{path}` of the container")]
    Cwd {
        /// The container path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no such command in the container (a shell would say status 127).
    #[error("command `{}` not found in the container", command.display())]
    CommandNotFound {
        /// The command as given.
        command: OsString,
        /// `ENOENT` or `ENOTDIR`.
        source: io::Error,
    },
    /// The command is there but cannot be executed (a shell would say status 126).
    #[error("cannot execute `{}` in the container", command.display())]
    NotExecutable {
        /// The command as given.
        command: OsString,
        /// The kernel's answer; `ENOEXEC` is a file of another machine or a script without `#!`.
        source: io::Error,
    },
    /// Waiting for, or signalling, the process failed.
    #[error("cannot {what} the container's process")]
    Process {
        /// `wait for`, `find` or `signal`.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The exit status a shell user expects of a command that could not start: 127 for not found, 126 for not
    /// executable, 125 for everything that is the container's and not the command's fault (docker run(1)).
    pub fn exit_status(&self) -> i32 {
        match self {
            Error::CommandNotFound { .. } => 127,
            Error::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

fn of_what(most: usize) -> &'static str {
    if most == ALL_INSTRUCTIONS { "of one process" } else { "for one system call" }
}

fn explained(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

/// A step of the child's, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Joining the control groups.
    JoinCgroup,
    /// Leaving the host's control group namespace.
    CgroupNamespace,
    /// Cutting mount propagation to the host.
    Propagation,
    /// Attaching the root.
    Root,
    /// Finding or making a mount point.
    MountPoint,
    /// Attaching a prepared mount.
    Mount,
    /// A mount's target that turned out to lie in `/proc`.
    InsideProc,
    /// Mounting `/proc`.
    Proc,
    /// Mounting `/sys`.
    Sys,
    /// Mounting `/dev/mqueue`.
    Mqueue,
    /// Hiding a path.
    Mask,
    /// Making a path read-only.
    ReadOnly,
    /// Changing the root.
    Pivot,
    /// Setting the host name.
    Hostname,
    /// Bringing loopback up.
    Loopback,
    /// Placing the three streams.
    Streams,
    /// Taking the terminal.
    Terminal,
    /// Entering the working folder.
    Cwd,
    /// Setting resource limits.
    Rlimit,
    /// Installing the system call filter.
    Seccomp,
    /// Changing user and groups.
    User,
    /// Setting capabilities.
    Capabilities,
    /// Executing the command.
    Exec,
    /// Executing the init process.
    Init,
    /// Hiding the abstract unix sockets of the shared network.
    Sockets,
    /// Joining a namespace.
    Join,
    /// Waiting at the gate.
    Gate,
}

impl Step {
    /// Every step; the place is the number that travels from the child.
    const ALL: [Step; 27] = [
        Step::JoinCgroup,
        Step::CgroupNamespace,
        Step::Propagation,
        Step::Root,
        Step::MountPoint,
        Step::Mount,
        Step::InsideProc,
        Step::Proc,
        Step::Sys,
        Step::Mqueue,
        Step::Mask,
        Step::ReadOnly,
        Step::Pivot,
        Step::Hostname,
        Step::Loopback,
        Step::Streams,
        Step::Terminal,
        Step::Cwd,
        Step::Rlimit,
        Step::Seccomp,
        Step::User,
        Step::Capabilities,
        Step::Exec,
        Step::Init,
        Step::Sockets,
        Step::Join,
        Step::Gate,
    ];

    /// The step with this number.
    pub(crate) fn from_number(number: u32) -> Option<Step> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Join => "join a namespace",
            Step::Gate => "wait at the gate",
            Step::JoinCgroup => "join the control group",
            Step::CgroupNamespace => "make a control group namespace",
            Step::Propagation => "make the mounts private",
            Step::Root => "attach the root file system",
            Step::MountPoint => "find a mount point",
            Step::Mount | Step::InsideProc => "attach a mount",
            Step::Proc => "mount /proc",
            Step::Sys => "mount /sys",
            Step::Mqueue => "mount /dev/mqueue",
            Step::Mask => "mask a path",
            Step::ReadOnly => "make a path read-only",
            Step::Pivot => "change the root",
            Step::Hostname => "set the host name",
            Step::Loopback => "bring the loopback interface up",
            Step::Streams => "place the standard streams",
            Step::Terminal => "take the terminal",
            Step::Cwd => "enter the working directory",
            Step::Rlimit => "set a resource limit",
            Step::Seccomp => "install the system call filter",
            Step::User => "change user and groups",
            Step::Capabilities => "set capabilities",
            Step::Exec => "execute the command",
            Step::Init => "execute the init process",
            Step::Sockets => "hide the host's abstract unix sockets",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_travel_as_numbers() {
        for (number, step) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, number);
            assert_eq!(Step::from_number(number as u32), Some(*step));
        }
        assert_eq!(Step::from_number(27), None);
    }
}
