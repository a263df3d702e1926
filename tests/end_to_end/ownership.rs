//! Who owns what is temporary: processes that do not see each other on one store, and those that were killed.

use crate::support::{Slipway, Started, pids_with, processes_with, run, skip, start, wait_until};
use rustix::process::Signal;
use slipway_skip::{need, need_root};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The same command as the first process of a pid namespace of its own.
fn apart(command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--mount-proc", "--pid", "--fork", "--kill-child"]).arg(command.get_program());
    outer.args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

fn may_be_apart() -> bool {
    run(&mut apart(&Command::new("true"))).code() == Some(0)
}

/// Where a step with a cache mount waits for a file called `go`.
const GATED: &str = "FROM gated-base
RUN echo one > /one
RUN --mount=type=cache,id=gate,target=/gate while [ ! -e /gate/go ]; do sleep 0.05; done; echo two > /two; rm /etc/motd
RUN cat /one /two > /three
COPY --from=gated-base /etc/passwd /passwd
";

/// A build and a container that wait, made on images whose names are then taken away.
struct Work {
    build: Started,
    container: Started,
    gate: PathBuf,
}

impl Work {
    fn begin(slipway: &Slipway, wrap: impl Fn(&Command) -> Command) -> Work {
        slipway.build("gated-base", "FROM base\nRUN echo gated > /gated\n", &[]).ok();
        slipway.build("run-base", "FROM base\nRUN echo run > /run-base\n", &[]).ok();
        let gate = slipway.context("gate", &[("here", "")]);
        let context = slipway.context("gated", &[("Dockerfile", GATED)]);
        let mut build = slipway.command(["build", "--progress", "plain", "-t", "gated"]);
        let build = start(&mut wrap(build.arg(context)));
        let script = "echo mine > /mine; touch /v/ready; while [ ! -e /v/go ]; do sleep 0.05; done; cat /mine /run-base";
        let volume = format!("{}:/v", gate.display());
        let container = slipway
            .command(["run", "--rm", "--memory", "200m", "-v", &volume, "run-base", "sh", "-c", script]);
        let container = start(&mut wrap(&container));
        wait_until("the container runs", || gate.join("ready").exists());
        wait_until("the step runs", || !caches(slipway).is_empty() && processes_with("-c") >= 2);
        Work { build, container, gate }
    }

    fn end(self, slipway: &Slipway) {
        fs::write(self.gate.join("go"), "").unwrap();
        for cache in caches(slipway) {
            fs::write(cache.join("go"), "").unwrap();
        }
        assert_eq!(self.container.wait().ok(), "mine\nrun\n");
        self.build.wait().ok();
        assert_eq!(slipway.shell("gated", "cat /three /gated; head -c 4 /passwd"), "one\ntwo\ngated\nroot");
    }
}

fn caches(slipway: &Slipway) -> Vec<PathBuf> {
    let entries = fs::read_dir(slipway.root.join("caches")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Everything that sweeps or collects, several times, with new garbage for each.
fn upheaval(slipway: &Slipway, wrap: impl Fn(&Command) -> Command) {
    for (number, name) in ["gated-base", "run-base"].into_iter().enumerate() {
        slipway.build("scrap", &format!("FROM base\nRUN echo {number} > /scrap\n"), &[]).ok();
        for command in [
            &["images"][..],
            // of a container's image the name alone
            &["rmi", "-f", name],
            &["rmi", "-f", "scrap"],
            &["run", "--rm", "--memory", "100m", "base", "true"],
        ] {
            run(&mut wrap(&slipway.command(command))).ok();
        }
    }
}

#[test]
fn privileged_commands_in_another_pid_namespace_take_no_live_work() {
    need_root!();
    need!("unshare");
    if !may_be_apart() {
        return skip("there is no right to make pid namespaces");
    }
    let same = |command: &Command| {
        let mut again = Command::new(command.get_program());
        again.args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => again.env(name, value),
                None => again.env_remove(name),
            };
        }
        again
    };
    for (work_apart, upheaval_apart) in [(true, false), (false, true), (true, true), (false, false)] {
        let slipway = Slipway::new();
        let place = |is_apart: bool, command: &Command| if is_apart { apart(command) } else { same(command) };
        let work = Work::begin(&slipway, |command| place(work_apart, command));
        upheaval(&slipway, |command| place(upheaval_apart, command));
        work.end(&slipway);
        // what the work relied on and nothing names is taken now
        slipway.ok(["rmi", "-f", "gated", "base"]);
        assert_eq!(slipway.leftovers(), Vec::<String>::new());
        assert_eq!(fs::read_dir(slipway.root.join("leases")).unwrap().count(), 0);
    }
}

#[test]
fn privileged_what_was_killed_in_another_pid_namespace_is_swept() {
    need_root!();
    need!("unshare");
    if !may_be_apart() {
        return skip("there is no right to make pid namespaces");
    }
    let slipway = Slipway::new();
    let seconds = format!("{}", 610_000 + std::process::id());
    let context = slipway.context("killed", &[("Dockerfile", &format!("FROM base\nRUN sleep {seconds}\n"))]);
    for next in [&["images"][..], &["run", "--rm", "base", "true"], &["rmi", "-f", "missing"]] {
        let build = start(&mut apart(slipway.command(["build"]).arg(&context)));
        let container = slipway.command(["run", "--rm", "--memory", "200m", "base", "sleep", &seconds]);
        let container = start(&mut apart(&container));
        // two commands and the program that each runs in its container
        wait_until("both run", || pids_with(&seconds).len() >= 2 && slipway.leftovers().len() >= 2);
        build.signal(Signal::KILL);
        container.signal(Signal::KILL);
        build.wait();
        container.wait();
        wait_until("all of it ends", || processes_with(&seconds) == 0);
        slipway.ok(next);
        assert_eq!(slipway.leftovers(), Vec::<String>::new(), "after {next:?}");
        assert_eq!(fs::read_dir(slipway.root.join("leases")).unwrap().count(), 0, "after {next:?}");
    }
}

/// Builds and containers, some of them killed at several moments, while images are removed and listed: what is not killed
/// succeeds, every image that is listed is whole, and nothing is left.
#[test]
fn what_is_killed_at_any_moment_beside_others_hurts_nobody() {
    let slipway = Slipway::new();
    let recipe = |text: &str| {
        format!("FROM base\nRUN echo {text} > /v\nCOPY f /f\nRUN cat /v /f > /w; rm /etc/motd\n")
    };
    let context = |name: &str, text: &str| {
        let recipe = recipe(text);
        slipway.context(name, &[("Dockerfile", &recipe), ("f", text)])
    };
    let build = |name: &str, text: &str| {
        start(slipway.command(["build", "--progress", "plain", "-t", name]).arg(context(name, text)))
    };
    let whole = build("timed", "timed").wait().took;
    for round in 0..8_u32 {
        let text = format!("round{round}");
        let (killed, kept) = (build("killed", &text), build("kept", &text));
        let other = build("other", "always");
        let container =
            start(&mut slipway.command(["run", "--rm", "base", "sh", "-c", "sleep 0.1; ls /etc/passwd"]));
        let noise: Vec<_> =
            [&["rmi", "-f", "other"][..], &["images"], &["rmi", "-f", "killed"], &["rmi", "-f", "timed"]]
                .into_iter()
                .map(|arguments| start(&mut slipway.command(arguments)))
                .collect();
        std::thread::sleep(whole * round / 6);
        killed.signal(Signal::KILL);
        killed.wait();
        for one in noise.into_iter().chain([container, kept, other]) {
            one.wait().ok();
        }
        let listed = slipway.run(["images", "--format", "{{.Repository}}"]);
        assert_eq!(listed.stderr, "", "round {round}");
        for name in listed.stdout.lines().filter(|name| !name.contains("none") && *name != "base") {
            assert_eq!(
                slipway.shell(name, "cat /v | wc -l; cat /w >/dev/null").trim(),
                "1",
                "{name}, round {round}"
            );
        }
        assert_eq!(slipway.shell("kept", "cat /v"), format!("{text}\n"));
        slipway.ok(["images"]);
        wait_until("nothing is left", || {
            slipway.ok(["images", "-q"]);
            slipway.leftovers().is_empty() && fs::read_dir(slipway.root.join("leases")).unwrap().count() == 0
        });
    }
}
