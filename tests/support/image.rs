//! Images as a store has them: manifest, configuration, and the entries of their layers.

use serde_json::Value;
use std::fs;
use std::io::{BufReader, Read};

use super::Slipway;

/// An image, read from a store's blobs.
pub struct Image {
    pub digest: String,
    pub manifest: Value,
    pub config: Value,
    /// Every layer's entries, the lowest layer first.
    pub layers: Vec<Vec<Entry>>,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without a slash at either end.
    pub path: String,
    pub kind: tar::EntryType,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: String,
    pub content: Vec<u8>,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Image {
    /// Reads an image of the store.
    #[track_caller]
    pub fn read(slipway: &Slipway, name: &str) -> Image {
        let digest = slipway.digest(name);
        let manifest: Value = serde_json::from_slice(&blob(slipway, &digest)).unwrap();
        let config = serde_json::from_slice(&blob(slipway, text(&manifest["config"]["digest"]))).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let layers = layers.map(|layer| entries(&blob(slipway, text(&layer["digest"])))).collect();
        Image { digest, manifest, config, layers }
    }

    /// The topmost layer.
    #[track_caller]
    pub fn top(&self) -> &[Entry] {
        self.layers.last().expect("the image has layers")
    }

    /// An entry of the topmost layer.
    #[track_caller]
    pub fn entry(&self, path: &str) -> &Entry {
        let found = self.top().iter().find(|entry| entry.path == path);
        found.unwrap_or_else(|| panic!("no `{path}` in {:?}", self.paths()))
    }

    /// Paths of the topmost layer.
    pub fn paths(&self) -> Vec<&str> {
        self.top().iter().map(|entry| entry.path.as_str()).collect()
    }

    /// The container configuration.
    pub fn container(&self) -> &Value {
        &self.config["config"]
    }
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}

/// A blob's bytes, whose digest is checked.
#[track_caller]
pub fn blob(slipway: &Slipway, digest: &str) -> Vec<u8> {
    let path = slipway.root.join("blobs").join(digest.replace(':', "/"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(slipway_oci::Digest::sha256(&bytes).to_string(), digest);
    bytes
}

/// The entries of a layer, however it is compressed.
pub fn entries(bytes: &[u8]) -> Vec<Entry> {
    let decoder = slipway_oci::compression::decoder(BufReader::new(bytes)).unwrap();
    let mut archive = tar::Archive::new(decoder);
    archive.entries().unwrap().map(|entry| read(entry.unwrap())).collect()
}

fn read<R: Read>(mut entry: tar::Entry<'_, R>) -> Entry {
    let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
    let extensions = entry.pax_extensions().unwrap();
    let extensions = extensions.into_iter().flatten().flatten();
    let xattrs = extensions
        .filter_map(|extension| {
            let name = extension.key().ok()?.strip_prefix("SCHILY.xattr.")?;
            Some((name.to_owned(), extension.value_bytes().to_vec()))
        })
        .collect();
    let link =
        entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap()).unwrap_or_default();
    let header = entry.header();
    let mut found = Entry {
        path: path.trim_matches('/').to_owned(),
        kind: header.entry_type(),
        mode: header.mode().unwrap() & 0o7777,
        uid: header.uid().unwrap(),
        gid: header.gid().unwrap(),
        mtime: header.mtime().unwrap(),
        link,
        content: Vec::new(),
        xattrs,
    };
    entry.read_to_end(&mut found.content).unwrap();
    found
}
