//! Which paths a COPY or ADD takes.

use super::{Node, SourceTree, clean, join, name_of, parent_of, shown, walk};
use crate::{StepError, ValueError, limits};
use slipway_dockerfile::{
    glob::{self, GlobError},
    ignore::IgnoreFile,
    nearest,
};
use slipway_oci::layer::Kind;

/// What one source argument stands for.
#[derive(Debug)]
pub(crate) struct Pick {
    /// Name under which a file is put into a folder.
    pub(crate) name: Vec<u8>,
    /// The folder itself, where a folder's contents are taken.
    pub(crate) folder: Option<Node>,
    /// The folder is copied, not only what is in it: a destination that is not there becomes it, mode and all (BuildKit
    /// copies a git repository without `CopyDirContentsOnly`).
    pub(crate) itself: bool,
    /// Paths relative to the destination and what they are; a file alone has the empty path.
    pub(crate) nodes: Vec<(Vec<u8>, Node)>,
}

/// The rules of one instruction.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    /// `--exclude`, relative to each source.
    pub(crate) exclude: Option<IgnoreFile>,
    /// `--parents`.
    pub(crate) parents: bool,
}

impl Selector {
    /// Everything that the source argument `text` stands for in `tree`.
    pub(crate) fn select(&self, tree: &dyn SourceTree, text: &str) -> Result<Vec<Pick>, StepError> {
        let mut pattern = clean(text.as_bytes());
        let mut pivot = 0;
        // what stands before `/./` is not kept by --parents; there `**` is no more than `*`
        if let (true, Some((before, after))) = (self.parents, text.split_once("/./")) {
            let before = clean(before.replace("**", "*").as_bytes());
            pivot = before.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count();
            pattern = join(&before, &clean(after.as_bytes()));
        }
        if !has_wildcard(&pattern) {
            let path = match self.parents {
                // what is kept is a path, so nothing on it is followed: a link is copied as one
                true => is_plain(tree, &pattern).then(|| pattern.clone()),
                false => self.follow(tree, &pattern)?,
            };
            let path = path.filter(|path| tree.node(path).is_ok_and(|node| node.is_some()));
            let Some(path) = path else { return Err(self.missing(tree, text, &pattern)?) };
            let pick = self.pick(tree, &pattern, path, pivot)?;
            return match pick {
                Some(pick) => Ok(vec![pick]),
                None => Err(self.missing(tree, text, &pattern)?),
            };
        }
        let mut picks = Vec::new();
        for written in self.expand(tree, &pattern)? {
            let path = match tree.node(&written)? {
                Some(node) if node.entry.kind == Kind::Symlink && !self.parents => {
                    let leads_to = self.follow(tree, &written)?;
                    match leads_to {
                        Some(path) if tree.node(&path)?.is_some() => Some(path),
                        _ => return Err(self.missing(tree, &shown(&written), &written)?),
                    }
                }
                Some(_) => Some(written.clone()),
                None => None,
            };
            if let Some(path) = path {
                picks.extend(self.pick(tree, &written, path, pivot)?);
            }
        }
        way_once(&mut picks);
        Ok(picks)
    }

    /// One path and what is below it; `None` where the ignore file leaves nothing. An exclude does not reach the source
    /// itself, named or found by a wildcard (fsutil copy.go `copy`), but for --parents, where it is a path from the pivot
    /// on, as what is kept is (BuildKit `dispatchCopy`: the source of such a copy is the folder before the pivot).
    fn pick(
        &self,
        tree: &dyn SourceTree,
        written: &[u8],
        path: Vec<u8>,
        pivot: usize,
    ) -> Result<Option<Pick>, StepError> {
        let Some(mut node) = tree.node(&path)? else { return Ok(None) };
        let name = name_of(written).to_vec();
        let kept = if self.parents { kept_path(written, pivot) } else { Vec::new() };
        let left_out = !kept.is_empty() && self.excludes(&kept, node.entry.is_directory());
        if node.entry.is_directory() {
            let mut nodes = descend(tree, &path, &kept, self.exclude.as_ref())?;
            if nodes.is_empty() && left_out {
                return Ok(Some(Pick { name, folder: Some(node), itself: false, nodes }));
            }
            if node.ghost && nodes.is_empty() {
                return Ok(None);
            }
            if self.parents {
                let mut with_parents = ancestors(tree, written, pivot)?;
                // the folder itself was asked for
                with_parents.last_mut().into_iter().for_each(|(_, node)| node.passed = left_out);
                with_parents.extend(nodes.into_iter().map(|(rel, node)| (join(&kept, &rel), node)));
                nodes = with_parents;
            }
            return Ok(Some(Pick { name, folder: Some(node), itself: false, nodes }));
        }
        if node.ghost {
            return Ok(None);
        }
        if self.parents {
            let top = tree.node(b"")?;
            if left_out {
                return Ok(Some(Pick { name, folder: top, itself: false, nodes: Vec::new() }));
            }
            let mut nodes = ancestors(tree, parent_of(written).unwrap_or_default(), pivot)?;
            node.entry.path = path;
            nodes.push((kept, node));
            return Ok(Some(Pick { name, folder: top, itself: false, nodes }));
        }
        Ok(Some(Pick { name, folder: None, itself: false, nodes: vec![(Vec::new(), node)] }))
    }

    fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        self.exclude.as_ref().is_some_and(|exclude| exclude.matches(&shown(path), is_directory))
    }

    /// Follows links of a source argument, its last component included.
    fn follow(&self, tree: &dyn SourceTree, path: &[u8]) -> Result<Option<Vec<u8>>, StepError> {
        let mut pending: Vec<Vec<u8>> =
            path.split(|b| *b == b'/').filter(|p| !p.is_empty()).rev().map(<[u8]>::to_vec).collect();
        let mut done: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                done.truncate(parent_of(&done).map_or(0, <[u8]>::len));
                continue;
            }
            let here = join(&done, &part);
            match tree.node(&here)? {
                None => return Ok(None),
                Some(node) if node.entry.kind == Kind::Symlink => {
                    links += 1;
                    if links > slipway_oci::limits::SYMLINKS {
                        return Err(ValueError::Links(shown(path)).into());
                    }
                    if node.entry.link.starts_with(b"/") {
                        done.clear();
                    }
                    let parts = node.entry.link.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
                    pending.extend(parts.rev().map(<[u8]>::to_vec));
                }
                Some(_) => done = here,
            }
        }
        Ok(Some(done))
    }

    /// All paths that match a pattern, component by component; `**` crosses folders under --parents. Links are followed
    /// in the part before the first wildcard only, and with --parents nowhere.
    fn expand(&self, tree: &dyn SourceTree, pattern: &[u8]) -> Result<Vec<Vec<u8>>, StepError> {
        let text = shown(pattern);
        if self.parents && text.contains("**") {
            let deep = glob::Glob::deep(&text).map_err(|source| bad_pattern(&text, source))?;
            let all = descend(tree, b"", b"", None)?;
            let matching = all.into_iter().filter(|(path, _)| deep.matches(&shown(path)));
            return Ok(matching.map(|(path, _)| path).collect());
        }
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        let mut met_wildcard = false;
        for part in text.split('/') {
            let mut next = Vec::new();
            for folder in found {
                let folder =
                    if met_wildcard || self.parents { Some(folder) } else { self.follow(tree, &folder)? };
                let Some(folder) = folder else { continue };
                if !tree.node(&folder)?.is_some_and(|node| node.entry.is_directory()) {
                    continue;
                }
                if !has_wildcard(part.as_bytes()) {
                    let path = join(&folder, part.as_bytes());
                    next.extend(tree.node(&path)?.map(|_| path));
                    continue;
                }
                for (name, _) in tree.children(&folder)? {
                    if glob::matches(part, &shown(&name)).map_err(|source| bad_pattern(&text, source))? {
                        next.push(join(&folder, &name));
                    }
                }
            }
            found = next;
            met_wildcard |= has_wildcard(part.as_bytes());
        }
        Ok(found)
    }

    /// The error for a literal source that is not there, with the nearest name in its folder.
    fn missing(&self, tree: &dyn SourceTree, text: &str, path: &[u8]) -> Result<StepError, StepError> {
        if text.split('/').any(|part| part == "..") {
            let hint =
                Some(format!("`..` ends at the top of {}: nothing outside can be copied", tree.place()));
            return Ok(StepError::NotFound { path: text.to_owned(), place: tree.place(), hint });
        }
        let folder = self.follow(tree, parent_of(path).unwrap_or_default())?;
        let itself = folder.as_ref().map(|folder| tree.node(&join(folder, name_of(path)))).transpose()?;
        if let Some(node) = itself.flatten() {
            let reason = match node.entry.kind {
                Kind::Symlink => "it is a link that leads to nothing there",
                _ => "the ignore file leaves nothing of it",
            };
            let hint = Some(reason.to_owned());
            return Ok(StepError::NotFound { path: text.to_owned(), place: tree.place(), hint });
        }
        let names: Vec<String> = match folder {
            Some(folder) if tree.node(&folder)?.is_some_and(|node| node.entry.is_directory()) => {
                tree.children(&folder)?.into_iter().map(|(name, _)| shown(&name)).collect()
            }
            _ => Vec::new(),
        };
        let hint = nearest(&shown(name_of(path)), names.iter().map(String::as_str));
        let hint = hint.map(|name| {
            format!("did you mean `{}`?", shown(&join(parent_of(path).unwrap_or_default(), name.as_bytes())))
        });
        Ok(StepError::NotFound { path: text.to_owned(), place: tree.place(), hint })
    }
}

/// Whether all above a path are folders themselves, not links to some.
fn is_plain(tree: &dyn SourceTree, path: &[u8]) -> bool {
    let above = std::iter::successors(parent_of(path), |folder| parent_of(folder));
    above
        .filter(|folder| !folder.is_empty())
        .all(|folder| tree.node(folder).is_ok_and(|node| node.is_some_and(|node| node.entry.is_directory())))
}

fn bad_pattern(text: &str, source: GlobError) -> StepError {
    ValueError::Pattern { text: text.to_owned(), source }.into()
}

/// Everything below a folder, parents first, relative to it. For excludes the folder is called `within`.
pub(crate) fn descend(
    tree: &dyn SourceTree,
    folder: &[u8],
    within: &[u8],
    exclude: Option<&IgnoreFile>,
) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
    let list = |rel: &Vec<u8>| list(tree, folder, rel, within, exclude);
    let mut found = walk::all_below(Vec::new(), limits::COPY_FILES, &list)?;
    found.sort_by(|a, b| a.0.cmp(&b.0));
    drop_ghosts(&mut found);
    Ok(found)
}

/// What is taken of the folder `rel` in `folder`: paths relative to that.
fn list(
    tree: &dyn SourceTree,
    folder: &[u8],
    rel: &[u8],
    within: &[u8],
    exclude: Option<&IgnoreFile>,
) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
    let children = tree.children(&join(folder, rel))?;
    let mut taken = Vec::with_capacity(children.len());
    for (name, mut node) in children {
        let below = join(rel, &name);
        let is_directory = node.entry.is_directory();
        if let Some(exclude) = exclude {
            let path = shown(&join(within, &below));
            if exclude.matches(&path, is_directory) {
                (node.ghost, node.passed) = (true, true);
                if !is_directory || !exclude.may_reinclude_below(&path) {
                    continue;
                }
            }
        }
        let depth = || below.iter().filter(|byte| **byte == b'/').count();
        if is_directory && depth() >= slipway_oci::limits::TREE_DEPTH {
            return Err(ValueError::Nesting(shown(&below)).into());
        }
        taken.push((below, node));
    }
    Ok(taken)
}

/// Removes excluded folders below which nothing was re-included.
fn drop_ghosts(found: &mut Vec<(Vec<u8>, Node)>) {
    if !found.iter().any(|(_, node)| node.ghost) {
        return;
    }
    let mut needed: std::collections::HashSet<Vec<u8>> = std::collections::HashSet::new();
    let mut kept: Vec<(Vec<u8>, Node)> = Vec::with_capacity(found.len());
    for (path, node) in found.drain(..).rev() {
        if !node.ghost || needed.contains(&path) {
            if let Some(parent) = parent_of(&path).filter(|parent| !parent.is_empty()) {
                needed.insert(parent.to_vec());
            }
            kept.push((path, node));
        }
    }
    kept.reverse();
    *found = kept;
}

/// Folders on the way to several matches of one source are passed once.
fn way_once(picks: &mut [Pick]) {
    let mut seen: std::collections::HashSet<Vec<u8>> = std::collections::HashSet::new();
    for pick in picks {
        pick.nodes.retain(|(path, node)| !node.passed || !seen.contains(path));
        let folders = pick.nodes.iter().filter(|(_, node)| node.entry.is_directory());
        seen.extend(folders.map(|(path, _)| path.clone()));
    }
}

/// What --parents keeps of a path: all but its first `pivot` components.
fn kept_path(path: &[u8], pivot: usize) -> Vec<u8> {
    path.splitn(pivot + 1, |byte| *byte == b'/').nth(pivot).unwrap_or_default().to_vec()
}

/// The folders of a kept path, outermost first, the path itself included where it is a folder.
fn ancestors(tree: &dyn SourceTree, path: &[u8], pivot: usize) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
    let mut found = Vec::new();
    let mut here = Vec::new();
    for (index, part) in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).enumerate() {
        here = join(&here, part);
        if index < pivot {
            continue;
        }
        if let Some(node) = tree.node(&here)? {
            found.push((kept_path(&here, pivot), Node { passed: true, ..node }));
        }
    }
    Ok(found)
}

/// What stands before the pivot `/./` of --parents.
pub(crate) fn before_pivot(path: &str) -> &[u8] {
    path.split_once("/./").map_or(b"", |(before, _)| before.as_bytes())
}

/// Whether Go's `filepath.Match` would see more than letters (BuildKit `containsWildcards`).
pub(crate) fn has_wildcard(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}
