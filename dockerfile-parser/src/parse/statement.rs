//! One statement's text to its node: keyword, flags, and arguments split as the instruction asks.

use super::array::{self, Array};
use super::lines::Statement;
use super::words::{self, Found};
use crate::diagnostic::code;
use crate::limits::MAX_ONBUILD_DEPTH;
use crate::{Diagnostic, Keyword, LineIndex, Node, Pair, Span, Word};
use std::ops::Range;

/// Parses a statement; the node's keyword is empty when the statement is.
pub(super) fn parse(
    statement: &Statement<'_>,
    index: &LineIndex<'_>,
    escape: char,
) -> (Node, Vec<Diagnostic>) {
    let mut parser = StatementParser { statement, index, escape, diagnostics: Vec::new() };
    let node = parser.node(0..statement.text().len(), MAX_ONBUILD_DEPTH);
    (node, parser.diagnostics)
}

struct StatementParser<'s, 'a> {
    statement: &'s Statement<'a>,
    index: &'s LineIndex<'a>,
    escape: char,
    diagnostics: Vec<Diagnostic>,
}

/// The part of `range` that is left without white space at both ends.
fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    start..start + part.trim().len()
}

fn shift(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

impl<'s> StatementParser<'s, '_> {
    fn text(&self, range: Range<usize>) -> &'s str {
        &self.statement.text()[range]
    }

    fn span(&self, range: Range<usize>) -> Span {
        let (start, end) = self.statement.source_range(range.start, range.end);
        self.index.span(start, end)
    }

    fn word(&self, (text, range): Found, by: usize) -> Word {
        Word { text, span: self.span(shift(range, by)) }
    }

    fn words(&self, found: Vec<Found>, by: usize) -> Vec<Word> {
        found.into_iter().map(|found| self.word(found, by)).collect()
    }

    /// The node of the instruction in `range`; `depth` is how many ONBUILD levels may still be opened.
    fn node(&mut self, range: Range<usize>, depth: usize) -> Node {
        let original = self.text(range.clone()).to_owned();
        let trimmed = trim(self.statement.text(), range);
        let (rest, keyword) = words::keyword(self.text(trimmed.clone())).unwrap_or(("", ""));
        let keyword_range = trimmed.start..trimmed.start + keyword.len();
        let flags_start = trimmed.end - rest.len();
        let (flags, args) = words::flags(rest);
        let args = trim(self.statement.text(), trimmed.end - args.len()..trimmed.end);
        let mut node = Node {
            keyword: keyword.to_lowercase(),
            keyword_span: self.span(keyword_range),
            flags: self.words(flags, flags_start),
            args: Vec::new(),
            json: false,
            pairs: Vec::new(),
            child: None,
            heredocs: Vec::new(),
            span: self.span(trimmed),
            start_line: self.statement.start_line,
            end_line: self.statement.end_line,
            original,
            comments: Vec::new(),
            check: None,
            broken: false,
        };
        match Keyword::from_word(keyword) {
            Some(found) => self.arguments(&mut node, found, args, depth),
            None => self.unknown(&mut node, keyword),
        }
        node
    }

    fn unknown(&mut self, node: &mut Node, keyword: &str) {
        node.broken = true;
        let names = Keyword::ALL.map(Keyword::name);
        self.diagnostics.push(
            Diagnostic::error(
                code::UNKNOWN_INSTRUCTION,
                node.keyword_span,
                format!("unknown instruction `{keyword}`"),
            )
            .with_nearest(keyword, names)
            .with_expected(format!("one of {}", names.join(", "))),
        );
    }

    fn arguments(&mut self, node: &mut Node, keyword: Keyword, args: Range<usize>, depth: usize) {
        match keyword {
            Keyword::Add | Keyword::Copy | Keyword::Volume => self.array_or_words(node, args),
            Keyword::Arg => {
                let found = words::quoted_words(self.text(args.clone()), self.escape);
                node.args = self.words(found, args.start);
            }
            Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => {
                self.array_or_text(node, args)
            }
            Keyword::Env | Keyword::Label => self.pairs(node, keyword, args),
            Keyword::Expose | Keyword::From => self.plain_words(node, args),
            Keyword::Healthcheck => self.healthcheck(node, args),
            Keyword::Maintainer | Keyword::Stopsignal | Keyword::User | Keyword::Workdir => {
                self.whole(node, args)
            }
            Keyword::Onbuild => {
                if depth > 0 && !args.is_empty() {
                    let before = self.diagnostics.len();
                    let child = self.node(args, depth - 1);
                    // any word may stand there until the trigger fires (BuildKit parser.go `newNodeFromLine`)
                    if Keyword::from_word(&child.keyword).is_none() {
                        let told: Vec<_> =
                            self.diagnostics.drain(before..).map(Diagnostic::of_trigger).collect();
                        self.diagnostics.extend(told);
                    }
                    node.child = Some(Box::new(child));
                }
            }
        }
    }

    /// Everything as one argument.
    fn whole(&mut self, node: &mut Node, args: Range<usize>) {
        if !args.is_empty() {
            let text = self.text(args.clone()).to_owned();
            node.args.push(Word { text, span: self.span(args) });
        }
    }

    fn plain_words(&mut self, node: &mut Node, args: Range<usize>) {
        node.args.extend(self.words(words::plain_words(self.text(args.clone())), args.start));
    }

    /// Takes the arguments as a JSON array if they are one; says whether that settled the matter.
    fn array(&mut self, node: &mut Node, args: Range<usize>) -> bool {
        match array::classify(self.text(args.clone())) {
            Array::Strings(found) => {
                node.json = true;
                node.args.extend(self.words(found, args.start));
                true
            }
            Array::NotStrings => {
                node.broken = true;
                let span = self.span(args);
                self.diagnostics.push(
                    Diagnostic::error(code::NOT_ALL_STRINGS, span, "a JSON array here may only hold strings")
                        .with_hint("put double quotes around every element"),
                );
                true
            }
            Array::Not => {
                self.warn_looks_like_json(args);
                false
            }
        }
    }

    /// The classic trap: single quotes make `['a', 'b']` a shell command without a word.
    fn warn_looks_like_json(&mut self, args: Range<usize>) {
        let text = self.text(args.clone());
        let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else { return };
        // `[ "$a" = b ]` is a test in the shell: it needs the space and has no use for commas.
        let quoted = inside.trim_start().starts_with(['\'', '"']);
        let is_test = inside.starts_with(char::is_whitespace) && !inside.contains(',');
        if quoted && !is_test {
            let span = self.span(args);
            self.diagnostics.push(
                Diagnostic::warning(
                    code::LOOKS_LIKE_JSON,
                    span,
                    "this looks like a JSON array but is not a valid one",
                )
                .with_note("it is taken as plain text, in shell form", None)
                .with_hint("JSON wants double quotes, commas between the elements and none after the last"),
            );
        }
    }

    fn array_or_words(&mut self, node: &mut Node, args: Range<usize>) {
        if !self.array(node, args.clone()) {
            self.plain_words(node, args);
        }
    }

    fn array_or_text(&mut self, node: &mut Node, args: Range<usize>) {
        if !self.array(node, args.clone()) {
            self.whole(node, args);
        }
    }

    /// The type word in upper case, then the command as for CMD.
    fn healthcheck(&mut self, node: &mut Node, args: Range<usize>) {
        let text = self.text(args.clone());
        let length = text.find(char::is_whitespace).unwrap_or(text.len());
        if length == 0 {
            return;
        }
        let kind = args.start..args.start + length;
        node.args.push(Word { text: text[..length].to_uppercase(), span: self.span(kind.clone()) });
        let command = trim(self.statement.text(), kind.end..args.end);
        self.array_or_text(node, command);
    }

    /// ENV and LABEL: words with `=` if the first has one, otherwise one key and the raw rest.
    fn pairs(&mut self, node: &mut Node, keyword: Keyword, args: Range<usize>) {
        let text = self.text(args.clone());
        let found = words::quoted_words(text, self.escape);
        let Some((first, _)) = found.first() else { return };
        if first.contains('=') {
            for (word, range) in found {
                self.pair(node, keyword, &word, shift(range, args.start));
            }
            return;
        }
        let Some((key, value)) = words::first_word(text) else {
            node.broken = true;
            let name = keyword.name();
            let span = self.span(args);
            self.diagnostics.push(
                Diagnostic::error(
                    code::PAIR_WITHOUT_VALUE,
                    span,
                    format!("{name} needs a value for `{text}`"),
                )
                .with_expected(format!("`{name} key=value`"))
                .with_hint(format!("`{name} {text}=` sets it to nothing")),
            );
            return;
        };
        node.pairs.push(Pair {
            key: key.to_owned(),
            value: value.to_owned(),
            separator: "",
            key_span: self.span(args.start..args.start + key.len()),
            span: self.span(args),
        });
    }

    fn pair(&mut self, node: &mut Node, keyword: Keyword, word: &str, range: Range<usize>) {
        let span = self.span(range.clone());
        let Some((key, value)) = word.split_once('=') else {
            node.broken = true;
            self.diagnostics.push(
                Diagnostic::error(code::PAIR_WITHOUT_EQUALS, span, format!("`{word}` has no `=`"))
                    .with_expected("`key=value`")
                    .with_hint(format!(
                        "put double quotes around a value with spaces: `{} key=\"a value\"`",
                        keyword.name()
                    )),
            );
            return;
        };
        node.pairs.push(Pair {
            key: key.to_owned(),
            value: value.to_owned(),
            separator: "=",
            key_span: self.span(range.start..range.start + key.len()),
            span,
        });
    }
}
