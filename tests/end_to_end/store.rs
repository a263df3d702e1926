//! The local store: images, names, import, save and load.

use crate::support::image::{Image, text};
use crate::support::server::Server;
use crate::support::{Slipway, run, run_with_input};
use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn images_are_listed_named_and_removed() {
    let slipway = Slipway::new();
    slipway.build("made:1", "FROM base\nRUN touch /x\n", &[]).ok();
    slipway.ok(["tag", "made:1", "other:2"]);
    let listed = slipway.ok(["images"]);
    assert!(listed.lines().count() == 4, "{listed}");
    for name in ["made", "other", "base"] {
        assert!(listed.contains(name), "{listed}");
    }
    let digest = slipway.digest("made:1");
    assert!(slipway.ok(["images", "--digests"]).contains(&digest));
    assert_eq!(slipway.digest("other:2"), digest);
    slipway.ok(["rmi", "made:1"]);
    assert_eq!(slipway.digest("other:2"), digest);
    assert_eq!(slipway.shell("other:2", "ls /x"), "/x\n");
    slipway.ok(["rmi", "other:2"]);
    let message = slipway.fails(1, ["inspect", "other:2"]);
    assert!(message.contains("other:2"), "{message}");
    // the base's layer is still somebody's
    assert_eq!(slipway.shell("base", "cat /etc/motd"), "base\n");
}

#[test]
fn inspect_speaks_json_and_templates() {
    let slipway = Slipway::new();
    slipway.build("seen", "FROM base\nENV A=b\nLABEL l=m\nCMD [\"x\", \"y\"]\n", &[]).ok();
    let all: Value = serde_json::from_str(&slipway.ok(["inspect", "seen", "base"])).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["Config"]["Cmd"], serde_json::json!(["x", "y"]));
    let image = Image::read(&slipway, "seen");
    assert_eq!(all[0]["Digest"], image.digest.as_str());
    assert_eq!(all[0]["Id"], image.manifest["config"]["digest"]);
    let format = |template: &str| slipway.ok(["inspect", "--format", template, "seen"]).trim().to_owned();
    assert_eq!(format("{{.Digest}}"), image.digest);
    assert_eq!(format("{{.Id}}"), text(&image.manifest["config"]["digest"]));
    assert_eq!(format("{{json .Config.Cmd}}"), "[\"x\",\"y\"]");
    assert_eq!(format("{{.Os}}/{{.Architecture}}"), format!("linux/{}", text(&image.config["architecture"])));
    assert_eq!(format("{{index .Config.Labels \"l\"}}"), "m");
    assert_eq!(format("{{range .Config.Cmd}}<{{.}}>{{end}}"), "<x><y>");
    let message = slipway.run(["inspect", "--format", "{{.Digest", "seen"]);
    assert!(matches!(message.code(), Some(1 | 2)) && !message.stderr.is_empty());
}

#[test]
fn a_short_id_is_enough() {
    let slipway = Slipway::new();
    let id = slipway.ok(["inspect", "--format", "{{.Id}}", "base"]).trim().replace("sha256:", "");
    for name in [&id[..12], &id, &format!("sha256:{id}")] {
        assert_eq!(slipway.digest(name), slipway.digest("base"));
    }
}

#[test]
fn a_folder_and_its_archive_become_images() {
    let slipway = Slipway::empty();
    let folder = slipway.context("rootfs", &[("bin/", ""), ("etc/file", "content")]);
    fs::copy(crate::support::find("busybox").unwrap(), folder.join("bin/sh")).unwrap();
    slipway.ok(["import".as_ref(), folder.as_os_str(), "folder".as_ref()]);
    for (flag, name) in [("-cf", "plain.tar"), ("-czf", "zipped.tar.gz")] {
        let archive = slipway.path(name);
        run(Command::new("tar").arg(flag).arg(&archive).arg("-C").arg(&folder).arg(".")).ok();
        slipway.ok(["import".as_ref(), archive.as_os_str(), "archive".as_ref()]);
        let script = "read line < /etc/file; echo $line";
        assert_eq!(slipway.ok(["run", "--rm", "archive", "/bin/sh", "-c", script]), "content\n");
        assert_eq!(slipway.ok(["run", "--rm", "folder", "/bin/sh", "-c", script]), "content\n");
        let mut command = slipway.command(["import", "-", "streamed"]);
        run_with_input(&mut command, &fs::read(&archive).unwrap()).ok();
        assert_eq!(slipway.digest("streamed"), slipway.digest("archive"));
    }
}

#[test]
fn saved_images_load_elsewhere() {
    let slipway = Slipway::new();
    slipway.build("saved:1", "FROM base\nRUN echo saved > /file && rm /etc/motd\nENV A=b\n", &[]).ok();
    let digest = slipway.digest("saved:1");
    for (number, format) in ["oci-archive", "oci-dir", "docker-archive"].into_iter().enumerate() {
        let place = slipway.path(format);
        slipway.ok(["save", "--format", format, "-o", place.to_str().unwrap(), "saved:1", "base"]);
        let other = slipway.another(&format!("other-{number}"));
        let loaded = other.ok(["load", "-i", place.to_str().unwrap()]);
        assert!(loaded.contains("saved:1") && loaded.contains("base"), "{loaded}");
        assert_eq!(other.shell("saved:1", "cat /file; ls /etc/motd 2>/dev/null; echo $A"), "saved\nb\n");
        if format != "docker-archive" {
            assert_eq!(other.digest("saved:1"), digest, "{format}");
        }
        let id = |of: &Slipway| of.ok(["inspect", "--format", "{{.Id}}", "saved:1"]);
        assert_eq!(id(&other), id(&slipway), "{format}");
    }
    let saved =
        run(&mut slipway.command(["save", "-o", slipway.path("again").to_str().unwrap(), "saved:1", "base"]));
    saved.ok();
    let (first, second) =
        (fs::read(slipway.path("oci-archive")).unwrap(), fs::read(slipway.path("again")).unwrap());
    assert!(first == second, "the same images, the same archive");
}

#[test]
fn an_archive_passes_through_pipes() {
    let slipway = Slipway::new();
    let other = slipway.another("other");
    let mut save = slipway.command(["save", "base"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut load = other.command(["load"]);
    run_from(&mut load, save.stdout.take().unwrap());
    assert!(save.wait().unwrap().success());
    assert_eq!(other.digest("base"), slipway.digest("base"));
}

fn run_from(command: &mut Command, from: std::process::ChildStdout) {
    crate::support::start(command.stdin(from)).wait().ok();
}

#[test]
fn names_are_checked_and_completed() {
    let slipway = Slipway::new();
    slipway.ok(["tag", "base", "docker.io/library/base:latest"]);
    assert_eq!(slipway.ok(["images"]).lines().count(), 2, "the same name in full");
    for bad in ["UPPER", "a//b", "a:b:c:d", "-x", "a@sha256:12"] {
        let message = slipway.run(["tag", "base", "--", bad]);
        assert!(matches!(message.code(), Some(1 | 2)), "{bad}: {}", message.stderr);
        assert!(message.stderr.contains(bad), "{bad}: {}", message.stderr);
    }
}

#[test]
fn a_store_of_the_future_is_refused() {
    let slipway = Slipway::new();
    let database = slipway.root.join("store.db");
    let mut python = Command::new("python3");
    python.args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version=999'); c.commit()"]);
    if crate::support::find("python3").is_none() {
        return crate::support::skip("`python3` is not installed");
    }
    run(python.arg(&database)).ok();
    let message = slipway.fails(1, ["images"]);
    assert!(message.contains("999"), "{message}");
}

#[test]
fn removing_everything_leaves_no_content() {
    let slipway = Slipway::new();
    slipway.build("one", "FROM base\nRUN echo 1 > /one\n", &[]).ok();
    slipway.ok(["rmi", "one", "base"]);
    assert_eq!(slipway.ok(["images"]).lines().count(), 1);
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

/// One image that cannot be read, for each way in which that can be, beside good ones: everything else works, and says
/// which one it is.
#[test]
fn an_image_that_cannot_be_read_stops_nobody() {
    type Damage = fn(&std::path::Path);
    let gone: Damage = |path| fs::remove_file(path).unwrap();
    let cut: Damage = |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap();
    let turned: Damage = |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let folder: Damage = |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    let broken = "FROM base\nRUN echo broken > /broken\nENV BROKEN=1\n";
    for part in ["{{.Digest}}", "{{.Id}}"] {
        for (number, damage) in [gone, cut, turned, folder].into_iter().enumerate() {
            let slipway = Slipway::new();
            slipway.build("good", "FROM base\nRUN echo good > /good\n", &[]).ok();
            slipway.build("broken", broken, &[]).ok();
            let digest = slipway.ok(["inspect", "--format", part, "broken"]);
            let blob = slipway.root.join("blobs/sha256").join(digest.trim().strip_prefix("sha256:").unwrap());
            damage(&blob);
            let what = format!("{part} {number}");
            let listed = slipway.run(["images"]);
            assert_eq!(listed.code(), Some(0), "{what}: {}", listed.stderr);
            assert!(
                listed.stdout.contains("good") && listed.stdout.contains("broken"),
                "{what}: {}",
                listed.stdout
            );
            assert!(listed.stderr.contains("`broken:latest`"), "{what}: {}", listed.stderr);
            assert_eq!(listed.stderr.lines().count(), 1, "{what}: {}", listed.stderr);
            assert_eq!(slipway.ok(["images", "-q"]).lines().count(), 3, "{what}");
            let inspected = slipway.run(["inspect", "broken", "good"]);
            assert!(inspected.stdout.contains("good:latest"), "{what}: {}", inspected.stderr);
            assert!(inspected.fails(1).contains("broken"), "{what}");
            // work with the others
            assert_eq!(slipway.shell("good", "cat /good"), "good\n");
            slipway.build("other", "FROM good\nRUN cat /good > /other\n", &[]).ok();
            let failed = slipway.build("on-it", "FROM broken\nRUN true\n", &[]);
            if failed.code() != Some(0) {
                assert!(failed.stderr.contains("slipway rmi"), "{what}: {}", failed.stderr);
            }
            slipway.ok(["tag", "other", "again"]);
            slipway.ok(["rmi", "again", "other"]);
            // it can be made again, and taken away
            if number % 2 == 0 {
                slipway.build("broken", broken, &[]).ok();
                assert_eq!(slipway.shell("broken", "echo $BROKEN; cat /broken"), "1\nbroken\n", "{what}");
                damage(&blob);
            }
            slipway.ok(["rmi", "broken"]);
            assert!(!blob.exists(), "{what}: its remains are collected");
            let listed = slipway.run(["images"]);
            assert_eq!((listed.stderr.as_str(), listed.stdout.contains("broken")), ("", false), "{what}");
            slipway.build("broken", broken, &[]).ok();
            assert_eq!(slipway.shell("broken", "cat /broken"), "broken\n", "{what}");
            assert_eq!(slipway.leftovers(), Vec::<String>::new(), "{what}");
        }
    }
}

#[test]
fn a_reset_takes_the_store_and_nothing_else() {
    let slipway = Slipway::new();
    slipway
        .build("one", "FROM base\nRUN --mount=type=cache,target=/c echo 1 > /one\nCOPY f /f\n", &[("f", "x")])
        .ok();
    fs::write(slipway.root.join("mine"), "mine").unwrap();
    assert!(slipway.fails(1, ["system", "reset"]).contains("--force"));
    assert!(slipway.root.join("store.db").exists());
    let ended = slipway.run(["system", "reset", "--force"]);
    assert!(ended.stderr.contains("mine"), "{}", ended.stderr);
    ended.ok();
    let left: Vec<_> =
        fs::read_dir(&slipway.root).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["mine"]);
    slipway.ok(["system", "reset", "--force"]);
    assert!(slipway.root.join("mine").exists());
    // a folder that is no store is not made one, nor closed, nor emptied
    let mut other = slipway.another("other");
    other.root = slipway.context("other", &[("tmp/x", ""), ("run/y", ""), ("blobs/z", "")]);
    other.ok(["system", "reset", "-f"]);
    assert_eq!(fs::read_dir(&other.root).unwrap().count(), 3);
}

/// Changes a byte in the file at `path`, where there is `what`; answers whether that is so.
fn rot(path: &std::path::Path, what: &[u8]) -> bool {
    let mut bytes = fs::read(path).unwrap();
    let Some(at) = bytes.windows(what.len()).position(|found| found == what) else { return false };
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    true
}

/// What the disk forgot is found and named, and comes back: what a layer is run from by itself, a blob by a pull.
#[test]
fn a_damaged_store_is_told_and_mended() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("registry"));
    let name = server.name("team/app:1");
    slipway.build(&name, "FROM base\nRUN seq 100000 > /numbers\n", &[]).ok();
    slipway.ok(["push", &name]);
    let said = slipway.ok(["scrub"]);
    assert!(said.trim_end().ends_with("all right"), "{said}");
    let far = slipway.another("far");
    far.ok(["pull", &name]);
    assert_eq!(far.shell(&name, "tail -1 /numbers"), "100000\n");
    let mut rotten = 0;
    for layer in fs::read_dir(far.inside("layers")).unwrap().map(|one| one.unwrap().path()) {
        let file = if layer.is_dir() { layer.join("numbers") } else { layer };
        rotten += usize::from(file.is_file() && rot(&file, b"\n50000\n"));
    }
    assert!(rotten > 0);
    let ended = far.run(["system", "check"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    let name_told = format!(" of {name}: ");
    assert!(ended.stdout.contains("layer f") && ended.stdout.contains(&name_told), "{}", ended.stdout);
    let said = far.ok(["system", "check", "--repair"]);
    assert!(said.contains("it went, and is made again"), "{said}");
    assert_eq!(far.shell(&name, "tail -1 /numbers; wc -l < /numbers"), "100000\n100000\n");
    // the blob of the layer, and what it is run from
    let digest = text(&Image::read(&far, &name).manifest["layers"][1]["digest"]).to_owned();
    let blob = far.inside("blobs/sha256").join(&digest["sha256:".len()..]);
    let bytes = fs::read(&blob).unwrap();
    assert!(rot(&blob, &bytes[bytes.len() / 2..][..9]));
    let ended = far.run(["scrub", "--repair", "--json"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(told["wrong"][0]["digest"], digest.as_str());
    assert_eq!(told["wrong"][0]["outcome"], "missing");
    assert!(!blob.exists());
    far.ok(["pull", &name]);
    assert!(blob.exists(), "the pull brought it back");
    assert!(far.ok(["scrub", "-q"]).contains("all right"));
}
