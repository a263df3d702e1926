//! RUN --mount: read, keyed, attached.

use super::{
    Provided, StageState,
    agent::{Access, Agent},
    environment::put_env,
    newer::make_newer,
};
use crate::{
    Base, SecretSource, StepError, ValueError, base,
    execute::bind,
    key::{MountStep, StepDescription, chain_id},
    limits,
    transfer::{self, SourceTree},
};
use slipway_dockerfile::mount::{BindMount, CacheMount, RunMount, SecretMount, SshMount, TmpfsMount};
use slipway_oci::{
    file,
    layer::{self, Tree},
    store::{CacheLock, LayerForm},
};
use slipway_runtime::{FileContent, Lower, Mount as SandboxMount};
use std::{
    fs,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// One mount of a RUN with its source found.
pub(super) enum Mount {
    /// `base_layers` of the layers are an image's from elsewhere.
    Bind {
        mount: BindMount,
        layers: Vec<LayerForm>,
        source: Vec<u8>,
        base_layers: usize,
    },
    Cache(CacheMount, Option<Seed>),
    Tmpfs(TmpfsMount),
    Secret(SecretMount),
    Ssh(SshMount),
}

/// What a new cache is filled from.
pub(super) struct Seed {
    pub(super) layers: Vec<LayerForm>,
    pub(super) source: Vec<u8>,
}

/// What is mounted for one command, and what must be kept and let go with it.
#[derive(Default)]
pub(crate) struct Attached {
    /// For the sandbox.
    pub(crate) mounts: Vec<SandboxMount>,
    /// A layer above all others, of what has to look newer than it is.
    pub(crate) newer: Option<PathBuf>,
    /// Locks on cache folders.
    pub(super) locks: Vec<CacheLock>,
    /// Agents, which end before their sockets go.
    pub(super) agents: Vec<Agent>,
    /// Files and folders that go away afterwards.
    pub(super) scratch: Vec<PathBuf>,
    /// Mounts of layers that others are taken from.
    held: Vec<OwnedFd>,
}

impl Attached {
    /// Lets other steps use the caches that are mounted.
    pub(crate) fn let_caches_go(&mut self) {
        self.locks.clear();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.agents.clear();
        for path in &self.scratch {
            // swept later where it cannot be removed now
            let _ = if path.is_dir() { file::remove_tree(path) } else { fs::remove_file(path) };
        }
        self.locks.clear();
    }
}

impl StageState<'_, '_> {
    /// Reads the `--mount` values and finds what bind mounts show.
    pub(super) fn mounts(&mut self, texts: &[String]) -> Result<Vec<Mount>, StepError> {
        let mut mounts = Vec::new();
        for text in texts {
            let parsed = {
                let state = &*self;
                let lookup = |name: &str| state.variable(name);
                let mut expand =
                    |text: &str| state.expander.expand(text, &lookup).map(|expansion| expansion.value);
                RunMount::parse(text, &mut expand).map_err(ValueError::from)?
            };
            let target = match &parsed {
                RunMount::Bind(mount) => Some(mount.target.as_str()),
                RunMount::Cache(mount) => Some(mount.target.as_str()),
                RunMount::Tmpfs(mount) => Some(mount.target.as_str()),
                RunMount::Secret(mount) => mount.target.as_deref(),
                RunMount::Ssh(mount) => mount.target.as_deref(),
            };
            if target
                .is_some_and(|target| transfer::clean(self.target(target).as_os_str().as_bytes()).is_empty())
            {
                return Err(ValueError::MountOnRoot(text.clone()).into());
            }
            mounts.push(match parsed {
                RunMount::Bind(mount) => self.bind_source(mount)?,
                RunMount::Cache(mount) => self.cache_seed(mount)?,
                RunMount::Tmpfs(mount) => Mount::Tmpfs(mount),
                RunMount::Secret(mount) => Mount::Secret(mount),
                RunMount::Ssh(mount) => Mount::Ssh(mount),
            });
        }
        Ok(mounts)
    }

    fn bind_source(&mut self, mount: BindMount) -> Result<Mount, StepError> {
        let (layers, source) = self.snapshot(mount.from.as_deref(), &mount.source)?;
        let base_layers = match mount.from.as_deref() {
            None => 0,
            Some(from) => match self.solver.provider(from, self.index)? {
                Base::Stage(index) => (self.stages)(index).map_err(StepError::Dependency)?.base_layers,
                Base::Image(_) => layers.len(),
                Base::Scratch | Base::Context(_) => 0,
            },
        };
        Ok(Mount::Bind { mount, layers, source, base_layers })
    }

    fn cache_seed(&mut self, mount: CacheMount) -> Result<Mount, StepError> {
        let seed = match mount.from.as_deref() {
            None => None,
            Some(from) => {
                let (layers, source) = self.snapshot(Some(from), &mount.source)?;
                Some(Seed { layers, source })
            }
        };
        Ok(Mount::Cache(mount, seed))
    }

    /// The layers that hold `source` of a stage, image or folder, and the path in them. What a folder holds becomes a
    /// layer of its own, so that the step sees exactly what its key says, whatever happens to the folder meanwhile.
    fn snapshot(&mut self, from: Option<&str>, source: &str) -> Result<(Vec<LayerForm>, Vec<u8>), StepError> {
        let path = transfer::clean(source.as_bytes());
        let provided = match from {
            Some(from) => self.provider(from)?,
            None => Provided::Folder(self.solver.context()?),
        };
        match provided {
            Provided::Layers(layers, _) => Ok((layers, path)),
            Provided::Folder(folder) => {
                let form = self.layer_of(&*folder, &path, &Tree::default())?;
                Ok((form.into_iter().collect(), path))
            }
        }
    }

    /// The mount as the step's key has it: its shape and what binds show; no secret and no cache content.
    pub(super) fn describe_mount(&self, mount: &Mount) -> MountStep {
        match mount {
            Mount::Bind { mount, layers, source, .. } => MountStep::Bind {
                target: mount.target.clone(),
                path: StepDescription::text(source),
                from: chain_id(layers.iter().map(|form| &form.diff_id)),
                read_write: mount.read_write,
            },
            Mount::Cache(mount, seed) => MountStep::Cache {
                target: mount.target.clone(),
                id: mount.id.clone(),
                cache: self.cache_name(mount, seed),
                number: self.config.history.len(),
            },
            Mount::Tmpfs(mount) => {
                MountStep::Tmpfs { target: mount.target.clone(), size_bytes: mount.size_bytes }
            }
            Mount::Secret(mount) => MountStep::Secret {
                id: mount.id.clone(),
                target: mount.target.clone(),
                env: mount.env.clone(),
                mode: mount.mode,
                uid: mount.uid,
                gid: mount.gid,
            },
            Mount::Ssh(mount) => MountStep::Ssh {
                id: mount.id.clone(),
                target: mount.target.clone(),
                mode: mount.mode,
                uid: mount.uid,
                gid: mount.gid,
            },
        }
    }

    /// Prepares the mounts for one run of the command, whose layers are `lower`, the topmost first.
    pub(super) fn attach(
        &mut self,
        mounts: &[Mount],
        lower: &[Lower],
        env: &mut Vec<String>,
    ) -> Result<Attached, StepError> {
        let mut attached = Attached::default();
        let caches = mounts.iter().filter_map(|mount| match mount {
            Mount::Cache(mount, seed) => Some((mount, seed)),
            _ => None,
        });
        let held = self.hold_caches(caches, &mut attached)?;
        let newer = self.newer(mounts, held.values())?;
        attached.newer = self.newer_layer(&newer, lower, &mut attached.scratch)?;
        let mut agents = 0;
        for (number, mount) in mounts.iter().enumerate() {
            match mount {
                Mount::Bind { mount, layers, source, .. } => {
                    self.attach_bind(mount, layers, source, newer.of_mount(number), &mut attached)?
                }
                Mount::Cache(mount, seed) => {
                    let folder = held[&self.cache_name(mount, seed)].folder.clone();
                    attached.mounts.push(bind(folder, self.target(&mount.target), mount.read_only));
                }
                Mount::Tmpfs(mount) => attached.mounts.push(SandboxMount::Tmpfs {
                    target: self.target(&mount.target),
                    size_bytes: mount.size_bytes,
                    mode: 0o1777,
                    exec: true,
                }),
                Mount::Secret(mount) => self.attach_secret(mount, env, &mut attached)?,
                Mount::Ssh(mount) => {
                    self.attach_agent(mount, agents, env, &mut attached)?;
                    agents += 1;
                }
            }
        }
        Ok(attached)
    }

    pub(super) fn target(&self, text: &str) -> PathBuf {
        if text.starts_with('/') { PathBuf::from(text) } else { Path::new(&self.working_dir()).join(text) }
    }

    fn attach_bind(
        &mut self,
        mount: &BindMount,
        layers: &[LayerForm],
        source: &[u8],
        newer: Option<&[(Vec<u8>, i64)]>,
        attached: &mut Attached,
    ) -> Result<(), StepError> {
        // what is put into a root is never what others see too
        let is_own = mount.read_write || newer.is_some() || self.solver.environment.bare;
        let path = self.folder_with(layers, source, is_own, attached)?;
        if let Some(newer) = newer {
            make_newer(&path, newer)?;
        }
        attached.mounts.push(bind(path, self.target(&mount.target), !mount.read_write));
        Ok(())
    }

    /// A folder of the host that shows `source` of the layers, where links lead inside them. Paths that one layer
    /// holds alone are shown in place; others, and all that may be written, are copied.
    pub(super) fn folder_with(
        &mut self,
        layers: &[LayerForm],
        source: &[u8],
        writable: bool,
        attached: &mut Attached,
    ) -> Result<PathBuf, StepError> {
        let solver = self.solver;
        let tree = solver.layered(layers, "the mount's source".to_owned())?;
        let tables = base::tree(solver.environment, layers)?;
        let resolved = tables.resolve(source, true)?;
        if !resolved.exists && !resolved.path.is_empty() {
            let path = transfer::shown(source);
            return Err(StepError::NotFound { path, place: tree.place(), hint: None });
        }
        let holders: Vec<usize> = (0..tables.layers().len())
            .filter(|layer| {
                tables.layers()[*layer]
                    .entries()
                    .iter()
                    .any(|entry| transfer::is_within(&entry.path, &resolved.path))
            })
            .collect();
        let inner = PathBuf::from(std::ffi::OsStr::from_bytes(&resolved.path));
        if let ([only], false) = (holders.as_slice(), writable) {
            let shown = base::mountable(solver.environment, &layers[..=*only])?;
            let path = shown.folders[0].join(inner);
            attached.held.extend(shown.into_held());
            return Ok(path);
        }
        let form = self.layer_of(&tree, &resolved.path, &Tree::default())?;
        let scratch = solver.environment.store.temporary_folder("mount")?;
        attached.scratch.push(scratch.clone());
        if let Some(form) = form {
            let store = solver.environment.store;
            layer::unpack(store.read_layer(&form.diff_id)?, &scratch, store.xattrs(), None)?;
        }
        Ok(scratch.join(inner))
    }

    /// Refuses an owner that cannot be. Where one id is mapped it is kept beside, or everybody's.
    pub(super) fn check_owner(&self, what: &str, uid: u32, gid: u32) -> Result<(), StepError> {
        if self.solver.environment.single_id {
            return Ok(());
        }
        Ok(slipway_runtime::ids::check(|| format!("the owner of {what}"), uid, gid)?)
    }

    fn attach_secret(
        &mut self,
        mount: &SecretMount,
        env: &mut Vec<String>,
        attached: &mut Attached,
    ) -> Result<(), StepError> {
        let value = match self.solver.request.secrets.get(&mount.id) {
            Some(SecretSource::Value(value)) => value.clone(),
            Some(SecretSource::File(path)) => file::read_capped(path, limits::SECRET_BYTES)
                .map_err(StepError::io("read the secret", path))?,
            None if mount.required => {
                return Err(StepError::Missing { what: "secret", id: mount.id.clone() });
            }
            // BuildKit `loadSecretEnv`: the variable is there, and empty
            None => {
                mount.env.iter().for_each(|name| put_env(env, name, ""));
                return Ok(());
            }
        };
        if let Some(name) = &mount.env {
            let text = String::from_utf8(value.clone());
            let text = text.map_err(|_| ValueError::SecretBytes(mount.id.clone()))?;
            put_env(env, name, &text);
            if mount.target.is_none() {
                return Ok(());
            }
        }
        let target = mount.target.clone().unwrap_or_else(|| format!("/run/secrets/{}", mount.id));
        attached.mounts.push(SandboxMount::File {
            content: FileContent(value),
            target: self.target(&target),
            mode: mount.mode,
            uid: mount.uid,
            gid: mount.gid,
        });
        Ok(())
    }

    fn attach_agent(
        &mut self,
        mount: &SshMount,
        number: usize,
        env: &mut Vec<String>,
        attached: &mut Attached,
    ) -> Result<(), StepError> {
        let Some(socket) = self.solver.request.ssh.get(&mount.id) else {
            if mount.required {
                return Err(StepError::Missing { what: "ssh agent", id: mount.id.clone() });
            }
            return Ok(());
        };
        let target = mount.target.clone().unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"));
        let target = self.target(&target);
        if !env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK=")) {
            env.push(format!("SSH_AUTH_SOCK={}", target.display()));
        }
        let environment = self.solver.environment;
        self.check_owner("the agent's socket", mount.uid, mount.gid)?;
        let folder = environment.store.temporary_folder("agent")?;
        attached.scratch.push(folder.clone());
        // the one id is everybody's
        let owner = (!environment.single_id).then_some((mount.uid, mount.gid));
        let agent = Agent::serve(&folder, socket, Access { owner, mode: mount.mode })?;
        // the socket is the step's own, which may change what it likes about it
        attached.mounts.push(bind(agent.socket().to_owned(), target, false));
        attached.agents.push(agent);
        Ok(())
    }
}
