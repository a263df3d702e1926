use super::*;
use crate::{
    Descriptor, Digest, Platform, Reference,
    compression::Compression,
    layer::{Entry, Kind, Layer, LayerWriter, Tree},
    spec::{ImageConfig, Manifest, media_type, to_json},
};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("store");
    (folder, store)
}

fn layer(store: &Store, name: &str) -> Layer {
    let mut writer = LayerWriter::new(store.blobs(), Compression::Zstd).expect("writer");
    let mut entry = Entry::new(name, Kind::File, 0o644);
    (entry.uid, entry.gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    entry.size_bytes = 4;
    writer.append_file(entry, &mut &b"data"[..]).expect("append");
    writer.finish().expect("finish")
}

fn image(store: &Store, layers: &[Layer], names: &[&str]) -> Digest {
    let mut config = ImageConfig::empty(Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let config = to_json(&config);
    store.blobs().put(&config).expect("config");
    let manifest = to_json(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        subject: None,
        annotations: Default::default(),
    });
    let digest = store.blobs().put(&manifest).expect("manifest");
    let names: Vec<Reference> = names.iter().map(|name| name.parse().expect("name")).collect();
    store.put_image(&digest, &names).expect("image");
    digest
}

#[test]
fn a_layer_that_is_not_what_it_says_leaves_nothing() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    let false_id = Digest::sha256(b"something else");
    let form = LayerForm { diff_id: false_id.clone(), descriptor: made.descriptor };
    store.put_form(&form, 0).expect("form");
    assert!(store.unpacked(&false_id, &Tree::default()).is_err());
    assert_eq!(std::fs::read_dir(store.root().join("tmp")).expect("tmp").count(), 0);
    assert!(!store.layer_folder(&false_id).exists());
}

#[test]
fn names_ids_and_removal() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, None).expect("adopt");
    let digest = image(&store, &[made], &["a:1", "b"]);
    let id = store.list_images().expect("list")[0].id.clone();
    for text in ["a:1", "b", "b:latest", id.short(), &id.to_string(), digest.short()] {
        assert_eq!(store.find_image(text).expect("find"), Some(digest.clone()), "{text}");
    }
    assert_eq!(store.find_image("a").expect("find"), None);
    assert!(matches!(store.remove_image(id.short(), false), Err(StoreError::SeveralNames { .. })));
    assert!(matches!(store.remove_image("zzz", false), Err(StoreError::NoImage(_))));
    let (names, gone) = store.remove_image("a:1", false).expect("remove");
    assert_eq!((names.len(), gone.len()), (1, 0));
    let (_, gone) = store.remove_image("b", false).expect("remove");
    assert_eq!(gone, [digest]);
    let collected = store.collect().expect("collect").expect("alone");
    assert_eq!(collected.blobs, 3);
    assert!(store.blobs().list().expect("list").is_empty());
}

#[test]
fn the_collector_leaves_cached_layers_and_waits_for_others() {
    let (folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, None).expect("adopt");
    let key = Digest::sha256(b"key");
    store
        .put_cached(&CacheEntry { key: &key, diff_id: Some(&made.diff_id), step: "RUN x", description: None })
        .expect("cache");
    let other = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("second");
    assert_eq!(store.collect().expect("collect"), None, "another process is there");
    drop(other);
    assert_eq!(store.collect().expect("collect"), Some(Collected::default()));
    assert!(
        matches!(store.cached(&key).expect("cached"), Some(CachedLayer::Layer(form)) if form.diff_id == made.diff_id)
    );
    store.blobs().remove(&made.descriptor.digest).expect("remove");
    assert_eq!(store.cached(&key).expect("cached"), None, "a result without bytes is none");
}

#[test]
fn layers_unpack_once_and_again_after_a_boot() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, None).expect("adopt");
    let path = store.unpacked(&made.diff_id, &Tree::default()).expect("unpacked");
    assert_eq!(std::fs::read_to_string(path.join("f")).expect("f"), "data");
    std::fs::write(path.join("mark"), "").expect("mark");
    store.unpacked(&made.diff_id, &Tree::default()).expect("again");
    assert!(path.join("mark").exists(), "not unpacked twice");
    store.database().execute("UPDATE unpacked SET made_in = 'another boot'", []).expect("update");
    store.unpacked(&made.diff_id, &Tree::default()).expect("again");
    assert!(!path.join("mark").exists(), "a folder of another boot is not trusted");
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let (folder, store) = store();
    store.database().pragma_update(None, "user_version", 99).expect("update");
    drop(store);
    let error = Store::open(&folder.path().join("store"), OverlayXattrs::User).err().expect("refused");
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[test]
fn what_dead_processes_left_is_swept() {
    let (folder, store) = store();
    let tmp = folder.path().join("store/tmp");
    let dead = tmp.join("layer-4194304999-1-0");
    std::fs::create_dir(&dead).expect("folder");
    let own = store.temporary_folder("layer").expect("own");
    drop(store);
    Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("store");
    assert!(!dead.exists() && own.exists());
}
