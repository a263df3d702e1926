//! Flags in sequence: what a build is asked for decides its image, never what the store was asked for before.

use crate::support::Slipway;
use crate::support::server::Server;

const FILES: [(&str, &str); 2] = [("a", "one"), ("b", "two")];
const RECIPE: &str = "FROM base AS one\nARG who=nobody\nCOPY a /a\nRUN echo $who > /who\n\nFROM one\nWORKDIR /w\nCOPY b b\nRUN cat b /a > c\n";

/// Flags of one build each, whose image is the same in every store; every one is tried after every other.
const FLAGS: [&[&str]; 8] = [
    &["--compression", "zstd"],
    &["--compression", "gzip"],
    &["--compression", "uncompressed"],
    &["--compression", "gzip", "--build-arg", "who=me"],
    &["--compression", "gzip", "--timestamps", "clamp"],
    &["--label", "a=b"],
    &["--no-cache"],
    &["--platform", "linux/amd64", "--compression", "uncompressed"],
];

/// Flags whose image is the moment's, and which must not stay either.
const BETWEEN: [&[&str]; 2] = [&["--timestamps", "keep"], &["--source-date-epoch", "7"]];

/// Every layer's media type, of the image as `save` writes it.
fn saved_layers(slipway: &Slipway, name: &str) -> Vec<String> {
    let folder = slipway.path("saved");
    let _ = std::fs::remove_dir_all(&folder);
    slipway.ok(["save", "--format", "oci-dir", "-o", folder.to_str().unwrap(), name]);
    let read = |digest: &str| -> serde_json::Value {
        let path = folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let manifest = read(&slipway.digest(name));
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
}

/// Issue 7, B4: layers that were pushed have a source too, and were taken for a foreign image's.
#[test]
fn flags_of_an_earlier_build_do_not_stay() {
    let fresh: Vec<String> = FLAGS
        .iter()
        .map(|flags| {
            let slipway = Slipway::new();
            slipway.build_with("app", RECIPE, &FILES, flags).ok();
            slipway.digest("app")
        })
        .collect();
    let server_store = Slipway::empty();
    let server = Server::slipway(&server_store, &server_store.path("registry"));
    for (pushed, first) in [(true, 0), (false, 0), (true, 1), (false, 2), (true, 3)] {
        let slipway = Slipway::new();
        let name = server.name(&format!("app:{first}-{pushed}"));
        let mut before = FLAGS[first].to_vec();
        before.extend(pushed.then_some("--push"));
        slipway.build_with(&name, RECIPE, &FILES, &before).ok();
        for (second, flags) in FLAGS.iter().enumerate() {
            slipway.build_with(&name, RECIPE, &FILES, BETWEEN[second % 2]).ok();
            let mut flags = flags.to_vec();
            flags.extend(pushed.then_some("--push"));
            slipway.build_with(&name, RECIPE, &FILES, &flags).ok();
            assert_eq!(slipway.digest(&name), fresh[second], "{before:?}, then {flags:?}");
        }
    }
}

/// What is written out is in the form that was asked for last, pushed or not.
#[test]
fn every_output_has_the_compression_that_was_asked_for() {
    let server_store = Slipway::empty();
    let server = Server::slipway(&server_store, &server_store.path("registry"));
    let slipway = Slipway::new();
    let name = server.name("app:1");
    for (compression, end) in
        [("zstd", "tar+zstd"), ("gzip", "tar+gzip"), ("uncompressed", "layer.v1.tar"), ("zstd", "tar+zstd")]
    {
        let flags = ["--compression", compression, "--push"];
        slipway.build_with(&name, RECIPE, &FILES, &flags).ok();
        let layers = saved_layers(&slipway, &name);
        // the base was made here too
        assert!(layers.iter().all(|layer| layer.ends_with(end)), "{compression}: {layers:?}");
        let other = slipway.another(&format!("other-{compression}"));
        other.ok(["pull", &name]);
        assert_eq!(other.digest(&name), slipway.digest(&name));
        // a base that came from elsewhere stays as it came, its own layers do not
        let recipe = format!("FROM {name}\nRUN echo more > /more\n");
        other.build_with("more", &recipe, &[], &["--compression", "gzip"]).ok();
        let mut expected = layers.clone();
        expected.push("application/vnd.oci.image.layer.v1.tar+gzip".to_owned());
        assert_eq!(saved_layers(&other, "more"), expected);
    }
}
