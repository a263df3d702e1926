//! Several processes on one store at the same time.

use crate::support::server::Server;
use crate::support::{Slipway, start};

#[test]
fn the_same_build_many_times_at_once() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN echo 1 > /one && sleep 0.1\nCOPY f /\nRUN cat /f > /two\n";
    let context = slipway.context("same", &[("Dockerfile", recipe), ("f", "x")]);
    let started: Vec<_> = (0..6)
        .map(|number| {
            let name = format!("same-{number}");
            start(slipway.command(["build", "--progress", "plain", "-t", &name]).arg(&context))
        })
        .collect();
    for one in started {
        one.wait().ok();
    }
    let first = slipway.digest("same-0");
    for number in 1..6 {
        assert_eq!(slipway.digest(&format!("same-{number}")), first);
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn different_work_at_once() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let remote = server.name("remote:1");
    let maker = slipway.another("maker");
    maker.import_base();
    maker.build(&remote, "FROM base\nRUN echo remote > /remote\n", &[]).ok();
    maker.ok(["push", &remote]);
    let mut started = Vec::new();
    for number in 0..4 {
        let recipe = format!("FROM base\nRUN echo {number} > /n\nRUN rm /etc/motd\n");
        let context = slipway.context(&format!("different-{number}"), &[("Dockerfile", &recipe)]);
        let name = format!("different-{number}");
        started.push(start(slipway.command(["build", "--progress", "plain", "-t", &name]).arg(context)));
        started.push(start(&mut slipway.command(["pull", &remote])));
        started.push(start(&mut slipway.command(["run", "--rm", "base", "true"])));
        started.push(start(&mut slipway.command(["tag", "base", &format!("tagged-{number}")])));
        started.push(start(&mut slipway.command(["images"])));
    }
    for one in started {
        one.wait().ok();
    }
    for number in 0..4 {
        assert_eq!(slipway.shell(&format!("different-{number}"), "cat /n"), format!("{number}\n"));
    }
    assert_eq!(slipway.shell(&remote, "cat /remote"), "remote\n");
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn removing_while_others_build_hurts_nobody() {
    let slipway = Slipway::new();
    let mut started = Vec::new();
    for number in 0..4 {
        let recipe = format!("FROM base\nRUN echo {number} > /n && sleep 0.2\nRUN cat /n > /m\n");
        let context = slipway.context(&format!("removed-{number}"), &[("Dockerfile", &recipe)]);
        started.push(start(slipway.command(["build", "-t", &format!("kept-{number}")]).arg(&context)));
        slipway.build_folder("gone", &context, &[]).ok();
        slipway.ok(["rmi", "gone"]);
    }
    for one in started {
        one.wait().ok();
    }
    for number in 0..4 {
        assert_eq!(slipway.shell(&format!("kept-{number}"), "cat /m"), format!("{number}\n"));
    }
}

/// How often a step ran: it writes a line into a cache mount.
fn times(slipway: &Slipway) -> usize {
    let entries = std::fs::read_dir(slipway.root.join("caches")).into_iter().flatten().flatten();
    let logs = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("log")).ok());
    logs.map(|text| text.lines().count()).sum()
}

fn counted(slipway: &Slipway, rest: &str) -> std::path::PathBuf {
    let recipe = format!("FROM base\nRUN --mount=type=cache,id=n,target=/n echo x >> /n/log; {rest}\n");
    slipway.context("counted", &[("Dockerfile", &recipe)])
}

#[test]
fn equal_steps_of_concurrent_builds_run_once() {
    for (rest, flags, expected, succeeds) in [
        ("sleep 0.3; echo 1 > /one", &[][..], 1, true),
        // a step that changes nothing
        ("sleep 0.3", &[], 1, true),
        // what was asked to run runs, and what fails has no result to share
        ("sleep 0.3; echo 1 > /one", &["--no-cache"], 4, true),
        ("sleep 0.1; exit 3", &[], 4, false),
    ] {
        let slipway = Slipway::new();
        let context = counted(&slipway, rest);
        let started: Vec<_> = (0..4)
            .map(|number| {
                let name = format!("counted-{number}");
                let mut command = slipway.command(["build", "--progress", "plain", "-t", &name]);
                start(command.args(flags).arg(&context))
            })
            .collect();
        for one in started {
            let ended = one.wait();
            assert_eq!(ended.code() == Some(0), succeeds, "{rest}: {}", ended.stderr);
        }
        assert_eq!(times(&slipway), expected, "{rest} {flags:?}");
        let turns = std::fs::read_dir(slipway.root.join("run/turns")).into_iter().flatten();
        assert_eq!(turns.count(), 0);
    }
}

#[test]
fn who_waits_for_a_step_goes_on_when_its_builder_is_killed_and_ends_when_told() {
    use rustix::process::Signal;
    let slipway = Slipway::new();
    let gate = slipway.root.join("caches");
    let context = counted(&slipway, "while [ ! -e /n/go ]; do sleep 0.05; done; echo 1 > /one");
    let build =
        |name: &str| start(slipway.command(["build", "--progress", "plain", "-t", name]).arg(&context));
    let first = build("first");
    crate::support::wait_until("the step runs", || times(&slipway) == 1);
    let (second, third) = (build("second"), build("third"));
    let waiting = || {
        let maps = |child: &crate::support::Started| {
            let path = format!("/proc/{}/fd", child.child.id());
            std::fs::read_dir(path).is_ok_and(|mut all| all.next().is_some())
        };
        maps(&second) && maps(&third)
    };
    crate::support::wait_until("the others have begun", waiting);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(times(&slipway), 1, "they wait");
    third.signal(Signal::INT);
    let ended = third.wait();
    assert_ne!(ended.code(), Some(0));
    assert!(ended.took < std::time::Duration::from_secs(20), "{:?}", ended.took);
    first.signal(Signal::KILL);
    first.wait();
    crate::support::wait_until("the second takes it over", || times(&slipway) == 2);
    for entry in std::fs::read_dir(&gate).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        std::fs::write(entry.path().join("go"), "").unwrap();
    }
    second.wait().ok();
    assert_eq!(slipway.shell("second", "cat /one"), "1\n");
}

/// What the writer of a context makes of a file each time: written over, in another length, put in its place by name, gone for
/// a moment, and of the same length with the time that it had.
fn rewrite(path: &std::path::Path, round: usize) {
    let text = format!("{round:08}\n").repeat(64 + if round.is_multiple_of(2) { 0 } else { round % 50 });
    let before = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    match round % 4 {
        0 => std::fs::write(path, text).unwrap(),
        1 => {
            let beside = path.with_extension("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(&beside, path).unwrap();
        }
        2 => {
            let _ = std::fs::remove_file(path);
            std::fs::write(path, text).unwrap();
        }
        _ => {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            std::io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
            file.set_len(text.len() as u64).unwrap();
            if let Ok(before) = before {
                file.set_modified(before).unwrap();
            }
        }
    }
}

#[test]
fn a_context_that_changes_while_it_is_read_makes_no_wrong_hit() {
    let slipway = Slipway::new();
    let context = slipway.context("moving", &[("Dockerfile", "FROM base\nCOPY d /d\nRUN cat /d/* > /all\n")]);
    let path = |number: usize| context.join(format!("d/{number}"));
    std::fs::create_dir(context.join("d")).unwrap();
    (0..60).for_each(|number| std::fs::write(path(number), "first\n").unwrap());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                rewrite(&path(round % 60), round);
                round += 1;
            }
        });
        for number in 0..8 {
            let ended = slipway.build_folder(&format!("moving-{number}"), &context, &[]);
            // a file may be gone or longer than it was said to be: then that is said, and nothing is made
            let said = ended.code() == Some(1) && ended.stderr.contains("error: ");
            assert!(said || ended.code() == Some(0), "{}", ended.stderr);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    slipway.build_folder("still", &context, &[]).ok();
    let mut names: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    names.sort();
    let all: String =
        names.iter().map(|name| std::fs::read_to_string(context.join("d").join(name)).unwrap()).collect();
    assert!(slipway.shell("still", "cat /d/*") == all, "the image has what the folder has");
    assert!(slipway.shell("still", "cat /all") == all, "and so has what was made of it");
    let anew = slipway.another("anew");
    anew.import_base();
    anew.build_folder("still", &context, &[]).ok();
    assert_eq!(anew.digest("still"), slipway.digest("still"), "nothing that was known is in it");
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}
