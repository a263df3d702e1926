//! Every argument that takes a value, and whether that is a file: `files.txt` is the table, clap's description the list.
//!
//! A flag that comes must be given a row. What the rows of inputs and outputs promise is tried with the real binary by
//! `tests/end_to_end/files.rs`, which reads the same table.

use crate::command::Cli;
use clap::CommandFactory;
use std::collections::BTreeMap;

const TABLE: &str = include_str!("files.txt");

/// What a row may say an argument is.
const KINDS: [&str; 6] = ["in", "out", "inout", "folder", "name", "none"];

/// COMMAND ARGUMENT, and its kind.
fn rows() -> BTreeMap<String, &'static str> {
    let mut rows = BTreeMap::new();
    for row in TABLE.lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
        let (left, line) = row.split_once(" = ").unwrap_or((row, ""));
        let (kind, left) = left.split_once(' ').expect("a kind");
        assert!(KINDS.contains(&kind), "{row}");
        let tried = matches!(kind, "in" | "out" | "inout");
        assert_eq!(tried, !line.is_empty(), "what is read or written has a line: {row}");
        assert!(!tried || line.contains("FILE"), "{row}");
        let (place, arguments) = left.split_once(": ").expect("a place");
        for argument in arguments.split(' ').filter(|argument| !argument.is_empty()) {
            // one argument may take several kinds of file, each with its line
            let known = rows.insert(format!("{}: {argument}", place.trim()), kind);
            assert!(known.is_none_or(|known| tried && known != "none"), "twice: {row}");
        }
    }
    rows
}

/// Every argument that takes a value, by its place.
fn arguments() -> Vec<String> {
    fn walk(command: &clap::Command, place: &str, all: &mut Vec<String>) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let name = match arg.get_long() {
                Some(long) => format!("--{long}"),
                None => arg.get_id().to_string(),
            };
            match (arg.is_global_set(), place) {
                (true, "") => all.push(format!("*: {name}")),
                (true, _) => {}
                (false, _) => all.push(format!("{place}: {name}")),
            }
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            walk(inner, format!("{place} {}", inner.get_name()).trim(), all);
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    walk(&root, "", &mut all);
    all
}

#[test]
fn every_argument_says_whether_it_is_a_file() {
    let (rows, arguments) = (rows(), arguments());
    let missing: Vec<&String> = arguments.iter().filter(|argument| !rows.contains_key(*argument)).collect();
    assert!(missing.is_empty(), "no row in files.txt for {missing:#?}");
    let gone: Vec<&String> = rows.keys().filter(|row| !arguments.contains(row)).collect();
    assert!(gone.is_empty(), "rows for what is not there: {gone:#?}");
}
