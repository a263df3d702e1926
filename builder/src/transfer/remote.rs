//! ADD of what is elsewhere: URLs and git repositories.

use super::{Bytes, Gathered, Gatherer, Node, Pick, SourceTree, archive, descend};
use crate::{StepError, ValueError, context::ContextTree, epoch::StageEpoch};
use percent_encoding::percent_decode_str;
use slipway_oci::{
    Digest, file,
    layer::{Entry, Kind, LayerError},
    store::Store,
};
use std::sync::Arc;

/// The files of a git repository.
pub(super) fn git<'t>(
    gatherer: &Gatherer<'_>,
    url: &str,
    trees: &mut Vec<Box<dyn SourceTree + 't>>,
) -> Result<Gathered, StepError> {
    let into = gatherer.scratch.path()?.join(file::temporary_name("git"));
    std::fs::create_dir(&into).map_err(StepError::io("create", &into))?;
    let commit = gatherer.environment.images.checkout(url, gatherer.keep_git_dir, &into)?;
    if let Some(wanted) = gatherer.checksum.as_deref().filter(|wanted| !commit.starts_with(*wanted)) {
        let (url, wanted) = (url.to_owned(), wanted.to_owned());
        return Err(StepError::Commit { url, found: commit, wanted });
    }
    let tree = ContextTree::open(&into, None, None, format!("`{url}`"))?;
    let nodes = descend(&tree, b"", b"", gatherer.selector.exclude.as_ref())?;
    let pick = Pick { name: Vec::new(), folder: tree.node(b"")?, itself: true, nodes };
    trees.push(Box::new(Arc::new(tree)));
    Ok(Gathered { pick, tree: trees.len() - 1, archive: None })
}

/// The file behind a URL, or the files in it with `--unpack`.
pub(super) fn url<'e: 't, 't>(
    gatherer: &Gatherer<'e>,
    url: &str,
    trees: &mut Vec<Box<dyn SourceTree + 't>>,
) -> Result<Gathered, StepError> {
    let store = gatherer.environment.store;
    let checksum = gatherer.checksum.as_deref().map(str::parse::<Digest>).transpose();
    let checksum = checksum.map_err(ValueError::from)?;
    let fetched = gatherer.environment.images.fetch_url(url, checksum.as_ref())?;
    let name = file_name(url);
    let blob = || store.blobs().open_blob(&fetched.digest).map_err(LayerError::from);
    let archive = (gatherer.unpack == Some(true) && archive::is_archive(blob()?)).then(|| url.to_owned());
    let mut entry = Entry::new(name.clone(), Kind::File, 0o600);
    entry.size_bytes = fetched.size_bytes;
    entry.mtime = fetched.modified.unwrap_or(0);
    entry.content = Some(fetched.digest.clone());
    let node = Node::new(entry);
    trees.push(Box::new(Blob { store, digest: fetched.digest, node: node.clone() }));
    let pick = Pick { name: name.into_bytes(), folder: None, itself: false, nodes: vec![(Vec::new(), node)] };
    Ok(Gathered { pick, tree: trees.len() - 1, archive })
}

/// The last name of a URL's path, its escapes resolved; `__unnamed__` where there is none (convert_copy.go
/// `dispatchCopy`).
fn file_name(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path =
        after.split(['?', '#']).next().and_then(|text| text.split_once('/')).map_or("", |(_, path)| path);
    let path = percent_decode_str(path).decode_utf8().unwrap_or_default().into_owned();
    let name = path.split('/').rfind(|name| !name.is_empty()).unwrap_or_default();
    match name {
        "" | "." | ".." => "__unnamed__".to_owned(),
        name if name.contains('\0') => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

/// Whether ADD fetches it.
pub(crate) fn is_remote(path: &str) -> bool {
    is_remote_url(path) || is_git_url(path)
}

/// Whether it is a URL of a file.
pub(crate) fn is_remote_url(path: &str) -> bool {
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

/// A blob of the store as a tree of one file.
struct Blob<'a> {
    store: &'a Store,
    digest: Digest,
    node: Node,
}

impl SourceTree for Blob<'_> {
    fn place(&self) -> String {
        "the fetched file".to_owned()
    }
    fn node(&self, _: &[u8]) -> Result<Option<Node>, StepError> {
        Ok(Some(self.node.clone()))
    }
    fn children(&self, _: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
        Ok(Vec::new())
    }
    fn open(&self, _: &Node) -> Result<Bytes<'_>, StepError> {
        Ok(Box::new(self.store.blobs().open_blob(&self.digest).map_err(LayerError::from)?))
    }
    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64 {
        epoch.clamp.apply(entry.mtime)
    }
}
