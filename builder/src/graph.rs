//! Which stages there are, what each is built from, and which the target needs. Pure: nothing is looked up.

use crate::error::ProviderError;
use crate::{
    BuildRequest,
    epoch::{self, Epoch},
    limits,
};
use slipway_dockerfile::{Expander, Instruction, Located, Origin, Recipe, Stage, mount::RunMount, nearest};
use slipway_oci::{Platform, Reference};
use std::collections::BTreeMap;

/// Stages that do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct GraphError {
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// The instruction.
    pub origin: Option<Origin>,
}

/// What a stage, a COPY or a mount takes its files from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another stage of the recipe.
    Stage(usize),
    /// A context given by name.
    Context(String),
    /// An image.
    Image(Reference),
}

/// One stage of the graph.
#[derive(Clone, Debug)]
pub struct StageNode {
    /// Its name, or its number where it has none.
    pub label: String,
    /// What it begins with.
    pub base: Base,
    /// The platform that its FROM asks for.
    pub platform: Option<Platform>,
    /// Stages that must be there for it, its base among them.
    pub needs: Vec<usize>,
}

/// The stages of a recipe.
#[derive(Clone, Debug)]
pub struct BuildGraph {
    /// All stages, in the recipe's order.
    pub stages: Vec<StageNode>,
    /// The stage that is asked for.
    pub target: usize,
    /// For each stage, whether the target needs it.
    pub reachable: Vec<bool>,
    /// Global arguments and their values.
    pub globals: BTreeMap<String, String>,
    names: BTreeMap<String, Vec<usize>>,
    count: usize,
    contexts: Vec<String>,
}

impl BuildGraph {
    /// The graph of `recipe` as `request` asks for it.
    pub fn new(recipe: &Recipe, request: &BuildRequest) -> Result<BuildGraph, GraphError> {
        let target = find_target(recipe, request.target.as_deref())?;
        let globals = globals(recipe, request, target)?;
        let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for stage in &recipe.stages {
            if let Some(name) = &stage.name {
                names.entry(name.clone()).or_default().push(stage.index);
            }
        }
        let contexts = request.contexts.keys().cloned().collect();
        let count = recipe.stages.len();
        let (stages, reachable) = (Vec::with_capacity(count), Vec::new());
        let mut graph = BuildGraph { stages, target, reachable, globals, names, count, contexts };
        let mut later = Vec::new();
        for stage in &recipe.stages {
            let node = graph.node(recipe, stage, &mut later)?;
            graph.stages.push(node);
        }
        graph.reachable = vec![false; graph.stages.len()];
        let mut pending = vec![target];
        while let Some(index) = pending.pop() {
            if !std::mem::replace(&mut graph.reachable[index], true) {
                pending.extend(&graph.stages[index].needs);
            }
        }
        // a stage that nobody needs may name what comes after it (BuildKit)
        match later.into_iter().find(|(index, _)| graph.reachable[*index]) {
            Some((_, error)) => Err(error),
            None => Ok(graph),
        }
    }

    /// Whether a stage that the target needs takes anything from this one.
    pub(crate) fn is_used(&self, index: usize) -> bool {
        let nodes = self.stages.iter().zip(&self.reachable);
        nodes.into_iter().any(|(node, reachable)| *reachable && node.needs.contains(&index))
    }

    /// One stage; what it takes from stages after it goes to `later`, each with this stage's number.
    fn node(
        &self,
        recipe: &Recipe,
        stage: &Stage,
        later: &mut Vec<(usize, GraphError)>,
    ) -> Result<StageNode, GraphError> {
        let expander = Expander::new(recipe.directives.escape);
        let fail = |message: String, hint: Option<String>| GraphError {
            message,
            hint,
            origin: Some(stage.origin.clone()),
        };
        let expand = |text: &str| {
            let lookup = |name: &str| self.globals.get(name).cloned();
            expander
                .expand(text, &lookup)
                .map(|expansion| expansion.value)
                .map_err(|error| fail(format!("cannot expand `{text}`: {error}"), None))
        };
        let base = expand(&stage.base)?;
        if base.is_empty() {
            let hint = "give the ARG before FROM a default, or pass it with --build-arg".to_owned();
            return Err(fail(
                format!("the base name `{}` is empty once it is expanded", stage.base),
                Some(hint),
            ));
        }
        let platform = match &stage.platform {
            None => None,
            Some(written) => match expand(written)? {
                text if text.is_empty() => {
                    let hint = "give the ARG before FROM a default, or pass it with --build-arg".to_owned();
                    return Err(fail(
                        format!("the platform `{written}` is empty once it is expanded"),
                        Some(hint),
                    ));
                }
                text => Some(text.parse::<Platform>().map_err(|error| fail(error.to_string(), None))?),
            },
        };
        let base = self
            .resolve_name(&base, stage.index, None)
            .map_err(|error| fail(error.to_string(), self.suggest(&base, stage.index)))?;
        let mut needs: Vec<usize> = Vec::new();
        needs.extend(if let Base::Stage(index) = base { Some(index) } else { None });
        let sources = stage
            .instructions
            .iter()
            .flat_map(|located| sources_of(located).into_iter().map(|from| (from, located.origin.clone())));
        for (from, origin) in sources {
            let failed = |error: &ProviderError| GraphError {
                message: error.to_string(),
                hint: self.suggest(&from.to_lowercase(), stage.index),
                origin: Some(origin.clone()),
            };
            match self.provider(&from, stage.index) {
                Ok(Base::Stage(index)) => needs.push(index),
                Ok(_) => {}
                Err(error @ ProviderError::Later(_)) => later.push((stage.index, failed(&error))),
                Err(error) => return Err(failed(&error)),
            }
        }
        needs.sort_unstable();
        needs.dedup();
        let label = stage.name.clone().unwrap_or_else(|| stage.index.to_string());
        Ok(StageNode { label, base, platform, needs })
    }

    /// What `--from=text` in stage `index` means: a number, a stage's name, a named context or an image.
    pub fn provider(&self, text: &str, index: usize) -> Result<Base, ProviderError> {
        if let Ok(number) = text.parse::<usize>() {
            return match number {
                _ if number < index => Ok(Base::Stage(number)),
                _ if number == index || number >= self.count => Err(ProviderError::NoStage(number)),
                _ => Err(ProviderError::Later(number.to_string())),
            };
        }
        let later = self.names.get(&text.to_lowercase()).is_some_and(|all| all.iter().all(|at| *at >= index));
        if later && !self.contexts.iter().any(|name| same_context(name, text)) {
            return Err(ProviderError::Later(format!("`{text}`")));
        }
        self.resolve_name(text, index, None)
    }

    fn resolve_name(&self, text: &str, index: usize, skip: Option<&str>) -> Result<Base, ProviderError> {
        if self.contexts.iter().any(|name| Some(name.as_str()) != skip && same_context(name, text)) {
            return Ok(Base::Context(text.to_owned()));
        }
        if text == "scratch" {
            return Ok(Base::Scratch);
        }
        let earlier =
            self.names.get(&text.to_lowercase()).and_then(|all| all.iter().rev().find(|at| **at < index));
        if let Some(stage) = earlier {
            return Ok(Base::Stage(*stage));
        }
        Ok(Base::Image(text.parse::<Reference>()?.or_latest()))
    }

    fn suggest(&self, text: &str, index: usize) -> Option<String> {
        let earlier = self
            .names
            .iter()
            .filter(|(_, all)| all.iter().any(|at| *at < index))
            .map(|(name, _)| name.as_str());
        nearest(text, earlier).map(|name| format!("did you mean the stage `{name}`?"))
    }

    /// The build's epoch: the caller's, else that of the recipe's global argument.
    pub(crate) fn epoch(&self, recipe: &Recipe, request: &BuildRequest) -> Result<Epoch, GraphError> {
        let declares = |located: &&Located| match &located.instruction {
            Instruction::Arg(all) => all.iter().any(|declaration| declaration.name == epoch::ARGUMENT),
            _ => false,
        };
        let declared = recipe.global_args.iter().rev().find(declares);
        let value = declared.and_then(|_| self.globals.get(epoch::ARGUMENT)).map(String::as_str);
        request.epoch.or_declared(value).map_err(|error| GraphError {
            message: error.to_string(),
            hint: Some("times of other contexts and of stages are not taken".to_owned()),
            origin: declared.map(|located| located.origin.clone()),
        })
    }

    /// The number of the nearest named stage, for hints about images that nobody has.
    pub fn suggest_stage(&self, text: &str) -> Option<String> {
        self.suggest(text, self.stages.len())
    }
}

/// A context's name may be written as the image that it replaces, with or without its defaults.
fn same_context(name: &str, text: &str) -> bool {
    let normal =
        |text: &str| text.parse::<Reference>().map(|reference| reference.or_latest().to_string()).ok();
    name == text || (normal(name).is_some() && normal(name) == normal(text))
}

/// The `--from` and `from=` values of an instruction, triggers not included.
fn sources_of(located: &Located) -> Vec<String> {
    match &located.instruction {
        Instruction::Copy(transfer) | Instruction::Add(transfer) => transfer.from.iter().cloned().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            // a mount that cannot be read is reported when its step is reached
            .filter_map(|mount| RunMount::from_of(mount).ok().flatten())
            .collect(),
        _ => Vec::new(),
    }
}

fn find_target(recipe: &Recipe, target: Option<&str>) -> Result<usize, GraphError> {
    let last = recipe.stages.len().checked_sub(1).expect("a valid recipe has a stage");
    let Some(target) = target.filter(|target| !target.is_empty()) else { return Ok(last) };
    let wanted = target.to_lowercase();
    let found = recipe.stages.iter().rev().find(|stage| stage.name.as_deref() == Some(wanted.as_str()));
    found.map(|stage| stage.index).ok_or_else(|| {
        let names: Vec<&str> = recipe.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let hint = match nearest(&wanted, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None if names.is_empty() => {
                "no stage of the recipe has a name: add `AS name` to a FROM".to_owned()
            }
            None => format!("the stages are: {}", names.join(", ")),
        };
        GraphError { message: format!("no stage is called `{target}`"), hint: Some(hint), origin: None }
    })
}

/// Global arguments: the predefined ones, then those before the first FROM, each seeing the ones before it.
fn globals(
    recipe: &Recipe,
    request: &BuildRequest,
    target: usize,
) -> Result<BTreeMap<String, String>, GraphError> {
    let mut values = predefined(request, recipe.stages[target].name.as_deref());
    let expander = Expander::new(recipe.directives.escape);
    for located in &recipe.global_args {
        let Instruction::Arg(declarations) = &located.instruction else { continue };
        for declaration in declarations {
            let value = match (request.build_args.get(&declaration.name), &declaration.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let expansion = expander.expand(default, &|name| values.get(name).cloned());
                    Some(expansion.map(|expansion| expansion.value).map_err(|error| GraphError {
                        message: format!("cannot expand `{default}`: {error}"),
                        hint: None,
                        origin: Some(located.origin.clone()),
                    })?)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                values.insert(declaration.name.clone(), value);
            }
        }
    }
    assert!(values.len() <= limits::COPY_FILES, "a recipe's size bounds its arguments");
    Ok(values)
}

/// The arguments that every build has: target and build platform.
fn predefined(request: &BuildRequest, target: Option<&str>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (prefix, platform) in [("TARGET", &request.platform), ("BUILD", &Platform::host())] {
        values.insert(format!("{prefix}PLATFORM"), platform.to_string());
        values.insert(format!("{prefix}OS"), platform.os.clone());
        values.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        values.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
        values.insert(format!("{prefix}OSVERSION"), platform.os_version.clone().unwrap_or_default());
    }
    values.insert("TARGETSTAGE".to_owned(), target.unwrap_or("default").to_owned());
    // a build argument of the same name wins, as it does for declared ones
    for (name, value) in &mut values {
        if let Some(given) = request.build_args.get(name) {
            value.clone_from(given);
        }
    }
    values
}
