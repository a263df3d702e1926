//! RUN --mount: read, keyed, attached.

use super::{Provided, StageState, environment::put_env};
use crate::{
    SecretSource, StepError, ValueError,
    execute::bind,
    key::{MountStep, StepDescription, chain_id},
    limits,
    transfer::{self, SourceTree},
};
use rustix::fs::FlockOperation;
use slipway_dockerfile::mount::{
    BindMount, CacheMount, RunMount, SecretMount, Sharing, SshMount, TmpfsMount,
};
use slipway_oci::{
    Digest, file,
    layer::{self, Tree, owner},
    store::LayerForm,
};
use slipway_runtime::{FileContent, Mount as SandboxMount};
use std::{
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

/// One mount of a RUN with its source found.
pub(super) enum Mount {
    Bind { mount: BindMount, layers: Vec<LayerForm>, source: Vec<u8> },
    Cache(CacheMount),
    Tmpfs(TmpfsMount),
    Secret(SecretMount),
    Ssh(SshMount),
}

/// What is mounted for one command, and what must be kept and let go with it.
#[derive(Default)]
pub(crate) struct Attached {
    /// For the sandbox.
    pub(crate) mounts: Vec<SandboxMount>,
    /// Locks on cache folders.
    locks: Vec<File>,
    /// Files and folders that go away afterwards.
    scratch: Vec<PathBuf>,
}

impl Drop for Attached {
    fn drop(&mut self) {
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
                RunMount::Cache(mount) => Mount::Cache(mount),
                RunMount::Tmpfs(mount) => Mount::Tmpfs(mount),
                RunMount::Secret(mount) => Mount::Secret(mount),
                RunMount::Ssh(mount) => Mount::Ssh(mount),
            });
        }
        Ok(mounts)
    }

    fn bind_source(&mut self, mount: BindMount) -> Result<Mount, StepError> {
        let (layers, source) = self.snapshot(mount.from.as_deref(), &mount.source)?;
        Ok(Mount::Bind { mount, layers, source })
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
            Mount::Bind { mount, layers, source } => MountStep::Bind {
                target: mount.target.clone(),
                path: StepDescription::text(source),
                from: chain_id(layers.iter().map(|form| &form.diff_id)),
                read_write: mount.read_write,
            },
            Mount::Cache(mount) => MountStep::Cache {
                target: mount.target.clone(),
                id: mount.id.clone(),
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

    /// Prepares the mounts for one run of the command.
    pub(super) fn attach(&mut self, mounts: &[Mount], env: &mut Vec<String>) -> Result<Attached, StepError> {
        let mut attached = Attached::default();
        let mut agents = 0;
        for mount in mounts {
            match mount {
                Mount::Bind { mount, layers, source } => {
                    self.attach_bind(mount, layers, source, &mut attached)?
                }
                Mount::Cache(mount) => self.attach_cache(mount, &mut attached)?,
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

    fn target(&self, text: &str) -> PathBuf {
        if text.starts_with('/') { PathBuf::from(text) } else { Path::new(&self.working_dir()).join(text) }
    }

    fn attach_bind(
        &mut self,
        mount: &BindMount,
        layers: &[LayerForm],
        source: &[u8],
        attached: &mut Attached,
    ) -> Result<(), StepError> {
        let path = self.folder_with(layers, source, mount.read_write, attached)?;
        attached.mounts.push(bind(path, self.target(&mount.target), !mount.read_write));
        Ok(())
    }

    /// A folder of the host that shows `source` of the layers, where links lead inside them. Paths that one layer
    /// holds alone are shown in place; others, and all that may be written, are copied.
    fn folder_with(
        &mut self,
        layers: &[LayerForm],
        source: &[u8],
        writable: bool,
        attached: &mut Attached,
    ) -> Result<PathBuf, StepError> {
        let solver = self.solver;
        let tree = solver.layered(layers, "the mount's source".to_owned())?;
        let tables = crate::base::tree(solver.environment, layers)?;
        let resolved = tables.resolve(source, true)?;
        if !resolved.exists && !resolved.path.is_empty() {
            let path = transfer::shown(source);
            return Err(StepError::NotFound { path, place: tree.place(), hint: None });
        }
        let below = |path: &[u8]| {
            path == resolved.path
                || path.starts_with(&transfer::join(&resolved.path, b"/"))
                || resolved.path.is_empty()
        };
        let holders: Vec<usize> = (0..tables.layers().len())
            .filter(|layer| tables.layers()[*layer].entries().iter().any(|entry| below(&entry.path)))
            .collect();
        let inner = PathBuf::from(std::ffi::OsStr::from_bytes(&resolved.path));
        if let ([only], false) = (holders.as_slice(), writable) {
            let folders = crate::base::folders(solver.environment, &layers[..=*only])?;
            return Ok(folders[*only].join(inner));
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

    fn attach_cache(&mut self, mount: &CacheMount, attached: &mut Attached) -> Result<(), StepError> {
        let store = self.solver.environment.store;
        let folder = store.root().join("caches");
        fs::create_dir_all(&folder).map_err(StepError::io("create", &folder))?;
        let namespace =
            self.solver.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default();
        // hashed: an id such as `../..` names nothing but itself
        let name = Digest::sha256(format!("{namespace}/{}", mount.id).as_bytes());
        let path = folder.join(name.hex());
        let lock_path = folder.join(format!("{}.lock", name.hex()));
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(StepError::io("open", &lock_path))?;
        let failed = |error: rustix::io::Errno| StepError::io("lock", &lock_path)(error.into());
        let path = match mount.sharing {
            Sharing::Locked => {
                rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed)?;
                path
            }
            Sharing::Shared => {
                rustix::fs::flock(&lock, FlockOperation::LockShared).map_err(failed)?;
                path
            }
            Sharing::Private => match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => path,
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let own = store.temporary_folder("cache")?;
                    attached.scratch.push(own.clone());
                    own.join("cache")
                }
                Err(error) => return Err(failed(error)),
            },
        };
        attached.locks.push(lock);
        if !path.exists() {
            self.seed_cache(mount, &path)?;
        }
        attached.mounts.push(bind(path, self.target(&mount.target), mount.read_only));
        Ok(())
    }

    fn seed_cache(&mut self, mount: &CacheMount, path: &Path) -> Result<(), StepError> {
        let store = self.solver.environment.store;
        let scratch = store.temporary_folder("seed")?;
        if let Some(from) = &mount.from {
            let (layers, source) = self.snapshot(Some(from), &mount.source)?;
            let mut attached = Attached::default();
            let seeded = self.folder_with(&layers, &source, true, &mut attached)?;
            fs::remove_dir(&scratch).map_err(StepError::io("remove", &scratch))?;
            fs::rename(&seeded, &scratch).map_err(StepError::io("rename", &seeded))?;
        }
        fs::set_permissions(&scratch, fs::Permissions::from_mode(mount.mode))
            .map_err(StepError::io("open", &scratch))?;
        owner::give(&scratch, mount.uid, mount.gid, store.xattrs())
            .map_err(StepError::io("open", &scratch))?;
        match fs::rename(&scratch, path) {
            Ok(()) => Ok(()),
            // another step was first; its folder serves
            Err(_) if path.is_dir() => file::remove_tree(&scratch).map_err(StepError::io("remove", &scratch)),
            Err(error) => Err(StepError::io("rename", path)(error)),
        }
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
        // lent: whoever connects needs no right to change the socket's mode or owner
        attached.mounts.push(bind(socket.clone(), target, true));
        Ok(())
    }
}
