//! Layers applied in memory, and what the result has that the base had not.

use crate::support::image::Entry;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tar::EntryType;

/// A path of a file system.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    entry: Entry,
    /// Equal for names of one file.
    inode: usize,
}

/// A file system: what layers say, one upon the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    nodes: BTreeMap<String, Node>,
    next: usize,
}

impl Files {
    /// Applies one layer (image-spec `layer.md`): first what it removes from those beneath, then what it adds.
    pub(crate) fn apply(&mut self, layer: &[Entry]) {
        for entry in layer {
            let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            if name == ".wh..wh..opq" {
                self.remove(folder, false);
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                self.remove(&join(folder, hidden), true);
            }
        }
        for entry in layer {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            if entry.path.is_empty() || entry.path == "." || name.starts_with(".wh.") {
                continue;
            }
            self.add(entry);
        }
    }

    fn remove(&mut self, path: &str, itself: bool) {
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.nodes.retain(|other, _| !(other.starts_with(&below) || (itself && other == path)));
    }

    fn add(&mut self, entry: &Entry) {
        let path = entry.path.trim_start_matches("./").to_owned();
        let mut above = path.as_str();
        while let Some((folder, _)) = above.rsplit_once('/') {
            assert!(
                self.nodes.get(folder).is_none_or(|node| node.entry.kind == EntryType::Directory),
                "`{path}` is below what is no folder"
            );
            above = folder;
        }
        if entry.kind != EntryType::Directory {
            self.remove(&path, true);
        }
        self.next += 1;
        let node = match entry.kind {
            EntryType::Link => {
                let first = entry.link.trim_start_matches("./").trim_start_matches('/');
                self.nodes
                    .get(first)
                    .unwrap_or_else(|| panic!("`{path}` links to the missing `{first}`"))
                    .clone()
            }
            _ => Node { entry: entry.clone(), inode: self.next },
        };
        self.nodes.insert(path, node);
    }

    /// One line for each path that is not as it was in `base`.
    pub(crate) fn changes(&self, base: &Files) -> String {
        let (ours, theirs) = (self.lines(), base.lines());
        let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let mut text = String::new();
        for path in paths {
            match ours.get(path) {
                None => text += &format!("- /{path}\n"),
                Some(line) if theirs.get(path) != Some(line) => text += line,
                Some(_) => {}
            }
        }
        text
    }

    fn lines(&self) -> BTreeMap<String, String> {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        let line = |(path, node): (&'_ String, &Node), first: Option<&str>| {
            let entry = &node.entry;
            let owner = format!("{}:{}", entry.uid, entry.gid);
            let mode = entry.mode;
            let mut line = match entry.kind {
                EntryType::Directory => format!("d {mode:04o} {owner} /{path}"),
                EntryType::Symlink => format!("l {owner} /{path} -> {}", entry.link),
                EntryType::Fifo => format!("p {mode:04o} {owner} /{path}"),
                EntryType::Char | EntryType::Block => format!("c {mode:04o} {owner} /{path}"),
                _ => {
                    let digest = slipway_oci::Digest::sha256(&entry.content);
                    let (size, digest) = (entry.content.len(), &digest.hex()[..16]);
                    format!("f {mode:04o} {owner} {size} {digest} /{path}")
                }
            };
            if let Some(first) = first {
                line += &format!(" = /{first}");
            }
            for (name, value) in &entry.xattrs {
                let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                line += &format!(" {{{name}={hex}}}");
            }
            line + "\n"
        };
        let mut lines = BTreeMap::new();
        for (path, node) in &self.nodes {
            let earlier = first.get(&node.inode).copied();
            first.entry(node.inode).or_insert(path);
            lines.insert(path.clone(), line((path, node), earlier));
        }
        lines
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The keys that are compared, in this order.
const KEYS: [&str; 12] = [
    "Env",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Shell",
    "OnBuild",
    "Healthcheck",
];

/// What the configuration says that `base` does not.
pub(crate) fn configuration(config: &Value, base: &Value) -> String {
    let mut text = String::new();
    for key in KEYS {
        let (ours, theirs) = (normal(&config["config"][key], key), normal(&base["config"][key], key));
        if ours != theirs {
            text += &format!("{key} {ours}\n");
        }
    }
    if let Some(author) = config["author"].as_str().filter(|author| !author.is_empty()) {
        text += &format!("author {author:?}\n");
    }
    text
}

/// Without what says nothing, what names the tool, and with objects in order.
fn normal(value: &Value, key: &str) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> =
                map.iter().filter(|(name, _)| *name != "io.buildah.version").collect();
            if sorted.is_empty() { Value::Null } else { serde_json::to_value(sorted).unwrap() }
        }
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() || (key == "WorkingDir" && text == "/") => Value::Null,
        other => other.clone(),
    }
}
