//! A plain user, through user namespaces: with subordinate ids, and with nothing but its own id.

use crate::support::user::User;
use crate::support::{run, skip, start, wait_until};
use slipway_skip::need_root;

const RECIPE: &str = "FROM base
WORKDIR /app
COPY . .
RUN echo $(id -u) > /ran && rm /etc/motd && touch /tmp/x
RUN chown app:staff /ran 2>/dev/null; true
ENTRYPOINT [\"/bin/sh\", \"-c\"]
";

/// Imports, builds, runs, removes; answers what the container saw.
fn life(user: &User) -> String {
    let context = user.context(&[("Dockerfile", RECIPE), ("d/file", "copied\n")]);
    let base = user.path("base.tar");
    user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    user.ok(["build".as_ref(), "-t".as_ref(), "made".as_ref(), context.as_os_str()]);
    assert!(user.path("home/data/slipway/store.db").exists(), "the store is in XDG_DATA_HOME");
    let script =
        "cat /ran /app/d/file; ls /etc/motd 2>/dev/null; stat -c '%U:%G' /ran; id -u; ls /sys/class/net";
    let seen = user.ok(["run", "--rm", "--network", "none", "made", script]);
    assert_eq!(user.run(["run", "--rm", "made", "exit 9"]).code(), Some(9));
    user.ok(["build".as_ref(), "--no-cache".as_ref(), "-t".as_ref(), "made".as_ref(), context.as_os_str()]);
    user.ok(["rmi", "made"]);
    seen
}

#[test]
fn privileged_a_plain_user_builds_and_runs() {
    need_root!();
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    assert_eq!(life(&user), "0\ncopied\napp:staff\n0\nlo\n");
}

#[test]
fn privileged_a_user_without_subordinate_ids_builds_and_runs() {
    need_root!();
    let user = User::nameless();
    let seen = life(&user);
    assert!(seen.starts_with("0\ncopied\n") && seen.ends_with("0\nlo\n"), "{seen}");
}

#[test]
fn privileged_a_plain_user_shares_a_folder() {
    need_root!();
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    let context = user.context(&[("file", "mine\n")]);
    let base = user.path("base.tar");
    user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    let volume = format!("{}:/v", context.display());
    let script = "cat /v/file; echo made > /v/made; stat -c %u /v/file";
    assert_eq!(user.ok(["run", "--rm", "-v", &volume, "base", "sh", "-c", script]), "mine\n0\n");
    assert_eq!(std::fs::read_to_string(context.join("made")).unwrap(), "made\n");
}

#[test]
fn privileged_a_plain_user_is_interrupted_cleanly() {
    need_root!();
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    let seconds = format!("{}", 300_000 + std::process::id());
    let context = user.context(&[("Dockerfile", &format!("FROM base\nRUN sleep {seconds}\n"))]);
    let base = user.path("base.tar");
    user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    let started = start(user.command(["build", "-t", "x"]).arg(&context));
    wait_until("the step runs", || crate::support::processes_with(&seconds) > 0);
    started.signal(rustix::process::Signal::INT);
    assert_ne!(started.wait().code(), Some(0));
    wait_until("its processes end", || crate::support::processes_with(&seconds) == 0);
    let left = run(std::process::Command::new("ls").arg(user.path("home/data/slipway/tmp"))).ok();
    assert_eq!(left, "");
}

#[test]
fn privileged_a_store_of_another_user_is_refused() {
    need_root!();
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    let slipway = crate::support::Slipway::new();
    let root = slipway.root.to_str().unwrap();
    let ended = user.run(["--root", root, "images"]);
    let message = ended.fails(1);
    assert!(message.contains(root), "{message}");
}
