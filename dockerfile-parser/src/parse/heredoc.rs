//! Heredocs: which words begin one, and the lines that follow.

use super::lines::Lines;
use super::words;
use crate::Heredoc;
use crate::LineIndex;
use crate::expand::shell_words;

/// What `<<WORD` announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
    pub(crate) fd: Option<u32>,
    /// The word as it stands in the text.
    pub(crate) word: String,
}

impl Opening {
    /// Whether this is `<<` of shell arithmetic, `$((1 << 2))`, if no line closes it. BuildKit fails there.
    pub(super) fn is_likely_shift(&self) -> bool {
        self.name.contains(')')
    }
}

/// The heredocs that an instruction's text announces, in order.
///
/// A text with an unclosed quote announces none: BuildKit cannot split it into words, and leaves it to the shell.
pub(super) fn openings(text: &str) -> Vec<Opening> {
    if !text.contains("<<") {
        return Vec::new();
    }
    shell_words(text, true, true).iter().filter_map(|word| opening(word)).collect()
}

/// The heredoc that one word announces, if it does.
pub(crate) fn opening(word: &str) -> Option<Opening> {
    let (_, (digits, chomp, delimiter)) = words::heredoc_word(word).ok()?;
    let bare = single(shell_words(delimiter, false, false))?;
    let quoted = single(shell_words(delimiter, true, false))?;
    // Fewer quotes once they are removed means that part of the delimiter was quoted.
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(&bare) == quotes(&quoted);
    Some(Opening { name: bare, expand, chomp, fd: digits.parse().ok(), word: word.to_owned() })
}

fn single(words: Vec<String>) -> Option<String> {
    <[String; 1]>::try_from(words).ok().map(|[word]| word)
}

/// The body that begins at the next line, or nothing when the terminator is missing; `lines` is then past the end.
pub(super) fn body(opening: &Opening, lines: &mut Lines<'_>, index: &LineIndex<'_>) -> Option<Heredoc> {
    let start = lines.offset();
    for line in lines.by_ref() {
        let text = if opening.chomp { line.text.trim_start_matches('\t') } else { line.text };
        if text == opening.name {
            return Some(Heredoc {
                name: opening.name.clone(),
                content: index.source()[start..line.offset].to_owned(),
                expand: opening.expand,
                chomp: opening.chomp,
                fd: opening.fd,
                span: index.span(start, line.offset),
            });
        }
    }
    None
}

/// The line number of a terminator that would count but for white space around it.
pub(super) fn near_terminator(opening: &Opening, lines: Lines<'_>) -> Option<u32> {
    lines.into_iter().find(|line| line.text.trim() == opening.name).map(|line| line.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_begin_heredocs() {
        for (word, expected) in [
            ("<<EOF", Some(("EOF", true, false, None))),
            ("<<-EOF", Some(("EOF", true, true, None))),
            ("3<<EOF", Some(("EOF", true, false, Some(3)))),
            ("<<'EOF'", Some(("EOF", false, false, None))),
            ("<<-\"EOF\"", Some(("EOF", false, true, None))),
            ("<<E'O'F", Some(("EOF", false, false, None))),
            ("<<\\EOF", Some(("EOF", true, false, None))),
            ("<<$x", Some(("$x", true, false, None))),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("a<<EOF", None),
            ("<<EOF cat", None),
            ("<< EOF", Some(("EOF", true, false, None))),
            ("<<- \t'EOF'", Some(("EOF", false, true, None))),
            ("<< -EOF", Some(("-EOF", true, false, None))),
            ("<<  ", None),
            ("<<''", None),
            ("<EOF", None),
        ] {
            let found = opening(word);
            let found =
                found.as_ref().map(|found| (found.name.as_str(), found.expand, found.chomp, found.fd));
            assert_eq!(found, expected, "{word}");
        }
    }

    #[test]
    fn openings_of_a_text() {
        let names = |text| openings(text).into_iter().map(|opening| opening.name).collect::<Vec<_>>();
        assert_eq!(names("RUN cat <<A > f && cat <<-B"), ["A", "B"]);
        assert_eq!(names("RUN cat 3<<A '<<B' \"<<C\" \\<<D"), ["A"]);
        assert!(names("RUN echo it's <<A").is_empty());
        assert_eq!(names("RUN cat << EOF > f <<-  B"), ["EOF", "B"]);
        assert!(names("RUN cat<<EOF").is_empty());
    }
}
