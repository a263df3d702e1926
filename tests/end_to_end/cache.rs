//! What is cached, and what is not. A step that writes a random number tells whether it ran.

use crate::support::image::Image;
use crate::support::server::Server;
use crate::support::{Slipway, run};
use std::{fs, path::Path};

const RANDOM: &str = "cat /proc/sys/kernel/random/uuid";

#[test]
fn a_second_build_runs_nothing() {
    let slipway = Slipway::new();
    let recipe = format!("FROM base\nRUN {RANDOM} > /one\nCOPY file /\nRUN {RANDOM} > /two\n");
    slipway.build("twice", &recipe, &[("file", "1")]).ok();
    let first = slipway.digest("twice");
    slipway.build("twice", &recipe, &[("file", "1")]).ok();
    assert_eq!(slipway.digest("twice"), first);
    // the cache is of the step, not of the name
    slipway.build("renamed", &recipe, &[("file", "1")]).ok();
    assert_eq!(slipway.digest("renamed"), first);
    slipway.build_with("twice", &recipe, &[("file", "1")], &["--no-cache"]).ok();
    assert_ne!(slipway.digest("twice"), first);
}

/// What lies in a folder, with sizes and times of change; `leases`, `store.lock` and the database's log and its index come
/// and go with every command.
fn written(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        if ["leases", "store.lock", "store.db-wal", "store.db-shm"].contains(&name.as_str()) {
            continue;
        }
        let status = fs::symlink_metadata(&path).expect("status");
        all.push(format!("{} {} {:?}", path.display(), status.len(), status.modified().expect("time")));
        if status.is_dir() && name != "layers" {
            all.extend(written(&path));
        }
    }
    all.sort();
    all
}

/// Not a last use, not a name, not a folder for what might have had to be made: nothing has to reach the disk.
#[test]
fn a_build_of_what_is_here_writes_nothing() {
    let slipway = Slipway::new();
    let recipe = "FROM base AS one\nRUN echo 1 > /one\nWORKDIR /w\n\
                  FROM base\nCOPY --from=one /one /\nCOPY file *.txt folder /w/\nCOPY --chmod=600 <<E /e\nx\nE\n\
                  RUN --mount=type=cache,target=/c --mount=from=one,target=/m : > /two\nENV A=b\n";
    let files = [("file", "1"), ("a.txt", "a"), ("folder/b", "b")];
    slipway.build("twice", recipe, &files).ok();
    let context = slipway.path("context-twice");
    let again = |flags: &[&str]| {
        let mut arguments = vec!["build", "-q", "-t", "twice"];
        arguments.extend(flags);
        arguments.push(context.to_str().expect("path"));
        slipway.ok(arguments)
    };
    // stat caches learn what is old enough to be trusted
    std::thread::sleep(std::time::Duration::from_millis(100));
    let image = again(&[]);
    for flags in [&[][..], &["--no-cache-filter=none"], &["--build-arg=SOURCE_DATE_EPOCH="]] {
        again(flags);
        let before = written(&slipway.root);
        assert_eq!(again(flags), image, "{flags:?}");
        assert_eq!(written(&slipway.root), before, "{flags:?}");
    }
    let before = written(&slipway.root);
    slipway.build("another", recipe, &files).ok();
    assert_ne!(written(&slipway.root), before, "a new name is written, or this test sees nothing");
}

#[test]
fn a_changed_file_reruns_what_follows_only() {
    let slipway = Slipway::new();
    let recipe = format!("FROM base\nRUN {RANDOM} > /before\nCOPY used /\nRUN {RANDOM} > /after\n");
    let values = |used: &str, unused: &str| {
        slipway.build("changed", &recipe, &[("used", used), ("unused", unused)]).ok();
        let seen = slipway.shell("changed", "cat /before /after");
        let mut lines = seen.lines().map(str::to_owned);
        (lines.next().unwrap(), lines.next().unwrap())
    };
    let first = values("1", "1");
    assert_eq!(values("1", "2"), first, "a file that no step uses");
    let second = values("2", "2");
    assert_eq!(second.0, first.0);
    assert_ne!(second.1, first.1);
    assert_eq!(values("1", "1"), first, "back again");
}

#[test]
fn a_same_size_change_within_one_tick_is_seen() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nCOPY file /\n";
    for round in 0..5 {
        let text = format!("{round}");
        slipway.build("tick", recipe, &[("file", &text)]).ok();
        assert_eq!(slipway.shell("tick", "cat /file"), text);
    }
}

#[test]
fn what_does_not_matter_to_a_step_leaves_its_cache_alone() {
    let slipway = Slipway::new();
    let build = |recipe: &str| {
        slipway.build("matter", recipe, &[]).ok();
        slipway.shell("matter", "cat /id")
    };
    let first = build(&format!("FROM base\nRUN {RANDOM} > /id\n"));
    assert_eq!(
        build(&format!("# a comment\nFROM base AS named\nLABEL a=b\nEXPOSE 80\nCMD x\nRUN {RANDOM} > /id\n")),
        first
    );
    assert_ne!(build(&format!("FROM base\nENV A=b\nRUN {RANDOM} > /id\n")), first);
    assert_ne!(build(&format!("FROM base\nUSER app\nWORKDIR /tmp\nUSER root\nRUN {RANDOM} > /id\n")), first);
}

#[test]
fn a_build_argument_matters_to_those_who_see_it() {
    let slipway = Slipway::new();
    let recipe = format!("FROM base\nRUN {RANDOM} > /before\nARG A\nRUN {RANDOM} > /after\n");
    let build = |value: &str| {
        slipway.build_with("argument", &recipe, &[], &["--build-arg", &format!("A={value}")]).ok();
        let seen = slipway.shell("argument", "cat /before /after");
        seen.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (build("1"), build("2"));
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    assert_eq!(build("1"), first);
}

#[test]
fn a_mode_matters_but_a_time_does_not() {
    let slipway = Slipway::new();
    let recipe = format!("FROM base\nCOPY file /\nRUN {RANDOM} > /id\n");
    let context = slipway.context("mode", &[("file", "x"), ("Dockerfile", &recipe)]);
    let build = || {
        slipway.build_folder("mode", &context, &[]).ok();
        slipway.digest("mode")
    };
    let set = |mode| {
        fs::set_permissions(context.join("file"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap()
    };
    set(0o644);
    let first = build();
    fs::File::options()
        .write(true)
        .open(context.join("file"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(build(), first);
    set(0o755);
    assert_ne!(build(), first);
}

#[test]
fn a_fully_cached_build_fetches_no_layer() {
    let maker = Slipway::new();
    let storage = maker.path("storage");
    let server = Server::slipway(&maker, &storage);
    let base = server.name("library/base:1");
    maker.ok(["tag", "base", &base]);
    maker.ok(["push", &base]);
    let slipway = maker.another("user");
    let recipe = format!("FROM {base}\nRUN {RANDOM} > /id\nCOPY file /\n");
    let image = server.name("made:1");
    let context = slipway.context("context", &[("file", "x"), ("Dockerfile", &recipe)]);
    slipway.build_folder(&image, &context, &["--push"]).ok();
    let first = slipway.digest(&image);
    let layers: Vec<String> = Image::read(&slipway, &image).manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect();
    // from here on nobody has the layers' bytes, neither packed nor unpacked
    for layer in &layers {
        let hex = layer.trim_start_matches("sha256:");
        let mut find = std::process::Command::new("find");
        let found = run(find.arg(&storage).args(["-type", "f", "-name", hex])).ok();
        assert_eq!(found.lines().count(), 1, "{found}");
        fs::remove_file(found.trim()).unwrap();
    }
    for layer in &layers {
        fs::remove_file(slipway.root.join("blobs").join(layer.replace(':', "/"))).unwrap();
    }
    fs::remove_dir_all(slipway.root.join("layers")).unwrap();
    fs::create_dir(slipway.root.join("layers")).unwrap();
    slipway.build_folder(&image, &context, &[]).ok();
    assert_eq!(slipway.digest(&image), first);
}
