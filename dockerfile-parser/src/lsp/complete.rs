//! What could be written at a place.

use super::position::Places;
use super::{context, docs};
use crate::{Dockerfile, extension, parse};
use serde_json::{Value, json};

/// The protocol's kinds of items that are used here.
const VARIABLE: u32 = 6;
const MODULE: u32 = 9;
const PROPERTY: u32 = 10;
const VALUE: u32 = 12;
const KEYWORD: u32 = 14;

/// Collects items that fit what is written already.
struct Offers<'a> {
    places: &'a Places<'a>,
    offset: usize,
    items: Vec<Value>,
}

impl Offers<'_> {
    /// Offers `label` in place of `written`, which ends at the place.
    fn push(&mut self, written: &str, label: &str, kind: u32, words: &str) {
        let fits = label.get(..written.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(written));
        if !fits || self.items.iter().any(|item| item["label"] == label) {
            return;
        }
        let range = self.places.range(self.offset - written.len(), self.offset);
        self.items.push(json!({
            "label": label,
            "kind": kind,
            "detail": words,
            "textEdit": {"range": range, "newText": label},
        }));
    }
}

/// The items for the place.
pub(super) fn items(source: &str, offset: usize, places: &Places<'_>) -> Vec<Value> {
    let file = parse(source).file;
    let mut offers = Offers { places, offset, items: Vec::new() };
    if context::in_heredoc(&file, offset) {
        return offers.items;
    }
    let text = statement(source, offset, file.directives.escape);
    let text = text.trim_start();
    if text.starts_with('#') {
        return offers.items;
    }
    match text.split_once(char::is_whitespace) {
        None => keywords(&mut offers, text, extension::is_enabled(&file)),
        Some((keyword, rest)) => arguments(&mut offers, &file, &keyword.to_ascii_uppercase(), rest),
    }
    offers.items
}

/// The text of the instruction up to the place, continued lines joined.
fn statement(source: &str, offset: usize, escape: char) -> String {
    let mut lines = source[..offset].rsplit('\n');
    let mut text = lines.next().unwrap_or_default().to_owned();
    // More lines than any instruction has that a person completes words in.
    for line in lines.take(200) {
        let line = line.trim_end();
        if line.trim_start().starts_with('#') {
            continue;
        }
        let Some(line) = line.strip_suffix(escape) else { break };
        text.insert_str(0, line);
    }
    text
}

fn keywords(offers: &mut Offers<'_>, written: &str, extended: bool) {
    for (name, form, _) in docs::INSTRUCTIONS {
        if extended || !extension::is_keyword(name) {
            offers.push(written, name, KEYWORD, form);
        }
    }
}

fn arguments(offers: &mut Offers<'_>, file: &Dockerfile, keyword: &str, rest: &str) {
    let word = rest.rsplit(char::is_whitespace).next().unwrap_or_default();
    if let Some(name) = variable(word) {
        return variables(offers, file, name);
    }
    let before: Vec<&str> = rest[..rest.len() - word.len()].split_whitespace().collect();
    let count = before.iter().filter(|word| !word.starts_with("--")).count();
    if word.starts_with('-') && count == 0 {
        return flag(offers, file, keyword, word);
    }
    match (keyword, count) {
        ("FROM", 0) => {
            stages(offers, file, word);
            offers.push(word, "scratch", MODULE, "no base image");
        }
        ("FROM", 1) => offers.push(word, "AS", KEYWORD, "names the stage"),
        ("HEALTHCHECK", 0) => {
            offers.push(word, "CMD", KEYWORD, "runs a command");
            offers.push(word, "NONE", KEYWORD, "drops an inherited check");
        }
        ("ONBUILD", 0) => keywords(offers, word, false),
        ("ONBUILD", _) => {
            let Some((inner, rest)) = rest.trim_start().split_once(char::is_whitespace) else { return };
            if !inner.eq_ignore_ascii_case("ONBUILD") {
                arguments(offers, file, &inner.to_ascii_uppercase(), rest);
            }
        }
        ("UNSET", 0) => {
            for kind in extension::unset_kinds() {
                offers.push(word, kind, VALUE, "what to unset");
            }
        }
        _ => {}
    }
}

/// The beginning of a variable's name at the end of `word`.
fn variable(word: &str) -> Option<&str> {
    let name = &word[word.trim_end_matches(|ch: char| ch.is_alphanumeric() || ch == '_').len()..];
    let before = &word[..word.len() - name.len()];
    (before.ends_with('$') || before.ends_with("${")).then_some(name)
}

fn variables(offers: &mut Offers<'_>, file: &Dockerfile, written: &str) {
    let found: Vec<_> = context::variables(file, offers.offset).collect();
    for (name, node) in found {
        offers.push(written, name, VARIABLE, &node.original);
    }
    for name in
        ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDPLATFORM", "BUILDOS", "BUILDARCH"]
    {
        offers.push(written, name, VARIABLE, "a platform argument; declare it with ARG to use it in a stage");
    }
}

fn stages(offers: &mut Offers<'_>, file: &Dockerfile, written: &str) {
    let found: Vec<_> = context::stages(file, offers.offset).collect();
    for (name, node) in found {
        offers.push(written, name, MODULE, &node.original);
    }
}

fn flag(offers: &mut Offers<'_>, file: &Dockerfile, keyword: &str, word: &str) {
    let extended = extension::is_enabled(file);
    let Some((name, value)) = word.split_once('=') else {
        for (_, name, words) in docs::flags(keyword).filter(|flag| extended || flag.1 != "--optional") {
            offers.push(word, name, PROPERTY, words);
        }
        return;
    };
    match (keyword, name) {
        ("COPY", "--from") => stages(offers, file, value),
        ("RUN", "--mount") => mount(offers, file, value),
        ("RUN", "--network") => {
            ["default", "none", "host"].iter().for_each(|name| offers.push(value, name, VALUE, ""))
        }
        ("RUN", "--security") => {
            ["sandbox", "insecure"].iter().for_each(|name| offers.push(value, name, VALUE, ""))
        }
        _ => {}
    }
}

fn mount(offers: &mut Offers<'_>, file: &Dockerfile, list: &str) {
    let field = list.rsplit(',').next().unwrap_or_default();
    let kind = list.split(',').find_map(|field| field.strip_prefix("type=")).unwrap_or("bind");
    match field.split_once('=') {
        Some(("type", value)) => {
            docs::MOUNT_TYPES.iter().for_each(|(name, words)| offers.push(value, name, VALUE, words));
        }
        Some(("sharing", value)) => {
            ["shared", "private", "locked"].iter().for_each(|name| offers.push(value, name, VALUE, ""));
        }
        Some(("from", value)) => stages(offers, file, value),
        Some(_) => {}
        None => {
            let fits = |types: &str| types.is_empty() || types.split(' ').any(|own| own == kind);
            for (_, name, words) in docs::MOUNT_KEYS.iter().filter(|key| fits(key.0)) {
                offers.push(field, name, PROPERTY, words);
            }
        }
    }
}
