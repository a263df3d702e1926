//! What a kept container is made from, each time that it starts: resolved when it was made, so that neither the caller's
//! environment nor a name that has moved since changes it. It lies as JSON in the container's folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::{CpuQuota, SwapLimit};
use crate::container::log::LogLimits;
use crate::container::stop::StopPolicy;

/// A container, as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// The image as the caller wrote it.
    pub image: String,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Its variables, `NAME=VALUE`.
    pub env: Vec<OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// `USER[:GROUP]`, to be looked up in the image.
    pub user: Option<String>,
    /// What it is called.
    pub hostname: String,
    /// Lines of `/etc/hosts`: names and addresses.
    pub hosts: Vec<(String, String)>,
    /// Files and folders of the host.
    pub binds: Vec<Bind>,
    /// File systems in memory.
    pub memory_folders: Vec<MemoryFolder>,
    /// Whose network it has.
    pub network: Sharing,
    /// Whose System V objects and message queues.
    pub ipc: Sharing,
    /// Whose host name.
    pub uts: Sharing,
    /// Whose view of the control groups.
    pub cgroup: Sharing,
    /// Whether its root cannot be written.
    pub read_only: bool,
    /// Whether nothing is masked or filtered.
    pub privileged: bool,
    /// Its capabilities, as [`crate::Capability`] writes them.
    pub capabilities: Vec<String>,
    /// Whether set-user-id programs lose their effect.
    pub no_new_privileges: bool,
    /// Its system call filter.
    pub filter: Filter,
    /// Its limits.
    pub limits: Limits,
    /// Whether it has a first process of ours that reaps.
    pub init: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether its input is open.
    pub interactive: bool,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// What happens when it has ended.
    pub restart: Restart,
    /// Whether it goes away when it has ended.
    pub auto_remove: bool,
    /// Its labels, the image's among them.
    pub labels: BTreeMap<String, String>,
    /// How much of its log is kept.
    pub log: LogLimits,
}

/// A file or folder of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bind {
    /// Of the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether it cannot be written.
    pub readonly: bool,
}

/// An empty file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryFolder {
    /// In the container.
    pub target: PathBuf,
    /// The most that it holds.
    pub size_bytes: Option<u64>,
    /// Its mode.
    pub mode: u32,
    /// Whether programs on it may be executed.
    pub exec: bool,
}

/// Whose namespace a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// One of its own; of networks one with nothing but loopback.
    Own,
    /// The host's.
    Host,
    /// That of a file such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    File(PathBuf),
}

/// A system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Docker's.
    Default,
    /// None.
    Unconfined,
    /// The caller's, in docker's JSON form.
    Profile {
        /// Where it was read.
        file: String,
        /// What was in it.
        json: String,
    },
}

/// Limits of a container; without any it stays in its caller's group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// The most memory.
    pub memory_bytes: Option<u64>,
    /// The most swap beside it.
    pub swap: SwapLimit,
    /// The most processes.
    pub pids_max: Option<u64>,
    /// The most processor time.
    pub cpu: Option<CpuQuota>,
}

/// When an ended container is started again (docker `--restart`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Not.
    #[default]
    No,
    /// When it has failed, at most so often in a row; 0 is without end.
    OnFailure(u32),
    /// Always, until it is stopped.
    Always,
    /// The same; one that was stopped stays so when the machine starts.
    UnlessStopped,
}

/// The first pause before a restart; each further one is twice as long (docker `restartmanager`).
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After how long a life the pauses begin anew.
pub const LONG_LIFE: Duration = Duration::from_secs(10);

impl Restart {
    /// Reads `no`, `on-failure[:COUNT]`, `always` or `unless-stopped`.
    pub fn parse(text: &str) -> Option<Restart> {
        match text.split_once(':') {
            None => match text {
                "no" | "" => Some(Restart::No),
                "on-failure" => Some(Restart::OnFailure(0)),
                "always" => Some(Restart::Always),
                "unless-stopped" => Some(Restart::UnlessStopped),
                _ => None,
            },
            Some(("on-failure", count)) => count.parse().ok().map(Restart::OnFailure),
            Some(_) => None,
        }
    }

    /// The policy's name, without its count.
    pub fn name(self) -> &'static str {
        match self {
            Restart::No => "no",
            Restart::OnFailure(_) => "on-failure",
            Restart::Always => "always",
            Restart::UnlessStopped => "unless-stopped",
        }
    }

    /// How often at most; 0 is without end.
    pub fn most(self) -> u32 {
        if let Restart::OnFailure(most) = self { most } else { 0 }
    }

    /// The pause before a container starts again that has ended with `code`, and was started again `restarts` times in a
    /// row before; `None` where it does not.
    pub fn pause(self, code: i32, restarts: u32) -> Option<Duration> {
        let again = match self {
            Restart::No => false,
            Restart::OnFailure(most) => code != 0 && (most == 0 || restarts < most),
            Restart::Always | Restart::UnlessStopped => true,
        };
        let doubled = 2u32.checked_pow(restarts.min(20)).unwrap_or(u32::MAX);
        again.then(|| FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE))
    }
}

/// The name of the file in a container's folder.
const FILE: &str = "config.json";
/// The largest that is read.
const MOST_BYTES: u64 = 16 << 20;

impl Config {
    /// Writes it into a container's folder, whole or not at all.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        slipway_oci::file::write_atomic(&folder.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Reads that of a container's folder.
    pub fn read(folder: &Path) -> std::io::Result<Config> {
        Ok(serde_json::from_slice(&slipway_oci::file::read_capped(&folder.join(FILE), MOST_BYTES)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        for (text, expected) in [
            ("no", Restart::No),
            ("", Restart::No),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
            ("on-failure", Restart::OnFailure(0)),
            ("on-failure:3", Restart::OnFailure(3)),
        ] {
            assert_eq!(Restart::parse(text), Some(expected), "{text}");
        }
        for text in ["yes", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "no:1"] {
            assert_eq!(Restart::parse(text), None, "{text}");
        }
        let ms = |pause: Option<Duration>| pause.map(|pause| pause.as_millis());
        assert_eq!(ms(Restart::No.pause(1, 0)), None);
        assert_eq!(ms(Restart::OnFailure(2).pause(0, 0)), None);
        assert_eq!([0, 1, 2].map(|n| ms(Restart::OnFailure(2).pause(7, n))), [Some(100), Some(200), None]);
        assert_eq!(ms(Restart::OnFailure(0).pause(7, 3)), Some(800));
        assert_eq!(ms(Restart::Always.pause(0, u32::MAX)), Some(60_000));
    }
}
