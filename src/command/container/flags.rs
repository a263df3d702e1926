//! Flags of the commands that make containers.

use super::namespaces::{ipc, network, private};
use slipway_oci::Platform;
use slipway_runtime::container::config::{Restart, Sharing};
use std::{ffi::OsString, path::PathBuf};

/// The value of `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Pull {
    /// When the store lacks the image
    #[default]
    Missing,
    /// Each time
    Always,
    /// Not at all
    Never,
}

/// What a new container is to be.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// Its name [default: two words]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Remove it when it ends
    #[arg(long)]
    pub(super) rm: bool,
    /// Write its id to a file
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<PathBuf>,
    /// Start it again when it ends: no, on-failure[:COUNT], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart, default_value = "no")]
    pub(super) restart: Restart,
    /// A label: NAME=VALUE
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) label: Vec<String>,
    /// Set a variable: NAME=VALUE, or NAME to pass the caller's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Read labels from a file, NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(super) label_file: Vec<PathBuf>,
    /// Show a folder or file: SOURCE:TARGET[:ro]
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    pub(super) volume: Vec<String>,
    /// An empty file system in memory: TARGET[:size=BYTES,mode=MODE]
    #[arg(long, value_name = "TARGET")]
    pub(super) tmpfs: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "TARGET")]
    pub(super) workdir: Option<String>,
    /// User, by name or number: USER[:GROUP]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Pass standard input on
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Network: host (without raw sockets unless --cap-add NET_RAW), none (but loopback) or ns:PATH
    #[arg(long, alias = "net", value_parser = network, value_name = "NETWORK", default_value = "host")]
    pub(super) network: Sharing,
    /// System V objects, message queues and /dev/shm: private, host or ns:PATH
    #[arg(long, value_parser = ipc, value_name = "IPC", default_value = "private")]
    pub(super) ipc: Sharing,
    /// Host name: private or host
    #[arg(long, value_parser = private, value_name = "UTS", default_value = "private")]
    pub(super) uts: Sharing,
    /// View of the control groups: private or host
    #[arg(long, value_parser = private, value_name = "CGROUPNS", default_value = "private")]
    pub(super) cgroupns: Sharing,
    /// The program in place of the image's
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "HOST")]
    pub(super) hostname: Option<String>,
    /// An entry for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(super) hosts: Vec<String>,
    /// Mount the root read-only
    #[arg(long)]
    pub(super) read_only: bool,
    /// All capabilities, no filter, no masked paths
    #[arg(long)]
    pub(super) privileged: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(super) cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(super) cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined, or seccomp=FILE with a profile in docker's form
    #[arg(long, value_name = "OPTION")]
    pub(super) security_opt: Vec<String>,
    /// Most memory, for example 512m
    #[arg(short, long, value_name = "BYTES")]
    pub(super) memory: Option<String>,
    /// Most memory and swap together; -1 for any amount of swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory_swap: Option<String>,
    /// Most processors, for example 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(super) cpus: Option<f64>,
    /// Most processes
    #[arg(long, value_name = "NUMBER")]
    pub(super) pids_limit: Option<i64>,
    /// Give the command a first process that passes signals on and reaps
    #[arg(long)]
    pub(super) init: bool,
    /// What a TERM to slipway asks the command to end with [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(super) stop_signal: Option<String>,
    /// Seconds that it has then before it is killed; -1 for ever [default: 10]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(super) stop_timeout: Option<i64>,
    /// Where its log goes: json-file or none
    #[arg(long, value_name = "DRIVER", default_value = "json-file")]
    pub(super) log_driver: String,
    /// How much of it is kept: max-size=BYTES, max-file=NUMBER [default: 32m, 2]
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) log_opt: Vec<String>,
    /// What the image must run on
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<Platform>,
    /// When to ask the registry
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub(super) pull: Pull,
    /// The image: a name, id or digest
    pub(super) image: String,
    /// The command and its arguments, handed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<OsString>,
}

fn restart(text: &str) -> Result<Restart, String> {
    Restart::parse(text)
        .ok_or_else(|| "it is none of no, on-failure[:COUNT], always, unless-stopped".to_owned())
}
