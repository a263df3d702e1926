use super::*;
use std::os::unix::fs::MetadataExt;

struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Archive {
        Archive(tar::Builder::new(Vec::new()))
    }
    fn entry(mut self, kind: tar::EntryType, path: &str, link: &str, data: &[u8]) -> Archive {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        let own = rustix::process::getuid().as_raw();
        header.set_uid(own.into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1000);
        // set directly: the crate's own setters refuse what attackers write
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).expect("append");
        self
    }
    fn file(self, path: &str, data: &str) -> Archive {
        self.entry(tar::EntryType::Regular, path, "", data.as_bytes())
    }
    fn folder(self, path: &str) -> Archive {
        self.entry(tar::EntryType::Directory, path, "", b"")
    }
    fn link(self, path: &str, target: &str) -> Archive {
        self.entry(tar::EntryType::Symlink, path, target, b"")
    }
    fn hard(self, path: &str, target: &str) -> Archive {
        self.entry(tar::EntryType::Link, path, target, b"")
    }
    fn unpack(self, below: Option<&crate::layer::Tree>) -> (tempfile::TempDir, Result<Unpacked, LayerError>) {
        let folder = tempfile::tempdir().expect("folder");
        let target = folder.path().join("layer");
        std::fs::create_dir(&target).expect("folder");
        let bytes = self.0.into_inner().expect("archive");
        let own = index(&bytes[..], None);
        let footing = own.and_then(|own| below.map_or(Ok(None), |below| Footing::of(&own.toc, below)));
        let result = footing.and_then(|footing| {
            let unpacked = unpack(&bytes[..], &target, OverlayXattrs::User, footing.as_ref())?;
            let indexed = index(&bytes[..], footing.as_ref())?;
            assert_eq!(indexed.toc, unpacked.toc, "the table says what is unpacked");
            Ok(unpacked)
        });
        (folder, result)
    }
}

#[test]
fn escapes_are_refused_or_stay_inside() {
    let (_, result) = Archive::new().file("../evil", "x").unpack(None);
    assert!(matches!(result, Err(LayerError::Entry { .. })));
    let (_, result) = Archive::new().file("a/../../evil", "x").unpack(None);
    assert!(matches!(result, Err(LayerError::Entry { .. })));
    let (_, result) = Archive::new().hard("h", "../../etc/passwd").unpack(None);
    assert!(matches!(result, Err(LayerError::Entry { .. })));
    let (_, result) = Archive::new().hard("h", "etc/missing").unpack(None);
    assert!(matches!(result, Err(LayerError::Entry { .. })));
    let (folder, result) = Archive::new().link("out", "../..").file("out/evil", "x").unpack(None);
    assert!(result.is_ok());
    assert!(!folder.path().join("evil").exists());
    assert!(folder.path().join("layer/evil").exists(), "the link leads to the layer's own root");
    let (folder, result) = Archive::new().link("abs", "/etc").file("abs/evil", "x").unpack(None);
    assert!(result.is_ok());
    assert!(folder.path().join("layer/etc/evil").exists());
    let (_, result) = Archive::new().link("a", "b").link("b", "a").file("a/x", "x").unpack(None);
    assert!(result.is_err());
}

#[test]
fn later_entries_win_and_absolute_names_are_relative() {
    let archive = Archive::new()
        .file("/f", "one")
        .file("f", "two")
        .folder("d")
        .file("d/x", "x")
        .file("d", "now a file");
    let (folder, result) = archive.unpack(None);
    let toc = result.expect("unpacked").toc;
    let layer = folder.path().join("layer");
    assert_eq!(std::fs::read_to_string(layer.join("f")).expect("f"), "two");
    assert_eq!(std::fs::read_to_string(layer.join("d")).expect("d"), "now a file");
    assert_eq!(toc.entries().len(), 2);
    assert_eq!(toc.get(b"f").and_then(|e| e.content.clone()), Some(Digest::content(b"two")));
}

#[test]
fn hard_links_times_and_implicit_parents() {
    let (folder, result) = Archive::new().file("a/b/f", "x").hard("a/g", "a/b/f").unpack(None);
    let unpacked = result.expect("unpacked");
    let layer = folder.path().join("layer");
    let (f, g) = (layer.join("a/b/f").metadata().expect("f"), layer.join("a/g").metadata().expect("g"));
    assert_eq!((f.ino(), f.mtime()), (g.ino(), 1000));
    assert!(unpacked.toc.get(b"a").is_some_and(|entry| entry.implicit));
    assert!(unpacked.toc.has_implicit());
}

#[test]
fn a_hard_link_in_the_place_of_its_files_folder_is_refused() {
    // found by the property test of mounted layers: the disk refused it, the table did not
    let archive = || Archive::new().file("d/f", "x").hard("d", "d/f").file("d/f", "y");
    let (_, result) = archive().unpack(None);
    assert!(matches!(result, Err(LayerError::Entry { .. })), "{result:?}");
    assert!(index(&archive().0.into_inner().expect("archive")[..], None).is_err());
}

#[test]
fn other_names_of_a_file_that_is_replaced_keep_it() {
    let archive =
        Archive::new().file("f", "old").hard("g", "f").hard("h", "g").hard("h", "f").file("f", "new");
    let (folder, result) = archive.unpack(None);
    let toc = result.expect("unpacked").toc;
    for (name, text) in [("f", "new"), ("g", "old"), ("h", "old")] {
        assert_eq!(std::fs::read_to_string(folder.path().join("layer").join(name)).expect(name), text);
    }
    let (g, h) = (toc.get(b"g").expect("g"), toc.get(b"h").expect("h"));
    assert_eq!((g.kind, g.content.clone(), g.link.len()), (Kind::File, Some(Digest::content(b"old")), 0));
    assert_eq!((h.kind, h.link.as_slice()), (Kind::Hardlink, &b"g"[..]));
}

#[test]
fn first_names_that_are_replaced_one_after_the_other_are_refused_soon() {
    let replaced = |names: usize| {
        let name = |at: usize| format!("n{at:05}");
        let mut archive = Archive::new().file(&name(0), "x");
        for at in 1..names {
            archive = archive.hard(&name(at), &name(0));
        }
        for at in 0..names {
            archive = archive.file(&name(at), "y");
        }
        index(&archive.0.into_inner().expect("archive")[..], None)
    };
    assert_eq!(replaced(100).expect("few").toc.entries().len(), 100);
    let most = limits::LINKS_PASSED_ON;
    assert!(matches!(replaced(2000), Err(LayerError::Limit { most: found, .. }) if found == most));
}

#[test]
fn privileged_whiteouts_become_devices() {
    slipway_skip::need_root!();
    let archive =
        Archive::new().folder("d").file("d/.wh.gone", "").file("d/.wh..wh..opq", "").file(".wh.f", "");
    let (folder, result) = archive.unpack(None);
    let toc = result.expect("unpacked").toc;
    let node = folder.path().join("layer/d/gone").symlink_metadata().expect("node");
    assert_eq!(node.rdev(), 0);
    assert!(toc.get(b"d").is_some_and(|entry| entry.opaque));
    assert_eq!(toc.get(b"f").map(|entry| entry.kind), Some(Kind::Whiteout));
    let (_, result) = Archive::new().file(".wh...", "").unpack(None);
    assert!(result.is_err());
}

#[test]
fn parents_below_are_followed() {
    let mut lib = Entry::new("lib", Kind::Symlink, 0o777);
    lib.link = b"usr/lib".to_vec();
    let own = rustix::process::getuid().as_raw();
    let mut usr = Entry::new("usr", Kind::Directory, 0o711);
    (usr.uid, usr.gid) = (own, rustix::process::getgid().as_raw());
    let below = crate::layer::Tree::new(vec![std::sync::Arc::new(Toc::new(vec![lib, usr]))]);
    let (folder, result) = Archive::new().file("lib/x", "x").unpack(Some(&below));
    let toc = result.expect("unpacked").toc;
    assert!(folder.path().join("layer/usr/lib/x").exists());
    assert!(!folder.path().join("layer/lib").exists());
    assert_eq!(toc.get(b"usr").map(|entry| (entry.mode, entry.implicit)), Some((0o711, false)));
}

#[test]
fn a_layer_without_parents_lands_where_its_base_leads() {
    let own = |mut entry: Entry| {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        (entry.uid, entry.gid) = (uid, gid);
        entry
    };
    let folder = |path: &str, mode| own(Entry::new(path, Kind::Directory, mode));
    let link = |path: &str, target: &str| {
        let mut entry = own(Entry::new(path, Kind::Symlink, 0o777));
        entry.link = target.into();
        entry
    };
    let usr = || vec![folder("usr", 0o755), folder("usr/lib", 0o750)];
    let with = |entry: Entry| [usr(), vec![entry]].concat();
    for (what, beneath, place, mode) in [
        ("a folder", vec![folder("lib", 0o711)], "lib/x/f", 0o711),
        ("nothing", vec![folder("srv", 0o711)], "lib/x/f", 0o755),
        ("a relative link", with(link("lib", "usr/lib")), "usr/lib/x/f", 0o750),
        ("an absolute link", with(link("lib", "/usr/lib")), "usr/lib/x/f", 0o750),
        ("a link out", with(link("lib", "../../usr/lib")), "usr/lib/x/f", 0o750),
        (
            "two links",
            [with(link("lib", "lib64")), vec![link("lib64", "usr/lib")]].concat(),
            "usr/lib/x/f",
            0o750,
        ),
        ("a link to nothing", vec![link("lib", "usr/gone")], "usr/gone/x/f", 0o755),
        ("a file", vec![own(Entry::new("lib", Kind::File, 0o600))], "lib/x/f", 0o755),
    ] {
        let below = crate::layer::Tree::new(vec![std::sync::Arc::new(Toc::new(beneath))]);
        let (scratch, result) = Archive::new().file("lib/x/f", "x").unpack(Some(&below));
        let toc = result.unwrap_or_else(|error| panic!("{what}: {error}")).toc;
        let unpacked = scratch.path().join("layer").join(place);
        assert!(unpacked.is_file(), "{what}");
        let lent = unpacked.parent().and_then(Path::parent).expect("folder");
        assert_eq!(lent.metadata().expect("folder").mode() & 0o7777, mode, "{what}");
        assert_eq!(toc.get(place.as_bytes()).map(|entry| entry.kind), Some(Kind::File), "{what}");
    }
}

#[test]
fn what_a_footing_does_not_foresee_is_an_error() {
    // the link is there when `lib/x` comes, and a folder at the end: no footing looks at what it led to
    let archive = Archive::new().link("usr", "/opt").file("lib/f", "x").folder("usr");
    let mut lib = Entry::new("lib", Kind::Symlink, 0o777);
    lib.link = b"usr/deep".to_vec();
    let below = crate::layer::Tree::new(vec![std::sync::Arc::new(Toc::new(vec![
        lib,
        Entry::new("opt", Kind::Directory, 0o700),
        Entry::new("usr", Kind::Directory, 0o755),
    ]))]);
    let (_, result) = archive.unpack(Some(&below));
    assert!(matches!(result, Err(LayerError::Entry { .. })), "{result:?}");
}

#[test]
fn links_that_multiply_are_refused_soon() {
    for target in ["{}/../{}", "{}/../{}/../{}", "./{}/.././{}"] {
        let mut archive = Archive::new().folder("end");
        for number in 0..38 {
            let next = if number == 37 { "end".to_owned() } else { format!("l{}", number + 1) };
            archive = archive.link(&format!("l{number}"), &target.replace("{}", &next));
        }
        let started = std::time::Instant::now();
        let (_, result) = archive.file("l0/f", "x").unpack(None);
        assert!(matches!(result, Err(LayerError::Entry { .. })), "{target}: {result:?}");
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{target}");
    }
    // as many as the kernel follows are fine
    let mut archive = Archive::new().folder("end");
    for number in 0..30 {
        let next = if number == 29 { "end".to_owned() } else { format!("l{}", number + 1) };
        archive = archive.link(&format!("l{number}"), &next);
    }
    let (folder, result) = archive.file("l0/f", "x").unpack(None);
    result.expect("a chain of links");
    assert!(folder.path().join("layer/end/f").exists());
}

#[test]
fn of_two_attributes_of_one_name_the_later_counts() {
    let record = |value: &str| {
        let text = format!(" SCHILY.xattr.user.k={value}\n");
        format!("{}{text}", text.len() + 2)
    };
    let pax = record("z") + &record("a");
    let archive = Archive::new().entry(tar::EntryType::XHeader, "pax", "", pax.as_bytes()).file("f", "x");
    let bytes = archive.0.into_inner().expect("archive");
    let toc = index(&bytes[..], None).expect("index").toc;
    let found = toc.get(b"f").expect("the file");
    assert_eq!(found.xattrs, [(b"user.k".to_vec(), b"a".to_vec())]);
}
