//! Results that travel: what one machine made, another one with an empty store finds and does not make.

use super::{Bench, words};
use crate::{
    BuildError, BuildOutput, BuildRequest, CacheSink, CacheSource, Environment, Fetched, FoundResult,
    ImageExporter, ImageShape, ImageSource, SourceError, StepDescription, StepResult,
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    store::{LayerForm, Store},
};
use std::{collections::BTreeMap, path::Path, sync::Mutex};

/// Where the other machine's layers are.
const AFAR: &str = "afar.example/layers";

type Kept = (Option<LayerForm>, Option<String>);

/// A cache that is nothing but memory.
#[derive(Default)]
struct Memory {
    /// Layer and description by key.
    results: Mutex<BTreeMap<Digest, Kept>>,
    is_broken: bool,
}

impl CacheSink for Memory {
    fn note(&self, result: &StepResult<'_>) -> Result<(), SourceError> {
        let kept = (result.layer.cloned(), result.description.map(str::to_owned));
        self.results.lock().expect("results").insert(result.key.clone(), kept);
        if self.is_broken { Err(SourceError::new("the cache is full")) } else { Ok(()) }
    }
}

impl CacheSource for Memory {
    fn find(&self, key: &Digest) -> Result<Option<FoundResult>, SourceError> {
        if self.is_broken {
            return Err(SourceError::new("the cache does not answer"));
        }
        let found = self.results.lock().expect("results").get(key).cloned();
        Ok(found.map(|(layer, _)| FoundResult { layer, repositories: vec![AFAR.to_owned()] }))
    }
}

/// Another machine's store, from which blobs can be had; says which were asked for.
struct Afar<'a> {
    from: &'a Store,
    to: &'a Store,
    fetched: Mutex<Vec<Digest>>,
}

impl ImageSource for Afar<'_> {
    fn resolve(&self, reference: &Reference, _: &Platform, _: bool) -> Result<Digest, SourceError> {
        Err(SourceError::new(format!("nobody has {reference}")))
    }
    fn allow(&self, _: &Reference, _: &Digest, _: &Digest) -> Result<(), SourceError> {
        Ok(())
    }

    fn fetch(&self, blob: &Descriptor, repositories: &[String]) -> Result<(), SourceError> {
        assert_eq!(repositories, [AFAR]);
        let bytes = self.from.blobs().open_blob(&blob.digest).map_err(SourceError::new)?;
        let mut writer = self.to.blobs().writer(slipway_oci::Algorithm::Sha256).map_err(SourceError::new)?;
        std::io::copy(&mut { bytes }, &mut writer).map_err(SourceError::new)?;
        writer.commit(Some((&blob.digest, blob.size_bytes))).map_err(SourceError::new)?;
        self.fetched.lock().expect("fetched").push(blob.digest.clone());
        Ok(())
    }
    fn fetch_layers(&self, _: &[LayerForm], missing: &[LayerForm]) -> Result<(), SourceError> {
        missing.iter().try_for_each(|layer| self.fetch(&layer.descriptor, &[AFAR.to_owned()]))
    }
    fn fetch_url(&self, url: &str, _: Option<&Digest>) -> Result<Fetched, SourceError> {
        Err(SourceError::new(format!("nobody has {url}")))
    }
    fn checkout(&self, url: &str, _: bool, _: &Path) -> Result<String, SourceError> {
        Err(SourceError::new(format!("nobody has {url}")))
    }
    fn layout(&self, folder: &Path, _: Option<&str>, _: &Platform) -> Result<Digest, SourceError> {
        Err(SourceError::new(format!("nobody has {}", folder.display())))
    }
}

fn build(bench: &Bench, request: &BuildRequest, changed: Environment<'_>) -> Result<BuildOutput, BuildError> {
    let name = "made".parse::<Reference>().expect("name").or_latest();
    let exporter = ImageExporter { names: vec![name], shape: ImageShape::default(), registers: true };
    crate::build(request, &Environment { store: &bench.store, ..changed }, &exporter)
}

const RECIPE: &str =
    "FROM scratch AS one\nWORKDIR /w\nCOPY a b /\nFROM scratch\nCOPY --from=one /a /x\nCOPY c /y\n";

fn bench() -> Bench {
    Bench::new().with(&["a", "b", "c"])
}

#[test]
fn an_empty_machine_finds_what_another_one_made_and_moves_no_layer() {
    let (here, there) = (bench(), bench());
    let memory = Memory::default();
    let sinks: [&dyn CacheSink; 1] = [&memory];
    let environment = Environment { cache_sinks: &sinks, ..here.environment() };
    let first = build(&here, &here.request(RECIPE), environment).expect("made");
    assert_eq!((first.cached_steps, first.executed_steps), (0, 4));

    let afar = Afar { from: &here.store, to: &there.store, fetched: Mutex::default() };
    let sources: [&dyn CacheSource; 1] = [&memory];
    let environment = Environment { cache_sources: &sources, images: &afar, ..there.environment() };
    let second = build(&there, &there.request(RECIPE), environment).expect("found");
    assert_eq!((second.cached_steps, second.executed_steps), (4, 0));
    assert_eq!(second.image.manifest, first.image.manifest);
    assert!(afar.fetched.lock().expect("fetched").is_empty(), "a cached build moved a layer");

    // what was found is in the store now: without a source it is found again
    let again = build(&there, &there.request(RECIPE), Environment { images: &afar, ..there.environment() });
    assert_eq!(again.expect("found").executed_steps, 0);
}

#[test]
fn a_step_that_reads_a_found_layer_fetches_that_one() {
    let (here, there) = (bench(), bench().with(&["c=changed"]));
    let memory = Memory::default();
    let sinks: [&dyn CacheSink; 1] = [&memory];
    build(&here, &here.request(RECIPE), Environment { cache_sinks: &sinks, ..here.environment() })
        .expect("made");
    let recipe = RECIPE.replace("/a /x", "/b /x");
    let afar = Afar { from: &here.store, to: &there.store, fetched: Mutex::default() };
    let sources: [&dyn CacheSource; 1] = [&memory];
    let environment = Environment { cache_sources: &sources, images: &afar, ..there.environment() };
    let built = build(&there, &there.request(&recipe), environment).expect("built");
    assert_eq!((built.cached_steps, built.executed_steps), (2, 2));
    assert_eq!(there.listing(&built), ["x 644 0:0", "y 644 0:0"]);
    // WORKDIR's layer and that of COPY a b: a file may be read from either
    assert_eq!(afar.fetched.lock().expect("fetched").len(), 2);
}

#[test]
fn sinks_hear_of_hits_too_and_keys_come_with_what_they_are_made_of() {
    let here = bench();
    build(&here, &here.request(RECIPE), here.environment()).expect("made");
    let memory = Memory::default();
    let sinks: [&dyn CacheSink; 2] = [&memory, &memory];
    let built =
        build(&here, &here.request(RECIPE), Environment { cache_sinks: &sinks, ..here.environment() });
    assert_eq!(built.expect("found").executed_steps, 0);
    let results = memory.results.lock().expect("results");
    assert_eq!(results.len(), 4);
    for (key, (layer, description)) in &*results {
        let description = description.as_ref().expect("description");
        assert_eq!(*key, Digest::sha256(description.as_bytes()));
        let told: StepDescription = serde_json::from_str(description).expect("form");
        assert_eq!(told.key(), *key);
        assert!(
            here.store.blobs().contains(&layer.as_ref().expect("layer").descriptor.digest).expect("asked")
        );
    }
}

#[test]
fn no_cache_asks_nobody_and_tells_all() {
    let here = bench();
    let memory = Memory::default();
    let (sinks, sources): ([&dyn CacheSink; 1], [&dyn CacheSource; 1]) = ([&memory], [&memory]);
    let mut request = here.request(RECIPE);
    for (no_cache, executed) in [(false, 4), (true, 4), (false, 0)] {
        request.no_cache = no_cache;
        let environment = Environment { cache_sinks: &sinks, cache_sources: &sources, ..here.environment() };
        assert_eq!(build(&here, &request, environment).expect("built").executed_steps, executed);
    }
}

#[test]
fn a_cache_that_fails_says_why() {
    let memory = Memory { is_broken: true, ..Memory::default() };
    let (sinks, sources): ([&dyn CacheSink; 1], [&dyn CacheSource; 1]) = ([&memory], [&memory]);
    let here = bench();
    let error =
        build(&here, &here.request(RECIPE), Environment { cache_sources: &sources, ..here.environment() });
    assert!(words(&error.expect_err("broken")).contains("does not answer"));
    let error =
        build(&here, &here.request(RECIPE), Environment { cache_sinks: &sinks, ..here.environment() });
    assert!(words(&error.expect_err("broken")).contains("is full"));
}
