//! A small splitter of shell text: commands, their words, and what stands between them.
//!
//! It knows quotes, comments, redirections, heredocs, subshells and the reserved words of compound commands. It does not
//! look into `$(…)` and runs nothing. What it does not understand it passes over: a missed warning is better than a wrong one.

use super::limits::{MAX_COMMANDS, MAX_SHELL_DEPTH};
use std::ops::Range;

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShellWord {
    /// The text, quotes removed; substitutions stay as written.
    pub(super) text: String,
    /// Where it stands in the script, quotes included.
    pub(super) range: Range<usize>,
    /// Whether nothing in it is substituted.
    pub(super) is_literal: bool,
    /// Whether any part is quoted.
    pub(super) is_quoted: bool,
}

/// What stands between two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connector {
    /// The beginning or end of the script.
    Edge,
    /// `;`, `&`, a line end, or the bound of a compound command.
    Sequence,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|`
    Pipe,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// `NAME=value` before the first word.
    pub(super) assignments: Vec<ShellWord>,
    /// The words, the program first.
    pub(super) words: Vec<ShellWord>,
    /// Operators and targets of redirections.
    pub(super) redirects: Vec<(String, ShellWord)>,
    pub(super) before: Connector,
    pub(super) after: Connector,
    /// How many compound commands it is in.
    pub(super) depth: usize,
    /// Whether its failure only steers `if`, `while` or `!`.
    pub(super) is_condition: bool,
}

/// Programs that run the program in their arguments.
const WRAPPERS: [&str; 7] = ["sudo", "env", "exec", "command", "nohup", "nice", "time"];

impl Command {
    /// The place from the first word to the last.
    pub(super) fn range(&self) -> Range<usize> {
        let first = self.assignments.first().or(self.words.first());
        let redirected = self.redirects.last().map_or(0, |(_, word)| word.range.end);
        let last = self.words.last().or(self.assignments.last()).map_or(0, |word| word.range.end);
        first.map_or(0..0, |word| word.range.start..last.max(redirected))
    }

    /// The words from the program that really does the work, past `sudo`, `env` and their like.
    pub(super) fn program(&self) -> &[ShellWord] {
        let mut words = self.words.as_slice();
        while let [first, rest @ ..] = words {
            let wrapper = base_name(&first.text);
            if !WRAPPERS.contains(&wrapper) {
                break;
            }
            words = rest;
            while let [next, rest @ ..] = words {
                let valued = wrapper == "sudo" && ["-u", "-g"].contains(&next.text.as_str());
                let assignment = matches!(wrapper, "env" | "sudo") && next.text.contains('=');
                if !next.text.starts_with('-') && !assignment {
                    break;
                }
                words = if valued { rest.get(1..).unwrap_or_default() } else { rest };
            }
        }
        words
    }

    /// The program's name without its folder; empty when a variable decides it.
    pub(super) fn name(&self) -> &str {
        self.program().first().filter(|word| word.is_literal).map_or("", |word| base_name(&word.text))
    }

    /// The words after the program.
    pub(super) fn arguments(&self) -> &[ShellWord] {
        self.program().get(1..).unwrap_or_default()
    }
}

pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Splits a script into its simple commands.
pub(super) fn split(text: &str) -> Vec<Command> {
    Splitter::new(text).run()
}

/// A compound command that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    opener: &'static str,
    in_condition: bool,
}

struct Splitter<'t> {
    text: &'t str,
    at: usize,
    commands: Vec<Command>,
    current: Command,
    /// What stood before the command that comes next.
    before: Connector,
    frames: Vec<Frame>,
    negated: bool,
    /// Delimiters of heredocs whose bodies begin at the next line, and whether tabs are stripped.
    pending: Vec<(String, bool)>,
    /// Whether a pattern of `case` comes next.
    expects_pattern: bool,
}

impl<'t> Splitter<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            commands: Vec::new(),
            current: empty(),
            before: Connector::Edge,
            frames: Vec::new(),
            negated: false,
            pending: Vec::new(),
            expects_pattern: false,
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn run(mut self) -> Vec<Command> {
        while let Some(ch) = self.rest().chars().next() {
            if self.commands.len() >= MAX_COMMANDS {
                break;
            }
            if self.expects_pattern && !ch.is_whitespace() {
                self.pattern();
                continue;
            }
            match ch {
                ' ' | '\t' | '\r' => self.at += 1,
                '\n' => self.line_end(),
                '\\' if self.rest()[1..].starts_with('\n') => self.at += 2,
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                ';' | '&' | '|' => self.operator(),
                '(' => self.open_parenthesis(),
                ')' => {
                    self.at += 1;
                    self.end(Connector::Sequence);
                    self.close("(");
                }
                '<' | '>' if !self.rest()[1..].starts_with('(') => self.redirect(),
                _ => self.word(),
            }
        }
        self.end(Connector::Edge);
        self.commands
    }

    fn end(&mut self, connector: Connector) {
        let is_empty = self.current.words.is_empty() && self.current.assignments.is_empty();
        let mut command = std::mem::replace(&mut self.current, empty());
        if !is_empty {
            command.before = self.before;
            command.after = connector;
            command.depth = self.frames.len();
            command.is_condition = self.negated || self.frames.iter().any(|frame| frame.in_condition);
            self.commands.push(command);
        }
        // A line end after `&&`, `||` or `|` does not end the chain.
        let is_chained = matches!(self.before, Connector::And | Connector::Or | Connector::Pipe);
        let goes_on =
            is_empty && (self.before == Connector::Edge || (is_chained && connector == Connector::Sequence));
        if !goes_on {
            self.before = connector;
        }
        if connector != Connector::Pipe {
            self.negated = false;
        }
    }

    fn line_end(&mut self) {
        self.at += 1;
        self.end(Connector::Sequence);
        for (delimiter, strip) in std::mem::take(&mut self.pending) {
            while !self.rest().is_empty() {
                let line = self.rest().split_inclusive('\n').next().unwrap_or_default();
                self.at += line.len();
                let line = line.trim_end_matches(['\n', '\r']);
                let line = if strip { line.trim_start_matches('\t') } else { line };
                if line == delimiter {
                    break;
                }
            }
        }
    }

    fn operator(&mut self) {
        let rest = self.rest();
        if rest.starts_with("&>") {
            self.at += 1;
            return self.redirect();
        }
        let (length, connector) = match rest {
            _ if rest.starts_with(";;") => (2, Connector::Sequence),
            _ if rest.starts_with("&&") => (2, Connector::And),
            _ if rest.starts_with("||") => (2, Connector::Or),
            _ if rest.starts_with("|&") => (2, Connector::Pipe),
            _ if rest.starts_with('|') => (1, Connector::Pipe),
            _ => (1, Connector::Sequence),
        };
        self.expects_pattern =
            rest.starts_with(";;") && self.frames.iter().any(|frame| frame.opener == "case");
        self.at += length;
        self.end(connector);
    }

    fn open_parenthesis(&mut self) {
        self.at += 1;
        if self.current.words.is_empty() {
            self.end(Connector::Sequence);
            self.open("(", false);
        } else {
            // `name() {`: a function, or something that this splitter does not know.
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            if rest[blanks..].starts_with(')') {
                self.at += blanks + 1;
            }
            self.current = empty();
        }
    }

    fn open(&mut self, opener: &'static str, in_condition: bool) {
        // Deeper text is followed as if it were flat.
        if self.frames.len() < MAX_SHELL_DEPTH {
            self.frames.push(Frame { opener, in_condition });
        }
    }

    fn close(&mut self, opener: &str) {
        if let Some(at) = self.frames.iter().rposition(|frame| frame.opener == opener) {
            self.frames.truncate(at);
        }
    }

    /// Passes over a pattern of `case` up to its parenthesis.
    fn pattern(&mut self) {
        self.expects_pattern = false;
        if self.rest().starts_with("esac") {
            return;
        }
        self.at += self.rest().find(')').map_or(self.rest().len(), |end| end + 1);
    }

    fn redirect(&mut self) {
        let start = self.at;
        let operators = ["<<<", "<<-", "<<", "<&", "<>", ">>", ">&", ">|", "<", ">"];
        let Some(operator) = operators.into_iter().find(|operator| self.rest().starts_with(operator)) else {
            self.at += 1;
            return;
        };
        self.at += operator.len();
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        self.at += blanks;
        let ends = self.rest().chars().next().is_none_or(|ch| "\n;&|()<>".contains(ch));
        let target = if ends {
            ShellWord { text: String::new(), range: start..self.at, is_literal: true, is_quoted: false }
        } else {
            self.read_word()
        };
        if operator == "<<" || operator == "<<-" {
            self.pending.push((target.text.clone(), operator == "<<-"));
        }
        self.current.redirects.push((operator.to_owned(), target));
    }

    fn word(&mut self) {
        let word = self.read_word();
        let follows = self.rest().chars().next();
        let is_descriptor = word.text.bytes().all(|byte| byte.is_ascii_digit()) && !word.is_quoted;
        if is_descriptor && matches!(follows, Some('<' | '>')) && !word.text.is_empty() {
            return;
        }
        let first = self.current.words.is_empty();
        if first && self.current.assignments.is_empty() && !word.is_quoted && self.reserved(&word.text) {
            return;
        }
        if first && is_assignment(&word.text) {
            self.current.assignments.push(word);
            return;
        }
        let is_in =
            word.text == "in" && self.current.words.len() == 2 && self.current.words[0].text == "case";
        if is_in {
            self.expects_pattern = true;
            self.current = empty();
            return;
        }
        self.current.words.push(word);
    }

    /// Deals with a reserved word at the beginning of a command; says whether it was one.
    fn reserved(&mut self, word: &str) -> bool {
        match word {
            "if" => self.open("if", true),
            "while" => self.open("while", true),
            "until" => self.open("while", true),
            "for" | "select" => {
                self.open("while", false);
                return false;
            }
            "case" => {
                self.open("case", false);
                return false;
            }
            "{" => self.open("{", false),
            "elif" => self.condition(true),
            "then" | "else" | "do" => self.condition(false),
            "fi" => self.close("if"),
            "done" => self.close("while"),
            "esac" => self.close("case"),
            "}" => self.close("{"),
            "!" => self.negated = true,
            _ => return false,
        }
        true
    }

    fn condition(&mut self, begins: bool) {
        if let Some(frame) = self.frames.last_mut() {
            frame.in_condition = begins;
        }
    }

    fn read_word(&mut self) -> ShellWord {
        let start = self.at;
        let (mut text, mut is_literal, mut is_quoted) = (String::new(), true, false);
        while let Some(ch) = self.rest().chars().next() {
            let from = self.at;
            match ch {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | ')' => break,
                '(' => break,
                '<' | '>' if self.rest()[1..].starts_with('(') => {
                    self.at = skip_parentheses(self.text, self.at + 2, 0);
                    is_literal = false;
                }
                '<' | '>' => break,
                '\\' => {
                    self.at += 1;
                    match self.rest().chars().next() {
                        Some('\n') => self.at += 1,
                        Some(next) => {
                            text.push(next);
                            self.at += next.len_utf8();
                        }
                        None => {}
                    }
                    is_quoted = true;
                    continue;
                }
                '\'' => {
                    let end = self.rest()[1..].find('\'').map_or(self.text.len(), |end| self.at + 1 + end);
                    text.push_str(&self.text[self.at + 1..end]);
                    self.at = (end + 1).min(self.text.len());
                    is_quoted = true;
                    continue;
                }
                '"' => {
                    let end = skip_double(self.text, self.at + 1, 0);
                    // An open quote reaches to the end of the text.
                    let closed = self.text[..end].ends_with('"');
                    let inner_end = if closed { end - 1 } else { end };
                    let inner = &self.text[self.at + 1..inner_end.max(self.at + 1)];
                    is_literal &= !inner.contains(['$', '`']);
                    text.push_str(&inner.replace("\\\"", "\""));
                    self.at = end;
                    is_quoted = true;
                    continue;
                }
                '$' | '`' => {
                    self.at = skip_dollar(self.text, self.at, 0);
                    is_literal = false;
                }
                _ => self.at += ch.len_utf8(),
            }
            text.push_str(&self.text[from..self.at]);
        }
        // Nothing was taken: step over, so that the walk always gets on.
        if self.at == start {
            self.at += self.rest().chars().next().map_or(0, char::len_utf8);
        }
        ShellWord { text, range: start..self.at, is_literal, is_quoted }
    }
}

fn empty() -> Command {
    Command {
        assignments: Vec::new(),
        words: Vec::new(),
        redirects: Vec::new(),
        before: Connector::Edge,
        after: Connector::Edge,
        depth: 0,
        is_condition: false,
    }
}

fn is_assignment(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    name.starts_with(|ch: char| ch.is_ascii_alphabetic() || ch == '_')
        && name.chars().all(|ch| ch.is_ascii_alphanumeric() || ch == '_')
}

/// Past the quote that closes a double-quoted part whose inside begins at `at`.
fn skip_double(text: &str, mut at: usize, depth: usize) -> usize {
    while let Some(ch) = text.get(at..).and_then(|rest| rest.chars().next()) {
        match ch {
            '"' => return at + 1,
            '\\' => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            '$' | '`' => at = skip_dollar(text, at, depth),
            _ => at += ch.len_utf8(),
        }
    }
    text.len()
}

/// Past the substitution that begins with the dollar or backtick at `at`.
fn skip_dollar(text: &str, at: usize, depth: usize) -> usize {
    let rest = &text[at..];
    if let Some(inside) = rest.strip_prefix('`') {
        return inside.find('`').map_or(text.len(), |end| at + end + 2);
    }
    if depth >= MAX_SHELL_DEPTH {
        return at + 1;
    }
    match rest[1..].chars().next() {
        Some('(') => skip_parentheses(text, at + 2, depth + 1),
        Some('{') => skip_braces(text, at + 2, depth + 1),
        Some('\'') => rest[2..].find('\'').map_or(text.len(), |end| at + 2 + end + 1),
        _ => at + 1,
    }
}

/// Past the parenthesis that closes what begins at `at`.
fn skip_parentheses(text: &str, mut at: usize, depth: usize) -> usize {
    let mut open = 1;
    while let Some(ch) = text.get(at..).and_then(|rest| rest.chars().next()) {
        match ch {
            '(' => open += 1,
            ')' if open == 1 => return at + 1,
            ')' => open -= 1,
            _ => {}
        }
        at = skip_one(text, at, ch, depth);
    }
    text.len()
}

/// Past the brace that closes what begins at `at`.
fn skip_braces(text: &str, mut at: usize, depth: usize) -> usize {
    while let Some(ch) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if ch == '}' {
            return at + 1;
        }
        at = skip_one(text, at, ch, depth);
    }
    text.len()
}

/// Past one character, quoted part or substitution.
fn skip_one(text: &str, at: usize, ch: char, depth: usize) -> usize {
    match ch {
        '\'' => text[at + 1..].find('\'').map_or(text.len(), |end| at + end + 2),
        '"' if depth < MAX_SHELL_DEPTH => skip_double(text, at + 1, depth + 1),
        '$' | '`' => skip_dollar(text, at, depth),
        '\\' => at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        _ => at + ch.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<String> {
        split(text)
            .iter()
            .map(|command| {
                let words: Vec<_> = command.words.iter().map(|word| word.text.as_str()).collect();
                format!("{}{}", "  ".repeat(command.depth), words.join("|"))
            })
            .collect()
    }

    #[test]
    fn commands_and_words() {
        for (text, expected) in [
            ("a b && c 'd e'; f \"g $h\" || i", vec!["a|b", "c|d e", "f|g $h", "i"]),
            ("A=1 b # c && d", vec!["b"]),
            ("if a; then b; else c; fi; d", vec!["  a", "  b", "  c", "d"]),
            ("(cd x && y); z", vec!["  cd|x", "  y", "z"]),
            ("for x in a b; do c $x; done", vec!["  for|x|in|a|b", "  c|$x"]),
            ("case $x in a|b) c ;; *) d ;; esac; e", vec!["  c", "  d", "e"]),
            ("a 2>&1 >/dev/null <x b", vec!["a|b"]),
            ("cat <<E > f\nx | y\nE\nb", vec!["cat", "b"]),
            ("a $(b | c) `d | e` ${f:-g h}", vec!["a|$(b | c)|`d | e`|${f:-g h}"]),
            ("f() { a; }; f", vec!["  a", "f"]),
            ("a \\\n b", vec!["a|b"]),
            ("bash <(curl x)", vec!["bash|<(curl x)"]),
            ("a 'b", vec!["a|b"]),
            ("a \"\"\"é", vec!["a|é"]),
            ("a \"", vec!["a|"]),
            ("a \"b", vec!["a|b"]),
            ("! a | b", vec!["a", "b"]),
            ("a |\n b &&\n\n c", vec!["a", "b", "c"]),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn wrappers_and_conditions() {
        let commands = split("sudo -E -u x env A=b apt-get update; ! a | b; while c; do d; done");
        assert_eq!(commands[0].name(), "apt-get");
        assert!(split("a &&\n b").iter().skip(1).all(|command| command.before == Connector::And));
        let conditions: Vec<_> = commands.iter().map(|command| command.is_condition).collect();
        assert_eq!(conditions, [false, true, true, true, false]);
    }
}
