use super::*;
use std::collections::HashMap;

fn lowered(source: &str, files: &[(&str, &str)]) -> Result<Lowered, Vec<Diagnostic>> {
    let files: HashMap<_, _> = files.iter().copied().collect();
    let mut loader = |path: &str| {
        files.get(path).map(|text| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    };
    lower(&format!("# slipway: extensions\n{source}"), &mut loader)
}

#[track_caller]
fn becomes(source: &str, files: &[(&str, &str)], expected: &str) {
    let text = lowered(source, files).unwrap().text;
    let rest = text.strip_prefix("# lowered from a recipe with slipway extensions\n").unwrap();
    assert_eq!(rest, expected, "{source:?}");
    assert!(!parse(&text).has_errors(), "{text}");
    assert_eq!(lower(&text, &mut |_| unreachable!()).unwrap().text, text, "not settled");
}

#[track_caller]
fn fails(source: &str, files: &[(&str, &str)], code: &str, message: &str) {
    let found = lowered(source, files).unwrap_err();
    assert_eq!((found[0].code, found[0].message.as_str()), (code, message), "{source:?}");
}

#[test]
fn without_the_marker() {
    let plain = "FROM a\nRUN INCLUDE x\n";
    assert_eq!(lower(plain, &mut |_| unreachable!()).unwrap().text, plain);
    for source in ["FROM a\nINCLUDE b\n", "FROM a\nUNSET cmd\n", "FROM a\nCOPY --optional a b\n"] {
        let found = lower(source, &mut |_| unreachable!()).unwrap_err();
        assert_eq!(found[0].code, "E0701");
        assert!(found[0].hint.as_deref().unwrap().contains("# slipway: extensions"));
    }
    // After the first instruction the marker is an ordinary comment.
    assert!(lower("FROM a\n# slipway: extensions\nUNSET cmd\n", &mut |_| unreachable!()).is_err());
}

#[test]
fn includes() {
    let files: &[(&str, &str)] = &[
        ("a.inc", "RUN a\nINCLUDE d/b.inc"),
        ("d/b.inc", "# escape=\\\n# b\nRUN <<E\nb\nE"),
        ("loop.inc", "INCLUDE loop2.inc\n"),
        ("loop2.inc", "\nINCLUDE ./loop.inc\n"),
        ("open.inc", "RUN <<E\nx\n"),
        ("half.inc", "RUN a \\\n"),
        ("tick.inc", "# escape=`\nRUN a\n"),
        ("bad.inc", "RUN a\nRUM b\n"),
        ("empty.inc", "# nothing\n"),
    ];
    becomes("FROM x\ninclude ./a.inc\nRUN c\n", files, "FROM x\nRUN a\n# b\nRUN <<E\nb\nE\nRUN c\n");
    becomes("FROM x\nINCLUDE d/../a.inc\n", files, "FROM x\nRUN a\n# b\nRUN <<E\nb\nE\n");
    becomes("FROM x\nINCLUDE empty.inc\nRUN b\n", files, "FROM x\n# nothing\nRUN b\n");
    fails(
        "INCLUDE loop.inc\n",
        files,
        "E0704",
        "`loop2.inc` line 2: `loop.inc` includes itself, through loop.inc and loop2.inc",
    );
    fails("INCLUDE open.inc\n", files, "E0705", "`open.inc` line 1: heredoc `E` is not closed");
    fails(
        "INCLUDE half.inc\n",
        files,
        "E0705",
        "`half.inc` line 1: its last instruction is not finished: it ends in a continuation",
    );
    fails(
        "INCLUDE tick.inc\n",
        files,
        "E0705",
        "`tick.inc` line 1: its escape character differs from the recipe's, which is `\\`",
    );
    fails("INCLUDE bad.inc\n", files, "E0705", "`bad.inc` line 2: unknown instruction `RUM`");
    fails("INCLUDE gone.inc\n", files, "E0703", "cannot include `gone.inc`: entity not found");
    fails("INCLUDE ../x\n", files, "E0702", "`../x` leads out of the context");
    fails("INCLUDE /x\n", files, "E0702", "`/x` is not relative to the context");
    fails("INCLUDE\n", files, "E0702", "INCLUDE takes exactly one path");
    fails("INCLUDE $x\n", files, "E0702", "`$x` holds a variable, which INCLUDE does not expand");
    fails("FROM a\nONBUILD INCLUDE a\n", files, "E0710", "extensions cannot stand inside ONBUILD");
}

#[test]
fn includes_are_bounded() {
    let mut deep = |path: &str| Ok(format!("INCLUDE {path}x\n"));
    let found = lower("# slipway: extensions\nINCLUDE a\n", &mut deep).unwrap_err();
    assert_eq!(found[0].code, "E0704");
    let mut wide = |_: &str| Ok("RUN a\n".to_owned());
    let many = format!("# slipway: extensions\n{}", "INCLUDE a\n".repeat(MAX_INCLUDES + 1));
    assert_eq!(lower(&many, &mut wide).unwrap_err()[0].code, "E0704");
    let mut long = |_: &str| Ok(format!("# {}\n", "x".repeat(60_000)).repeat(70));
    let many = format!("# slipway: extensions\n{}", "INCLUDE a\n".repeat(6));
    assert_eq!(lower(&many, &mut long).unwrap_err()[0].code, "E0704");
}

#[test]
fn variables_in_from() {
    becomes(
        "ARG X=alpine\nFROM a AS one\nRUN a\n# two\nFROM b\nCOPY --from=${X} /a /b\nCOPY --from=$X:3 --link /a /b\nCOPY --from=${X} /c /d\nCOPY --from=0 a b\n",
        &[],
        "ARG X=alpine\nFROM a AS one\nRUN a\nFROM ${X} AS slipway-from-1\nFROM $X:3 AS slipway-from-2\n# two\nFROM b\nCOPY --from=slipway-from-1 /a /b\nCOPY --from=slipway-from-2 --link /a /b\nCOPY --from=slipway-from-1 /c /d\nCOPY --from=0 a b\n",
    );
    becomes(
        "ARG X\nFROM a\nCOPY --from=$X a b\nFROM c\nCOPY --from=0 a b\nRUN --mount=type=bind,from=0,target=/t x\n",
        &[],
        "ARG X\nFROM $X AS slipway-from-1\nFROM a\nCOPY --from=slipway-from-1 a b\nFROM c\nCOPY --from=1 a b\nRUN --mount=type=bind,from=1,target=/t x\n",
    );
    fails("FROM a\nCOPY --from=$X a b\n", &[], "E0706", "`X` in `--from` is no global argument");
    fails(
        "ARG X\nFROM a\nENV X=y\nCOPY --from=$X a b\n",
        &[],
        "E0706",
        "`X` in `--from` gets another value in this stage",
    );
    fails("ARG X\nFROM a\nCOPY --from=${X a b\n", &[], "E0706", "`--from=${X`: `${` is not closed by `}`");
}

#[test]
fn optional_sources() {
    for (source, expected) in [
        ("COPY --optional a /b", "COPY [a] /b"),
        ("COPY --link --optional  ./dir/f.txt .env /b", "COPY --link ./[d]ir/f.txt .[e]nv /b"),
        ("COPY --optional=false a /b", "COPY a /b"),
        ("COPY --optional . *.x /b", "COPY . *.x /b"),
        ("COPY --optional ${D}/f /b", "COPY ${D}/[f] /b"),
        ("COPY --optional $D/f /b", "COPY $D/[f] /b"),
        ("COPY --optional [\"a b\", \"/c\"]", "COPY [\"[a] b\", \"/c\"]"),
        ("COPY --optional \\\n  a \\\n  /b", "COPY \\\n  [a] \\\n  /b"),
    ] {
        becomes(&format!("FROM a\n{source}\n"), &[], &format!("FROM a\n{expected}\n"));
    }
    becomes("FROM a\nCOPY --optional <<E a /b/\nx\nE\n", &[], "FROM a\nCOPY <<E [a] /b/\nx\nE\n");
    fails(
        "FROM a\nCOPY --optional --optional=false a /b\n",
        &[],
        "E0707",
        "flag `--optional` is given twice",
    );
    fails("FROM a\nCOPY --optional ${X} /b\n", &[], "E0707", "`${X}` cannot be made optional");
}

#[test]
fn unset() {
    for (source, expected) in [
        ("UNSET env A B", "ENV A= B="),
        ("unset label a.b/c", "LABEL a.b/c="),
        ("UNSET Entrypoint", "ENTRYPOINT []"),
        ("UNSET cmd", "CMD []"),
        ("UNSET user", "USER root"),
        ("UNSET workdir", "WORKDIR /"),
        ("UNSET healthcheck", "HEALTHCHECK NONE"),
        ("UNSET stopsignal", "STOPSIGNAL SIGTERM"),
        ("UNSET shell", "SHELL [\"/bin/sh\", \"-c\"]"),
    ] {
        becomes(&format!("FROM a\n{source}\n"), &[], &format!("FROM a\n{expected}\n"));
    }
    for (source, code) in [
        ("UNSET", "E0708"),
        ("UNSET envs A", "E0708"),
        ("UNSET env", "E0708"),
        ("UNSET env A=b", "E0708"),
        ("UNSET cmd x", "E0708"),
        ("UNSET volume /x", "E0709"),
        ("UNSET expose 80", "E0709"),
        ("UNSET onbuild", "E0709"),
        ("ONBUILD COPY --optional a b", "E0710"),
    ] {
        assert_eq!(lowered(&format!("FROM a\n{source}\n"), &[]).unwrap_err()[0].code, code, "{source}");
    }
}

#[test]
fn lines_and_places_lead_back() {
    let source = "# slipway: extensions\nFROM x\nINCLUDE a.inc\n  UNSET volume /y\n";
    let lowered = lower(&source.replace("  UNSET volume /y\n", "RUN --bogus c\n"), &mut |_| {
        Ok("RUN a\nRUN --bad b\n".to_owned())
    });
    let lowered = lowered.unwrap();
    let lines: Vec<_> =
        lowered.source_map.iter().map(|origin| (origin.path.as_deref(), origin.line)).collect();
    assert_eq!(lines, [(None, 1), (None, 2), (Some("a.inc"), 1), (Some("a.inc"), 2), (None, 4)]);
    let judged = crate::lower(&parse(&lowered.text).file).diagnostics;
    let found: Vec<_> = judged.iter().map(|found| lowered.translate(found, source)).collect();
    assert_eq!(found[0].message, "`a.inc` line 2: RUN has no flag `--bad`");
    assert_eq!((found[0].span.line, found[1].span.line, found[1].span.column), (3, 4, 5));
    let found = lower(source, &mut |_| Ok("RUN a\nRUN b\n".to_owned())).unwrap_err();
    assert_eq!(&source[found[0].span.start..found[0].span.end], "UNSET volume /y");
}

#[test]
fn hostile_recipes_take_linear_time() {
    let many = format!("ARG X\nFROM a\n{}", "COPY --optional --from=$X a b\nUNSET cmd\n".repeat(20_000));
    assert_eq!(lowered(&many, &[]).unwrap().source_map.len(), 40_004);
    let many: String = (0..200).map(|number| format!("COPY --from=$X:{number} a b\n")).collect();
    fails(
        &format!("ARG X\nFROM a\n{many}"),
        &[],
        "E0706",
        "more than 100 different images are named with variables",
    );
}

#[test]
fn the_page_has_every_code() {
    let page = include_str!("../../../docs/extensions.md");
    for (code, meaning) in CODES {
        assert!(page.contains(&format!("| {code} | {meaning} |")), "{code}");
    }
}
