//! Folders of distribution's, made by hand: whole ones, damaged ones, and ones that want something.

use super::*;
use crate::server::storage::{ManifestKey, Work};
use slipway_oci::{Descriptor, spec::media_type};
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    sync::Mutex,
};

/// A folder of distribution's.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Made {
        let made = Made(tempfile::tempdir().expect("folder"));
        fs::create_dir_all(made.path("repositories")).expect("folder");
        made
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("source/docker/registry/v2").join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, bytes).expect("write");
    }

    fn data(digest: &Digest) -> String {
        format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex())
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.write(&Made::data(&digest), bytes);
        digest
    }

    fn layer(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = self.blob(bytes);
        let path = format!("repositories/{repository}/_layers/sha256/{}/link", digest.hex());
        self.write(&path, digest.to_string().as_bytes());
        digest
    }

    fn revision(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = self.blob(bytes);
        let path = format!("repositories/{repository}/_manifests/revisions/sha256/{}/link", digest.hex());
        self.write(&path, digest.to_string().as_bytes());
        digest
    }

    fn tag(&self, repository: &str, tag: &str, text: &str) {
        self.write(&format!("repositories/{repository}/_manifests/tags/{tag}/current/link"), text.as_bytes());
    }

    fn image(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        self.layer(repository, b"{}");
        self.layer(repository, layer);
        let digest = self.revision(repository, &image(layer));
        self.tag(repository, tag, &digest.to_string());
        digest
    }

    /// Takes it over, and what does not fit.
    fn adopt(&self, by: Means) -> (Adopted, Vec<(String, Why)>) {
        let unfit = Mutex::new(Vec::new());
        let note = |one: &Unfit| unfit.lock().expect("unfit").push((one.place.clone(), one.why.clone()));
        let telling = Telling { progress: &|done, all| assert!(done <= all), unfit: &note, waiting: &|_| {} };
        let adopted = adopt(&self.0.path().join("source"), &self.target(), by, &telling).expect("adopted");
        let mut unfit = unfit.into_inner().expect("unfit");
        unfit.sort_by(|one, other| one.0.cmp(&other.0));
        (adopted, unfit)
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }

    /// Every file with its bytes and times.
    fn picture(&self) -> Vec<String> {
        fn walk(folder: &Path, lines: &mut Vec<String>) {
            for entry in fs::read_dir(folder).expect("list") {
                let path = entry.expect("entry").path();
                let found = fs::symlink_metadata(&path).expect("metadata");
                lines.push(format!("{path:?} {} {} {:o}", found.ino(), found.mtime_nsec(), found.mode()));
                if found.is_dir() {
                    walk(&path, lines);
                } else if found.is_file() {
                    lines.push(format!("{:?}", fs::read(&path).expect("bytes")));
                }
            }
        }
        let mut lines = Vec::new();
        walk(&self.0.path().join("source"), &mut lines);
        lines.sort();
        lines
    }
}

fn json(descriptor: &Descriptor) -> String {
    serde_json::to_string(descriptor).expect("json")
}

fn image(layer: &[u8]) -> Vec<u8> {
    let config = json(&Descriptor::of(media_type::DOCKER_CONFIG, b"{}"));
    let layer = json(&Descriptor::of(media_type::DOCKER_LAYER, layer));
    let kind = media_type::DOCKER_MANIFEST;
    format!(r#"{{"schemaVersion":2, "mediaType":"{kind}","config":{config},"layers":[{layer}]}}"#)
        .into_bytes()
}

/// An index without a type of its own, as OCI allows.
fn index(children: &[&[u8]]) -> Vec<u8> {
    let entries: Vec<String> =
        children.iter().map(|bytes| json(&Descriptor::of(media_type::DOCKER_MANIFEST, bytes))).collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

fn whole() -> Made {
    let made = Made::new();
    made.image("team/app", "1", b"layer 1");
    made.image("team/app", "2", b"layer 2");
    let first = Digest::sha256(&image(b"layer 1"));
    made.tag("team/app", "latest", &first.to_string());
    // mounted: one content of two repositories
    made.image("other", "1", b"layer 1");
    let list = made.revision("team/app", &index(&[&image(b"layer 1"), &image(b"layer 2")]));
    made.tag("team/app", "all", &list.to_string());
    // what distribution keeps beside that, and what it left of a deleted manifest
    made.write("repositories/team/app/_manifests/tags/1/index/sha256/00/link", b"sha256:00");
    fs::create_dir_all(
        made.path(&format!("repositories/other/_manifests/revisions/sha256/{}", "a".repeat(64))),
    )
    .expect("folder");
    made.blob(b"garbage that nothing names");
    made
}

#[test]
fn a_whole_folder_is_taken_over_in_every_way() {
    for by in [Means::Links, Means::Copies, Means::Moves] {
        let made = whole();
        let before = made.picture();
        let (adopted, unfit) = made.adopt(by);
        assert_eq!(unfit, [], "{by:?}");
        assert_eq!((adopted.repositories, adopted.tags, adopted.manifests, adopted.contents), (2, 5, 4, 6));
        assert_eq!((adopted.present, adopted.shared > 0), (0, by != Means::Copies), "{by:?}");
        let storage = Storage::open(&made.target()).expect("open");
        let record = storage.manifest("team/app", &ManifestKey::Tag("all".to_owned())).expect("the index");
        assert_eq!(record.media_type, media_type::OCI_INDEX);
        let bytes = storage.manifest_bytes(&record).expect("its bytes");
        assert_eq!(bytes, index(&[&image(b"layer 1"), &image(b"layer 2")]));
        let record = storage.manifest("other", &ManifestKey::Tag("1".to_owned())).expect("an image");
        assert_eq!(record.media_type, media_type::DOCKER_MANIFEST);
        // who may read what is as it was
        let layer = |text: &[u8]| Digest::sha256(text);
        assert!(storage.blob_size("other", &layer(b"layer 1")).is_ok());
        assert!(storage.blob_size("other", &layer(b"layer 2")).is_err());
        assert!(
            !made.target().join("blobs/sha256").join(layer(b"garbage that nothing names").hex()).exists()
        );
        let data = made.path(&Made::data(&layer(b"layer 1")));
        if by == Means::Moves {
            assert!(!data.exists());
        } else {
            assert_eq!(made.picture(), before, "{by:?}");
            let own = made.target().join("blobs/sha256").join(layer(b"layer 1").hex());
            let inode = |path: &Path| fs::metadata(path).expect("a file").ino();
            assert_eq!(inode(&own) == inode(&data), by == Means::Links);
        }
        // once more: what came since is added, and nothing is taken away
        made.image("team/app", "3", b"layer 3");
        let (adopted, unfit) = made.adopt(by);
        assert_eq!((unfit, adopted.tags, adopted.contents, adopted.present), (vec![], 6, 8, 6), "{by:?}");
        let tags = storage.tags("team/app", "", 10).expect("tags");
        assert_eq!(tags, ["1", "2", "3", "all", "latest"]);
    }
}

/// What is taken over takes longer than anything may lie about that nothing points at: nobody sweeps meanwhile, and what one took who
/// did not know is taken again.
#[test]
fn no_sweep_takes_what_nothing_points_at_yet() {
    let made = whole();
    let storage = Storage::open(&made.target()).expect("open");
    let later = std::time::SystemTime::now() + 2 * crate::limits::ORPHAN_AGE;
    let swept = |_, _| {
        assert!(storage.turn(Work::Sweep, std::time::Duration::ZERO).expect("asked").is_none());
        storage.sweep_uploads(later).expect("swept all the same");
    };
    let telling = Telling { progress: &swept, unfit: &|one| panic!("{one:?}"), waiting: &|_| {} };
    adopt(&made.0.path().join("source"), &made.target(), Means::Copies, &telling).expect("adopted");
    let contents = storage.contents("", 100).expect("contents");
    assert_eq!(contents.len(), 6);
    for (digest, size_bytes) in contents {
        assert_eq!(storage.content.size(&digest).expect("a look"), Some(size_bytes), "{digest}");
    }
    drop(storage.turn(Work::Sweep, std::time::Duration::ZERO).expect("asked").expect("a turn again"));
}

#[test]
fn what_is_damaged_or_hostile_is_said_and_nothing_else_is_touched() {
    let made = whole();
    let secret = made.0.path().join("secret");
    fs::create_dir(&secret).expect("folder");
    fs::write(secret.join("data"), b"secret").expect("a file");
    let layers = "repositories/team/app/_layers/sha256";
    let hex = |bytes: &[u8]| Digest::sha256(bytes).hex().to_owned();
    // links out of the folder: a blob's data, a blob's folder, a repository, a link
    for (bytes, folder) in [(b"secret".as_slice(), false), (b"sacred", true)] {
        made.write(&format!("{layers}/{}/link", hex(bytes)), Digest::sha256(bytes).to_string().as_bytes());
        let data = made.path(&Made::data(&Digest::sha256(bytes)));
        let parent = data.parent().expect("its folder");
        fs::create_dir_all(parent.parent().expect("its folder")).expect("folder");
        if folder {
            symlink(&secret, parent).expect("a link");
        } else {
            fs::create_dir(parent).expect("folder");
            symlink(secret.join("data"), &data).expect("a link");
        }
    }
    symlink(&secret, made.path("repositories/team/outside")).expect("a link");
    fs::create_dir_all(made.path(&format!("{layers}/{}", "b".repeat(64)))).expect("folder");
    symlink(secret.join("data"), made.path(&format!("{layers}/{}/link", "b".repeat(64)))).expect("a link");
    // bytes that are wrong, cut, not there, a folder, a pipe
    let wrong = made.layer("bad", b"wrong");
    made.write(&Made::data(&wrong), b"wr0ng");
    let cut = made.layer("bad", b"truncated");
    made.write(&Made::data(&cut), b"");
    let missing = made.layer("bad", b"missing");
    fs::remove_file(made.path(&Made::data(&missing))).expect("remove");
    let of_folder = made.layer("bad", b"folder");
    fs::remove_file(made.path(&Made::data(&of_folder))).expect("remove");
    fs::create_dir(made.path(&Made::data(&of_folder))).expect("folder");
    let pipe = made.layer("bad", b"pipe");
    fs::remove_file(made.path(&Made::data(&pipe))).expect("remove");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, made.path(&Made::data(&pipe)), rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    // links with other texts
    let bad = "repositories/bad/_layers/sha256";
    made.write(&format!("{bad}/{}/link", "c".repeat(64)), b"");
    made.write(&format!("{bad}/{}/link", "d".repeat(64)), b"sha256:../../../etc/passwd");
    made.write(&format!("{bad}/{}/link", "e".repeat(64)), wrong.to_string().as_bytes());
    made.write(&format!("{bad}/short/link"), b"sha256:short");
    made.write("repositories/bad/_layers/md5/x/link", b"md5:x");
    // manifests: none, of schema 1, without a layer, with a lie about a size
    let text = made.revision("bad", b"no manifest");
    let old = made.revision("bad", br#"{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[]}"#);
    let lacking = made.revision("bad", &image(b"missing"));
    made.tag("bad", "lacking", &lacking.to_string());
    made.layer("bad", b"{}");
    made.layer("bad", b"layer 9");
    let lying = String::from_utf8(image(b"layer 9")).expect("text").replace(r#""size":7"#, r#""size":8"#);
    let lying = made.revision("bad", lying.as_bytes());
    // tags: of nothing, with bad names
    made.tag("bad", "dangling", &format!("sha256:{}", "f".repeat(64)));
    made.tag("bad", "text", &text.to_string());
    made.tag("bad", "-tag", &text.to_string());
    // names: none of a repository, and a file in a folder's place
    for name in ["Upper", "a b", "-x", "a..b"] {
        fs::create_dir(made.path(&format!("repositories/{name}"))).expect("folder");
    }
    made.write("repositories/file", b"");
    made.write("repositories/team/app/_uploads/1234/data", b"half");
    let before = made.picture();
    let (adopted, unfit) = made.adopt(Means::Links);
    assert_eq!(made.picture(), before);
    assert_eq!(fs::metadata(secret.join("data")).expect("it").nlink(), 1, "nothing outside was touched");
    assert_eq!((adopted.tags, adopted.manifests), (6, 5));
    let of = |digest: &Digest| digest.to_string();
    let link = |digit: &str| format!("repositories/bad/_layers/sha256/{}/link", digit.repeat(64));
    let expected: Vec<(String, Why)> = vec![
        (of(&Digest::sha256(b"secret")), Why::Odd(Odd::Link)),
        (of(&Digest::sha256(b"sacred")), Why::Odd(Odd::Link)),
        ("repositories/team/outside".into(), Why::Odd(Odd::Link)),
        (format!("{layers}/{}/link", "b".repeat(64)), Why::Odd(Odd::Link)),
        (of(&wrong), Why::Damaged(Digest::sha256(b"wr0ng"))),
        (of(&cut), Why::Damaged(Digest::sha256(b""))),
        (of(&missing), Why::Missing),
        (of(&of_folder), Why::Odd(Odd::Kind("file"))),
        (of(&pipe), Why::Odd(Odd::Kind("file"))),
        (link("c"), Why::Digest),
        (link("d"), Why::Digest),
        (link("e").trim_end_matches("/link").into(), Why::Other(wrong.clone())),
        ("repositories/bad/_layers/sha256/short".into(), Why::Digest),
        ("repositories/bad/_layers/md5".into(), Why::Digest),
        (format!("bad@{text}"), Why::Manifest),
        (format!("bad@{old}"), Why::Manifest),
        (format!("bad@{lacking}"), Why::Incomplete(missing.clone())),
        (format!("bad@{lying}"), Why::Size(Digest::sha256(b"layer 9"))),
        (
            "bad:dangling".into(),
            Why::Dangling(format!("sha256:{}", "f".repeat(64)).parse().expect("a digest")),
        ),
        ("bad:text".into(), Why::Dangling(text.clone())),
        ("repositories/bad/_manifests/tags/-tag".into(), Why::Tag),
        ("repositories/Upper".into(), Why::Name),
        ("repositories/a b".into(), Why::Name),
        ("repositories/-x".into(), Why::Name),
        ("repositories/a..b".into(), Why::Name),
        ("repositories/file".into(), Why::Odd(Odd::Kind("folder"))),
        ("repositories/team/app/_uploads".into(), Why::Uploads(1)),
    ];
    for one in &expected {
        assert!(unfit.contains(one), "{one:?} in {unfit:#?}");
    }
    assert_eq!(unfit.len(), expected.len(), "{unfit:#?}");
    // an image without a layer is there as it was, and a push heals it
    let storage = Storage::open(&made.target()).expect("open");
    assert!(storage.manifest("bad", &ManifestKey::Tag("lacking".to_owned())).is_ok());
    assert!(storage.blob_size("bad", &missing).is_err());
}

#[test]
fn folders_that_are_none_are_refused_and_nothing_is_made() {
    let made = whole();
    let telling = Telling { progress: &|_, _| {}, unfit: &|_| {}, waiting: &|_| {} };
    let top = made.0.path();
    for from in ["", "source/docker"] {
        let refused = adopt(&top.join(from), &made.target(), Means::Links, &telling);
        assert!(matches!(refused, Err(StorageError::NoDistribution(_))), "{from}: {refused:?}");
    }
    for to in ["", "source", "source/docker/registry/v2/registry", "source/docker/new/registry"] {
        let refused = adopt(&top.join("source"), &top.join(to), Means::Links, &telling);
        assert!(matches!(refused, Err(StorageError::Within(_))), "{to}: {refused:?}");
    }
    assert!(!made.target().exists());
    // `v2` itself may be named too
    assert!(adopt(&made.path(""), &made.target(), Means::Copies, &telling).is_ok());
}
