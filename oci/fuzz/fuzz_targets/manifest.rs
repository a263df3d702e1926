//! A manifest as the server takes it from a push and the client from a pull: the announced media type, and bytes.
//!
//! The first byte chooses the type, the rest is the body. What is taken has to mean the same to a reader that ignores the
//! case of keys, as Go's does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use slipway_oci::spec::{Parsed, media_type};

const TYPES: [Option<&str>; 5] = [
    Some(media_type::OCI_MANIFEST),
    Some(media_type::OCI_INDEX),
    Some(media_type::DOCKER_MANIFEST),
    Some("application/json"),
    None,
];

/// What the grammar allows and `Value` refuses.
const BEYOND: [&str; 2] = ["number out of range", "hex escape"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let kind = TYPES[usize::from(*choice) % TYPES.len()];
    let Ok(parsed) = Parsed::from_bytes(body, kind) else { return };
    let document: Value = match serde_json::from_slice(body) {
        // a number or half a surrogate that only `Value` has no room for, under a key that nobody reads
        Err(error) if BEYOND.iter().any(|what| error.to_string().contains(what)) => return,
        read => read.expect("it was taken"),
    };
    let folded: Vec<(String, &Value)> = document
        .as_object()
        .expect("an object")
        .iter()
        .map(|(key, value)| (key.to_lowercase().replace('\u{17f}', "s"), value))
        .collect();
    let list = |name: &str| {
        let mut found = folded.iter().filter(|(key, value)| key == name && !value.is_null());
        let first = found.next().map(|(_, value)| value.as_array().map_or(1, Vec::len));
        assert!(found.next().is_none(), "two of {name}");
        first
    };
    let (config, layers, manifests) = (list("config"), list("layers"), list("manifests"));
    assert!(manifests.is_none() || config.is_none() && layers.is_none(), "image and index at once");
    match parsed {
        Parsed::Index(index) => assert_eq!(index.manifests.len(), manifests.unwrap_or(0)),
        Parsed::Manifest(manifest) => {
            assert_eq!(config, Some(1));
            assert_eq!(manifest.layers.len(), layers.unwrap_or(0));
        }
    }
});
