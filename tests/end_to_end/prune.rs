//! Room: what takes it, what gives it back, and a disk that has none.

use crate::support::{Slipway, run};
use std::path::PathBuf;
use std::process::Command;

const RECIPE: &str = "FROM base AS maker\nRUN dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null\nFROM base\nRUN --mount=from=maker,target=/m cp /m/etc/hostname /kept 2>/dev/null || echo x > /kept\n";

fn bytes(slipway: &Slipway, kind: &str) -> u64 {
    let lines = slipway.ok(["df", "--format", "{{.Type}}={{.Bytes}}"]);
    let line =
        lines.lines().find_map(|line| line.strip_prefix(&format!("{kind}="))).expect("the kind is listed");
    line.parse().expect("bytes")
}

#[test]
fn what_builds_keep_goes_and_images_stay() {
    let slipway = Slipway::new();
    slipway.build("made", RECIPE, &[]).ok();
    assert!(bytes(&slipway, "Build Cache") > 3 << 20, "the maker's layer is kept");
    let again = slipway.build("made", RECIPE, &[]);
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    assert!(slipway.run(["prune"]).fails(1).contains("--force"));
    let told = slipway.ok(["prune", "-f"]);
    assert!(told.contains("Total reclaimed space: ") && !told.contains(": 0B"), "{told}");
    assert_eq!(bytes(&slipway, "Build Cache"), 0);
    assert_eq!(slipway.shell("made", "cat /kept"), "x\n");
    slipway.build("made", RECIPE, &[]).ok();
    let told = slipway.ok(["system", "prune", "-a", "-f"]);
    assert!(told.contains("untagged: made:latest") && told.contains("untagged: base:latest"), "{told}");
    assert_eq!((bytes(&slipway, "Build Cache"), bytes(&slipway, "Images")), (0, 0));
    let left =
        run(Command::new("find").arg(slipway.path("store")).args(["-path", "*/blobs/*", "-type", "f"])).ok();
    assert_eq!(left, "");
}

#[test]
fn docker_s_names_of_it_take_their_part() {
    let slipway = Slipway::new();
    slipway.build("made", RECIPE, &[]).ok();
    slipway.build_with("made", "FROM base\nRUN echo two > /kept\n", &[], &[]).ok();
    let images = || slipway.ok(["images", "-q"]).lines().count();
    assert_eq!(images(), 3, "the first one lost its name");
    slipway.ok(["image", "prune", "-f"]);
    assert_eq!(images(), 2);
    assert!(bytes(&slipway, "Build Cache") > 3 << 20);
    slipway.ok(["builder", "prune", "-f", "--filter", "until=24h"]);
    assert!(bytes(&slipway, "Build Cache") > 3 << 20, "nothing is a day old");
    slipway.ok(["buildx", "prune", "--force", "--keep-storage", "1mb"]);
    assert!(bytes(&slipway, "Build Cache") <= 1 << 20);
    assert_eq!(images(), 2);
    let message = slipway.fails(2, ["prune", "-f", "--filter", "label=x"]);
    assert!(message.contains("`label=x`") && message.contains("until="), "{message}");
}

#[test]
fn rmi_says_what_it_freed_and_what_builds_keep() {
    let slipway = Slipway::new();
    slipway.build("made", RECIPE, &[]).ok();
    let removed = slipway.run(["rmi", "made"]);
    assert!(
        removed.stderr.contains("freed ") && removed.stderr.contains("slipway prune"),
        "{}",
        removed.stderr
    );
    removed.ok();
    slipway.ok(["prune", "-f"]);
    let removed = slipway.run(["rmi", "base"]);
    assert!(
        removed.stderr.contains("freed ") && !removed.stderr.contains("slipway prune"),
        "{}",
        removed.stderr
    );
    assert!(!removed.stderr.contains("freed 0B"), "{}", removed.stderr);
}

/// A small file system; gone with this.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn privileged_a_full_disk_is_called_so_and_can_be_mended() {
    slipway_skip::need_root!();
    let slipway = Slipway::empty();
    let store = slipway.path("store");
    std::fs::create_dir_all(&store).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&store)).ok();
    let _small = Small(store.clone());
    slipway.import_base();
    let big = "FROM base\nARG N\nRUN dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null; echo $N\n";
    let mut failed = None;
    for number in 0..20 {
        let built =
            slipway.build_with(&format!("i{number}"), big, &[], &["--build-arg", &format!("N={number}")]);
        if built.code() != Some(0) {
            failed = Some(built.stderr);
            break;
        }
    }
    let message = failed.expect("24 MiB are not enough for 20 images of 6");
    assert!(message.contains("disk is full") || message.contains("No space left"), "{message}");
    assert!(!message.contains("damaged") && !message.contains("cannot be read"), "{message}");
    // nothing at all is left
    let fill = format!("cat /dev/zero > {}/fill 2>/dev/null; sync", store.display());
    let _ = Command::new("sh").args(["-c", &fill]).status();
    let names = slipway.ok(["images", "--format", "{{.Repository}}"]);
    assert!(names.lines().any(|name| name == "i0"), "{names}");
    let archive = slipway.path("copy.tar");
    slipway.ok(["save", "-o", archive.to_str().unwrap(), "base"]);
    let message = slipway.run(["load", "-i", archive.to_str().unwrap()]).stderr;
    assert!(!message.contains("damaged"), "{message}");
    let removed = slipway.run(["rmi", "i0"]);
    assert!(removed.stderr.contains("freed ") && !removed.stderr.contains("freed 0B"), "{}", removed.stderr);
    removed.ok();
    slipway.ok(["prune", "-f"]);
    std::fs::remove_file(store.join("fill")).unwrap();
    for name in names.lines().filter(|name| name.starts_with('i') && *name != "i0") {
        slipway.ok(["rmi", name]);
    }
    slipway.ok(["prune", "-f"]);
    slipway.build_with("after", big, &[], &["--build-arg", "N=after"]).ok();
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
}
