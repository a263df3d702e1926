//! Every message, as people see it: `tests/messages/mistakes.txt` holds each mistake with its rendering.
//!
//! After a change on purpose, write the file anew with `SLIPWAY_BLESS=1 cargo test -p slipway-dockerfile --test messages`
//! and read the difference.

use slipway_dockerfile::diagnostic::CODES;
use slipway_dockerfile::{lower, parse};
use std::collections::BTreeSet;
use std::path::Path;

/// Recipes with one mistake each, or a few that belong together.
const MISTAKES: &[&str] = &[
    "",
    "# just a comment\n",
    "FORM alpine",
    "FROM alpine\nRUM apk add git",
    "FROM alpine\nRUN apk update\n    && apk add git",
    "FROM alpine\nEXPORT A=b\nENTRY x",
    "# escape=/\nFROM alpine",
    "# syntax=docker/dockerfile:1\n# syntax=docker/dockerfile:2\nFROM alpine",
    "# check=skip=all;fail=true\nFROM alpine",
    "# check=error=perhaps\nFROM alpine",
    "# my image\n# escape=`\nFROM alpine",
    "FROM alpine\nRUN <<EOF\necho hello",
    "FROM alpine\nRUN <<EOF\n\techo hello\n\tEOF\nRUN true",
    "FROM alpine\nCOPY << EOF /x\nhello\n",
    "FROM alpine\nCMD [\"sleep\", 10]",
    "FROM alpine\nCMD ['sleep', '10']",
    "FROM alpine\nRUN apk add \\\n\n  git",
    "FROM alpine\nENV PATH",
    "FROM alpine\nENV A=b c",
    "FROM alpine\nENV =b",
    "FROM alpine\nENV",
    "FROM alpine\nLABEL maintainer",
    "FROM alpine\nARG",
    "FROM alpine\nARG =x",
    "RUN true\nFROM alpine",
    "ARG VERSION=1",
    "FROM",
    "FROM alpine AS",
    "FROM alpine build",
    "FROM alpine A build",
    "FROM alpine # the base",
    "FROM alpine --platform=linux/arm64",
    "FROM --plattform=linux/arm64 alpine",
    "FROM alpine AS 1st",
    "FROM alpine\nCOPY app",
    "FROM alpine\nCOPY --from builder /a /b",
    "FROM alpine\nCOPY --from=$STAGE /a /b",
    "FROM alpine\nCOPY --form=x /a /b",
    "FROM alpine\nCOPY --mount=type=cache a b",
    "FROM alpine\nCOPY --link --link a b",
    "FROM alpine\nCOPY --link= a b",
    "FROM alpine\nCOPY --parents=yes a b",
    "FROM alpine\nCOPY --chown= a b",
    "FROM alpine\nCOPY --chmod=u=rwz a b",
    "FROM alpine\nCOPY --chmod=888 a b",
    "FROM alpine\nCOPY a <<EOF\nx\nEOF",
    "FROM alpine\nADD https://example.com/x",
    "FROM alpine\nADD --unpak=true a b",
    "FROM alpine\nRUN",
    "FROM alpine\nRUN --network=hsot true",
    "FROM alpine\nRUN --security=privileged true",
    "FROM alpine\nRUN --mount=type=cahce,target=/x true",
    "FROM alpine\nRUN --mount=type=bind,traget=/x true",
    "FROM alpine\nRUN --mount=type=bind,from=$X,target=/x true",
    "FROM alpine\nRUN --mount=type=cache,target=/ true",
    "FROM alpine\nRUN --mount=type=cache,target=/x,sharing=open true",
    "FROM alpine\nRUN --mount=type=bind,target=/x,mode=0755 true",
    "FROM alpine\nRUN --mount=type=secret true",
    "FROM alpine\nRUN --mount=type=cache,target true",
    "FROM alpine\nRUN --mount= true",
    "FROM alpine\nSHELL /bin/bash -c",
    "FROM alpine\nSHELL []",
    "FROM alpine\nCMD",
    "FROM alpine\nUSER",
    "FROM alpine\nUSER --group=x y",
    "FROM alpine\nWORKDIR",
    "FROM alpine\nEXPOSE",
    "FROM alpine\nVOLUME [\"/data\", \"\"]",
    "FROM alpine\nSTOPSIGNAL",
    "FROM alpine\nMAINTAINER",
    "FROM alpine\nHEALTHCHECK",
    "FROM alpine\nHEALTHCHECK curl -f http://localhost/",
    "FROM alpine\nHEALTHCHECK CMD",
    "FROM alpine\nHEALTHCHECK NONE please",
    "FROM alpine\nHEALTHCHECK --interval=30 CMD true",
    "FROM alpine\nHEALTHCHECK --interval=-1s CMD true",
    "FROM alpine\nHEALTHCHECK --timeout=1us CMD true",
    "FROM alpine\nHEALTHCHECK --retries=-1 CMD true",
    "FROM alpine\nHEALTHCHECK --retires=3 CMD true",
    "FROM alpine\nONBUILD",
    "FROM alpine\nONBUILD FROM x",
    "FROM alpine\nONBUILD COPY x",
    "FROM alpine\nONBUILD RNU x",
    "\\\n\n",
    "FROM alpine\n\tCOPY\t--chmod=9\tа.txt\t/é",
    "FROM alpine\nRUN \\\n  --network=nowhere \\\n  true",
    "FROM alpine\nCMD [\"a\",\n 1]",
    "FROM alpine\nCMD [\"a\", \\\n # why\n \"b\", \\\n 1, \\\n 2, \\\n 3, \\\n 4, \\\n 5]",
    "FROM alpine\nBAD\u{1b}[2J \u{202e}x",
];

fn rendered(source: &str, color: bool) -> String {
    let parsed = parse(source);
    let mut diagnostics = parsed.diagnostics;
    diagnostics.extend(lower(&parsed.file).diagnostics);
    diagnostics.sort_by_key(|found| found.span.start);
    diagnostics.iter().map(|found| found.render(source, "Dockerfile", color)).collect()
}

#[test]
fn messages_are_as_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages/mistakes.txt");
    let mut text = String::new();
    for source in MISTAKES {
        let messages = rendered(source, false);
        assert!(!messages.is_empty(), "no message for {source:?}");
        text += &format!("===== {}\n{messages}\n", source.escape_debug());
    }
    if std::env::var_os("SLIPWAY_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap();
    let differs = recorded.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(recorded == text, "messages changed, first at {differs:#?}");
}

/// A long line is cut to what surrounds the mark.
#[test]
fn long_lines_are_cut() {
    let source = format!("FROM alpine\nRUN --network=bad {}", "x".repeat(5000));
    let text = rendered(&source, false);
    assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
    let source = format!("FROM alpine\nUSER --{} y", "x".repeat(5000));
    assert!(rendered(&source, false).lines().all(|line| line.chars().count() < 320));
}

#[test]
fn colour_is_only_added() {
    for source in MISTAKES {
        let plain = rendered(source, false);
        assert!(!plain.contains('\u{1b}'));
        let coloured = rendered(source, true);
        assert!(coloured.contains('\u{1b}'));
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            stripped += before;
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        assert_eq!(stripped + rest, plain);
    }
}

/// Every code but those that need special texts is met by a mistake above.
#[test]
fn every_code_is_shown() {
    let seen: BTreeSet<&str> = MISTAKES
        .iter()
        .flat_map(|source| {
            let parsed = parse(source);
            let lowered = lower(&parsed.file).diagnostics;
            parsed.diagnostics.into_iter().chain(lowered).map(|found| found.code).collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<_> = CODES.iter().map(|(code, _)| *code).filter(|code| !seen.contains(code)).collect();
    // A line of 64 KiB, a trigger of two instructions, and a heredoc lost behind a quote.
    assert_eq!(missing, ["E0102", "E0112", "E0309"]);
}
