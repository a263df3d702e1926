//! COPY and ADD.

use super::{Provided, StageState};
use crate::{
    Fact, Outcome, StepError, ValueError,
    cache::StepResult,
    clock,
    context::ContextTree,
    key::{CopyStep, InlineFile, Operation, StepDescription, chain_id, latest_time},
    limits,
    transfer::{
        self, Borrowed, Destination, Gathered, Gatherer, Ownership, Selector, SourceTree, Writing,
        WrittenLayer, is_remote,
    },
};
use slipway_dockerfile::{Source, Transfer, chmod::Chmod, ignore::IgnoreFile};
use slipway_oci::{
    Digest,
    layer::{Clamp, Tree},
    store::{LayerForm, NewLayer, Shape},
};
use std::sync::Arc;

/// From so many files on it is worth a thread to look for earlier layers that have them.
const MANY_FILES: usize = 1000;

/// Where the sources of one instruction are.
enum Origin {
    /// Another stage or image: named by its chain id, so that a hit needs no table of contents.
    Layers(Vec<LayerForm>, String),
    /// A folder.
    Folder(Arc<ContextTree>),
}

/// An instruction with its words expanded.
struct Expanded {
    keyword: &'static str,
    paths: Vec<String>,
    inline: Vec<(String, Vec<u8>)>,
    destination: String,
    chown: Option<String>,
    chmod: Option<Chmod>,
    /// `--chmod` as written, for the key.
    chmod_text: Option<String>,
    /// `--link`, which BuildKit passes over where there is a --chmod (convert_copy.go `dispatchCopy`).
    link: bool,
    /// The destination is made even where no wildcard matches: with --parents the folder before the pivot is what is
    /// copied, and it is there.
    makes_folder: bool,
    created_by: String,
}

impl StageState<'_, '_> {
    pub(super) fn transfer(
        &mut self,
        transfer: &Transfer,
        keyword: &'static str,
    ) -> Result<Outcome, StepError> {
        let expanded = self.expand_transfer(transfer, keyword)?;
        let fetches = |path: &String| keyword == "ADD" && is_remote(path);
        let origin = match &transfer.from {
            Some(from) => match self.provider(from)? {
                Provided::Layers(layers, place) => Some(Origin::Layers(layers, place)),
                Provided::Folder(folder) => Some(Origin::Folder(folder)),
            },
            None if expanded.paths.iter().all(fetches) => None,
            None => Some(Origin::Folder(self.solver.context()?)),
        };
        if let Some(url) = expanded.paths.iter().find(|path| keyword == "COPY" && is_remote(path)) {
            return Err(ValueError::CopyOfUrl(url.clone()).into());
        }
        let (layer, outcome) = match origin {
            Some(Origin::Layers(layers, place)) => {
                self.copy_from_layers(transfer, &expanded, layers, place)?
            }
            Some(Origin::Folder(folder)) => self.copy_from_folder(transfer, &expanded, Some(folder))?,
            None => self.copy_from_folder(transfer, &expanded, None)?,
        };
        self.push(layer, expanded.created_by)?;
        Ok(outcome)
    }

    fn expand_transfer(&self, transfer: &Transfer, keyword: &'static str) -> Result<Expanded, StepError> {
        let (mut paths, mut inline, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for source in &transfer.sources {
            match source {
                Source::Path(path) => {
                    paths.push(self.expand(path)?);
                    words.push(paths.last().cloned().unwrap_or_default());
                }
                Source::Heredoc(heredoc) => {
                    let name = transfer::clean(heredoc.name.as_bytes());
                    let name = String::from_utf8(name).unwrap_or_default();
                    if name.is_empty() || name.contains('/') {
                        return Err(ValueError::HeredocName(heredoc.name.clone()).into());
                    }
                    let body = &heredoc.content;
                    let body = if heredoc.expand { self.expand_body(body)? } else { body.clone() };
                    words.push(format!("<<{}", heredoc.name));
                    inline.push((name, body.into_bytes()));
                }
            }
        }
        match paths.as_slice() {
            _ if transfer.checksum.is_none() => {}
            [path] if is_remote(path) => {}
            [path] => return Err(ValueError::ChecksumOfFile(path.clone()).into()),
            _ => return Err(ValueError::ChecksumOfMany.into()),
        }
        let destination = self.expand(&transfer.destination)?;
        let option = |text: &Option<String>| text.as_deref().map(|text| self.expand(text)).transpose();
        let chown = option(&transfer.chown)?.filter(|text| !text.is_empty());
        let chmod = option(&transfer.chmod)?;
        let mut flags = String::new();
        for (name, value) in [("chown", &chown), ("chmod", &chmod), ("from", &transfer.from)] {
            if let Some(value) = value {
                flags.push_str(&format!("--{name}={value} "));
            }
        }
        let parse = |text: String| Chmod::parse(&text).map_err(ValueError::from);
        let chmod_text = chmod.filter(|text| !text.is_empty());
        let chmod = chmod_text.clone().map(parse).transpose()?;
        let created_by = format!("{keyword} {flags}{} {destination}", words.join(" "));
        let link = transfer.link && chmod_text.is_none();
        let makes_folder = transfer.parents
            && paths.iter().any(|path| !transfer::has_wildcard(transfer::before_pivot(path)));
        Ok(Expanded {
            keyword,
            paths,
            inline,
            destination,
            chown,
            chmod,
            chmod_text,
            link,
            makes_folder,
            created_by,
        })
    }

    /// What every transfer's key holds; where the files come from is filled in.
    fn describe_transfer(&self, transfer: &Transfer, expanded: &Expanded) -> CopyStep {
        let inline = |(name, bytes): &(String, Vec<u8>)| InlineFile {
            name: name.clone(),
            content: Digest::sha256(bytes),
        };
        CopyStep {
            from: None,
            paths: Vec::new(),
            selection: None,
            inline: expanded.inline.iter().map(inline).collect(),
            destination: expanded.destination.clone(),
            working_dir: self.working_dir(),
            chown: expanded.chown.clone(),
            chmod: expanded.chmod_text.clone(),
            link: expanded.link,
            parents: transfer.parents,
            makes_folder: expanded.makes_folder,
            unpack: transfer.unpack,
            exclude: transfer.exclude.clone(),
            latest_time: latest_time(self.epoch.clamp),
            made_time: None,
        }
    }

    fn transfer_step(&self, expanded: &Expanded, step: CopyStep) -> StepDescription {
        // --link knows nothing of what is beneath: its layer is the same on any base
        let beneath = (!step.link).then(|| self.chain());
        let operation = match expanded.keyword {
            "ADD" => Operation::Add(step),
            _ => Operation::Copy(step),
        };
        StepDescription::new(beneath, operation)
    }

    fn selector(&self, transfer: &Transfer) -> Result<Selector, StepError> {
        let exclude = match transfer.exclude.is_empty() {
            true => None,
            false => {
                let patterns = IgnoreFile::from_patterns(transfer.exclude.iter().map(String::as_str));
                Some(patterns.map_err(ValueError::from)?)
            }
        };
        Ok(Selector { exclude, parents: transfer.parents })
    }

    fn gather<'t>(
        &self,
        transfer: &Transfer,
        expanded: &Expanded,
        folder: Option<Arc<ContextTree>>,
        trees: &mut Vec<Box<dyn SourceTree + 't>>,
    ) -> Result<Vec<Gathered>, StepError>
    where
        Self: 't,
    {
        let checksum = transfer.checksum.as_deref().map(|text| self.expand(text)).transpose()?;
        let gatherer = Gatherer {
            environment: self.solver.environment,
            scratch: self.solver.scratch(),
            selector: self.selector(transfer)?,
            is_add: expanded.keyword == "ADD",
            unpack: transfer.unpack,
            keep_git_dir: transfer.keep_git_dir == Some(true),
            checksum,
        };
        gatherer.gather(&expanded.paths, folder, trees)
    }

    fn copy_from_layers(
        &mut self,
        transfer: &Transfer,
        expanded: &Expanded,
        layers: Vec<LayerForm>,
        place: String,
    ) -> Result<(Option<LayerForm>, Outcome), StepError> {
        let step = CopyStep {
            from: Some(chain_id(layers.iter().map(|form| &form.diff_id))),
            paths: expanded.paths.clone(),
            ..self.describe_transfer(transfer, expanded)
        };
        let description = self.transfer_step(expanded, step);
        let (solver, use_cache) = (self.solver, self.use_cache);
        solver.step(&description, &expanded.created_by, use_cache, || {
            let trees: Vec<Box<dyn SourceTree + '_>> = vec![Box::new(solver.layered(&layers, place)?)];
            let selector = self.selector(transfer)?;
            let mut gathered = Vec::new();
            for path in &expanded.paths {
                let picks = selector.select(&*trees[0], path)?.into_iter();
                gathered.extend(picks.map(|pick| Gathered { pick, tree: 0, archive: None }));
            }
            let placements = self.place(expanded, &gathered, &trees)?;
            self.layer_from(&placements, &trees, expanded, None)
        })
    }

    fn copy_from_folder(
        &mut self,
        transfer: &Transfer,
        expanded: &Expanded,
        folder: Option<Arc<ContextTree>>,
    ) -> Result<(Option<LayerForm>, Outcome), StepError> {
        let (solver, use_cache) = (self.solver, self.use_cache);
        let mut trees: Vec<Box<dyn SourceTree + '_>> = Vec::new();
        let mut gathered = self.gather(transfer, expanded, folder, &mut trees)?;
        let cancel = solver.environment.cancel;
        let mut written: Option<WrittenLayer> = None;
        if transfer::mostly_unknown(&gathered) {
            let placements = self.place(expanded, &gathered, &trees)?;
            let layer = transfer::write_layer(&placements, &trees, self.writing(None)?)?;
            transfer::fill(&mut gathered, &layer.digests);
            written = Some(layer);
        }
        transfer::digest_unknown(&mut gathered, &trees, cancel)?;
        let step = CopyStep {
            selection: Some(transfer::selection(&gathered, self.epoch.clamp == Clamp::Keep)),
            ..self.describe_transfer(transfer, expanded)
        };
        let description = self.transfer_step(expanded, step);
        solver.step(&description, &expanded.created_by, use_cache, || {
            let listing = transfer::listing(&gathered, limits::LISTING_BYTES);
            clock::tell(solver.environment.progress, Fact::Selected { listing: listing.as_bytes() });
            match written {
                Some(written) if written.layer.toc.entries().is_empty() => Ok(None),
                Some(written) => {
                    let form = written.adopt(solver.environment.store)?;
                    let placements = self.place(expanded, &gathered, &trees)?;
                    self.note_content(transfer::content_key(&placements), &form, expanded)?;
                    Ok(Some(form))
                }
                None => {
                    transfer::open_archives(&mut gathered, &mut trees, solver.scratch())?;
                    let (placements, new) = self.place_and_look(expanded, &gathered, &trees)?;
                    self.layer_from(&placements, &trees, expanded, new)
                }
            }
        })
    }

    fn place(
        &mut self,
        expanded: &Expanded,
        gathered: &[Gathered],
        trees: &[Box<dyn SourceTree + '_>],
    ) -> Result<transfer::Placements, StepError> {
        let chown = match &expanded.chown {
            None => None,
            Some(_) if expanded.link && expanded.chown.as_deref().is_some_and(has_names) => {
                return Err(ValueError::LinkedOwner.into());
            }
            Some(text) => Some(self.owner(text)?),
        };
        let ownership = Ownership { chown, chmod: expanded.chmod.clone() };
        let is_file = |one: &&Gathered| one.pick.folder.is_none() && one.archive.is_none();
        let files = gathered.iter().filter(is_file).count() + expanded.inline.len();
        let many = files > 1 || gathered.len() + expanded.inline.len() > 1;
        let (workdir, epoch) = (self.working_dir(), self.epoch);
        let beneath = if expanded.link { None } else { Some(self.tree()?.clone()) };
        let mut destination =
            Destination::new(beneath.as_ref(), &workdir, &expanded.destination, many, ownership, epoch)?;
        for one in gathered {
            destination.add(one, &*trees[one.tree])?;
        }
        for (name, bytes) in &expanded.inline {
            destination.add_bytes(name, bytes.clone())?;
        }
        Ok(destination.finish(expanded.makes_folder))
    }

    /// Places what was gathered. Where that is much, what the store has for the layer is looked up meanwhile.
    fn place_and_look(
        &mut self,
        expanded: &Expanded,
        gathered: &[Gathered],
        trees: &[Box<dyn SourceTree + '_>],
    ) -> Result<(transfer::Placements, Option<NewLayer>), StepError> {
        let is_archive = gathered.iter().any(|one| one.archive.is_some());
        if is_archive || gathered.iter().map(|one| one.pick.nodes.len()).sum::<usize>() < MANY_FILES {
            return Ok((self.place(expanded, gathered, trees)?, None));
        }
        let (store, compression) = (self.solver.environment.store, self.solver.request.compression);
        std::thread::scope(|scope| {
            let looked = scope.spawn(|| {
                let nodes = gathered.iter().flat_map(|one| &one.pick.nodes).map(|(_, node)| &node.entry);
                let known = nodes.filter_map(|entry| Some((entry.content.as_ref()?, entry.size_bytes)));
                store.new_layer(known, Some(compression))
            });
            let placements = self.place(expanded, gathered, trees);
            Ok((placements?, Some(looked.join().expect("looking does not panic"))))
        })
    }

    /// The layer of placed files: one that says the same is taken, else it is written.
    fn layer_from(
        &mut self,
        placements: &transfer::Placements,
        trees: &[Box<dyn SourceTree + '_>],
        expanded: &Expanded,
        new: Option<NewLayer>,
    ) -> Result<Option<LayerForm>, StepError> {
        if placements.is_empty() {
            return Ok(None);
        }
        let environment = self.solver.environment;
        let key = transfer::content_key(placements);
        if let Some(key) = key.as_ref().filter(|_| self.use_cache)
            && let Some(Some(form)) =
                environment.caches().find(&key.key(), &expanded.created_by, Some(&key.to_json()))?
        {
            return Ok(Some(form));
        }
        let written = transfer::write_layer(placements, trees, self.writing(new)?)?;
        let form = written.adopt(environment.store)?;
        self.note_content(key, &form, expanded)?;
        Ok(Some(form))
    }

    /// How this stage's layers are written: with the file that is mounted where something runs on them later.
    fn writing(&self, new: Option<NewLayer>) -> Result<Writing<'_>, StepError> {
        let environment = self.solver.environment;
        let is_mounted = || Ok::<_, StepError>(environment.store.layer_shape()?.shape != Shape::Unpacked);
        Ok(Writing {
            store: environment.store,
            compression: self.solver.request.compression,
            cancel: environment.cancel,
            image: self.runs_later && is_mounted()?,
            new,
        })
    }

    fn note_content(
        &self,
        key: Option<StepDescription>,
        form: &LayerForm,
        expanded: &Expanded,
    ) -> Result<(), StepError> {
        if let Some(key) = key {
            let (step, json) = (&expanded.created_by, key.to_json());
            let key = Digest::sha256(json.as_bytes());
            let result = StepResult { key: &key, layer: Some(form), step, description: Some(&json) };
            self.solver.environment.caches().put(&result)?;
        }
        Ok(())
    }

    /// A layer that holds everything below `path` of a tree, for mounts and for bases that are folders.
    pub(super) fn layer_of(
        &mut self,
        tree: &dyn SourceTree,
        path: &[u8],
        beneath: &Tree,
    ) -> Result<Option<LayerForm>, StepError> {
        let text = format!("/{}", transfer::shown(path));
        let picks = Selector::default().select(tree, &text)?;
        let shared: Box<dyn SourceTree + '_> = Box::new(Borrowed(tree));
        let trees = [shared];
        let mut gathered: Vec<Gathered> =
            picks.into_iter().map(|pick| Gathered { pick, tree: 0, archive: None }).collect();
        transfer::digest_unknown(&mut gathered, &trees, self.solver.environment.cancel)?;
        let target = if path.is_empty() { "/" } else { text.as_str() };
        let mut destination =
            Destination::new(Some(beneath), "/", target, false, Ownership::default(), self.epoch)?;
        for one in &gathered {
            destination.add(one, tree)?;
        }
        let expanded = Expanded {
            keyword: "COPY",
            paths: Vec::new(),
            inline: Vec::new(),
            destination: target.to_owned(),
            chown: None,
            chmod: None,
            chmod_text: None,
            link: false,
            makes_folder: false,
            created_by: format!("files of {}", tree.place()),
        };
        self.layer_from(&destination.finish(false), &trees, &expanded, None)
    }
}

/// Whether `user[:group]` has a name in it that only a file can tell; `root` and nothing are 0.
fn has_names(text: &str) -> bool {
    text.split(':').any(|part| !matches!(part, "" | "root") && part.parse::<u32>().is_err())
}
