//! `slipway bake`: many targets in one command.

use crate::support::{Slipway, run, server::Server};
use std::{fs, path::Path, process::Command};

const BAKE: &str = r#"
variable "TAG" { default = "dev" }
group "default" { targets = ["app", "tool"] }
target "common" {
  dockerfile = "Dockerfile"
  args = { WHAT = "common" }
}
target "base" {
  dockerfile-inline = "FROM base\nRUN sleep 0 && echo deep > /deep\n"
  output = ["type=image"]
}
target "app" {
  inherits = ["common"]
  contexts = { parent = "target:base" }
  tags = ["app:${TAG}"]
  args = { WHAT = "app" }
}
target "tool" {
  inherits = ["app"]
  args = { WHAT = "tool" }
  tags = ["tool:${TAG}"]
  output = ["type=image", "type=tar,dest=tool.tar"]
}
target "broken" { dockerfile = "broken.Dockerfile" }
"#;
const RECIPE: &str = "FROM parent\nRUN echo shared > /shared\nARG WHAT\nRUN echo $WHAT > /what\n";
const BROKEN: &str = "FROM base\nRUN exit 7\n";

fn bake(
    slipway: &Slipway,
    folder: &Path,
    words: &[&str],
    variables: &[(&str, &str)],
) -> crate::support::Ended {
    let mut command: Command = slipway.command([&["bake"], words].concat());
    run(command.current_dir(folder).envs(variables.iter().copied()))
}

#[test]
fn targets_build_on_one_another_and_share_their_steps() {
    let slipway = Slipway::new();
    let files = [("docker-bake.hcl", BAKE), ("Dockerfile", RECIPE), ("broken.Dockerfile", BROKEN)];
    let folder = slipway.context("project", &files);
    let meta = slipway.path("meta.json").display().to_string();
    let ended = bake(&slipway, &folder, &["--progress=plain", "--metadata-file", &meta], &[("TAG", "one")]);
    let log = ended.stderr.clone();
    ended.ok();
    for what in ["app", "tool"] {
        let script = "cat /deep /shared /what";
        assert_eq!(slipway.shell(&format!("{what}:one"), script), format!("deep\nshared\n{what}\n"));
    }
    // the step that both have was carried out once
    let steps = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(steps("RUN echo shared"), 2, "{log}");
    let executed: usize = log
        .lines()
        .filter_map(|line| {
            line.strip_prefix("built ")?.split_once("s: ")?.1.split(' ').next()?.parse::<usize>().ok()
        })
        .sum();
    assert_eq!(executed, 4, "deep, shared, and one each: {log}");
    assert!(log.contains("[app ") && log.contains("[tool "), "{log}");
    assert!(folder.join("tool.tar").exists());
    let said: serde_json::Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    assert_eq!(said["app"]["image.name"], "app:one");
    assert_eq!(said["tool"]["containerimage.digest"], slipway.digest("tool:one"));
    // once more: nothing is left to do, by other names of the command too
    let again = bake(&slipway, &folder, &["app", "--set", "app.tags=again"], &[]);
    assert!(again.stderr.contains("0 steps done"), "{}", again.stderr);
    assert_eq!(slipway.digest("again"), slipway.digest("app:one"));
    let mut command = slipway.command(["buildx", "bake", "--print", "app"]);
    let printed = run(command.current_dir(&folder)).ok();
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["target"]["app"]["contexts"], serde_json::json!({"parent": "target:base"}));
    assert_eq!(printed["target"]["base"]["context"], ".");
    let listed = bake(&slipway, &folder, &["--list=variables"], &[]).ok();
    assert!(listed.contains("TAG") && listed.contains("dev"), "{listed}");
}

#[test]
fn what_fails_is_named_and_ends_the_others() {
    let slipway = Slipway::new();
    let files = [("docker-bake.hcl", BAKE), ("Dockerfile", RECIPE), ("broken.Dockerfile", BROKEN)];
    let folder = slipway.context("project", &files);
    let message = bake(&slipway, &folder, &["app", "broken"], &[]).fails(1);
    assert!(message.contains("target `broken`") && message.contains("exit status 7"), "{message}");
    for (words, part) in [
        (&["nothing"][..], "there is no target or group `nothing`"),
        (&["-f", "none.hcl"], "none.hcl"),
        (&["--set", "app.platform=what/is/this/one"], "target `app`"),
        (&["--set", "*.attest=type=other"], "no attestation of type `other`"),
        (&["--var", "TAG"], "not NAME=VALUE"),
    ] {
        let ended = bake(&slipway, &folder, words, &[]);
        assert!(!ended.status.success() && ended.stderr.contains(part), "{words:?}: {}", ended.stderr);
    }
    // standard input is read once, whatever the program does before
    let mut command = slipway.command(["bake", "-f", "-", "app"]);
    command.current_dir(&folder).env("TAG", "piped");
    crate::support::run_with_input(&mut command, BAKE.as_bytes()).ok();
    assert!(!slipway.digest("app:piped").is_empty());
    let empty = slipway.context("empty", &[]);
    assert!(bake(&slipway, &empty, &[], &[]).fails(2).contains("no file to bake"));
}

#[test]
fn a_compose_file_s_images_are_pushed() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let compose = "services:\n  web:\n    image: ${REGISTRY}/web:${TAG:-1}\n    build:\n      context: web\n      args: [WHAT]\n  db:\n    image: x\n";
    let recipe = "FROM base\nARG WHAT\nRUN echo $WHAT > /what\n";
    let files =
        [("compose.yaml", compose), ("web/Dockerfile", recipe), (".env", "TAG=2\n# no\nWHAT='from file'\n")];
    let folder = slipway.context("project", &files);
    bake(&slipway, &folder, &["--push"], &[("REGISTRY", &server.address), ("WHAT", "said")]).ok();
    let other = slipway.another("other");
    let name = server.name("web:2");
    other.ok(["pull", &name]);
    assert_eq!(other.ok(["run", "--rm", &name, "cat", "/what"]), "said\n");
}

/// A file may ask for what a stranger must not have; the caller's line alone gives it.
#[test]
fn a_file_allows_itself_nothing() {
    let slipway = Slipway::new();
    let folder = slipway.context("asks", &[("Dockerfile", "FROM base\nRUN true\n")]);
    for (ask, word) in [
        ("entitlements = [\"security.insecure\"]", "security.insecure"),
        ("entitlements = [\"network.host\", \"device\"]", "network.host"),
        ("network = \"host\"", "network.host"),
        ("entitlements = [\"everything\"]", "everything"),
    ] {
        std::fs::write(folder.join("docker-bake.hcl"), format!("target \"default\" {{\n  {ask}\n}}\n"))
            .unwrap();
        let message = run(slipway.command(["bake"]).current_dir(&folder)).fails(2);
        assert!(message.contains(word), "{ask}: {message}");
        let allow = "--allow=network.host,device,security.insecure,fs=*";
        let ended = run(slipway.command(["bake", allow]).current_dir(&folder));
        assert_eq!(ended.code() == Some(0), word != "everything", "{ask}: {}", ended.stderr);
    }
    // one that is only checked is nobody's context, and nobody waits for it
    let file = "target \"a\" { call = \"check\" }\ntarget \"b\" { contexts = { base = \"target:a\" } }\n";
    std::fs::write(folder.join("docker-bake.hcl"), file).unwrap();
    let message = run(slipway.command(["bake", "a", "b"]).current_dir(&folder)).fails(2);
    assert!(message.contains("makes no image"), "{message}");
}
