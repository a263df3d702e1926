//! The sandbox: namespaces, mounts, limits, filters, and the life of a container's first process.
//!
//! A caller describes what it wants as plain data ([`SandboxSpec`]). [`Plan::new`] checks it and turns it into what
//! the kernel takes: C strings, arrays of pointers, open descriptors, detached mounts. [`spawn`] then makes one
//! process with `clone3`, which attaches what was prepared and executes the command.
//!
//! ```text
//! SandboxSpec ── Plan::new ──> Plan ── clone3 (VM | VFORK | PIDFD | namespaces) ──> child ── execve
//!  plain data    opens, checks         own stack, parent's memory, calls only          │
//!                                      failure: written where the parent reads it <────┘
//! ```
//!
//! Invariants:
//! - Between clone and exec the child makes system calls and nothing else: no allocation, no lock, no panic. It shares
//!   the parent's memory (so a parent with a heap of 400 MiB starts it as fast as a small one) and has its own stack.
//! - No path is looked up twice. Host objects are opened before the clone; container paths are resolved beneath the
//!   root's descriptor, then acted on through the descriptor that the resolution gave.
//! - No process of a container outlives its `slipway`, `kill -9` included (`sandbox/guard.rs`), unless that was asked for
//!   ([`Life::Beyond`]).
//! - A fallback never changes what was asked for; where the machine cannot do it, the error says so.
//!
//! [`create`] stops before the command ([`Gate`]), as the `create` and `start` of the runtime specification need.
//!
//! Time, everything included, on an overlay with the full set of mounts: 1.5 ms with the host's network, 2.1 ms with one
//! of its own (`cargo run --release -p slipway-runtime --example spawn_time`, two cores, Linux 6.18).
//!
//! ```no_run
//! use slipway_runtime::{RootFs, SandboxSpec, spawn};
//! let spec = SandboxSpec::new(RootFs::Directory("/srv/rootfs".into()), ["/bin/sh", "-c", "exit 3"]);
//! let mut running = spawn(&spec)?;
//! assert_eq!(running.wait()?.status(), 3);
//! # Ok::<(), slipway_runtime::Error>(())
//! ```
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))] // tables of cases are as long as they are

pub mod bare;
mod cgroup;
pub mod container;
mod error;
pub mod host;
pub mod ids;
pub mod levels;
mod network;
pub mod own_file;
pub mod root;
mod sandbox;
pub mod signals;

pub use cgroup::{CgroupSpec, CpuQuota, SwapLimit, sweep};
pub use container::{identity, init};
pub use error::{Error, Step};
pub use root::{Lower, RootFs, Via};
pub use sandbox::capability::{self, Capability, CapabilitySet};
pub use sandbox::gate::{Gate, open_gate};
pub use sandbox::guard::{Used, own_memory_bytes};
pub use sandbox::handle::{Handle, ProcessId};
pub use sandbox::launch::{Created, Exit, Running, create, spawn};
pub use sandbox::plan::Plan;
pub use sandbox::seccomp;
pub use sandbox::spec::{
    BindSource, Device, FileContent, Life, Mount, Namespace, Namespaces, Process, Rlimit, SandboxSpec,
    Seccomp, Security, Stdio, Stream,
};
