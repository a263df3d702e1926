//! From what a container is made from to a sandbox, at each of its starts.

use super::{namespaces, security};
use crate::{app::App, error::Failure};
use slipway_oci::{
    layer::{OverlayXattrs, Tree, owner},
    store::Runnable,
};
use slipway_runtime::{
    BindSource, CapabilitySet, CgroupSpec, Lower, Mount, Namespaces, RootFs, SandboxSpec, container,
    container::config::{Config, Sharing},
    identity,
    root::Changes,
};
use std::{fs, io::ErrorKind, path::Path};

/// An image, to run on.
pub(super) struct Image {
    /// Its layers, the base first.
    pub(super) layers: Vec<Runnable>,
    /// The file system that they make.
    pub(super) tree: Tree,
}

/// A sandbox for a container, and where its changes are while it lives.
pub(super) struct Made {
    pub(super) spec: SandboxSpec,
    /// Has to live as long as the sandbox is being made.
    pub(super) _changes: Changes,
}

/// Makes what a container needs in its folder, and describes its sandbox. `id` names its group. What it has changed before is
/// there again, unless it goes away with its end.
pub(super) fn of(app: &App, id: &str, config: &Config, folder: &Path, image: Image) -> Result<Made, Failure> {
    let Image { layers, tree } = image;
    let changes = Changes::within(folder, app.store.xattrs().is_user())?;
    if changes.is_in_memory() && !config.auto_remove {
        let words = format!("what the container writes cannot be kept in `{}`", app.store.root().display());
        return Err(Failure::new(words)
            .with_hint("overlays cannot write there: use --rm, or another file system with --root"));
    }
    // what each start makes anew
    let fresh = folder.join("start");
    slipway_oci::file::remove_tree(&fresh)?;
    slipway_oci::private::new_folder(&fresh)?;
    // the container sees files of it as its own
    fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let name = container::Name::Machine(&config.hostname);
    let mut mounts = container::standard_files(&fresh, &config.hosts, name)?;
    mounts.extend(own_mounts(config));
    let resolved = resolve_user(&tree, &layers, config.user.as_deref())?;
    // what a container has written is nothing to walk on: it may have put links there
    let is_first = !changes.path().join("upper").exists();
    let root = root(app, config, &fresh, &changes, &tree, layers, &mounts)?;
    let mut spec = SandboxSpec::new(root, config.command.iter().cloned());
    spec.root_readonly = config.read_only;
    spec.process.env = config.env.clone();
    if !config.env.iter().any(|variable| variable.as_encoded_bytes().starts_with(b"HOME=")) {
        let home = format!("HOME={}", resolved.home.display()).into();
        let before = |variable: &std::ffi::OsString| *variable < home;
        spec.process.env.insert(config.env.iter().take_while(|variable| before(variable)).count(), home);
    }
    spec.process.cwd = config.cwd.clone();
    if is_first {
        ensure_cwd(&tree, changes.path(), config, &mounts, &resolved.identity, app.store.xattrs())?;
    }
    spec.process.user = resolved.identity;
    spec.process.init = config.init;
    spec.process.capabilities = capabilities(config)?;
    spec.hostname = (config.uts == Sharing::Own).then(|| config.hostname.clone());
    spec.namespaces = Namespaces {
        network: namespaces::open("--network", &config.network)?,
        ipc: namespaces::open("--ipc", &config.ipc)?,
        uts: namespaces::open("--uts", &config.uts)?,
        cgroup: namespaces::open("--cgroupns", &config.cgroup)?,
    };
    spec.mounts = mounts;
    spec.single_id = app.single_id();
    security::apply(&mut spec, config)?;
    spec.cgroup = group(id, config);
    Ok(Made { spec, _changes: changes })
}

/// The container's control group; none without limits.
fn group(id: &str, config: &Config) -> Option<CgroupSpec> {
    let limits = &config.limits;
    if limits.memory_bytes.is_none() && limits.cpu.is_none() && limits.pids_max.is_none() {
        return None;
    }
    Some(CgroupSpec {
        name: id.get(..12).unwrap_or(id).to_owned(),
        memory_bytes: limits.memory_bytes,
        swap: limits.swap,
        pids_max: limits.pids_max,
        cpu_quota: limits.cpu,
        cpuset_cpus: None,
    })
}

fn capabilities(config: &Config) -> Result<CapabilitySet, Failure> {
    let read = |text: &String| {
        text.parse().map_err(|_| Failure::new(format!("the container's capability `{text}` is none")))
    };
    config.capabilities.iter().map(read).collect()
}

/// What the caller asked to be mounted.
fn own_mounts(config: &Config) -> Vec<Mount> {
    let bind = |bind: &container::config::Bind| Mount::Bind {
        source: BindSource::Path(bind.source.clone()),
        target: bind.target.clone(),
        readonly: bind.readonly,
        recursive: true,
        create: true,
    };
    let memory = |folder: &container::config::MemoryFolder| Mount::Tmpfs {
        target: folder.target.clone(),
        size_bytes: folder.size_bytes,
        mode: folder.mode,
        exec: folder.exec,
    };
    config.binds.iter().map(bind).chain(config.memory_folders.iter().map(memory)).collect()
}

fn root(
    app: &App,
    config: &Config,
    fresh: &Path,
    changes: &Changes,
    tree: &Tree,
    layers: Vec<Runnable>,
    mounts: &[Mount],
) -> Result<RootFs, Failure> {
    let (upper, points) = (changes.path().join("upper"), fresh.join("points"));
    // on the same file system as the upper folder; one that was used is not used again
    let work = if changes.is_in_memory() { changes.path().join("work") } else { fresh.join("work") };
    for folder in [&work, &points] {
        fs::create_dir(folder)?;
    }
    match fs::create_dir(&upper) {
        // the container has run before
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => {
            other?;
            // an image that says nothing of its root has a usual one, whatever the umask
            let root = tree.get(b"").map(|found| (found.entry.mode, found.entry.uid, found.entry.gid));
            let (mode, uid, gid) = root.unwrap_or((0o755, 0, 0));
            fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            owner::give(&upper, uid, gid, app.store.xattrs())?;
        }
    }
    slipway_runtime::root::make_mount_points(&points, &slipway_runtime::root::mount_points(tree, mounts)?)?;
    let mut lower: Vec<Lower> = layers.into_iter().rev().map(Lower::from).collect();
    lower.push(points.into());
    Ok(RootFs::Overlay {
        lower,
        upper,
        work,
        // of what is thrown away nothing has to reach the disk
        volatile: config.auto_remove,
        userxattr: app.store.xattrs().is_user(),
    })
}

/// Docker makes a working directory that is missing; it is made in the container's own upper folder, before its first start.
fn ensure_cwd(
    tree: &Tree,
    scratch: &Path,
    config: &Config,
    mounts: &[Mount],
    user: &identity::Identity,
    xattrs: OverlayXattrs,
) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt;
    let cwd = &config.cwd;
    let mounted = mounts.iter().any(|mount| match mount {
        Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } | Mount::File { target, .. } => {
            cwd.starts_with(target)
        }
    });
    let virtual_tree = ["/dev", "/proc", "/sys"].iter().any(|path| cwd.starts_with(path));
    let resolved = tree.resolve(cwd.as_os_str().as_bytes(), true)?;
    if resolved.exists || mounted || virtual_tree || resolved.path.is_empty() {
        return Ok(());
    }
    let mut here = Vec::new();
    for part in resolved.path.split(|byte| *byte == b'/') {
        if !here.is_empty() {
            here.push(b'/');
        }
        here.extend_from_slice(part);
        let path = scratch.join("upper").join(std::ffi::OsStr::from_bytes(&here));
        if path.is_dir() {
            continue;
        }
        fs::create_dir(&path)?;
        let beneath = tree.get(&here).map(|found| found.entry);
        let (uid, gid, mode) =
            beneath.map_or((user.uid, user.gid, 0o755), |entry| (entry.uid, entry.gid, entry.mode));
        owner::give(&path, uid, gid, xattrs)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    Ok(())
}

fn resolve_user(tree: &Tree, layers: &[Runnable], user: Option<&str>) -> Result<identity::Resolved, Failure> {
    let read = |path: &str| -> Result<Vec<u8>, Failure> {
        let Ok(resolved) = tree.resolve(path.as_bytes(), true) else { return Ok(Vec::new()) };
        let Some(found) = tree.get(&resolved.path) else { return Ok(Vec::new()) };
        let files = layers[found.layer].files()?;
        Ok(files.read(found.entry.as_path(), slipway_oci::limits::ACCOUNT_FILE_BYTES)?)
    };
    let user = user.filter(|user| !user.is_empty()).unwrap_or("0");
    Ok(identity::resolve(user, &read("etc/passwd")?, &read("etc/group")?)?)
}
