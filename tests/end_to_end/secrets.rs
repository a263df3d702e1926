//! What a build is trusted with exists inside the sandbox alone.

use crate::support::user::User;
use crate::support::{Slipway, processes_with};
use crate::support::{Started, pids_with, run, skip, start, wait_until};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VALUE: &str = "the-value-of-a-secret-3141592653";

/// Files below the folders that hold a text.
fn traces(value: &str, folders: &[&Path]) -> Vec<PathBuf> {
    let mut find = Command::new("grep");
    find.args(["-rlsaF", "--devices=skip", value]).args(folders);
    let found = run(&mut find).stdout;
    found.lines().map(PathBuf::from).filter(|path| !path.ends_with("the-secret-itself")).collect()
}

/// A build whose RUN holds a secret and waits; it has a child with the word as its argument.
fn waiting(slipway: &Slipway, word: &str, value: &str) -> Started {
    let recipe = format!(
        "FROM base\nRUN --mount=type=secret,id=s,target=/deep/er/secret test -s /deep/er/secret && sh -c 'sleep 60; true' {word}\n"
    );
    let context = slipway.context("waiting", &[("Dockerfile", &recipe)]);
    fs::write(slipway.path("the-secret-itself"), value).unwrap();
    let secret = format!("id=s,src={}", slipway.path("the-secret-itself").display());
    let mut build = slipway.command(["build", "--no-cache", "-t", "waiting", "--secret", &secret]);
    start(build.arg(context))
}

#[test]
fn a_secret_is_nowhere_on_the_host_while_a_step_has_it_nor_after_a_kill() {
    let slipway = Slipway::new();
    let word = format!("secret-holder-{}", std::process::id());
    // no other file of this machine has it, not even this test's source
    let value = format!("{VALUE}-{}", std::process::id());
    let build = waiting(&slipway, &word, &value);
    wait_until("the step runs", || processes_with(&word) > 0);
    let store = slipway.path("");
    let places: [&Path; 4] = [&store, Path::new("/dev/shm"), Path::new("/run"), &std::env::temp_dir()];
    assert_eq!(traces(&value, &places), [] as [PathBuf; 0]);
    // the step's own mount namespace has it, or the test would look for nothing
    let pid = pids_with(&word)[0].as_raw_nonzero();
    let inside = fs::read_to_string(format!("/proc/{pid}/root/deep/er/secret"));
    assert!(!slipway_skip::is_root() || inside.unwrap() == value);
    build.signal(Signal::KILL);
    build.wait();
    wait_until("the step is gone", || processes_with(&word) == 0);
    assert_eq!(traces(&value, &places), [] as [PathBuf; 0]);
    slipway.ok(["images"]);
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
}

#[test]
fn a_secret_has_the_mode_and_owner_that_the_recipe_names_and_they_are_in_the_key() {
    let slipway = Slipway::new();
    fs::write(slipway.path("the-secret-itself"), VALUE).unwrap();
    let secret = format!("id=s,src={}", slipway.path("the-secret-itself").display());
    let cases = [
        ("", "/run/secrets/s", "400 0 0"),
        (",mode=0444", "/run/secrets/s", "444 0 0"),
        (",uid=1000", "/run/secrets/s", "400 1000 0"),
        (",uid=1000,gid=1001,mode=0640", "/run/secrets/s", "640 1000 1001"),
        (",mode=04755", "/run/secrets/s", "4755 0 0"),
        (",target=/etc/deep/token", "/etc/deep/token", "400 0 0"),
        (",target=relative", "/relative", "400 0 0"),
    ];
    for (options, place, expected) in cases {
        let recipe = format!(
            "FROM base\nRUN --mount=type=secret,id=s{options} stat -c '%a %u %g' {place} > /seen; cat {place} | md5sum > /sum; \
             (echo x >> {place}) 2>/dev/null && touch /written; chmod 777 {place} 2>/dev/null && touch /written; rm -f {place} 2>/dev/null && touch /removed; true\n"
        );
        let built = slipway.build_with("moded", &recipe, &[], &["--secret", &secret]);
        assert!(!built.stderr.contains("CACHED"), "{options}: {}", built.stderr);
        built.ok();
        assert_eq!(
            slipway.shell("moded", "cat /seen; ls /written /removed 2>/dev/null; true").trim(),
            expected
        );
        let left = slipway.shell("moded", &format!("cat {place} 2>/dev/null; true"));
        assert_eq!(left, "", "{options}: what is left in the image");
    }
}

#[test]
fn a_secret_may_lie_over_a_file_a_link_and_in_memory() {
    let slipway = Slipway::new();
    fs::write(slipway.path("the-secret-itself"), VALUE).unwrap();
    let secret = format!("id=s,src={}", slipway.path("the-secret-itself").display());
    let recipe = "FROM base
RUN echo own > /own && ln -s /own /link && mkdir /folder
RUN --mount=type=secret,id=s,target=/own cat /own > /one
RUN --mount=type=secret,id=s,target=/link cat /own > /two
RUN --mount=type=tmpfs,target=/folder --mount=type=secret,id=s,target=/folder/s cat /folder/s > /three
RUN --mount=type=secret,id=s,target=/a --mount=type=secret,id=s,target=/b cat /a /b > /four
RUN --mount=type=secret,id=s,target=/dev/shm/s cat /dev/shm/s > /five
USER 1000
RUN --mount=type=secret,id=s,uid=1000 cat /run/secrets/s | wc -c
RUN --mount=type=secret,id=s ! cat /run/secrets/s 2>/dev/null
";
    slipway.build_with("over", recipe, &[], &["--secret", &secret]).ok();
    let seen = slipway
        .shell("over", "cat /own /one; echo; cat /two; echo; cat /three; echo; cat /four; echo; cat /five");
    assert_eq!(seen, format!("own\n{VALUE}\n{VALUE}\n{VALUE}\n{VALUE}{VALUE}\n{VALUE}"));
}

#[test]
fn privileged_a_plain_user_keeps_secrets_inside_as_well() {
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    user.ok(["import", user.path("base.tar").to_str().unwrap(), "base"]);
    let recipe = "FROM base\nRUN --mount=type=secret,id=s,uid=1000,mode=0440 stat -c '%a %u %g' /run/secrets/s && wc -c < /run/secrets/s\n";
    let context = user.context(&[("Dockerfile", recipe), ("the-secret-itself", VALUE)]);
    let secret = format!("id=s,src={}", context.join("the-secret-itself").display());
    let built =
        user.run(["build", "--progress", "plain", "-t", "x", "--secret", &secret, context.to_str().unwrap()]);
    assert!(built.stderr.contains("440 1000 0"), "{}", built.stderr);
    assert!(built.stderr.contains(&VALUE.len().to_string()), "{}", built.stderr);
    built.ok();
}
