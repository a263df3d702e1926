//! Properties that hold for every text.

use proptest::prelude::*;
use slipway_dockerfile::ignore::IgnoreFile;
use slipway_dockerfile::mount::RunMount;
use slipway_dockerfile::{
    Dockerfile, Expander, Node, Span, chmod, duration, glob, json, lower, parse, parse_onbuild,
};

/// Pieces that make texts which look like Dockerfiles, so that the grammar's corners are met often.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "LABEL",
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "HEALTHCHECK",
        "ONBUILD",
        "SHELL",
        "VOLUME",
        "EXPOSE",
        "USER",
        "WORKDIR",
        "STOPSIGNAL",
        "MAINTAINER",
        "AS",
        "NONE",
        " ",
        " ",
        "\n",
        "\n",
        "\\\n",
        "`\n",
        "\\",
        "`",
        "'",
        "\"",
        "$",
        "${",
        "}",
        "a",
        "b=c",
        "--",
        "--mount=",
        "--from=x",
        "<<E",
        "<<-E",
        "E\n",
        "\t",
        "\r\n",
        "# ",
        "#",
        "escape=`",
        "syntax=x",
        "check=skip=all",
        "[",
        "]",
        ",",
        "[\"a\"]",
        "é",
        "\u{feff}",
        "\u{a0}",
        "\u{85}",
        ":-",
        "#",
        "%",
        "/",
        "*",
        "?",
        "=",
        "[1]",
        "\\u00",
        "3<<E",
        "type=cache,target=/x",
    ];
    prop_oneof![9 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn source() -> impl Strategy<Value = String> {
    proptest::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat())
}

fn check_span(source: &str, span: Span) {
    assert!(span.start <= span.end && span.end <= source.len(), "{span:?}");
    assert!(source.is_char_boundary(span.start) && source.is_char_boundary(span.end), "{span:?}");
    assert!(span.line >= 1 && span.column >= 1);
}

fn check_node(source: &str, node: &Node) {
    check_span(source, node.span);
    check_span(source, node.keyword_span);
    node.flags.iter().chain(&node.args).for_each(|word| check_span(source, word.span));
    node.pairs.iter().for_each(|pair| check_span(source, pair.span));
    node.heredocs.iter().for_each(|heredoc| check_span(source, heredoc.span));
    assert!(node.start_line <= node.end_line);
    if let Some(child) = &node.child {
        check_node(source, child);
    }
}

fn check(source: &str) -> Dockerfile {
    let parsed = parse(source);
    parsed.file.nodes.iter().for_each(|node| check_node(source, node));
    parsed.file.comments.iter().for_each(|comment| check_span(source, comment.span));
    let lines: Vec<_> = parsed.file.nodes.iter().map(|node| (node.start_line, node.end_line)).collect();
    assert!(lines.windows(2).all(|pair| pair[0].1 < pair[1].0), "nodes overlap: {lines:?}");
    let lowered = lower(&parsed.file);
    for diagnostic in parsed.diagnostics.iter().chain(&lowered.diagnostics) {
        check_span(source, diagnostic.span);
        let text = diagnostic.render(source, "Dockerfile", false);
        assert!(text.lines().count() <= 40, "{text}");
        assert!(!text.contains('\u{1b}'));
    }
    let _ = json::tree(&parsed.file);
    let _ = json::diagnostics(&parsed.diagnostics, source);
    parsed.file
}

/// A thousand cases each, or as many as `PROPTEST_CASES` asks for.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: config.cases.max(1000), ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn parse_takes_any_text(source in source()) {
        check(&source);
    }

    #[test]
    fn parse_takes_any_unicode(source in any::<String>()) {
        check(&source);
    }

    #[test]
    fn parse_is_the_same_with_carriage_returns(source in source()) {
        let source = source.replace('\r', "");
        let shape = |file: &Dockerfile| -> Vec<_> {
            file.nodes.iter().map(|node| (node.original.clone(), node.start_line, node.end_line)).collect()
        };
        prop_assert_eq!(shape(&check(&source)), shape(&check(&source.replace('\n', "\r\n"))));
    }

    #[test]
    fn triggers_take_any_text(source in source(), backtick in any::<bool>()) {
        let _ = parse_onbuild(&source, if backtick { '`' } else { '\\' });
    }

    #[test]
    fn expansion_takes_any_text(text in source(), value in "[a-c*?/\\\\$\n]{0,8}") {
        let lookup = |name: &str| (name.len() % 2 == 1).then(|| value.clone());
        for escape in ['\\', '`'] {
            let expander = Expander::new(escape);
            let _ = expander.expand(&text, &lookup);
            let _ = expander.expand_raw(&text, &lookup);
            let _ = expander.split(&text, &lookup);
        }
    }

    #[test]
    fn quoting_undoes_expansion(text in any::<String>()) {
        let quoted = format!("'{}'", text.replace('\'', "'\\''"));
        let found = Expander::new('\\').expand(&quoted, &|_| None).unwrap();
        prop_assert_eq!(found.value, text);
    }

    #[test]
    fn small_grammars_take_any_text(text in "[a-z0-9.,=+\\-*?\\[\\]^/\\\\ \"!#]{0,24}", path in "[a-c/.]{0,12}") {
        let _ = duration::parse(&text);
        let _ = chmod::Chmod::parse(&text).map(|mode| mode.apply(0o644, false));
        let _ = glob::matches(&text, &path);
        let _ = RunMount::parse(&text, &mut |text| Ok(text.to_owned()));
        if let Ok(ignore) = IgnoreFile::parse(&text) {
            let _ = ignore.matches(&path, true);
            let _ = ignore.may_reinclude_below(&path);
        }
    }

    /// Whatever is visible lies below directories that are not pruned.
    #[test]
    fn pruning_is_safe(rules in proptest::collection::vec("!?(\\*\\*/)?[ab*]{1,2}(/[ab*]{1,2}){0,2}", 0..5),
                       path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
        let ignore = IgnoreFile::from_patterns(rules.iter().map(String::as_str)).unwrap();
        if !ignore.matches(&path, false) {
            for (at, _) in path.match_indices('/') {
                prop_assert!(ignore.may_reinclude_below(&path[..at]), "{:?} {}", rules, path);
            }
        }
    }

    /// The automaton agrees with a plain recursive matcher.
    #[test]
    fn globs_agree_with_a_plain_matcher(pattern in "[ab*?]{0,8}", path in "[ab/]{0,8}") {
        prop_assert_eq!(glob::matches(&pattern, &path), Ok(plain(pattern.as_bytes(), path.as_bytes())));
    }
}

fn plain(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', rest @ ..] => {
            plain(rest, path)
                || path.split_first().is_some_and(|(first, more)| *first != b'/' && plain(pattern, more))
        }
        [want, rest @ ..] => path.split_first().is_some_and(|(first, more)| {
            (want == first || (*want == b'?' && *first != b'/')) && plain(rest, more)
        }),
    }
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    check(&"ONBUILD ".repeat(5000));
    check(&format!("CMD {}", "[".repeat(30_000)));
    check(&format!("ENV a={}", "${a:-".repeat(10_000)));
    check(&format!("FROM a\nRUN <<{}\n", "${a:-".repeat(10_000)));
    check(&"RUN \\\n".repeat(20_000));
    check(&"#\n".repeat(20_000));
    let _ = RunMount::parse(&"\"".repeat(10_000), &mut |text| Ok(text.to_owned()));
}

/// Each of these once took, or could take, quadratic time; minutes instead of moments.
#[test]
fn hostile_files_take_linear_time() {
    check(&"RUN <<A\n  A\n".repeat(20_000));
    check(&format!("FROM a\nENV {}\n", "é=1 ".repeat(13_000)));
    check(&format!("FROM a\nCOPY {} /x\n{}", "<<A ".repeat(10_000), "A\n".repeat(10_000)));
    check(&"\\\n".repeat(100_000));
}

#[test]
fn many_mistakes_stay_bounded() {
    let parsed = parse(&"BOGUS x\n".repeat(5000));
    assert!(parsed.diagnostics.len() <= 200);
    assert_eq!(parsed.file.nodes.len(), 5000);
}
