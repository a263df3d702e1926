//! One stage: its base, then instruction after instruction.
//!
//! [`StageState`] is what instructions change: the configuration, the row of layers, the declared arguments. Each
//! instruction has a file of its own or, where it only writes configuration, a function in [`metadata`].

mod agent;
mod base;
mod caches;
mod environment;
mod metadata;
mod mounts;
mod newer;
mod run;
mod transfer;
mod workdir;

pub use metadata::{ChangeError, apply_changes};
pub(crate) use mounts::Attached;

use crate::{
    Base, ErrorAt, Event, Fact, Outcome, StepError, StepId, ValueError, When, base as images, clock,
    epoch::StageEpoch,
    key::chain_id,
    solve::{AskStage, Workshop, is_visible, visible_steps},
};
use slipway_dockerfile::{Expander, Instruction, Located, Origin};
use slipway_oci::{
    Platform,
    layer::Tree,
    spec::{History, ImageConfig, rfc3339},
    store::LayerForm,
};
use std::collections::BTreeSet;

/// What names the tool in an image's history.
const HISTORY_COMMENT: &str = "slipway.dockerfile.v1";

/// A finished stage.
#[derive(Clone, Debug)]
pub(crate) struct StageResult {
    /// Its configuration; `rootfs` is filled in on export.
    pub(crate) config: ImageConfig,
    /// Its layers, the base first.
    pub(crate) layers: Vec<LayerForm>,
    /// How many of them are of an image that it began with: they stay as they came.
    pub(crate) base_layers: usize,
    /// Which of them RUN made, counted from the base.
    pub(crate) run_layers: BTreeSet<usize>,
    /// Its arguments with a value, by name.
    pub(crate) arguments: Vec<String>,
    /// Its variables, ENV and ARG alike, which stages that are FROM it see.
    pub(crate) variables: Vec<String>,
    /// Its times.
    pub(crate) epoch: StageEpoch,
}

/// A stage under way.
pub(crate) struct StageState<'s, 'a> {
    solver: &'s Workshop<'a>,
    /// Asks for an earlier stage.
    stages: &'s AskStage<'s>,
    index: usize,
    label: String,
    platform: Platform,
    config: ImageConfig,
    layers: Vec<LayerForm>,
    base_layers: usize,
    run_layers: BTreeSet<usize>,
    /// Names of the arguments that were given a value, in order.
    arguments: Vec<String>,
    /// What RUN and expansion see, as `NAME=value`: ENV and ARG alike, the later one wins.
    variables: Vec<String>,
    epoch: StageEpoch,
    expander: Expander,
    /// This stage has set CMD itself, so that ENTRYPOINT does not reset it.
    has_command: bool,
    use_cache: bool,
    /// Whether a later step needs what is there now as a file system: a RUN, or another stage.
    runs_later: bool,
    tree: Option<Tree>,
    /// Steps shown so far.
    shown: usize,
}

/// Builds stage `index`.
pub(crate) fn run(
    solver: &Workshop<'_>,
    stages: &AskStage<'_>,
    index: usize,
) -> Result<StageResult, ErrorAt> {
    let stage = &solver.recipe.stages[index];
    let label = solver.graph.stages[index].label.clone();
    let at = |origin: Option<Origin>| {
        let label = label.clone();
        move |error: StepError| ErrorAt { origin, stage: label, error }
    };
    let progress = solver.environment.progress;
    let step = solver.first_step(index);
    let text = one_line(&stage.origin.original);
    let total = visible_steps(stage);
    progress.event(Event::Started {
        step,
        stage: &label,
        number: 1,
        total,
        line: stage.origin.start_line,
        text: &text,
    });
    let (begun, took) = clock::step(step, || {
        let begun = base::begin(solver, stages, index)?;
        let (name, chain) = (&solver.recipe.stages[index].base, begun.chain());
        clock::tell(progress, Fact::Base { name, chain: &chain });
        Ok::<_, StepError>(begun)
    });
    let (outcome, reason) = match &begun {
        Ok(_) => (Outcome::Done, "the base is known".to_owned()),
        Err(error) => ended(error),
    };
    progress.event(Event::Finished { step, outcome, took, reason: &reason });
    let mut state = begun.map_err(at(Some(stage.origin.clone())))?;
    let triggers = base::triggers(&mut state).map_err(at(Some(stage.origin.clone())))?;
    let is_used = solver.graph.is_used(index);
    for (number, located) in triggers.iter().enumerate() {
        state.runs_later = is_used || runs(&triggers[number + 1..]) || runs(&stage.instructions);
        // triggers are steps of FROM
        let (applied, _) = clock::step(step, || state.apply(&located.instruction, &located.origin, None));
        applied.map_err(at(None))?;
    }
    for (number, located) in stage.instructions.iter().enumerate() {
        state.runs_later = is_used || runs(&stage.instructions[number + 1..]);
        state.instruct(located, total).map_err(at(Some(located.origin.clone())))?;
    }
    Ok(StageResult {
        config: state.config,
        layers: state.layers,
        base_layers: state.base_layers,
        run_layers: state.run_layers,
        arguments: state.arguments,
        variables: state.variables,
        epoch: state.epoch,
    })
}

/// Whether one of the instructions runs a program.
fn runs(instructions: &[Located]) -> bool {
    instructions.iter().any(|located| matches!(located.instruction, Instruction::Run(_)))
}

/// How a step ended that made nothing, and why.
fn ended(error: &StepError) -> (Outcome, String) {
    match error {
        StepError::Cancelled | StepError::Dependency(_) => {
            (Outcome::Cancelled, "another step failed, or the build was interrupted".to_owned())
        }
        // its words and its output are in the failure that ends the build
        StepError::Command { status, .. } => (Outcome::Failed, status.clone()),
        other => (Outcome::Failed, slipway_oci::error::chain(other)),
    }
}

impl<'s, 'a> StageState<'s, 'a> {
    fn instruct(&mut self, located: &Located, total: usize) -> Result<(), StepError> {
        if self.solver.environment.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        if !is_visible(&located.instruction) {
            return self.apply(&located.instruction, &located.origin, None).map(|_| ());
        }
        self.shown += 1;
        let step = self.solver.first_step(self.index) + self.shown;
        let progress = self.solver.environment.progress;
        let text = one_line(&located.origin.original);
        progress.event(Event::Started {
            step,
            stage: &self.label,
            number: self.shown + 1,
            total,
            line: located.origin.start_line,
            text: &text,
        });
        self.look_into(located, (step, &text), When::Before)?;
        let (result, took) =
            clock::step(step, || self.apply(&located.instruction, &located.origin, Some(step)));
        let (outcome, reason) = match &result {
            Ok(Outcome::Cached) => (Outcome::Cached, "its inputs are those of an earlier run".to_owned()),
            Ok(outcome) if !self.use_cache => (*outcome, crate::why::PASSED_OVER.to_owned()),
            Ok(outcome) => (*outcome, "no earlier run had these inputs".to_owned()),
            Err(error) => ended(error),
        };
        progress.event(Event::Finished { step, outcome, took, reason: &reason });
        result?;
        self.look_into(located, (step, &text), When::After)
    }

    /// Lets a debugger look into the state before or after an instruction; the build ends with it.
    fn look_into(
        &mut self,
        located: &Located,
        (step, text): (StepId, &str),
        when: When,
    ) -> Result<(), StepError> {
        let environment = self.solver.environment;
        if !environment.debugger.is_some_and(|debugger| debugger.wants(step, when)) {
            return Ok(());
        }
        let run = if let Instruction::Run(run) = &located.instruction { Some(run) } else { None };
        self.enter(run, text, step, when)?;
        Err(StepError::Cancelled)
    }

    fn apply(
        &mut self,
        instruction: &Instruction,
        origin: &Origin,
        step: Option<StepId>,
    ) -> Result<Outcome, StepError> {
        match instruction {
            Instruction::Run(run) => return self.run(run, step),
            Instruction::Copy(transfer) => return self.transfer(transfer, "COPY"),
            Instruction::Add(transfer) => return self.transfer(transfer, "ADD"),
            Instruction::Workdir(path) => return self.workdir(path),
            Instruction::Arg(declarations) => self.arg(declarations)?,
            configuration => self.configure(configuration)?,
        }
        let _ = origin;
        Ok(Outcome::Done)
    }

    /// Adds an entry to the image's history.
    fn note(&mut self, created_by: String, empty_layer: bool) {
        self.config.history.push(History {
            created: Some(rfc3339::format(self.epoch.created)),
            created_by: Some(created_by),
            author: None,
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer,
        });
    }

    /// Puts a step's layer on top, or notes that there is none.
    fn push(&mut self, layer: Option<LayerForm>, created_by: String) -> Result<(), StepError> {
        self.note(created_by, layer.is_none());
        if let Some(form) = layer {
            if self.layers.len() >= slipway_oci::limits::LAYERS {
                let most = slipway_oci::limits::LAYERS;
                return Err(ValueError::TooMany { what: "the image", most, things: "layers" }.into());
            }
            self.tree = None;
            self.layers.push(form);
        }
        Ok(())
    }

    /// The chain id of what was built so far.
    fn chain(&self) -> String {
        chain_id(self.layers.iter().map(|form| &form.diff_id))
    }

    /// The file system that was built so far.
    fn tree(&mut self) -> Result<&Tree, StepError> {
        if self.tree.is_none() {
            self.tree = Some(images::tree(self.solver.environment, &self.layers)?);
        }
        Ok(self.tree.as_ref().expect("just made"))
    }

    /// Working directory for relative paths.
    fn working_dir(&self) -> String {
        self.config
            .config
            .working_dir
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/".to_owned())
    }

    /// The content of a file of the image, empty where it is not there or no file.
    fn account_file(&mut self, path: &str) -> Result<Vec<u8>, StepError> {
        let solver = self.solver;
        let layers = self.layers.clone();
        let tree = self.tree()?;
        let Ok(resolved) = tree.resolve(path.as_bytes(), true) else { return Ok(Vec::new()) };
        let Some(found) = tree.get(&resolved.path) else { return Ok(Vec::new()) };
        let (layer, inner) = (found.layer, found.entry.to_path());
        let files = images::files(solver.environment, &layers[..=layer])?;
        files.read(&inner, slipway_oci::limits::ACCOUNT_FILE_BYTES).map_err(StepError::io("read", inner))
    }

    /// What `--from` or a mount's `from` means: a stage's or image's layers, or a folder.
    fn provider(&self, text: &str) -> Result<Provided, StepError> {
        let solver = self.solver;
        match solver.provider(text, self.index)? {
            Base::Scratch => Ok(Provided::Layers(Vec::new(), "the empty image".to_owned())),
            Base::Stage(index) => {
                let stage = (self.stages)(index).map_err(StepError::Dependency)?;
                let label = &solver.graph.stages[index].label;
                Ok(Provided::Layers(stage.layers.clone(), format!("stage `{label}`")))
            }
            Base::Image(reference) => {
                let image = solver.image(&reference, &self.solver.request.platform);
                let image = image.map_err(|error| match solver.graph.suggest_stage(text) {
                    Some(hint) => StepError::NearStage { hint, error: Box::new(error) },
                    None => error,
                })?;
                Ok(Provided::Layers(image.layers, format!("image `{}`", reference.familiar())))
            }
            Base::Context(name) => base::named(solver, &name, &self.platform),
        }
    }
}

/// Files that another stage, image or context provides.
pub(crate) enum Provided {
    /// The file system of these layers, and what it is called.
    Layers(Vec<LayerForm>, String),
    /// A folder given by name.
    Folder(std::sync::Arc<crate::context::ContextTree>),
}

/// An instruction on one line, for progress.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.lines() {
        let part = part.trim().trim_end_matches('\\').trim_end();
        if !part.is_empty() && !part.starts_with('#') {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(part);
        }
    }
    line
}
