//! A plain user, through user namespaces: with subordinate ids, and with nothing but its own id.

use crate::support::image::{Entry, Image};
use crate::support::user::User;
use crate::support::{run, skip, start, wait_until};
use slipway_skip::{need, need_root};

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
    for (user, number, interrupts) in
        [(&user, 300_000, 1), (&user, 340_000, 2), (&User::nameless(), 380_000, 2)]
    {
        let seconds = format!("{}", number + std::process::id() % 40_000);
        let context = user.context(&[("Dockerfile", &format!("FROM base\nRUN sleep {seconds}\n"))]);
        let base = user.path("base.tar");
        user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
        let started = start(user.command(["build", "-t", "x"]).arg(&context));
        wait_until("the step runs", || crate::support::processes_with(&seconds) > 0);
        (0..interrupts).for_each(|_| started.signal(rustix::process::Signal::INT));
        assert_eq!(started.wait().code(), Some(130));
        wait_until("its processes end", || crate::support::processes_with(&seconds) == 0);
        let left = ["tmp", "leases"].map(|folder| user.path("home/data/slipway").join(folder));
        let left = run(std::process::Command::new("find").args(left).args(["-mindepth", "1"])).ok();
        assert_eq!(left, "");
    }
}

/// Issue 7, B18: a plain user's containers end as root's do.
#[test]
fn privileged_a_plain_user_stops_containers() {
    need_root!();
    for user in [Some(User::nameless()), User::new()].into_iter().flatten() {
        let base = user.path("base.tar");
        user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
        for (round, flags) in [&[][..], &["--init"], &["--init", "-u", "0"]].iter().enumerate() {
            let seconds = format!("{}{round}", 500_000 + std::process::id());
            let words = [&["run"], *flags, &["base", "sleep", &seconds]].concat();
            let started = start(&mut user.command(words));
            // slipway's own line has the number as well
            let line = format!("sleep\0{seconds}\0").into_bytes();
            let runs = |entry: std::fs::DirEntry| {
                std::fs::read(entry.path().join("cmdline")).is_ok_and(|found| found == line)
            };
            wait_until("the container runs", || std::fs::read_dir("/proc").unwrap().flatten().any(runs));
            started.signal(rustix::process::Signal::TERM);
            let ended = started.wait();
            assert_eq!(ended.code(), Some(143), "{flags:?}: {}", ended.stderr);
            assert!(ended.took < std::time::Duration::from_secs(9), "{flags:?}: {:?}", ended.took);
            wait_until("its processes end", || crate::support::processes_with(&seconds) == 0);
        }
        assert_eq!(user.run(["run", "--init", "base", "sh", "-c", "exit 4"]).code(), Some(4));
    }
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

/// The user's image as another store has it: each path of its layers as it is at last.
fn last(user: &User, name: &str) -> std::collections::BTreeMap<String, Entry> {
    let archive = user.path("home/saved.tar");
    user.ok(["save".as_ref(), "-o".as_ref(), archive.as_os_str(), name.as_ref()]);
    let slipway = crate::support::Slipway::empty();
    slipway.ok(["load".as_ref(), "-i".as_ref(), archive.as_os_str()]);
    let entries = Image::read(&slipway, name).layers.into_iter().flatten();
    entries.map(|entry| (entry.path.clone(), entry)).collect()
}

/// Issue 7, A8: owners and users that this user has not are neither lost nor changed.
#[test]
fn privileged_a_single_id_changes_nothing_that_was_asked() {
    need_root!();
    let user = User::nameless();
    // as Debian's: files of groups and users other than root, in a layer of their own
    let layer = user.path("layer");
    for folder in ["etc", "home/app", "srv"] {
        std::fs::create_dir_all(layer.join(folder)).unwrap();
    }
    std::fs::write(layer.join("etc/gshadow"), "root:*::\n").unwrap();
    std::fs::write(layer.join("etc/shadow"), "root:*:\n").unwrap();
    std::fs::write(layer.join("home/app/own"), "").unwrap();
    std::fs::write(layer.join("srv/moved"), "").unwrap();
    std::os::unix::fs::symlink("own", layer.join("home/app/link")).unwrap();
    let script = "chown -h 0:42 etc/gshadow etc/shadow; chmod 640 etc/gshadow etc/shadow; \
                  chown -hR 1000:1000 home/app; chown 33:33 srv srv/moved; tar -cf ../layer.tar .; chmod 644 ../layer.tar";
    run(std::process::Command::new("sh").args(["-c", script]).current_dir(&layer)).ok();
    let base = user.path("base.tar");
    user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    let recipe = "FROM base
ADD layer.tar /
RUN echo more >> /etc/gshadow && mv /srv/moved /srv/here && touch /srv/new /home/app/roots
RUN chown 7:8 /etc/motd && touch /tmp/group && chown :9 /tmp/group && mkdir -p /deep/er && chown -R 1000:50 /deep
RUN chmod 4755 /deep/er && cp /etc/motd /tmp/installed && chown 3:4 /tmp/installed
USER 1000:100
RUN id -u > /tmp/id && id -g >> /tmp/id && grep -c -E 'Cap(Prm|Eff|Amb):.0000000000000000' /proc/self/status >> /tmp/id
RUN (chown 5 /tmp/id || echo refused) 2>/dev/null >> /tmp/id; echo more >> /etc/gshadow; mkdir /home/app/made
USER 0
RUN setuidgid app true 2>/dev/null && echo switched > /tmp/switched; su app -c true && echo switched > /tmp/switched; true
";
    let context = user.context(&[("Dockerfile", recipe)]);
    std::fs::copy(user.path("layer.tar"), context.join("layer.tar")).unwrap();
    user.ok(["build".as_ref(), "-t".as_ref(), "made".as_ref(), context.as_os_str()]);
    let last = last(&user, "made");
    for expected in [
        "0:42 etc/gshadow",
        "0:42 etc/shadow",
        "1000:1000 home/app",
        "1000:1000 home/app/own",
        "1000:1000 home/app/link",
        "0:0 home/app/roots",
        "1000:100 home/app/made",
        "33:33 srv",
        "33:33 srv/here",
        "0:0 srv/new",
        "7:8 etc/motd",
        "0:9 tmp/group",
        "1000:50 deep",
        "1000:50 deep/er",
        "3:4 tmp/installed",
        "1000:100 tmp/id",
    ] {
        let (owner, path) = expected.split_once(' ').unwrap();
        let entry = last.get(path).unwrap_or_else(|| panic!("no `{path}` in {:?}", last.keys()));
        assert_eq!(format!("{}:{}", entry.uid, entry.gid), owner, "{path}");
        assert_eq!(entry.xattrs, [], "{path}");
    }
    assert!(!last.contains_key("tmp/switched"));
    assert_eq!(String::from_utf8_lossy(&last["tmp/id"].content), "1000\n100\n3\nrefused\n");
    // the same on top of what was unpacked, in a container
    let words =
        "id -u; id -g; echo x >> /etc/gshadow && grep CapEff /proc/self/status; echo out > /dev/stdout";
    let seen = user.ok(["run", "--rm", "-u", "1000:100", "made", "sh", "-c", words]);
    assert_eq!(seen, "1000\n100\nCapEff:\t0000000000000000\nout\n");
    let seen = user.ok(["run", "--rm", "-u", "0:50", "made", "sh", "-c", "id -u; id -g"]);
    assert_eq!(seen, "0\n50\n");
}

/// A store with files of ids that are not the user's own, which it cannot remove by itself.
#[test]
fn privileged_a_user_removes_its_own_store() {
    need_root!();
    let recipe = "FROM base\nRUN mkdir /d && echo x > /d/f && chmod 700 /d && chown -R 33:33 /d\n\
                  RUN --mount=type=cache,target=/c,uid=33,mode=0700 echo x > /c/f\n";
    for (user, has_others) in [(User::new(), true), (Some(User::nameless()), false)] {
        let Some(user) = user else { return skip("the test user is missing: run `cargo xtask test`") };
        let recipe = if has_others { recipe } else { "FROM base\nRUN mkdir /d && chmod 0 /d\n" };
        let context = user.context(&[("Dockerfile", recipe)]);
        let base = user.path("base.tar");
        user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
        user.ok(["build".as_ref(), "-t".as_ref(), "made".as_ref(), context.as_os_str()]);
        let store = user.path("home/data/slipway");
        if has_others {
            use std::os::unix::fs::MetadataExt;
            let listed = run(std::process::Command::new("find").arg(&store)).ok();
            let own = std::fs::metadata(&store).unwrap().uid();
            let foreign = listed.lines().filter(|path| std::fs::symlink_metadata(path).unwrap().uid() != own);
            assert!(foreign.count() >= 3, "{listed}");
        }
        assert!(user.run(["system", "reset"]).fails(1).contains("--force"));
        assert!(store.join("store.db").exists());
        // not under a container's feet
        let seconds = format!("{}", 710_000 + std::process::id());
        let running = start(&mut user.command(["run", "--rm", "base", "sleep", &seconds]));
        let leases = || std::fs::read_dir(store.join("leases")).into_iter().flatten().count();
        wait_until("the container is made", || leases() > 0);
        assert!(user.run(["system", "reset", "--force"]).fails(1).contains("in use"));
        running.signal(rustix::process::Signal::TERM);
        running.wait();
        user.ok(["system", "reset", "--force"]);
        assert!(!store.exists());
        assert!(user.run(["system", "reset", "-f"]).stderr.contains("no store"));
        // and begins again
        user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    }
}

/// What a step of a recipe, or a container, cannot have because of who the user is, with words of its error: what
/// happened, and the way out.
struct Refused {
    /// At which level: `one` id, `some` ids, or `both`.
    level: &'static str,
    /// The recipe after `FROM base`, or a command line that begins with `run`.
    what: &'static str,
    words: &'static [&'static str],
}

const MORE: &str = "more subordinate ids in /etc/subuid and /etc/subgid, or run as root";
const LINE: &str = "no subordinate ids: add the line `54329:";

const REFUSALS: &[Refused] = &[
    Refused {
        level: "one",
        what: "RUN su app -c true",
        words: &["su app", "one user and group id is mapped", LINE],
    },
    Refused {
        level: "one",
        what: "RUN start-stop-daemon -S -c app -x /bin/true",
        words: &["one user and group id is mapped", LINE],
    },
    Refused {
        level: "one",
        what: "RUN mkfifo /p && chown 33 /p",
        words: &["pipes, sockets and devices", LINE],
    },
    Refused {
        level: "one",
        what: "RUN echo 'E: setgroups 65534 failed - setgroups (1: Operation not permitted)'; exit 100",
        words: &["APT::Sandbox::User=root", LINE],
    },
    Refused {
        level: "both",
        what: "RUN mknod /n c 1 3",
        words: &["only root makes device nodes", "in /dev"],
    },
    Refused { level: "both", what: "RUN mount -t tmpfs x /tmp", words: &["--security=insecure", "--allow"] },
    Refused {
        level: "both",
        what: "run -m 64m base true",
        words: &["memory", "as root", "without the limit"],
    },
    Refused {
        level: "both",
        what: "run --pids-limit 9 base true",
        words: &["pids", "as root", "without the limit"],
    },
    Refused {
        level: "both",
        what: "run --cpus 1 base true",
        words: &["cpu", "as root", "without the limit"],
    },
    Refused {
        level: "some",
        what: "USER 200000\nRUN true",
        words: &["the container's user is 200000:0", MORE],
    },
    Refused { level: "some", what: "USER 0:200000\nRUN true", words: &["user is 0:200000", MORE] },
    Refused {
        level: "some",
        what: "run -u 200000 base true",
        words: &["the container's user is 200000:0", MORE],
    },
    Refused {
        level: "some",
        what: "COPY --chown=200000:5 f /\nRUN true",
        words: &["`f` of the layer", MORE],
    },
    Refused { level: "some", what: "RUN chown 200000 /etc/motd", words: &["no such id", MORE] },
    Refused {
        level: "some",
        what: "RUN --mount=type=secret,id=s,uid=200000 true",
        words: &["/run/secrets/s", "200000:0", MORE],
    },
    Refused {
        level: "some",
        what: "RUN --mount=type=cache,id=c,target=/c,gid=200000 true",
        words: &["the cache `c`", "0:200000", MORE],
    },
    Refused {
        level: "some",
        what: "RUN --mount=type=ssh,uid=200000 true",
        words: &["the agent's socket", "200000:0", MORE],
    },
];

/// What the same levels can have, although it looks alike: nothing is refused too early.
const TAKEN: &[(&str, &str)] = &[
    ("both", "RUN chown 33:33 /etc/motd && chgrp 5 /tmp && mkdir /d && chown 7:8 /d"),
    ("both", "USER 1000:1000\nRUN test $(id -u) = 1000"),
    ("both", "COPY --chown=1000:5 f /\nRUN cat /f"),
    ("both", "RUN --mount=type=secret,id=s,uid=1000 true"),
    ("both", "RUN --mount=type=cache,target=/c,uid=1000,gid=5 touch /c/x"),
    ("one", "USER 200000:200000\nRUN test $(id -u) = 200000"),
    ("one", "COPY --chown=200000:5 f /\nRUN cat /f"),
    ("one", "RUN chown 200000 /etc/motd"),
    ("some", "RUN su app -c true && mkfifo /p && chown 33 /p"),
    ("some", "USER 65535:65535\nRUN true"),
];

/// Issue 7, B22: what single-id users and those with subordinate ids cannot have names the way out.
#[test]
fn privileged_what_a_user_cannot_have_names_the_way_out() {
    need_root!();
    for (user, level) in [(Some(User::nameless()), "one"), (User::new(), "some")] {
        let Some(user) = user else { return skip("the test user is missing: run `cargo xtask test`") };
        let base = user.path("base.tar");
        let imported = user.run(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
        assert_eq!(imported.stderr.contains(LINE), level == "one", "{}", imported.stderr);
        let socket = user.path("home/agent");
        let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        run(std::process::Command::new("chown").arg(user.owner()).arg(&socket)).ok();
        let ended = |what: &str| match what.strip_prefix("run ") {
            Some(words) => user.run(["run", "--rm"].into_iter().chain(words.split(' '))),
            None => {
                let context = user.context(&[("Dockerfile", &format!("FROM base\n{what}\n")), ("f", "x\n")]);
                let flags =
                    [format!("id=s,src={}/f", context.display()), format!("default={}", socket.display())];
                let context = context.to_str().unwrap();
                user.run(["build", "-t", "x", "--secret", &flags[0], "--ssh", &flags[1], context])
            }
        };
        let here = |wanted: &str| wanted == "both" || wanted == level;
        for Refused { what, words, .. } in REFUSALS.iter().filter(|refused| here(refused.level)) {
            let ended = ended(what);
            assert_ne!(ended.code(), Some(0), "{level}: {what}");
            for word in *words {
                assert!(ended.stderr.contains(word), "{level}: {what}: no `{word}` in\n{}", ended.stderr);
            }
            // every command warns once where only one id is mapped, and no step says it once more by itself
            let warnings = ended.stderr.matches("warning: no subordinate ids").count();
            assert_eq!(warnings, usize::from(level == "one"), "{what}: {}", ended.stderr);
        }
        for (_, what) in TAKEN.iter().filter(|(wanted, _)| here(wanted)) {
            let ended = ended(what);
            assert_eq!(ended.code(), Some(0), "{level}: {what}: {}", ended.stderr);
        }
    }
}

/// Issues 7, B22 and 13: a store on an overlay, as in a container (root's is in shapes.rs). Before Linux 6.15 the way out is
/// named.
#[test]
fn privileged_a_users_store_on_an_overlay_works() {
    need_root!();
    need!("mount", "umount");
    let place = tempfile::Builder::new().prefix("slipway-overlay-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    let merged = place.path().join("merged");
    let script =
        "mount -t overlay x -o lowerdir=lower,upperdir=upper,workdir=work merged && chmod 1777 merged";
    run(std::process::Command::new("sh").args(["-c", script]).current_dir(place.path())).ok();
    let mut seen = Vec::new();
    for user in [Some(User::nameless()), User::new()].into_iter().flatten() {
        let root = merged.join(user.owner());
        let (root, base) = (root.to_str().unwrap(), user.path("base.tar"));
        user.ok(["--root", root, "import", base.to_str().unwrap(), "base"]);
        let context = user.context(&[("Dockerfile", "FROM base\nRUN true\n")]);
        seen.push(user.run(["--root", root, "build", context.to_str().unwrap()]));
        seen.push(user.run(["--root", root, "run", "--rm", "base", "true"]));
    }
    run(std::process::Command::new("umount").args(["-l"]).arg(&merged)).ok();
    for ended in seen {
        if ended.status.success() {
            continue;
        }
        assert!(!slipway_skip::has_kernel(6, 15), "{}: {}", ended.status, ended.stderr);
        for word in
            ["is on an overlay", "put the store on a volume or another disk", "--root", "SLIPWAY_ROOT"]
        {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    }
}
