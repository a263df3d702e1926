//! COPY and ADD.

use super::{Provided, StageState};
use crate::{
    Outcome, StepError,
    context::ContextTree,
    copy::{self, Destination, Gathered, Ownership, Pick, Selector, SourceTree},
    key::{KeyBuilder, chain_id},
};
use slipway_dockerfile::{Source, Transfer, chmod::Chmod, ignore::IgnoreFile};
use slipway_oci::{
    Descriptor, Digest,
    compression::{self, Format},
    layer::{Clamp, Entry, Kind, Layer, Tree},
    store::{CacheEntry, CachedLayer, LayerForm},
};
use std::{
    io::{BufReader, Read},
    sync::Arc,
};

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
    created_by: String,
}

impl StageState<'_, '_> {
    pub(super) fn transfer(
        &mut self,
        transfer: &Transfer,
        keyword: &'static str,
    ) -> Result<Outcome, StepError> {
        let expanded = self.expand_transfer(transfer, keyword)?;
        let is_remote = |path: &String| keyword == "ADD" && is_remote(path);
        let origin = match &transfer.from {
            Some(from) => match self.provider(from)? {
                Provided::Layers(layers, place) => Some(Origin::Layers(layers, place)),
                Provided::Folder(folder) => Some(Origin::Folder(folder)),
            },
            None if expanded.paths.iter().all(is_remote) => None,
            None => Some(Origin::Folder(self.solver.context()?)),
        };
        if let Some(url) = expanded.paths.iter().find(|path| keyword == "COPY" && is_remote_url(path)) {
            return Err(StepError::Value(format!("COPY does not fetch `{url}`: use ADD")));
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
                    let body = &heredoc.content;
                    let body = if heredoc.expand { self.expand_body(body)? } else { body.clone() };
                    words.push(format!("<<{}", heredoc.name));
                    inline.push((heredoc.name.clone(), body.into_bytes()));
                }
            }
        }
        let destination = self.expand(&transfer.destination)?;
        let option = |text: &Option<String>| text.as_deref().map(|text| self.expand(text)).transpose();
        let (chown, chmod) = (option(&transfer.chown)?, option(&transfer.chmod)?);
        let mut flags = String::new();
        for (name, value) in [("chown", &chown), ("chmod", &chmod), ("from", &transfer.from)] {
            if let Some(value) = value {
                flags.push_str(&format!("--{name}={value} "));
            }
        }
        let parse = |text: String| Chmod::parse(&text).map_err(|error| StepError::Value(error.to_string()));
        let chmod = chmod.filter(|text| !text.is_empty()).map(parse).transpose()?;
        let created_by = format!("{keyword} {flags}{} {destination}", words.join(" "));
        Ok(Expanded { keyword, paths, inline, destination, chown, chmod, created_by })
    }

    /// The part of the key that every transfer has.
    fn transfer_key(&self, transfer: &Transfer, expanded: &Expanded) -> KeyBuilder {
        // --link knows nothing of what is beneath: its layer is the same on any base
        let chain = if transfer.link { String::new() } else { self.chain() };
        let mut key = KeyBuilder::new(expanded.keyword, &chain);
        key.field("destination", &expanded.destination)
            .field("workdir", self.working_dir())
            .field("chown", expanded.chown.as_deref().unwrap_or_default())
            .field("chmod", format!("{:?}", expanded.chmod))
            .field("times", format!("{:?}", self.epoch.clamp))
            .field("flags", [u8::from(transfer.link), u8::from(transfer.parents)])
            .field("unpack", format!("{:?}", transfer.unpack))
            .list("exclude", &transfer.exclude);
        if self.epoch.clamp == Clamp::Keep {
            // folders that have to be made get the build's time, which is now
            key.field("created", "now");
        }
        for (name, bytes) in &expanded.inline {
            key.field("inline", name).field("bytes", bytes);
        }
        key
    }

    fn selector(&self, transfer: &Transfer) -> Result<Selector, StepError> {
        let exclude = match transfer.exclude.is_empty() {
            true => None,
            false => {
                let patterns = IgnoreFile::from_patterns(transfer.exclude.iter().map(String::as_str));
                Some(patterns.map_err(|error| StepError::Value(error.to_string()))?)
            }
        };
        Ok(Selector { exclude, parents: transfer.parents })
    }

    fn copy_from_layers(
        &mut self,
        transfer: &Transfer,
        expanded: &Expanded,
        layers: Vec<LayerForm>,
        place: String,
    ) -> Result<(Option<LayerForm>, Outcome), StepError> {
        let mut key = self.transfer_key(transfer, expanded);
        key.field("from", chain_id(layers.iter().map(|form| &form.diff_id))).list("paths", &expanded.paths);
        let (solver, use_cache) = (self.solver, self.use_cache);
        solver.step(&key.finish(), &expanded.created_by, use_cache, || {
            let trees: Vec<Box<dyn SourceTree + '_>> = vec![Box::new(solver.layered(&layers, place)?)];
            let selector = self.selector(transfer)?;
            let mut gathered = Vec::new();
            for path in &expanded.paths {
                let picks = selector.select(&*trees[0], path)?.into_iter();
                gathered.extend(picks.map(|pick| Gathered { pick, tree: 0, keeps_modes: false }));
            }
            let placements = self.place(transfer, expanded, &gathered, &trees)?;
            self.layer_from(&placements, &trees, expanded)
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
        let mut written: Option<Layer> = None;
        if copy::mostly_unknown(&gathered) {
            let placements = self.place(transfer, expanded, &gathered, &trees)?;
            let (blobs, compression) = (solver.environment.store.blobs(), solver.request.compression);
            let (layer, found) = copy::write_layer(&placements, &trees, blobs, compression, cancel)?;
            copy::fill(&mut gathered, &found);
            written = Some(layer);
        }
        copy::digest_unknown(&mut gathered, &trees, cancel)?;
        let mut key = self.transfer_key(transfer, expanded);
        copy::selection(&mut key, &gathered, self.epoch.clamp == Clamp::Keep);
        solver.step(&key.finish(), &expanded.created_by, use_cache, || match written {
            Some(layer) if layer.toc.entries().is_empty() => Ok(None),
            Some(layer) => {
                let form = solver.environment.store.adopt_layer(&layer, None)?;
                let placements = self.place(transfer, expanded, &gathered, &trees)?;
                self.note_content(&placements, &form, expanded)?;
                Ok(Some(form))
            }
            None => {
                let placements = self.place(transfer, expanded, &gathered, &trees)?;
                self.layer_from(&placements, &trees, expanded)
            }
        })
    }

    /// Everything that the sources of a COPY or ADD from a folder or from afar stand for.
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
        let selector = self.selector(transfer)?;
        let mut gathered = Vec::new();
        if let Some(folder) = &folder {
            trees.push(Box::new(folder.clone()));
        }
        let is_add = expanded.keyword == "ADD";
        for path in &expanded.paths {
            if is_add && is_git_url(path) {
                gathered.push(self.gather_git(path, transfer, trees)?);
                continue;
            }
            if is_add && is_remote_url(path) {
                gathered.push(self.gather_url(path, transfer, trees)?);
                continue;
            }
            let folder = folder.as_ref().ok_or(StepError::NoContext)?;
            for pick in selector.select(folder, path)? {
                let single = pick.folder.is_none() && pick.nodes.len() == 1;
                let archive = match is_add && single && transfer.unpack != Some(false) {
                    true => self.archive(folder, &pick.nodes[0].1)?,
                    false => None,
                };
                match archive {
                    Some(form) => gathered.push(self.gather_archive(form, trees)?),
                    None => gathered.push(Gathered { pick, tree: 0, keeps_modes: false }),
                }
            }
        }
        Ok(gathered)
    }

    /// An archive of the context as a layer of its own; `None` where the file is none.
    fn archive(&self, folder: &ContextTree, node: &copy::Node) -> Result<Option<LayerForm>, StepError> {
        if node.entry.kind != Kind::File || !is_archive(folder.open(node)?) {
            return Ok(None);
        }
        let failed = |error| StepError::io("read", node.entry.to_path())(error);
        let store = self.solver.environment.store;
        let mut writer = store
            .blobs()
            .writer(slipway_oci::Algorithm::Sha256)
            .map_err(slipway_oci::layer::LayerError::from)?;
        std::io::copy(&mut folder.open(node)?, &mut writer).map_err(failed)?;
        let (digest, size_bytes) = writer.commit(None).map_err(slipway_oci::layer::LayerError::from)?;
        self.archive_form(&digest, size_bytes).map(Some)
    }

    /// Registers an archive blob under its diff id, so that it is unpacked and indexed as layers are.
    fn archive_form(&self, digest: &Digest, size_bytes: u64) -> Result<LayerForm, StepError> {
        let store = self.solver.environment.store;
        let file = store.blobs().open_blob(digest).map_err(slipway_oci::layer::LayerError::from)?;
        let reader = compression::decoder(BufReader::with_capacity(1 << 18, file));
        let reader = reader.map_err(StepError::io("read", digest.to_string()))?;
        let indexed = slipway_oci::layer::index(reader)?;
        let descriptor = Descriptor::new("application/x-tar", digest.clone(), size_bytes);
        let form = LayerForm { diff_id: indexed.diff_id, descriptor };
        store.put_form(&form, indexed.archive_bytes)?;
        Ok(form)
    }

    fn gather_archive<'t>(
        &self,
        form: LayerForm,
        trees: &mut Vec<Box<dyn SourceTree + 't>>,
    ) -> Result<Gathered, StepError>
    where
        Self: 't,
    {
        let tree = self.solver.layered(&[form], "the archive".to_owned())?;
        let pick =
            Pick { name: Vec::new(), folder: tree.node(b"")?, nodes: copy::descend(&tree, b"", None)? };
        trees.push(Box::new(tree));
        Ok(Gathered { pick, tree: trees.len() - 1, keeps_modes: true })
    }

    fn gather_git<'t>(
        &self,
        url: &str,
        transfer: &Transfer,
        trees: &mut Vec<Box<dyn SourceTree + 't>>,
    ) -> Result<Gathered, StepError> {
        let solver = self.solver;
        let name = Digest::sha256(format!("{url} {:?}", transfer.keep_git_dir).as_bytes());
        let into = solver.temporary().join(format!(
            "git-{}-{}",
            name.short(),
            slipway_oci::file::temporary_name("")
        ));
        std::fs::create_dir(&into).map_err(StepError::io("create", &into))?;
        let commit = solver.environment.images.checkout(url, transfer.keep_git_dir == Some(true), &into)?;
        if let Some(wanted) = transfer.checksum.as_deref().filter(|wanted| !commit.starts_with(*wanted)) {
            return Err(StepError::Value(format!("`{url}` is at commit `{commit}`, not at `{wanted}`")));
        }
        let tree = ContextTree::open(&into, None, None, format!("`{url}`"))?;
        let pick =
            Pick { name: Vec::new(), folder: tree.node(b"")?, nodes: copy::descend(&tree, b"", None)? };
        trees.push(Box::new(Arc::new(tree)));
        Ok(Gathered { pick, tree: trees.len() - 1, keeps_modes: false })
    }

    fn gather_url<'t>(
        &self,
        url: &str,
        transfer: &Transfer,
        trees: &mut Vec<Box<dyn SourceTree + 't>>,
    ) -> Result<Gathered, StepError>
    where
        Self: 't,
    {
        let store = self.solver.environment.store;
        let checksum = transfer.checksum.as_deref().map(|text| self.expand(text)).transpose()?;
        let checksum = checksum.map(|text| text.parse::<Digest>()).transpose();
        let checksum = checksum.map_err(|error| StepError::Value(error.to_string()))?;
        let fetched = self.solver.environment.images.fetch_url(url, checksum.as_ref())?;
        if transfer.unpack == Some(true) {
            let file =
                store.blobs().open_blob(&fetched.digest).map_err(slipway_oci::layer::LayerError::from)?;
            if is_archive(file) {
                let form = self.archive_form(&fetched.digest, fetched.size_bytes)?;
                return self.gather_archive(form, trees);
            }
        }
        let from_url = url
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let name = Some(from_url).filter(|name| !name.is_empty()).or(fetched.file_name).unwrap_or_default();
        let folder_wanted = self.expand(&transfer.destination)?.ends_with('/');
        if name.is_empty() && folder_wanted {
            return Err(StepError::Value(format!("`{url}` has no file name: give the destination one")));
        }
        let mut entry = Entry::new(name.clone(), Kind::File, 0o600);
        entry.size_bytes = fetched.size_bytes;
        entry.mtime = fetched.modified.unwrap_or(0);
        entry.content = Some(fetched.digest.clone());
        let node = copy::Node { entry, inode: None, fingerprint: None, ghost: false };
        trees.push(Box::new(Blob { store, digest: fetched.digest, node: node.clone() }));
        let pick = Pick { name: name.into_bytes(), folder: None, nodes: vec![(Vec::new(), node)] };
        Ok(Gathered { pick, tree: trees.len() - 1, keeps_modes: false })
    }

    fn place(
        &mut self,
        transfer: &Transfer,
        expanded: &Expanded,
        gathered: &[Gathered],
        trees: &[Box<dyn SourceTree + '_>],
    ) -> Result<copy::Placements, StepError> {
        let chown = match &expanded.chown {
            None => None,
            Some(_) if transfer.link && expanded.chown.as_deref().is_some_and(has_names) => {
                let words =
                    "--chown with --link takes numbers only: there is no file system to look names up in";
                return Err(StepError::Value(words.to_owned()));
            }
            Some(text) => Some(self.chown(text)?),
        };
        let ownership = Ownership { chown, chmod: expanded.chmod.clone() };
        let files = gathered.iter().filter(|one| one.pick.folder.is_none()).count() + expanded.inline.len();
        let many = files > 1 || gathered.len() + expanded.inline.len() > 1;
        let (workdir, epoch) = (self.working_dir(), self.epoch);
        let beneath = if transfer.link { None } else { Some(self.tree()?.clone()) };
        let mut destination =
            Destination::new(beneath.as_ref(), &workdir, &expanded.destination, many, ownership, epoch)?;
        for one in gathered {
            destination.add(one, &*trees[one.tree])?;
        }
        for (name, bytes) in &expanded.inline {
            destination.add_bytes(name, bytes.clone())?;
        }
        Ok(destination.finish())
    }

    /// `user[:group]` of --chown: a number without a group is also the group's number.
    fn chown(&mut self, text: &str) -> Result<(u32, u32), StepError> {
        match text.parse::<u32>() {
            Ok(id) => Ok((id, id)),
            Err(_) => self.owner(text),
        }
    }

    /// The layer of placed files: one that says the same is taken, else it is written.
    fn layer_from(
        &mut self,
        placements: &copy::Placements,
        trees: &[Box<dyn SourceTree + '_>],
        expanded: &Expanded,
    ) -> Result<Option<LayerForm>, StepError> {
        if placements.is_empty() {
            return Ok(None);
        }
        let environment = self.solver.environment;
        if let Some(key) = copy::content_key(placements).filter(|_| self.use_cache)
            && let Some(CachedLayer::Layer(form)) = environment.store.cached(&key)?
        {
            return Ok(Some(*form));
        }
        let (blobs, compression) = (environment.store.blobs(), self.solver.request.compression);
        let (layer, _) = copy::write_layer(placements, trees, blobs, compression, environment.cancel)?;
        let form = environment.store.adopt_layer(&layer, None)?;
        self.note_content(placements, &form, expanded)?;
        Ok(Some(form))
    }

    fn note_content(
        &self,
        placements: &copy::Placements,
        form: &LayerForm,
        expanded: &Expanded,
    ) -> Result<(), StepError> {
        if let Some(key) = copy::content_key(placements) {
            let entry = CacheEntry {
                key: &key,
                diff_id: Some(&form.diff_id),
                step: &expanded.created_by,
                description: None,
            };
            self.solver.environment.store.put_cached(&entry)?;
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
        let text = format!("/{}", copy::shown(path));
        let picks = Selector::default().select(tree, &text)?;
        let shared: Box<dyn SourceTree + '_> = Box::new(Borrowed(tree));
        let trees = [shared];
        let mut gathered: Vec<Gathered> =
            picks.into_iter().map(|pick| Gathered { pick, tree: 0, keeps_modes: false }).collect();
        copy::digest_unknown(&mut gathered, &trees, self.solver.environment.cancel)?;
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
            created_by: format!("files of {}", tree.place()),
        };
        self.layer_from(&destination.finish(), &trees, &expanded)
    }
}

/// Whether `user[:group]` has a name in it.
fn has_names(text: &str) -> bool {
    text.split(':').any(|part| part.parse::<u32>().is_err())
}

fn is_remote(path: &str) -> bool {
    is_remote_url(path) || is_git_url(path)
}

fn is_remote_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

/// The forms that ADD takes for git repositories (BuildKit `gitutil.ParseGitRef`).
pub fn is_git_url(path: &str) -> bool {
    let without_fragment = path.split(['#', '?']).next().unwrap_or_default();
    path.starts_with("git://")
        || path.starts_with("ssh://")
        || (path.starts_with("git@") && path.contains(':'))
        || (is_remote_url(path) && without_fragment.ends_with(".git"))
}

/// Whether a stream begins with a tar header, compressed or not: what it is called does not count.
pub(super) fn is_archive(file: std::fs::File) -> bool {
    let mut reader = BufReader::new(file);
    let Ok(start) = std::io::BufRead::fill_buf(&mut reader) else { return false };
    let plain = compression::sniff(start) == Format::Plain;
    let Ok(mut decoder) = compression::decoder(reader) else { return false };
    let mut block = [0u8; 512];
    if decoder.read_exact(&mut block).is_err() {
        return false;
    }
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    let field = std::str::from_utf8(&block[148..156]).unwrap_or_default();
    let stated = u32::from_str_radix(field.trim_matches(['\0', ' ']), 8);
    let empty = block.iter().all(|byte| *byte == 0);
    (stated == Ok(sum) && !empty) || (empty && !plain)
}

/// A blob of the store as a tree of one file.
struct Blob<'a> {
    store: &'a slipway_oci::store::Store,
    digest: Digest,
    node: copy::Node,
}

impl SourceTree for Blob<'_> {
    fn place(&self) -> String {
        "the fetched file".to_owned()
    }
    fn node(&self, _: &[u8]) -> Result<Option<copy::Node>, StepError> {
        Ok(Some(self.node.clone()))
    }
    fn children(&self, _: &[u8]) -> Result<Vec<(Vec<u8>, copy::Node)>, StepError> {
        Ok(Vec::new())
    }
    fn open(&self, _: &copy::Node) -> Result<std::fs::File, StepError> {
        Ok(self.store.blobs().open_blob(&self.digest).map_err(slipway_oci::layer::LayerError::from)?)
    }
    fn mtime(&self, entry: &Entry, epoch: &crate::epoch::StageEpoch) -> i64 {
        epoch.clamp.apply(entry.mtime)
    }
}

/// A tree that somebody else owns.
struct Borrowed<'a>(&'a dyn SourceTree);

impl SourceTree for Borrowed<'_> {
    fn place(&self) -> String {
        self.0.place()
    }
    fn node(&self, path: &[u8]) -> Result<Option<copy::Node>, StepError> {
        self.0.node(path)
    }
    fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, copy::Node)>, StepError> {
        self.0.children(path)
    }
    fn open(&self, node: &copy::Node) -> Result<std::fs::File, StepError> {
        self.0.open(node)
    }
    fn mtime(&self, entry: &Entry, epoch: &crate::epoch::StageEpoch) -> i64 {
        self.0.mtime(entry, epoch)
    }
    fn learn(&self, node: &copy::Node, digest: Digest) {
        self.0.learn(node, digest);
    }
}
