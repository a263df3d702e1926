//! Which namespaces are made, and which are joined.

use std::os::fd::OwnedFd;

use rustix::thread::LinkNameSpaceType;

use crate::error::Error;
use crate::sandbox::spec::{Namespace, SandboxSpec};
use crate::sandbox::sys::clone::CLONE_CLEAR_SIGHAND;

/// The namespaces in the kernel's terms.
pub(crate) struct PlannedNamespaces {
    /// `CLONE_NEW*` of those that are made with the process.
    pub(crate) made: u64,
    /// Those that the process joins first of all.
    pub(crate) joined: Vec<(OwnedFd, LinkNameSpaceType)>,
    /// Whether the network is new, so that loopback must be brought up.
    pub(crate) own_network: bool,
    /// Whether the view of the control groups is new. It is made once the process is in its group, where it begins.
    pub(crate) own_cgroup: bool,
    /// Whether message queues are others'.
    pub(crate) foreign_ipc: bool,
}

impl PlannedNamespaces {
    pub(super) fn new(spec: &SandboxSpec) -> Result<Self, Error> {
        let namespaces = &spec.namespaces;
        if spec.hostname.is_some() && !namespaces.uts.is_new() {
            let reason = "cannot be set in a UTS namespace that is not the container's own";
            return Err(Error::Invalid { what: "host name".to_owned(), reason });
        }
        let kinds = [
            (&namespaces.network, libc::CLONE_NEWNET, LinkNameSpaceType::Network),
            (&namespaces.ipc, libc::CLONE_NEWIPC, LinkNameSpaceType::InterProcessCommunication),
            (&namespaces.uts, libc::CLONE_NEWUTS, LinkNameSpaceType::HostNameAndNISDomainName),
            (&namespaces.cgroup, 0, LinkNameSpaceType::ControlGroup),
        ];
        let mut planned = PlannedNamespaces {
            made: (libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64 | CLONE_CLEAR_SIGHAND,
            joined: Vec::new(),
            own_network: namespaces.network.is_new(),
            own_cgroup: namespaces.cgroup.is_new(),
            foreign_ipc: !namespaces.ipc.is_new(),
        };
        for (namespace, flag, kind) in kinds {
            match namespace {
                Namespace::New => planned.made |= flag as u64,
                Namespace::Host => {}
                Namespace::Join(file) => {
                    let held = file.try_clone();
                    let what = "a namespace to join".to_owned();
                    planned.joined.push((held.map_err(|source| Error::Prepare { what, source })?, kind));
                }
            }
        }
        Ok(planned)
    }
}
