//! Shell text that stretches over several lines.

use super::token::INDENT;

/// How far quotes have got at some place of a shell command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between words or in an unquoted word.
    Plain,
    /// After a backslash in unquoted text.
    Escaped,
    Single,
    Double,
    /// Past something whose quoting is not followed here: substitutions, comments and heredocs.
    Unknown,
}

/// Reads `text` on from `state`; calls `word` for every character that matters.
fn walk(mut state: State, text: &str, mut visit: impl FnMut(State, char)) -> State {
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        visit(state, ch);
        state = match (state, ch) {
            (State::Plain, '\\') => State::Escaped,
            (State::Plain, '\'') => State::Single,
            (State::Plain, '"') => State::Double,
            (State::Plain | State::Double, '`') => State::Unknown,
            (State::Plain | State::Double, '$') if matches!(chars.peek(), Some('(' | '{' | '\'')) => {
                State::Unknown
            }
            (State::Plain, '#') => State::Unknown,
            (State::Plain, '<') if chars.peek() == Some(&'<') => State::Unknown,
            (State::Double, '\\') => {
                if let Some(next) = chars.next() {
                    visit(State::Double, next);
                }
                State::Double
            }
            (State::Escaped, _) | (State::Single, '\'') | (State::Double, '"') => State::Plain,
            (state, _) => state,
        };
    }
    state
}

/// Indents the continued lines of a command by four where a blank between words stands there already, outside quotes.
pub(super) fn indent(lines: &mut [String], escape: char) {
    let mut state = State::Plain;
    let mut ends_blank = false;
    for (at, line) in lines.iter_mut().enumerate() {
        if at > 0 && line.trim_start().starts_with('#') {
            continue;
        }
        let bare = line.trim_start_matches([' ', '\t']);
        let is_blank_there = ends_blank || bare.len() < line.len();
        if at > 0 && state == State::Plain && is_blank_there && !bare.is_empty() {
            *line = format!("{INDENT}{bare}");
        }
        let text = line.trim_end_matches([' ', '\t']);
        let text = text.strip_suffix(escape).unwrap_or(text);
        let mut last = (state, ' ');
        state = walk(state, text, |state, ch| last = (state, ch));
        ends_blank = last.0 == State::Plain && matches!(last.1, ' ' | '\t');
    }
}

/// Whether two commands differ at most in how many blanks stand where there is one.
pub(super) fn same_words(a: &str, b: &str) -> bool {
    collapsed(a) == collapsed(b)
}

fn collapsed(text: &str) -> String {
    let mut out = String::new();
    let mut blank = false;
    walk(State::Plain, text, |state, ch| {
        let is_blank = state == State::Plain && matches!(ch, ' ' | '\t');
        if !(is_blank && blank) {
            out.push(if is_blank { ' ' } else { ch });
        }
        blank = is_blank;
    });
    out
}
