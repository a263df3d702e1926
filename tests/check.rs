//! `slipway check`, the real binary.

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn check(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.arg("check").args(arguments).current_dir(folder).output().expect("slipway runs")
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn statuses() {
    let here = folder(&[
        ("Dockerfile", "FROM scratch as a\n"),
        ("broken", "FROM scratch\nRUM x\n"),
        ("strict", "# check=error=true\nFROM scratch as a\n"),
        ("staged", "FROM scratch AS good\nFROM scratch AS bad\nEXPOSE x\n"),
    ]);
    for (arguments, status) in [
        (&["."][..], 0),
        (&[], 0),
        (&["-f", "broken"], 1),
        (&["-f", "strict"], 1),
        (&["-f", "strict", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"], 0),
        (&["-f", "staged"], 1),
        (&["-f", "staged", "--target", "good"], 0),
        (&["-f", "staged", "--target", "none"], 1),
        (&["-f", "missing"], 1),
        (&["--no-such-flag"], 2),
        (&["--format", "xml"], 2),
        (&["nowhere"], 2),
        (&["-f", "-", "--fix"], 2),
    ] {
        let output = check(here.path(), arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {words}");
    }
}

#[test]
fn formats() {
    let here = folder(&[("Containerfile", "FROM scratch AS App\nEXPOSE 99999\n")]);
    let output = check(here.path(), &["--format", "json"]);
    let found = json(&output);
    assert_eq!(found["warnings"][0]["rule"], "StageNameCasing");
    assert_eq!((found["error"]["rule"].as_str(), found["error"]["line"].as_u64()), (Some("E0808"), Some(2)));
    let text = String::from_utf8(check(here.path(), &[]).stdout).unwrap();
    assert!(text.contains("error[E0808]: `99999` is not a port\n --> Containerfile:2:8\n"), "{text}");
    assert!(!text.contains('\u{1b}'));
    let sarif = json(&check(here.path(), &["--format=sarif"]));
    assert_eq!(sarif["version"], "2.1.0");
    let uri = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "Containerfile");
}

#[test]
fn standard_input_and_ignore_files() {
    let here = folder(&[(".dockerignore", "secret\n")]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(["check", "-f", "-", "--format", "json", "."])
        .current_dir(here.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"FROM scratch\nCOPY secret /\n").unwrap();
    let found = json(&child.wait_with_output().unwrap());
    assert_eq!(found["warnings"][0]["rule"], "CopyIgnoredFile");
    assert_eq!(found["error"], Value::Null);
}

#[test]
fn fixing_rewrites_the_file_once() {
    let here = folder(&[("Dockerfile", "FROM debian:12\nRUN apt install curl=1\nADD a /\n")]);
    let path = here.path().join("Dockerfile");
    let output = check(here.path(), &["--fix"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("mended Dockerfile:3: SW3001: "), "{said}");
    let fixed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(fixed, "FROM debian:12\nRUN apt-get install --no-install-recommends -y curl=1\nCOPY a /\n");
    let said = String::from_utf8(check(here.path(), &["--fix"]).stderr).unwrap();
    assert!(said.contains("nothing to mend"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), fixed);
}
