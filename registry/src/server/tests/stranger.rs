//! A client that we did not write: `oci-client`, the crate formerly named `oci-distribution`.

use super::*;
use oci_distribution::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    manifest::{OciImageManifest, OciManifest},
    secrets::RegistryAuth,
};

#[test]
fn oci_client_pushes_and_pulls() {
    let registry = Registry::start();
    let address = registry.address();
    // the provider is process wide; whoever was first is fine
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
        let reference: Reference = format!("{address}/strange/image:v1").parse().expect("reference");
        let bytes: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 253) as u8).collect();
        let layers = vec![ImageLayer::oci_v1(bytes.clone(), None)];
        let config = Config::oci_v1(b"{}".to_vec(), None);
        let manifest = OciImageManifest::build(&layers, &config, None);
        let auth = RegistryAuth::Anonymous;
        client.push(&reference, &layers, config, &auth, Some(manifest)).await.expect("push");
        let (found, digest) = client.pull_manifest(&reference, &auth).await.expect("manifest");
        let OciManifest::Image(found) = found else { panic!("an image") };
        assert_eq!(client.fetch_manifest_digest(&reference, &auth).await.expect("digest"), digest);
        let mut pulled = Vec::new();
        client.pull_blob(&reference, &found.layers[0], &mut pulled).await.expect("blob");
        assert!(pulled == bytes);
        let tags = client.list_tags(&reference, &auth, None, None).await.expect("tags");
        assert_eq!(tags.tags, ["v1"]);
    });
}
