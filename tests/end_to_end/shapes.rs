//! Layers in each of their shapes: folders, files that the kernel mounts, files through loop devices. What is built and
//! seen is the same to the byte.

use crate::support::server::Server;
use crate::support::user::User;
use crate::support::{Slipway, run, start};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const SHAPES: [&str; 3] = ["unpacked", "mounted", "loop"];

/// A store whose layers are `shape`; `None` where the machine does not allow it.
fn store(shape: &str) -> Option<Slipway> {
    let mut slipway = Slipway::empty();
    slipway.environment.push(("SLIPWAY_LAYERS".to_owned(), shape.to_owned()));
    let found = slipway.ok(["info", "--format", "{{.Layers.Shape}} {{.Layers.Reason}}"]);
    if !found.starts_with(shape) {
        slipway_skip::skip(&format!("layers cannot be {shape} here: {found}"));
        return None;
    }
    slipway.import_base();
    Some(slipway)
}

/// Files of the store's layers that can be mounted.
fn files(slipway: &Slipway) -> usize {
    let layers = fs::read_dir(slipway.root.join("layers")).unwrap().flatten();
    layers.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "erofs")).count()
}

/// Loop devices that show a file of the store. One goes when the kernel gets to it.
fn loops(root: &Path) -> usize {
    let shown = || {
        let devices = fs::read_dir("/sys/block").unwrap().flatten();
        let of_store = devices.filter(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            file.starts_with(root.to_str().unwrap())
        });
        of_store.count()
    };
    let until = Instant::now() + Duration::from_secs(10);
    while shown() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    shown()
}

const RECIPE: &str = "\
FROM base AS first
RUN mkdir -p /deep/er && echo old > /deep/er/file && echo one > /one && ln /one /two && ln -s one /three && \
    echo set > /setuid && chown 1234:77777 /setuid && chmod 4711 /setuid && mkfifo /fifo && mkdir -m 1777 /sticky
COPY --chown=5:6 --chmod=640 tree /tree
FROM base AS second
COPY --from=first /deep /deep
COPY --from=first /setuid /two /three /tree /copied/
FROM first
RUN rm -rf /deep && mkdir /deep && echo new > /deep/new && rm /three && echo more >> /two && chmod 700 /tree
RUN --mount=from=second,source=/copied,target=/m --mount=from=second,target=/all,rw \
    ls /m > /seen && cat /m/a /all/deep/er/file >> /seen && touch /all/written
COPY --from=second /copied/two /back/
RUN echo 'person:x:4321:4321::/:/bin/sh' >> /etc/passwd
USER person
RUN id > /tmp/id && found=$(find / -xdev -type f -o -xdev -type l | grep -v '^/proc\\|^/sys\\|^/dev\\|^/bin' | sort) && echo \"$found\" > /tmp/found && \
    stat -c '%n %a %u:%g %s %h' /one /two /setuid /fifo > /tmp/stat
";

const TREE: [(&str, &str); 3] = [("tree/a", "a"), ("tree/b/c", "c"), ("tree/empty", "")];

#[test]
fn privileged_what_is_built_and_seen_is_the_same_in_every_shape() {
    slipway_skip::need_root!();
    let mut seen: Vec<(&str, String, String)> = Vec::new();
    for shape in SHAPES {
        let Some(slipway) = store(shape) else { continue };
        slipway.build("app", RECIPE, &TREE).ok();
        let digest = slipway.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]);
        // a second store with the image alone: each layer is made of its blob
        let place = slipway.path("app.tar");
        slipway.ok(["save".as_ref(), "-o".as_ref(), place.as_os_str(), "app".as_ref()]);
        let other = slipway.another("other");
        other.ok(["load".as_ref(), "-i".as_ref(), place.as_os_str()]);
        // times of a step's own folders are true where the layer was made; sizes of folders are the file system's
        let script = "id; cat /tmp/found /tmp/stat /seen /deep/new /two; test ! -e /three; \
                      stat -c '%n %A %u:%g %h %t:%T' / /deep /sticky /back /fifo /setuid | sed 's/ [0-9]* 0:0$//'; \
                      stat -c '%n %A %u:%g %h %s %Y' /tree/a /tree/empty /tree/b/c; \
                      stat -c %d /one /tree/a /deep/new /bin/busybox | sort -u | wc -l; \
                      echo changed >> /tmp/id && cat /tmp/id";
        let output = other.ok(["run", "--rm", "--user", "0", "app", "sh", "-c", script]);
        assert_eq!(files(&other), if shape == "unpacked" { 0 } else { other_layers(&other) }, "{shape}");
        assert_eq!(output, slipway.ok(["run", "--rm", "--user", "0", "app", "sh", "-c", script]), "{shape}");
        // what is built on layers that come from elsewhere is the same too
        let on_top = "FROM app\nUSER root\nRUN rm -r /tree/b && echo x > /tree/new && touch /deep/new\n";
        let digests = [&slipway, &other].map(|store| {
            store.build("top", on_top, &[]).ok();
            store.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "top"])
        });
        assert_eq!(digests[0], digests[1], "{shape}");
        seen.push((shape, digest + &digests[0], output));
        assert_eq!(loops(&other.root) + loops(&slipway.root), 0, "{shape}");
        for store in [&slipway, &other] {
            store.ok(["prune", "--all", "--force"]);
            assert_eq!(fs::read_dir(store.root.join("layers")).unwrap().count(), 0, "{shape}");
        }
    }
    for pair in seen.windows(2) {
        assert_eq!(pair[0].1, pair[1].1, "digests of {} and {}", pair[0].0, pair[1].0);
        assert_eq!(pair[0].2, pair[1].2, "{} and {}", pair[0].0, pair[1].0);
    }
    assert!(seen[0].2.contains("/deep/new\n"), "{}", seen[0].2);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" - erofs "), "no layer's mount is ever seen here: {mounts}");
}

/// How many layers the store knows.
fn other_layers(slipway: &Slipway) -> usize {
    let layers = fs::read_dir(slipway.root.join("layers")).unwrap().flatten();
    layers.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "toc")).count()
}

#[test]
fn privileged_what_changed_beneath_a_cache_looks_newer_in_every_shape() {
    slipway_skip::need_root!();
    let recipe = "FROM base\nCOPY a b /src/\nRUN --mount=type=cache,target=/c \
                  if [ -e /c/made ]; then find /src -type f -newer /c/made > /newer; else : > /newer; fi; \
                  touch -d @1600000000 /c/made; stat -c '%n %a %u' /src/* >> /newer\n";
    for shape in SHAPES {
        let Some(slipway) = store(shape) else { continue };
        slipway.build("app", recipe, &[("a", "1"), ("b", "1")]).ok();
        slipway.build("app", recipe, &[("a", "2"), ("b", "1")]).ok();
        let newer = slipway.ok(["run", "--rm", "app", "cat", "/newer"]);
        assert_eq!(newer, "/src/a\n/src/a 644 0\n/src/b 644 0\n", "{shape}");
    }
}

/// The most layers that an image may have, many of them the same, and a step on all of them.
#[test]
fn privileged_the_most_layers_of_an_image_run_in_every_shape() {
    slipway_skip::need_root!();
    let most = slipway_oci::limits::LAYERS;
    let different = 90;
    let mut recipe = "FROM base\n".to_owned();
    for number in 0..most - 2 {
        // from the ninetieth on those that were there, in another order
        let file = if number < different { number } else { (number * 7) % different };
        recipe += &format!("COPY f{file} /f{file}\n");
    }
    let files: Vec<(String, String)> =
        (0..different).map(|number| (format!("f{number}"), format!("{number}\n"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let last = "RUN cat /f* | sort -n | tail -n 1 > /last && rm /f0 && echo changed > /f1\n";
    let mut seen = Vec::new();
    for shape in SHAPES {
        let Some(slipway) = store(shape) else { continue };
        slipway.build("most", &(recipe.clone() + last), &files).ok();
        let layers = slipway.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "most"]);
        assert_eq!(layers.matches("sha256:").count(), most, "{shape}");
        let place = slipway.path("most.tar");
        slipway.ok(["save".as_ref(), "-o".as_ref(), place.as_os_str(), "most".as_ref()]);
        let other = slipway.another("other");
        other.ok(["load".as_ref(), "-i".as_ref(), place.as_os_str()]);
        let script = "ls / | grep -c '^f[0-9]'; cat /last /f1 /f89; test ! -e /f0 && cat /f2";
        let said = other.shell("most", script);
        assert_eq!(said, format!("{}\n{}\nchanged\n89\n2\n", different - 1, different - 1), "{shape}");
        assert_eq!(slipway.shell("most", script), said, "{shape}");
        assert_eq!(loops(&slipway.root) + loops(&other.root), 0, "{shape}");
        seen.push(layers);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_shape_that_the_machine_has_not_is_refused_in_words() {
    let slipway = Slipway::empty();
    for shape in ["auto", "unpacked"] {
        slipway.ok(["info", "--layers-as", shape]);
    }
    let words = slipway.fails(2, ["info", "--layers-as", "torn"]);
    assert!(words.contains("--layers-as"), "{words}");
}

#[test]
fn a_user_has_folders_and_is_told_so() {
    let Some(user) = User::new() else { return };
    let slipway = Slipway::of(user);
    slipway.import_base();
    let info =
        slipway.ok(["info", "--layers-as", "auto", "--format", "{{.Layers.Shape}}: {{.Layers.Reason}}"]);
    assert!(info.starts_with("unpacked: a user namespace"), "{info}");
    slipway.ok(["run", "--layers-as", "auto", "--rm", "base", "true"]);
    let words = slipway.fails(125, ["run", "--layers-as", "mounted", "--rm", "base", "true"]);
    assert!(words.contains("--layers-as=mounted") && words.contains("user namespace"), "{words}");
}

/// Files of a tree, some of which are not what they were.
fn many(changed: &[usize]) -> Vec<(String, String)> {
    let text = |number: usize| {
        let word = if changed.contains(&number) { number + 7919 } else { number };
        format!("{word} is what it says ").repeat(100 + number % 50)
    };
    (0..400).map(|number| (format!("tree/{}/f{number}", number % 7), text(number))).collect()
}

/// Layers whose files refer to one earlier file at least.
fn devices(slipway: &Slipway) -> usize {
    let layers = fs::read_dir(slipway.root.join("layers")).unwrap().flatten();
    layers.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "1")).count()
}

/// An image's next version, from a registry and from an archive, is read the same with the first one there, without it, after
/// it went, and after commands that fetched it were killed.
#[test]
fn privileged_versions_that_come_from_elsewhere_are_the_same_in_every_shape() {
    slipway_skip::need_root!();
    let source = Slipway::empty();
    source.import_base();
    let server = Server::slipway(&source, &source.path("storage"));
    let names: Vec<String> = [&[][..], &[3], &[3, 390]]
        .iter()
        .enumerate()
        .map(|(version, changed)| {
            let (files, remote) = (many(changed), server.name(&format!("app:{version}")));
            let files: Vec<(&str, &str)> =
                files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            source.build(&remote, "FROM base\nCOPY tree /tree\n", &files).ok();
            source.ok(["push", "-q", &remote]);
            remote
        })
        .collect();
    let sum = "find /tree -type f | sort | xargs cat | md5sum";
    let alone: Vec<String> = names.iter().map(|name| source.shell(name, sum)).collect();
    let archive = source.path("last.tar");
    source.ok(["save", "-o", archive.to_str().unwrap(), &names[2]]);
    for shape in SHAPES {
        let Some(there) = store(shape) else { continue };
        there.ok(["pull", "-q", &names[0]]);
        for round in 0..8u64 {
            let mut child = there.command(["pull", "-q", &names[1]]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(round * round * 2));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        there.ok(["pull", "-q", &names[1]]);
        there.ok(["load", "-q", "-i", archive.to_str().unwrap()]);
        assert_eq!(devices(&there), if shape == "unpacked" { 0 } else { 2 }, "{shape}");
        let read = || names[1..].iter().map(|name| there.shell(name, sum)).collect::<Vec<_>>();
        assert_eq!(read(), alone[1..], "{shape}");
        there.ok(["rmi", &names[0]]);
        assert_eq!(read(), alone[1..], "{shape}: the first one went");
        assert_eq!(there.leftovers(), [] as [String; 0], "{shape}");
        there.ok(["rmi", &names[1], &names[2], "base"]);
        assert_eq!(fs::read_dir(there.root.join("layers")).unwrap().count(), 0, "{shape}");
    }
}

/// The same is built whether layers that are nearly the same were there before or not, and it is read the same.
#[test]
fn privileged_touched_copies_are_the_same_in_every_shape() {
    slipway_skip::need_root!();
    let recipe = "FROM base\nCOPY tree /tree\nRUN find /tree -type f | sort | xargs cat | md5sum > /sum\n";
    let rounds: [&[usize]; 4] = [&[], &[3], &[3, 390], &[]];
    let mut seen: Vec<(&str, Vec<(String, String)>)> = Vec::new();
    for shape in SHAPES {
        let Some(slipway) = store(shape) else { continue };
        let built: Vec<(String, String)> = rounds
            .iter()
            .map(|changed| {
                let files = many(changed);
                let files: Vec<(&str, &str)> =
                    files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
                slipway.build("app", recipe, &files).ok();
                (slipway.digest("app"), slipway.shell("app", "cat /sum; find /tree -type f | wc -l"))
            })
            .collect();
        assert_eq!(built[0], built[3], "{shape}");
        assert!(built[0].0 != built[1].0 && built[1].1 != built[2].1, "{shape}");
        // both touched trees refer to the first
        assert_eq!(devices(&slipway), if shape == "unpacked" { 0 } else { 2 }, "{shape}");
        // which goes, and is still read by who needs it
        slipway.build("app", recipe, &[("tree/only", "one")]).ok();
        let files = many(&[3]);
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        slipway.build("kept", recipe, &files).ok();
        slipway.ok(["rmi", "app"]);
        slipway.ok(["prune", "--all", "--force", "--filter", "until=0s"]);
        let alone = Slipway::empty();
        alone.import_base();
        alone.build("kept", recipe, &files).ok();
        assert_eq!(alone.digest("kept"), built[1].0, "{shape}: nothing earlier was there");
        seen.push((shape, built));
    }
    for (shape, built) in &seen {
        assert_eq!(*built, seen[0].1, "{shape}");
    }
}

#[test]
fn privileged_killed_commands_leave_no_half_layer_and_no_device() {
    slipway_skip::need_root!();
    for shape in ["mounted", "loop"] {
        let Some(slipway) = store(shape) else { continue };
        let recipe = "FROM base\nCOPY big /big\nRUN cat /big > /dev/null && sleep 0.05\nRUN touch /x\n";
        let big = "0123456789abcdef".repeat(1 << 17);
        let context = slipway.context("killed", &[("Dockerfile", recipe), ("big", &big)]);
        for round in 0..12u64 {
            let mut child =
                slipway.command(["build".as_ref(), "-q".as_ref(), context.as_os_str()]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(round * round * 2));
            child.kill().unwrap();
            child.wait().unwrap();
            // layers' files are whole wherever they have their name
            for entry in fs::read_dir(slipway.root.join("layers")).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "erofs") {
                    let open = |path: &Path| fs::File::open(path).unwrap();
                    // the files that it has contents in besides
                    let device = |number: u32| entry.path().with_extension(format!("erofs.{number}"));
                    let devices = (1..).map(device).take_while(|path| path.exists());
                    let devices = devices.map(|path| open(&path)).collect();
                    slipway_oci::erofs::Image::open(open(&entry.path()), devices).expect("a whole file");
                }
            }
            if round % 4 == 3 {
                slipway.ok(["prune", "--all", "--force"]);
                slipway.import_base();
            }
        }
        assert_eq!(loops(&slipway.root), 0, "{shape}");
        let built = run(&mut slipway.command(["build".as_ref(), "-q".as_ref(), context.as_os_str()])).ok();
        assert!(built.starts_with("sha256:"), "{built}");
        let left: Vec<_> =
            fs::read_dir(slipway.root.join("tmp")).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{shape}: {left:?}");
    }
}

/// Builds and runs on a store that lies on an overlay, as in a container without a volume; answers what was seen.
fn on_overlay(slipway: &Slipway, shape: &str, user: Option<&User>) -> String {
    let script = r#"
        for name in lower upper work; do mkdir -p "$OUTER/$name"; done; mkdir -p "$STORE"
        mount -t overlay outer -o "lowerdir=$OUTER/lower,upperdir=$OUTER/upper,workdir=$OUTER/work" "$STORE"
        chown "$OWNER" "$STORE"
        as() { $PREFIX env SLIPWAY_ROOT="$STORE/store" HOME="$STORE" SLIPWAY_LAYERS="$SHAPE" "$BINARY" "$@"; }
        as info --format '{{.Layers.Shape}}, {{.Changes}}'
        as import -q "$BASE" base > /dev/null 2>&1 || as import "$BASE" base > /dev/null
        as build -q -t app "$CONTEXT" > /dev/null
        as inspect --format '{{json .RootFS.Layers}}' app
        as run --rm app sh -c 'ls /a /b; cat /seen; echo changed >> /seen; tail -n 1 /seen'
        as run --rm --user 7:8 app id -u
        as prune --all --force > /dev/null; ls "$STORE/store/layers" | wc -l
    "#;
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script]).env("SHAPE", shape);
    let files = [("Dockerfile", NESTED), ("f", "f")];
    let (folder, owner, prefix) = match user {
        None => {
            command.env("BINARY", crate::support::binary()).env("BASE", crate::support::base::busybox());
            command.env("CONTEXT", slipway.context("on-overlay", &files));
            (slipway.path(&format!("outer-{shape}")), "0:0".to_owned(), String::new())
        }
        Some(user) => {
            command.env("BINARY", user.path("slipway")).env("BASE", user.path("base.tar"));
            command.env("CONTEXT", user.context(&files));
            let owner = user.owner();
            let (uid, gid) = owner.split_once(':').unwrap();
            let prefix = format!("setpriv --reuid={uid} --regid={gid} --init-groups");
            (user.path("outer"), owner.clone(), prefix)
        }
    };
    command.env("OWNER", owner).env("PREFIX", prefix);
    command.env("STORE", folder.join("merged")).env("OUTER", folder);
    run(&mut command).ok()
}

/// Deletions, replaced folders, a layer of a COPY and steps on all of them.
const NESTED: &str = "\
FROM base
RUN mkdir /a /b && echo x > /a/x && echo y > /b/y && echo z > /b/z
RUN rm /b/y && rm -r /a && mkdir /a && echo n > /a/n
COPY f /f
RUN cat /f /a/n /b/z > /seen && ls /a /b >> /seen
";

#[test]
fn privileged_a_store_on_an_overlay_works_in_every_shape() {
    slipway_skip::need_root!();
    slipway_skip::need!("unshare", "mount", "setpriv");
    let plain = Slipway::new();
    plain.build("app", NESTED, &[("f", "f")]).ok();
    let layers = plain.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]);
    let user = User::new();
    for (shape, user) in [("auto", None), ("loop", None), ("unpacked", None), ("auto", user.as_ref())] {
        if shape == "loop" && store(shape).is_none() {
            continue;
        }
        let seen = on_overlay(&plain, shape, user);
        let (first, rest) = seen.split_once('\n').unwrap();
        assert!(first.contains("in memory"), "{shape}: {first}");
        assert!(shape == "auto" || first.starts_with(shape), "{shape}: {first}");
        let rest = rest.strip_prefix(layers.trim_end());
        let rest = rest.unwrap_or_else(|| panic!("{shape}: {layers} but {seen}"));
        assert_eq!(rest, "\n/a:\nn\n\n/b:\nz\nfn\nz\n/a:\nn\n\n/b:\nz\nchanged\n7\n0\n", "{shape}");
    }
}

/// How many commands want the same image at once.
const PULLS: usize = 4;

#[test]
fn privileged_what_is_loaded_can_be_mounted_at_once_and_nothing_is_there_twice() {
    slipway_skip::need_root!();
    for shape in SHAPES {
        let Some(source) = store(shape) else { continue };
        let recipe = "FROM base\nCOPY tree /tree\nRUN echo made > /made\n";
        source.build("app", recipe, &TREE).ok();
        for (format, is_folder) in
            [("oci-archive", false), ("docker-archive", false), ("oci-dir", true), ("docker-archive", true)]
        {
            let mut input = source.path(&format!("{format}-{is_folder}"));
            source.ok(["save", "--format", format, "-o", input.to_str().unwrap(), "app"]);
            if format == "docker-archive" && is_folder {
                let folder = source.path("unpacked");
                fs::create_dir(&folder).unwrap();
                let mut tar = std::process::Command::new("tar");
                run(tar.arg("-xf").arg(&input).arg("-C").arg(&folder)).ok();
                input = folder;
            }
            let there = source.another(&format!("there-{format}-{is_folder}"));
            there.ok(["load", "-q", "-i", input.to_str().unwrap()]);
            let made = if shape == "unpacked" { 0 } else { 3 };
            assert_eq!(files(&there), made, "{shape} {format} {is_folder}: before anything runs");
            assert_eq!(there.leftovers(), [] as [String; 0], "{shape} {format}");
            assert_eq!(there.ok(["run", "--rm", "app", "cat", "/made"]), "made\n", "{shape} {format}");
            assert_eq!(files(&there), made, "{shape} {format}");
            fs::remove_dir_all(&there.root).unwrap();
        }
    }
}

#[test]
fn privileged_commands_that_want_one_image_at_once_write_each_layer_once() {
    slipway_skip::need_root!();
    for shape in SHAPES {
        let Some(source) = store(shape) else { continue };
        let recipe = "FROM base\nCOPY . /all\nRUN echo made > /made\n";
        let content: Vec<(String, String)> =
            (0..200).map(|number| (format!("{number}"), format!("{number} ").repeat(4000))).collect();
        let files: Vec<(&str, &str)> =
            content.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        source.build("app", recipe, &files).ok();
        let server = Server::slipway(&source, &source.path("storage"));
        let remote = server.name("app");
        source.ok(["push", "-q", "app", &remote]);
        let there = source.another("there");
        let run = ["run", "--rm", &remote, "cat", "/made"];
        // half of them pull, and half run what is not there
        let commands = (0..PULLS).map(|number| match number % 2 {
            0 => there.command(["pull", "-q", &remote]),
            _ => there.command(run),
        });
        let started: Vec<_> = commands.map(|mut command| start(command.stdin(Stdio::null()))).collect();
        for (number, started) in started.into_iter().enumerate() {
            let said = started.wait().ok();
            assert!(number % 2 == 0 || said == "made\n", "{shape}: {said}");
        }
        assert_eq!(there.ok(run), "made\n", "{shape}");
        assert_eq!(there.leftovers(), [] as [String; 0], "{shape}");
        let layers =
            fs::read_dir(there.root.join("layers")).unwrap().flatten().map(|entry| entry.file_name());
        let layers: Vec<_> = layers.filter(|name| !name.to_str().unwrap().ends_with(".toc")).collect();
        assert_eq!(
            layers.len(),
            3,
            "{shape}: the base's, the copied, the step's, and nothing else: {layers:?}"
        );
    }
}
