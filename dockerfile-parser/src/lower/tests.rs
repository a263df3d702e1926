//! Tables of what lowering makes of each instruction, and of every mistake it finds.

use super::*;
use crate::{ArgDeclaration, CommandLine, Healthcheck, KeyValue, Source, Transfer};
use std::time::Duration;

/// The one instruction after `FROM a`.
fn instruction(text: &str) -> Instruction {
    let recipe =
        parse_recipe(&format!("FROM a\n{text}\n")).unwrap_or_else(|found| panic!("{text}: {found:#?}"));
    let [located] = <[Located; 1]>::try_from(recipe.stages[0].instructions.clone()).expect("one instruction");
    located.instruction
}

fn codes(source: &str) -> Vec<&'static str> {
    parse_recipe(source).err().unwrap_or_default().iter().map(|found| found.code).collect()
}

fn exec(words: &[&str]) -> CommandLine {
    CommandLine::Exec(strings(words))
}

fn shell(text: &str) -> CommandLine {
    CommandLine::Shell(text.to_owned())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pair(key: &str, value: &str, legacy: bool) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), legacy }
}

fn paths(paths: &[&str]) -> Vec<Source> {
    paths.iter().map(|path| Source::Path((*path).to_owned())).collect()
}

#[test]
fn stages() {
    let recipe = parse_recipe(
        "ARG V=1 W\nFROM --platform=$P alpine:$V AS Base\nRUN a\nFROM base\nFROM scratch as x.y-z_1\nRUN b\n",
    )
    .unwrap();
    assert_eq!(recipe.global_args.len(), 1);
    let stages: Vec<_> = recipe
        .stages
        .iter()
        .map(|stage| (stage.index, stage.base.as_str(), stage.name.as_deref(), stage.instructions.len()))
        .collect();
    assert_eq!(
        stages,
        [(0, "alpine:$V", Some("base"), 1), (1, "base", None, 0), (2, "scratch", Some("x.y-z_1"), 1)]
    );
    assert_eq!(recipe.stages[0].name_as_written.as_deref(), Some("Base"));
    assert_eq!(recipe.stages[0].platform.as_deref(), Some("$P"));
    assert_eq!(recipe.stages[0].origin.original, "FROM --platform=$P alpine:$V AS Base");
    assert_eq!(recipe.stages[2].instructions[0].origin.start_line, 6);
}

#[test]
fn plain_instructions() {
    for (text, expected) in [
        ("USER a:b", Instruction::User("a:b".into())),
        ("WORKDIR /a b", Instruction::Workdir("/a b".into())),
        ("STOPSIGNAL 9", Instruction::Stopsignal("9".into())),
        ("MAINTAINER A B", Instruction::Maintainer("A B".into())),
        ("EXPOSE 80 $P/udp", Instruction::Expose(strings(&["80", "$P/udp"]))),
        ("VOLUME [\" /a \", \"/b\"]", Instruction::Volume(strings(&["/a", "/b"]))),
        ("VOLUME /a /b", Instruction::Volume(strings(&["/a", "/b"]))),
        ("SHELL [\"a\", \"-c\"]", Instruction::Shell(strings(&["a", "-c"]))),
        ("CMD []", Instruction::Cmd(exec(&[]))),
        ("CMD [\"a\"]", Instruction::Cmd(exec(&["a"]))),
        ("CMD a b", Instruction::Cmd(shell("a b"))),
        ("CMD", Instruction::Cmd(shell(""))),
        ("ENTRYPOINT [\"a\"]", Instruction::Entrypoint(exec(&["a"]))),
        ("ENV a=b c=\"d\"", Instruction::Env(vec![pair("a", "b", false), pair("c", "\"d\"", false)])),
        ("ENV a b c", Instruction::Env(vec![pair("a", "b c", true)])),
        ("LABEL a=b", Instruction::Label(vec![pair("a", "b", false)])),
        (
            "ARG a b= c=d",
            Instruction::Arg(vec![
                ArgDeclaration { name: "a".into(), default: None },
                ArgDeclaration { name: "b".into(), default: Some(String::new()) },
                ArgDeclaration { name: "c".into(), default: Some("d".into()) },
            ]),
        ),
    ] {
        assert_eq!(instruction(text), expected, "{text}");
    }
}

#[test]
fn transfers() {
    let base = |sources: &[&str], destination: &str| Transfer {
        sources: paths(sources),
        destination: destination.into(),
        ..Transfer::default()
    };
    for (text, expected) in [
        ("COPY a b /c/", Instruction::Copy(base(&["a", "b"], "/c/"))),
        ("COPY [\"a b\", \"/c\"]", Instruction::Copy(base(&["a b"], "/c"))),
        (
            "COPY --from=0 --chown=1:2 --chmod=u+x --link --parents --exclude=a --exclude=*.b x /y",
            Instruction::Copy(Transfer {
                from: Some("0".into()),
                chown: Some("1:2".into()),
                chmod: Some("u+x".into()),
                link: true,
                parents: true,
                exclude: strings(&["a", "*.b"]),
                ..base(&["x"], "/y")
            }),
        ),
        (
            "COPY --link=FALSE --chmod=$M a b",
            Instruction::Copy(Transfer { chmod: Some("$M".into()), ..base(&["a"], "b") }),
        ),
        ("COPY --chown= a b", Instruction::Copy(base(&["a"], "b"))),
        (
            "ADD --checksum=sha256:x --keep-git-dir --unpack=false --exclude=c a b",
            Instruction::Add(Transfer {
                checksum: Some("sha256:x".into()),
                keep_git_dir: Some(true),
                unpack: Some(false),
                exclude: strings(&["c"]),
                ..base(&["a"], "b")
            }),
        ),
    ] {
        assert_eq!(instruction(text), expected, "{text}");
    }
    let Instruction::Copy(copy) = instruction("COPY a <<-E <<'F' /d/\n\t$x\n\tE\nf\nF") else { panic!() };
    let [Source::Path(_), Source::Heredoc(first), Source::Heredoc(second)] = copy.sources.as_slice() else {
        panic!()
    };
    assert_eq!((first.name.as_str(), first.content.as_str(), first.expand), ("E", "$x\n", true));
    assert_eq!((second.name.as_str(), second.content.as_str(), second.expand), ("F", "f\n", false));
}

#[test]
fn spaces_before_a_delimiter() {
    let Instruction::Copy(copy) = instruction("COPY << E a <<- 'F' /d/\ne\nE\n\tf\n\tF") else { panic!() };
    let names: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            Source::Path(path) => path.as_str(),
            Source::Heredoc(heredoc) => heredoc.content.as_str(),
        })
        .collect();
    assert_eq!(names, ["e\n", "a", "f\n"]);
    assert_eq!(run("RUN << E\nx\nE").script.unwrap().content, "x\n");
}

fn run(text: &str) -> crate::Run {
    let Instruction::Run(run) = instruction(text) else { panic!("{text}") };
    run
}

#[test]
fn runs() {
    assert_eq!(run("RUN a && b").command, shell("a && b"));
    assert_eq!(run("RUN [\"a\", \"b\"]").command, exec(&["a", "b"]));
    let full = run(
        "RUN --mount=type=cache,target=/c --mount=target=$T --network=none --security=insecure --device=x a",
    );
    assert_eq!(full.mounts, ["type=cache,target=/c", "target=$T"]);
    assert_eq!((full.network.as_deref(), full.security.as_deref()), (Some("none"), Some("insecure")));
    assert_eq!(full.devices, ["x"]);

    let script = run("RUN <<-E\n\techo a\n\tE");
    assert_eq!(script.script.unwrap().content, "echo a\n");
    assert_eq!(script.command, shell("echo a\n"));
    assert_eq!(script.heredocs[0].content, "\techo a\n");

    let rebuilt = run("RUN cat <<A > f && cat <<-B\na\nA\n\tb\n\tB");
    assert_eq!(rebuilt.script, None);
    assert_eq!(rebuilt.command, shell("cat <<A > f && cat <<-B\na\nA\n\tb\nB"));
    assert_eq!(run("RUN python3 <<EOF\nprint(1)\nEOF").command, shell("python3 <<EOF\nprint(1)\nEOF"));
    assert_eq!(run("RUN <<A <<B\na\nA\nb\nB").script, None);
}

#[test]
fn healthchecks() {
    assert_eq!(instruction("HEALTHCHECK NONE"), Instruction::Healthcheck(Healthcheck::None));
    let text = "HEALTHCHECK --interval=1m30s --timeout=5s --start-period=0s --start-interval=1ms --retries=4 CMD a b";
    let expected = Healthcheck::Command {
        command: shell("a b"),
        interval: Some(Duration::from_secs(90)),
        timeout: Some(Duration::from_secs(5)),
        start_period: Some(Duration::ZERO),
        start_interval: Some(Duration::from_millis(1)),
        retries: Some(4),
    };
    assert_eq!(instruction(text), Instruction::Healthcheck(expected));
    let Instruction::Healthcheck(Healthcheck::Command { command, retries, .. }) =
        instruction("HEALTHCHECK cmd [\"a\", \"b\"]")
    else {
        panic!()
    };
    assert_eq!((command, retries), (exec(&["a", "b"]), None));
}

#[test]
fn triggers() {
    let Instruction::Onbuild(onbuild) = instruction("onbuild  COPY <<E /x\n$a\nE") else { panic!() };
    assert_eq!(onbuild.text, "COPY <<E /x\n$a\nE");
    assert!(matches!(onbuild.instruction.as_deref(), Some(Instruction::Copy(_))));

    let located = parse_onbuild(&onbuild.text, '\\').unwrap();
    let content = |instruction: &Instruction| match instruction {
        Instruction::Copy(Transfer { sources, .. }) => match &sources[0] {
            Source::Heredoc(heredoc) => heredoc.content.clone(),
            Source::Path(path) => panic!("{path}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(content(&located.instruction), content(&onbuild.instruction.unwrap()));
    assert_eq!(located.origin.end_line, 3);
    assert!(matches!(parse_onbuild("RUN a `\n b", '`').unwrap().instruction, Instruction::Run(_)));
    for (text, code) in [
        ("", "E0101"),
        ("FROM a", "E0307"),
        ("ONBUILD RUN x", "E0307"),
        ("MAINTAINER x", "E0307"),
        ("RUN a\nRUN b", "E0112"),
        ("RUM a", "E0104"),
        ("COPY a", "E0301"),
    ] {
        assert_eq!(parse_onbuild(text, '\\').unwrap_err()[0].code, code, "{text}");
    }
}

#[test]
fn mistakes() {
    for (source, expected) in [
        ("RUN a\nFROM b", vec!["E0401"]),
        ("RUN a\nRUN b\nFROM c", vec!["E0401"]),
        ("ARG a", vec!["E0404"]),
        ("FROM", vec!["E0301"]),
        ("FROM a b", vec!["E0403"]),
        ("FROM a AS", vec!["E0403"]),
        ("FROM a AZ b", vec!["E0403"]),
        ("FROM a AS b c", vec!["E0403"]),
        ("FROM a # comment", vec!["E0403"]),
        ("FROM a AS 1b", vec!["E0402"]),
        ("FROM a AS b/c", vec!["E0402"]),
        ("FROM a AS ünder", vec!["E0402"]),
        ("FROM --plattform=x a", vec!["E0201"]),
        ("FROM a --platform=x", vec!["E0403"]),
        ("FROM a\nRUN --network=none []", vec!["E0301"]),
        ("FROM a\nRUN []", vec!["E0301"]),
        ("FROM a\nCOPY", vec!["E0301"]),
        ("FROM a\nCOPY b", vec!["E0301"]),
        ("FROM a\nCOPY [\"b\"]", vec!["E0301"]),
        ("FROM a\nCOPY b <<E\nE", vec!["E0305"]),
        ("FROM a\nCOPY --from=$b c d", vec!["E0208"]),
        ("FROM a\nCOPY --chmod=rwx c d", vec!["E0205"]),
        ("FROM a\nCOPY --chmod=99 c d", vec!["E0205"]),
        ("FROM a\nCOPY --form=x c d", vec!["E0201"]),
        ("FROM a\nCOPY --checksum=x c d", vec!["E0201"]),
        ("FROM a\nCOPY --link --link c d", vec!["E0202"]),
        ("FROM a\nCOPY --link= c d", vec!["E0203"]),
        ("FROM a\nCOPY --link=yes c d", vec!["E0204"]),
        ("FROM a\nCOPY --from x c d", vec!["E0203"]),
        ("FROM a\nRUN --mount=type=bnd,target=/x b", vec!["E0207"]),
        ("FROM a\nRUN --mount=trget=/x b", vec!["E0207"]),
        ("FROM a\nRUN --mount=target=/x,from=$y b", vec!["E0208"]),
        ("FROM a\nRUN --network=hots b", vec!["E0205"]),
        ("FROM a\nRUN --security=none b", vec!["E0205"]),
        ("FROM a\nENV", vec!["E0301"]),
        ("FROM a\nENV =b", vec!["E0304"]),
        ("FROM a\nARG", vec!["E0301"]),
        ("FROM a\nARG =b", vec!["E0304"]),
        ("FROM a\nLABEL", vec!["E0301"]),
        ("FROM a\nUSER", vec!["E0301"]),
        ("FROM a\nUSER --x y", vec!["E0201"]),
        ("FROM a\nWORKDIR", vec!["E0301"]),
        ("FROM a\nEXPOSE", vec!["E0301"]),
        ("FROM a\nVOLUME", vec!["E0301"]),
        ("FROM a\nVOLUME []", vec!["E0301"]),
        ("FROM a\nVOLUME [\"\"]", vec!["E0308"]),
        ("FROM a\nSTOPSIGNAL", vec!["E0301"]),
        ("FROM a\nMAINTAINER", vec!["E0301"]),
        ("FROM a\nSHELL", vec!["E0301"]),
        ("FROM a\nSHELL []", vec!["E0301"]),
        ("FROM a\nSHELL sh -c", vec!["E0303"]),
        ("FROM a\nHEALTHCHECK", vec!["E0301"]),
        ("FROM a\nHEALTHCHECK CMD", vec!["E0301"]),
        ("FROM a\nHEALTHCHECK CMD []", vec!["E0301"]),
        ("FROM a\nHEALTHCHECK NONE x", vec!["E0302"]),
        ("FROM a\nHEALTHCHECK curl x", vec!["E0306"]),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", vec!["E0206"]),
        ("FROM a\nHEALTHCHECK --interval=-5s CMD x", vec!["E0206"]),
        ("FROM a\nHEALTHCHECK --timeout=1us CMD x", vec!["E0206"]),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", vec!["E0205"]),
        ("FROM a\nHEALTHCHECK --retries=many CMD x", vec!["E0205"]),
        ("FROM a\nONBUILD", vec!["E0301"]),
        ("FROM a\nONBUILD FROM b", vec!["E0307"]),
        ("FROM a\nONBUILD onbuild RUN b", vec!["E0307"]),
        ("FROM a\nONBUILD MAINTAINER b", vec!["E0307"]),
        ("FROM a\nONBUILD CMD [1]", vec!["E0109"]),
        ("FROM a\nONBUILD ENV b", vec!["E0110"]),
        ("FROM a\nONBUILD --x RUN b", vec!["E0201"]),
        ("FROM a\nCMD [1]\nCOPY b\nRUM", vec!["E0109", "E0301", "E0104"]),
    ] {
        assert_eq!(codes(source), expected, "{source:?}");
    }
}

/// What BuildKit takes when it is written, and what is only told of it.
#[test]
fn tolerated() {
    for (source, code) in [
        ("FROM a\nRUN", "W0503"),
        ("FROM a\nRUN --network=none", "W0503"),
        ("FROM a\nONBUILD COPY b", "W0506"),
        ("FROM a\nONBUILD RUM b", "W0506"),
        ("FROM a\nONBUILD RUM", "W0506"),
        ("FROM a\nONBUILD EXPOSE", "W0506"),
        ("FROM a\nONBUILD COPY --form=x c d", "W0506"),
        ("FROM a\nONBUILD RUN --mount=trget=/x b", "W0506"),
        ("FROM a\nONBUILD RUN", "W0503"),
        ("FROM a\nONBUILD RUN []", "W0506"),
        ("FROM a\nONBUILD SHELL sh", "W0506"),
    ] {
        let parsed = parse(source);
        let lowered = lower(&parsed.file);
        let all: Vec<_> = parsed.diagnostics.iter().chain(&lowered.diagnostics).collect();
        assert_eq!(all.iter().map(|found| found.code).collect::<Vec<_>>(), [code], "{source:?}");
        let recipe = parse_recipe(source).unwrap();
        assert_eq!(recipe.stages[0].instructions.len(), 1, "{source:?}");
        if let Instruction::Onbuild(onbuild) = &recipe.stages[0].instructions[0].instruction {
            let text = source.strip_prefix("FROM a\nONBUILD ").unwrap();
            assert_eq!(onbuild.text, text);
            assert_eq!(onbuild.instruction.is_none(), code == "W0506", "{source:?}");
            assert_eq!(parse_onbuild(text, '\\').is_err(), code == "W0506", "{source:?}");
        }
    }
}

#[test]
fn warnings_do_not_stop() {
    let parsed = parse("FROM a\nCOPY --chown= b c\nCMD\nRUN d \\\n\n e\n");
    let lowered = lower(&parsed.file);
    let codes = |found: &[Diagnostic]| found.iter().map(|found| found.code).collect::<Vec<_>>();
    assert_eq!(codes(&parsed.diagnostics), ["W0501"]);
    assert_eq!(codes(&lowered.diagnostics), ["W0504", "W0503"]);
    assert!(parse_recipe("FROM a\nCMD\n").is_ok());
}
