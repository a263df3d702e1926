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

/// A cache and results of its own.
const CACHED: &str = "FROM base\nARG N\nRUN --mount=type=cache,id=things,target=/c dd if=/dev/urandom of=/c/$N bs=64k count=8 2>/dev/null; echo $N > /n\n";

/// What of the store is not its database: bytes of disk.
fn disk(slipway: &Slipway) -> u64 {
    let places = ["blobs", "layers", "caches", "context"].map(|place| slipway.path("store").join(place));
    let counted = run(Command::new("du")
        .args(["-s", "--block-size=1", "-c"])
        .args(places.iter().filter(|place| place.exists())));
    counted.ok().lines().last().unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes that are said to be reclaimable, of each kind.
fn reclaimable(slipway: &Slipway, filter: &[&str]) -> u64 {
    let filters = filter.iter().flat_map(|filter| ["--filter", filter]);
    let lines = slipway.ok(["du", "--format", "{{.ReclaimableBytes}}"].into_iter().chain(filters));
    lines.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

#[test]
fn du_says_what_there_is_and_prune_takes_what_it_announced() {
    let slipway = Slipway::new();
    slipway.build_with("made", CACHED, &[], &["--build-arg", "N=1"]).ok();
    let table = slipway.ok(["du"]);
    for word in ["images", "results of steps", "caches of RUN", "known contexts", "RECLAIMABLE", "all"] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    let caches = slipway.ok(["buildx", "du", "--verbose", "--filter", "type=exec.cachemount"]);
    assert!(caches.contains("things") && caches.contains("1 of "), "{caches}");
    let json = slipway.ok(["du", "--json", "--filter", "id=things"]);
    let record: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((record["Type"].as_str(), record["InUse"].as_str()), (Some("cache"), Some("no")), "{json}");
    assert!(record["Bytes"].as_u64().unwrap() >= 512 << 10, "{json}");
    // a plain prune leaves what is costly to have again
    slipway.ok(["prune", "-f"]);
    assert_eq!(slipway.ok(["du", "--json", "--filter", "type=cache"]).lines().count(), 1);
    let (announced, before) = (reclaimable(&slipway, &["type=cache"]), disk(&slipway));
    let told = slipway.ok(["builder", "prune", "-f", "--filter", "type=exec.cachemount"]);
    assert!(told.contains("forgotten: the cache things"), "{told}");
    assert_eq!(before - disk(&slipway), announced, "{told}");
    assert_eq!(slipway.ok(["du", "--json", "--filter", "type=cache"]), "");
    let detail = slipway.ok(["system", "df", "-v"]);
    assert!(detail.contains("made:latest") && detail.contains("Build Cache"), "{detail}");
    let message = slipway.fails(2, ["du", "--filter", "type=nothing"]);
    assert!(message.contains("cache, context"), "{message}");
    // last uses are noted in seconds: what was used in this one was not used before it
    std::thread::sleep(std::time::Duration::from_millis(1100));
    slipway.ok(["system", "prune", "-a", "-f", "--volumes", "--filter", "until=0s"]);
    assert_eq!(reclaimable(&slipway, &[]), 0);
}

/// Builders that never stop, and a prune beside them again and again: nothing that a build needs is taken.
#[test]
fn two_builds_and_a_prune_at_once() {
    let slipway = Slipway::new();
    let context = slipway.context("context", &[("Dockerfile", CACHED), ("file", "x")]);
    let builds = |name: &str| -> Vec<Command> {
        let build = |number: usize| {
            let (tag, arg) = (format!("{name}:{number}"), format!("N={name}{}", number % 3));
            slipway.command(["build", "-q", "-t", &tag, "--build-arg", &arg, context.to_str().unwrap()])
        };
        (0..12).map(build).collect()
    };
    let prunes = (0..12).map(|number| match number % 3 {
        0 => slipway.command(["prune", "-f", "--only=cache", "--all"]),
        1 => slipway.command(["prune", "-f", "--keep-storage", "300kb"]),
        _ => slipway.command(["builder", "prune", "-f", "--filter", "type=cache"]),
    });
    let prunes: Vec<Command> = prunes.collect();
    let all = [builds("one"), builds("two"), prunes];
    std::thread::scope(|scope| {
        for commands in all {
            scope.spawn(move || commands.into_iter().for_each(|mut command| drop(run(&mut command).ok())));
        }
    });
    for name in ["one:11", "two:11"] {
        let number = format!("{}2\n", &name[..3]);
        assert_eq!(slipway.shell(name, "cat /n"), number, "{name}");
    }
    let scrubbed = slipway.run(["scrub"]);
    scrubbed.ok();
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
}

#[test]
fn a_prune_that_is_killed_leaves_nothing_half_and_is_done_by_the_next() {
    let slipway = Slipway::new();
    slipway.build_with("kept", CACHED, &[], &["--build-arg", "N=kept"]).ok();
    for instant in 0..6_u64 {
        slipway.build_with("made", CACHED, &[], &["--build-arg", &format!("N={instant}")]).ok();
        let prune = crate::support::start(&mut slipway.command([
            "prune",
            "-f",
            "--filter",
            "until=0s",
            "--only=cache",
        ]));
        std::thread::sleep(std::time::Duration::from_millis(instant * 3));
        prune.signal(rustix::process::Signal::KILL);
        prune.wait();
        assert_eq!(slipway.shell("kept", "cat /n"), "kept\n");
        slipway.build_with("made", CACHED, &[], &["--build-arg", &format!("N={instant}")]).ok();
        assert_eq!(slipway.shell("made", "cat /n"), format!("{instant}\n"));
        slipway.ok(["scrub"]);
    }
    slipway.ok(["prune", "-f", "--all"]);
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
    assert_eq!(reclaimable(&slipway, &[]), 0);
}

#[test]
fn a_store_never_takes_more_than_its_quota() {
    let slipway = Slipway::new();
    let size = || run(Command::new("du").args(["-s", "--block-size=1"]).arg(slipway.path("store"))).ok();
    let size = || size().split_whitespace().next().unwrap().parse::<u64>().unwrap();
    let quota = size() + (48 << 20);
    let settings = slipway.path("slipway.toml");
    std::fs::write(&settings, format!("store-quota = \"{quota}\"\n")).unwrap();
    let build = |count: u32, number: u32| {
        let recipe = "FROM base\nARG COUNT N\nRUN dd if=/dev/urandom of=/big bs=1M count=$COUNT 2>/dev/null && echo $N\n";
        let folder = slipway.context(&format!("context{number}"), &[("Dockerfile", recipe)]);
        let (count, number) = (format!("COUNT={count}"), format!("N={number}"));
        let mut command =
            slipway.command(["build", "-q", "--build-arg", &count, "--build-arg", &number, "-t", "made"]);
        run(command.arg(folder).env("SLIPWAY_CONFIG", &settings))
    };
    // each takes the name of the one before, whose results are kept until there is no room for them
    for number in 0..8 {
        build(5, number).ok();
        slipway.ok(["image", "prune", "-f"]);
        assert!(size() <= quota, "{} of {quota}", size());
    }
    let failed = build(200, 100);
    let message = failed.fails(1);
    assert!(message.contains("may take") && message.contains("slipway prune"), "{message}");
    assert!(size() <= quota, "{} of {quota}", size());
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
    slipway.ok(["scrub"]);
    assert_eq!(slipway.shell("made", "ls /big"), "/big\n");
    std::fs::write(&settings, "store-quota = \"much\"\n").unwrap();
    let message = build(1, 101).fails(1);
    assert!(message.contains("slipway.toml:1:16") && message.contains("`much` is not a size"), "{message}");
}
