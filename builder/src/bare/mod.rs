//! RUN where nothing can be mounted ([`slipway_runtime::bare`]).
//!
//! The layers are laid out in one plain folder, what would be mounted is put in its place in it, and what changed is found by
//! a walk before and one after the command. The layer is the same as everywhere else. The folder is kept for the next step on
//! the same layers, so that a stage lays its base out once.

mod place;

use self::place::Placed;
use crate::{
    NetworkMode, StepError,
    execute::{self, Command},
    scratch::Scratch,
    solve::Workshop,
    stage::Attached,
};
use slipway_oci::{
    file,
    layer::{self, Before, Entry, Kind, LayerWriter, Toc, Tree, diff::Terms},
    store::{Adopted, LayerForm},
};
use slipway_runtime::{
    CapabilitySet, Lower, Mount, Namespace,
    bare::{self, BareSpec},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// `CAP_MKNOD` (linux/capability.h).
const MKNOD: u64 = 1 << 27;

/// Folders in which layers are laid out, for the next step on them.
#[derive(Default)]
pub(crate) struct Roots(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// How many there have been.
    count: usize,
    /// The layers of each.
    free: Vec<(Vec<Arc<Toc>>, PathBuf)>,
}

impl Roots {
    /// Takes the folder that has the most of these layers and no others, and how many those are.
    fn take(&self, layers: &[Arc<Toc>]) -> Option<(PathBuf, usize)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |laid: &[Arc<Toc>]| {
            laid.len() <= layers.len()
                && laid.iter().zip(layers).all(|(one, other)| Arc::ptr_eq(one, other) || one == other)
        };
        let best = kept
            .free
            .iter()
            .enumerate()
            .filter(|(_, (laid, _))| has(laid))
            .max_by_key(|(_, (laid, _))| laid.len());
        let at = best.map(|(at, _)| at)?;
        let (laid, path) = kept.free.swap_remove(at);
        Some((path, laid.len()))
    }

    fn name(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        format!("root-{}", kept.count)
    }

    fn give(&self, layers: Vec<Arc<Toc>>, path: PathBuf) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).free.push((layers, path));
    }
}

/// Runs `command` on the layers `lower`, the topmost first; `tree` is the same file system as tables.
pub(crate) fn execute(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    tree: &Tree,
    lower: Vec<Lower>,
    mut attached: Attached,
) -> Result<Option<LayerForm>, StepError> {
    refuse(command)?;
    let (root, newer) = laid_out(solver, tree, &lower)?;
    let scratch = Scratch::new(solver.environment.store, "run");
    let own = scratch.path()?;
    let mut mounts = execute::own_mounts(solver, command, own)?;
    mounts.append(&mut attached.mounts);
    let placed = Placed::new(solver.environment.store, tree, &root, own, mounts)?;
    let before = Before::of(&root, placed.paths().clone())?;
    wait_a_tick();
    let outcome = run(solver, command, &root);
    // whatever came of it: what was moved into the root goes back
    placed.take_away()?;
    drop(attached);
    outcome?;
    let (layer, made) = make_layer(solver, command, tree, (&root, &before))?;
    match newer {
        // its times are this step's alone
        true => file::remove_tree(&root).map_err(StepError::io("remove", &root))?,
        false => {
            let layers = tree.layers().iter().cloned().chain(made.map(Arc::new)).collect();
            solver.roots().give(layers, root);
        }
    }
    Ok(layer)
}

/// What cannot be without namespaces is refused and not left out.
fn refuse(command: &Command<'_>) -> Result<(), StepError> {
    let what = match command {
        Command { network: NetworkMode::None, .. } => "a step without a network (--network=none)",
        Command { devices: [_, ..], .. } => "RUN --device",
        Command { insecure: true, .. } if !bare::may_administer() => "RUN --security=insecure",
        _ => return Ok(()),
    };
    Err(StepError::Bare { what: what.to_owned() })
}

/// The root with the layers in it, and whether some of it looks newer than it is.
fn laid_out(solver: &Workshop<'_>, tree: &Tree, lower: &[Lower]) -> Result<(PathBuf, bool), StepError> {
    let store = solver.environment.store;
    let count = tree.layers().len();
    let (newer, layers) = lower.split_at(lower.len().saturating_sub(count));
    let (root, done) = match solver.roots().take(tree.layers()) {
        Some(found) => found,
        None => {
            let root = solver.scratch().path()?.join(solver.roots().name());
            fs::create_dir(&root).map_err(StepError::io("create", &root))?;
            (root, 0)
        }
    };
    let folders: Vec<PathBuf> = layers.iter().rev().map(|layer| layer.path().to_owned()).collect();
    if done < count {
        layer::lay_out(tree, done, &folders, &root, store.xattrs())?;
    }
    for layer in newer {
        place::make_as_new(layer.path(), &root)?;
    }
    Ok((root, !newer.is_empty()))
}

/// Times of changes are the kernel's ticks: what the command changes must not have the time of what was there.
fn wait_a_tick() {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let began = now();
    while now() == began {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run(solver: &Workshop<'_>, command: &Command<'_>, root: &Path) -> Result<(), StepError> {
    let store = solver.environment.store;
    let mut capabilities = match (command.insecure, command.network) {
        (true, _) => CapabilitySet::ALL,
        (false, NetworkMode::Host) => CapabilitySet::DOCKER,
        (false, _) => CapabilitySet::default_for(&Namespace::Host),
    };
    // no mount keeps a device node from being opened; in a container around its device rules do
    if bare::may_administer() && !command.insecure {
        capabilities = CapabilitySet::from_bits(capabilities.bits() & !MKNOD);
    }
    let spec = BareSpec {
        root: root.to_owned(),
        args: command.argv.to_vec(),
        env: command.env.to_vec(),
        cwd: command.working_dir.to_owned(),
        user: command.identity.clone(),
        capabilities,
        unconfined: command.insecure,
        single_id: solver.environment.single_id,
    };
    let ended = execute::watched(solver, command, |out, err| {
        Ok(execute::Started::Bare(bare::spawn(&spec, out, err)?))
    })?;
    match ended.is_success() {
        true => Ok(()),
        false => {
            let full = file::has_no_room(root, store.xattrs().is_user());
            let full = full.then(|| crate::Full::Disk(store.root().to_owned()));
            Err(ended.failure(solver, command, full))
        }
    }
}

fn make_layer(
    solver: &Workshop<'_>,
    command: &Command<'_>,
    tree: &Tree,
    (root, before): (&Path, &Before),
) -> Result<(Option<LayerForm>, Option<Toc>), StepError> {
    let store = solver.environment.store;
    let top = tree.get(b"").map(|found| found.entry.clone());
    let top = top.unwrap_or_else(|| Entry::new("", Kind::Directory, 0o755));
    let terms = Terms {
        xattrs: store.xattrs(),
        clamp: command.clamp,
        root: (top.mode, top.uid, top.gid),
        creator: (command.identity.uid, command.identity.gid),
    };
    let mut writer = LayerWriter::new(store.blobs(), solver.request.compression)?;
    layer::append_changed(&mut writer, root, before, tree, &terms)?;
    if writer.is_empty() {
        return Ok((None, None));
    }
    let made = writer.finish()?;
    Ok((Some(store.adopt_layer(&made, Adopted::Nothing)?), Some(made.toc)))
}

/// Refuses mounts that can only be mounts.
fn refuse_mount(mount: &Mount) -> StepError {
    let what = match mount {
        Mount::Tmpfs { size_bytes: Some(_), .. } => "RUN --mount=type=tmpfs with a size".to_owned(),
        Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } | Mount::File { target, .. } => {
            format!("what is mounted on `{}`", target.display())
        }
    };
    StepError::Bare { what }
}
