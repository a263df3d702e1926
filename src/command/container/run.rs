//! `slipway run`: a new container from an image, in the foreground.
//!
//! The exit status is the command's; 125 where the container could not be made, 126 where the command cannot be
//! executed, 127 where it is not there, 128 + n where signal n ended it (as docker), also where it is a signal that the
//! kernel keeps from first processes.
//!
//! What the command changes is thrown away with the container, with or without `--rm`: there is no command yet that
//! could start it again.

mod attend;
mod namespaces;
mod options;
mod security;
mod streams;
mod terminal;

use crate::{
    app::{App, Global},
    error::{Failure, NOT_STARTED, USAGE},
    images::{Images, Wanted},
    nearby,
    progress::{self, Style},
    service::input,
};
use namespaces::Whose;
use options::Volume;
use slipway_oci::{
    Platform, Reference, file,
    layer::{OverlayXattrs, Tree, owner},
    limits,
    spec::ContainerConfig,
    store::{ImageRecord, Runnable},
};
use slipway_runtime::{
    BindSource, Lower, Mount, RootFs, SandboxSpec, Stdio, container, identity, root::Changes,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
};

/// The value of `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    /// When the store lacks the image
    #[default]
    Missing,
    /// Each time
    Always,
    /// Not at all
    Never,
}

/// Run a command in a new container.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Remove the container when it ends (it always is)
    #[arg(long)]
    rm: bool,
    /// Set a variable: NAME=VALUE, or NAME to pass the caller's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Read labels from a file, NAME=VALUE a line; they are the container's and go with it
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Show a folder or file: SOURCE:TARGET[:ro]
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// An empty file system in memory: TARGET[:size=BYTES,mode=MODE]
    #[arg(long, value_name = "TARGET")]
    tmpfs: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "TARGET")]
    workdir: Option<String>,
    /// User, by name or number: USER[:GROUP]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Network: host (without raw sockets unless --cap-add NET_RAW), none (but loopback) or ns:PATH
    #[arg(long, alias = "net", value_parser = namespaces::network, value_name = "NETWORK", default_value = "host")]
    network: Whose,
    /// System V objects, message queues and /dev/shm: private, host or ns:PATH
    #[arg(long, value_parser = namespaces::ipc, value_name = "IPC", default_value = "private")]
    ipc: Whose,
    /// Host name: private or host
    #[arg(long, value_parser = namespaces::private, value_name = "UTS", default_value = "private")]
    uts: Whose,
    /// View of the control groups: private or host
    #[arg(long, value_parser = namespaces::private, value_name = "CGROUPNS", default_value = "private")]
    cgroupns: Whose,
    /// The program in place of the image's
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "HOST")]
    hostname: Option<String>,
    /// An entry for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// Mount the root read-only
    #[arg(long)]
    read_only: bool,
    /// All capabilities, no filter, no masked paths
    #[arg(long)]
    privileged: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined, or seccomp=FILE with a profile in docker's form
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Most memory, for example 512m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Most memory and swap together; -1 for any amount of swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Most processors, for example 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Most processes
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,
    /// Give the command a first process that passes signals on and reaps
    #[arg(long)]
    init: bool,
    /// What a TERM to slipway asks the command to end with [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that it has then before it is killed; -1 for ever [default: 10]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// What the image must run on
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// When to ask the registry
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pull: Pull,
    /// The image: a name, id or digest
    image: String,
    /// The command and its arguments, handed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: Arguments) -> Result<u8, Failure> {
    container(global, &arguments).map_err(|failure| match failure.status() {
        1 | USAGE => failure.with_status(NOT_STARTED),
        _ => failure,
    })
}

fn container(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.tty && arguments.interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a terminal")
            .with_hint("leave -t out, or run from a terminal"));
    }
    let volumes = arguments.volume.iter().map(|text| Volume::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let hosts = crate::request::hosts(&arguments.hosts)?;
    let (hostname, own_name) = namespaces::hostname(arguments)?;
    let namespaces = namespaces::of(arguments)?;
    check_labels(arguments)?;
    let app = App::open_for_containers(global)?;
    let show = progress::of(Style::Auto);
    let images = Images::new(&app.store, global)?.shown(&*show);
    let record = find(&app, &images, arguments)?;
    let (layers, tree) = images.runnable(&record)?;
    let scratch = Scratch(app.store.temporary_folder("container")?);
    let changes = Changes::within(&scratch.0, app.store.xattrs().is_user())?;
    let config = &record.config.config;
    let policy = attend::policy(config, arguments)?;
    let mut mounts = container::standard_files(&scratch.0, &hosts, container::Name::Machine(&hostname))?;
    mounts.extend(options::mounts(&volumes, &arguments.tmpfs)?);
    let resolved = resolve_user(&tree, &layers, arguments.user.as_deref().or(config.user.as_deref()))?;
    let mut spec = SandboxSpec::new(
        root(&app, &scratch.0, &changes, &tree, layers, &mounts)?,
        command(config, arguments)?,
    );
    spec.root_readonly = arguments.read_only;
    spec.process.env = environment(global, config, arguments, &resolved, &hostname)?;
    spec.process.cwd = PathBuf::from(working_dir(config, arguments));
    ensure_cwd(&tree, changes.path(), &spec.process.cwd, &mounts, &resolved.identity, app.store.xattrs())?;
    spec.process.user = resolved.identity;
    spec.process.init = arguments.init;
    spec.process.capabilities =
        security::capabilities(arguments, &namespaces.network, slipway_runtime::host::capabilities())?;
    spec.hostname = own_name.then_some(hostname);
    spec.namespaces = namespaces;
    spec.mounts = mounts;
    spec.single_id = app.single_id();
    security::apply_security(&mut spec, arguments)?;
    spec.cgroup = security::limits(arguments)?;
    let sides = stdio(&mut spec, arguments)?;
    // removes what killed containers have left, so that groups do not pile up
    slipway_runtime::sweep()?;
    let received = attend::receive()?;
    let running = slipway_runtime::spawn(&spec)?;
    drop(spec);
    attend::attend(running, received, policy, attend::Streams { sides, interactive: arguments.interactive })
}

/// A folder that goes away with the container.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // a left-over is swept once this process is gone
        let _ = file::remove_tree(&self.0);
    }
}

fn find(app: &App, images: &Images<'_>, arguments: &Arguments) -> Result<ImageRecord, Failure> {
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let pull = || {
        let reference = arguments.image.parse::<Reference>()?.or_latest();
        images.pull(&reference, &Wanted::One(&platform)).map(|(_, target)| target)
    };
    let target = match arguments.pull {
        Pull::Always => pull()?,
        Pull::Missing => match images.local(&arguments.image)? {
            // an index may be here without the image that is asked for
            Some(target) if app.store.image_of(&target, &platform)?.is_some() => target,
            _ => pull()?,
        },
        Pull::Never => images.local(&arguments.image)?.ok_or_else(|| images.missing(&arguments.image))?,
    };
    let digest = Images::pick(&app.store, &arguments.image, &target, &platform)?;
    let record = app.store.read_image(&digest)?;
    // a use that cannot be noted keeps nothing from running
    let _ = app.store.touch_image(&target);
    if !record.config.platform.satisfies(&platform) {
        let (image, machine) = (&record.config.platform, Platform::host());
        return Err(nearby::other_platform(&arguments.image, image, &platform, &machine));
    }
    Ok(record)
}

fn root(
    app: &App,
    scratch: &Path,
    changes: &Changes,
    tree: &Tree,
    layers: Vec<Runnable>,
    mounts: &[Mount],
) -> Result<RootFs, Failure> {
    let (upper, work) = (changes.path().join("upper"), changes.path().join("work"));
    let points = scratch.join("points");
    for folder in [&upper, &work, &points] {
        std::fs::create_dir(folder)?;
    }
    // an image that says nothing of its root has a usual one, whatever the umask
    let root = tree.get(b"").map(|found| (found.entry.mode, found.entry.uid, found.entry.gid));
    let (mode, uid, gid) = root.unwrap_or((0o755, 0, 0));
    std::fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    owner::give(&upper, uid, gid, app.store.xattrs())?;
    slipway_runtime::root::make_mount_points(&points, &slipway_runtime::root::mount_points(tree, mounts)?)?;
    let mut lower: Vec<Lower> = layers.into_iter().rev().map(Lower::from).collect();
    lower.push(points.into());
    Ok(RootFs::Overlay {
        lower,
        upper,
        work,
        // the container's changes are thrown away: nothing has to reach the disk
        volatile: true,
        userxattr: app.store.xattrs().is_user(),
    })
}

fn command(config: &ContainerConfig, arguments: &Arguments) -> Result<Vec<OsString>, Failure> {
    let ours = |words: Option<Vec<String>>| words.into_iter().flatten().map(OsString::from);
    let mut words: Vec<OsString> = match &arguments.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.into()],
        None => ours(config.entrypoint.clone()).collect(),
    };
    // another program, or arguments of the caller, put the image's arguments aside
    if !arguments.command.is_empty() {
        words.extend(arguments.command.iter().cloned());
    } else if arguments.entrypoint.is_none() {
        words.extend(ours(config.cmd.clone()));
    }
    if words.is_empty() {
        return Err(Failure::new("no command: neither the image nor the command line gives one"));
    }
    Ok(words)
}

fn working_dir(config: &ContainerConfig, arguments: &Arguments) -> String {
    let from_image =
        config.working_dir.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    match &arguments.workdir {
        Some(path) if path.starts_with('/') => path.clone(),
        Some(path) => format!("{}/{path}", from_image.trim_end_matches('/')),
        None => from_image,
    }
}

/// Docker makes a working directory that is missing; it is made in the container's own upper folder.
fn ensure_cwd(
    tree: &Tree,
    scratch: &Path,
    cwd: &Path,
    mounts: &[Mount],
    user: &identity::Identity,
    xattrs: OverlayXattrs,
) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt;
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
        std::fs::create_dir(&path)?;
        let beneath = tree.get(&here).map(|found| found.entry);
        let (uid, gid, mode) =
            beneath.map_or((user.uid, user.gid, 0o755), |entry| (entry.uid, entry.gid, entry.mode));
        owner::give(&path, uid, gid, xattrs)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
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

fn environment(
    global: &Global,
    config: &ContainerConfig,
    arguments: &Arguments,
    user: &identity::Resolved,
    hostname: &str,
) -> Result<Vec<std::ffi::OsString>, Failure> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    variables
        .insert("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    variables.insert("HOSTNAME".to_owned(), hostname.to_owned());
    if arguments.tty {
        variables.insert("TERM".to_owned(), "xterm".to_owned());
    }
    for entry in &config.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables.extend(global.proxies());
    let mut given = Vec::new();
    for path in &arguments.env_file {
        given.extend(lines("--env-file", path)?);
    }
    given.extend(arguments.env.iter().cloned());
    for entry in given {
        match entry.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("-e: `{entry}` has no name"))),
            Some((name, value)) => drop(variables.insert(name.to_owned(), value.to_owned())),
            None => match std::env::var(&entry) {
                Ok(value) => drop(variables.insert(entry, value)),
                Err(_) => drop(variables.remove(&entry)),
            },
        }
    }
    variables.entry("HOME".to_owned()).or_insert_with(|| user.home.display().to_string());
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}").into()).collect())
}

/// The lines of a file of the caller's, without comments and empty ones.
fn lines(flag: &'static str, path: &Path) -> Result<Vec<String>, Failure> {
    let text = input::read(flag, path, limits::ENV_FILE_BYTES)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// Reads the files of labels: a file that is not there, or is none, is found before the container is made (docker too).
fn check_labels(arguments: &Arguments) -> Result<(), Failure> {
    for path in &arguments.label_file {
        for line in lines("--label-file", path)? {
            let name = line.split('=').next().unwrap_or_default();
            if name.trim_end().is_empty() || name.trim_end().contains(char::is_whitespace) {
                let words = format!("--label-file: `{}`: `{line}` is not NAME=VALUE", path.display());
                return Err(Failure::usage(words));
            }
        }
    }
    Ok(())
}

/// The command's streams; our sides of them where it has no terminal.
fn stdio(spec: &mut SandboxSpec, arguments: &Arguments) -> Result<Option<streams::Sides>, Failure> {
    if arguments.tty {
        spec.stdio = Stdio::Terminal { size: terminal::size() };
        return Ok(None);
    }
    let (stdio, sides) = streams::pipes(arguments.interactive)?;
    spec.stdio = stdio;
    Ok(Some(sides))
}

/// Twelve random hexadecimal digits, as docker names containers.
fn random_name() -> String {
    let mut bytes = [0u8; 6];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(6) => {}
        // unique is all that is needed
        _ => bytes.copy_from_slice(&(u64::from(std::process::id()) << 16).to_le_bytes()[..6]),
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The host's side of a volume.
fn bind(volume: &Volume) -> Mount {
    Mount::Bind {
        source: BindSource::Path(volume.source.clone()),
        target: volume.target.clone(),
        readonly: volume.readonly,
        recursive: true,
        create: true,
    }
}
