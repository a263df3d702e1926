//! Every example is built and run.

use crate::support::{Slipway, base, skip};
use std::path::PathBuf;

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

#[test]
fn every_example_has_a_test() {
    let folders = std::fs::read_dir(example("")).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders.map(|entry| entry.file_name()).collect();
    names.sort();
    // `ci` has its own subject: pipelines; and so has `cluster`
    assert_eq!(names, ["ci", "cluster", "hello"]);
}

#[test]
fn hello() {
    let Some(archive) = base::debian() else {
        return skip("there is no Debian base: run `cargo xtask test`");
    };
    let slipway = Slipway::empty();
    slipway.ok(["import".as_ref(), archive.as_os_str(), "debian".as_ref()]);
    let built = slipway.build_folder("hello", &example("hello"), &[]);
    built.ok();
    let said = slipway.ok(["run", "--rm", "hello", "word"]);
    assert!(said.starts_with("Hello from a container that Slipway built\n"), "{said}");
    assert!(said.contains("argument 1: word"), "{said}");
    let first = slipway.digest("hello");
    slipway.build_folder("hello", &example("hello"), &["--build-arg", "GREETING=Good day"]).ok();
    assert!(slipway.ok(["run", "--rm", "hello"]).starts_with("Good day\n"));
    slipway.build_folder("hello", &example("hello"), &[]).ok();
    assert_eq!(slipway.digest("hello"), first);
}
