//! Carries a build out.
//!
//! [`Workshop`] is what every stage works with: [`Steps`] (each key once), [`Sources`] (images and contexts, each
//! opened once), mount points, the build's own folder. [`Stages`] makes stages on demand, each once, on threads.

mod sources;
mod stages;
mod steps;
mod workshop;

pub(crate) use sources::{FoundFolder, Sources};
pub(crate) use stages::{AskStage, Stages};
pub(crate) use steps::Steps;
pub(crate) use workshop::Workshop;

use crate::{
    BuildError, BuildGraph, BuildRequest, BuiltImage, CacheSource, Environment, ErrorAt, Event, Exporter,
    attest::{Material, Noted, image_uri},
    export,
    history::{History, Recorder},
    lost::Losses,
};
use slipway_dockerfile::{Instruction, Stage};
use slipway_oci::spec::ImageConfig;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Its id in the history, where anything was carried out.
    pub build: Option<String>,
    /// Build arguments that no instruction asked for.
    pub unused_arguments: Vec<String>,
    /// What was taken from elsewhere, in order.
    pub materials: Vec<Material>,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Builds what `request` asks for and hands it to `exporter`. A failure throws no switch of the caller's. Cached results
/// whose layers turn out to be lost are made again ([`lost`](crate::lost)).
pub fn build(
    request: &BuildRequest,
    environment: &Environment<'_>,
    exporter: &dyn Exporter,
) -> Result<BuildOutput, BuildError> {
    let mut losses = Losses::default();
    loop {
        let result = {
            let sources = losses.without(environment.cache_sources);
            let sources: Vec<&dyn CacheSource> =
                sources.iter().map(|source| source as &dyn CacheSource).collect();
            attempt(request, &Environment { cache_sources: &sources, ..*environment }, exporter)
        };
        match result {
            Err(error) if !environment.cancel.is_cancelled() => {
                match losses.forget(environment.store, &error)? {
                    Some(message) => environment.progress.event(Event::Warning { message: &message }),
                    None => return Err(error),
                }
            }
            other => return other,
        }
    }
}

fn attempt(
    request: &BuildRequest,
    environment: &Environment<'_>,
    exporter: &dyn Exporter,
) -> Result<BuildOutput, BuildError> {
    let cancel = &environment
        .cancel
        .below()
        .map_err(|source| BuildError::Io { operation: "make the build's own switch", source })?;
    let history = History::of(environment.store.root());
    let recorder = &Recorder::new(environment.progress, history, request, exporter.names());
    let noted = &Noted::new(environment.images);
    let environment = &Environment { cancel, progress: recorder, images: noted, ..*environment };
    let recipe = slipway_dockerfile::parse_recipe(&request.recipe).map_err(BuildError::Recipe)?;
    let graph = BuildGraph::new(&recipe, request)?;
    let at = |error| BuildError::Step(Arc::new(ErrorAt { origin: None, stage: "build".into(), error }));
    let epoch = graph.epoch(&recipe, request)?;
    let workshop = Workshop::new(environment, request, &recipe, &graph, recorder, epoch).map_err(at)?;
    environment.progress.event(Event::Planned { steps: workshop.planned() });
    let mut result = solve(&workshop, exporter);
    if let Ok(output) = &mut result {
        for (reference, platform, digest) in workshop.images() {
            noted.note(Material::Image { uri: image_uri(&reference, &platform), digest });
        }
        output.materials = noted.materials();
    }
    workshop.finish();
    recorder.end(&result, environment.record);
    result
}

fn solve(workshop: &Workshop<'_>, exporter: &dyn Exporter) -> Result<BuildOutput, BuildError> {
    let stages = Stages::new(workshop);
    let (environment, request) = (workshop.environment, workshop.request);
    let target = stages.stage(workshop.graph.target).map_err(|failure| stages.failure(failure))?;
    environment.progress.event(Event::Exporting);
    let finished = export::finished(&target, &request.labels);
    let image = exporter
        .export(environment, &finished)
        .map_err(|error| stages.failure(Arc::new(ErrorAt { origin: None, stage: "export".into(), error })))?;
    let counts = workshop.steps().counts();
    let unused = request.build_args.keys().filter(|name| !counts.used_arguments.contains(*name));
    Ok(BuildOutput {
        image,
        config: finished.config,
        cached_steps: counts.cached,
        executed_steps: counts.executed,
        build: workshop.recorder.id(),
        unused_arguments: unused.cloned().collect(),
        materials: Vec::new(),
    })
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
