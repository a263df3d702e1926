use super::super::tests::{image, layer, store};
use super::*;
use crate::{
    artifact::{EMPTY, EMPTY_TYPE},
    layout::{self, LayoutImage},
    spec::{media_type, to_json},
    store::{Adopted, Prune},
};

fn about(store: &Store, subject: &Digest, text: &str) -> Digest {
    let bytes = store.blobs().read_manifest(subject).expect("subject");
    store.blobs().put(EMPTY).expect("config");
    store.blobs().put(text.as_bytes()).expect("layer");
    let manifest = to_json(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: Some("application/x".into()),
        config: Descriptor::of(EMPTY_TYPE, EMPTY),
        layers: vec![Descriptor::of("text/plain", text.as_bytes())],
        subject: Some(Descriptor::of(media_type::OCI_MANIFEST, &bytes)),
        annotations: Default::default(),
    });
    store.blobs().put(&manifest).expect("manifest")
}

fn listed(store: &Store, subject: &Digest) -> Vec<Digest> {
    store.referrers(subject).expect("list").into_iter().map(|one| one.descriptor.digest).collect()
}

#[test]
fn what_is_attached_lives_as_long_as_its_subject() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let subject = image(&store, &[made], &["a:1"]);
    let (one, two) = (about(&store, &subject, "one"), about(&store, &subject, "two"));
    let about_it = about(&store, &one, "about one");
    for digest in [&one, &two, &one] {
        store.put_referrer(digest, &[]).expect("put");
    }
    assert!(matches!(store.put_referrer(&subject, &[]), Err(StoreError::NoSubject(_))));
    store.put_referrer(&about_it, &[]).expect("put");
    assert_eq!(listed(&store, &subject), [one.clone(), two.clone()]);
    // registering the image again, and collections, leave it
    store.put_image(&subject, &[]).expect("again");
    let rules = Prune { unnamed_images: true, ..Prune::default() };
    store.prune(&rules).expect("prune");
    assert_eq!(listed(&store, &subject), [one.clone(), two.clone()]);
    assert_eq!(listed(&store, &one), [about_it]);
    assert_eq!(store.list_images().expect("list").len(), 1, "it is in no list");
    let top = store.remove_image(&one.to_string(), false);
    assert!(top.is_ok_and(|(_, gone)| gone.is_empty()), "its subject needs it");
    // a later one takes the place of an earlier one
    let three = about(&store, &subject, "three");
    store.put_referrer(&three, std::slice::from_ref(&two)).expect("put");
    assert_eq!(listed(&store, &subject), [one, three]);
    assert_eq!(store.manifest_kind(&two).expect("kind"), None);
    store.remove_image("a:1", false).expect("remove");
    assert!(listed(&store, &subject).is_empty());
    let database = store.database();
    for table in ["manifests", "edges"] {
        let count: i64 = database
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .expect("count");
        assert_eq!(count, 0, "{table}");
    }
}

#[test]
fn it_needs_a_subject_that_is_here() {
    let (_folder, store) = store();
    let made = layer(&store, "f");
    let subject = image(&store, &[made], &["a:1"]);
    let one = about(&store, &subject, "one");
    store.remove_image("a:1", false).expect("remove");
    assert!(matches!(store.put_referrer(&one, &[]), Err(StoreError::NoImage(_))));
}

#[test]
fn it_travels_in_layouts() {
    let (folder, store) = store();
    let made = layer(&store, "f");
    store.adopt_layer(&made, Adopted::Nothing).expect("adopt");
    let subject = image(&store, &[made], &["a:1"]);
    let one = about(&store, &subject, "one");
    let names = vec!["a:1".parse().expect("name")];
    let written = LayoutImage { attached: vec![one.clone()], ..LayoutImage::new(subject.clone(), names) };
    let into = folder.path().join("layout");
    layout::write_oci_folder(&store, std::slice::from_ref(&written), &into).expect("folder");
    let mut archive = Vec::new();
    layout::write_oci_archive(&store, &[written], &mut archive).expect("archive");
    let other = |name: &str| Store::open(&folder.path().join(name), store.xattrs()).expect("store");
    let (from_folder, from_archive) = (other("from-folder"), other("from-archive"));
    let loaded = layout::load_folder(&from_folder, &into, None, &crate::Platform::host()).expect("load");
    assert_eq!(loaded.len(), 1, "what is attached is no image");
    layout::load_archive(&from_archive, &archive[..]).expect("load");
    for store in [from_folder, from_archive] {
        assert_eq!(listed(&store, &subject), std::slice::from_ref(&one));
        assert_eq!(store.list_images().expect("list").len(), 1);
    }
}
