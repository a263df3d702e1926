//! What builds were: `slipway builds`.

use crate::support::{Slipway, processes_with, run, start, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A build that is kept, as JSON.
fn kept(slipway: &Slipway, build: &str) -> Value {
    serde_json::from_str(&slipway.ok(["builds", "inspect", "--format", "json", build])).expect("json")
}

fn ids(slipway: &Slipway) -> Vec<String> {
    slipway.ok(["builds", "ls", "-q"]).lines().map(str::to_owned).collect()
}

/// The path of a step's log.
fn log(build: &Value, step: usize) -> PathBuf {
    PathBuf::from(build["folder"].as_str().unwrap()).join(format!("{step}.log"))
}

#[test]
fn what_ran_is_kept_and_what_was_cached_is_not() {
    let slipway = Slipway::new();
    assert_eq!(ids(&slipway), [] as [String; 0]);
    let recipe = "FROM base AS one\nARG A\nRUN echo said $A; head -c 1000 /dev/urandom > /r\n\nCOPY file /\nWORKDIR /w\n";
    slipway.build_with("kept", recipe, &[("file", "x")], &["--build-arg=A=value"]).ok();
    let build = kept(&slipway, "kept");
    assert_eq!(build["state"], "built", "{build:#}");
    assert_eq!(build["arguments"], serde_json::json!(["A"]));
    assert_eq!(build["names"], serde_json::json!(["kept:latest"]));
    assert_eq!(build["end"]["image"], slipway.digest("kept"));
    assert!(build["context"].as_str().unwrap().ends_with("/context-kept"), "{build:#}");
    let steps = build["steps"].as_array().unwrap();
    let lines: Vec<(u64, u64)> =
        steps.iter().map(|step| (step["number"].as_u64().unwrap(), step["line"].as_u64().unwrap())).collect();
    assert_eq!(lines, [(1, 1), (2, 3), (3, 5), (4, 6)]);
    let run_step = &steps[1];
    assert_eq!(run_step["text"], "RUN echo said $A; head -c 1000 /dev/urandom > /r");
    assert_eq!((&run_step["outcome"], &run_step["ran"]), (&"done".into(), &true.into()));
    assert_eq!(run_step["command"]["status"], 0);
    assert!(run_step["layer"]["size_bytes"].as_u64().unwrap() > 1000, "{run_step:#}");
    assert!(run_step["key"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(run_step["description"]["operation"], "run");
    assert_eq!(fs::read_to_string(log(&build, 2)).unwrap(), "said value\n");
    assert_eq!(fs::metadata(log(&build, 2)).unwrap().permissions().mode() & 0o777, 0o600);
    for arguments in [&["builds", "logs"][..], &["builds", "logs", "kept"]] {
        assert_eq!(
            slipway.ok(arguments),
            "#2 [one 2/4] RUN echo said $A; head -c 1000 /dev/urandom > /r\nsaid value\n"
        );
    }
    for step in ["2", "#2", "one:2"] {
        assert_eq!(slipway.ok(["builds", "logs", "kept", step]), "said value\n");
    }
    assert!(slipway.fails(1, ["builds", "logs", "kept", "9"]).contains("has no step `9`"));
    // all of it is there: nothing is kept
    slipway.build_with("kept", recipe, &[("file", "x")], &["--build-arg=A=value"]).ok();
    assert_eq!(ids(&slipway).len(), 1);
    // a part of it is there
    slipway.build_with("kept", recipe, &[("file", "y")], &["--build-arg=A=value"]).ok();
    assert_eq!(ids(&slipway).len(), 2);
    let outcomes: Vec<Value> = kept(&slipway, &ids(&slipway)[0])["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["done", "cached", "done", "done"]);
    assert_eq!(kept(&slipway, "^1")["id"], ids(&slipway)[1].as_str());
    let text = slipway.ok(["builds", "inspect"]);
    assert!(text.contains("#3 [one 3/4] COPY file /\n   line 5, done in "), "{text}");
    assert!(slipway.fails(1, ["builds", "inspect", "nothing"]).contains("`slipway builds ls`"));
    let first = ids(&slipway)[1].clone();
    slipway.ok(["builds", "rm", &first[..8]]);
    assert_eq!(ids(&slipway).len(), 1);
    slipway.ok(["buildx", "history", "rm", "--all"]);
    assert_eq!(ids(&slipway), [] as [String; 0]);
    assert_eq!(fs::read_dir(slipway.root.join("builds")).unwrap().count(), 0);
}

#[test]
fn a_failure_names_its_log() {
    let slipway = Slipway::new();
    let ended =
        slipway.build("fails", "FROM base\nRUN echo before\nRUN echo said; echo worse >&2; exit 7\n", &[]);
    let words = ended.fails(1);
    let build = kept(&slipway, &ids(&slipway)[0]);
    let id = build["id"].as_str().unwrap();
    assert!(words.contains(&format!("slipway builds logs {id} 3")), "{words}");
    assert!(words.contains(log(&build, 3).to_str().unwrap()), "{words}");
    assert!(words.contains("Dockerfile:3"), "{words}");
    // two pipes have no order between them
    let said = slipway.ok(["builds", "logs", id, "3"]);
    assert!(["said\nworse\n", "worse\nsaid\n"].contains(&said.as_str()), "{said}");
    assert_eq!((&build["state"], &build["steps"][2]["command"]["status"]), (&"failed".into(), &7.into()));
    assert!(build["end"]["error"].as_str().unwrap().contains("exit status 7"), "{build:#}");
    // one that carried nothing out is kept as well
    slipway.build("misses", "FROM base\nRUN echo before\nCOPY missing /\n", &[]).fails(1);
    assert_eq!(kept(&slipway, &ids(&slipway)[0])["steps"][2]["outcome"], "failed");
}

#[test]
fn values_of_secrets_are_in_no_log() {
    let slipway = Slipway::new();
    // no other file of this machine has it
    let value = format!("hunter-{}", std::process::id());
    let other = "line-one\nline-two-of-it\n";
    fs::write(slipway.path("the-secret"), other).unwrap();
    let recipe = "FROM base\nRUN --mount=type=secret,id=a --mount=type=secret,id=b \
                  cat /run/secrets/a; echo; grep two /run/secrets/b; cat /run/secrets/a >&2; printf end$(cat /run/secrets/a); exit 3\n";
    let file = format!("--secret=id=b,src={}", slipway.path("the-secret").display());
    let context = slipway.context("masks", &[("Dockerfile", recipe)]);
    let mut command = slipway.command(["build", "--secret=id=a,env=SECRET", &file, "--progress=quiet"]);
    run(command.arg(context).env("SECRET", &value)).fails(1);
    let said = slipway.ok(["builds", "logs", &ids(&slipway)[0], "2"]);
    assert_eq!(said.matches("***").count(), 4, "{said}");
    let found = run(std::process::Command::new("grep")
        .args(["-rlaF", "-e", &value, "-e", "line-two-of"])
        .arg(slipway.root.join("builds")));
    assert_eq!(found.stdout, "");
}

#[test]
fn much_output_is_bounded_on_the_disk() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN echo first; yes 0123456789012345678901234567890123456789 | head -c 200000000; echo; echo last\n";
    let context = slipway.context("much", &[("Dockerfile", recipe)]);
    run(slipway.command(["build", "--progress=quiet"]).arg(context)).ok();
    let build = kept(&slipway, &ids(&slipway)[0]);
    let text = fs::read_to_string(log(&build, 2)).unwrap();
    assert!(text.len() < (16 << 20) + 100, "{}", text.len());
    assert!(text.starts_with("first\n0123") && text.ends_with("\nlast\n"));
    assert!(text.contains(" bytes left out]\n"));
    assert_eq!(build["steps"][1]["output_bytes"], 200_000_012);
    assert!(slipway.ok(["builds", "inspect"]).contains("left out"));
}

#[test]
fn a_killed_build_is_said_to_be_killed_and_one_that_runs_to_run() {
    let slipway = Slipway::new();
    let word = format!("history-holder-{}", std::process::id());
    let recipe = format!("FROM base\nRUN echo begun; sh -c 'sleep 60; true' {word}\n");
    let context = slipway.context("killed", &[("Dockerfile", &recipe)]);
    let begin = || {
        let build = start(slipway.command(["build", "--no-cache"]).arg(&context));
        wait_until("the step runs", || processes_with(&word) > 0);
        build
    };
    let build = begin();
    let id = ids(&slipway)[0].clone();
    assert_eq!(kept(&slipway, &id)["state"], "running");
    assert!(slipway.fails(1, ["builds", "rm", &id]).contains("is running"));
    build.signal(Signal::KILL);
    build.wait();
    wait_until("the step is gone", || processes_with(&word) == 0);
    assert_eq!(kept(&slipway, &id)["state"], "killed");
    assert_eq!(slipway.ok(["builds", "logs", &id, "2"]), "begun\n");
    let build = begin();
    build.signal(Signal::INT);
    build.wait();
    let id = ids(&slipway)[0].clone();
    assert_eq!(kept(&slipway, &id)["state"], "cancelled");
    slipway.ok(["builds", "rm", "--all"]);
    assert_eq!(ids(&slipway), [] as [String; 0]);
}

#[test]
fn names_with_control_characters_are_shown_as_words() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN printf '\\033]0;title\\007' && : \u{1b}[2J\n";
    slipway.build("odd", recipe, &[]).ok();
    for arguments in [&["builds", "ls"][..], &["builds", "inspect"], &["builds", "inspect", "--format=json"]]
    {
        let text = slipway.ok(arguments);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }
    // a pipe gets what the command wrote
    assert!(slipway.ok(["builds", "logs", "odd", "2"]).contains('\u{7}'));
}

#[test]
fn two_builds_at_once_are_two_and_a_store_that_is_not_there_has_none() {
    let slipway = Slipway::new();
    let builds: Vec<_> = (0..4)
        .map(|number| {
            let recipe = format!("FROM base\nRUN echo {number}\n");
            let context = slipway.context(&format!("at-once-{number}"), &[("Dockerfile", &recipe)]);
            start(slipway.command(["build", "-t", &format!("at-once-{number}")]).arg(context))
        })
        .collect();
    builds.into_iter().for_each(|build| drop(build.wait().ok()));
    assert_eq!(ids(&slipway).len(), 4);
    for number in 0..4 {
        assert_eq!(slipway.ok(["builds", "logs", &format!("at-once-{number}"), "2"]), format!("{number}\n"));
    }
    // torn, foreign and empty records are passed over
    let folder = slipway.root.join("builds");
    for (name, text) in [("0000000000001-aaaaaaaaaaaa", "{\"bui"), ("0000000000002-bbbbbbbbbbbb", "")] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("record"), text).unwrap();
    }
    fs::create_dir(folder.join("0000000000003-cccccccccccc")).unwrap();
    fs::write(folder.join("stranger"), "").unwrap();
    assert_eq!(ids(&slipway).len(), 4);
    slipway.ok(["reset", "--force"]);
    assert!(!folder.exists());
    assert_eq!(ids(&slipway), [] as [String; 0]);
    assert!(slipway.fails(1, ["builds", "logs"]).contains("no builds are kept"));
}

/// History is no reason to fail: here its folder's name is taken by a file.
#[test]
fn a_build_whose_history_cannot_be_written_is_built() {
    let slipway = Slipway::new();
    fs::write(slipway.root.join("builds"), "in the way").unwrap();
    slipway.build("built", "FROM base\nRUN echo said\n", &[]).ok();
    let words = slipway.build("fails", "FROM base\nRUN echo said; exit 4\n", &[]).fails(1);
    assert!(words.contains("exit status 4") && !words.contains("builds logs"), "{words}");
}

/// What `slipway why` says of the last build, its steps' titles left out.
fn why(slipway: &Slipway) -> Vec<(u64, Vec<String>)> {
    let all: Value = serde_json::from_str(&slipway.ok(["why", "--format", "json"])).expect("json");
    let one = |step: &Value| {
        let causes = step["causes"].as_array().unwrap().iter();
        let words = |key: &str, cause: &Value| cause[key].as_str().unwrap_or("-").to_owned();
        let cause = |cause: &Value| ["kind", "what", "old", "new"].map(|key| words(key, cause)).join("|");
        (step["step"].as_u64().unwrap(), causes.map(cause).collect())
    };
    all.as_array().unwrap().iter().map(one).collect()
}

fn digest(text: &str) -> String {
    slipway_oci::Digest::of(slipway_oci::digest::CONTENT, text.as_bytes()).to_string()
}

fn short(text: &str) -> String {
    digest(text).split_once(':').unwrap().1[..12].to_owned()
}

#[test]
fn it_is_told_what_differs_from_the_nearest_earlier_result() {
    let slipway = Slipway::new();
    let context = slipway.context("told", &[("a/one", "1"), ("a/two", "2"), ("b", "b")]);
    let recipe = "FROM base AS first\nARG V\nENV E=1\nRUN echo $V > /v\nCOPY a /a\nFROM base\nCOPY --from=first /v /v\n\
                  COPY b /b\nRUN --mount=type=tmpfs,target=/t true > /r\n";
    let build = |recipe: &str, flags: &[&str]| {
        fs::write(context.join("Dockerfile"), recipe).unwrap();
        // a file younger than the kernel's tick is read again, and that is all that this is about
        slipway.build_folder("told", &context, flags).ok()
    };
    build(recipe, &[]);
    let first = why(&slipway);
    assert!(first.iter().all(|(_, causes)| causes[0].starts_with("new|")), "{first:?}");
    let one = |steps: &[(u64, Vec<String>)], step: u64| -> Vec<String> {
        steps
            .iter()
            .find(|(number, _)| *number == step)
            .unwrap_or_else(|| panic!("{step} in {steps:?}"))
            .1
            .clone()
    };

    // a file's content, one that is new, one that is gone, a mode
    fs::write(context.join("b"), "changed").unwrap();
    build(recipe, &[]);
    let said = why(&slipway);
    assert_eq!(one(&said, 6), [format!("file|b|{}|{}", digest("b"), digest("changed"))]);
    assert_eq!(one(&said, 7), ["step|#6 [1 3/4] COPY b /b came out otherwise|-|-"]);
    assert_eq!(said.len(), 2, "{said:?}");
    fs::set_permissions(context.join("b"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(context.join("a/one")).unwrap();
    fs::write(context.join("a/three"), "3").unwrap();
    build(recipe, &["--target=first"]);
    let said = why(&slipway);
    assert_eq!(
        one(&said, 3),
        [format!("file|a/one|{}|-", digest("1")), format!("file|a/three|-|{}", digest("3"))]
    );
    build(recipe, &[]);
    assert_eq!(one(&why(&slipway), 6), ["mode|b|644|600"]);

    // an argument, a variable, and what comes of them in another stage
    build(recipe, &["--build-arg=V=new"]);
    let said = why(&slipway);
    assert_eq!(one(&said, 2), ["argument|V|-|`new`"]);
    assert_eq!(one(&said, 5), ["step|#2 [first 2/3] RUN echo $V > /v came out otherwise|-|-"]);
    build(&recipe.replace("E=1", "E=2"), &["--build-arg=V=new"]);
    assert_eq!(one(&why(&slipway), 2), ["variable|E|`1`|`2`"]);

    // the instruction, a mount, and what changes back is nearest to what it was
    let other = recipe.replace("RUN echo", "RUN printf");
    build(&other, &["--build-arg=V=new"]);
    assert_eq!(one(&why(&slipway), 2), ["instruction||RUN echo $V > /v|RUN printf $V > /v"]);
    build(&recipe.replace("target=/t", "target=/t,size=1m"), &["--build-arg=V=new"]);
    let said = why(&slipway);
    assert!(
        one(&said, 7).iter().any(|cause| cause.starts_with("mount|tmpfs at /t: size bytes|-|1")),
        "{said:?}"
    );
    build(&recipe.replace("E=1", "E=1 F=2"), &["--build-arg=V=new"]);
    assert_eq!(one(&why(&slipway), 2), ["variable|F|-|`2`"], "the nearest, not the last");

    // what was there and is gone, and what was not to be asked
    slipway.ok(["prune", "--only=cache", "--all", "--force"]);
    build(recipe, &["--build-arg=V=new"]);
    assert!(one(&why(&slipway), 2)[0].starts_with("lost|"), "{:?}", why(&slipway));
    build(recipe, &["--build-arg=V=new", "--no-cache"]);
    assert!(why(&slipway).iter().all(|(_, causes)| causes[0].starts_with("no cache|")));
    let text = slipway.ok(["why"]);
    assert!(text.starts_with("#2 [first 2/3] RUN echo $V > /v\n   the cache was passed over"), "{text}");

    // inline
    fs::write(context.join("b"), "again").unwrap();
    let ended = slipway.build_folder("told", &context, &["--build-arg=V=new", "--explain"]);
    let words = ended.stderr.clone();
    ended.ok();
    assert!(
        words.contains(&format!("#6 WHY file b: {} -> {}\n", short("changed"), short("again"))),
        "{words}"
    );
    assert!(!words.contains("#2 WHY"), "{words}");
}

#[test]
fn a_base_that_changed_is_named() {
    let slipway = Slipway::new();
    slipway.build("mine", "FROM base\nRUN echo 1 > /one\n", &[]).ok();
    let recipe = "FROM mine AS below\nFROM below\nRUN true > /x\n";
    slipway.build("above", recipe, &[]).ok();
    slipway.build("mine", "FROM base\nRUN echo 2 > /one\n", &[]).ok();
    slipway.build("above", recipe, &[]).ok();
    let said = why(&slipway);
    assert_eq!(said.len(), 1, "{said:?}");
    let cause: Vec<&str> = said[0].1[0].split('|').collect();
    assert_eq!(cause[..2], ["base", "mine"], "{said:?}");
    assert!(cause[2].starts_with("sha256:") && cause[3].starts_with("sha256:") && cause[2] != cause[3]);
}

#[test]
fn a_build_is_written_as_a_trace_and_as_a_page() {
    let slipway = Slipway::new();
    let evil = "'</pre><script>alert(1)</script>'";
    let recipe = format!(
        "FROM base AS one\nRUN echo {evil} > /a; echo {evil}\nFROM base\nCOPY --from=one /a /\nRUN sleep 0.2\n"
    );
    slipway.build("drawn", &recipe, &[]).ok();
    let trace: Value = serde_json::from_str(&slipway.ok(["builds", "trace"])).expect("json");
    let bars: Vec<&Value> =
        trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(bars.len(), 5);
    let slow = bars.iter().find(|bar| bar["name"] == "RUN sleep 0.2").unwrap();
    assert!(slow["dur"].as_u64().unwrap() >= 200_000, "{slow:#}");
    let page = slipway.path("page.html");
    slipway.ok(["builds", "report", "-o", page.to_str().unwrap(), "drawn"]);
    let page = fs::read_to_string(page).unwrap();
    assert!(
        page.contains("RUN sleep 0.2") && page.contains("no earlier build that is kept had this step"),
        "{page}"
    );
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="), "{page}");
}
