//! Lines typed at a real terminal, in `sh` and in bash: quoting, pipes, here-documents, keys, windows.

use crate::support::shell::Shell;
use crate::support::{Slipway, base, find, wait_until};
use slipway_skip::need;

/// The shells of this machine, with flags that make them read no files of the user's.
fn shells() -> Vec<Vec<&'static str>> {
    let bash = find("bash").map(|_| vec!["bash", "--noprofile", "--norc", "--noediting", "-i"]);
    [vec!["sh", "-i"]].into_iter().chain(bash).collect()
}

/// A shell in a folder with `ctx/Dockerfile` and `rootfs.tar`, beside a store with `base`.
fn at(slipway: &Slipway, program: &[&'static str]) -> Shell {
    let folder = slipway
        .context("here", &[("ctx/Dockerfile", "FROM base\nRUN echo built > /built\n"), ("some", "file")]);
    if !folder.join("rootfs.tar").exists() {
        std::fs::copy(base::busybox(), folder.join("rootfs.tar")).unwrap();
    }
    Shell::start(program, &slipway.command([""; 0]), &folder)
}

/// What is typed, what is shown then, and the exit status.
const LINES: [(&str, &str, i32); 29] = [
    ("slipway run --rm base echo hi", "hi\n", 0),
    ("slipway run --rm base sh -c 'echo \"<$0> <$1>\"' a 'b  c'", "<a> <b  c>\n", 0),
    ("slipway run --rm -e \"A=x y\" -e B='$HOME' base sh -c 'echo \"$A $B\"'", "x y $HOME\n", 0),
    ("slipway run --rm base printf '[%s]' -- '' \"-x\" \\$HOME --rm; echo", "[--][][-x][$HOME][--rm]\n", 0),
    ("slipway run --rm=true -v \"$PWD:/here:ro\" -w/here base cat some; echo", "file\n", 0),
    ("slipway run --rm base sh -c 'exit 7'", "", 7),
    ("slipway run --rm base false || echo failed", "failed\n", 0),
    ("slipway run --rm base sh -c 'echo out; echo err >&2' 2>/dev/null", "out\n", 0),
    ("slipway run --rm base sh -c 'echo out; echo err >&2' >/dev/null", "err\n", 0),
    ("slipway run --rm base sh -c 'echo out; echo err >&2' 2>&1 | cat", "out\nerr\n", 0),
    ("echo piped | slipway run --rm -i base cat", "piped\n", 0),
    ("slipway run --rm -i base cat < some; echo", "file\n", 0),
    (
        "echo piped | slipway run --rm -it base cat 2>&1 | head -1",
        "error: the input device is not a terminal\n",
        0,
    ),
    ("for i in 1 2; do slipway run --rm base echo $i; done", "1\n2\n", 0),
    ("slipway run --rm base echo a > out; cat out", "a\n", 0),
    ("slipway images --format '{{.Repository}}:{{.Tag}}'", "base:latest\n", 0),
    ("slipway image ls --format 'table {{.Repository}}\\t{{.Tag}}' | head -1", "REPOSITORY   TAG\n", 0),
    ("slipway inspect -f '{{len .RootFS.Layers}}' base", "1\n", 0),
    ("slipway save base | slipway load -q > /dev/null && echo both", "both\n", 0),
    ("slipway import - again < rootfs.tar > id && cut -c1-7 id", "sha256:\n", 0),
    ("cat rootfs.tar | slipway import - again > id && cut -c1-7 id", "sha256:\n", 0),
    ("slipway run --rm $(slipway build -q ctx) cat /built", "built\n", 0),
    ("slipway build -q ctx 2>&1 | cut -c1-7", "sha256:\n", 0),
    (
        "printf 'FROM base\\nRUN echo x > /x\\n' | slipway build -q -t x - > /dev/null && slipway run --rm x cat /x",
        "x\n",
        0,
    ),
    ("slipway run --rm nosuch:1 2>&1 | grep -c 'docker.io/library/nosuch:1'", "1\n", 0),
    ("slipway exec 2>&1 | head -1", "error: slipway has no command `exec`\n", 0),
    ("slipway image | grep -c '^  ls '", "1\n", 0),
    ("yes | slipway rmi -f again > /dev/null 2>&1; slipway images -q again", "", 0),
    ("slipway run --rm base sleep 1000 & sleep 1; kill $!; wait $!", "", 143),
];

#[test]
fn lines_typed_in_a_shell_do_what_they_say() {
    need!("setsid");
    for program in shells() {
        let slipway = Slipway::new();
        let mut shell = at(&slipway, &program);
        for (line, expected, status) in LINES {
            let (shown, ended) = shell.run(line);
            // an interactive shell speaks of its jobs
            if line.contains("kill") {
                assert_eq!(ended, status, "{program:?}: {line}: {shown}");
                continue;
            }
            assert_eq!((shown.as_str(), ended), (expected, status), "{program:?}: {line}");
        }
        assert_eq!(slipway.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_here_document_and_a_substitution_are_recipes() {
    need!("setsid");
    for program in shells() {
        let slipway = Slipway::new();
        let mut shell = at(&slipway, &program);
        shell.begin("slipway build -q -t heredoc -f - ctx <<'EOT'");
        for line in ["FROM base", "RUN echo \"$0\" > /zero", "EOT"] {
            shell.press(&format!("{line}\r"));
        }
        let (shown, status) = shell.end();
        assert!(shown.contains("sha256:") && status == 0, "{shown}");
        assert_eq!(shell.run("slipway run --rm heredoc cat /zero").0, "/bin/sh\n");
        if program[0] == "bash" {
            let line = "slipway build -q -t sub -f <(printf 'FROM base\\nRUN --mount=type=secret,id=s cp /run/secrets/s /s\\n') \
                        --secret id=s,src=<(echo kept) ctx > /dev/null; slipway run --rm sub cat /s";
            assert_eq!(shell.run(line), ("kept\n".to_owned(), 0));
            let line = "slipway run --rm --env-file <(echo A=b) base sh -c 'echo $A'";
            assert_eq!(shell.run(line), ("b\n".to_owned(), 0));
        }
    }
}

#[test]
fn keys_reach_a_container_and_end_it() {
    need!("setsid");
    for program in shells() {
        let slipway = Slipway::new();
        let mut shell = at(&slipway, &program);
        // a shell within: the window's size, a new one, and the end of input
        shell.begin("slipway run --rm -it base sh");
        shell.wait_for("# ");
        shell.press("stty size; tty; echo $TERM\r");
        shell.wait_for("xterm\r\n/ # ");
        assert!(shell.shown.contains("33 99\r\n/dev/"), "{}", shell.shown);
        shell.resize(20, 60);
        shell.press("stty size; echo done\r");
        // not before it reads: a key that comes while the terminal changes its mode is another key
        shell.wait_for("20 60\r\ndone\r\n/ # ");
        shell.press("\x04");
        assert_eq!(shell.end().1, 0, "{program:?}");
        // the terminal is as it was: what is typed is shown, and a line is a line
        assert_eq!(shell.run("stty -a | grep -c ' echo '"), ("1\n".to_owned(), 0));
        // Ctrl-C at whatever runs, with and without a terminal
        for line in ["slipway run --rm -it base", "slipway run --rm base", "slipway run --rm -i --init base"]
        {
            let seconds = format!("{}", 200_000 + std::process::id() % 100_000);
            shell.begin(&format!("{line} sleep {seconds}"));
            wait_until("it executes sleep", || crate::support::processes_with(&seconds) > 0);
            shell.press("\x03");
            assert_eq!(shell.end().1, 130, "{program:?}: {line}");
        }
        // what is typed goes in, and Ctrl-D ends it
        shell.begin("slipway run --rm -i base cat");
        shell.press("typed\r");
        shell.wait_for("typed\r\ntyped\r\n");
        shell.press("\x04");
        assert_eq!(shell.end().1, 0);
        // a build
        std::fs::write(slipway.path("here/ctx/Slow"), "FROM base\nRUN echo begun && sleep 1000\n").unwrap();
        shell.begin("slipway build -f ctx/Slow ctx");
        shell.wait_for("# begun");
        shell.press("\x03");
        assert_eq!(shell.end().1, 130, "{program:?}");
        // an archive is nothing for a screen
        let (shown, status) = shell.run("slipway save base");
        assert!(status == 2 && shown.contains("terminal") && shown.len() < 300, "{status}: {shown:.300}");
        assert_eq!(slipway.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_question_is_answered_by_keys() {
    need!("setsid");
    let slipway = Slipway::new();
    let mut shell = at(&slipway, &["sh", "-i"]);
    slipway.build("named", "FROM base\nRUN echo 1 > /1\n", &[]).ok();
    for (answer, status) in [("n\r", 1), ("\r", 1), ("\x03", 130), ("y\r", 0)] {
        shell.begin("slipway system prune -a");
        shell.wait_for("y/N");
        shell.press(answer);
        let (shown, ended) = shell.end();
        assert_eq!(ended, status, "{answer:?}: {shown}");
        assert_eq!(slipway.ok(["images", "-q", "named"]).is_empty(), status == 0, "{answer:?}: {shown}");
    }
}
