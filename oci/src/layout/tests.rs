use super::*;
use crate::{
    Descriptor, Digest, Platform, Reference,
    compression::Compression,
    layer::{Entry, Kind, LayerWriter, OverlayXattrs},
    spec::{ImageConfig, Manifest, media_type, to_json},
    store::Store,
};

fn store(folder: &tempfile::TempDir, name: &str) -> Store {
    Store::open(&folder.path().join(name), OverlayXattrs::User).expect("store")
}

fn image(store: &Store, name: &str) -> Digest {
    let mut writer = LayerWriter::new(store.blobs(), Compression::Zstd).expect("writer");
    let mut entry = Entry::new("file", Kind::File, 0o644);
    entry.size_bytes = 4;
    writer.append_file(entry, &mut &b"data"[..]).expect("append");
    let layer = writer.finish().expect("finish");
    let mut config = ImageConfig::empty(Platform::host());
    config.rootfs.diff_ids = vec![layer.diff_id];
    let config = to_json(&config);
    store.blobs().put(&config).expect("config");
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers: vec![layer.descriptor],
        subject: None,
        annotations: Default::default(),
    };
    let digest = store.blobs().put(&to_json(&manifest)).expect("manifest");
    store.put_image(&digest, &[name.parse::<Reference>().expect("name")]).expect("image");
    digest
}

#[test]
fn every_form_comes_back() {
    let folder = tempfile::tempdir().expect("folder");
    let source = store(&folder, "source");
    let digest = image(&source, "app:1");
    let names: Vec<Reference> = vec!["app:1".parse().expect("name")];
    let images = [LayoutImage::new(digest.clone(), names.clone())];
    let mut oci = Vec::new();
    write_oci_archive(&source, &images, &mut oci).expect("oci");
    let mut again = Vec::new();
    write_oci_archive(&source, &images, &mut again).expect("oci");
    assert!(oci == again, "the same bytes twice");
    let target = store(&folder, "oci");
    assert_eq!(
        load_archive(&target, &oci[..]).expect("load"),
        [Loaded { digest: digest.clone(), target: digest.clone(), names: names.clone() }]
    );
    let packed = zstd::bulk::compress(&oci, 1).expect("zstd");
    let target = store(&folder, "packed");
    assert_eq!(load_archive(&target, &packed[..]).expect("load").len(), 1);

    let layout = folder.path().join("layout");
    write_oci_folder(&source, &images, &layout).expect("folder");
    write_oci_folder(&source, &images, &layout).expect("again");
    let target = store(&folder, "from-folder");
    let loaded = load_folder(&target, &layout, Some("1"), &Platform::host()).expect("load");
    assert_eq!(loaded[0].digest, digest);
    assert!(load_folder(&target, &layout, Some("2"), &Platform::host()).is_err());

    let mut docker = Vec::new();
    write_docker_archive(&source, &images, &mut docker).expect("docker");
    let target = store(&folder, "docker");
    let loaded = load_archive(&target, &docker[..]).expect("load");
    assert_eq!(loaded[0].names, names);
    let record = target.read_image(&loaded[0].digest).expect("image");
    let original = source.read_image(&digest).expect("image");
    assert_eq!(record.manifest.config.digest, original.manifest.config.digest, "the image id stays");
}

#[test]
fn damaged_archives_store_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let source = store(&folder, "source");
    let digest = image(&source, "app");
    let mut oci = Vec::new();
    write_oci_archive(&source, &[LayoutImage::new(digest, Vec::new())], &mut oci).expect("oci");
    let target = store(&folder, "target");
    assert!(load_archive(&target, &b"not an archive"[..]).is_err());
    assert!(load_archive(&target, &oci[..oci.len() / 2]).is_err());
    // one byte within the last blob
    let at = oci.windows(13).rposition(|w| w == b"schemaVersion").expect("manifest");
    oci[at] = b'S';
    assert!(load_archive(&target, &oci[..]).is_err());
    assert!(target.list_images().expect("list").is_empty());
}
