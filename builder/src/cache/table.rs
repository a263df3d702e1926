//! Results of steps in the form in which they travel: an OCI artifact that any registry keeps.
//!
//! ```text
//! manifest   artifactType application/vnd.slipway.cache.v1
//!   config   application/vnd.slipway.cache.v1+json: the results, below
//!   layers   the layers that they led to, each once, with their usual media types: the registry keeps them for it
//! config     {"version":1,"layers":[DIFF ID, ...],"results":[{"of":DESCRIPTION,"step":TEXT,"layer":NUMBER}, ...]}
//! ```
//!
//! `layers` are the diff ids of the manifest's layers, in its order; `layer` counts from 0 and is left out where a step changed
//! nothing. A result has no key beside it: its key is the digest of `of`, the step's description as it was digested, so that no
//! key stands for what it is not made of, and what no step of this version is described by answers nobody. The same results are the same bytes, whoever writes them and when: there is no time,
//! no host and no path in them, and of a secret its name.
//!
//! Whoever reads one trusts nothing but the digests: what is no table, says one thing twice or names a layer that it does not
//! carry is refused whole. That a layer holds what its step makes is the word of whoever may write to the cache, and of nobody
//! else; that it is the layer of its diff id is checked when it is read.

use super::StepResult;
use crate::{Operation, StepDescription, limits};
use serde::{Deserialize, Serialize};
use slipway_oci::{
    Descriptor, Digest,
    artifact::{EMPTY, EMPTY_TYPE},
    spec::{Manifest, media_type, to_json},
    store::LayerForm,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a table is, as an artifact.
pub const CACHE_TYPE: &str = "application/vnd.slipway.cache.v1";
/// What its configuration is.
pub const CACHE_CONFIG_TYPE: &str = "application/vnd.slipway.cache.v1+json";

const VERSION: u32 = 1;

/// Why bytes are no table that is taken.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Not JSON of the form.
    #[error("it is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Made by a later Slipway.
    #[error("it has version {0}, this slipway knows {VERSION}: use a newer slipway")]
    Version(u32),
    /// Manifest and configuration do not belong together.
    #[error("its manifest names {manifest} layers, its configuration {config}")]
    Layers {
        /// How many the manifest has.
        manifest: usize,
        /// How many the configuration has.
        config: usize,
    },
    /// A layer that is none.
    #[error("`{0}` is no layer's media type")]
    MediaType(String),
    /// A result of a layer that is not there.
    #[error("it names layer {0}, which it does not carry")]
    NoLayer(usize),
    /// Two results of one step.
    #[error("`{0}` is in it twice")]
    Twice(String),
    /// More than is taken.
    #[error("it has more {0} than are taken")]
    Limit(&'static str),
}

/// One result of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableResult {
    /// The layer; `None` where the step changed nothing.
    pub layer: Option<LayerForm>,
    /// The step, for people.
    pub step: String,
    /// What the key is the digest of.
    pub description: String,
}

/// Results of steps, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheTable {
    results: BTreeMap<Digest, TableResult>,
}

/// A table as an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTable {
    /// The manifest; what it names beside its configuration are layers.
    pub manifest: Manifest,
    /// Its bytes.
    pub manifest_bytes: Vec<u8>,
    /// The bytes of its configuration.
    pub config_bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    layers: Vec<Digest>,
    results: Vec<WrittenResult>,
}

#[derive(Serialize, Deserialize)]
struct WrittenResult {
    of: String,
    step: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    layer: Option<usize>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl CacheTable {
    /// Takes a result; one without a description has no key that others could check, and one that is too long is left to be
    /// made again.
    pub fn note(&mut self, result: &StepResult<'_>) {
        let Some(description) =
            result.description.filter(|json| json.len() <= limits::TABLE_DESCRIPTION_BYTES)
        else {
            return;
        };
        let step = result.step.chars().take(limits::TABLE_STEP_CHARACTERS).collect();
        let description = description.to_owned();
        self.results
            .insert(result.key.clone(), TableResult { layer: result.layer.cloned(), step, description });
    }

    /// What a key led to.
    pub fn get(&self, key: &Digest) -> Option<&TableResult> {
        self.results.get(key)
    }

    /// All results, by key.
    pub fn results(&self) -> impl Iterator<Item = (&Digest, &TableResult)> {
        self.results.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Its layers, each once.
    pub fn layers(&self) -> Vec<&LayerForm> {
        let mut seen = BTreeSet::new();
        let layers = self.results.values().filter_map(|result| result.layer.as_ref());
        layers.filter(|layer| seen.insert(&layer.diff_id)).collect()
    }

    /// Of the results those that made an image's own layers, and those that changed nothing on the way to one: what buildx
    /// calls `mode=min`. `layers` are the image's diff ids, the base first.
    pub fn of_image(&self, layers: &[Digest]) -> CacheTable {
        let own: BTreeSet<&Digest> = layers.iter().collect();
        let chains: BTreeSet<String> =
            (0..=layers.len()).map(|count| crate::key::chain_id(&layers[..count])).collect();
        let beneath = |json: &str| {
            let description: Option<StepDescription> = serde_json::from_str(json).ok();
            description.and_then(|description| description.beneath)
        };
        let is_own = |result: &TableResult| match &result.layer {
            Some(layer) => own.contains(&layer.diff_id),
            None => beneath(&result.description).is_none_or(|beneath| chains.contains(&beneath)),
        };
        let results = self.results.iter().filter(|(_, result)| is_own(result));
        CacheTable { results: results.map(|(key, result)| (key.clone(), result.clone())).collect() }
    }

    /// Of the results those that say by what it holds that a layer is this one, for layers among `layers`. A build that finds
    /// a COPY by what it is made of is not told them, and whoever writes a cache keeps them.
    pub fn contents_of(&self, layers: &BTreeSet<Digest>) -> CacheTable {
        let is_wanted = |result: &TableResult| {
            let layer = result.layer.as_ref();
            layer.is_some_and(|layer| layers.contains(&layer.diff_id)) && is_content(&result.description)
        };
        let results = self.results.iter().filter(|(_, result)| is_wanted(result));
        CacheTable { results: results.map(|(key, result)| (key.clone(), result.clone())).collect() }
    }

    /// Takes the results of another table that it does not have.
    pub fn add(&mut self, other: CacheTable) {
        for (key, result) in other.results {
            self.results.entry(key).or_insert(result);
        }
    }

    /// Gives layers the blobs that `form` says.
    pub fn set_forms<E>(
        &mut self,
        mut form: impl FnMut(&LayerForm) -> Result<Descriptor, E>,
    ) -> Result<(), E> {
        let mut known: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        for layer in self.results.values_mut().filter_map(|result| result.layer.as_mut()) {
            let descriptor = match known.get(&layer.diff_id) {
                Some(descriptor) => descriptor.clone(),
                None => form(layer)?,
            };
            known.insert(layer.diff_id.clone(), descriptor.clone());
            layer.descriptor = descriptor;
        }
        Ok(())
    }

    /// The artifact; `subject` is the image that it is attached to.
    ///
    /// # Errors
    /// When there is more than a registry takes.
    pub fn pack(&self, subject: Option<Descriptor>) -> Result<PackedTable, TableError> {
        let layers = self.layers();
        if layers.len() > limits::TABLE_LAYERS {
            return Err(TableError::Limit("layers"));
        }
        let places: BTreeMap<&Digest, usize> =
            layers.iter().enumerate().map(|(place, layer)| (&layer.diff_id, place)).collect();
        let result = |result: &TableResult| WrittenResult {
            of: result.description.clone(),
            step: result.step.clone(),
            layer: result.layer.as_ref().map(|layer| places[&layer.diff_id]),
        };
        let written = Written {
            version: VERSION,
            layers: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            results: self.results.values().map(result).collect(),
        };
        let config_bytes = to_json(&written);
        if config_bytes.len() as u64 > limits::TABLE_BYTES {
            return Err(TableError::Limit("results"));
        }
        let plain = |layer: &&LayerForm| {
            let Descriptor { media_type, digest, size_bytes, .. } = &layer.descriptor;
            Descriptor::new(media_type, digest.clone(), *size_bytes)
        };
        let mut descriptors: Vec<Descriptor> = layers.iter().map(plain).collect();
        if descriptors.is_empty() {
            // the specification has no artifact without a layer
            descriptors.push(Descriptor::of(EMPTY_TYPE, EMPTY));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: Some(CACHE_TYPE.to_owned()),
            config: Descriptor::of(CACHE_CONFIG_TYPE, &config_bytes),
            layers: descriptors,
            subject,
            annotations: BTreeMap::new(),
        };
        Ok(PackedTable { manifest_bytes: to_json(&manifest), manifest, config_bytes })
    }

    /// Reads an artifact whose bytes were verified; its manifest's configuration is [`CACHE_CONFIG_TYPE`].
    ///
    /// # Errors
    /// When anything about it is not as it is written here: nothing of it is taken then.
    pub fn unpack(manifest: &Manifest, config_bytes: &[u8]) -> Result<CacheTable, TableError> {
        if config_bytes.len() as u64 > limits::TABLE_BYTES {
            return Err(TableError::Limit("bytes"));
        }
        let Versioned { version } = serde_json::from_slice(config_bytes)?;
        if version != VERSION {
            return Err(TableError::Version(version));
        }
        let written: Written = serde_json::from_slice(config_bytes)?;
        if written.results.len() > limits::TABLE_RESULTS {
            return Err(TableError::Limit("results"));
        }
        let layers: Vec<&Descriptor> =
            manifest.layers.iter().filter(|layer| layer.media_type != EMPTY_TYPE).collect();
        if layers.len() != written.layers.len() {
            return Err(TableError::Layers { manifest: layers.len(), config: written.layers.len() });
        }
        if let Some(layer) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            return Err(TableError::MediaType(layer.media_type.clone()));
        }
        let mut table = CacheTable::default();
        for WrittenResult { of, step, layer } in written.results {
            let layer = match layer {
                None => None,
                Some(place) => {
                    let diff_id = written.layers.get(place).ok_or(TableError::NoLayer(place))?.clone();
                    Some(LayerForm { diff_id, descriptor: layers[place].clone() })
                }
            };
            let step: String = step.chars().take(limits::TABLE_STEP_CHARACTERS).collect();
            let result = TableResult { layer, step: step.clone(), description: of };
            let key = Digest::sha256(result.description.as_bytes());
            if table.results.insert(key, result).is_some() {
                return Err(TableError::Twice(step));
            }
        }
        Ok(table)
    }
}

/// Whether a step's description is that of a layer by what it holds.
fn is_content(description: &str) -> bool {
    let told: Option<StepDescription> = serde_json::from_str(description).ok();
    told.is_some_and(|told| matches!(told.operation, Operation::Files { .. }))
}

/// Whether layers of this type are read.
fn is_layer(kind: &str) -> bool {
    kind == media_type::OCI_LAYER || kind == media_type::OCI_LAYER_GZIP || kind == media_type::OCI_LAYER_ZSTD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkdirStep;

    fn description(beneath: Option<&str>, path: &str) -> String {
        let step = WorkdirStep { path: path.to_owned(), user: String::new(), latest_time: None };
        StepDescription::new(beneath.map(str::to_owned), Operation::Workdir(step)).to_json()
    }

    fn layer(name: &str) -> LayerForm {
        let diff_id = Digest::sha256(name.as_bytes());
        let descriptor = Descriptor::of(media_type::OCI_LAYER_ZSTD, format!("blob of {name}").as_bytes());
        LayerForm { diff_id, descriptor }
    }

    fn put(table: &mut CacheTable, of: &str, step: &str, layer: Option<&LayerForm>) {
        let key = Digest::sha256(of.as_bytes());
        table.note(&StepResult { key: &key, layer, step, description: Some(of) });
    }

    fn table() -> CacheTable {
        let mut table = CacheTable::default();
        put(&mut table, &description(Some("scratch"), "/a"), "WORKDIR /a", Some(&layer("a")));
        put(&mut table, &description(Some("other"), "/b"), "WORKDIR /b", Some(&layer("b")));
        put(&mut table, &description(Some("elsewhere"), "/b"), "WORKDIR /b", Some(&layer("b")));
        put(&mut table, &description(Some("scratch"), "/"), "WORKDIR /", None);
        put(&mut table, &description(Some("elsewhere"), "/"), "WORKDIR /", None);
        table
    }

    #[test]
    fn what_is_packed_comes_back_and_is_the_same_in_any_order() {
        let packed = table().pack(None).expect("packed");
        assert_eq!(packed.manifest.layers.len(), 2, "each layer once");
        assert_eq!(packed.manifest.config, Descriptor::of(CACHE_CONFIG_TYPE, &packed.config_bytes));
        assert_eq!(CacheTable::unpack(&packed.manifest, &packed.config_bytes).expect("read"), table());
        let mut other = CacheTable::default();
        for (key, result) in table().results.iter().rev() {
            let TableResult { layer, step, description } = result;
            other.note(&StepResult { key, layer: layer.as_ref(), step, description: Some(description) });
        }
        assert_eq!(other.pack(None).expect("packed"), packed);
        let empty = CacheTable::default().pack(None).expect("packed");
        assert_eq!(empty.manifest.layers.len(), 1, "no artifact is without a layer");
        assert!(CacheTable::unpack(&empty.manifest, &empty.config_bytes).expect("read").is_empty());
    }

    #[test]
    fn of_an_image_is_what_made_its_layers() {
        let own = table().of_image(&[layer("a").diff_id]);
        let steps: Vec<&str> = own.results().map(|(_, result)| result.step.as_str()).collect();
        assert_eq!(BTreeSet::from_iter(steps), BTreeSet::from(["WORKDIR /a", "WORKDIR /"]));
        assert_eq!(own.len(), 2, "what changed nothing elsewhere is not the image's");
    }

    #[test]
    fn what_is_not_as_it_was_written_is_refused_whole() {
        let packed = table().pack(None).expect("packed");
        let text = String::from_utf8(packed.config_bytes.clone()).expect("text");
        let read = |text: &str| CacheTable::unpack(&packed.manifest, text.as_bytes());
        let refused = |text: &str| read(text).expect_err("refused").to_string();
        assert!(refused(&text[..text.len() / 2]).contains("not valid"));
        assert!(refused(&text.replace("\"version\":1,\"l", "\"version\":7,\"l")).contains("newer slipway"));
        assert!(refused(&text.replacen("\"layer\":0", "\"layer\":2", 1)).contains("layer 2"));
        assert!(refused(&text.replacen("WORKDIR /a", "WORKDIR /a\",\"of\":\"{}", 1)).contains("duplicate"));
        // a description that no step has is a key that nobody asks for
        for to in [r#"{\"version\": 2,"#, r#"{\"version\":3,\"more\":1,"#, "{", ""] {
            let changed = text.replacen(r#"{\"version\":2,"#, to, 1);
            assert_ne!(changed, text);
            let read = read(&changed).expect("read");
            let known = read.results.keys().filter(|key| table().get(key).is_some());
            assert_eq!((read.len(), known.count()), (5, 4), "{to}");
        }
        let at = text.find(r#"{"of""#).expect("a result");
        let end = at + text[at..].find("},{").expect("a second one") + 1;
        let twice = format!("{},{}", &text[..end], &text[at..]);
        assert!(refused(&twice).contains("twice"));
        let mut manifest = packed.manifest.clone();
        manifest.layers[0].media_type = "application/x-other".to_owned();
        assert!(CacheTable::unpack(&manifest, &packed.config_bytes).is_err());
        manifest.layers.pop();
        assert!(CacheTable::unpack(&manifest, &packed.config_bytes).is_err());
    }
}
