//! An error and its causes in one line: the one way in which this house writes them.

use std::error::Error;

/// An error's words and those of its causes, from the outermost, joined by `: `. A cause whose words stand there already is
/// not repeated, because many errors show their cause themselves.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Link {
        words: &'static str,
        source: Option<Box<Link>>,
    }

    fn chained(words: &[&'static str]) -> String {
        let link = |source, words: &&'static str| Some(Box::new(Link { words, source }));
        chain(words.iter().rev().fold(None, link).expect("an error").as_ref())
    }

    #[test]
    fn causes_follow_once() {
        for (words, expected) in [
            (&["alone"][..], "alone"),
            (&["cannot read `x`", "no such file"], "cannot read `x`: no such file"),
            (&["cannot read `x`: no such file", "no such file"], "cannot read `x`: no such file"),
            (&["a", "b", "c"], "a: b: c"),
            (&["outer b", "b", "c"], "outer b: c"),
        ] {
            assert_eq!(chained(words), expected);
        }
    }
}
