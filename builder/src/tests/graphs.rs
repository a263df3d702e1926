//! Which stages there are, what they begin with and need, from the recipe's text alone.

use super::Bench;
use crate::{Base, BuildGraph, NamedContext};

/// `label: base needs=..`, unreachable stages in brackets.
fn graph(recipe: &str, target: Option<&str>, contexts: &[&str]) -> Result<Vec<String>, String> {
    let mut request = Bench::new().request(recipe);
    request.target = target.map(str::to_owned);
    for name in contexts {
        request.contexts.insert((*name).to_owned(), NamedContext::Folder("x".into()));
    }
    let recipe = slipway_dockerfile::parse_recipe(recipe).expect("recipe");
    let graph = BuildGraph::new(&recipe, &request).map_err(|error| {
        error.hint.map_or(error.message.clone(), |hint| format!("{} ({hint})", error.message))
    })?;
    let shown = |(node, reachable): (&crate::StageNode, &bool)| {
        let base = match &node.base {
            Base::Scratch => "scratch".to_owned(),
            Base::Stage(index) => format!("stage {index}"),
            Base::Context(name) => format!("context {name}"),
            Base::Image(reference) => reference.familiar(),
        };
        let needs: Vec<String> = node.needs.iter().map(usize::to_string).collect();
        let line = format!("{}: {base} needs={}", node.label, needs.join(","));
        if *reachable { line } else { format!("[{line}]") }
    };
    Ok(graph.stages.iter().zip(&graph.reachable).map(shown).collect())
}

#[test]
fn stages_know_what_they_need() {
    type Case = (&'static str, Option<&'static str>, &'static [&'static str], &'static [&'static str]);
    let cases: [Case; 14] = [
        ("FROM scratch", None, &[], &["0: scratch needs="]),
        ("FROM a AS x\nFROM x", None, &[], &["x: a:latest needs=", "1: stage 0 needs=0"]),
        ("FROM a AS x\nFROM b", None, &[], &["[x: a:latest needs=]", "1: b:latest needs="]),
        ("FROM a AS x\nFROM b", Some("x"), &[], &["x: a:latest needs=", "[1: b:latest needs=]"]),
        ("FROM a AS x\nFROM b", Some("X"), &[], &["x: a:latest needs=", "[1: b:latest needs=]"]),
        (
            "FROM a AS x\nFROM b AS y\nFROM c\nCOPY --from=x /1 /\nCOPY --from=1 /2 /\nCOPY --from=x /3 /",
            None,
            &[],
            &["x: a:latest needs=", "y: b:latest needs=", "2: c:latest needs=0,1"],
        ),
        (
            "FROM a AS x\nFROM b\nRUN --mount=from=x,target=/x true",
            None,
            &[],
            &["x: a:latest needs=", "1: b:latest needs=0"],
        ),
        (
            "FROM a AS x\nFROM b\nRUN --mount=type=cache,from=x,target=/x true",
            None,
            &[],
            &["x: a:latest needs=", "1: b:latest needs=0"],
        ),
        // the nearest earlier stage of a name
        (
            "FROM a AS x\nFROM b AS x\nFROM x",
            None,
            &[],
            &["[x: a:latest needs=]", "x: b:latest needs=", "2: stage 1 needs=1"],
        ),
        // a stage that nobody needs may name what comes after it
        (
            "FROM a\nCOPY --from=x /x /\nRUN --mount=from=1,target=/x true\nFROM b AS x",
            None,
            &[],
            &["[0: a:latest needs=]", "x: b:latest needs="],
        ),
        // an image may be called as a later stage
        (
            "FROM busybox AS a\nFROM a AS busybox",
            None,
            &[],
            &["a: busybox:latest needs=", "busybox: stage 0 needs=0"],
        ),
        ("FROM ubuntu", None, &["ubuntu"], &["0: context ubuntu needs="]),
        ("FROM ubuntu:latest", None, &["docker.io/library/ubuntu"], &["0: context ubuntu:latest needs="]),
        ("ARG V=3\nFROM a:$V AS x\nFROM x", None, &[], &["x: a:3 needs=", "1: stage 0 needs=0"]),
    ];
    for (recipe, target, contexts, expected) in cases {
        assert_eq!(graph(recipe, target, contexts).expect(recipe), expected, "{recipe}");
    }
}

#[test]
fn stages_that_do_not_fit_are_told_with_a_remedy() {
    let cases: [(&str, Option<&str>, &[&str]); 7] = [
        ("FROM a AS x", Some("y"), &["y"]),
        ("FROM a AS build", Some("biuld"), &["biuld", "`build`"]),
        ("FROM a\nCOPY --from=0 /x /", None, &["stage 0 is not before"]),
        ("FROM a\nCOPY --from=3 /x /", None, &["stage 3 is not before"]),
        ("FROM a\nCOPY --from=x /x /\nFROM b AS x\nCOPY --from=0 / /", None, &["stage `x` is not before"]),
        ("ARG X\nFROM $X", None, &["empty", "--build-arg"]),
        ("FROM --platform=not/a/real/one a", None, &["not/a/real/one"]),
    ];
    for (recipe, target, parts) in cases {
        let Err(words) = graph(recipe, target, &[]) else { panic!("{recipe} is taken") };
        for part in parts {
            assert!(words.contains(part), "{recipe}: {words}");
        }
    }
}
