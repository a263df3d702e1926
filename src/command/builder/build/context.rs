//! What CONTEXT and `--file` mean: a folder, standard input, git, a URL.

use crate::{error::Failure, git, images::Images, recipe};
use slipway_builder::{ImageSource, NamedContext, attest::Material, read_ignore_file, read_ignore_file_in};
use slipway_oci::{Root, compression, file, layer, store::Store};
use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

/// What a recipe of a bake file is called.
const INLINE_NAME: &str = "dockerfile-inline";

/// Where the recipe is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    /// In the context, under one of its usual names.
    Nothing,
    /// In this file.
    File(&'a Path),
    /// Here.
    Text(&'a str),
}

/// A build's folder and recipe.
#[derive(Default)]
pub(super) struct Context {
    pub(super) folder: Option<PathBuf>,
    pub(super) recipe: String,
    pub(super) recipe_name: String,
    pub(super) ignore: Option<String>,
    /// What it is called in the history.
    pub(super) name: Option<String>,
    /// A folder that was made for this build, of what somebody else wrote: all that is read of it is read through its
    /// root.
    temporary: Option<PathBuf>,
    /// The commit time of a context that was checked out.
    checked_out: Option<i64>,
    /// The repository that it was checked out of, and the commit.
    pub(super) source: Option<(String, String)>,
    /// The archive or recipe that it was fetched as.
    pub(super) fetched: Option<Material>,
}

/// What a context is called where it is written down: an absolute path, or a URL without what may be a password.
fn called(context: &str) -> Option<String> {
    match context.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or_default();
            Some(format!("{scheme}://{host}/{path}"))
        }
        None if context == "-" || slipway_builder::is_git_url(context) => Some(context.to_owned()),
        None => Path::new(context).canonicalize().ok().map(|path| path.to_string_lossy().into_owned()),
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // swept later where it cannot be removed now
            let _ = file::remove_tree(temporary);
        }
    }
}

impl Context {
    /// Finds folder and recipe.
    pub(super) fn prepare(
        store: &Store,
        images: &Images<'_>,
        context: &str,
        given: Given<'_>,
    ) -> Result<Context, Failure> {
        let recipe = match given {
            Given::File(path) => Some(path),
            Given::Nothing | Given::Text(_) => None,
        };
        let stdin_recipe = recipe.is_some_and(|path| path.as_os_str() == "-");
        if context == "-" && stdin_recipe {
            return Err(Failure::usage("context and recipe cannot both be standard input"));
        }
        let mut found = Context::default();
        found.name = called(context);
        let mut inner = None;
        match context {
            "-" => inner = found.take_stdin(store)?,
            url if slipway_builder::is_git_url(url) || url.starts_with("github.com/") => {
                let url = url
                    .strip_prefix("github.com/")
                    .map_or_else(|| url.to_owned(), |rest| format!("https://github.com/{rest}.git"));
                let folder = found.scratch(store)?;
                let work = folder.join("context");
                std::fs::create_dir(&work)?;
                let checkout = git::checkout(&url, false, &work)?;
                (found.checked_out, found.source) = (checkout.time, Some((url, checkout.commit)));
                found.folder = Some(work);
            }
            url if url.starts_with("http://") || url.starts_with("https://") => {
                let fetched = images.fetch_url(url, None)?;
                found.fetched = Some(Material::Url { url: url.to_owned(), digest: fetched.digest.clone() });
                let blob = store.blobs().open_blob(&fetched.digest)?;
                inner = found.take_stream(store, blob)?;
            }
            path => {
                let folder = PathBuf::from(path);
                if folder.is_file() {
                    inner = found.take_stream(store, std::fs::File::open(&folder)?)?;
                    if inner.is_some() {
                        let words = format!("the context `{path}` is not a folder, nor an archive");
                        return Err(
                            Failure::new(words).with_hint("name a recipe with -f, and the folder it is for")
                        );
                    }
                } else if folder.is_dir() {
                    found.folder = Some(folder);
                } else {
                    let why = if folder.exists() { "is not a folder" } else { "does not exist" };
                    return Err(Failure::new(format!("the context `{path}` {why}"))
                        .with_hint("the last argument is the folder that COPY takes files from"));
                }
            }
        }
        match (inner, recipe) {
            (None, None) if let Given::Text(text) = given => found.take_text(text)?,
            (Some(text), None) => {
                found.recipe_name = recipe::STDIN_NAME.to_owned();
                found.recipe = text;
            }
            (Some(_), Some(_)) => {
                return Err(Failure::usage("the context is a recipe already: -f has no place"));
            }
            (None, recipe) => found.read_recipe(recipe, stdin_recipe)?,
        }
        recipe::lower(&mut found.recipe, &mut found.recipe_name, found.folder.as_deref())?;
        Ok(found)
    }

    /// Takes a recipe that is no file; the context's ignore file is its too.
    fn take_text(&mut self, text: &str) -> Result<(), Failure> {
        (self.recipe, self.recipe_name) = (text.to_owned(), INLINE_NAME.to_owned());
        let ignore = match (&self.temporary, &self.folder) {
            (Some(_), Some(folder)) => read_ignore_file_in(None, &Root::open(folder)?),
            (None, Some(folder)) => read_ignore_file(None, folder),
            (_, None) => Ok(None),
        };
        self.ignore = ignore.map_err(|error| Failure::of(&error))?.map(|(_, text)| text);
        Ok(())
    }

    fn scratch(&mut self, store: &Store) -> Result<PathBuf, Failure> {
        let folder = store.temporary_folder("context")?;
        self.temporary = Some(folder.clone());
        Ok(folder)
    }

    fn take_stdin(&mut self, store: &Store) -> Result<Option<String>, Failure> {
        self.take_stream(store, std::io::stdin())
    }

    /// A stream is an archive, which becomes the folder, or a recipe, whose text is answered.
    fn take_stream(
        &mut self,
        store: &Store,
        mut stream: impl Read + Send,
    ) -> Result<Option<String>, Failure> {
        // a pipe gives what is there: more may come
        let mut start = Vec::new();
        stream.by_ref().take(layer::SNIFF_BYTES).read_to_end(&mut start)?;
        let is_archive = compression::sniff(&start) != compression::Format::Plain || layer::is_header(&start);
        let reader = BufReader::with_capacity(1 << 16, start.as_slice().chain(stream));
        if !is_archive {
            return recipe::read_from(reader, recipe::STDIN_NAME).map(Some);
        }
        let folder = self.scratch(store)?.join("context");
        std::fs::create_dir(&folder)?;
        layer::unpack(compression::decoder(reader)?, &folder, store.xattrs(), None).map_err(|error| {
            Failure::of(&error).or_hint("a context on standard input is a tar archive or a recipe")
        })?;
        self.folder = Some(folder);
        Ok(None)
    }

    /// The commit time of the context, where it has one.
    pub(super) fn commit_time(&self) -> Option<i64> {
        let folder = self.folder.as_deref()?;
        match self.temporary {
            Some(_) => self.checked_out.or_else(|| git::time_in(folder)),
            None => git::time_at(folder),
        }
    }

    /// The commit that the context's folder is at, where it has one.
    pub(super) fn head(&self) -> Option<String> {
        let folder = self.folder.as_deref()?;
        if self.temporary.is_some() { git::head_in(folder) } else { git::head_at(folder) }
    }

    fn read_recipe(&mut self, recipe: Option<&Path>, stdin: bool) -> Result<(), Failure> {
        // a path is the caller's own, except in a context that came from elsewhere
        let fetched = match (&self.temporary, &self.folder) {
            (Some(_), Some(folder)) => Some(Root::open(folder)?),
            _ => None,
        };
        let mut path = None;
        match (&fetched, recipe) {
            _ if stdin => {
                self.recipe_name = recipe::STDIN_NAME.to_owned();
                self.recipe = recipe::read_from(std::io::stdin(), recipe::STDIN_NAME)?;
            }
            (Some(root), recipe) => {
                let (found, text) = recipe::read_in(root, recipe)?;
                (self.recipe, self.recipe_name) = (text, found.display().to_string());
                path = Some(found);
            }
            (None, recipe) => {
                let folder = self.folder.clone().unwrap_or_default();
                let (found, text) = match recipe {
                    Some(named) => (named.to_owned(), recipe::read_named("--file", named)?),
                    None => {
                        let found = recipe::find(&folder)?;
                        let text = recipe::read(&found)?;
                        (found, text)
                    }
                };
                (self.recipe, self.recipe_name) = (text, found.display().to_string());
                path = Some(found);
            }
        }
        let ignore = match (&fetched, &self.folder) {
            (Some(root), _) => read_ignore_file_in(path.as_deref(), root),
            (None, Some(folder)) => read_ignore_file(path.as_deref(), folder),
            (None, None) => Ok(None),
        };
        self.ignore = ignore.map_err(|error| Failure::of(&error))?.map(|(_, text)| text);
        Ok(())
    }
}

/// What `--build-context` means by its source.
pub(super) fn named(source: &str) -> Result<NamedContext, Failure> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(image.parse()?));
    }
    if let Some(layout) = source.strip_prefix("oci-layout://") {
        let (path, reference) = match layout.split_once('@') {
            Some((path, digest)) => (path, Some(digest.to_owned())),
            None => match layout.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
                _ => (layout, None),
            },
        };
        return Ok(NamedContext::Layout(std::path::absolute(path)?, reference));
    }
    if slipway_builder::is_git_url(source) {
        return Ok(NamedContext::Git(source.to_owned()));
    }
    if source.starts_with("http://") || source.starts_with("https://") {
        return Ok(NamedContext::Url(source.to_owned()));
    }
    let path = std::path::absolute(source)?;
    if !path.is_dir() {
        return Err(Failure::new(format!("--build-context: `{source}` is not a folder")));
    }
    Ok(NamedContext::Folder(path))
}
