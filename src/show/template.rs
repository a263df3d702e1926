//! `--format` in docker's template syntax: the part of Go's text/template that people use on docker's objects.
//!
//! `{{.Field.Sub}}`, `{{json .X}}`, `{{.X | json}}`, `{{len .X}}`, `{{index .X 0 "key"}}`, `{{join .X ", "}}`,
//! `{{upper}}`, `{{lower}}`, `{{println}}`, `{{if}}…{{else}}…{{end}}`, `{{range $k, $v := .X}}…{{end}}`, `{{with}}`,
//! string and number literals, `eq`, `ne`, `not`, `and`, `or`, and `{{-`/`-}}`.

mod function;

use crate::error::Failure;
use function::{call, is_function};
use serde_json::Value;
use std::collections::BTreeMap;

/// Deepest nesting of blocks.
const DEPTH: usize = 32;

/// Renders `template` over `value`.
pub(crate) fn render(template: &str, value: &Value) -> Result<String, Failure> {
    let pieces = split(template)?;
    let mut parser = Parser { pieces, at: 0 };
    let nodes = parser.block(0)?;
    if parser.at < parser.pieces.len() {
        return Err(bad("`{{end}}` or `{{else}}` without a block"));
    }
    let mut output = String::new();
    let mut scope = Scope { root: value.clone(), variables: BTreeMap::new() };
    emit(&nodes, value, &mut scope, &mut output)?;
    Ok(output)
}

fn bad(words: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("--format: {words}"))
}

enum Piece {
    Text(String),
    Action(Vec<String>),
}

enum Node {
    Text(String),
    Value(Vec<String>),
    If(Vec<String>, Vec<Node>, Vec<Node>),
    With(Vec<String>, Vec<Node>, Vec<Node>),
    Range(Vec<String>, Vec<String>, Vec<Node>, Vec<Node>),
}

struct Scope {
    root: Value,
    variables: BTreeMap<String, Value>,
}

fn split(template: &str) -> Result<Vec<Piece>, Failure> {
    // docker unescapes these for the shell's sake
    let template = template.replace("\\t", "\t").replace("\\n", "\n");
    let mut pieces = Vec::new();
    let mut rest = template.as_str();
    while let Some(start) = rest.find("{{") {
        let (mut text, after) = (rest[..start].to_owned(), &rest[start + 2..]);
        let end = after.find("}}").ok_or_else(|| bad("`{{` is not closed by `}}`"))?;
        let mut action = &after[..end];
        rest = &after[end + 2..];
        if let Some(trimmed) = action.strip_prefix("- ") {
            text.truncate(text.trim_end().len());
            action = trimmed;
        }
        if let Some(trimmed) = action.strip_suffix(" -") {
            action = trimmed;
            rest = rest.trim_start();
        }
        pieces.push(Piece::Text(text));
        pieces.push(Piece::Action(words(action)?));
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Words of an action: names, literals, `|`, `(`, `)`, `:=`, `,`.
fn words(text: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            c if c.is_whitespace() => {
                chars.next();
            }
            '|' | '(' | ')' | ',' => {
                words.push(c.to_string());
                chars.next();
            }
            '"' | '`' => {
                chars.next();
                let mut word = String::from('"');
                loop {
                    match chars.next() {
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(end) if end == c => break,
                        Some(inner) => word.push(inner),
                        None => return Err(bad("a string is not closed")),
                    }
                }
                words.push(word);
            }
            _ => {
                let mut word = String::new();
                while let Some(&c) = chars.peek() {
                    if c.is_whitespace() || matches!(c, '|' | '(' | ')' | ',' | '"' | '`') {
                        break;
                    }
                    word.push(c);
                    chars.next();
                }
                words.push(word);
            }
        }
    }
    Ok(words)
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

impl Parser {
    fn block(&mut self, depth: usize) -> Result<Vec<Node>, Failure> {
        if depth > DEPTH {
            return Err(bad("blocks are nested too deeply"));
        }
        let mut nodes = Vec::new();
        while self.at < self.pieces.len() {
            let words = match &self.pieces[self.at] {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    self.at += 1;
                    continue;
                }
                Piece::Action(words) => words.clone(),
            };
            match words.first().map(String::as_str) {
                Some("end" | "else") => break,
                Some(keyword @ ("if" | "with" | "range")) => {
                    self.at += 1;
                    let (body, otherwise) = self.branches(depth)?;
                    let rest = words[1..].to_vec();
                    nodes.push(match keyword {
                        "if" => Node::If(rest, body, otherwise),
                        "with" => Node::With(rest, body, otherwise),
                        _ => match rest.iter().position(|word| word == ":=") {
                            Some(at) => {
                                let names = rest[..at].iter().filter(|word| *word != ",").cloned().collect();
                                Node::Range(names, rest[at + 1..].to_vec(), body, otherwise)
                            }
                            None => Node::Range(Vec::new(), rest, body, otherwise),
                        },
                    });
                }
                None => return Err(bad("`{{}}` is empty")),
                Some(comment) if comment.starts_with("/*") => self.at += 1,
                Some(_) => {
                    nodes.push(Node::Value(words));
                    self.at += 1;
                }
            }
        }
        Ok(nodes)
    }

    fn branches(&mut self, depth: usize) -> Result<(Vec<Node>, Vec<Node>), Failure> {
        let body = self.block(depth + 1)?;
        let mut otherwise = Vec::new();
        if self.is("else") {
            self.at += 1;
            otherwise = self.block(depth + 1)?;
        }
        if !self.is("end") {
            return Err(bad("a block is not closed by `{{end}}`"));
        }
        self.at += 1;
        Ok((body, otherwise))
    }

    fn is(&self, keyword: &str) -> bool {
        matches!(self.pieces.get(self.at), Some(Piece::Action(words)) if words.first().is_some_and(|word| word == keyword))
    }
}

fn emit(nodes: &[Node], dot: &Value, scope: &mut Scope, output: &mut String) -> Result<(), Failure> {
    for node in nodes {
        match node {
            Node::Text(text) => output.push_str(text),
            Node::Value(words) => output.push_str(&shown(&pipeline(words, dot, scope)?)),
            Node::If(words, body, otherwise) => {
                let branch = if truth(&pipeline(words, dot, scope)?) { body } else { otherwise };
                emit(branch, dot, scope, output)?;
            }
            Node::With(words, body, otherwise) => {
                let value = pipeline(words, dot, scope)?;
                if truth(&value) {
                    emit(body, &value, scope, output)?;
                } else {
                    emit(otherwise, dot, scope, output)?;
                }
            }
            Node::Range(names, words, body, otherwise) => {
                let value = pipeline(words, dot, scope)?;
                let items: Vec<(Value, Value)> = match value {
                    Value::Array(items) => {
                        items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
                    }
                    Value::Object(items) => items.into_iter().map(|(key, item)| (key.into(), item)).collect(),
                    _ => Vec::new(),
                };
                if items.is_empty() {
                    emit(otherwise, dot, scope, output)?;
                }
                for (key, item) in items {
                    match names.as_slice() {
                        [value] => drop(scope.variables.insert(value.clone(), item.clone())),
                        [first, second] => {
                            scope.variables.insert(first.clone(), key);
                            scope.variables.insert(second.clone(), item.clone());
                        }
                        _ => {}
                    }
                    emit(body, &item, scope, output)?;
                }
            }
        }
    }
    Ok(())
}

fn pipeline(words: &[String], dot: &Value, scope: &Scope) -> Result<Value, Failure> {
    let mut value: Option<Value> = None;
    let mut depth = 0;
    let parts = words.split(|word| {
        depth += i32::from(word == "(") - i32::from(word == ")");
        depth == 0 && word == "|"
    });
    for part in parts {
        let mut arguments = arguments(part, dot, scope)?;
        let function = match part.first() {
            Some(name) if is_function(name) => Some(name.clone()),
            Some(_) => None,
            None => return Err(bad("an empty command")),
        };
        arguments.extend(value.take());
        value = Some(match function {
            Some(name) => call(&name, &arguments)?,
            None => match arguments.as_slice() {
                [only] => only.clone(),
                _ => return Err(bad(format!("`{}` is no function", part.join(" ")))),
            },
        });
    }
    value.ok_or_else(|| bad("an empty command"))
}

fn arguments(words: &[String], dot: &Value, scope: &Scope) -> Result<Vec<Value>, Failure> {
    let mut values = Vec::new();
    let mut at = usize::from(words.first().is_some_and(|name| is_function(name)));
    while at < words.len() {
        let word = &words[at];
        if word == "(" {
            let mut depth = 0;
            let close = words[at..].iter().position(|word| {
                depth += i32::from(word == "(") - i32::from(word == ")");
                depth == 0
            });
            let close = at + close.ok_or_else(|| bad("`(` is not closed"))?;
            values.push(pipeline(&words[at + 1..close], dot, scope)?);
            at = close + 1;
            continue;
        }
        values.push(term(word, dot, scope)?);
        at += 1;
    }
    Ok(values)
}

fn term(word: &str, dot: &Value, scope: &Scope) -> Result<Value, Failure> {
    if let Some(text) = word.strip_prefix('"') {
        return Ok(text.into());
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(number.into());
    }
    match word {
        "true" => return Ok(true.into()),
        "false" => return Ok(false.into()),
        "nil" => return Ok(Value::Null),
        _ => {}
    }
    let (mut value, path) = match word.strip_prefix('$') {
        Some(rest) => {
            let (name, path) = rest.split_once('.').unwrap_or((rest, ""));
            let value = match name {
                "" => scope.root.clone(),
                name => scope
                    .variables
                    .get(&format!("${name}"))
                    .cloned()
                    .ok_or_else(|| bad(format!("`${name}` is not set")))?,
            };
            (value, path)
        }
        None => {
            (dot.clone(), word.strip_prefix('.').ok_or_else(|| bad(format!("`{word}` is not understood")))?)
        }
    };
    for field in path.split('.').filter(|field| !field.is_empty()) {
        value = match value {
            Value::Object(mut fields) => match fields.remove(field) {
                Some(value) => value,
                None => {
                    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                    let failure = bad(format!("there is no field `{field}`"));
                    return Err(match slipway_dockerfile::nearest(field, names.iter().copied()) {
                        Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                        None => failure.with_hint(format!("there are: {}", names.join(", "))),
                    });
                }
            },
            // docker prints `<no value>` for what is not set
            Value::Null => Value::Null,
            _ => return Err(bad(format!("`{field}` is asked of what has no fields"))),
        };
    }
    Ok(value)
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// As Go prints it: lists in brackets, maps as `map[key:value]`.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let value = serde_json::json!({
            "Id": "sha256:ab", "Size": 5, "Names": ["a", "b"],
            "Config": {"Env": ["A=1"], "Labels": {"k.x": "v"}, "User": null},
        });
        for (template, expected) in [
            ("{{.Id}}", "sha256:ab"),
            ("{{ .Config.Env }}", "[A=1]"),
            ("{{json .Config.Env}}", "[\"A=1\"]"),
            ("{{.Names | json}}", "[\"a\",\"b\"]"),
            ("{{index .Names 1}}", "b"),
            ("{{index .Config.Labels \"k.x\"}}", "v"),
            ("{{len .Names}}", "2"),
            ("{{join .Names \", \"}}", "a, b"),
            ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "k.x=v;"),
            ("{{if .Config.User}}yes{{else}}no{{end}}", "no"),
            ("{{if eq .Id \"sha256:ab\"}}same{{end}}", "same"),
            ("{{with .Config}}{{len .Env}}{{end}}", "1"),
            ("a\\t{{- \" b\" }}", "a b"),
            ("{{upper (index .Names 0)}}", "A"),
            ("{{.Config.User}}", "<no value>"),
        ] {
            assert_eq!(render(template, &value).expect(template), expected, "{template}");
        }
        for template in
            ["{{.Nope}}", "{{", "{{end}}", "{{if .Id}}", "{{}}", "{{frob .Id}}", "{{index .Names 7}}"]
        {
            assert!(render(template, &value).is_err(), "{template}");
        }
    }
}
