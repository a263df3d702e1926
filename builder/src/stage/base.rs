//! FROM: what a stage begins with, and the triggers that its base brings.

use super::{Provided, StageState};
use crate::error::ProviderError;
use crate::{
    Base, NamedContext, StepError, ValueError, base, limits,
    solve::{AskStage, FoundFolder, Workshop},
    transfer::is_archive,
};
use slipway_dockerfile::{Expander, Located};
use slipway_oci::{
    Platform, compression,
    layer::{self, LayerError, Tree},
    spec::ImageConfig,
    store::LayerForm,
};
use std::{collections::BTreeSet, io::BufReader, os::unix::fs::PermissionsExt, path::Path};

/// `PATH` where a base sets none (BuildKit `system.DefaultPathEnvUnix`).
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The state of stage `index` after its FROM.
pub(super) fn begin<'s, 'a>(
    solver: &'s Workshop<'a>,
    stages: &'s AskStage<'s>,
    index: usize,
) -> Result<StageState<'s, 'a>, StepError> {
    let node = &solver.graph.stages[index];
    let platform = node.platform.clone().unwrap_or_else(|| solver.request.platform.clone());
    let request = solver.request;
    let use_cache = !request.no_cache
        && !request.no_cache_stages.iter().any(|name| name.eq_ignore_ascii_case(&node.label));
    let mut state = StageState {
        solver,
        stages,
        index,
        label: node.label.clone(),
        config: ImageConfig::empty(platform.clone()),
        platform,
        layers: Vec::new(),
        base_layers: 0,
        run_layers: BTreeSet::new(),
        arguments: Vec::new(),
        variables: Vec::new(),
        epoch: solver.epoch(None),
        expander: Expander::new(solver.recipe.directives.escape),
        has_command: false,
        use_cache,
        runs_later: false,
        tree: None,
        shown: 0,
    };
    match &node.base {
        Base::Scratch => {
            state.config.config.env.push(format!("PATH={DEFAULT_PATH}"));
            state.config.config.working_dir = Some("/".to_owned());
        }
        Base::Stage(base) => {
            let result = stages(*base).map_err(StepError::Dependency)?;
            state.config = result.config.clone();
            state.layers.clone_from(&result.layers);
            state.base_layers = result.base_layers;
            state.run_layers.clone_from(&result.run_layers);
            state.arguments.clone_from(&result.arguments);
            state.variables.clone_from(&result.variables);
            state.epoch = result.epoch;
        }
        Base::Image(reference) => {
            let image = solver.image(reference, &state.platform)?;
            adopt(&mut state, image.record.config, image.layers);
        }
        Base::Context(name) => begin_context(&mut state, name)?,
    }
    state.begin_variables();
    Ok(state)
}

fn adopt(state: &mut StageState<'_, '_>, config: ImageConfig, layers: Vec<LayerForm>) {
    state.epoch = state.solver.epoch(config.created_seconds());
    state.config = config;
    state.base_layers = layers.len();
    state.layers = layers;
    let has_path = state.config.config.env.iter().any(|entry| entry.starts_with("PATH="));
    if !has_path {
        state.config.config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
}

/// A stage whose base is a context given by name: an image, or a folder that becomes its only layer.
fn begin_context(state: &mut StageState<'_, '_>, name: &str) -> Result<(), StepError> {
    let solver = state.solver;
    if let Some(image) = named_image(solver, name, &state.platform)? {
        adopt(state, image.record.config, image.layers);
        return Ok(());
    }
    let Provided::Folder(folder) = named(solver, name, &state.platform)? else {
        return Err(ProviderError::NoImage(name.to_owned()).into());
    };
    state.config.config.env.push(format!("PATH={DEFAULT_PATH}"));
    let form = state.layer_of(&*folder, b"", &Tree::default())?;
    state.layers.extend(form);
    Ok(())
}

fn find<'r>(solver: &'r Workshop<'_>, name: &str) -> Option<&'r NamedContext> {
    let normal = |text: &str| text.parse::<slipway_oci::Reference>().map(|r| r.or_latest().to_string()).ok();
    let contexts = &solver.request.contexts;
    contexts.get(name).or_else(|| {
        let wanted = normal(name)?;
        contexts.iter().find(|(key, _)| normal(key).as_ref() == Some(&wanted)).map(|(_, context)| context)
    })
}

fn named_image(
    solver: &Workshop<'_>,
    name: &str,
    platform: &Platform,
) -> Result<Option<base::BaseImage>, StepError> {
    match find(solver, name) {
        Some(NamedContext::Image(reference)) => {
            Ok(Some(solver.image(&reference.clone().or_latest(), platform)?))
        }
        Some(NamedContext::Layout(folder, reference)) => {
            let digest = solver.environment.images.layout(folder, reference.as_deref(), platform)?;
            Ok(Some(base::from_digest(solver.environment, digest)?))
        }
        _ => Ok(None),
    }
}

/// The files of a context given by name.
pub(super) fn named(solver: &Workshop<'_>, name: &str, platform: &Platform) -> Result<Provided, StepError> {
    if let Some(image) = named_image(solver, name, platform)? {
        return Ok(Provided::Layers(image.layers, format!("the context `{name}`")));
    }
    let folder = solver.named_folder(name, || {
        let fresh = || {
            let label = slipway_oci::Digest::sha256(name.as_bytes());
            let into = solver.scratch().path()?.join(format!("context-{}", label.short()));
            std::fs::create_dir(&into).map_err(StepError::io("create", &into)).map(|()| into)
        };
        match find(solver, name) {
            Some(NamedContext::Folder(folder)) => Ok(FoundFolder::Own(folder.clone())),
            Some(NamedContext::Git(url)) => {
                let into = fresh()?;
                solver.environment.images.checkout(url, false, &into)?;
                Ok(FoundFolder::Fetched(into))
            }
            Some(NamedContext::Url(url)) => {
                let into = fresh()?;
                fetch_context(solver, url, &into)?;
                Ok(FoundFolder::Fetched(into))
            }
            _ => Err(ProviderError::NoContext(name.to_owned()).into()),
        }
    })?;
    Ok(Provided::Folder(folder))
}

/// What a URL holds as a folder: an archive unpacked, as buildah does; anything else as the file `context`, which is
/// BuildKit's name for it.
fn fetch_context(solver: &Workshop<'_>, url: &str, into: &Path) -> Result<(), StepError> {
    let store = solver.environment.store;
    let fetched = solver.environment.images.fetch_url(url, None)?;
    let open = || store.blobs().open_blob(&fetched.digest).map_err(LayerError::from);
    if is_archive(open()?) {
        let reader = compression::decoder(BufReader::with_capacity(1 << 18, open()?));
        let reader = reader.map_err(StepError::io("read", url))?;
        layer::unpack(reader, into, store.xattrs(), None)?;
        return Ok(());
    }
    let path = into.join("context");
    let mut file = std::fs::File::create_new(&path).map_err(StepError::io("create", &path))?;
    std::io::copy(&mut open()?, &mut file).map_err(StepError::io("write", &path))?;
    // what ADD gives a fetched file, whatever the umask
    let mode = std::fs::Permissions::from_mode(0o600);
    file.set_permissions(mode).map_err(StepError::io("write", &path))?;
    Ok(())
}

/// The triggers of the base image, parsed; they are taken out of the configuration, so that they fire once.
pub(super) fn triggers(state: &mut StageState<'_, '_>) -> Result<Vec<Located>, StepError> {
    let texts = std::mem::take(&mut state.config.config.on_build);
    if texts.len() > limits::TRIGGERS {
        return Err(ValueError::TooMany {
            what: "the base image",
            most: limits::TRIGGERS,
            things: "triggers",
        }
        .into());
    }
    let escape = state.solver.recipe.directives.escape;
    texts
        .into_iter()
        .map(|text| {
            slipway_dockerfile::parse_onbuild(&text, escape).map_err(|diagnostics| {
                let reason =
                    diagnostics.into_iter().map(|diagnostic| diagnostic.message).next().unwrap_or_default();
                StepError::Trigger { text, reason }
            })
        })
        .collect()
}
