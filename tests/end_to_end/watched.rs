//! Building again when something changes, what a build did as a trace, and what differs between two images.

use crate::support::{Slipway, start, wait_until};
use serde_json::Value;

#[test]
fn a_change_builds_again_and_what_is_ignored_does_not() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nCOPY . /w\n";
    let context =
        slipway.context("context", &[("Dockerfile", recipe), (".dockerignore", "ignored\n"), ("file", "1")]);
    let watch =
        start(&mut slipway.command(["build", "--watch", "-q", "-t", "made", context.to_str().unwrap()]));
    let digest = || {
        let shown = slipway.run(["inspect", "--format", "{{.Digest}}", "made"]);
        if shown.status.success() { shown.stdout } else { String::new() }
    };
    wait_until("the first build", || !digest().is_empty());
    let first = digest();
    std::fs::write(context.join("file"), "2").unwrap();
    wait_until("the second build", || digest() != first);
    let second = digest();
    // several steps of one change, with a broken recipe between
    std::fs::write(context.join("Dockerfile"), "FROM nothing at all\n").unwrap();
    std::fs::create_dir(context.join("new")).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM base\nCOPY . /w\nRUN echo x > /x\n").unwrap();
    std::fs::write(context.join("new/leaf"), "leaf").unwrap();
    wait_until("the third build", || {
        digest() != second && slipway.run(["run", "--rm", "made", "cat", "/w/new/leaf"]).stdout == "leaf"
    });
    wait_until("nothing is under way", || slipway.leftovers().is_empty());
    let third = digest();
    std::fs::write(context.join("ignored"), "ignored").unwrap();
    std::fs::write(context.join("new/leaf"), "changed").unwrap();
    wait_until("the fourth build", || digest() != third);
    watch.signal(rustix::process::Signal::INT);
    let ended = watch.wait();
    assert!(ended.stderr.contains("watching `"), "{}", ended.stderr);
    // a build for each change and none for what is ignored
    let built = ended.stdout.lines().filter(|line| line.starts_with("sha256:")).count();
    assert!((4..=5).contains(&built), "{built} builds:\n{}\n{}", ended.stdout, ended.stderr);
    let message = slipway.fails(2, ["build", "--watch", "-"]);
    assert!(message.contains("--watch watches a folder"), "{message}");
}

/// What a build writes into its own context begins no other one, and `--watch=true` is watched once.
#[test]
fn a_build_does_not_begin_by_what_it_wrote() {
    let slipway = Slipway::new();
    let context = slipway.context("own", &[("Dockerfile", "FROM base\nCOPY file /w/\n"), ("file", "1")]);
    let mut command = slipway.command(["build", "--watch=true", "-q", "-o", "out", "--iidfile", "id", "."]);
    let watch = start(command.current_dir(&context));
    let written = || std::fs::read_to_string(context.join("out/w/file")).unwrap_or_default();
    wait_until("the first build", || written() == "1" && context.join("id").exists());
    std::thread::sleep(std::time::Duration::from_secs(2));
    std::fs::write(context.join("file"), "2").unwrap();
    wait_until("the second build", || written() == "2");
    std::thread::sleep(std::time::Duration::from_secs(1));
    watch.signal(rustix::process::Signal::INT);
    let ended = watch.wait();
    let builds = slipway.ok(["builds", "ls", "--format", "{{.ID}}"]);
    assert_eq!(builds.lines().count(), 2, "{builds}{}", ended.stderr);
}

#[test]
fn a_trace_is_written_whatever_comes_of_the_build() {
    let slipway = Slipway::new();
    let path = slipway.path("trace.json");
    let flags = ["--trace", path.to_str().unwrap()];
    let read = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let bars = |trace: &Value| {
        trace["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["ph"] == "X")
            .cloned()
            .collect::<Vec<_>>()
    };
    let recipe = "FROM base\nRUN true\nRUN echo x > /x\n";
    slipway.build_with("made", recipe, &[], &flags).ok();
    assert_eq!((bars(&read()).len(), read()["otherData"]["state"].as_str()), (3, Some("built")));
    // wholly cached, which the history does not keep
    slipway.build_with("made", recipe, &[], &flags).ok();
    let trace = read();
    assert_eq!(bars(&trace)[2]["cat"], "cached", "{trace}");
    slipway.build_with("made", "FROM base\nRUN false\n", &[], &flags).fails(1);
    let trace = read();
    assert_eq!(
        (bars(&trace)[1]["cat"].as_str(), trace["otherData"]["state"].as_str()),
        (Some("failed"), Some("failed"))
    );
    for bar in bars(&trace) {
        assert!(
            bar["ts"].is_u64() && bar["dur"].is_u64() && bar["tid"].is_u64() && bar["name"].is_string(),
            "{bar}"
        );
    }
}

#[test]
fn images_are_compared_path_by_path() {
    let slipway = Slipway::new();
    slipway
        .build(
            "one",
            "FROM base\nENV A=b\nRUN echo one > /file; mkdir /gone; echo x > /gone/x; echo s > /same\n",
            &[],
        )
        .ok();
    slipway
        .build(
            "two",
            "FROM base\nENV A=c\nRUN echo two > /file; chmod 600 /file; echo s > /same; echo n > /new\n",
            &[],
        )
        .ok();
    let ended = slipway.run(["diff", "one", "two"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    for line in ["- /gone", "- /gone/x", "+ /new", "~ /file: content, mode 644 -> 600"] {
        assert!(ended.stdout.lines().any(|own| own == line), "{line} in\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("Config.Env: ") && !ended.stdout.contains("/same"), "{}", ended.stdout);
    let json: Value =
        serde_json::from_str(&slipway.run(["diff", "--format", "json", "one", "two"]).stdout).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 4, "{json}");
    assert_eq!(slipway.run(["diff", "-q", "one", "two"]).stdout, "");
    slipway.ok(["tag", "one", "three"]);
    assert_eq!(slipway.ok(["diff", "one", "three"]), "the images are the same\n");
    let message = slipway.fails(1, ["diff", "one", "nothing"]);
    assert!(message.contains("nothing"), "{message}");
    // a page that shows what is left, twice there and hidden
    let recipe = "FROM base\nRUN mkdir -p /var/cache/apk && head -c 9000 /dev/urandom > /var/cache/apk/index; head -c 8000 /dev/urandom > '/a<b>'\nRUN cp '/a<b>' /copy; rm '/a<b>'; cp /copy /again\n";
    slipway.build("waste", recipe, &[]).ok();
    let page = slipway.ok(["builds", "report", "waste"]);
    for words in [
        "Left by package managers",
        "/var/cache/apk/",
        "Deleted or replaced later",
        "/a&lt;b&gt;",
        "There more than once",
        "/again",
    ] {
        assert!(page.contains(words), "{words} in\n{page}");
    }
    assert!(!page.contains("<script") && !page.contains("/a<b>"), "{page}");
}
