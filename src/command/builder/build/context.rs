//! What CONTEXT and `--file` mean: a folder, standard input, git, a URL.

use crate::{error::Failure, git, images::Images, recipe};
use slipway_builder::{ImageSource, NamedContext, read_ignore_file};
use slipway_oci::{compression, file, layer, store::Store};
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// A build's folder and recipe.
pub(super) struct Context {
    pub(super) folder: Option<PathBuf>,
    pub(super) recipe: String,
    pub(super) recipe_name: String,
    pub(super) ignore: Option<String>,
    /// A folder that was made for this build.
    temporary: Option<PathBuf>,
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
        recipe: Option<&Path>,
    ) -> Result<Context, Failure> {
        let stdin_recipe = recipe.is_some_and(|path| path.as_os_str() == "-");
        if context == "-" && stdin_recipe {
            return Err(Failure::usage("context and recipe cannot both be standard input"));
        }
        let mut found = Context {
            folder: None,
            recipe: String::new(),
            recipe_name: String::new(),
            ignore: None,
            temporary: None,
        };
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
                git::checkout(&url, false, &work)?;
                found.folder = Some(work);
            }
            url if url.starts_with("http://") || url.starts_with("https://") => {
                let fetched = images.fetch_url(url, None)?;
                let blob = store.blobs().open_blob(&fetched.digest)?;
                inner = found.take_stream(store, blob)?;
            }
            path => {
                let folder = PathBuf::from(path);
                if !folder.is_dir() {
                    let why = if folder.exists() { "is not a folder" } else { "does not exist" };
                    return Err(Failure::new(format!("the context `{path}` {why}"))
                        .with_hint("the last argument is the folder that COPY takes files from"));
                }
                found.folder = Some(folder);
            }
        }
        match (inner, recipe) {
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

    fn scratch(&mut self, store: &Store) -> Result<PathBuf, Failure> {
        let folder = store.temporary_folder("context")?;
        self.temporary = Some(folder.clone());
        Ok(folder)
    }

    fn take_stdin(&mut self, store: &Store) -> Result<Option<String>, Failure> {
        self.take_stream(store, std::io::stdin())
    }

    /// A stream is an archive, which becomes the folder, or a recipe, whose text is answered.
    fn take_stream(&mut self, store: &Store, stream: impl Read + Send) -> Result<Option<String>, Failure> {
        let mut reader = BufReader::with_capacity(1 << 16, stream);
        let start = reader.fill_buf()?;
        let packed = compression::sniff(start) != compression::Format::Plain;
        let tar = start.len() > 262 && &start[257..262] == b"ustar";
        if packed || tar {
            let folder = self.scratch(store)?.join("context");
            std::fs::create_dir(&folder)?;
            layer::unpack(compression::decoder(reader)?, &folder, store.xattrs(), None).map_err(|error| {
                Failure::of(&error).with_hint("a context on standard input is a tar archive or a recipe")
            })?;
            self.folder = Some(folder);
            return Ok(None);
        }
        recipe::read_from(reader, recipe::STDIN_NAME).map(Some)
    }

    fn read_recipe(&mut self, recipe: Option<&Path>, stdin: bool) -> Result<(), Failure> {
        let folder = self.folder.clone().unwrap_or_default();
        let path = match recipe {
            Some(_) if stdin => {
                self.recipe_name = recipe::STDIN_NAME.to_owned();
                self.recipe = recipe::read_from(std::io::stdin(), recipe::STDIN_NAME)?;
                self.ignore = read_ignore(None, &folder)?;
                return Ok(());
            }
            // a path is the caller's own, except in a context that came from elsewhere
            Some(path) if self.temporary.is_some() => inside(&folder, path)?,
            Some(path) => path.to_owned(),
            None => recipe::find(&folder)?,
        };
        self.recipe = recipe::read(&path)?;
        self.recipe_name = path.display().to_string();
        self.ignore = read_ignore(Some(&path), &folder)?;
        Ok(())
    }
}

/// A recipe inside a context that is not ours: links must not lead out of it.
fn inside(folder: &Path, path: &Path) -> Result<PathBuf, Failure> {
    let root = slipway_oci::Root::open(folder)?;
    root.open_file(path).map_err(|error| {
        Failure::new(format!("cannot read the recipe `{}` of the context: {error}", path.display()))
    })?;
    Ok(folder.join(path.strip_prefix("/").unwrap_or(path)))
}

fn read_ignore(recipe: Option<&Path>, folder: &Path) -> Result<Option<String>, Failure> {
    if folder.as_os_str().is_empty() {
        return Ok(None);
    }
    let found = read_ignore_file(recipe, folder).map_err(|error| Failure::of(&error))?;
    Ok(found.map(|(_, text)| text))
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
