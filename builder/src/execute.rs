//! Carries one command out in a sandbox and makes a layer of what it changed.
//!
//! The layers beneath are mounted as an overlay in the sandbox's own mount namespace, so nothing is mounted on the
//! host and nothing is left behind. Mount points that the image lacks come from an extra lowest layer of empty files
//! and folders: the image's own paths cover it, and none of it is ever part of the result.

use crate::{
    Cancel, Debugger, Event, Fact, Full, LogPlace, Look, NetworkMode, StepError, StepId, Stream, When, clock,
    history::StepLog, limits, scratch::Scratch, solve::Workshop, stage::Attached,
};
use slipway_oci::{
    carried, file,
    layer::{self, Clamp, Entry, LayerWriter, Tree, diff, owner},
    store::{Adopted, LayerForm, Store},
};
use slipway_runtime::{
    BindSource, CapabilitySet, Device, Exit, Lower, Mount, Namespace, RootFs, Running, SandboxSpec, Seccomp,
    Security, Stdio, Used,
    bare::BareRunning,
    container,
    identity::Identity,
    root::{self, Changes},
    spawn,
};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Read,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Lines of a failed command's output that its error carries.
const TAIL_LINES: usize = 40;

/// What is run, and as whom.
pub(crate) struct Command<'a> {
    pub(crate) argv: &'a [String],
    /// As the recipe has it, for messages.
    pub(crate) shown: &'a str,
    pub(crate) env: &'a [String],
    pub(crate) working_dir: &'a str,
    pub(crate) identity: Identity,
    pub(crate) network: NetworkMode,
    pub(crate) insecure: bool,
    pub(crate) hostname: &'a str,
    /// The shell of the stage, without its flags.
    pub(crate) shell: &'a str,
    /// Path and content of a script that is shown in the sandbox.
    pub(crate) script: Option<&'a (String, Vec<u8>)>,
    /// Nodes of the host beside those that every sandbox has.
    pub(crate) devices: &'a [Device],
    pub(crate) clamp: Clamp,
    pub(crate) step: StepId,
}

/// Runs `command` on the layers `lower`, the topmost first; `tree` is the same file system as tables.
pub(crate) fn execute(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    tree: &Tree,
    lower: Vec<Lower>,
    attached: Attached,
) -> Result<Option<LayerForm>, StepError> {
    if solver.environment.bare {
        return crate::bare::execute(solver, command, tree, lower, attached);
    }
    let store = solver.environment.store;
    let mut place = Place::new(solver, command, tree, lower, attached)?;
    let debugger = solver.environment.debugger.filter(|debugger| debugger.wants(command.step, When::Failed));
    let again = debugger.map(|_| place.mounts_again()).transpose()?;
    let mut spec = sandbox(solver, command, place.root_fs("work", store)?);
    spec.mounts = std::mem::take(&mut place.mounts);
    let ended = watched(solver, command, |stdout, stderr| {
        spec.stdio = Stdio::Streams {
            stdin: slipway_runtime::Stream::Null,
            stdout: slipway_runtime::Stream::Fd(stdout),
            stderr: slipway_runtime::Stream::Fd(stderr),
        };
        let running = spawn(&spec);
        // our ends of the pipes must close, or reading them would not end with the command
        drop(spec);
        Ok(Started::Sandbox(running?))
    })?;
    if !ended.is_success() {
        let failure = ended.failure(solver, command, full_place(store, &place.changes));
        if let (Some(debugger), Some(mounts)) = (debugger, again) {
            place.mounts = mounts;
            place.enter(solver, command, debugger, When::Failed)?;
        }
        return Err(failure);
    }
    let Place { attached, upper, changes, root, .. } = &mut place;
    // agents end and caches are let go before the layer is made
    drop(std::mem::take(attached));
    make_layer(solver, command, tree, (upper, !changes.is_in_memory()), *root)
}

/// How a command ended.
pub(crate) struct Ended {
    exit: Exit,
    /// Whether the store was full beyond what it may take.
    is_over: bool,
    tail: Vec<u8>,
    log: Option<PathBuf>,
}

impl Ended {
    pub(crate) fn is_success(&self) -> bool {
        self.exit.success() && !self.is_over
    }

    /// What is said of it; `full` is what had no room.
    pub(crate) fn failure(
        self,
        solver: &Workshop<'_>,
        command: &Command<'_>,
        full: Option<Full>,
    ) -> StepError {
        let status = match self.exit {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        };
        let quota = self.is_over.then(|| Full::Quota(solver.environment.store.root().to_owned()));
        let log = self.log.zip(solver.recorder.id());
        let log = log.map(|(path, build)| LogPlace { path, build, step: command.step + 1 });
        let full = quota.or(full);
        StepError::Command { command: shortened(command.shown), status, tail: self.tail, log, full }
    }
}

/// Starts a command with these pipes for its output, and watches it to its end.
pub(crate) fn watched(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    start: impl FnOnce(OwnedFd, OwnedFd) -> Result<Started, StepError>,
) -> Result<Ended, StepError> {
    let stop = solver.environment.cancel.below().map_err(StepError::io("create", "a switch"))?;
    let thrown = stop.clone();
    let watch = solver.environment.store.room().map(|room| room.watch(move || thrown.cancel()));
    let log = Log::new(solver.recorder.log(command.step));
    let exit = run(solver, command, start, (&log, &stop))?;
    let is_over = watch.is_some_and(|watch| watch.is_over());
    let (tail, log) = log.end();
    let log = solver.recorder.logged(command.step, log);
    if solver.environment.cancel.is_cancelled() && !exit.success() {
        return Err(StepError::Cancelled);
    }
    Ok(Ended { exit, is_over, tail, log })
}

/// A command that runs.
pub(crate) enum Started {
    /// In a sandbox.
    Sandbox(Running),
    /// In a root that it entered by chroot(2).
    Bare(BareRunning),
}

impl Started {
    fn wait_or_cancel(&mut self, cancel: BorrowedFd<'_>) -> Result<Exit, slipway_runtime::Error> {
        match self {
            Started::Sandbox(running) => running.wait_or_cancel(cancel),
            Started::Bare(running) => running.wait_or_cancel(cancel),
        }
    }

    fn used(&self) -> Option<Used> {
        match self {
            Started::Sandbox(running) => running.used(),
            Started::Bare(running) => running.used(),
        }
    }
}

/// Looks into the state in which `command` would run.
pub(crate) fn look(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    tree: &Tree,
    (lower, attached): (Vec<Lower>, Attached),
    when: When,
) -> Result<(), StepError> {
    if solver.environment.bare {
        return Err(StepError::Bare { what: "a shell in a step".to_owned() });
    }
    let mut place = Place::new(solver, command, tree, lower, attached)?;
    match solver.environment.debugger {
        Some(debugger) => place.enter(solver, command, debugger, when),
        None => Ok(()),
    }
}

/// Where a command runs: what is beneath it, what it changes, what is mounted.
struct Place<'a> {
    attached: Attached,
    lower: Vec<Lower>,
    mounts: Vec<Mount>,
    upper: PathBuf,
    /// Mode, owner and group of the root.
    root: (u32, u32, u32),
    changes: Changes,
    scratch: Scratch<'a>,
}

impl<'a> Place<'a> {
    fn new(
        solver: &Workshop<'a>,
        command: &Command<'_>,
        tree: &Tree,
        mut lower: Vec<Lower>,
        mut attached: Attached,
    ) -> Result<Place<'a>, StepError> {
        let store = solver.environment.store;
        let scratch = Scratch::new(store, "run");
        let own = scratch.path()?.to_owned();
        let changes = Changes::within(&own, store.xattrs().is_user())?;
        let upper = changes.path().join("upper");
        let root = tree.get(b"").map(|found| found.entry.clone());
        let root = root.unwrap_or_else(|| Entry::new("", slipway_oci::layer::Kind::Directory, 0o755));
        fs::create_dir(&upper).map_err(StepError::io("create", &upper))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(root.mode))
            .map_err(StepError::io("open", &upper))?;
        owner::give(&upper, root.uid, root.gid, store.xattrs()).map_err(StepError::io("open", &upper))?;
        let mut mounts = own_mounts(solver, command, &own)?;
        // the script is above whatever else is mounted
        let script = mounts.split_off(mounts.len() - usize::from(command.script.is_some()));
        mounts.append(&mut attached.mounts);
        mounts.extend(script);
        lower.push(stub_layer(solver, tree, &mounts)?.into());
        let root = (root.mode, root.uid, root.gid);
        Ok(Place { attached, lower, mounts, upper, root, changes, scratch })
    }

    /// The root, with a folder of this name for the kernel: one that an overlay has used is not used again.
    fn root_fs(&self, work: &str, store: &Store) -> Result<RootFs, StepError> {
        let work = self.changes.path().join(work);
        fs::create_dir(&work).map_err(StepError::io("create", &work))?;
        Ok(RootFs::Overlay {
            lower: self.lower.clone(),
            upper: self.upper.clone(),
            work,
            volatile: true,
            userxattr: store.xattrs().is_user(),
        })
    }

    fn mounts_again(&self) -> Result<Vec<Mount>, StepError> {
        let mounts = self.mounts.iter().map(Mount::try_clone);
        mounts.collect::<Result<_, _>>().map_err(StepError::io("copy", "a mount"))
    }

    /// Lets the debugger in; caches are copies.
    fn enter(
        &mut self,
        solver: &Workshop<'_>,
        command: &Command<'_>,
        debugger: &dyn Debugger,
        when: When,
    ) -> Result<(), StepError> {
        let store = solver.environment.store;
        let caches = store.root().join("caches");
        for (number, mount) in self.mounts.iter_mut().enumerate() {
            let Mount::Bind { source: BindSource::Path(source), .. } = mount else { continue };
            if source.starts_with(&caches) {
                let copy = self.scratch.path()?.join(format!("cache-{number}"));
                copy_folder(source, &copy, self.scratch.path()?, store)?;
                *source = copy;
            }
        }
        // others may use them while somebody looks
        self.attached.let_caches_go();
        let mut spec = sandbox(solver, command, self.root_fs("look", store)?);
        spec.mounts = std::mem::take(&mut self.mounts);
        let shell = command.shell;
        let look = Look { number: command.step + 1, when, shown: command.shown, shell, spec: &mut spec };
        debugger.enter(look).map_err(StepError::io("look into", "the step"))
    }
}

/// Copies a folder with owners, modes and times.
pub(crate) fn copy_folder(from: &Path, to: &Path, scratch: &Path, store: &Store) -> Result<(), StepError> {
    let between = scratch.join("between");
    fs::create_dir(&between).map_err(StepError::io("create", &between))?;
    fs::create_dir(to).map_err(StepError::io("create", to))?;
    let copied = carried::archive(from, &between, store.xattrs()).and_then(|archive| {
        let archive = std::io::BufReader::with_capacity(1 << 18, archive);
        layer::unpack(archive, to, store.xattrs(), None)?;
        Ok(())
    });
    file::remove_tree(&between).map_err(StepError::io("remove", &between))?;
    copied.map_err(|error| StepError::io("copy", from)(std::io::Error::other(error)))
}

/// What has no room for the step's changes.
fn full_place(store: &Store, changes: &Changes) -> Option<Full> {
    let place = match changes.is_in_memory() {
        true => Full::Memory,
        false => Full::Disk(store.root().to_owned()),
    };
    file::has_no_room(changes.path(), store.xattrs().is_user()).then_some(place)
}

fn make_layer(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    below: &Tree,
    (upper, in_store): (&Path, bool),
    root: (u32, u32, u32),
) -> Result<Option<LayerForm>, StepError> {
    let store = solver.environment.store;
    let failed = || StepError::io("read", upper);
    let metadata = fs::metadata(upper).map_err(failed())?;
    use std::os::unix::fs::MetadataExt;
    let unchanged = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()) == root;
    if unchanged && fs::read_dir(upper).map_err(failed())?.next().is_none() {
        return Ok(None);
    }
    let mut writer = LayerWriter::new(store.blobs(), solver.request.compression)?;
    let creator = (command.identity.uid, command.identity.gid);
    let terms = diff::Terms { xattrs: store.xattrs(), clamp: command.clamp, root, creator };
    diff::append_changes(&mut writer, upper, &terms, below)?;
    if writer.is_empty() {
        return Ok(None);
    }
    let run_from = if in_store { Adopted::Folder(upper) } else { Adopted::Nothing };
    Ok(Some(store.adopt_layer(&writer.finish()?, run_from)?))
}

/// The sandbox of a command, without mounts and streams.
fn sandbox(solver: &Workshop<'_>, command: &Command<'_>, root: RootFs) -> SandboxSpec {
    let mut spec = SandboxSpec::new(root, command.argv);
    spec.process.env = command.env.iter().map(Into::into).collect();
    spec.process.cwd = PathBuf::from(command.working_dir);
    spec.process.user = command.identity.clone();
    spec.hostname = Some(command.hostname.to_owned());
    spec.namespaces.network = match command.network {
        NetworkMode::Default | NetworkMode::Host => Namespace::Host,
        NetworkMode::None => Namespace::New,
    };
    if command.network == NetworkMode::Host {
        spec.process.capabilities = CapabilitySet::DOCKER;
        spec.security.abstract_sockets = true;
    } else {
        spec.process.capabilities = CapabilitySet::default_for(&spec.namespaces.network);
    }
    if command.insecure {
        spec.seccomp = Seccomp::Unconfined;
        spec.security = Security::insecure();
        spec.process.capabilities = CapabilitySet::ALL;
    }
    spec.devices = command.devices.to_vec();
    spec.single_id = solver.environment.single_id;
    spec
}

fn run(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    start: impl FnOnce(OwnedFd, OwnedFd) -> Result<Started, StepError>,
    (log, stop): (&Log, &Cancel),
) -> Result<Exit, StepError> {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| StepError::io("create", "a pipe")(e.into()))
    };
    let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
    let mut running = start(out_write, err_write)?;
    std::thread::scope(|scope| {
        for (stream, descriptor) in [(Stream::Stdout, out_read), (Stream::Stderr, err_read)] {
            scope.spawn(move || forward(solver, command.step, stream, File::from(descriptor), log));
        }
        use std::os::fd::AsFd;
        let exit = running.wait_or_cancel(stop.as_fd())?;
        // its first process begins in our memory
        let above_bytes = slipway_runtime::own_memory_bytes();
        let fact = Fact::Command { status: exit.status(), used: running.used(), above_bytes };
        clock::tell(solver.environment.progress, fact);
        Ok(exit)
    })
}

/// The beginning of a command, so that what is said of it is not lost behind it: the recipe's line is shown whole.
fn shortened(command: &str) -> String {
    match command.char_indices().nth(limits::SHOWN_COMMAND_CHARS) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}

/// Passes a command's output on, line by line.
fn forward(solver: &Workshop<'_>, step: StepId, stream: Stream, mut source: File, log: &Log) {
    let mut buffer = vec![0u8; 16 << 10];
    let mut line: Vec<u8> = Vec::new();
    // where the line was last begun anew
    let mut state = 0;
    let emit = |bytes: &[u8]| {
        log.write(stream, bytes);
        solver.environment.progress.event(Event::Output { step, stream, bytes });
    };
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for part in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            // a bar that ends with its return is whole before it
            let anew = part[..part.len() - 1].iter().rposition(|byte| *byte == b'\r');
            state = anew.map_or(state, |at| line.len() + at);
            line.extend_from_slice(part);
            if line.ends_with(b"\n") || line.len() >= limits::OUTPUT_LINE_BYTES {
                emit(&line);
                line.clear();
                state = 0;
            }
        }
        if !line.is_empty() {
            let bytes = &line[state..line.len().min(state + limits::UNFINISHED_BYTES)];
            solver.environment.progress.event(Event::Unfinished { step, bytes });
        }
    }
    if !line.is_empty() {
        emit(&line);
    }
}

/// What a command writes: what is kept of it, and its last lines in memory.
struct Log {
    kept: StepLog,
    tail: Mutex<VecDeque<Vec<u8>>>,
}

impl Log {
    fn new(kept: StepLog) -> Log {
        Log { kept, tail: Mutex::default() }
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        self.kept.write(stream, bytes);
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() >= TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(bytes.to_vec());
    }

    /// The last lines, and the log.
    fn end(self) -> (Vec<u8>, StepLog) {
        let tail = self.tail.into_inner().unwrap_or_else(PoisonError::into_inner);
        (tail.into_iter().flatten().collect(), self.kept)
    }
}

pub(crate) fn bind(source: PathBuf, target: impl Into<PathBuf>, readonly: bool) -> Mount {
    let source = BindSource::Path(source);
    Mount::Bind { source, target: target.into(), readonly, recursive: true, create: true }
}

/// What every step has of its own, and a script, which comes last.
pub(crate) fn own_mounts(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    own: &Path,
) -> Result<Vec<Mount>, StepError> {
    let mut mounts = standard_files(solver, command, own)?;
    if let Some((path, content)) = command.script {
        let file = own.join("script");
        fs::write(&file, content).map_err(StepError::io("write", &file))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .map_err(StepError::io("write", &file))?;
        mounts.push(bind(file, path, true));
    }
    Ok(mounts)
}

/// `/etc/hosts` and `/etc/resolv.conf`, which every step sees and no layer keeps.
fn standard_files(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    folder: &Path,
) -> Result<Vec<Mount>, StepError> {
    let name = container::Name::Localhost(command.hostname);
    container::standard_files(folder, &solver.request.hosts, name).map_err(StepError::io("write", folder))
}

/// The extra lowest layer: every mount point, so that none has to be made in the layer to be.
fn stub_layer(solver: &Workshop<'_>, tree: &Tree, mounts: &[Mount]) -> Result<PathBuf, StepError> {
    let points = root::mount_points(tree, mounts).map_err(StepError::io("read", "a mount's source"))?;
    let names = points.iter().map(|point| format!("{}:{}", point.path.display(), point.is_folder)).collect();
    solver.stubs(names, |folder| {
        root::make_mount_points(folder, &points).map_err(StepError::io("write", folder))
    })
}
