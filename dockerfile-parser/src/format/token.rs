//! An instruction's pieces, each kept as it stands in the source.

use crate::{Keyword, LineIndex, Node, Span, Word};

/// Columns before continued lines.
pub(super) const INDENT: &str = "    ";

/// A piece that the formatter moves but does not change.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The text, one entry a line.
    pub(super) lines: Vec<String>,
    /// Where it stands in the source.
    pub(super) start: usize,
    /// One past its last byte.
    pub(super) end: usize,
    /// Whether no space stands before it, as after a bracket.
    pub(super) glue: bool,
    /// Whether it is the text of a shell command.
    pub(super) is_shell: bool,
}

impl Token {
    fn plain(text: impl Into<String>, span: Span) -> Self {
        Self { lines: vec![text.into()], start: span.start, end: span.end, glue: false, is_shell: false }
    }
}

/// Takes an instruction apart. Nothing when it is written in a way that the formatter leaves alone.
pub(super) struct Cutter<'a> {
    index: &'a LineIndex<'a>,
    escape: char,
    /// Where the instruction's own text ends: before its heredocs' bodies.
    end: usize,
    tokens: Vec<Token>,
}

/// The tokens of `node`, whose own text ends at `end`.
pub(super) fn tokens(node: &Node, index: &LineIndex<'_>, escape: char, end: usize) -> Option<Vec<Token>> {
    let mut cutter = Cutter { index, escape, end, tokens: Vec::new() };
    cutter.node(node)?;
    let last = cutter.tokens.last()?.end;
    let rest = index.source().get(last..end)?;
    let is_clean = !rest.contains('\n') && cutter.residue(rest).is_empty();
    is_clean.then_some(cutter.tokens)
}

impl Cutter<'_> {
    fn node(&mut self, node: &Node) -> Option<()> {
        let source = self.index.source();
        if source[node.keyword_span.start..node.keyword_span.end].contains('\n') {
            return None;
        }
        self.push(Token::plain(node.keyword.to_uppercase(), node.keyword_span))?;
        for flag in &node.flags {
            self.slice(flag.span, false)?;
        }
        let Some(keyword) = Keyword::from_word(&node.keyword) else { return self.rest() };
        if let Some(child) = &node.child {
            return self.node(child);
        }
        match keyword {
            Keyword::Env | Keyword::Label => self.pairs(node),
            Keyword::From => self.from(node),
            Keyword::Healthcheck => {
                let Some((kind, command)) = node.args.split_first() else { return Some(()) };
                self.push(Token::plain(kind.text.clone(), kind.span))?;
                // Without a command there is no array either, but a JSON one may be empty.
                if node.json { self.array(command) } else { self.words(command, true) }
            }
            _ if node.json => self.array(&node.args),
            Keyword::Cmd | Keyword::Entrypoint | Keyword::Run => self.words(&node.args, true),
            _ => self.words(&node.args, false),
        }
    }

    fn words(&mut self, words: &[Word], is_shell: bool) -> Option<()> {
        words.iter().try_for_each(|word| self.slice(word.span, is_shell))
    }

    fn from(&mut self, node: &Node) -> Option<()> {
        for (at, word) in node.args.iter().enumerate() {
            if at == 1 && node.args.len() == 3 && word.text.eq_ignore_ascii_case("as") {
                self.push(Token::plain("AS", word.span))?;
            } else {
                self.slice(word.span, false)?;
            }
        }
        Some(())
    }

    fn pairs(&mut self, node: &Node) -> Option<()> {
        for pair in &node.pairs {
            if pair.separator.is_empty() {
                // The value of the old form reaches to the end of the text.
                self.slice(pair.key_span, false)?;
                let rest =
                    self.index.source().get(pair.key_span.end..self.end)?.trim_start_matches([' ', '\t']);
                if rest.trim_start_matches(self.escape).starts_with(['\r', '\n']) {
                    return None;
                }
                self.slice(Span { start: self.end - rest.len(), end: pair.span.end, ..pair.span }, false)?;
            } else {
                self.slice(pair.span, false)?;
            }
        }
        Some(())
    }

    /// What follows the keyword of an extension's instruction: words.
    fn rest(&mut self) -> Option<()> {
        let start = self.tokens.last()?.end;
        let rest = self.index.source().get(start..self.end)?;
        if rest.contains('\n') {
            return None;
        }
        let lines = vec![rest.split_whitespace().collect::<Vec<_>>().join(" ")];
        if !lines[0].is_empty() {
            self.tokens.push(Token { lines, start, end: self.end, glue: false, is_shell: false });
        }
        Some(())
    }

    /// A JSON array: its brackets and its strings, each with the comma after it.
    fn array(&mut self, strings: &[Word]) -> Option<()> {
        let source = self.index.source();
        let after = self.tokens.last()?.end;
        let first = strings.first().map_or(self.end, |word| word.span.start);
        let open = after + source.get(after..first)?.rfind('[')?;
        self.push(Token::plain("[", Span { start: open, end: open + 1, ..Span::default() }))?;
        for (at, word) in strings.iter().enumerate() {
            let mut lines = self.slice_lines(word.span)?;
            if at + 1 < strings.len() {
                lines.last_mut()?.push(',');
            }
            let token =
                Token { lines, start: word.span.start, end: word.span.end, glue: at == 0, is_shell: false };
            self.push_after(token, if at == 0 { "" } else { "," })?;
        }
        let last = self.tokens.last()?.end;
        let close = last + source.get(last..self.end)?.rfind(']')?;
        let token = Token::plain("]", Span { start: close, end: close + 1, ..Span::default() });
        self.push(Token { glue: true, ..token })
    }

    fn slice(&mut self, span: Span, is_shell: bool) -> Option<()> {
        let lines = self.slice_lines(span)?;
        self.push(Token { lines, start: span.start, end: span.end, glue: false, is_shell })
    }

    /// The text at `span` line by line: comments indented, blank lines and space after continuations dropped.
    fn slice_lines(&self, span: Span) -> Option<Vec<String>> {
        let written: Vec<_> = self.index.source().get(span.start..span.end)?.split('\n').collect();
        let (last, before) = written.split_last()?;
        let mut lines = Vec::new();
        for (at, line) in before.iter().enumerate() {
            let line = line.trim_end_matches('\r');
            if at > 0 && line.trim_start().starts_with('#') {
                lines.push(format!("{INDENT}{}", line.trim()));
            } else if at == 0 || !line.trim().is_empty() {
                lines.push(line.trim_end_matches([' ', '\t']).to_owned());
            }
        }
        lines.push((*last).to_owned());
        Some(lines)
    }

    fn push(&mut self, token: Token) -> Option<()> {
        self.push_after(token, "")
    }

    /// Adds a token if nothing but `separator` stands between it and the one before. A lone `--`, which ends the
    /// flags, is a token of its own.
    fn push_after(&mut self, token: Token, separator: &str) -> Option<()> {
        if let Some(last) = self.tokens.last() {
            let gap = self.index.source().get(last.end..token.start)?;
            match self.residue(gap).as_str() {
                "--" if separator.is_empty() && !gap.contains('\n') => {
                    let start = last.end + gap.find("--")?;
                    self.tokens.push(Token::plain("--", Span { start, end: start + 2, ..Span::default() }));
                }
                residue if residue != separator => return None,
                _ => {}
            }
        }
        self.tokens.push(token);
        Some(())
    }

    /// What `gap` holds besides white space, continuations and comment lines.
    fn residue(&self, gap: &str) -> String {
        let lines = gap.split('\n').enumerate();
        let texts = lines.filter(|(at, line)| *at == 0 || !line.trim_start().starts_with('#'));
        texts
            .map(|(_, line)| line.trim())
            .map(|line| line.strip_suffix(self.escape).unwrap_or(line).trim())
            .collect()
    }
}
