//! A plain user, through user namespaces: with subordinate ids, and with nothing but its own id.

use crate::support::image::{Entry, Image};
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
RUN setpriv --reuid 1000 true 2>/dev/null && echo switched > /tmp/switched; su app -c true && echo switched > /tmp/switched; true
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
