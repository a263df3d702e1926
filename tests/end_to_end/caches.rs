//! Cache mounts: which mounts mean the same folder, and that nobody waits for ever (issue 7, B3; issue 11).

use crate::support::{Slipway, start, wait_until};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

fn mount(rest: &str) -> String {
    format!("--mount=type=cache,{rest}")
}

#[test]
fn a_cache_may_stand_at_several_targets_of_one_run() {
    let slipway = Slipway::new();
    for (one, other, same) in [
        ("sharing=locked", "sharing=locked", true),
        ("sharing=locked", "sharing=shared", true),
        ("sharing=shared", "sharing=locked", true),
        ("sharing=private", "sharing=private", true),
        ("sharing=private", "sharing=locked", true),
        ("sharing=shared", "readonly", true),
        ("uid=1000", "uid=1000", true),
        ("uid=1000", "uid=1001", false),
        ("gid=7", "uid=7", false),
        ("mode=0700", "mode=0755", false),
        ("mode=0755", "uid=0", true),
        ("from=base,source=/etc", "from=base,source=/etc", true),
        ("from=base,source=/etc", "from=base,source=/home", false),
        ("from=base,source=/etc", "mode=0755", false),
    ] {
        let id = format!("id={one}{other}").replace(',', ";");
        let flags = format!(
            "{} {}",
            mount(&format!("{id},target=/one,{one}")),
            mount(&format!("{id},target=/other,{other}"))
        );
        let test = if same { "" } else { "!" };
        let recipe = format!("FROM base\nRUN {flags} touch /one/here && {test} test -e /other/here\n");
        slipway.build("same", &recipe, &[]).ok();
        // and the same in the next build
        let recipe =
            format!("FROM base\nRUN {flags} test -e /one/here && {test} test -e /other/here && echo\n");
        slipway.build("same", &recipe, &[]).ok();
    }
}

#[test]
fn a_new_cache_is_as_it_was_asked_for() {
    let slipway = Slipway::new();
    for (flags, seen) in [
        ("mode=0700", "700 0 0"),
        ("mode=1777", "1777 0 0"),
        ("uid=5,gid=6", "755 5 6"),
        ("uid=5,gid=6,mode=2750", "2750 5 6"),
        ("sharing=private,mode=0711", "711 0 0"),
    ] {
        let mount = mount(&format!("id=kept,target=/c,{flags}"));
        let recipe = format!("FROM base\nRUN {mount} test \"$(stat -c '%a %u %g' /c)\" = '{seen}'\n");
        slipway.build("asked", &recipe, &[]).ok();
    }
}

#[test]
fn steps_that_want_two_caches_do_not_wait_for_each_other() {
    let slipway = Slipway::new();
    let (a, b) = (mount("id=a,target=/a,sharing=locked"), mount("id=b,target=/b,sharing=locked"));
    let stages = [("ab", format!("{a} {b}")), ("ba", format!("{b} {a}"))];
    let mut recipe = String::new();
    for (name, mounts) in &stages {
        recipe.push_str(&format!("FROM base AS {name}\n"));
        for round in 0..4 {
            recipe.push_str(&format!("RUN {mounts} echo {round} {name} >> /a/log && sleep 0.02\n"));
        }
        recipe.push_str("RUN touch /done\n");
    }
    recipe.push_str("FROM base\nCOPY --from=ab /done /1\nCOPY --from=ba /done /2\n");
    recipe.push_str(&format!("RUN {a} test $(wc -l < /a/log) = 8\n"));
    slipway.build("both", &recipe, &[]).ok();
}

#[test]
fn a_stage_may_seed_a_cache_with_what_it_makes_in_another() {
    let slipway = Slipway::new();
    let held = mount("id=held,target=/held,sharing=locked");
    // the seed's stage needs the lock that the step which it seeds takes as well
    let recipe = format!(
        "FROM base AS seed\nRUN {held} mkdir /seed && echo seeded > /seed/file && touch /held/x\n\
         FROM base\nRUN {held} {} {} test -e /held/x && cat /s/file /z/file > /got\n",
        mount("id=seeded,target=/s,from=seed,source=/seed,sharing=locked"),
        mount("id=held,target=/z,from=seed,source=/seed,sharing=locked"),
    );
    slipway.build("seeded", &recipe, &[]).ok();
    assert_eq!(slipway.shell("seeded", "cat /got"), "seeded\nseeded\n");
}

#[test]
fn a_wait_for_a_cache_is_told_and_ends_with_a_signal() {
    let slipway = Slipway::new();
    let held = mount("id=the-cache,target=/c,sharing=locked");
    let build = |name: &str, command: &str| {
        let context = slipway.context(name, &[]);
        fs::write(context.join("Dockerfile"), format!("FROM base\nRUN {held} {command}\n")).unwrap();
        let mut build = slipway.command(["build", "--progress", "plain", "-t", name]);
        build.arg(context);
        build
    };
    let holder = start(&mut build("holder", "touch /c/here; while test -e /c/here; do sleep 0.05; done"));
    let caches = slipway.root.join("caches");
    let here = || {
        let entries = fs::read_dir(&caches).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().join("here")).find(|path| path.exists())
    };
    wait_until("the cache is held", || here().is_some());
    for signal in [Signal::TERM, Signal::INT] {
        let log = slipway.path("waiting.log");
        let mut command = build("waiting", "true");
        command.stderr(fs::File::create(&log).unwrap());
        let mut waiting = command.spawn().unwrap();
        wait_until("the wait is told", || {
            fs::read_to_string(&log).unwrap().contains("the cache `the-cache`")
        });
        let pid = rustix::process::Pid::from_raw(waiting.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let mut status = None;
        wait_until("the wait ends", || {
            status = waiting.try_wait().unwrap();
            status.is_some()
        });
        assert!(!status.unwrap().success());
    }
    // whoever waits goes on when the cache is free
    let next = start(&mut build("next", "echo next > /done"));
    std::thread::sleep(Duration::from_millis(100));
    fs::remove_file(here().unwrap()).unwrap();
    holder.wait().ok();
    next.wait().ok();
    assert_eq!(slipway.shell("next", "cat /done"), "next\n");
}
