//! The walk over one word's characters.

use super::pattern::Pattern;
use super::{ExpandError, Expansion, Lookup};
use crate::limits::{MAX_EXPANSION_BYTES, MAX_EXPANSION_DEPTH};
use std::iter::Peekable;
use std::str::Chars;

/// Collects the result both as one word and split into words.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// A character that may separate words.
    fn push(&mut self, ch: char) {
        self.text.push(ch);
        if !ch.is_whitespace() {
            self.word.push(ch);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// Text whose white space separates words: a variable's value.
    fn push_str(&mut self, text: &str) {
        text.chars().for_each(|ch| self.push(ch));
    }

    /// Text that belongs to the word whatever it holds: it was quoted or escaped.
    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

pub(super) struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    lookup: Lookup<'a>,
    keep_quotes: bool,
    keep_escapes: bool,
    ignore_quotes: bool,
    keep_unset: bool,
    join_heredocs: bool,
    depth: usize,
    /// Bytes produced by substitutions so far.
    produced: usize,
    found: Expansion,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, escape: char, lookup: Lookup<'a>) -> Self {
        Self {
            chars: text.chars().peekable(),
            escape,
            lookup,
            keep_quotes: false,
            keep_escapes: false,
            ignore_quotes: false,
            keep_unset: false,
            join_heredocs: false,
            depth: 0,
            produced: 0,
            found: Expansion::default(),
        }
    }

    /// Quotes still quote, and stay in the result.
    pub(super) fn keeping_quotes(self) -> Self {
        Self { keep_quotes: true, ..self }
    }

    /// Escapes still escape, and stay in the result.
    pub(super) fn keeping_escapes(self) -> Self {
        Self { keep_escapes: true, ..self }
    }

    /// Quotes are ordinary characters.
    pub(super) fn ignoring_quotes(self) -> Self {
        Self { ignore_quotes: true, ..self }
    }

    /// Substitutions of unset variables stay as written, and white space after `<<` does not end a word.
    pub(super) fn finding_heredocs(self) -> Self {
        Self { keep_unset: true, join_heredocs: true, ..self }
    }

    /// Processes the whole text; the value and its words.
    pub(super) fn run(mut self) -> Result<(Expansion, Vec<String>), ExpandError> {
        let (value, words) = self.until(None)?;
        Ok((Expansion { value, ..self.found }, words))
    }

    /// Processes up to `stop`, which is consumed, or to the end of the text.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut out = Output::default();
        while let Some(ch) = self.chars.peek().copied() {
            if Some(ch) == stop {
                self.chars.next();
                return Ok(out.finish());
            }
            match ch {
                '$' => {
                    let value = self.dollar()?;
                    out.push_str(&value);
                }
                '\'' if !self.ignore_quotes => out.push_quoted(&self.single_quoted()?),
                '"' if !self.ignore_quotes => out.push_quoted(&self.double_quoted()?),
                '<' if self.join_heredocs => self.heredoc_operator(&mut out),
                _ => {
                    self.chars.next();
                    if ch == self.escape {
                        self.escaped(ch, &mut out);
                    } else {
                        out.push(ch);
                    }
                }
            }
        }
        // The caller knows better what is missing when it asked for an end.
        if stop.is_some() { Err(ExpandError::MissingBrace) } else { Ok(out.finish()) }
    }

    /// `<<`, perhaps with a dash, and the white space after it: part of the word that follows.
    fn heredoc_operator(&mut self, out: &mut Output) {
        out.push_quoted("<");
        self.chars.next();
        if self.chars.next_if_eq(&'<').is_none() {
            return;
        }
        out.push_quoted("<");
        if self.chars.next_if_eq(&'-').is_some() {
            out.push_quoted("-");
        }
        let mut buffer = [0; 4];
        while let Some(space) = self.chars.next_if(|ch| ch.is_whitespace()) {
            out.push_quoted(space.encode_utf8(&mut buffer));
        }
    }

    /// An escape character outside quotes: whatever follows is taken as it is, at the end of the text nothing.
    fn escaped(&mut self, escape: char, out: &mut Output) {
        let mut buffer = [0; 4];
        if self.keep_escapes {
            out.push_quoted(escape.encode_utf8(&mut buffer));
        }
        if let Some(next) = self.chars.next() {
            out.push_quoted(next.encode_utf8(&mut buffer));
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = self.chars.next();
        text.extend(quote.filter(|_| self.keep_quotes));
        loop {
            match self.chars.next() {
                None => return Err(ExpandError::UnclosedQuote("single")),
                Some('\'') => {
                    text.extend(quote.filter(|_| self.keep_quotes));
                    return Ok(text);
                }
                Some(ch) => text.push(ch),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = self.chars.next();
        text.extend(quote.filter(|_| self.keep_quotes));
        loop {
            match self.chars.peek().copied() {
                None => return Err(ExpandError::UnclosedQuote("double")),
                Some('"') => {
                    self.chars.next();
                    text.extend(quote.filter(|_| self.keep_quotes));
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(ch) if ch == self.escape => {
                    self.chars.next();
                    self.escaped_in_quotes(ch, &mut text);
                }
                Some(ch) => {
                    self.chars.next();
                    text.push(ch);
                }
            }
        }
    }

    /// An escape character in double quotes: it vanishes before a quote, a dollar and itself, and stays otherwise.
    fn escaped_in_quotes(&mut self, escape: char, text: &mut String) {
        if self.keep_escapes {
            text.push(escape);
        }
        match self.chars.peek().copied() {
            Some(next) if next == '"' || next == '$' || next == escape => {
                self.chars.next();
                text.push(next);
            }
            Some(_) if !self.keep_escapes => text.push(escape),
            // Kept already, or at the end of the text, which the caller reports as a missing quote.
            _ => {}
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.get(&name) {
                Some(value) => self.limited(value)?,
                None if self.keep_unset => format!("${name}"),
                None => {
                    self.note_unset(&name);
                    String::new()
                }
            });
        }
        self.chars.next();
        if self.depth == MAX_EXPANSION_DEPTH {
            return Err(ExpandError::TooDeep(MAX_EXPANSION_DEPTH));
        }
        self.depth += 1;
        let value = self.braced()?;
        self.depth -= 1;
        self.limited(value)
    }

    /// Passes `value` on unless all substitutions together have grown too long.
    fn limited(&mut self, value: String) -> Result<String, ExpandError> {
        self.produced = self.produced.saturating_add(value.len());
        if self.produced > MAX_EXPANSION_BYTES {
            return Err(ExpandError::TooLong(MAX_EXPANSION_BYTES));
        }
        Ok(value)
    }

    /// What follows `${`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        match self.chars.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => Ok(match self.get(&name) {
                Some(value) => value,
                None if self.keep_unset => format!("${{{name}}}"),
                None => {
                    self.note_unset(&name);
                    String::new()
                }
            }),
            Some(':') => match self.chars.next() {
                None => Err(ExpandError::MissingBrace),
                Some(modifier) => self.modified(name, modifier, true),
            },
            Some('/') => self.replaced(name),
            Some(modifier) => self.modified(name, modifier, false),
        }
    }

    /// `${name` followed by `-`, `+`, `?`, `#` or `%`, after a colon or not.
    fn modified(&mut self, name: String, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let written = if colon { format!(":{modifier}") } else { modifier.to_string() };
        if !matches!(modifier, '-' | '+' | '?' | '#' | '%') {
            return Err(ExpandError::UnsupportedModifier { name, modifier: written });
        }
        let is_pattern = matches!(modifier, '#' | '%');
        let word = self.part('}', is_pattern)?;
        let value = self.get(&name);
        if value.is_none() && self.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let given = value.is_some() && !(colon && value.as_deref() == Some(""));
        match modifier {
            '-' => Ok(value.filter(|_| given).unwrap_or(word)),
            '+' => Ok(if given { word } else { String::new() }),
            '?' if given => Ok(value.unwrap_or_default()),
            '?' => {
                let rule =
                    if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { rule.to_owned() } else { word };
                Err(ExpandError::Required { name, message })
            }
            _ => {
                if value.is_none() {
                    self.note_unset(&name);
                }
                let (longest, word) = match word.strip_prefix(modifier) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::parse(word)?;
                let value = value.unwrap_or_default();
                Ok(if modifier == '#' {
                    pattern.trim_prefix(&value, longest)
                } else {
                    pattern.trim_suffix(&value, longest)
                })
            }
        }
    }

    /// `${name/` with pattern and replacement.
    fn replaced(&mut self, name: String) -> Result<String, ExpandError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.part('/', true).map_err(|error| match error {
            ExpandError::MissingBrace if self.chars.peek().is_none() => {
                ExpandError::MissingSlash { name: name.clone() }
            }
            other => other,
        })?;
        let replacement = self.part('}', true)?;
        let Some(value) = self.get(&name) else {
            if self.keep_unset {
                return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
            }
            self.note_unset(&name);
            Pattern::parse(&pattern)?;
            return Ok(String::new());
        };
        let cap = MAX_EXPANSION_BYTES.saturating_sub(self.produced);
        Pattern::parse(&pattern)?.replace(&value, &replacement, all, cap)
    }

    /// A part of a substitution, up to `stop`; in patterns the escapes stay, for the pattern to read.
    fn part(&mut self, stop: char, is_pattern: bool) -> Result<String, ExpandError> {
        let before = std::mem::replace(&mut self.keep_escapes, is_pattern);
        let result = self.until(Some(stop));
        self.keep_escapes = before;
        result.map(|(text, _)| text)
    }

    /// A name: a run of digits, one special character, or letters, digits and underscores. May be empty.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(first) if first.is_numeric() => {
                while let Some(digit) = self.chars.next_if(|ch| ch.is_numeric()) {
                    name.push(digit);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(ch) = self.chars.next_if(|ch| ch.is_alphanumeric() || *ch == '_') {
            name.push(ch);
        }
        name
    }

    fn get(&mut self, name: &str) -> Option<String> {
        if !self.found.used.iter().any(|used| used == name) {
            self.found.used.push(name.to_owned());
        }
        (self.lookup)(name)
    }

    fn note_unset(&mut self, name: &str) {
        if !self.found.unset.iter().any(|unset| unset == name) {
            self.found.unset.push(name.to_owned());
        }
    }
}
