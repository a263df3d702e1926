//! A disk that becomes full in the middle of a layer, by every way that a layer comes: said so, with where and how to mend
//! it; nothing of it is left, what was there before still runs, and with room the same command works.

use crate::support::server::Server;
use crate::support::{Ended, Slipway, base};
use slipway_oci::file::disk_bytes;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// What is left on the disk when a command is to fail, and what its layer takes.
const LEFT: u64 = 8 * MIB;
const LAYER: usize = 14 << 20;

/// Bytes that no compressor makes smaller, or that every one does.
fn content(is_dense: bool) -> Vec<u8> {
    if !is_dense {
        return b"0123456789abcde\n".repeat(LAYER / 16);
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..LAYER / 8).flat_map(|_| next()).collect()
}

/// A small file system with a store on it.
struct Disk {
    slipway: Slipway,
    filler: PathBuf,
}

impl Disk {
    fn new(kind: &str) -> Option<Disk> {
        let script = match kind {
            "ext4" => {
                "truncate -s 96M $F/image; mkfs.ext4 -q -m 0 $F/image; mkdir $F/disk; mount -o loop $F/image $F/disk"
            }
            _ => "mkdir $F/disk; mount -t tmpfs -o size=96m tmpfs $F/disk",
        };
        match Slipway::empty().on("disk/store", script) {
            Ok(mut slipway) => {
                // or it is that of this repository's last commit, which may be another before the test ends
                slipway.environment.push(("SOURCE_DATE_EPOCH".to_owned(), "1600000000".to_owned()));
                let filler = slipway.inside("../filler");
                Some(Disk { slipway, filler })
            }
            Err(words) => {
                slipway_skip::skip(&format!("{kind}: {words}"));
                None
            }
        }
    }

    /// Leaves so much and no more.
    fn leave(&self, bytes: u64) {
        let found = rustix::fs::statvfs(self.filler.parent().unwrap()).unwrap();
        let mut file = File::create(&self.filler).unwrap();
        let mut take = (found.f_bavail * found.f_frsize).saturating_sub(bytes);
        while take > 0 {
            let count = take.min(MIB) as usize;
            // what the file system needs for itself it may take now
            if file.write_all(&vec![7; count]).is_err() {
                break;
            }
            take -= count as u64;
        }
        file.sync_all().unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(&self.filler).unwrap();
    }

    /// Blobs, layers in every shape, and what is half-written.
    fn parts(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["blobs/sha256", "layers", "tmp", "leases"] {
            let entries = fs::read_dir(self.slipway.inside(folder)).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| format!("{folder}/{}", entry.file_name().display())));
        }
        found.sort();
        found
    }
}

/// The words that a user needs.
#[track_caller]
fn says_what_and_where(case: &str, ended: &Ended, place: &Path) {
    let words = &ended.stderr;
    assert!(!ended.status.success(), "{case}: there was room");
    assert!(words.to_lowercase().contains("no space left on"), "{case}: {} {words}", ended.status);
    assert!(words.contains(place.to_str().unwrap()), "{case} does not say where: {words}");
    assert!(words.contains("slipway prune"), "{case} does not say how to mend it: {words}");
    for wrong in ["damaged", "panicked", "cannot be read", "database is"] {
        assert!(!words.contains(wrong), "{case}: {words}");
    }
}

/// How a layer comes.
enum Way<'w> {
    /// A build of this recipe.
    Build(&'w str),
    /// Words of another command, after which the image is run.
    Command(Vec<&'w str>),
}

fn carry_out(slipway: &Slipway, name: &str, way: &Way<'_>, context: &Path) -> Ended {
    match way {
        Way::Build(recipe) => {
            fs::write(context.join("Dockerfile"), recipe).unwrap();
            slipway.build_folder(name, context, &[])
        }
        Way::Command(words) => {
            let ended = slipway.run(words);
            if !ended.status.success() {
                return ended;
            }
            slipway.run(["run", "--rm", "--network", "none", name, "true"])
        }
    }
}

/// What came to be run from and has some size: what was finished may stay, a loaded image whose layer had no room in its
/// runnable shape, and a small layer beside it.
fn shapes_since(disk: &Disk, before: &[String]) -> Vec<String> {
    let is_small = |part: &str| disk_bytes(&disk.slipway.root.join(part)).is_ok_and(|bytes| bytes < 64 << 10);
    let is_shape = |part: &String| part.starts_with("layers/") && !part.ends_with(".toc") && !is_small(part);
    disk.parts().into_iter().filter(|part| is_shape(part) && !before.contains(part)).collect()
}

/// An archive of a root with one of the files in it, and a program.
fn root_archive(slipway: &Slipway, context: &Path, name: &str) -> PathBuf {
    let path = slipway.path(&format!("{name}-root.tar"));
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    let busybox = slipway_skip::find("busybox").expect("busybox-static is installed");
    builder.append_path_with_name(context.join(name), "f").unwrap();
    builder.append_path_with_name(busybox, "bin/true").unwrap();
    builder.finish().unwrap();
    path
}

fn every_way(kind: &str) {
    slipway_skip::need!("unshare", "nsenter", "mkfs.ext4");
    let Some(disk) = Disk::new(kind) else { return };
    let slipway = &disk.slipway;
    let mut elsewhere = Slipway::new();
    elsewhere.environment.clone_from(&slipway.environment);
    let context = slipway.context("context", &[]);
    fs::write(context.join("dense"), content(true)).unwrap();
    fs::write(context.join("text"), content(false)).unwrap();
    // archives of the same layers
    let archive = |name: &str| {
        let path = slipway.path(&format!("{name}.tar"));
        let way = format!("FROM base\nCOPY {name} /f\nRUN echo {name} > /name\n");
        carry_out(&elsewhere, name, &Way::Build(&way), &context).ok();
        elsewhere.ok(["save".as_ref(), "-o".as_ref(), path.as_os_str(), name.as_ref()]);
        path
    };
    let [dense, text] = ["dense", "text"].map(archive);
    let server = Server::slipway(&elsewhere, &elsewhere.path("storage"));
    let remotes = ["dense", "text"].map(|name| {
        let remote = server.name(name);
        elsewhere.ok(["push", "-q", name, &remote]);
        remote
    });
    let roots = ["dense", "text"].map(|name| root_archive(slipway, &context, name));
    let [dense_root, text_root] = [0, 1].map(|number| roots[number].to_str().unwrap());
    let (dense, text) = (dense.to_str().unwrap(), text.to_str().unwrap());
    let cases = [
        ("copied-dense", Way::Build("FROM base\nCOPY dense /f\n")),
        ("copied", Way::Build("FROM base\nCOPY text /f\nRUN echo 1 > /after\n")),
        ("made", Way::Build("FROM base\nRUN yes 0123456789abcde | head -c 14680064 > /f\n")),
        (
            "made-dense",
            Way::Build("FROM base\nRUN head -c 6000000 /dev/urandom > /f; echo \"$(wc -c < /f)\" > /n\n"),
        ),
        ("imported-dense", Way::Command(vec!["import", dense_root, "imported-dense"])),
        ("imported", Way::Command(vec!["import", text_root, "imported"])),
        ("dense", Way::Command(vec!["load", "-i", dense])),
        ("text", Way::Command(vec!["load", "-i", text])),
        (remotes[0].as_str(), Way::Command(vec!["pull", "-q", &remotes[0]])),
        (remotes[1].as_str(), Way::Command(vec!["pull", "-q", &remotes[1]])),
    ];
    let archive = base::busybox();
    slipway.ok(["import".as_ref(), archive.as_os_str(), "base".as_ref()]);
    slipway.shell("base", "true");
    for (name, way) in cases {
        let case = format!("{kind}, {name}");
        let before = disk.parts();
        disk.leave(LEFT);
        let ended = carry_out(slipway, name, &way, &context);
        says_what_and_where(&case, &ended, &slipway.root);
        assert_eq!(slipway.leftovers(), [] as [String; 0], "{case}");
        assert_eq!(shapes_since(&disk, &before), [] as [String; 0], "{case}");
        assert_eq!(slipway.shell("base", "cat /etc/motd"), "base\n", "{case}: what was there still runs");
        disk.make_room();
        carry_out(slipway, name, &way, &context).ok();
        let script = "md5sum /f | cut -d ' ' -f 1; test ! -e /name || cat /name";
        if name.starts_with("copied") || name == "dense" || name == "text" {
            carry_out(&elsewhere, name, &way, &context).ok();
            assert_eq!(slipway.digest(name), elsewhere.digest(name), "{case}");
            assert_eq!(slipway.shell(name, script), elsewhere.shell(name, script), "{case}");
        }
        slipway.ok(["rmi", "-f", name]);
        slipway.ok(["prune", "-f", "--all", "--filter", "until=0s"]);
        let archive = base::busybox();
        slipway.ok(["import".as_ref(), archive.as_os_str(), "base".as_ref()]);
        slipway.shell("base", "true");
    }
}

/// How much finer than a layer's size the room is varied.
const ROOM_STEP: usize = 640 << 10;

/// The disk becomes full at every place in turn: within the archive, the blob, the runnable shape, the table of contents,
/// the database.
fn every_place(kind: &str) {
    slipway_skip::need!("unshare", "nsenter", "mkfs.ext4");
    let Some(disk) = Disk::new(kind) else { return };
    let slipway = &disk.slipway;
    let context = slipway.context("context", &[]);
    fs::write(context.join("text"), content(false)).unwrap();
    let archive = slipway.path("text.tar");
    let mut elsewhere = Slipway::new();
    elsewhere.environment.clone_from(&slipway.environment);
    let recipe = "FROM base\nCOPY text /f\nRUN echo 1 > /after\n";
    carry_out(&elsewhere, "text", &Way::Build(recipe), &context).ok();
    elsewhere.ok(["save".as_ref(), "-o".as_ref(), archive.as_os_str(), "text".as_ref()]);
    let load = Way::Command(vec!["load", "-i", archive.to_str().unwrap()]);
    let base = base::busybox();
    slipway.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    slipway.shell("base", "true");
    let mut failures = 0;
    for left in (0..LAYER).step_by(ROOM_STEP) {
        for (name, way) in [("load", &load), ("build", &Way::Build(recipe))] {
            let case = format!("{kind}, {name}, {left} bytes left");
            disk.leave(left as u64);
            let ended = carry_out(slipway, "text", way, &context);
            if !ended.status.success() {
                failures += 1;
                says_what_and_where(&case, &ended, &slipway.root);
            }
            assert_eq!(slipway.leftovers(), [] as [String; 0], "{case}");
            disk.make_room();
            carry_out(slipway, "text", way, &context).ok();
            assert_eq!(slipway.digest("text"), elsewhere.digest("text"), "{case}");
            slipway.ok(["rmi", "-f", "text"]);
            slipway.ok(["prune", "-f", "--all", "--filter", "until=0s"]);
            slipway.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
        }
    }
    assert!(failures > 20, "only {failures} became full");
}

#[test]
fn privileged_a_disk_that_becomes_full_anywhere_is_mended_by_room() {
    slipway_skip::need_root!();
    every_place("ext4");
}

#[test]
fn privileged_memory_that_becomes_full_anywhere_is_mended_by_room() {
    slipway_skip::need_root!();
    every_place("tmpfs");
}

#[test]
fn privileged_a_disk_that_becomes_full_within_a_layer_is_mended_by_room() {
    slipway_skip::need_root!();
    every_way("ext4");
}

#[test]
fn privileged_memory_that_becomes_full_within_a_layer_is_mended_by_room() {
    slipway_skip::need_root!();
    every_way("tmpfs");
}
