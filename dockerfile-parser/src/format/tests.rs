use super::*;

#[track_caller]
fn becomes(source: &str, expected: &str) {
    let tidy = format(source).unwrap();
    assert_eq!(tidy, expected, "{source:?}");
    assert_eq!(format(&tidy).unwrap(), tidy, "not settled: {source:?}");
    assert!(same_meaning(&parse(source).file, &parse(&tidy).file));
}

#[test]
fn words_and_keywords() {
    for (source, expected) in [
        ("from   alpine:3   as  base", "FROM alpine:3 AS base\n"),
        ("FROM a\nrun  echo   'a  b'  \n", "FROM a\nRUN echo   'a  b'\n"),
        ("copy   --link\t--from=x  a   b", "COPY --link --from=x a b\n"),
        ("CMD [ \"a\",\"b\" ,  \"c d\" ]", "CMD [\"a\", \"b\", \"c d\"]\n"),
        ("CMD [ ]", "CMD []\n"),
        ("ENTRYPOINT   []", "ENTRYPOINT []\n"),
        ("healthcheck  --interval=5s   cmd  curl  x", "HEALTHCHECK --interval=5s CMD curl  x\n"),
        ("HEALTHCHECK none", "HEALTHCHECK NONE\n"),
        ("HEALTHCHECK CMD [\"a\"]", "HEALTHCHECK CMD [\"a\"]\n"),
        ("ENV  a=1   b=\"x  y\"", "ENV a=1 b=\"x  y\"\n"),
        ("ENV  old   way  of it", "ENV old way  of it\n"),
        ("onbuild   run   echo  a", "ONBUILD RUN echo  a\n"),
        ("onbuild copy  a   b", "ONBUILD COPY a b\n"),
        ("RUN -- x", "RUN -- x\n"),
        ("COPY  --link  --  --x   y", "COPY --link -- --x y\n"),
        ("WORKDIR   /a  b", "WORKDIR /a  b\n"),
        ("ARG  a=1   b", "ARG a=1 b\n"),
    ] {
        becomes(source, expected);
    }
}

#[test]
fn lines_between_instructions() {
    for (source, expected) in [
        ("\n\n\nFROM a\n\n\n\nRUN b\n\n\n", "FROM a\n\nRUN b\n"),
        ("FROM a\nRUN b\nFROM c", "FROM a\nRUN b\n\nFROM c\n"),
        ("FROM a\n# one\n# two\nFROM c", "FROM a\n\n# one\n# two\nFROM c\n"),
        ("FROM a\n# one\n\n# two\nFROM c", "FROM a\n# one\n\n# two\nFROM c\n"),
        ("FROM a\n\n# one\nFROM c", "FROM a\n\n# one\nFROM c\n"),
        ("ARG x\nFROM a", "ARG x\nFROM a\n"),
        ("  # c  \n   FROM a", "# c\nFROM a\n"),
        ("# syntax=x\n#no change\nFROM a", "# syntax=x\n#no change\nFROM a\n"),
        ("\n\n# escape=`\nFROM a", "\n# escape=`\nFROM a\n"),
        ("\n\n# words\nFROM a", "# words\nFROM a\n"),
        ("\u{feff}from a", "\u{feff}FROM a\n"),
    ] {
        becomes(source, expected);
    }
}

#[test]
fn continued_lines() {
    for (source, expected) in [
        ("COPY a \\\n  b \\  \n\tc", "COPY a \\\n    b \\\n    c\n"),
        ("COPY a\\\n b", "COPY a \\\n    b\n"),
        ("ENV a=1 \\\n\n # why\n b=2", "ENV a=1 \\\n    # why\n    b=2\n"),
        ("RUN a \\  \n  && b", "RUN a \\\n  && b\n"),
        ("RUN a \\\n\n\n# c\n  b", "RUN a \\\n    # c\n  b\n"),
        ("RUN \\\n a", "RUN \\\n    a\n"),
        (
            "RUN --mount=type=tmpfs,target=/t \\\n--network=none \\\n a \\\n b",
            "RUN --mount=type=tmpfs,target=/t \\\n    --network=none \\\n    a \\\n b\n",
        ),
        ("CMD [ \\\n\"a\", \\\n \"b\" \\\n]", "CMD [ \\\n    \"a\", \\\n    \"b\" \\\n    ]\n"),
        ("LABEL a=\"x \\\n  y\"", "LABEL a=\"x \\\n  y\"\n"),
        ("# escape=`\nCOPY a `\n b", "# escape=`\nCOPY a `\n    b\n"),
        ("RUN a \\", "RUN a\n"),
        ("RU\\\nN a", "RU\\\nN a\n"),
        ("RUN a \\\n# end", "RUN a \\\n# end\n"),
    ] {
        becomes(source, expected);
    }
}

#[test]
fn heredocs_stay() {
    for (source, expected) in [
        ("run   <<EOF\n  a   \n\n\n\tb\nEOF", "RUN <<EOF\n  a   \n\n\n\tb\nEOF\n"),
        ("copy  <<a   <<-b  /x/\n 1 \na\n\t2\n\tb\nrun c", "COPY <<a <<-b /x/\n 1 \na\n\t2\n\tb\nRUN c\n"),
        ("RUN cat <<A > f\n# no comment \\\nA\n", "RUN cat <<A > f\n# no comment \\\nA\n"),
        ("COPY  <<\"a  b\" /x\n1\na  b\n", "COPY  <<\"a  b\" /x\n1\na  b\n"),
    ] {
        becomes(source, expected);
    }
}

#[test]
fn carriage_returns_stay() {
    becomes("from a\r\nrun b \\\r\n  c\r\n\r\n\r\nrun d", "FROM a\r\nRUN b \\\r\n  c\r\n\r\nRUN d\r\n");
    becomes("run <<A\r\nx \r\nA\r\n", "RUN <<A\r\nx \r\nA\r\n");
}

#[test]
fn shell_lines_are_indented_on_request() {
    let style = Style { indent_shell: true };
    for (source, expected) in [
        ("RUN a && \\\nb \\\n\t\t&& c", "RUN a && \\\n    b \\\n    && c\n"),
        ("RUN a 'x \\\n y' \\\n  z", "RUN a 'x \\\n y' \\\n    z\n"),
        ("RUN a\\\nb", "RUN a\\\nb\n"),
        ("RUN a $(x \\\n y)", "RUN a $(x \\\n y)\n"),
        ("RUN \"a\\\" \\\n y\" \\\n z", "RUN \"a\\\" \\\n y\" \\\n    z\n"),
        ("SHELL [\"cmd\"]\nRUN a \\\n b", "SHELL [\"cmd\"]\nRUN a \\\n b\n"),
        ("# escape=`\nRUN a `\n b", "# escape=`\nRUN a `\n b\n"),
    ] {
        let tidy = format_with(source, style).unwrap();
        assert_eq!(tidy, expected, "{source:?}");
        assert_eq!(format_with(&tidy, style).unwrap(), tidy);
    }
}

#[test]
fn broken_files_are_refused() {
    for (source, code) in [("", "E0101"), ("FROM a\nRUM b", "E0104"), ("RUN <<A\nx", "E0108")] {
        let found = format(source).unwrap_err();
        assert_eq!(found[0].code, code);
        assert!(found.iter().all(Diagnostic::is_error));
    }
    assert!(format("FROM a\nINCLUDE b\n").is_err());
    let extended = "# slipway: extensions\nFROM a\ninclude   b\nunset  env  A   B\n";
    assert_eq!(format(extended).unwrap(), "# slipway: extensions\nFROM a\nINCLUDE b\nUNSET env A B\n");
}

#[test]
fn hostile_files_take_linear_time() {
    for source in
        ["#\n".repeat(200_000) + "FROM a\n", "FROM a\n# x\n".repeat(30_000), "RUN a \\\n# c\n".repeat(50_000)]
    {
        assert!(format(&source).is_ok());
    }
}
