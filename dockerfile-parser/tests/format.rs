//! The formatter keeps meanings and settles at once, whatever it is given.

use proptest::prelude::*;
use slipway_dockerfile::format::{Style, format, format_with, same_meaning};
use slipway_dockerfile::{json, parse};

/// Cases a property is tried on: a thousand, or as many as `PROPTEST_CASES` asks for.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: config.cases.max(1000), ..config }
}

/// One instruction in careless dress.
fn instruction() -> impl Strategy<Value = String> {
    let gap =
        proptest::sample::select(vec![" ", "  ", "\t", " \\\n", " \\\n   ", " \\  \n\n # why\n\t", "\\\n "]);
    let samples = vec![
        "FROM~a",
        "from~a:1~as~B",
        "FROM~--platform=$P~a",
        "ARG~a=1~b",
        "RUN~echo~'a  b'~&&~c",
        "run~--network=none~a",
        "RUN~[~\"a\"~,~\"b\\tc\"~]",
        "COPY~--link~--from=x~a~b~/c/",
        "COPY~[\"a b\",~\"c\"]",
        "ADD~a~b",
        "copy~--~--x~y",
        "ENV~a=1~b=\"x~y\"~c='~'",
        "ENV~a~b~c",
        "LABEL~k=v~l=",
        "Cmd~[]",
        "CMD~a~|~b",
        "ENTRYPOINT~[\"a\",\"b\"]",
        "HEALTHCHECK~--retries=3~cmd~a~b",
        "HEALTHCHECK~none",
        "HEALTHCHECK~CMD~[\"a\"]",
        "ONBUILD~RUN~a~b",
        "onbuild~copy~a~b",
        "SHELL~[\"a\",~\"b\"]",
        "VOLUME~/a~/b",
        "EXPOSE~80~443/tcp",
        "USER~a:b",
        "WORKDIR~/a~b",
        "STOPSIGNAL~9",
        "MAINTAINER~a~b",
        "RUN~<<E~cat\nx \n\n\ty\nE",
        "COPY~<<A~<<-'B'~/c/\n1\nA\n\t2\n\tB",
        "# a comment ",
        "  #another",
        "#",
        "",
    ];
    (proptest::sample::select(samples), proptest::collection::vec(gap, 12)).prop_map(|(sample, gaps)| {
        let mut gaps = gaps.into_iter();
        sample
            .split('~')
            .map(|part| format!("{part}{}", gaps.next().unwrap_or(" ")))
            .collect::<String>()
            .trim_end_matches([' ', '\\', '\n', '#', 'w', 'h', 'y', '\t'])
            .to_owned()
    })
}

fn recipe() -> impl Strategy<Value = String> {
    let top = proptest::sample::select(vec![
        "",
        "# syntax=x\n",
        "#escape = \\\n# check=skip=all\n",
        "\n\n# escape=`\n",
        "\u{feff}",
    ]);
    (top, proptest::collection::vec(instruction(), 1..8), any::<bool>()).prop_map(|(top, lines, returns)| {
        let text = format!("{top}FROM x\n{}", lines.join("\n"));
        if returns { text.replace('\n', "\r\n") } else { text }
    })
}

/// Anything at all, made of the pieces that matter.
fn soup() -> impl Strategy<Value = String> {
    let pieces = vec![
        "FROM ",
        "RUN ",
        "COPY ",
        "ENV ",
        "CMD ",
        "HEALTHCHECK ",
        "ONBUILD ",
        "LABEL ",
        "VOLUME ",
        "ARG ",
        " ",
        "  ",
        "\n",
        "\n",
        "\\\n",
        "\\ \n",
        "`\n",
        "\\",
        "'",
        "\"",
        "$(",
        "a",
        "b=c",
        "--",
        "--x ",
        "<<E",
        "<<-E",
        "E\n",
        "\t",
        "\r\n",
        "# ",
        "#",
        "escape=`",
        "check=skip=all",
        "[",
        "]",
        ",",
        "[\"a\"]",
        "\u{feff}",
        "\u{a0}",
        "\u{85}",
        "as",
        "NONE",
        "\u{b}",
        "\r",
    ];
    let piece =
        prop_oneof![9 => proptest::sample::select(pieces).prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn check(source: &str) {
    let Ok(tidy) = format(source) else { return };
    let (before, after) = (parse(source).file, parse(&tidy).file);
    assert!(same_meaning(&before, &after), "meaning changed:\n{source:?}\n{tidy:?}");
    assert_eq!(format(&tidy).as_ref(), Ok(&tidy), "not settled: {source:?}");
    for (a, b) in before.nodes.iter().zip(&after.nodes) {
        assert_eq!(
            a.heredocs.iter().map(|h| &h.content).collect::<Vec<_>>(),
            b.heredocs.iter().map(|h| &h.content).collect::<Vec<_>>()
        );
    }
    let style = Style { indent_shell: true };
    let indented = format_with(source, style).unwrap();
    assert_eq!(format_with(&indented, style).as_ref(), Ok(&indented), "not settled: {source:?}");
}

/// A tree without what formatting may change: places, `original`, and the case of AS.
fn tree(source: &str) -> serde_json::Value {
    let mut tree: serde_json::Value = serde_json::from_str(&json::tree(&parse(source).file)).unwrap();
    for node in tree.as_array_mut().unwrap() {
        for node in [node.clone()["child"].as_object_mut(), node.as_object_mut()].into_iter().flatten() {
            ["start_line", "end_line", "original", "child"].iter().for_each(|key| drop(node.remove(*key)));
            if node["keyword"] == "from" && node["args"].as_array().unwrap().len() == 3 {
                node["args"][1] = "AS".into();
            }
        }
    }
    tree
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn recipes_keep_their_meaning(source in recipe()) {
        check(&source);
        if let Ok(tidy) = format(&source) {
            prop_assert_eq!(tree(&source), tree(&tidy));
        }
    }

    #[test]
    fn any_text_keeps_its_meaning(source in soup()) {
        check(&source);
    }

    #[test]
    fn any_text_after_a_from_keeps_its_meaning(source in soup()) {
        check(&format!("FROM a\nRUN {source}"));
        check(&format!("FROM a\n{source}\nFROM b\n"));
    }
}
