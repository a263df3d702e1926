//! The clients of others with `slipway serve`, and what they and slipway write for each other: ORAS and crane, behind a login.
//! (Debian's podman, skopeo and docker are in `interop.rs` and `visitors.rs`.)

use super::login::{login, private};
use crate::support::server::Server;
use crate::support::{Ended, Slipway, find, run};
use serde_json::{Value, json};
use slipway_skip::need;
use std::fs;
use std::process::Command;

/// A client that has its files in the test's folder, and finds slipway's logins there.
fn client(slipway: &Slipway, program: &str, words: &[&str]) -> Ended {
    let mut command = Command::new(find(program).unwrap());
    let home = slipway.path("");
    command.current_dir(&home).env("HOME", &home).env("DOCKER_CONFIG", home.join(".docker"));
    run(command.args(words))
}

fn logged_in() -> (Slipway, Server) {
    let slipway = Slipway::empty();
    let server = private(&slipway, &[]);
    login(&slipway, &server.address, "ann", "secret").ok();
    (slipway, server)
}

#[test]
fn what_oras_pushes_slipway_pulls_and_the_other_way_round() {
    need!("oras");
    let (slipway, server) = logged_in();
    let oras = |words: &[&str]| client(&slipway, "oras", words);
    slipway.context("", &[("a.txt", "text of a"), ("folder/b.txt", "text of b"), ("sbom.json", "{}")]);
    let (theirs, ours, copy) =
        (server.name("team/theirs:1"), server.name("team/ours:1"), server.name("x/copy:1"));

    oras(&[
        "push",
        "--plain-http",
        &theirs,
        "--artifact-type",
        "application/x.t",
        "a.txt:text/plain",
        "folder",
    ])
    .ok();
    oras(&["attach", "--plain-http", &theirs, "--artifact-type", "application/x.sbom", "sbom.json"]).ok();
    let out = slipway.path("out-ours");
    slipway.ok(["artifact", "pull", "-q", "-o", out.to_str().unwrap(), &theirs]);
    assert_eq!(fs::read_to_string(out.join("a.txt")).unwrap(), "text of a");
    assert_eq!(fs::read_to_string(out.join("folder/b.txt")).unwrap(), "text of b");
    let referrers: Value = serde_json::from_str(&slipway.ok(["referrers", "--json", &theirs])).unwrap();
    assert_eq!(referrers[0]["artifactType"], json!("application/x.sbom"));

    let (a, folder, sbom) = (slipway.path("a.txt"), slipway.path("folder"), slipway.path("sbom.json"));
    let words = ["artifact", "push", "-q", "--artifact-type", "application/x.t", &ours];
    slipway.ok(words.iter().map(|word| word.as_ref()).chain([a.as_os_str(), folder.as_os_str()]));
    let words = ["artifact", "attach", "-q", "--artifact-type", "application/x.sbom", &ours];
    slipway.ok(words.iter().map(|word| word.as_ref()).chain([sbom.as_os_str()]));
    oras(&["pull", "--plain-http", "-o", "out-theirs", &ours]).ok();
    assert_eq!(fs::read_to_string(slipway.path("out-theirs/a.txt")).unwrap(), "text of a");
    assert_eq!(fs::read_to_string(slipway.path("out-theirs/folder/b.txt")).unwrap(), "text of b");
    let found = oras(&["discover", "--plain-http", "--format", "json", &ours]).ok();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["referrers"][0]["artifactType"], json!("application/x.sbom"), "{found}");

    // with what is attached, to a repository that lacks everything, and back through a folder
    oras(&["cp", "-r", "--from-plain-http", "--to-plain-http", &ours, &copy]).ok();
    let digest = slipway.ok(["digest", &ours]);
    assert_eq!(slipway.ok(["digest", &copy]), digest);
    oras(&["backup", "--plain-http", "--include-referrers", "-o", "kept", &copy]).ok();
    let back = server.name("x/back:1");
    oras(&["restore", "--plain-http", "--input", "kept", &back]).ok();
    assert_eq!(slipway.ok(["digest", &back]), digest);
    let listed = |name: &str| oras(&["repo", "tags", "--plain-http", &server.name(name)]).ok();
    oras(&["tag", "--plain-http", &ours, "2", "3"]).ok();
    assert_eq!(listed("team/ours"), "1\n2\n3\n");
    oras(&["manifest", "delete", "--plain-http", "-f", &copy]).ok();
    assert_eq!(listed("x/copy"), "");
    let listed = oras(&["repo", "ls", "--plain-http", &server.address]).ok();
    assert!(listed.contains("team/ours") && listed.contains("team/theirs"), "{listed}");
}

#[test]
fn crane_makes_copies_changes_and_deletes() {
    need!("crane");
    let (slipway, server) = logged_in();
    let crane = |words: &[&str]| client(&slipway, "crane", &[&["--insecure"], words].concat());
    slipway.import_base();
    let (image, copy) = (server.name("team/app:1"), server.name("team/copy:1"));
    slipway.ok(["push", "-q", "base", &image]);
    crane(&["copy", &image, &copy]).ok();
    assert_eq!(crane(&["digest", &copy]).ok(), slipway.ok(["digest", &image]));
    let changed = server.name("team/app:2");
    crane(&["mutate", &image, "-l", "a=b", "-t", &changed]).ok();
    assert_eq!(crane(&["ls", &server.name("team/app")]).ok(), "1\n2\n");
    // what crane checks byte by byte has to be gzip's
    let made = server.name("team/made:1");
    slipway.context("tree", &[("a.txt", "text of a")]);
    run(Command::new("tar").args(["cf", "layer.tar", "-C", "tree", "."]).current_dir(slipway.path(""))).ok();
    crane(&["append", "-f", "layer.tar", "-t", &made]).ok();
    crane(&["validate", "--remote", &made]).ok();
    slipway.ok(["pull", "-q", &made]);
    slipway.ok(["pull", "-q", &changed]);
    assert_eq!(slipway.ok(["inspect", "--format", "{{.Config.Labels.a}}", &changed]).trim(), "b");
    let index = server.name("team/app:both");
    crane(&["index", "append", "-m", &image, "-m", &changed, "-t", &index]).ok();
    // an index needs its images, whoever asks for them to go
    let refused =
        crane(&["delete", &format!("{}@{}", server.name("team/app"), slipway.ok(["digest", &image]).trim())]);
    let refused = refused.fails(1);
    assert!(refused.contains("needed by"), "{refused}");
    crane(&["delete", &index]).ok();
    crane(&["delete", &changed]).ok();
    assert_eq!(crane(&["ls", &server.name("team/app")]).ok(), "1\n");
    assert_eq!(crane(&["catalog", &server.address]).ok(), "team/app\nteam/copy\nteam/made\n");
}
