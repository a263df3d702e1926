//! Caches of RUN that leave the machine: with a build's results, and by themselves; to a registry and a folder.

use crate::support::server::Server;
use crate::support::user::User;
use crate::support::{Slipway, run, skip};
use slipway_skip::need_root;
use std::path::Path;
use std::process::Command;

/// Says what its cache has, and adds to it.
const RECIPE: &str = "FROM base
ARG N
RUN --mount=type=cache,id=things,target=/c ls /c > /seen; stat -c '%u:%g %a %Y' /c/* >> /seen 2>/dev/null; echo $N > /c/$N; \
touch -d @1000000 /c/$N; chown 7:8 /c/$N 2>/dev/null; chmod 640 /c/$N; dd if=/dev/urandom of=/c/big$N bs=64k count=16 2>/dev/null; touch -d @1000000 /c/big$N
";

fn build(slipway: &Slipway, number: &str, flags: &[&str]) -> String {
    let argument = format!("N={number}");
    let flags: Vec<&str> = ["--build-arg", &argument].into_iter().chain(flags.iter().copied()).collect();
    let built = slipway.build_with("made", RECIPE, &[], &flags);
    let said = built.stderr.clone();
    built.ok();
    said
}

#[test]
fn a_cache_goes_with_results_and_a_step_that_runs_elsewhere_finds_it() {
    let here = Slipway::new();
    let folder = here.path("carried");
    let (to, from) = (
        format!("type=local,dest={},mounts=true", folder.display()),
        format!("type=local,src={}", folder.display()),
    );
    build(&here, "one", &["--cache-to", &to]);
    let there = here.another("there");
    there.import_base();
    build(&there, "two", &["--cache-from", &from, "--cache-to", &to]);
    assert_eq!(there.shell("made", "cat /seen"), "bigone\none\n0:0 644 1000000\n7:8 640 1000000\n");
    // wholly cached: no cache is used, and those that were there are carried on
    let third = here.another("third");
    third.import_base();
    let said = build(&third, "two", &["--cache-from", &from, "--cache-to", &to]);
    assert!(said.contains("CACHED"), "{said}");
    assert_eq!(third.ok(["cache", "ls", "-q"]), "");
    build(&third, "three", &["--cache-from", &from]);
    assert_eq!(third.shell("made", "head -n 4 /seen"), "bigone\nbigtwo\none\ntwo\n");
    // one that is not wanted is not taken
    let fourth = here.another("fourth");
    fourth.import_base();
    build(&fourth, "four", &["--cache-from", &format!("{from},mounts=false")]);
    assert_eq!(fourth.shell("made", "cat /seen"), "");
    // more than is allowed is said, and stays
    let said = build(
        &here,
        "five",
        &["--cache-to", &format!("type=local,dest={},mounts=true,mounts-max=100k", folder.display())],
    );
    assert!(said.contains("the cache `things` has") && said.contains("is not carried"), "{said}");
}

/// Bytes of all that a registry's folder or a layout keeps.
fn size(folder: &Path) -> u64 {
    let counted = run(Command::new("du").args(["-s", "--block-size=1"]).arg(folder)).ok();
    counted.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn of_a_cache_in_a_registry_only_what_changed_travels() {
    let here = Slipway::new();
    let storage = here.path("storage");
    let server = Server::slipway(&here, &storage);
    let name = server.name("team/caches:main");
    build(&here, "one", &[]);
    build(&here, "two", &[]);
    let there = here.another("there");
    here.ok(["cache", "export", &name]);
    let first = size(&storage);
    assert!(first > 2 << 20, "{first}");
    let told = there.ok(["cache", "import", &name]);
    assert!(told.starts_with("things: "), "{told}");
    // the same again is nothing
    here.ok(["cache", "export", &name]);
    assert!(size(&storage) < first + 30_000);
    build(&here, "three", &[]);
    here.ok(["cache", "export", &name, "things"]);
    let added = size(&storage) - first;
    // with the pages of the registry's own database; what travels is counted below
    assert!((1 << 20..7 << 18).contains(&added), "{added} bytes for a file of a MiB");
    let told = there.ok(["cache", "import", &name, "things"]);
    let came = told.split("of which ").nth(1).unwrap();
    // a MiB is new, and at most the chunks at its two ends, of 256 KiB each: where they are cut is drawn by lot, with the bytes
    let megabytes: f64 = came.split("MB").next().unwrap().parse().unwrap();
    assert!((1.0..1.65).contains(&megabytes), "{told}");
    assert_eq!(there.ok(["cache", "ls", "--format", "{{.ID}}"]), "things\n");
    there.import_base();
    build(&there, "four", &[]);
    assert_eq!(there.shell("made", "grep -c 1000000 /seen"), "6\n");
    let message = there.fails(1, ["cache", "import", &name, "nothing"]);
    assert!(message.contains("has no such cache"), "{message}");
    // a pack that lost a byte: said, and nothing changed
    let pack =
        walk(&storage.join("blobs")).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let fifth = here.another("fifth");
    fifth.fails(1, ["cache", "import", &name]);
    assert_eq!(fifth.ok(["cache", "ls", "-q"]), "");
    assert_eq!(fifth.leftovers(), [] as [String; 0]);
    fifth.import_base();
    let said = build(&fifth, "six", &["--cache-from", &name]);
    assert!(said.contains("is not taken"), "{said}");
    assert_eq!(fifth.shell("made", "cat /seen"), "", "it began empty");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

#[test]
fn caches_are_listed_and_removed() {
    let slipway = Slipway::new();
    build(&slipway, "one", &["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=main"]);
    build(&slipway, "one", &[]);
    let table = slipway.ok(["cache", "du"]);
    assert!(table.contains("things") && table.contains("main") && table.contains("2 caches, "), "{table}");
    let name = slipway.ok(["cache", "ls", "--format", "{{.Name}}"]).lines().next().unwrap().to_owned();
    slipway.ok(["cache", "rm", &name]);
    assert_eq!(slipway.ok(["cache", "ls", "-q"]).lines().count(), 1);
    assert_eq!(slipway.ok(["cache", "rm", "things"]), "things\n");
    let message = slipway.fails(1, ["cache", "rm", "things"]);
    assert!(message.contains("there is no cache `things`"), "{message}");
    let message = slipway.fails(2, ["cache", "export", "type=inline"]);
    assert!(message.contains("do not go with an image"), "{message}");
}

#[test]
fn privileged_root_s_cache_serves_a_plain_user_and_the_other_way() {
    need_root!();
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    let root = Slipway::new();
    build(&root, "one", &[]);
    let folder = user.path("carried");
    root.ok(["cache", "export", folder.to_str().unwrap()]);
    run(Command::new("chown").args(["-R", &user.owner()]).arg(&folder)).ok();
    user.ok(["cache", "import", folder.to_str().unwrap()]);
    let context = user.context(&[("Dockerfile", RECIPE)]);
    let base = user.path("base.tar");
    user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    user.ok(["build", "-t", "made", "--build-arg", "N=two", context.to_str().unwrap()]);
    let seen = user.ok(["run", "--rm", "made", "cat", "/seen"]);
    assert_eq!(seen, "bigone\none\n0:0 644 1000000\n7:8 640 1000000\n");
    user.ok(["cache", "export", folder.to_str().unwrap()]);
    root.ok(["cache", "import", folder.to_str().unwrap()]);
    build(&root, "three", &[]);
    assert_eq!(root.shell("made", "head -n 4 /seen"), "bigone\nbigtwo\none\ntwo\n");
}
