//! Where COPY and ADD put what they take, and as whose.

use super::Bench;

const TREE: [&str; 8] =
    ["a=1", "0750 b/", "b/c=2", "0600 b/d=3", "e -> b/c", "b/deep/er/f=4", "0755 run=5", "g/.hidden=6"];

#[test]
fn copies_land_where_the_rules_say() {
    let cases: [(&str, &[&str]); 14] = [
        ("COPY a /", &["a 644 0:0"]),
        ("COPY a /x", &["x 644 0:0"]),
        ("COPY a x/", &["x/ 755 0:0", "x/a 644 0:0"]),
        ("COPY a run x/", &["x/ 755 0:0", "x/a 644 0:0", "x/run 755 0:0"]),
        ("COPY e /x", &["x 644 0:0"]),
        ("COPY g /x", &["x/ 755 0:0", "x/.hidden 644 0:0"]),
        (
            "COPY --parents b/deep/er/f /x/",
            &[
                "x/ 755 0:0",
                "x/b/ 750 0:0",
                "x/b/deep/ 755 0:0",
                "x/b/deep/er/ 755 0:0",
                "x/b/deep/er/f 644 0:0",
            ],
        ),
        ("COPY --chown=7:8 a /x/y", &["x/ 755 7:8", "x/y 644 7:8"]),
        ("COPY --chmod=0711 a run /x/", &["x/ 711 0:0", "x/a 711 0:0", "x/run 711 0:0"]),
        ("COPY --chmod=g+w,o= a /", &["a 660 0:0"]),
        (
            "COPY --exclude=b/d --exclude=b/deep b/ /x/",
            &[
                "x/ 755 0:0",
                "x/c 644 0:0",
                "x/d 600 0:0",
                "x/deep/ 755 0:0",
                "x/deep/er/ 755 0:0",
                "x/deep/er/f 644 0:0",
            ],
        ),
        ("COPY --exclude=d --exclude=deep b/ /x/", &["x/ 755 0:0", "x/c 644 0:0"]),
        ("COPY b/? /x/", &["x/ 755 0:0", "x/c 644 0:0", "x/d 600 0:0"]),
        ("COPY <<one <<two /x/\n1\none\n2\ntwo", &["x/ 755 0:0", "x/one 644 0:0", "x/two 644 0:0"]),
    ];
    let bench = Bench::new().with(&TREE);
    for (line, expected) in cases {
        let built =
            bench.build(&format!("FROM scratch\n{line}\n")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(bench.listing(&built), expected, "{line}");
    }
}

#[test]
fn what_cannot_be_copied_is_told_by_name() {
    let cases = [
        ("COPY nothing /", "`nothing` is not in"),
        ("COPY --chown=nobody a /", "nobody"),
        ("COPY --chmod=999 a /", "999"),
        ("COPY --link --chown=app:app a /", "numbers only"),
        ("COPY http://127.0.0.1/x /", "use ADD"),
        ("COPY <<a/b /\n1\na/b", "no name for a file"),
        ("COPY <<a/.. /\n1\na/..", "no name for a file"),
        ("COPY a /x\nCOPY b /x", "place of a file"),
        ("COPY [[ /", "[["),
        ("COPY --from=nowhere /x /", "nowhere"),
        ("ADD http://127.0.0.1/x /", "nobody has http://127.0.0.1/x"),
    ];
    let bench = Bench::new().with(&TREE);
    for (line, expected) in cases {
        let words = bench.fails(&format!("FROM scratch\n{line}\n"));
        assert!(words.contains(expected), "{line}: {words}");
    }
}

#[test]
fn stages_hand_files_on_with_their_owners_and_links() {
    let bench = Bench::new().with(&TREE);
    let recipe = "FROM scratch AS one\nCOPY --chown=5:6 b /b\nCOPY --chown=1:2 a /real/a\n\
        FROM scratch AS two\nCOPY --from=one /b/c /c\nCOPY --from=one /real /moved\n\
        FROM two\nCOPY --from=one /b/deep /moved/deep\n";
    let built = bench.build(recipe).expect("built");
    let expected = [
        "c 644 5:6",
        "moved/ 755 0:0",
        "moved/a 644 1:2",
        "moved/deep/ 755 0:0",
        "moved/deep/er/ 755 5:6",
        "moved/deep/er/f 644 5:6",
    ];
    assert_eq!(bench.listing(&built), expected);
}

#[test]
fn an_ignored_file_is_neither_copied_nor_part_of_a_key() {
    let bench = Bench::new().with(&TREE);
    let mut request = bench.request("FROM scratch\nCOPY . /x/\n");
    request.ignore = Some("**\n!b/c\n!run\n".to_owned());
    let first = bench.build_as(&request, &[]).expect("built");
    assert_eq!(bench.listing(&first), ["x/ 755 0:0", "x/b/ 750 0:0", "x/b/c 644 0:0", "x/run 755 0:0"]);
    std::fs::write(bench.context().join("a"), "changed").expect("write");
    let second = bench.build_as(&request, &[]).expect("built");
    assert_eq!((second.executed_steps, second.image), (0, first.image.clone()));
    std::fs::write(bench.context().join("run"), "changed").expect("write");
    assert_ne!(bench.build_as(&request, &[]).expect("built").image, first.image);
}

/// What a copy makes where it copies nothing, or copies a folder itself, is part of its key.
#[test]
fn copies_that_select_the_same_and_make_something_else_have_keys_of_their_own() {
    let bench = Bench::new().with(&TREE);
    let lines = ["COPY --parents none* /out/", "COPY --parents n*/./x /out/", "COPY none* /out/"];
    for (line, expected) in lines.into_iter().zip([&["out/ 755 0:0"][..], &[], &[]]) {
        let built = bench.build(&format!("FROM scratch\n{line}\n")).expect(line);
        assert_eq!(bench.listing(&built), expected, "{line}");
    }
}
