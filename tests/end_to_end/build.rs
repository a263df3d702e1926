//! What the instructions do.

use crate::support::Slipway;
use crate::support::image::Image;
use serde_json::json;
use slipway_skip::need_root;
use std::fs;

#[test]
fn metadata_instructions_reach_the_configuration() {
    let slipway = Slipway::new();
    let recipe = "FROM base
ARG WHO=world
ENV GREETING=\"hello $WHO\" EMPTY=
LABEL a=1 b=\"two words\"
EXPOSE 80 53/udp 8000-8001
VOLUME /data [\"/more\"]
VOLUME [\"/json\"]
STOPSIGNAL SIGINT
USER app:staff
WORKDIR /srv
WORKDIR deeper
SHELL [\"/bin/sh\", \"-ec\"]
ENTRYPOINT [\"/bin/echo\", \"-n\"]
CMD echo $GREETING
";
    slipway.build("meta", recipe, &[]).ok();
    let image = Image::read(&slipway, "meta");
    let container = image.container();
    let env: Vec<&str> = container["Env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert!(env.contains(&"GREETING=hello world") && env.contains(&"EMPTY="), "{env:?}");
    assert!(env.iter().any(|line| line.starts_with("PATH=")), "{env:?}");
    assert_eq!(container["Labels"], json!({"a": "1", "b": "two words"}));
    let ports: Vec<&String> = container["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(ports.len(), 4, "{ports:?}");
    for port in ["80/tcp", "53/udp", "8000/tcp", "8001/tcp"] {
        assert!(ports.iter().any(|found| *found == port), "{port} of {ports:?}");
    }
    assert!(container["Volumes"]["/json"].is_object() && container["Volumes"]["/data"].is_object());
    assert_eq!(container["StopSignal"], "SIGINT");
    assert_eq!(container["User"], "app:staff");
    assert_eq!(container["WorkingDir"], "/srv/deeper");
    assert_eq!(container["Entrypoint"], json!(["/bin/echo", "-n"]));
    assert_eq!(container["Cmd"], json!(["/bin/sh", "-ec", "echo $GREETING"]));
    assert_eq!(image.config["os"], "linux");
    let history = image.config["history"].as_array().unwrap();
    let layers = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(layers, image.layers.len(), "history and layers go together: {history:#?}");
    assert_eq!(image.config["rootfs"]["diff_ids"].as_array().unwrap().len(), image.layers.len());
}

#[test]
fn run_sees_what_the_recipe_set() {
    let slipway = Slipway::new();
    let recipe = "FROM base
ARG VERSION=1
ENV NAME=slip
WORKDIR /work
RUN echo \"$NAME $VERSION $(pwd) $(id -u)\" > /root-saw
USER app
RUN echo \"$(id -u):$(id -g) $HOME\" > /tmp/app-saw
SHELL [\"/bin/busybox\", \"ash\", \"-c\"]
RUN [\"/bin/sh\", \"-c\", \"echo exec $NAME > /tmp/exec-saw\"]
RUN <<EOT
set -e
echo here > /tmp/heredoc-saw
EOT
";
    slipway.build("saw", recipe, &[]).ok();
    let seen = slipway.shell("saw", "cat /root-saw /tmp/app-saw /tmp/exec-saw /tmp/heredoc-saw");
    assert_eq!(seen, "slip 1 /work 0\n1000:1000 /home/app\nexec slip\nhere\n");
}

#[test]
fn run_is_in_a_sandbox() {
    let slipway = Slipway::new();
    let recipe = "FROM base
RUN test $$ -lt 10 && test $(ls /proc | grep -c '^[0-9]') -lt 10 && hostname > /name
RUN ! test -e /etc/debian_version && ! mount -t tmpfs none /mnt 2>/dev/null && test -c /dev/null
RUN test -z \"$(cat)\" && umask > /mask
";
    slipway.build("sandbox", recipe, &[]).ok();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let seen = slipway.shell("sandbox", "cat /name /mask");
    assert!(!seen.contains(host.trim()), "{seen}");
    assert!(seen.ends_with("0022\n"), "{seen}");
}

#[test]
fn stages_hand_files_on() {
    let slipway = Slipway::new();
    let recipe = "FROM base AS one
RUN mkdir /out && echo made > /out/file && echo second > /out/other
FROM scratch AS two
COPY --from=one /out/file /from-one
FROM base
COPY --from=two /from-one /a
COPY --from=0 /out /tree
COPY --from=base /etc/motd /b
";
    slipway.build("stages", recipe, &[]).ok();
    assert_eq!(slipway.shell("stages", "cat /a /b; ls /tree"), "made\nbase\nfile\nother\n");
}

#[test]
fn only_what_the_target_needs_is_built() {
    let slipway = Slipway::new();
    let recipe = "FROM base AS wanted
RUN echo wanted > /file
FROM base AS broken
RUN false
FROM wanted AS last
RUN test -e /file
";
    slipway.build("last", recipe, &[]).ok();
    slipway.build_with("first", recipe, &[], &["--target", "wanted"]).ok();
    assert_eq!(slipway.shell("first", "cat /file"), "wanted\n");
    let message = slipway.build_with("none", recipe, &[], &["--target", "wantd"]).fails(1);
    assert!(message.contains("wantd") && message.contains("wanted"), "{message}");
    let message = slipway.build_with("broken", recipe, &[], &["--target", "broken"]).fails(1);
    assert!(message.contains("Dockerfile:4"), "{message}");
}

#[test]
fn several_targets_are_built_at_once_and_what_they_share_once() {
    let slipway = Slipway::new();
    let recipe = "FROM base AS shared
RUN cat /proc/sys/kernel/random/uuid > /shared
FROM shared AS app
RUN echo app > /what
FROM shared AS test
RUN echo test > /what
FROM base AS broken
RUN false
";
    let (context, metadata) =
        (slipway.context("several", &[("Dockerfile", recipe)]), slipway.path("metadata"));
    let build = |words: &[&str]| {
        let words = words.iter().map(AsRef::as_ref).chain([context.as_os_str()]);
        slipway.run([std::ffi::OsStr::new("build")].into_iter().chain(words))
    };
    let file = metadata.to_str().unwrap();
    let ids = build(&[
        "-q",
        "--target=app=app",
        "--target=TEST=test:1",
        "--target=app=app:2",
        "--target=shared",
        "--metadata-file",
        file,
    ]);
    let ids = ids.ok();
    let mut ids: Vec<(&str, &str)> = ids.lines().filter_map(|line| line.split_once(' ')).collect();
    ids.sort_unstable();
    let stages: Vec<&str> = ids.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, ["TEST", "app", "shared"]);
    let came: serde_json::Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    for (stage, id) in &ids {
        assert_eq!(came[*stage]["containerimage.config.digest"], **id, "{stage}");
    }
    assert_eq!(came["app"]["image.name"], "app:latest,app:2");
    let shared = slipway.shell("app", "cat /shared");
    assert_eq!(slipway.shell("app:2", "cat /what /shared"), format!("app\n{shared}"));
    assert_eq!(slipway.shell("test:1", "cat /what /shared"), format!("test\n{shared}"), "it ran once");
    let message = build(&["--target=app", "--target=broken"]).fails(1);
    assert!(message.contains("target `broken`") && message.contains("Dockerfile:8"), "{message}");
    let tar = format!("type=tar,dest={file}");
    for (words, expected) in [
        (&["-t", "x"][..], "--target STAGE=NAME"),
        (&["--push"], "--push needs a name"),
        (&["--iidfile", file], "--iidfile"),
        (&["-o", &tar], "--output"),
        (&["--cache-to", "type=local,dest=/nowhere"], "--cache-to"),
        (&["-f", "-"], "standard input"),
    ] {
        let message = build(&[&["--target=app", "--target=test"], words].concat()).fails(2);
        assert!(message.contains(expected), "{words:?}: {message}");
    }
    // one target may have its name there too
    build(&["--target=shared=one", "-t", "two"]).ok();
    assert_eq!(slipway.shell("one", "cat /shared") + &slipway.shell("two", "cat /shared"), shared.repeat(2));
}

#[test]
fn build_arguments_choose() {
    let slipway = Slipway::new();
    let recipe = "ARG BASE=nothing\nFROM ${BASE}\nARG WHAT=default\nRUN echo $WHAT > /what\n";
    slipway.build_with("arg", recipe, &[], &["--build-arg", "BASE=base", "--build-arg", "WHAT=chosen"]).ok();
    assert_eq!(slipway.shell("arg", "cat /what"), "chosen\n");
    let mut command =
        slipway.command(["build", "-t", "env", "--build-arg", "BASE=base", "--build-arg", "WHAT"]);
    crate::support::run(command.env("WHAT", "from the environment").arg(slipway.path("context-arg"))).ok();
    assert_eq!(slipway.shell("env", "cat /what"), "from the environment\n");
}

#[test]
fn scratch_starts_from_nothing() {
    let slipway = Slipway::empty();
    slipway.build("bare", "FROM scratch\nCOPY file /\n", &[("file", "x")]).ok();
    let image = Image::read(&slipway, "bare");
    assert_eq!(image.layers.len(), 1);
    assert_eq!(image.entry("file").content, b"x");
}

#[test]
fn removed_files_become_whiteouts() {
    let slipway = Slipway::new();
    let recipe = "FROM base
RUN mkdir -p /d/sub && echo 1 > /d/a && echo 2 > /d/sub/b && echo 3 > /gone && ln -s a /d/link
RUN rm /gone /d/link /etc/motd && rm -r /d/sub
RUN rm -r /d && mkdir /d && echo new > /d/new
RUN rm -r /d && echo now a file > /d
";
    slipway.build("whiteouts", recipe, &[]).ok();
    let image = Image::read(&slipway, "whiteouts");
    let paths = |layer: usize| -> Vec<&str> { image.layers[layer].iter().map(|e| e.path.as_str()).collect() };
    let removed = paths(2);
    for path in [".wh.gone", "d/.wh.link", "d/.wh.sub", "etc/.wh.motd"] {
        assert!(removed.contains(&path), "{path} of {removed:?}");
    }
    assert!(paths(3).contains(&"d/new") && paths(3).contains(&"d/.wh..wh..opq"), "{:?}", paths(3));
    assert_eq!(image.entry("d").kind, tar::EntryType::Regular);
    assert_eq!(
        slipway.shell("whiteouts", "cat /d; ls /gone /etc/motd 2>&1 | grep -c 'No such'"),
        "now a file\n2\n"
    );
}

#[test]
fn an_opaque_folder_hides_what_was_below() {
    let slipway = Slipway::new();
    let recipe = "FROM base
RUN mkdir /d && touch /d/old /d/older
RUN rm -r /d && mkdir /d && touch /d/new
";
    slipway.build("opaque", recipe, &[]).ok();
    assert_eq!(slipway.shell("opaque", "ls /d"), "new\n");
    // the same through a pull of its own layers, not the ones on disk
    let other = slipway.another("other");
    let archive = slipway.path("opaque.tar");
    slipway.ok(["save", "-o", archive.to_str().unwrap(), "opaque"]);
    other.ok(["load", "-i", archive.to_str().unwrap()]);
    assert_eq!(other.shell("opaque", "ls /d"), "new\n");
}

#[test]
fn privileged_links_times_and_modes_are_kept() {
    need_root!();
    let slipway = Slipway::new();
    let recipe = "FROM base
RUN echo x > /one && ln /one /two && ln -s one /soft && mkfifo /pipe && cp /bin/busybox /suid && chmod 6755 /suid \
    && mkdir -m 1777 /sticky && chown 1000:50 /one
RUN echo y >> /two
";
    slipway.build("links", recipe, &[]).ok();
    let image = Image::read(&slipway, "links");
    let first: Vec<_> = image.layers[1].iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let entry = |path: &str| first.iter().find(|(found, _)| *found == path).unwrap().1;
    assert_eq!(entry("two").kind, tar::EntryType::Link);
    assert_eq!(entry("two").link.trim_start_matches('/'), "one");
    assert_eq!(entry("soft").link, "one");
    assert_eq!(entry("pipe").kind, tar::EntryType::Fifo);
    assert_eq!((entry("suid").mode, entry("sticky").mode), (0o6755, 0o1777));
    assert_eq!((entry("one").uid, entry("one").gid), (1000, 50));
    assert_eq!(slipway.shell("links", "stat -c '%a %u' /suid /one"), "6755 0\n644 1000\n");
    assert_eq!(slipway.shell("links", "cat /two"), "x\ny\n");
}

#[test]
fn privileged_capabilities_of_files_are_kept() {
    need_root!();
    let slipway = Slipway::new();
    let root = slipway.context("rootfs", &[("tool", "x")]);
    // cap_net_raw+ep as the kernel stores it: version 2, effective, bit 13
    let capability = [&[1, 0, 0, 2, 0, 0x20][..], &[0; 14][..]].concat();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("tool"), "security.capability", &capability, flags).unwrap();
    slipway.ok(["import".as_ref(), root.as_os_str(), "capable".as_ref()]);
    let image = Image::read(&slipway, "capable");
    assert_eq!(image.entry("tool").xattrs, [("security.capability".to_owned(), capability)]);
    slipway.build("copied", "FROM scratch\nCOPY --from=capable /tool /tool\n", &[]).ok();
    assert_eq!(Image::read(&slipway, "copied").entry("tool").xattrs, image.entry("tool").xattrs);
}

#[test]
fn a_failing_step_says_which_and_how() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN true\nRUN echo about to fail; exit 7\nRUN echo never > /never\n";
    let message = slipway.build("failing", recipe, &[]).fails(1);
    for part in ["Dockerfile:3", "about to fail", "7", "exit 7"] {
        assert!(message.contains(part), "`{part}` in\n{message}");
    }
    assert!(!slipway.ok(["images"]).contains("failing"));
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn every_progress_form_serves() {
    let slipway = Slipway::new();
    let context = slipway.context("forms", &[("Dockerfile", "FROM base\nRUN echo said by the step\n")]);
    let context = context.to_str().unwrap();
    let plain = slipway.run(["build", "--no-cache", "--progress", "plain", "-t", "forms", context]);
    assert!(format!("{}{}", plain.stdout, plain.stderr).contains("said by the step"));
    plain.ok();
    let quiet = slipway.run(["build", "--no-cache", "--progress", "quiet", "-t", "forms", context]);
    assert_eq!(quiet.stderr, "");
    assert!(quiet.ok().trim().starts_with("sha256:"));
    let json = slipway.run(["build", "--no-cache", "--progress", "json", "-t", "forms", context]);
    let lines = if json.stdout.trim().is_empty() { &json.stderr } else { &json.stdout };
    assert!(lines.lines().count() > 2, "{lines}");
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    slipway.ok(["build", "--progress", "auto", "-t", "forms", context]);
}

#[test]
fn a_recipe_may_lie_elsewhere_or_come_by_standard_input() {
    let slipway = Slipway::new();
    let context = slipway.context("elsewhere", &[("file", "content")]);
    let recipe =
        slipway.context("recipes", &[("app.dockerfile", "FROM base\nCOPY file /\n")]).join("app.dockerfile");
    let arguments = ["build", "-t", "elsewhere", "-f", recipe.to_str().unwrap(), context.to_str().unwrap()];
    slipway.ok(arguments);
    assert_eq!(slipway.shell("elsewhere", "cat /file"), "content");
    let mut command = slipway.command(["build", "-t", "standard", "-f", "-", context.to_str().unwrap()]);
    crate::support::run_with_input(&mut command, b"FROM base\nCOPY file /from-standard-input\n").ok();
    assert_eq!(slipway.shell("standard", "cat /from-standard-input"), "content");
}

#[test]
fn mounts_are_there_for_their_step_alone() {
    let slipway = Slipway::new();
    let recipe = "FROM base AS other
RUN mkdir /o && echo other > /o/file
FROM base
RUN --mount=type=bind,target=/ctx cat /ctx/file > /from-context && ! touch /ctx/x 2>/dev/null
RUN --mount=type=bind,from=other,source=/o,target=/mnt/o cat /mnt/o/file > /from-other
RUN --mount=type=cache,target=/cache echo kept >> /cache/log && cat /cache/log > /first
RUN --mount=type=cache,target=/cache echo again >> /cache/log && cat /cache/log > /second
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x
RUN --mount=type=secret,id=token cat /run/secrets/token | tr a-z A-Z > /secret-in-capitals
";
    fs::write(slipway.path("token"), "quiet-please").unwrap();
    let secret = format!("id=token,src={}", slipway.path("token").display());
    let built = slipway.build_with("mounted", recipe, &[("file", "context\n")], &["--secret", &secret]);
    assert!(!built.stderr.contains("quiet-please"), "{}", built.stderr);
    built.ok();
    let seen = slipway.shell(
        "mounted",
        "cat /from-context /from-other /first /second /secret-in-capitals; echo; ls -d /ctx /mnt /cache /scratch /run 2>/dev/null; true",
    );
    assert_eq!(seen, "context\nother\nkept\nkept\nagain\nQUIET-PLEASE\n");
    let image = Image::read(&slipway, "mounted");
    for entry in image.layers.iter().flatten() {
        assert!(
            !entry.content.windows(12).any(|window| window == b"quiet-please"),
            "the secret is in `{}`",
            entry.path
        );
    }
    let recipe = "FROM base\nRUN --mount=type=secret,id=token,required=true cat /run/secrets/token\n";
    let message = slipway.build("without", recipe, &[]).fails(1);
    assert!(message.contains("token") && message.contains("Dockerfile:2"), "{message}");
}

#[test]
fn triggers_and_health_checks_are_handed_on() {
    let slipway = Slipway::new();
    let recipe = "FROM base
HEALTHCHECK --interval=5s CMD true
ONBUILD COPY file /triggered
ONBUILD RUN cat /triggered > /ran
";
    slipway.build("parent", recipe, &[]).ok();
    assert_eq!(slipway.ok(["inspect", "--format", "{{len .Config.OnBuild}}", "parent"]).trim(), "2");
    slipway.build("child", "FROM parent\n", &[("file", "x")]).ok();
    assert_eq!(slipway.shell("child", "cat /ran"), "x");
    let config = Image::read(&slipway, "child");
    assert!(config.container()["OnBuild"].as_array().is_none_or(Vec::is_empty), "{}", config.config);
    assert_eq!(config.container()["Healthcheck"]["Interval"], 5_000_000_000_u64);
    let message = slipway.build("broken", "FROM parent\n", &[]).fails(1);
    assert!(message.contains("file"), "{message}");
}

#[test]
fn a_context_may_come_by_standard_input() {
    let slipway = Slipway::new();
    let context = slipway.context("piped", &[("Dockerfile", "FROM base\nCOPY file /\n"), ("file", "piped")]);
    let mut tar = std::process::Command::new("tar");
    let archive = tar.args(["-czf", "-", "."]).current_dir(&context).output().unwrap().stdout;
    crate::support::run_with_input(&mut slipway.command(["build", "-t", "piped", "-"]), &archive).ok();
    assert_eq!(slipway.shell("piped", "cat /file"), "piped");
    let mut command = slipway.command(["build", "-t", "alone", "-"]);
    crate::support::run_with_input(&mut command, b"FROM base\nRUN echo alone > /x\n").ok();
    assert_eq!(slipway.shell("alone", "cat /x"), "alone\n");
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn progress_draws_on_a_terminal() {
    use std::io::Read;
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN echo drawn\nRUN echo failing; false\n";
    let context = slipway.context("drawn", &[("Dockerfile", recipe)]);
    let (mut ours, theirs) = crate::support::terminal();
    let mut command = slipway.command(["build", "-t", "drawn"]);
    let mut child = command.arg(&context).stdout(theirs.try_clone().unwrap()).stderr(theirs).spawn().unwrap();
    drop(command);
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    // the last read of a terminal whose other side is gone fails with EIO
    while let Ok(count @ 1..) = ours.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
    }
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let seen = String::from_utf8_lossy(&seen);
    assert!(
        seen.contains("RUN echo drawn") && seen.contains("failing") && seen.contains("Dockerfile:3"),
        "{seen}"
    );
}

#[test]
fn results_go_to_files() {
    let slipway = Slipway::new();
    let (id, metadata) = (slipway.path("id"), slipway.path("metadata.json"));
    let flags = ["--iidfile", id.to_str().unwrap(), "--metadata-file", metadata.to_str().unwrap()];
    slipway.build_with("files", "FROM base\nRUN true\n", &[], &flags).ok();
    let wanted = slipway.ok(["inspect", "--format", "{{.Id}}", "files"]);
    assert_eq!(fs::read_to_string(id).unwrap(), wanted.trim());
    let metadata: serde_json::Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], slipway.digest("files").as_str());
}
