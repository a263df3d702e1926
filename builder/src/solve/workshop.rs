//! What every stage of a build works with.
//!
//! A stage gets the workshop and a way to ask for other stages ([`Stages`](super::Stages) gives it); it never sees
//! who runs it, so stages know steps and sources, and the solver knows stages, and there is no circle.

use super::{FoundFolder, Sources, Steps, locked, visible_steps};
use crate::{
    Base, BuildGraph, BuildRequest, Environment, Outcome, StepError, StepId,
    bare::Roots,
    base::BaseImage,
    context::ContextTree,
    epoch::{Epoch, StageEpoch},
    history::Recorder,
    key::StepDescription,
    scratch::Scratch,
    transfer::LayeredTree,
};
use slipway_dockerfile::Recipe;
use slipway_oci::{Digest, Platform, Reference, store::LayerForm};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// The shared part of a build under way.
pub(crate) struct Workshop<'a> {
    pub(crate) environment: &'a Environment<'a>,
    pub(crate) request: &'a BuildRequest,
    pub(crate) recipe: &'a Recipe,
    pub(crate) graph: &'a BuildGraph,
    /// Keeps what is to be known later.
    pub(crate) recorder: &'a Recorder<'a>,
    steps: Steps<'a>,
    sources: Sources<'a>,
    epoch: Epoch,
    first_step: Vec<StepId>,
    planned: usize,
    stubs: Mutex<HashMap<Vec<String>, PathBuf>>,
    scratch: Scratch<'a>,
    roots: Roots,
}

impl<'a> Workshop<'a> {
    /// The workshop of one build.
    pub(crate) fn new(
        environment: &'a Environment<'a>,
        request: &'a BuildRequest,
        recipe: &'a Recipe,
        graph: &'a BuildGraph,
        recorder: &'a Recorder<'a>,
        epoch: Epoch,
    ) -> Result<Workshop<'a>, StepError> {
        let mut first_step = Vec::with_capacity(recipe.stages.len());
        let mut planned = 0;
        for stage in &recipe.stages {
            first_step.push(planned);
            planned += if graph.reachable[stage.index] { visible_steps(stage) } else { 0 };
        }
        Ok(Workshop {
            environment,
            request,
            recipe,
            graph,
            recorder,
            steps: Steps::new(environment),
            sources: Sources::new(environment, request),
            epoch,
            first_step,
            planned,
            stubs: Mutex::default(),
            scratch: Scratch::new(environment.store, "build"),
            roots: Roots::default(),
        })
    }

    /// The steps.
    pub(crate) fn steps(&self) -> &Steps<'a> {
        &self.steps
    }

    /// How many steps will be looked at.
    pub(crate) fn planned(&self) -> usize {
        self.planned
    }

    /// The number of a stage's first step.
    pub(crate) fn first_step(&self, index: usize) -> StepId {
        self.first_step[index]
    }

    /// A folder for this build alone.
    pub(crate) fn scratch(&self) -> &Scratch<'a> {
        &self.scratch
    }

    /// Laid out layers.
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Notes that a build argument had a use.
    pub(crate) fn used_argument(&self, name: &str) {
        self.steps.used_argument(name);
    }

    /// See [`Steps::step`].
    pub(crate) fn step(
        &self,
        description: &StepDescription,
        step: &str,
        use_cache: bool,
        make: impl FnOnce() -> Result<Option<LayerForm>, StepError>,
    ) -> Result<(Option<LayerForm>, Outcome), StepError> {
        self.steps.step(description, step, use_cache, make)
    }

    /// The images that were looked up, each with its platform and the digest of its manifest.
    pub(super) fn images(&self) -> Vec<(Reference, Platform, Digest)> {
        self.sources.images()
    }

    /// See [`Sources::image`].
    pub(crate) fn image(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, StepError> {
        self.sources.image(reference, platform)
    }

    /// See [`Sources::context`].
    pub(crate) fn context(&self) -> Result<Arc<ContextTree>, StepError> {
        self.sources.context()
    }

    /// See [`Sources::named_folder`].
    pub(crate) fn named_folder(
        &self,
        name: &str,
        find: impl FnOnce() -> Result<FoundFolder, StepError>,
    ) -> Result<Arc<ContextTree>, StepError> {
        self.sources.named_folder(name, find)
    }

    /// See [`Sources::layered`].
    pub(crate) fn layered(&self, layers: &[LayerForm], place: String) -> Result<LayeredTree<'a>, StepError> {
        self.sources.layered(layers, place)
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
        let folder = self.scratch.path()?.join(format!("stubs-{}", stubs.len()));
        std::fs::create_dir(&folder).map_err(StepError::io("create", &folder))?;
        make(&folder)?;
        stubs.insert(targets, folder.clone());
        Ok(folder)
    }

    /// What `--from=text` in stage `index` means.
    pub(crate) fn provider(&self, text: &str, index: usize) -> Result<Base, StepError> {
        Ok(self.graph.provider(text, index)?)
    }

    /// The epoch of a stage on a base created at `base`.
    pub(crate) fn epoch(&self, base: Option<i64>) -> StageEpoch {
        self.epoch.for_stage(base)
    }

    /// Saves what was learnt.
    pub(crate) fn finish(self) {
        self.steps.finish();
        self.sources.finish();
    }
}
