//! The shell patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and literals, no bracket classes.

use super::ExpandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character.
    Any,
    /// `*`: any number of characters.
    Star,
}

/// A pattern ready to match. Like Go's regular expressions, which BuildKit turns patterns into, neither `*` nor `?`
/// matches a line feed.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern; backslash escapes `*`, `?`, itself, and the `}` and `/` of the substitution around it.
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match chars.next() {
                    Some(next @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(next),
                    _ => return Err(ExpandError::BadPattern { pattern: text.to_owned() }),
                },
                other => Token::Literal(other),
            });
        }
        // Neighbouring stars match what one does, and would only multiply the work.
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Ok(Self { tokens })
    }

    /// `value` without the shortest or longest prefix that matches.
    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        match match_end(&self.tokens, &chars, longest) {
            Some(end) => chars[end..].iter().collect(),
            None => value.to_owned(),
        }
    }

    /// `value` without the shortest or longest suffix that matches.
    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        match match_end(&tokens, &chars, longest) {
            Some(end) => chars[end..].iter().rev().collect(),
            None => value.to_owned(),
        }
    }

    /// `value` with the first match, or all of them, replaced; each match is the leftmost and longest.
    ///
    /// An empty match replaces too, but not right after another match, as in Go.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        cap: usize,
    ) -> Result<String, ExpandError> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut copied, mut search) = (0, 0);
        while search <= chars.len() {
            let Some((start, end)) = self.find(&chars, search) else { break };
            out.extend(&chars[copied..start]);
            if end > copied || start == 0 {
                out.push_str(replacement);
            }
            if out.len() > cap {
                return Err(ExpandError::TooLong(crate::limits::MAX_EXPANSION_BYTES));
            }
            copied = end;
            search = end.max(search + 1);
            if !all {
                break;
            }
        }
        out.extend(&chars[copied.min(chars.len())..]);
        Ok(out)
    }

    fn find(&self, chars: &[char], from: usize) -> Option<(usize, usize)> {
        (from..=chars.len()).find_map(|start| {
            match_end(&self.tokens, &chars[start..], true).map(|length| (start, start + length))
        })
    }
}

/// Where the shortest or longest match that begins at the first character ends.
///
/// The literals between stars are placed as early as they go, which never rules out a match; only the last one, when
/// the longest match is asked for, is placed as late as it goes.
fn match_end(tokens: &[Token], chars: &[char], longest: bool) -> Option<usize> {
    let mut parts = tokens.split(|token| *token == Token::Star).peekable();
    let first = parts.next()?;
    if !matches_at(first, chars, 0) {
        return None;
    }
    let mut at = first.len();
    while let Some(part) = parts.next() {
        // A star reaches to the end of the line, so what follows it begins there at the latest.
        let reach = chars[at..].iter().position(|ch| *ch == '\n').map_or(chars.len(), |length| at + length);
        let is_last = parts.peek().is_none();
        let start = if is_last && longest {
            (at..=reach).rev().find(|start| matches_at(part, chars, *start))
        } else {
            (at..=reach).find(|start| matches_at(part, chars, *start))
        };
        at = start? + part.len();
    }
    Some(at)
}

fn matches_at(part: &[Token], chars: &[char], at: usize) -> bool {
    let Some(candidate) = chars.get(at..at + part.len()) else { return false };
    part.iter().zip(candidate).all(|(token, ch)| match token {
        Token::Literal(literal) => literal == ch,
        Token::Any => *ch != '\n',
        Token::Star => true,
    })
}
