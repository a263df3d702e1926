//! Modes that are meant are set, whatever the caller's umask (issue 7, B7).

use crate::support::{Slipway, run};
use slipway_skip::need_root;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const MASKS: [&str; 3] = ["022", "077", "000"];

/// A command under a umask.
fn under(mask: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask $0 && exec \"$@\"", mask]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Everything that `USER app` meets of what a step is given: read, entered, and with its mode.
const RECIPE: &str = r#"FROM base AS files
COPY --chmod=0755 <<EOF /given/inner/file
text
EOF
FROM scratch AS bare
COPY --from=base /bin /bin
COPY --from=base /etc/passwd /etc/group /bare/
FROM base
WORKDIR /new/deep
COPY <<EOF /heredoc/file
text
EOF
ADD archive.tar /unpacked/
COPY made /copied/
USER app
RUN cat /etc/hosts /etc/resolv.conf > /dev/null && stat -c '%a %n' /etc/hosts /etc/resolv.conf > /tmp/seen
RUN --mount=type=cache,target=/caches/one --mount=type=tmpfs,target=/mem/one --mount=type=secret,id=s,mode=0444 \
    --mount=type=secret,id=s,target=/deep/er/secret,mode=0440,gid=1000 --mount=type=bind,from=files,target=/bound/one \
    --mount=type=bind,from=files,source=/given/inner,target=/bound/two --mount=type=cache,target=/caches/two,uid=1000,mode=0700 \
    cat /run/secrets/s /deep/er/secret > /dev/null && touch /mem/one/x /caches/two/x && ls /bound/one/given/inner > /dev/null && \
    stat -c '%a %n' /caches /caches/one /mem /mem/one /run /run/secrets /run/secrets/s /deep /deep/er /deep/er/secret /bound \
    /bound/one /bound/one/given /bound/one/given/inner/file /bound/two /caches/two >> /tmp/seen
RUN <<EOF
#!/bin/sh
stat -c '%a %n' "$0" / /dev /dev/pts /dev/shm /dev/null /proc /sys /new /new/deep /heredoc /heredoc/file /copied /copied/* \
    /unpacked /unpacked/* /tmp >> /tmp/seen
umask >> /tmp/seen; touch /tmp/made; mkdir /tmp/folder; stat -c '%a %n' /tmp/made /tmp/folder >> /tmp/seen
EOF
"#;

fn build(mask: &str) -> (String, String) {
    let slipway = Slipway::new();
    let context =
        slipway.context("context", &[("Dockerfile", RECIPE), ("made", "made\n"), ("secret", "s\n")]);
    let part = slipway.context("part", &[("sub/inner", "inner\n")]);
    for (path, mode) in [
        (context.join("made"), 0o640),
        (context.join("Dockerfile"), 0o644),
        (part.join("sub"), 0o750),
        (part.join("sub/inner"), 0o604),
    ] {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let tar = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf"];
    run(Command::new("tar").args(tar).arg(context.join("archive.tar")).arg("-C").arg(&part).arg("sub")).ok();
    fs::set_permissions(context.join("archive.tar"), PermissionsExt::from_mode(0o644)).unwrap();
    let secret = format!("id=s,src={}", context.join("secret").display());
    let command = slipway.command(["build", "-t", "made", "--secret", &secret, context.to_str().unwrap()]);
    let ended = run(&mut under(mask, &command));
    let log = || run(Command::new("sh").args(["-c", "cat builds/*/*.log"]).current_dir(&slipway.root)).stdout;
    assert!(ended.status.success(), "{mask}: {}{}", ended.stderr, log());
    let seen = run(&mut under(mask, &slipway.command(["run", "--rm", "made", "cat", "/tmp/seen"]))).ok();
    (seen, slipway.digest("made"))
}

#[test]
fn privileged_a_build_is_the_same_under_every_umask() {
    need_root!();
    let all = MASKS.map(|mask| (mask, build(mask)));
    let (_, (usual, digest)) = &all[0];
    for line in [
        "644 /etc/hosts",
        "644 /etc/resolv.conf",
        "755 /caches",
        "755 /caches/one",
        "755 /run/secrets",
        "444 /run/secrets/s",
        "755 /deep/er",
        "440 /deep/er/secret",
        "755 /bound/one",
        "755 /bound/one/given/inner/file",
        "700 /caches/two",
        "755 /new/deep",
        "644 /heredoc/file",
        "640 /copied/made",
        "750 /unpacked/sub",
        "0022",
        "644 /tmp/made",
        "755 /tmp/folder",
    ] {
        assert!(usual.lines().any(|found| found == line), "`{line}` in\n{usual}");
    }
    for (mask, (seen, other)) in &all {
        assert_eq!((seen, other), (usual, digest), "{mask}");
    }
}

#[test]
fn a_container_is_the_same_under_every_umask() {
    let slipway = Slipway::new();
    let shared = slipway.context("shared", &[("file", "shared\n")]);
    let volume = format!("{}:/made/for/volume", shared.display());
    let file = format!("{}:/made/file", shared.join("file").display());
    let script = "cat /etc/hosts /etc/hostname /etc/resolv.conf > /dev/null && cat /made/for/volume/file /made/file && pwd && umask && \
        stat -c '%a %n' /etc/hosts /etc/hostname /etc/resolv.conf /made /made/for /made/for/volume /made/file /tmpfs /work /work/here / \
        /dev /dev/shm /dev/pts /dev/mqueue /dev/null /dev/console /proc /sys; echo > /dev/null; touch /dev/shm/x";
    let words = [
        "run",
        "--rm",
        "-u",
        "1000:1000",
        "-w",
        "/work/here",
        "-v",
        &volume,
        "-v",
        &file,
        "--tmpfs",
        "/tmpfs:mode=1770",
        "base",
        "sh",
        "-c",
        &format!("{script} 2>/dev/null"),
    ];
    let all = MASKS.map(|mask| (mask, run(&mut under(mask, &slipway.command(words))).ok()));
    for line in
        ["644 /etc/hosts", "644 /etc/hostname", "755 /made/for", "1770 /tmpfs", "755 /work/here", "0022"]
    {
        assert!(all[0].1.lines().any(|found| found == line), "`{line}` in\n{}", all[0].1);
    }
    for (mask, seen) in &all {
        assert_eq!(seen, &all[0].1, "{mask}");
    }
}

#[test]
fn what_the_caller_names_has_the_callers_umask() {
    let slipway = Slipway::new();
    let context = slipway.context("context", &[("Dockerfile", "FROM base\n")]);
    for (mask, mode) in [("022", 0o644), ("077", 0o600), ("000", 0o666)] {
        let name = |kind: &str| slipway.path(&format!("{kind}-{mask}"));
        let (iid, metadata, saved) = (name("iid"), name("metadata"), name("saved"));
        let words = ["build", "-t", "made", "--iidfile"].map(std::ffi::OsStr::new);
        let mut command = slipway.command(words);
        command.arg(&iid).arg("--metadata-file").arg(&metadata).arg(&context);
        run(&mut under(mask, &command)).ok();
        let mut command = slipway.command(["save", "-o"]);
        command.arg(&saved).arg("made");
        run(&mut under(mask, &command)).ok();
        for path in [iid, metadata, saved] {
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{} {found:o}", path.display());
        }
    }
}
