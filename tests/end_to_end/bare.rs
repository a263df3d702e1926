//! Sandbox level 4: no namespaces and no mounts, a copied root and chroot(2).

use crate::support::{Ended, Slipway, processes_with, run, wait_until};
use slipway_skip::{need, need_root};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Everything that an overlay tells by its ways and a copied root must find out: replaced and emptied folders, names of one
/// file, files that were opened and not changed, owners, deletions, mounts that leave nothing.
const RECIPE: &str = "FROM base
WORKDIR /app
COPY . .
RUN mkdir -p /made/deep /made/gone && echo made > /made/deep/file && ln /made/deep/file /made/hard && ln -s deep /made/soft
RUN rm /etc/motd && echo $SOURCE_DATE_EPOCH > /epoch && touch /now && chmod 1777 /made && mkfifo /pipe
RUN rm -r /made/deep && mkdir /made/deep && echo other > /made/deep/new && rmdir /made/gone && echo f > /made/gone
RUN : >> /app/a && : >> /etc/passwd && touch /tmp/x && rm /tmp/x
RUN mv /app/d /app/e && ln /app/z /app/zz && chown 7:8 /app/z && chmod 4755 /app/a
RUN --mount=type=secret,id=word --mount=type=tmpfs,target=/scratch --mount=type=cache,target=/cache \\
    test $(cat /run/secrets/word) = hidden && touch /scratch/x /cache/x && echo 1 > /dev/null && ls -a / > /dev/null
RUN --mount=type=cache,target=/cache --mount=type=bind,source=d,target=/bound,rw \\
    cp /cache/x /from-cache && cat /bound/file > /from-bind && echo y > /bound/new
RUN (sleep SECONDS &) ; setsid sleep SECONDS & echo started > /started
USER 5:6
RUN id -u > /tmp/id && id -g >> /tmp/id && mkdir /tmp/own
USER 0
RUN <<EOT
#!/bin/sh
cp \"$0\" /script
EOT
FROM base
COPY --from=0 /made /made
COPY --from=0 /app /app
RUN cat /etc/hosts | grep -c localhost > /hosts; rm -rf /app/e; true
COPY --from=0 /tmp /script /from-cache /from-bind /started /out/
CMD [\"/bin/sh\"]
";

fn context(slipway: &Slipway, seconds: &str) -> std::path::PathBuf {
    let recipe = RECIPE.replace("SECONDS", seconds);
    let files = [
        ("Dockerfile", recipe.as_str()),
        ("z", "last"),
        ("a", "first"),
        ("d/file", "in a folder"),
        ("d/e/f", "deep"),
    ];
    fs::write(slipway.path("word"), "hidden").unwrap();
    slipway.context("levels", &files)
}

fn secret(slipway: &Slipway) -> String {
    format!("id=word,src={}", slipway.path("word").display())
}

/// The same command in another root with the capabilities that docker gives: there the kernel makes no user namespace
/// (user_namespaces(7), \"chroot\"), and nobody may mount.
fn without_namespaces(command: &Command, capabilities: &str, place: &Path) -> Command {
    const SCRIPT: &str = "mount --rbind / \"$1\" && place=$1 && all=$2 && shift 2 && \
                          exec setpriv --bounding-set=\"-all,$all\" chroot \"$place\" \"$@\"";
    fs::create_dir_all(place).unwrap();
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(place).arg(capabilities);
    outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

const DOCKERS: &str = "+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,+setpcap,\
                       +net_bind_service,+sys_chroot,+kill,+audit_write";

/// Builds in a store of its own.
fn build(first: &Slipway, name: &str, context: &Path, capabilities: &str) -> (Slipway, Ended) {
    let other = first.another(name);
    other.import_base();
    let secret = secret(first);
    let mut command = other.command(["build", "--progress", "plain", "-t", "same", "--secret", &secret]);
    command.arg(context);
    let ended = run(&mut without_namespaces(&command, capabilities, &first.path(&format!("{name}-root"))));
    (other, ended)
}

#[test]
fn privileged_a_copied_root_gives_the_same_image() {
    need_root!();
    need!("setpriv", "unshare");
    let first = Slipway::new();
    let seconds = format!("{}", 710_000 + std::process::id());
    let context = context(&first, &seconds);
    let secret = secret(&first);
    first.build_folder("same", &context, &["--secret", &secret]).ok();
    let expected = first.digest("same");
    // asked for, where better is to be had
    let forced = first.another("forced");
    forced.import_base();
    let flags = ["--secret", &secret, "--isolation", "chroot"];
    forced.build_folder("same", &context, &flags).ok();
    assert_eq!(forced.digest("same"), expected, "asked for");
    assert_eq!(forced.leftovers(), Vec::<String>::new());
    // chosen, where there is nothing else
    let (chosen, ended) = build(&first, "chosen", &context, DOCKERS);
    assert!(ended.stderr.contains("steps run on a copied root"), "{}", ended.stderr);
    ended.ok();
    assert_eq!(chosen.digest("same"), expected, "chosen");
    assert_eq!(chosen.leftovers(), Vec::<String>::new());
    // and where owners cannot be changed
    let (beside, ended) = build(&first, "beside", &context, &DOCKERS.replace("+chown,", ""));
    ended.ok();
    assert_eq!(beside.digest("same"), expected, "owners beside");
    wait_until("nothing of a step stays", || processes_with(&seconds) == 0);
}

#[test]
fn privileged_what_a_copied_root_cannot_give_is_refused() {
    need_root!();
    need!("setpriv", "unshare");
    let slipway = Slipway::new();
    for (line, words) in [
        ("RUN --network=none true", "a step without a network"),
        ("RUN --mount=type=tmpfs,target=/t,size=1m true", "type=tmpfs with a size"),
    ] {
        let recipe = format!("FROM base\n{line}\n");
        let ended = slipway.build_with("refused", &recipe, &[], &["--isolation", "chroot"]);
        let message = ended.fails(1);
        assert!(message.contains(words) && message.contains("needs namespaces"), "{message}");
    }
    let ended =
        slipway.build_with("failed", "FROM base\nRUN echo said; exit 7\n", &[], &["--isolation", "chroot"]);
    let message = ended.fails(1);
    assert!(message.contains("exit status 7") && message.contains("said"), "{message}");
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
    let place = slipway.path("root");
    let container = slipway.command(["run", "--rm", "base", "true"]);
    let message = run(&mut without_namespaces(&container, DOCKERS, &place)).fails(125);
    assert!(message.contains("a container needs namespaces"), "{message}");
}
