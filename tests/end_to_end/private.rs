//! What another user of the machine gets of a store: nothing, whatever the umask and whatever was there before.

use crate::support::server::free_address;
use crate::support::user::User;
use crate::support::{Ended, Slipway, run, wait_until};
use slipway_skip::{need, need_root};
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
        for needed in ["/bin/busybox-root", "/root-only", "/blobs/sha256", "/builds/", "/caches", "/store.db"]
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

/// What another user manages to do to processes.
fn attacked(pids: &[String]) -> String {
    let script = "for p; do
        name=$(cat /proc/$p/comm)
        for f in mem environ maps auxv stack io; do (: < /proc/$p/$f) && echo opened $f of $name; done
        for f in environ maps auxv; do head -c 1 /proc/$p/$f | grep -q . && echo read $f of $name; done
        for d in fd root/ cwd/ map_files; do ls /proc/$p/$d >/dev/null && echo listed $d of $name; done
        for l in exe cwd root ns/mnt ns/net; do readlink /proc/$p/$l >/dev/null && echo followed $l of $name; done
        kill -0 $p && echo signalled $name
        nsenter -t $p -m -n true && echo entered $name
        renice -n 9 -p $p >/dev/null && echo slowed $name
        prlimit --pid $p --nofile=99 && echo limited $name
        taskset -p 1 $p >/dev/null && echo moved $name
    done 2>/dev/null; true";
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}")]);
    command.args(["--clear-groups", "sh", "-c", script, "sh"]).args(pids).current_dir("/");
    // these may be opened by everybody, and then nothing is read from them (proc(5))
    let seen = run(&mut command).ok();
    let harmless = |line: &&str| {
        !["environ", "maps", "auxv", "stack"].iter().any(|file| line.starts_with(&format!("opened {file} ")))
    };
    seen.lines().filter(harmless).map(|line| format!("{line}\n")).collect()
}

/// A process and what descends from it.
fn family(first: u32) -> Vec<String> {
    let listed = run(Command::new("ps").args(["-eo", "pid=,ppid="])).ok();
    let pairs: Vec<(String, String)> = listed
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(pid, parent)| (pid.to_owned(), parent.trim().to_owned()))
        .collect();
    let mut family = vec![first.to_string()];
    let mut place = 0;
    while let Some(parent) = family.get(place).cloned() {
        family.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid.clone()));
        place += 1;
    }
    family
}

/// Starts the command on a terminal, under a umask that hides nothing.
fn openly(slipway: &Slipway, line: &[&str], terminal: &fs::File) -> std::process::Child {
    let inner = slipway.command(line);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if !slipway.is_roots() {
        // a user has folders, whatever is asked of root
        command.env_remove("SLIPWAY_LAYERS");
    }
    command.current_dir(inner.get_current_dir().unwrap_or(Path::new("/")));
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
    command.stderr(std::process::Stdio::null()).spawn().unwrap()
}

/// The eyes of the attack: of a process of its own the other user sees and moves everything.
fn sees_its_own() {
    let mut own = Command::new("setpriv");
    own.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}")]).args([
        "--clear-groups",
        "sleep",
        "1000",
    ]);
    let mut own = own.current_dir("/").spawn().unwrap();
    wait_until("it sleeps", || {
        fs::read_to_string(format!("/proc/{}/comm", own.id())).is_ok_and(|name| name == "sleep\n")
    });
    let seen = attacked(&[own.id().to_string()]);
    own.kill().unwrap();
    own.wait().unwrap();
    for word in
        ["opened mem", "read environ", "listed fd", "followed cwd", "signalled", "slowed", "limited", "moved"]
    {
        assert!(seen.contains(word), "{word}: {seen}");
    }
}

/// Containers with and without a terminal, and a step with all that it can be lent, of root and of users, made under a
/// umask that hides nothing.
#[test]
fn privileged_another_user_reaches_nothing_of_running_work() {
    need_root!();
    need!("ps", "nsenter", "prlimit", "taskset");
    sees_its_own();
    let (_folder, mine) = reachable();
    let users = [Some(User::nameless()), User::new()].into_iter().flatten().map(Slipway::of);
    for (number, slipway) in std::iter::once(mine).chain(users).enumerate() {
        slipway.import_base();
        let socket = slipway.path("home").parent().unwrap().join("agent-socket");
        let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(&slipway.root).unwrap();
        chown(&socket, Some(owner.uid()), Some(owner.gid())).unwrap();
        let seconds = format!("{}", 510_000 + number as u32 * 100_000 + std::process::id() % 100_000);
        let script = format!("echo x > /mine; sleep {seconds}");
        let recipe = format!(
            "FROM base\nRUN --mount=type=secret,id=s --mount=type=cache,mode=0777,target=/c --mount=type=ssh,mode=0777 \
             --mount=type=tmpfs,target=/t echo x > /c/x; echo x > /mine; sleep {seconds}\n"
        );
        let context =
            slipway.context(&format!("context{number}"), &[("Dockerfile", &recipe), ("s", "a secret")]);
        fs::set_permissions(context.join("s"), Permissions::from_mode(0o600)).unwrap();
        run(Command::new("chown").arg("-R").arg(format!("{}:{}", owner.uid(), owner.gid())).arg(&context))
            .ok();
        let flags = [format!("id=s,src={}/s", context.display()), format!("default={}", socket.display())];
        let build = ["build", "--secret", &flags[0], "--ssh", &flags[1], context.to_str().unwrap()];
        let (_ours, theirs) = crate::support::terminal();
        let lines =
            [&["run", "base", "sh", "-c", &script][..], &["run", "-t", "base", "sh", "-c", &script], &build];
        let mut started = lines.map(|line| openly(&slipway, line, &theirs));
        wait_until("the containers run", || crate::support::processes_with(&seconds) >= lines.len());
        let paths: Vec<_> = all(&slipway.root).into_iter().chain([socket, context.join("s")]).collect();
        for needed in ["upper/mine", "/agent-", "/caches/"] {
            assert!(paths.iter().any(|path| path.to_str().unwrap().contains(needed)), "{needed}: {paths:?}");
        }
        let seen = reached(&paths);
        let pids: Vec<String> = started.iter().flat_map(|started| family(started.id())).collect();
        // each has itself, its guard, and the container's
        assert!(pids.len() >= 3 * lines.len(), "{pids:?}");
        let attacked = attacked(&pids);
        for pid in crate::support::pids_with(&seconds) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        for started in &mut started {
            started.wait().unwrap();
        }
        assert_eq!(format!("{seen}{attacked}"), "", "{number}");
    }
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
