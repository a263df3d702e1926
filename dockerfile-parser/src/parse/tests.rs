//! Tables of what parsing makes of text.

use super::*;
use crate::json;
use serde_json::{Value, json};

fn only(source: &str) -> Node {
    let parsed = parse(source);
    assert!(!parsed.has_errors(), "{source:?}: {:?}", parsed.diagnostics);
    let [node] = <[Node; 1]>::try_from(parsed.file.nodes).expect("one instruction");
    node
}

fn codes(source: &str) -> Vec<&'static str> {
    parse(source).diagnostics.iter().map(|found| found.code).collect()
}

fn texts(words: &[crate::Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

/// A compact form: keyword, flags, args (or pairs), `json` as a leading `[]`.
fn brief(node: &Node) -> String {
    let mut parts = vec![node.keyword.clone()];
    parts.extend(node.flags.iter().map(|flag| format!("{{{}}}", flag.text)));
    if node.json {
        parts.push("[]".to_owned());
    }
    parts.extend(node.args.iter().map(|arg| format!("<{}>", arg.text)));
    parts.extend(node.pairs.iter().map(|pair| format!("<{}|{}|{}>", pair.key, pair.separator, pair.value)));
    if let Some(child) = &node.child {
        parts.push(format!("({})", brief(child)));
    }
    parts.join(" ")
}

#[test]
fn every_instruction() {
    for (source, expected) in [
        ("FROM alpine", "from <alpine>"),
        ("from --platform=linux/arm64 alpine AS base", "from {--platform=linux/arm64} <alpine> <AS> <base>"),
        ("RUN echo  a   b", "run <echo  a   b>"),
        ("RUN [\"a\", \"b c\"]", "run [] <a> <b c>"),
        ("RUN ['a']", "run <['a']>"),
        ("RUN", "run"),
        ("CMD []", "cmd []"),
        ("CMD [ \"a\" ] ", "cmd [] <a>"),
        ("CMD [ \"a\" ] x", "cmd <[ \"a\" ] x>"),
        ("ENTRYPOINT top -b", "entrypoint <top -b>"),
        ("SHELL [\"sh\", \"-c\"]", "shell [] <sh> <-c>"),
        ("COPY a b /c/", "copy <a> <b> </c/>"),
        ("COPY --from=x --link a b", "copy {--from=x} {--link} <a> <b>"),
        ("COPY [\"a b\", \"/c\"]", "copy [] <a b> </c>"),
        ("COPY [\"a b\", /c]", "copy <[\"a> <b\",> </c]>"),
        ("ADD https://x/y /z", "add <https://x/y> </z>"),
        ("VOLUME /a /b", "volume </a> </b>"),
        ("VOLUME [\"/a\"]", "volume [] </a>"),
        ("EXPOSE 80 53/udp", "expose <80> <53/udp>"),
        ("ARG a b=c d=\"e f\"", "arg <a> <b=c> <d=\"e f\">"),
        ("ARG a=x\\ y", "arg <a=x\\ y>"),
        ("ENV a=b", "env <a|=|b>"),
        ("ENV a=b c='d e' f=g\\ h", "env <a|=|b> <c|=|'d e'> <f|=|g\\ h>"),
        ("ENV a b  c ", "env <a||b  c>"),
        ("ENV a\tb=c", "env <a||b=c>"),
        ("ENV a=", "env <a|=|>"),
        ("ENV a=b=c", "env <a|=|b=c>"),
        ("ENV \"a b\"=c", "env <\"a b\"|=|c>"),
        ("LABEL \"com.x\"=\"y\" z=1", "label <\"com.x\"|=|\"y\"> <z|=|1>"),
        ("USER a:b c", "user <a:b c>"),
        ("WORKDIR /a b", "workdir </a b>"),
        ("STOPSIGNAL SIGTERM", "stopsignal <SIGTERM>"),
        ("MAINTAINER Some One <a@b>", "maintainer <Some One <a@b>>"),
        ("HEALTHCHECK none", "healthcheck <NONE>"),
        ("HEALTHCHECK --retries=3 cmd curl  x", "healthcheck {--retries=3} <CMD> <curl  x>"),
        ("HEALTHCHECK CMD [\"a\", \"b\"]", "healthcheck [] <CMD> <a> <b>"),
        ("ONBUILD RUN --network=none make", "onbuild (run {--network=none} <make>)"),
        ("ONBUILD COPY [\"a\", \"b\"]", "onbuild (copy [] <a> <b>)"),
        ("ONBUILD ONBUILD RUN x", "onbuild (onbuild (run <x>))"),
        ("ONBUILD", "onbuild"),
    ] {
        assert_eq!(brief(&only(source)), expected, "{source}");
    }
}

#[test]
fn flags_are_words_without_quotes_and_escapes() {
    for (rest, flags, args) in [
        ("--a --b=c x", vec!["--a", "--b=c"], "x"),
        ("--a=\"b c\" x", vec!["--a=b c"], "x"),
        ("--a='b \"c' x", vec!["--a=b \"c"], "x"),
        ("--a=b\\ c x", vec!["--a=b c"], "x"),
        ("--a=\"b\\\"c\" x", vec!["--a=b\"c"], "x"),
        ("-- --a x", vec![], "--a x"),
        ("--a -- --b", vec!["--a"], "--b"),
        ("-a x", vec![], "-a x"),
        ("x --a", vec![], "x --a"),
        ("--a=\"never closed", vec!["--a=never closed"], ""),
        ("--a=b\\", vec!["--a=b"], ""),
        ("--\u{e9}=\u{e7} x", vec!["--\u{e9}=\u{e7}"], "x"),
    ] {
        let node = parse(&format!("RUN {rest}")).file.nodes.remove(0);
        assert_eq!(texts(&node.flags), flags, "{rest}");
        assert_eq!(texts(&node.args).join(""), args, "{rest}");
    }
    // The escape directive does not change the escape in flags.
    let node = parse("# escape=`\nRUN --a=b\\ c x").file.nodes.remove(0);
    assert_eq!(texts(&node.flags), ["--a=b c"]);
}

#[test]
fn words_end_where_peers_end_them() {
    for (rest, escape, expected) in [
        ("a 'b c' d", '\\', vec!["a", "'b c'", "d"]),
        ("a=\"b \\\" c\" d", '\\', vec!["a=\"b \\\" c\"", "d"]),
        ("a='b\\' c", '\\', vec!["a='b\\'", "c"]),
        ("a\\ b", '\\', vec!["a\\ b"]),
        ("a\\", '\\', vec!["a"]),
        ("a \\", '\\', vec!["a"]),
        ("\"a b", '\\', vec!["\"a b"]),
        ("\"a b\\", '\\', vec!["\"a b"]),
        ("a` b", '`', vec!["a` b"]),
        ("a\\ b", '`', vec!["a\\", "b"]),
        ("\"\" ''", '\\', vec!["\"\"", "''"]),
        ("a\u{a0}b", '\\', vec!["a", "b"]),
    ] {
        let found: Vec<_> = words::quoted_words(rest, escape).into_iter().map(|(word, _)| word).collect();
        assert_eq!(found, expected, "{rest}");
    }
}

#[test]
fn continuations_join_lines() {
    for (source, expected) in [
        ("RUN a \\\n  b", "run <a   b>"),
        ("RUN a \\  \t\n b", "run <a  b>"),
        ("RUN a \\\r\n b\r\n", "run <a  b>"),
        ("RUN a \\\n# comment\n  # another\n b", "run <a  b>"),
        ("RUN a \\\n# comment \\\n b", "run <a  b>"),
        ("RUN a \\\n\n\n b", "run <a  b>"),
        ("RUN a \\", "run <a>"),
        ("RUN a \\\n", "run <a>"),
        ("RUN a \\\n# end", "run <a>"),
        ("RU\\\nN a", "run <a>"),
        ("\\\nRUN a", "run <a>"),
        ("RUN 'a \\\n   b'", "run <'a    b'>"),
        ("RUN a # b \\\n c", "run <a # b  c>"),
        ("# escape=`\nRUN a `\n b", "run <a  b>"),
        ("# escape=`\nRUN a \\", "run <a \\>"),
        ("RUN a `", "run <a `>"),
        ("ENV a=1 \\\n    b=2", "env <a|=|1> <b|=|2>"),
        ("  \t RUN a", "run <a>"),
        ("\u{feff}RUN a", "run <a>"),
        ("RUN a \\\\", "run <a \\\\>"),
    ] {
        assert_eq!(brief(&only(source)), expected, "{source:?}");
    }
    let nodes = parse("RUN a \\\\\nRUN b").file.nodes;
    assert_eq!(nodes.len(), 2, "two escape characters do not continue");
}

#[test]
fn lines_and_spans() {
    let source = "# c\n\nFROM a\nRUN b \\\n # x\n  cç d\nCOPY --link \\\n  e /f\n";
    let file = parse(source).file;
    let lines: Vec<_> = file.nodes.iter().map(|node| (node.start_line, node.end_line)).collect();
    assert_eq!(lines, [(3, 3), (4, 6), (7, 8)]);
    assert_eq!(file.nodes[1].original, "RUN b   cç d");
    let written = |span: Span| &source[span.start..span.end];
    assert_eq!(written(file.nodes[1].span), "RUN b \\\n # x\n  cç d");
    assert_eq!(written(file.nodes[2].flags[0].span), "--link");
    let destination = file.nodes[2].args[1].span;
    assert_eq!((written(destination), destination.line, destination.column), ("/f", 8, 5));
    assert_eq!(written(file.nodes[1].args[0].span), "b \\\n # x\n  cç d");
    assert_eq!(file.comments.iter().map(|comment| comment.text.as_str()).collect::<Vec<_>>(), ["c", "x"]);
}

#[test]
fn directives() {
    let file = parse("# syntax=docker/dockerfile:1\n# ESCAPE = `\n#check=skip=A;error=true\nFROM a").file;
    assert_eq!(file.directives.syntax.unwrap().value, "docker/dockerfile:1");
    assert_eq!(file.directives.escape, '`');
    let check = file.directives.check.unwrap();
    assert!(check.error && check.skip.contains("A") && check.span.line == 3);
    for (source, escape) in [
        ("# a comment\n# escape=`\nFROM a", '\\'),
        ("\n# escape=`\nFROM a", '\\'),
        ("# other=x\n# escape=`\nFROM a", '\\'),
        ("FROM a\n# escape=`\n", '\\'),
        ("  # escape=`\nFROM a", '`'),
        ("\u{feff}# escape=`\r\nFROM a", '`'),
        ("#!/bin/x\n# escape=`\nFROM a", '\\'),
    ] {
        assert_eq!(parse(source).file.directives.escape, escape, "{source:?}");
    }
    let file = parse("#!/usr/bin/env slipway\n# check=skip=all\nFROM a").file;
    assert!(file.directives.check.unwrap().skip.all);
}

#[test]
fn comments_belong_to_the_next_instruction() {
    let file = parse("# syntax=x\n# one\n#\n# two\n# check=skip=B\nFROM a\n# three\n").file;
    assert_eq!(file.nodes[0].comments, ["two", "check=skip=B"]);
    assert!(file.nodes[0].check.as_ref().unwrap().skip.contains("b"));
    assert_eq!(file.comments.len(), 6);
}

#[test]
fn heredocs() {
    let node = only("RUN <<EOF\necho a\n  echo b\nEOF\n");
    assert_eq!(node.heredocs[0].content, "echo a\n  echo b\n");
    assert_eq!((node.start_line, node.end_line, node.original.as_str()), (1, 4, "RUN <<EOF"));

    let node = only("COPY <<a <<-'b' /c/\n1\na\n\t2\n\tb\n");
    let found: Vec<_> = node
        .heredocs
        .iter()
        .map(|heredoc| (heredoc.name.as_str(), heredoc.content.as_str(), heredoc.expand, heredoc.chomp))
        .collect();
    assert_eq!(found, [("a", "1\n", true, false), ("b", "\t2\n", false, true)]);
    assert_eq!(node.heredocs[1].body(), "2\n");

    for (source, count) in [
        ("RUN cat <<A > f && cat 3<<B\na\nA\nb\nB", 2),
        ("RUN cat <<A\r\na\r\nA\r\n", 1),
        ("RUN <<A\nA", 1),
        ("ADD <<A /x\nRUN no\nA", 1),
        ("ONBUILD RUN <<A\nx\nA", 1),
        ("RUN echo \\\n <<A\nx\nA", 1),
        ("RUN echo '<<A'", 0),
        ("RUN echo $((1 << 2))", 0),
        ("RUN echo $((1 <<2))", 0),
        ("RUN << A\nA", 1),
        ("COPY <<  A /x\nA", 1),
        ("RUN cat <<<word", 0),
        ("RUN [\"cat\", \"<<A\"]", 0),
        ("CMD cat <<A", 0),
        ("ENV a=<<A", 0),
        ("RUN echo it's <<A", 0),
    ] {
        assert_eq!(only(source).heredocs.len(), count, "{source:?}");
    }
    assert_eq!(only("RUN <<A\r\na\r\nA\r\n").heredocs[0].content, "a\r\n");
    let file = parse("RUN <<A\nx \\\n# y\nA\nRUN z").file;
    assert_eq!(file.nodes[0].heredocs[0].content, "x \\\n# y\n");
    assert_eq!(file.nodes[1].start_line, 5);
    assert!(file.comments.is_empty());
}

#[test]
fn mistakes() {
    for (source, expected) in [
        ("", vec!["E0101"]),
        ("# only comments\n\n", vec!["E0101"]),
        ("\\\n\n", vec!["E0103", "W0501"]),
        ("FORM alpine", vec!["E0104"]),
        ("FROM a\nRUM b\nCOPI c d", vec!["E0104", "E0104"]),
        ("# escape=x\nFROM a", vec!["E0106"]),
        ("# escape=`\n# escape=`\nFROM a", vec!["E0105"]),
        ("# syntax=a\n# syntax=b\nFROM a", vec!["E0105"]),
        ("# check=jump\nFROM a", vec!["E0107"]),
        ("# c\n# escape=`\nFROM a", vec!["W0505"]),
        ("RUN <<A\nx", vec!["E0108"]),
        ("RUN echo $((1 <<2)) $((1 << 2))", vec![]),
        ("RUN echo << EOF", vec!["E0108"]),
        ("RUN <<A\nx\n  A\nRUM y", vec!["E0108", "E0104"]),
        ("CMD [\"a\", 1]", vec!["E0109"]),
        ("COPY [\"a\", [\"b\"]]", vec!["E0109"]),
        ("ENV a", vec!["E0110"]),
        ("LABEL a", vec!["E0110"]),
        ("ENV a=b c", vec!["E0111"]),
        ("ENV a=b c d=e f", vec!["E0111", "E0111"]),
        ("RUN a \\\n\n  b", vec!["W0501"]),
        ("CMD ['a', 'b']", vec!["W0502"]),
        ("CMD [\"a\", \"b\",]", vec!["W0502"]),
        ("RUN [ \"$a\" = b ]", vec![]),
        ("RUN [ -f a ] && [ -f b ]", vec![]),
        ("ENV\nRUN", vec![]),
    ] {
        assert_eq!(codes(source), expected, "{source:?}");
    }
}

#[test]
fn long_lines() {
    let long = |bytes: usize| format!("RUN {}", "x".repeat(bytes - 4));
    assert!(codes(&format!("{}\n", long(65_535))).is_empty());
    assert_eq!(codes(&format!("{}\n", long(65_536))), ["E0102"]);
    assert_eq!(codes(&format!("RUN <<A\n{}\nA\n", "x".repeat(70_000))), ["E0102"]);
    assert_eq!(codes(&format!("RUN a \\\n{}\n", "x".repeat(70_000))), ["E0102"]);
}

#[test]
fn json_is_what_the_issue_asks() {
    let source = "FROM a AS b\nENV k=v o=\"p q\"\nLABEL old way\nONBUILD RUN <<-E\n\tx\n\tE\n";
    let tree: Value = serde_json::from_str(&json::tree(&parse(source).file)).unwrap();
    let node = |keyword: &str, original: &str, line: u32, end: u32| {
        json!({"keyword": keyword, "flags": [], "args": [], "json": false, "pairs": [], "child": null,
               "heredocs": [], "start_line": line, "end_line": end, "original": original})
    };
    let mut from = node("from", "FROM a AS b", 1, 1);
    from["args"] = json!(["a", "AS", "b"]);
    let mut env = node("env", "ENV k=v o=\"p q\"", 2, 2);
    env["pairs"] = json!([{"key": "k", "value": "v", "separator": "="},
                          {"key": "o", "value": "\"p q\"", "separator": "="}]);
    let mut label = node("label", "LABEL old way", 3, 3);
    label["pairs"] = json!([{"key": "old", "value": "way", "separator": ""}]);
    let mut onbuild = node("onbuild", "ONBUILD RUN <<-E", 4, 6);
    let mut run = node("run", "RUN <<-E", 4, 6);
    run["args"] = json!(["<<-E"]);
    onbuild["child"] = run;
    onbuild["heredocs"] = json!([{"name": "E", "content": "\tx\n", "expand": true, "chomp": true}]);
    assert_eq!(tree, json!([from, env, label, onbuild]));

    let broken = "FROM a\nFORM b\n";
    let found: Value = serde_json::from_str(&json::diagnostics(&parse(broken).diagnostics, broken)).unwrap();
    assert_eq!(found[0]["code"], "E0104");
    assert_eq!(
        (&found[0]["line"], &found[0]["column"], &found[0]["end_column"]),
        (&json!(2), &json!(1), &json!(5))
    );
    assert_eq!(found[0]["hint"], "did you mean `FROM`?");
}

#[test]
fn ten_thousand_lines_parse_in_linear_time() {
    let mut source = String::from("FROM alpine AS base\n");
    for number in 0..2000 {
        source += &format!("RUN apk add p{number} && \\\n    echo \"done {number}\" \\\n    && true\n");
        source += &format!("ENV A{number}=\"x y\" B{number}=$A{number}\nCOPY --from=base a{number} /b/\n");
    }
    let file = parse(&source).file;
    assert_eq!(file.nodes.len(), 6001);
}
