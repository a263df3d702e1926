use super::*;
use crate::{
    layer::OverlayXattrs,
    store::{CacheEntry, CachedLayer, Store},
};

/// What version 1 made, in its own words.
const VERSION_1: &str = "
CREATE TABLE images (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL, config TEXT NOT NULL,
    added INTEGER NOT NULL);
CREATE TABLE names (reference TEXT PRIMARY KEY, digest TEXT NOT NULL);
CREATE INDEX names_by_digest ON names (digest);
CREATE TABLE layers (diff_id TEXT PRIMARY KEY, archive INTEGER NOT NULL, unpacked_in TEXT, unpacked_at INTEGER);
CREATE TABLE forms (diff_id TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest));
CREATE TABLE sources (digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository));
CREATE TABLE cache (key TEXT PRIMARY KEY, diff_id TEXT, step TEXT NOT NULL, used INTEGER NOT NULL);
PRAGMA user_version = 1;
";

const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}"#;

/// A store of version 1 with one image of one layer, a cache row for it, and an image whose manifest is gone.
fn version_1(root: &Path) -> (Digest, Digest) {
    let blobs = Blobs::open(&root.join("blobs"), &root.join("tmp")).expect("blobs");
    let layer = blobs.put(b"not looked at").expect("layer");
    let config = blobs.put(CONFIG).expect("config");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":13}}]}}"#,
        CONFIG.len()
    );
    let manifest = blobs.put(manifest.as_bytes()).expect("manifest");
    let database = Connection::open(root.join("store.db")).expect("database");
    database.execute_batch(VERSION_1).expect("schema");
    let gone = Digest::sha256(b"gone");
    let media = "application/vnd.oci.image.manifest.v1+json";
    for digest in [&manifest, &gone] {
        database
            .execute(
                "INSERT INTO images VALUES (?1, ?2, 300, ?3, 1000)",
                (digest.to_string(), media, config.to_string()),
            )
            .expect("image");
    }
    let diff_id = format!("sha256:{}", "1".repeat(64));
    for (sql, values) in [
        ("INSERT INTO names VALUES (?1, ?2)", ["docker.io/library/old:1".to_owned(), manifest.to_string()]),
        ("INSERT INTO names VALUES (?1, ?2)", ["docker.io/library/gone:1".to_owned(), gone.to_string()]),
        ("INSERT INTO layers VALUES (?1, 13, ?2, 1000)", [diff_id.clone(), "synced".to_owned()]),
        (
            "INSERT INTO forms VALUES (?1, ?2, 'application/vnd.oci.image.layer.v1.tar', 13)",
            [diff_id.clone(), layer.to_string()],
        ),
        ("INSERT INTO cache VALUES (?1, ?2, 'RUN x', 1000)", [Digest::sha256(b"key").to_string(), diff_id]),
    ] {
        database.execute(sql, values).expect("row");
    }
    (manifest, layer)
}

#[test]
fn a_store_of_version_1_becomes_one_of_today() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("store");
    let (manifest, layer) = version_1(&root);
    let store = Store::open(&root, OverlayXattrs::User).expect("migrated");
    assert_eq!(store.find_image("old:1").expect("find"), Some(manifest.clone()));
    assert_eq!(store.read_image(&manifest).expect("read").manifest.layers[0].digest, layer);
    let key = Digest::sha256(b"key");
    assert!(
        matches!(store.cached(&key).expect("cached"), Some(CachedLayer::Layer(form)) if form.descriptor.digest == layer)
    );
    let entry = CacheEntry { key: &key, diff_id: None, step: "RUN x", description: Some("{}") };
    store.put_cached(&entry).expect("written");
    assert_eq!(store.cached_description(&key).expect("read"), Some("{}".to_owned()));
    // the edges are there: without the cache row the image alone keeps its layer
    store.collect().expect("one image that cannot be read stops nothing");
    assert!(store.blobs().contains(&layer).expect("look"));
    store.remove_image("gone:1", false).expect("it can still be removed");
    store.remove_image("old:1", false).expect("removed");
    store.collect().expect("collect");
    assert!(store.blobs().list().expect("list").is_empty());
    drop(store);
    Store::open(&root, OverlayXattrs::User).expect("once is enough");
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("store");
    version_1(&root);
    let database = Connection::open(root.join("store.db")).expect("database");
    database.execute("CREATE TABLE manifests (in_the_way TEXT)", []).expect("table");
    assert!(Store::open(&root, OverlayXattrs::User).is_err());
    let names: i64 = database.query_row("SELECT count(*) FROM names", [], |row| row.get(0)).expect("count");
    assert_eq!(names, 2);
}
