//! Properties of the linter that hold for every text.

use proptest::prelude::*;
use slipway_dockerfile::lint::{LintOptions, check, fix, json, sarif, text};

/// Pieces that make texts which look like recipes with shell in them.
#[allow(clippy::too_many_lines)] // a table of pieces
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "FROM scratch\n",
        "FROM alpine AS b\n",
        "FROM b\n",
        "FROM $x\n",
        "from a as C\n",
        "ARG x=1\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "EXPOSE ",
        "CMD ",
        "WORKDIR ",
        "USER ",
        "SHELL [\"/bin/sh\", \"-c\"]\n",
        "--from=0 ",
        "--mount=type=cache,target=/c ",
        "--platform=$TARGETPLATFORM ",
        "# check=skip=all\n",
        "# x\n",
        "\n",
        "\\\n",
        "\\",
        "apt-get install curl ",
        "apt-get update ",
        "apk add git ",
        "pip install x ",
        "npm install ",
        "dnf install y ",
        "cd /x ",
        "sudo ",
        "curl https://x ",
        "| sh ",
        "&& ",
        "|| ",
        "; ",
        "| ",
        "& ",
        "if ",
        "then ",
        "fi ",
        "case x in ",
        "esac ",
        "( ",
        ") ",
        "{ ",
        "} ",
        "done ",
        "do ",
        "while ",
        "! ",
        "<<E\n",
        "<<-E ",
        "E\n",
        "a\n",
        "set -e\n",
        "'",
        "\"",
        "$(",
        "${",
        "}",
        "`",
        "$",
        "#",
        ">",
        "<(",
        "2>&1",
        "=",
        "[\"a\"]",
        "é",
        "\u{feff}",
        "\t",
        "\r\n",
        "chown -R a /x ",
        ".env ",
        "80/TCP ",
        "$TOKEN",
        "ghp_",
        "AKIA0000000000000000",
        "a b c ",
        "/",
        ".",
        ":",
    ];
    prop_oneof![12 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn source() -> impl Strategy<Value = String> {
    proptest::collection::vec(piece(), 0..50).prop_map(|pieces| pieces.concat())
}

fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: config.cases.max(1000), ..config }
}

/// Checks, shows and fixes a text; every place must be one of the text.
fn holds(source: &str) {
    let options = LintOptions { ignore_file: Some("a\n!b\n*.x".to_owned()), ..LintOptions::default() };
    let report = check(source, &options);
    let is_place = |at: usize| at <= source.len() && source.is_char_boundary(at);
    for warning in &report.warnings {
        let span = warning.span;
        assert!(span.start <= span.end && is_place(span.start) && is_place(span.end), "{warning:?}");
        assert!(warning.line >= 1 && warning.column >= 1 && warning.end_line >= warning.line, "{warning:?}");
        for edit in warning.fix.iter().flatten() {
            assert!(edit.start <= edit.end && is_place(edit.start) && is_place(edit.end), "{warning:?}");
        }
    }
    assert!(!text(&report, source, "Dockerfile", false).contains('\u{1b}'));
    for written in [json(&report, source), sarif(&report, source, "Dockerfile", "1")] {
        serde_json::from_str::<serde_json::Value>(&written).expect("reports are JSON");
    }
    let (fixed, _) = fix(source, &options);
    let (again, applied) = fix(&fixed, &options);
    assert_eq!(again, fixed, "{applied:?}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn check_takes_any_recipe(source in source()) {
        holds(&source);
    }

    #[test]
    fn check_takes_any_script(source in source()) {
        holds(&format!("FROM debian\nRUN <<EOF\n{source}\nEOF\n"));
        holds(&format!("FROM debian\nRUN {source}"));
    }

    #[test]
    fn check_takes_any_unicode(source in any::<String>()) {
        holds(&source);
    }
}
