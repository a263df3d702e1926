//! Where the files of a build come from: images, the context, contexts by name. Each is looked up or opened once.

use super::locked;
use crate::{
    BuildRequest, Environment, Event, StepError,
    base::{self, BaseImage},
    context::ContextTree,
    transfer::LayeredTree,
};
use slipway_oci::{Digest, Platform, Reference, Root, layer::Tree, store::LayerForm};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

type ImageCell = Arc<OnceLock<Result<BaseImage, Arc<StepError>>>>;

/// A folder that a context's name stands for.
pub(crate) enum FoundFolder {
    /// The caller's: links that the build is told to read lead where they lead for the caller.
    Own(PathBuf),
    /// One that was made for this build from what somebody else wrote: nothing in it leads out of it.
    Fetched(PathBuf),
}

/// The sources of one build.
pub(crate) struct Sources<'a> {
    environment: &'a Environment<'a>,
    request: &'a BuildRequest,
    images: Mutex<HashMap<(Reference, String), ImageCell>>,
    context: OnceLock<Option<Arc<ContextTree>>>,
    named: Mutex<HashMap<String, Arc<ContextTree>>>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(environment: &'a Environment<'a>, request: &'a BuildRequest) -> Sources<'a> {
        Sources {
            environment,
            request,
            images: Mutex::default(),
            context: OnceLock::new(),
            named: Mutex::default(),
        }
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
            Err(error) => Err(StepError::Shared(error.clone())),
        }
    }

    /// The images that were looked up and found.
    pub(super) fn images(&self) -> Vec<(Reference, Platform, Digest)> {
        let images = locked(&self.images);
        let found = images.iter().filter_map(|((reference, platform), cell)| {
            let image = cell.get()?.as_ref().ok()?;
            Some((reference.clone(), platform.parse().ok()?, image.digest.clone()))
        });
        found.collect()
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
        find: impl FnOnce() -> Result<FoundFolder, StepError>,
    ) -> Result<Arc<ContextTree>, StepError> {
        let mut named = locked(&self.named);
        if let Some(tree) = named.get(name) {
            return Ok(tree.clone());
        }
        let found = find()?;
        let caches = self.environment.store.root().join("context");
        let ignore = match &found {
            FoundFolder::Own(folder) => crate::read_ignore_file(None, folder)?,
            FoundFolder::Fetched(folder) => {
                let root = Root::open(folder).map_err(StepError::io("open", folder))?;
                crate::read_ignore_file_in(None, &root)?
            }
        };
        let ignore = ignore.map(|(_, text)| text);
        let (FoundFolder::Own(folder) | FoundFolder::Fetched(folder)) = found;
        let place = format!("the context `{name}`");
        let tree = Arc::new(ContextTree::open(&folder, ignore.as_deref(), Some(&caches), place)?);
        named.insert(name.to_owned(), tree.clone());
        Ok(tree)
    }

    /// The file system of a row of layers as a source of files.
    pub(crate) fn layered(&self, layers: &[LayerForm], place: String) -> Result<LayeredTree<'a>, StepError> {
        let tree = base::tree(self.environment, layers)?;
        let diff_ids: Vec<Digest> = layers.iter().map(|form| form.diff_id.clone()).collect();
        for (at, form) in layers.iter().enumerate() {
            // a file may be read from any of them; those on disk already are not fetched
            let below = Tree::new(tree.layers()[..at].to_vec());
            if !self.environment.store.has_files(&form.diff_id, &below)? {
                base::fetch_layer(self.environment.store, self.environment.images, form)?;
            }
        }
        Ok(LayeredTree::new(self.environment.store, tree, diff_ids, place))
    }

    /// Saves what was learnt about the contexts' files.
    pub(crate) fn finish(mut self) {
        if let Some(context) = self.context.take().flatten().and_then(Arc::into_inner) {
            context.finish();
        }
        for (_, tree) in locked(&self.named).drain() {
            if let Some(tree) = Arc::into_inner(tree) {
                tree.finish();
            }
        }
    }
}
