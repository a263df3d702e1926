use super::*;
use slipway_oci::{
    Digest,
    layer::{Entry, Toc},
};
use std::{io::Write, sync::Arc};

/// An image of one layer with these files, of which all are programs.
fn scanned(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Found {
    let mut entries: Vec<Entry> = Vec::new();
    for (path, bytes) in files {
        let mut entry = Entry::new(*path, PathKind::File, 0o755);
        entry.size_bytes = bytes.len() as u64;
        entries.push(entry);
    }
    for (path, target) in links {
        let mut entry = Entry::new(*path, PathKind::Symlink, 0o777);
        entry.link = target.as_bytes().to_vec();
        entries.push(entry);
    }
    let mut folders = BTreeSet::new();
    for entry in &entries {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    }
    entries.extend(folders.into_iter().map(|path| Entry::new(path, PathKind::Directory, 0o755)));
    let tree = Tree::new(vec![Arc::new(Toc::new(entries))]);
    let read = |_: usize, path: &Path, _: u64| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    scan(&tree, &read)
}

fn names(found: &Found) -> Vec<String> {
    found.packages.iter().map(|one| format!("{} {} {}", one.kind.name(), one.name, one.version)).collect()
}

const STATUS: &[u8] =
    b"Package: zlib1g\nStatus: install ok installed\nMaintainer: Mark <m@x>\nArchitecture: amd64\n\
Source: zlib (1:1.2)\nVersion: 1:1.2.13+dfsg-1\nDescription: text\n Package: false\n\nPackage: gone\n\
Status: deinstall ok config-files\nVersion: 1\n";
const RELEASE: &[u8] = b"PRETTY_NAME=\"Debian 12\"\nID=debian\nVERSION_ID=\"12\"\n";

#[test]
fn databases_of_text_are_read() {
    let found = scanned(
        &[
            ("usr/lib/os-release", RELEASE),
            ("var/lib/dpkg/status", STATUS),
            ("var/lib/dpkg/status.d/base", b"Package: base-files\nVersion: 12.4\nArchitecture: all\n"),
            ("var/lib/dpkg/status.d/base.md5sums", b"Package: no\nVersion: 1\n"),
            (
                "lib/apk/db/installed",
                b"C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\nP:busybox\nV:1.36\n",
            ),
            (
                "usr/lib/python3/dist-packages/Foo_Bar-1.0.dist-info/METADATA",
                b"Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\nLicense: MIT\n\nName: no\n",
            ),
            (
                "app/node_modules/a/package.json",
                b"{\"name\":\"a\",\"version\":\"1.0.0\",\"license\":\"ISC\"}",
            ),
            ("app/node_modules/@s/b/package.json", b"{\"name\":\"@s/b\",\"version\":\"2.0.0\"}"),
            ("app/node_modules/a/test/package.json", b"{\"name\":\"no\",\"version\":\"1.0.0\"}"),
        ],
        &[("etc/os-release", "../usr/lib/os-release")],
    );
    assert_eq!(
        names(&found),
        [
            "apk busybox 1.36",
            "apk musl 1.2.4-r2",
            "deb base-files 12.4",
            "deb zlib1g 1:1.2.13+dfsg-1",
            "npm @s/b 2.0.0",
            "npm a 1.0.0",
            "pypi Foo.Bar 1.0",
        ]
    );
    assert_eq!(found.warnings, [""; 0]);
    assert_eq!(found.distribution.as_ref().map(|own| own.id.as_str()), Some("debian"));
    let digest = Digest::sha256(b"image");
    let about = About { name: "app:1", digest: &digest, created: "2024-01-01T00:00:00Z", version: "1" };
    let text = spdx(&found, &about).to_string();
    for purl in [
        "pkg:deb/debian/zlib1g@1%3A1.2.13%2Bdfsg-1?arch=amd64&distro=debian-12",
        "pkg:npm/%40s/b@2.0.0",
        "pkg:pypi/foo-bar@1.0",
    ] {
        assert!(text.contains(purl), "{purl}: {text}");
        assert!(cyclonedx(&found, &about).to_string().contains(purl), "{purl}");
    }
}

/// A header of RPM with texts, and an epoch.
fn header(texts: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
    let (mut tags, mut data) = (Vec::new(), Vec::new());
    let mut tag = |number: u32, kind: u32, bytes: &[u8]| {
        tags.extend([number, kind, data.len() as u32, 1].into_iter().flat_map(u32::to_be_bytes));
        data.extend_from_slice(bytes);
    };
    for (number, text) in texts {
        tag(*number, 6, &[text.as_bytes(), b"\0"].concat());
    }
    if let Some(epoch) = epoch {
        tag(1003, 4, &epoch.to_be_bytes());
    }
    let count = (tags.len() / 16) as u32;
    [&count.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), &tags, &data].concat()
}

fn bash() -> Vec<u8> {
    header(&[(1000, "bash"), (1001, "5.2"), (1002, "1.fc39"), (1014, "GPLv3+"), (1022, "x86_64")], Some(2))
}

fn rpm_of(bytes: Vec<u8>) -> Found {
    scanned(&[("var/lib/rpm/rpmdb.sqlite", &bytes)], &[])
}

fn sqlite(headers: &[Vec<u8>]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("db");
    let database = rusqlite::Connection::open(&path).expect("open");
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)",
        )
        .expect("table");
    for header in headers {
        database.execute("INSERT INTO Packages (blob) VALUES (?1)", [header]).expect("insert");
    }
    database.close().expect("close");
    std::fs::read(path).expect("read")
}

#[test]
fn databases_of_rpm_are_read() {
    let found = rpm_of(sqlite(&[bash(), b"damaged".to_vec()]));
    assert_eq!(names(&found), ["rpm bash 5.2-1.fc39"]);
    assert_eq!(found.packages.first().and_then(|one| one.epoch), Some(2));
    assert_eq!(found.warnings, ["`var/lib/rpm/rpmdb.sqlite`: 1 of its packages cannot be read"]);

    let header = bash();
    let mut ndb = vec![0u8; 4096];
    ndb[..4].copy_from_slice(b"RpmP");
    ndb[12..16].copy_from_slice(&1u32.to_le_bytes());
    let slot = |index: u32, block: u32| {
        let words = [index, block, 1].into_iter().flat_map(u32::to_le_bytes);
        b"Slot".iter().copied().chain(words).collect::<Vec<u8>>()
    };
    ndb[32..48].copy_from_slice(&slot(1, 256));
    ndb[48..64].copy_from_slice(&slot(2, u32::MAX));
    ndb.extend(b"BlbS");
    ndb.extend([1, 0, header.len() as u32].into_iter().flat_map(u32::to_le_bytes));
    ndb.extend(&header);
    let found = scanned(&[("usr/lib/sysimage/rpm/Packages.db", &ndb)], &[]);
    assert_eq!(names(&found), ["rpm bash 5.2-1.fc39"]);
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);

    let found = scanned(&[("var/lib/rpm/Packages", b"bdb")], &[]);
    assert!(found.warnings[0].contains("Berkeley DB"), "{:?}", found.warnings);
}

/// An ELF file of 64 bits with one section.
fn elf(name: &str, content: &[u8]) -> Vec<u8> {
    let texts = [b"\0", name.as_bytes(), b"\0"].concat();
    let mut bytes = vec![0u8; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut section = |name: u32, content: &[u8]| {
        let mut row = vec![0u8; 64];
        row[..4].copy_from_slice(&name.to_le_bytes());
        row[0x18..0x20].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        row[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(content);
        row
    };
    let rows = [section(1, content), section(0, &texts)].concat();
    let table = bytes.len() as u64;
    bytes.extend(rows);
    bytes[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    bytes[0x3a..0x40].copy_from_slice(&[64, 0, 2, 0, 1, 0]);
    bytes
}

#[test]
fn programs_say_what_they_are_made_of() {
    let json = br#"{"packages":[{"name":"serde","version":"1.0.1","source":"crates.io"},
        {"name":"cc","version":"1.0.2","source":"crates.io","kind":"build"}]}"#;
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(json).expect("compress");
    let rust = elf(".dep-v0", &zlib.finish().expect("compress"));
    let modules = [
        &[7u8; 16][..],
        b"path\texample.com/a\nmod\texample.com/a\t(devel)\t\ndep\tgolang.org/x/text\tv0.3.0\th1:x\ndep\tb.c/d\tv1\n=>\tb.c/e\tv2\n",
        &[8u8; 16],
    ]
    .concat();
    let mut go = b"\xff Go buildinf:\x08\x02".to_vec();
    go.resize(32, 0);
    go.push(8);
    go.extend(b"go1.22.1");
    assert!(modules.len() > 127 && modules.len() < 1 << 14);
    go.extend([modules.len() as u8 | 0x80, (modules.len() >> 7) as u8]);
    go.extend(&modules);
    let found = scanned(
        &[
            ("bin/rust", &rust),
            ("bin/go", &elf(".go.buildinfo", &go)),
            ("bin/sh", b"#!/bin/sh\n"),
            ("bin/plain", &elf(".text", b"")),
        ],
        &[],
    );
    assert_eq!(
        names(&found),
        [
            "cargo serde 1.0.1",
            "golang b.c/e v2",
            "golang example.com/a (devel)",
            "golang golang.org/x/text v0.3.0",
            "golang stdlib 1.22.1",
        ]
    );
    assert_eq!(found.warnings, [""; 0]);
}

#[test]
fn what_is_cut_or_false_stops_nothing() {
    let whole = [
        ("bin/rust", elf(".dep-v0", b"not compressed")),
        ("bin/go", elf(".go.buildinfo", b"\xff Go buildinf:\x08\x02")),
        ("var/lib/rpm/rpmdb.sqlite", sqlite(&[bash()])),
        ("usr/lib/sysimage/rpm/Packages.db", b"RpmP\0\0\0\0\0\0\0\0\xff\xff\xff\xffSlot".to_vec()),
        ("var/lib/dpkg/status", STATUS.to_vec()),
    ];
    for (path, bytes) in &whole {
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 60) {
            scanned(&[(path, &bytes[..length])], &[]);
            let mut changed = bytes.clone();
            changed[length..].iter_mut().take(4).for_each(|byte| *byte ^= 0xff);
            scanned(&[(path, &changed)], &[]);
        }
    }
    let found = scanned(&[("x", b"")], &[("var/lib/dpkg/status", "../../../../etc/passwd")]);
    assert_eq!(found, Found::default());
    let found = scanned(&[("a/n.dist-info/METADATA", b"Name: a\x1b[31m\nVersion: 1\n\n")], &[]);
    assert_eq!(names(&found), ["pypi a [31m 1"]);
}

#[test]
fn documents_have_what_their_specifications_ask_for() {
    let found = scanned(&[("etc/os-release", RELEASE), ("var/lib/dpkg/status", STATUS)], &[]);
    let digest = Digest::sha256(b"image");
    let about = About { name: "app:1", digest: &digest, created: "2024-01-01T00:00:00Z", version: "1" };
    let document = spdx(&found, &about);
    for key in ["spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo"] {
        assert!(document.get(key).is_some(), "{key}");
    }
    let mut ids = BTreeSet::new();
    for package in document["packages"].as_array().expect("packages") {
        let id = package["SPDXID"].as_str().expect("id");
        assert!(id.strip_prefix("SPDXRef-").is_some_and(|rest| {
            rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }));
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        assert!(package["name"].is_string() && package["downloadLocation"].is_string());
    }
    for relation in document["relationships"].as_array().expect("relationships") {
        assert!(ids.contains(relation["relatedSpdxElement"].as_str().expect("element")));
    }
    assert_eq!(document, spdx(&found, &about));
    let document = cyclonedx(&found, &about);
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let serial = document["serialNumber"].as_str().expect("serial");
    assert_eq!(serial.len(), "urn:uuid:00000000-0000-0000-0000-000000000000".len());
    let references: Vec<_> =
        document["components"].as_array().expect("components").iter().map(|one| &one["bom-ref"]).collect();
    assert_eq!(references.len(), 2);
    assert!(references.iter().all(|one| one.is_string()));
}
