//! Carries a build out: stages on demand, each once, on threads.
//!
//! A stage is a cell that is filled by whoever needs it first; others wait. The target's needs are started together,
//! so independent stages run side by side. References go to earlier stages only, so the waiting has no cycle.
//! Equal steps (one key) run once: the second waits for the first and takes its result.

use crate::{
    Base, BuildError, BuildGraph, BuildRequest, BuiltImage, Environment, ErrorAt, Event, Outcome, StepError,
    StepId,
    base::{self, BaseImage},
    context::ContextTree,
    copy::LayeredTree,
    epoch::StageEpoch,
    export,
    stage::{self, StageResult},
};
use slipway_dockerfile::{Instruction, Recipe, Stage};
use slipway_oci::{
    Digest, Platform, Reference,
    spec::ImageConfig,
    store::{CacheEntry, CachedLayer, LayerForm},
};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// What a build came to.
#[derive(Clone, Debug)]
pub struct BuildOutput {
    /// The image.
    pub image: BuiltImage,
    /// Its configuration.
    pub config: ImageConfig,
    /// Steps whose result was there.
    pub cached_steps: usize,
    /// Steps that were carried out.
    pub executed_steps: usize,
    /// Build arguments that no instruction asked for.
    pub unused_arguments: Vec<String>,
}

pub(crate) type StageOutcome = Result<Arc<StageResult>, Arc<ErrorAt>>;
type StepCell = Arc<Mutex<Option<Option<LayerForm>>>>;
type ImageCell = Arc<OnceLock<Result<BaseImage, Arc<StepError>>>>;

/// A build under way; shared by its stages' threads.
pub(crate) struct Solver<'a> {
    pub(crate) environment: &'a Environment<'a>,
    pub(crate) request: &'a BuildRequest,
    pub(crate) recipe: &'a Recipe,
    pub(crate) graph: &'a BuildGraph,
    stages: Vec<OnceLock<StageOutcome>>,
    first_step: Vec<StepId>,
    images: Mutex<HashMap<(Reference, String), ImageCell>>,
    steps: Mutex<HashMap<Digest, StepCell>>,
    context: OnceLock<Option<Arc<ContextTree>>>,
    named: Mutex<HashMap<String, Arc<ContextTree>>>,
    stubs: Mutex<HashMap<Vec<String>, PathBuf>>,
    counts: Mutex<Counts>,
    temporary: PathBuf,
}

#[derive(Default)]
struct Counts {
    cached: usize,
    executed: usize,
    used_arguments: std::collections::BTreeSet<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Builds what `request` asks for.
pub fn build(request: &BuildRequest, environment: &Environment<'_>) -> Result<BuildOutput, BuildError> {
    let recipe = slipway_dockerfile::parse_recipe(&request.recipe).map_err(BuildError::Recipe)?;
    let graph = BuildGraph::new(&recipe, request)?;
    let temporary = environment.store.temporary_folder("build")?;
    let mut solver = Solver {
        environment,
        request,
        recipe: &recipe,
        graph: &graph,
        stages: recipe.stages.iter().map(|_| OnceLock::new()).collect(),
        first_step: Vec::new(),
        images: Mutex::default(),
        steps: Mutex::default(),
        context: OnceLock::new(),
        named: Mutex::default(),
        stubs: Mutex::default(),
        counts: Mutex::default(),
        temporary,
    };
    let mut steps = 0;
    for stage in &recipe.stages {
        solver.first_step.push(steps);
        steps += if graph.reachable[stage.index] { visible_steps(stage) } else { 0 };
    }
    environment.progress.event(Event::Planned { steps });
    let result = solver.solve();
    solver.finish();
    result
}

/// How many steps of a stage are shown: its FROM and what touches files.
pub(crate) fn visible_steps(stage: &Stage) -> usize {
    1 + stage.instructions.iter().filter(|located| is_visible(&located.instruction)).count()
}

/// Whether an instruction is shown as a step.
pub(crate) fn is_visible(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
    )
}

impl<'a> Solver<'a> {
    fn solve(&self) -> Result<BuildOutput, BuildError> {
        let target = match self.stage(self.graph.target) {
            Ok(target) => target,
            Err(failure) => return Err(self.failure(failure)),
        };
        self.environment.progress.event(Event::Exporting);
        let (config, layers) = (target.config.clone(), &target.layers);
        let image = export::export(self.environment, self.request, config.clone(), layers, &target.epoch)
            .map_err(|error| {
                self.failure(Arc::new(ErrorAt { origin: None, stage: "export".into(), error }))
            })?;
        let counts = locked(&self.counts);
        let unused = self.request.build_args.keys().filter(|name| !counts.used_arguments.contains(*name));
        Ok(BuildOutput {
            image,
            config,
            cached_steps: counts.cached,
            executed_steps: counts.executed,
            unused_arguments: unused.cloned().collect(),
        })
    }

    /// The failure that people want to see: the first cause, and interruption only where nothing else was wrong.
    fn failure(&self, failure: Arc<ErrorAt>) -> BuildError {
        let mut cause = failure;
        while let StepError::Dependency(deeper) = &cause.error {
            cause = deeper.clone();
        }
        if matches!(cause.error, StepError::Cancelled) {
            let first = self.stages.iter().filter_map(|cell| cell.get()).find_map(|outcome| match outcome {
                Err(at) if !matches!(at.error, StepError::Cancelled | StepError::Dependency(_)) => {
                    Some(at.clone())
                }
                _ => None,
            });
            return first.map_or(BuildError::Cancelled, BuildError::Step);
        }
        BuildError::Step(cause)
    }

    fn finish(mut self) {
        if let Some(context) = self.context.take().flatten().and_then(Arc::into_inner) {
            context.finish();
        }
        for (_, tree) in locked(&self.named).drain() {
            if let Some(tree) = Arc::into_inner(tree) {
                tree.finish();
            }
        }
        // what cannot be removed now is swept once this process is gone
        let _ = slipway_oci::file::remove_tree(&self.temporary);
    }

    /// The result of a stage; built now if nobody has.
    pub(crate) fn stage(&self, index: usize) -> StageOutcome {
        self.stages[index]
            .get_or_init(|| {
                let outcome = self.build_stage(index);
                if outcome.is_err() {
                    self.environment.cancel.cancel();
                }
                outcome
            })
            .clone()
    }

    fn build_stage(&self, index: usize) -> StageOutcome {
        let needs = &self.graph.stages[index].needs;
        std::thread::scope(|scope| {
            // this thread builds the first need, or the stage itself, so one need starts no thread
            for need in needs.iter().skip(1) {
                std::thread::Builder::new()
                    .name(format!("stage {need}"))
                    .spawn_scoped(scope, move || self.stage(*need).map(|_| ()))
                    .ok();
            }
            if needs.len() > 1 {
                let _ = self.stage(needs[0]);
            }
            stage::run(self, index).map(Arc::new).map_err(Arc::new)
        })
    }

    /// The number of a stage's first step.
    pub(crate) fn first_step(&self, index: usize) -> StepId {
        self.first_step[index]
    }

    /// A folder for this build alone.
    pub(crate) fn temporary(&self) -> &PathBuf {
        &self.temporary
    }

    /// Notes that a build argument had a use.
    pub(crate) fn used_argument(&self, name: &str) {
        locked(&self.counts).used_arguments.insert(name.to_owned());
    }

    /// An image, looked up once.
    pub(crate) fn image(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, StepError> {
        let cell = locked(&self.images).entry((reference.clone(), platform.to_string())).or_default().clone();
        let result = cell.get_or_init(|| {
            let shown = reference.familiar();
            self.environment.progress.event(Event::Resolving { reference: &shown });
            base::resolve(self.environment, reference, platform, self.request.refresh).map_err(Arc::new)
        });
        match result {
            Ok(image) => Ok(image.clone()),
            Err(error) => Err(StepError::Value(chain_of(error.as_ref()))),
        }
    }

    /// The result of the step with this key: from this build, from the store, or made now.
    ///
    /// `make` answers the layer, or nothing where the step changed nothing.
    pub(crate) fn step(
        &self,
        key: &Digest,
        step: &str,
        use_cache: bool,
        make: impl FnOnce() -> Result<Option<LayerForm>, StepError>,
    ) -> Result<(Option<LayerForm>, Outcome), StepError> {
        let cell = locked(&self.steps).entry(key.clone()).or_default().clone();
        let mut slot = locked(&cell);
        if let Some(result) = slot.as_ref() {
            self.count(Outcome::Cached);
            return Ok((result.clone(), Outcome::Cached));
        }
        if self.environment.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let store = self.environment.store;
        if use_cache && let Some(found) = store.cached(key)? {
            let result = match found {
                CachedLayer::Nothing => None,
                CachedLayer::Layer(form) => Some(*form),
            };
            *slot = Some(result.clone());
            self.count(Outcome::Cached);
            return Ok((result, Outcome::Cached));
        }
        let result = make()?;
        let diff_id = result.as_ref().map(|form| &form.diff_id);
        store.put_cached(&CacheEntry { key, diff_id, step })?;
        *slot = Some(result.clone());
        self.count(Outcome::Done);
        Ok((result, Outcome::Done))
    }

    fn count(&self, outcome: Outcome) {
        let mut counts = locked(&self.counts);
        match outcome {
            Outcome::Cached => counts.cached += 1,
            _ => counts.executed += 1,
        }
    }

    /// The build context.
    pub(crate) fn context(&self) -> Result<Arc<ContextTree>, StepError> {
        if let Some(opened) = self.context.get() {
            return opened.clone().ok_or(StepError::NoContext);
        }
        let caches = self.environment.store.root().join("context");
        let opened = match &self.request.context {
            None => None,
            Some(folder) => {
                let place = "the build context".to_owned();
                Some(Arc::new(ContextTree::open(
                    folder,
                    self.request.ignore.as_deref(),
                    Some(&caches),
                    place,
                )?))
            }
        };
        // another thread may have opened it meanwhile; either serves
        let _ = self.context.set(opened);
        self.context.get().cloned().flatten().ok_or(StepError::NoContext)
    }

    /// A folder given by `--build-context`; `find` makes it ready and runs once, however many steps need it.
    pub(crate) fn named_folder(
        &self,
        name: &str,
        find: impl FnOnce() -> Result<PathBuf, StepError>,
    ) -> Result<Arc<ContextTree>, StepError> {
        let mut named = locked(&self.named);
        if let Some(tree) = named.get(name) {
            return Ok(tree.clone());
        }
        let folder = find()?;
        let caches = self.environment.store.root().join("context");
        let ignore = crate::read_ignore_file(None, &folder)?.map(|(_, text)| text);
        let place = format!("the context `{name}`");
        let tree = Arc::new(ContextTree::open(&folder, ignore.as_deref(), Some(&caches), place)?);
        named.insert(name.to_owned(), tree.clone());
        Ok(tree)
    }

    /// The file system of a row of layers as a source of files.
    pub(crate) fn layered(&self, layers: &[LayerForm], place: String) -> Result<LayeredTree<'_>, StepError> {
        let tree = base::tree(self.environment, layers)?;
        let diff_ids: Vec<Digest> = layers.iter().map(|form| form.diff_id.clone()).collect();
        for form in layers {
            // a file may be read from any of them; those on disk already are not fetched
            if !self.environment.store.layer_folder(&form.diff_id).is_dir() {
                base::fetch_layer(self.environment, form)?;
            }
        }
        Ok(LayeredTree::new(self.environment.store, tree, diff_ids, place))
    }

    /// The folder with mount points that serves as the lowest layer of RUN steps, made once for equal lists.
    pub(crate) fn stubs(
        &self,
        targets: Vec<String>,
        make: impl FnOnce(&PathBuf) -> Result<(), StepError>,
    ) -> Result<PathBuf, StepError> {
        let mut stubs = locked(&self.stubs);
        if let Some(folder) = stubs.get(&targets) {
            return Ok(folder.clone());
        }
        let folder = self.temporary.join(format!("stubs-{}", stubs.len()));
        std::fs::create_dir(&folder).map_err(StepError::io("create", &folder))?;
        make(&folder)?;
        stubs.insert(targets, folder.clone());
        Ok(folder)
    }

    /// What `--from=text` in stage `index` means.
    pub(crate) fn provider(&self, text: &str, index: usize) -> Result<Base, StepError> {
        self.graph.provider(text, index).map_err(StepError::Value)
    }

    /// The epoch of a stage on a base created at `base`.
    pub(crate) fn epoch(&self, base: Option<i64>) -> StageEpoch {
        self.request.epoch.for_stage(base)
    }
}

/// An error and its causes on one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
