//! What another user of the machine gets of a store: nothing, whatever the umask and whatever was there before.

use crate::support::server::free_address;
use crate::support::{Ended, Slipway, run, start, wait_until};
use slipway_skip::need_root;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const OTHER: u32 = 54_330;

/// A set-user-id program, a file for root alone, a cache for everybody, and a step that fails and leaves its output.
const RECIPE: &str = "FROM base
RUN cp /bin/busybox /bin/busybox-root && chmod 4755 /bin/busybox-root
RUN echo secret > /root-only && chmod 600 /root-only
RUN --mount=type=cache,id=open,mode=0777,target=/c echo cached > /c/file
";

/// A store that another user could reach if its own folder let it.
fn reachable() -> (tempfile::TempDir, Slipway) {
    let folder = tempfile::Builder::new().prefix("slipway-private-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let mut slipway = Slipway::empty();
    slipway.root = folder.path().join("store");
    (folder, slipway)
}

/// Runs the command with a umask.
fn masked(slipway: &Slipway, umask: &str, arguments: &[&str]) -> Ended {
    let inner = slipway.command(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut command)
}

/// What another user manages to do with the paths: list, read, execute, lock, or write into.
fn reached(paths: &[PathBuf]) -> String {
    let script = "for path; do
        if [ -d \"$path\" ]; then
            ls \"$path\" >/dev/null && echo listed $path
            touch \"$path/planted\" && echo wrote $path
        else
            head -c 1 \"$path\" >/dev/null && echo read $path
            (flock -n 9 && echo locked $path) 9<\"$path\"
            case $path in */bin/busybox-root) \"$path\" true && echo executed $path;; esac
        fi
    done 2>/dev/null; true";
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}")]).args([
        "--clear-groups",
        "sh",
        "-c",
    ]);
    run(command.args([script, "sh"]).args(paths).current_dir("/")).ok()
}

/// Every path below a folder, and itself.
fn all(folder: &Path) -> Vec<PathBuf> {
    let listed = run(Command::new("find").arg(folder)).ok();
    listed.lines().map(PathBuf::from).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn privileged_another_user_reaches_nothing_of_a_store() {
    need_root!();
    for (umask, before) in
        [("000", None), ("022", None), ("077", None), ("000", Some(0o777)), ("022", Some(0o755))]
    {
        let (_folder, slipway) = reachable();
        if let Some(before) = before {
            fs::create_dir(&slipway.root).unwrap();
            fs::set_permissions(&slipway.root, Permissions::from_mode(before)).unwrap();
        }
        let base = crate::support::base::busybox();
        masked(&slipway, umask, &["import", base.to_str().unwrap(), "base"]).ok();
        let context = slipway.context("context", &[("Dockerfile", RECIPE)]);
        let context = context.to_str().unwrap();
        masked(&slipway, umask, &["build", "-t", "made", context]).ok();
        fs::write(slipway.path("context/Dockerfile"), "FROM base\nRUN echo told; exit 3\n").unwrap();
        assert_ne!(masked(&slipway, umask, &["build", context]).code(), Some(0));
        let paths = all(&slipway.root);
        for needed in
            ["/bin/busybox-root", "/root-only", "/blobs/sha256", "/run/logs", "/caches", "/store.db"]
        {
            assert!(
                paths.iter().any(|path| path.to_str().unwrap().contains(needed)),
                "{needed} in {paths:?}"
            );
        }
        assert_eq!(reached(&paths), "", "umask {umask}, before {before:?}");
        assert_eq!(mode(&slipway.root), 0o700);
        // the eyes of this test: with the doors open they see
        for door in [slipway.root.clone(), slipway.root.join("layers")] {
            fs::set_permissions(door, Permissions::from_mode(0o755)).unwrap();
        }
        let seen = reached(&paths);
        assert!(seen.contains("executed") && seen.contains("read"), "{seen}");
        // and any command closes it
        masked(&slipway, umask, &["images"]).ok();
        assert_eq!(reached(&paths), "", "umask {umask}, opened meanwhile");
    }
}

#[test]
fn privileged_another_user_reaches_nothing_of_running_work() {
    need_root!();
    let (_folder, slipway) = reachable();
    slipway.import_base();
    let seconds = format!("{}", 510_000 + std::process::id());
    let script = format!("echo x > /mine; sleep {seconds}");
    let running = start(&mut slipway.command(["run", "--rm", "base", "sh", "-c", &script]));
    wait_until("the container runs", || crate::support::processes_with(&seconds) > 0);
    let paths = all(&slipway.root);
    assert!(paths.iter().any(|path| path.ends_with("upper/mine")), "{paths:?}");
    let seen = reached(&paths);
    for pid in crate::support::pids_with(&seconds) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    running.wait();
    assert_eq!(seen, "");
}

#[test]
fn privileged_another_user_reaches_nothing_of_a_registry() {
    need_root!();
    for inside in [true, false] {
        let (folder, slipway) = reachable();
        let address = free_address();
        let mut command = Command::new("sh");
        command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(crate::support::binary());
        command.args(["serve", "--listen", &address]).env("SLIPWAY_ROOT", &slipway.root);
        let storage = match inside {
            true => slipway.root.clone(),
            false => folder.path().join("registry"),
        };
        if !inside {
            command.arg("--storage").arg(&storage);
        }
        let _server =
            crate::support::server::Server::start(command.stderr(std::process::Stdio::null()), &address);
        let paths = all(&storage);
        assert!(paths.iter().any(|path| path.ends_with("registry.db")), "{paths:?}");
        assert_eq!(reached(&paths), "");
        assert_eq!(mode(&storage), 0o700);
    }
}

#[test]
fn privileged_what_is_another_users_is_refused_with_a_word() {
    need_root!();
    let (folder, slipway) = reachable();
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(OTHER), Some(OTHER)).unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    for (name, target) in [("link", folder.path().join("target")), ("store", theirs.clone())] {
        symlink(target, shared.join(name)).unwrap();
        std::os::unix::fs::lchown(shared.join(name), Some(OTHER), Some(OTHER)).unwrap();
    }
    fs::create_dir(folder.path().join("target")).unwrap();
    for root in [theirs.clone(), shared.join("store"), shared.join("link"), shared.join("link/below")] {
        let mut refused = slipway.another("unused");
        refused.root = root.clone();
        for command in [&["images"][..], &["run", "x"], &["build", "."], &["rmi", "-f", "x"]] {
            let ended = refused.run(command);
            assert!(matches!(ended.code(), Some(1 | 125)), "{}: {}", root.display(), ended.stderr);
            let word = format!("user {OTHER}");
            assert!(ended.stderr.contains(&word) && ended.stderr.contains("--root"), "{}", ended.stderr);
        }
    }
    assert_eq!(mode(&theirs), 0o755, "left as it was");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.path().join("target")).unwrap().count(), 0);
}

#[test]
fn privileged_a_parent_that_others_may_write_is_told() {
    need_root!();
    for (mode, told) in [(0o777, true), (0o1777, false), (0o755, false)] {
        let (folder, mut slipway) = reachable();
        let parent = folder.path().join("parent");
        fs::create_dir(&parent).unwrap();
        fs::set_permissions(&parent, Permissions::from_mode(mode)).unwrap();
        slipway.root = parent.join("store");
        for command in [&["images"][..], &["run", "--pull", "never", "missing"]] {
            let ended = slipway.run(command);
            let count = ended.stderr.matches("warning: other users may write").count();
            assert_eq!(count, usize::from(told), "{mode:o}: {}", ended.stderr);
        }
    }
}
