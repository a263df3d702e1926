//! Looking into steps: the exact state before, after, and where one failed; and that nothing of it stays.

use crate::support::shell::Shell;
use crate::support::{Slipway, run};
use std::path::{Path, PathBuf};

const RECIPE: &str = "FROM base
WORKDIR /work
ENV A=b
COPY file /work/file
RUN --mount=type=cache,id=c,target=/c --mount=type=secret,id=s,env=S --mount=type=tmpfs,target=/t \
    test -e /c/cached || echo one > /c/cached; echo half > /half; test -e /work/good
RUN echo done > /done
";

fn context(slipway: &Slipway) -> PathBuf {
    std::fs::write(slipway.path("secret"), "hush").unwrap();
    slipway.context("context", &[("Dockerfile", RECIPE), ("file", "copied\n")])
}

fn build(slipway: &Slipway, context: &Path) -> crate::support::Ended {
    let secret = format!("id=s,src={}", slipway.path("secret").display());
    run(&mut slipway.command(["build", "-t", "made", "--secret", &secret, context.to_str().unwrap()]))
}

#[test]
fn a_step_is_looked_into_where_it_failed_before_and_after() {
    let slipway = Slipway::new();
    let context = context(&slipway);
    let message = build(&slipway, &context).fails(1);
    assert!(message.contains("step 4/5") || message.contains("failed at"), "{message}");
    let debug = |arguments: &[&str], script: &str| {
        slipway.run([&["debug"], arguments, &["--", "sh", "-c", script]].concat())
    };
    let script = "cat /half /work/file /c/cached; echo $A $S; pwd; id -u; ls -d /t; test -e /done; echo $?";
    let seen = debug(&["^0", "4"], script).ok();
    assert_eq!(seen, "half\ncopied\none\nb hush\n/work\n0\n/t\n1\n");
    // before it nothing of it is there, but what it mounts is
    let seen = debug(&["--before", "^0", "4"], "ls /half 2>/dev/null; cat /c/cached; echo $S").ok();
    assert_eq!(seen, "one\nhush\n");
    // another instruction
    assert_eq!(debug(&["--before", "^0", "3"], "ls; pwd").ok(), "/work\n");
    assert_eq!(debug(&["--after", "^0", "3"], "ls; pwd").ok(), "file\n/work\n");
    assert_eq!(debug(&["^0", "3"], "exit 7").code(), Some(7));
    // what is changed there is nobody's
    let before = slipway.ok(["du", "--format", "{{.Type}} {{.Bytes}}"]);
    debug(&["^0", "4"], "echo evil > /c/cached; echo evil > /work/good; rm /work/file").ok();
    debug(&["--before", "^0", "4"], "echo evil > /c/cached; touch /work/good").ok();
    assert_eq!(debug(&["^0", "4"], "cat /c/cached; ls").ok(), "one\nfile\n");
    let kinds = |text: &str| {
        text.lines().filter(|line| line.starts_with("step")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&slipway.ok(["du", "--format", "{{.Type}} {{.Bytes}}"])), kinds(&before));
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
    build(&slipway, &context).fails(1);
    // a mended recipe is another one
    std::fs::write(context.join("Dockerfile"), RECIPE.replace("test -e /work/good", "true")).unwrap();
    build(&slipway, &context).ok();
    assert_eq!(slipway.shell("made", "cat /half /done; ls /work"), "half\ndone\nfile\n");
    let seen = debug(&["made", "5"], "cat /done; touch /leak").ok();
    assert_eq!(seen, "done\n");
    assert_eq!(slipway.shell("made", "ls /leak 2>/dev/null; echo $?"), "1\n");
    std::fs::write(context.join("Dockerfile"), "FROM base\nRUN true\n").unwrap();
    let message = debug(&["made", "5"], "true").fails(1);
    assert!(message.contains("has another step at line") && message.contains("RUN echo done"), "{message}");
}

#[test]
fn mistakes_are_said() {
    let slipway = Slipway::new();
    let context = context(&slipway);
    build(&slipway, &context).fails(1);
    let message = slipway.fails(2, ["debug", "^0", "4"]);
    assert!(message.contains("no terminal") && message.contains("-- COMMAND"), "{message}");
    let message = slipway.fails(1, ["debug", "^0", "1", "--", "true"]);
    assert!(message.contains("the stage's base"), "{message}");
    let message = slipway.fails(1, ["debug", "^0", "40", "--", "true"]);
    assert!(message.contains("40"), "{message}");
    let message = slipway.fails(1, ["debug", "nothing", "4", "--", "true"]);
    assert!(message.contains("nothing"), "{message}");
    // without a terminal a build says so and fails as ever
    let secret = format!("id=s,src={}", slipway.path("secret").display());
    let message = slipway.fails(1, ["build", "--debug", "--secret", &secret, context.to_str().unwrap()]);
    assert!(message.contains("slipway debug BUILD STEP -- COMMAND"), "{message}");
    std::fs::remove_file(slipway.path("secret")).unwrap();
    let message = slipway.fails(1, ["debug", "^0", "4", "--", "true"]);
    assert!(message.contains("secret"), "{message}");
}

#[test]
fn a_shell_opens_where_a_step_fails() {
    let slipway = Slipway::new();
    let context = context(&slipway);
    let mut command = slipway.command([""; 0]);
    command.env("HOME", &context);
    let mut shell = Shell::start(&["bash", "--noprofile", "--norc", "--noediting", "-i"], &command, &context);
    let secret = format!("id=s,src={}", slipway.path("secret").display());
    shell.begin(&format!("slipway build --debug --secret {secret} ."));
    shell.wait_for("a shell in step #4");
    shell.wait_for("# ");
    shell.press("cat /half; echo $S:$PWD; echo evil > /c/cached\r");
    shell.wait_for("half");
    shell.wait_for("hush:/work");
    shell.press("exit\r");
    let (said, status) = shell.end();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("exit status 1"), "{said}");
    let seen = slipway.ok(["debug", "^0", "4", "--", "cat", "/c/cached"]);
    assert_eq!(seen, "one\n");
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
}
