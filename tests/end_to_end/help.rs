//! Help that helps: pages, completions in real shells, manual pages.

use crate::support::{Slipway, binary, find, run, scratch, skip};
use std::process::Command;

#[test]
fn the_program_alone_shows_what_there_is() {
    let slipway = Slipway::empty();
    let page = slipway.ok([""; 0]);
    assert_eq!(page, slipway.ok(["--help"]));
    assert_eq!(slipway.ok(["context"]), slipway.ok(["help", "context"]));
    assert_eq!(page, slipway.ok(["help"]));
    for part in
        ["Usage: slipway [OPTIONS] <COMMAND>", "\nBuild:\n", "\nRegistries:\n", "\n  build ", "--root <DIR>"]
    {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    assert_eq!(slipway.ok(["help", "image", "ls"]), slipway.ok(["images", "--help"]));
    let page = slipway.ok(["help", "build"]);
    for part in ["\nExamples:\n", "$ slipway build -t app .", "\nCache:\n", "\nOptions of every command:\n"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    let message = slipway.run(["help", "exec"]).fails(2);
    assert!(message.contains("no command `exec`"), "{message}");
    let message = slipway.run(["help", "buidl"]).fails(2);
    assert!(message.contains("build"), "{message}");
    // a wrong flag's usage line shows nothing as required that is not
    let message = slipway.run(["--root", "/x", "build", "--nosuch", "."]).fails(2);
    assert!(message.contains("Usage: slipway build [OPTIONS] <CONTEXT>"), "{message}");
}

/// What `shell` offers for a line, by the words that it asks slipway with.
fn asked(slipway: &Slipway, shell: &str, words: &[&str]) -> Vec<String> {
    let mut command = slipway.command(["--"].iter().chain(["slipway"].iter()).chain(words));
    command.env("SLIPWAY_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let answers = run(command.env("_CLAP_IFS", "\n")).ok();
    // zsh and fish are told what each is
    let word = |line: &str| match shell {
        "zsh" => line.replace("\\:", "\t").split(':').next().unwrap().replace('\t', ":"),
        _ => line.split('\t').next().unwrap().to_owned(),
    };
    answers.lines().filter(|line| !line.is_empty()).map(word).collect()
}

#[test]
fn completions_know_commands_flags_images_and_stages() {
    let slipway = Slipway::new();
    for name in ["app:1", "app:2", "localhost:5000/team/web"] {
        slipway.ok(["tag", "base", name]);
    }
    let context = slipway.context("stages", &[("Dockerfile", "FROM base AS first\nFROM first AS second\n")]);
    let context = context.to_str().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let offered = |words: &[&str]| asked(&slipway, shell, words);
        assert_eq!(offered(&["hist"]), ["history"], "{shell}");
        assert_eq!(offered(&["run", "--ent"]), ["--entrypoint"]);
        assert_eq!(offered(&["run", "--rm", "app"]), ["app:1", "app:2"]);
        assert_eq!(offered(&["run", "app:"]), ["app:1", "app:2"]);
        assert_eq!(offered(&["rmi", "app:1", "localhost:5000/"]), ["localhost:5000/team/web:latest"]);
        assert_eq!(offered(&["image", "inspect", "ba"]), ["base:latest"]);
        assert_eq!(offered(&["build", context, "--target", ""]), ["first", "second"]);
        assert_eq!(offered(&["build", "--target=s", context][..2]), Vec::<String>::new(), "no recipe here");
        assert_eq!(offered(&["completion", ""])[..3], ["bash", "zsh", "fish"]);
        assert!(offered(&["pull", "--platform", "linux/arm6"]).contains(&"linux/arm64".to_owned()));
    }
    // another store, which is not made for it
    let other = slipway.path("nosuch");
    assert_eq!(
        asked(&slipway, "bash", &["--root", other.to_str().unwrap(), "run", "app"]),
        Vec::<String>::new()
    );
    assert!(!other.exists());
}

#[test]
fn bash_completes_words_with_colons() {
    let Some(bash) = find("bash") else { return skip("there is no bash") };
    let slipway = Slipway::new();
    slipway.ok(["tag", "base", "app:1"]);
    let script = slipway.ok(["completion", "bash"]);
    for (line, expected) in [
        ("slipway run app", "app:1"),
        ("slipway run app:", "1"),
        ("slipway run --rm base:la", "latest"),
        ("slipway hist", "history"),
        ("slipway build --progress=pl", "plain"),
    ] {
        // as bash calls it, with its own division of words
        let text = format!(
            "{script}\nCOMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n\
             COMP_TYPE=9; COMP_WORDS=({line}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n\
             _slipway_complete slipway '' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        let mut command = Command::new(&bash);
        command.args(["--norc", "-c", &text]).env("SLIPWAY_ROOT", &slipway.root);
        let offered = run(&mut command).ok();
        assert_eq!(offered.trim(), expected, "{line}");
    }
}

#[test]
fn scripts_are_what_their_shells_read() {
    let slipway = Slipway::empty();
    let folder = scratch();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = slipway.ok(["completion", shell]);
        assert!(
            script.contains(binary().to_str().unwrap()) && script.contains("SLIPWAY_COMPLETE"),
            "{script}"
        );
        let Some(program) = find(shell) else { continue };
        let file = folder.path().join(shell);
        std::fs::write(&file, script).unwrap();
        run(Command::new(program).arg(check).arg(file)).ok();
    }
    slipway.run(["completion", "powershell"]).fails(2);
}

#[test]
fn manual_pages_are_written_and_read() {
    let slipway = Slipway::empty();
    let folder = scratch();
    let pages = folder.path().join("new/man1");
    slipway.ok(["man", pages.to_str().unwrap()]);
    for name in ["slipway.1", "slipway-build.1", "slipway-run.1", "slipway-dockerfile-parse.1"] {
        assert!(pages.join(name).is_file(), "{name}");
    }
    let build = std::fs::read_to_string(pages.join("slipway-build.1")).unwrap();
    assert!(build.contains("SLIPWAY_COMPRESSION") && build.contains(".SH EXAMPLES"), "{build}");
    if let Some(mandoc) = find("mandoc") {
        for entry in std::fs::read_dir(&pages).unwrap() {
            let path = entry.unwrap().path();
            let ended = run(Command::new(&mandoc).args(["-Tlint", "-Werror"]).arg(&path));
            assert_eq!(ended.code(), Some(0), "{}: {}{}", path.display(), ended.stdout, ended.stderr);
        }
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let message = slipway.run(["man", file.to_str().unwrap()]).fails(1);
    assert!(message.contains("FOLDER") && message.contains(file.to_str().unwrap()), "{message}");
}
