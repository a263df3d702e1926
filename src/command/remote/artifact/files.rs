//! Files of the command line as blobs of an artifact.

use crate::error::Failure;
use slipway_oci::{
    Algorithm, Descriptor, Digest,
    artifact::{self, ANNOTATION_DIGEST, ANNOTATION_TITLE, ANNOTATION_UNPACK, EMPTY, FILE_TYPE, FOLDER_TYPE},
    digest::{HashingReader, HashingWriter},
};
use slipway_registry::client::{BlobReader, BlobSource};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// A file with its type: `PATH[:TYPE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) media_type: Option<String>,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        // a type has one slash within it, a path after the last colon none that looks so
        let typed = text.rsplit_once(':').filter(|(path, kind)| !path.is_empty() && is_type(kind));
        match typed {
            Some((path, kind)) => Ok(Named { path: path.into(), media_type: Some(kind.to_owned()) }),
            None if text.is_empty() => Err("it is PATH[:TYPE]".to_owned()),
            None => Ok(Named { path: text.into(), media_type: None }),
        }
    }
}

/// Whether a text is a media type (RFC 6838, section 4.2).
pub(super) fn is_type(text: &str) -> bool {
    let name = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
        (1..=127).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    text.split_once('/').is_some_and(|(kind, sub)| name(kind) && name(sub))
}

/// What an artifact is made of, and where its bytes are.
pub(super) struct Files {
    folder: PathBuf,
    places: BTreeMap<Digest, PathBuf>,
}

impl Files {
    /// `folder` is for what has to be packed, and exists.
    pub(super) fn new(folder: PathBuf) -> Files {
        Files { folder, places: BTreeMap::new() }
    }

    /// Adds a file or folder as a layer.
    pub(super) fn layer(&mut self, named: &Named) -> Result<Descriptor, Failure> {
        let Named { path, media_type } = named;
        let metadata = fs::metadata(path).map_err(|error| unread(path, &error))?;
        let title = title(path)?;
        let kind = |usual: &str| media_type.clone().unwrap_or_else(|| usual.to_owned());
        let mut layer = if metadata.is_dir() {
            let packed = self.folder.join(self.places.len().to_string());
            let output = File::create(&packed).map_err(|error| unread(&packed, &error))?;
            let mut output = HashingWriter::new(output);
            let content = artifact::pack(path, &title, &mut output).map_err(|error| Failure::of(&error))?;
            let (_, digest, size) = output.finish();
            self.places.insert(digest.clone(), packed);
            let mut layer = Descriptor::new(kind(FOLDER_TYPE), digest, size);
            layer.annotations.insert(ANNOTATION_DIGEST.to_owned(), content.to_string());
            layer.annotations.insert(ANNOTATION_UNPACK.to_owned(), "true".to_owned());
            layer
        } else {
            self.file(path, kind(FILE_TYPE))?
        };
        layer.annotations.insert(ANNOTATION_TITLE.to_owned(), title);
        Ok(layer)
    }

    /// Adds a file without a name.
    pub(super) fn file(&mut self, path: &Path, media_type: String) -> Result<Descriptor, Failure> {
        let file = File::open(path).map_err(|error| unread(path, &error))?;
        let mut reader = HashingReader::new(file, Algorithm::Sha256);
        io::copy(&mut reader, &mut io::sink()).map_err(|error| unread(path, &error))?;
        let (_, digest, size) = reader.finish();
        self.places.insert(digest.clone(), path.to_owned());
        Ok(Descriptor::new(media_type, digest, size))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // swept later where it cannot be removed now
        let _ = slipway_oci::file::remove_tree(&self.folder);
    }
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read `{}`: {error}", path.display()))
}

/// The name that a file has in an artifact: its path where that lies within the folder that the caller is in, else its last part.
fn title(path: &Path) -> Result<String, Failure> {
    let own = path.to_str().and_then(artifact::safe_name);
    let last = || path.file_name().and_then(|name| name.to_str()).and_then(artifact::safe_name);
    own.or_else(last).ok_or_else(|| {
        Failure::usage(format!("`{}` has no name that a file of an artifact can have", path.display()))
            .with_hint("name it by a path within this folder")
    })
}

impl BlobSource for Files {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn BlobReader>> {
        match self.places.get(digest) {
            Some(path) => Ok(Box::new(File::open(path)?)),
            None => Ok(Box::new(io::Cursor::new(EMPTY))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_stand_after_the_last_colon() {
        for (text, path, kind) in [
            ("a", "a", None),
            ("a:text/plain", "a", Some("text/plain")),
            ("a/b.json:application/vnd.x+json", "a/b.json", Some("application/vnd.x+json")),
            ("a:b", "a:b", None),
            ("a:b/c/d", "a:b/c/d", None),
            ("a:/b", "a:/b", None),
            (":text/plain", ":text/plain", None),
        ] {
            let named: Named = text.parse().expect(text);
            assert_eq!((named.path.to_str(), named.media_type.as_deref()), (Some(path), kind), "{text}");
        }
        assert!("".parse::<Named>().is_err());
    }

    #[test]
    fn titles_lie_within_the_folder() {
        for (path, name) in [("a", "a"), ("./a/b", "a/b"), ("/tmp/x", "x"), ("../y/z", "z")] {
            assert_eq!(title(Path::new(path)).ok().as_deref(), Some(name), "{path}");
        }
        assert!(
            title(Path::new("..")).is_err()
                && title(Path::new("/")).is_err()
                && title(Path::new(".")).is_err()
        );
    }
}
