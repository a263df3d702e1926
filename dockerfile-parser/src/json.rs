//! The syntax tree and diagnostics as JSON, for editors and other programs.

use crate::{Diagnostic, Dockerfile, LineIndex, Node};
use serde::Serialize;

#[derive(Serialize)]
struct NodeJson<'a> {
    keyword: &'a str,
    flags: Vec<&'a str>,
    args: Vec<&'a str>,
    json: bool,
    pairs: Vec<PairJson<'a>>,
    child: Option<Box<NodeJson<'a>>>,
    heredocs: Vec<HeredocJson<'a>>,
    start_line: u32,
    end_line: u32,
    original: &'a str,
}

#[derive(Serialize)]
struct PairJson<'a> {
    key: &'a str,
    value: &'a str,
    separator: &'a str,
}

#[derive(Serialize)]
struct HeredocJson<'a> {
    name: &'a str,
    content: &'a str,
    expand: bool,
    chomp: bool,
}

#[derive(Serialize)]
struct DiagnosticJson<'a> {
    code: &'a str,
    severity: &'a str,
    message: &'a str,
    line: u32,
    column: u32,
    end_line: u32,
    end_column: u32,
    expected: Option<&'a str>,
    hint: Option<&'a str>,
    notes: Vec<NoteJson<'a>>,
}

#[derive(Serialize)]
struct NoteJson<'a> {
    message: &'a str,
    line: Option<u32>,
    column: Option<u32>,
}

/// The tree as `slipway dockerfile parse --format json` prints it: an array of instructions.
pub fn tree(file: &Dockerfile) -> String {
    let nodes: Vec<_> = file.nodes.iter().map(node).collect();
    print(&nodes)
}

/// Diagnostics as an array of objects, with the places in `source` counted from 1.
pub fn diagnostics(diagnostics: &[Diagnostic], source: &str) -> String {
    let index = LineIndex::new(source);
    let found: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic_json(diagnostic, &index)).collect();
    print(&found)
}

fn print<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("strings, numbers and booleans always have a JSON form")
}

fn node(node: &Node) -> NodeJson<'_> {
    NodeJson {
        keyword: &node.keyword,
        flags: node.flags.iter().map(|flag| flag.text.as_str()).collect(),
        args: node.args.iter().map(|arg| arg.text.as_str()).collect(),
        json: node.json,
        pairs: node
            .pairs
            .iter()
            .map(|pair| PairJson { key: &pair.key, value: &pair.value, separator: pair.separator })
            .collect(),
        child: node.child.as_deref().map(|child| Box::new(self::node(child))),
        heredocs: node
            .heredocs
            .iter()
            .map(|heredoc| HeredocJson {
                name: &heredoc.name,
                content: &heredoc.content,
                expand: heredoc.expand,
                chomp: heredoc.chomp,
            })
            .collect(),
        start_line: node.start_line,
        end_line: node.end_line,
        original: &node.original,
    }
}

fn diagnostic_json<'a>(diagnostic: &'a Diagnostic, index: &LineIndex<'_>) -> DiagnosticJson<'a> {
    let (end_line, end_column) = index.position(diagnostic.span.end);
    DiagnosticJson {
        code: diagnostic.code,
        severity: diagnostic.severity.name(),
        message: &diagnostic.message,
        line: diagnostic.span.line,
        column: diagnostic.span.column,
        end_line,
        end_column,
        expected: diagnostic.expected.as_deref(),
        hint: diagnostic.hint.as_deref(),
        notes: diagnostic
            .notes
            .iter()
            .map(|note| NoteJson {
                message: &note.message,
                line: note.span.map(|span| span.line),
                column: note.span.map(|span| span.column),
            })
            .collect(),
    }
}
