//! Recipes as files: found, read, and turned into standard ones.

use crate::{error::Failure, service::input};
use slipway_dockerfile::extension;
use slipway_oci::{Root, file, limits};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// Names of recipes in a context, the first one that is there counts.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// What a recipe on standard input is called in messages.
pub(crate) const STDIN_NAME: &str = "Dockerfile (standard input)";

/// The recipe that a build of `folder` takes when none is named.
pub(crate) fn find(folder: &Path) -> Result<PathBuf, Failure> {
    let here = folder.as_os_str() == ".";
    let joined = |name: &&str| if here { PathBuf::from(name) } else { folder.join(name) };
    NAMES.iter().map(joined).find(|path| path.is_file()).ok_or_else(|| {
        let words = format!("there is no `Dockerfile` in `{}`", folder.display());
        Failure::new(words).with_hint("name the recipe with -f FILE")
    })
}

/// Reads the recipe of a context that came from elsewhere: `named` in it, or the one that a build takes when none is.
/// What is no regular file inside the context is none. Answers the path and the text.
pub(crate) fn read_in(root: &Root, named: Option<&Path>) -> Result<(PathBuf, String), Failure> {
    let path = match named {
        Some(path) => path.strip_prefix("/").unwrap_or(path).to_owned(),
        None => {
            let there = |path: &PathBuf| root.metadata(path).is_ok();
            NAMES.iter().map(PathBuf::from).find(there).ok_or_else(|| {
                Failure::new("there is no `Dockerfile` in the context")
                    .with_hint("name the recipe with -f FILE")
            })?
        }
    };
    let shown = path.display().to_string();
    let bytes = root.read(&path, limits::RECIPE_BYTES).map_err(|error| {
        let failure = Failure::new(format!("cannot read the recipe `{shown}` of the context: {error}"));
        match root.read_link(&path) {
            Ok(target) => failure.with_hint(format!(
                "it is a link to `{}`; links of a context that was fetched lead nowhere but into it",
                target.display()
            )),
            Err(_) => failure,
        }
    })?;
    let text = text(bytes, &shown)?;
    Ok((path, text))
}

/// Reads a recipe's file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let bytes = file::read_capped(path, limits::RECIPE_BYTES)
        .map_err(|error| Failure::new(format!("cannot read the recipe `{}`: {error}", path.display())))?;
    text(bytes, &path.display().to_string())
}

/// Reads a recipe that the caller names, which may be a pipe.
pub(crate) fn read_named(flag: &'static str, path: &Path) -> Result<String, Failure> {
    text(input::read(flag, path, limits::RECIPE_BYTES)?, &path.display().to_string())
}

/// Reads a recipe from a stream.
pub(crate) fn read_from(stream: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    stream.take(limits::RECIPE_BYTES + 1).read_to_end(&mut bytes)?;
    text(bytes, name)
}

fn text(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    if bytes.len() as u64 > limits::RECIPE_BYTES {
        return Err(Failure::new(format!(
            "the recipe `{name}` is larger than {} bytes",
            limits::RECIPE_BYTES
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::new(format!("{name}:{line}: the recipe is not UTF-8 text"))
    })
}

/// Turns a recipe with extensions into a standard one, and says so in its name; others stay as they are. INCLUDE reads
/// from `folder` and nowhere else.
pub(crate) fn lower(recipe: &mut String, name: &mut String, folder: Option<&Path>) -> Result<(), Failure> {
    let mut include = |path: &str| -> std::io::Result<String> {
        let folder = folder.ok_or_else(|| std::io::Error::other("there is no build context"))?;
        let bytes = Root::open(folder)?.read(Path::new(path), limits::RECIPE_BYTES)?;
        String::from_utf8(bytes).map_err(std::io::Error::other)
    };
    let lowered = extension::lower(recipe, &mut include)
        .map_err(|found| crate::error::of_diagnostics(&found, recipe, name))?;
    if lowered.text != *recipe {
        *recipe = lowered.text;
        name.push_str(" (lowered)");
    }
    Ok(())
}
