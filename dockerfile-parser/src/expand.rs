//! Variables, quotes and escapes in one word, by BuildKit's rules.
//!
//! Forms: `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}`,
//! the words within nesting. Single quotes keep everything; in double quotes only the quote, the dollar and the escape
//! character can be escaped. `$1`, `$@`, `$*` and their kin are names that nobody sets.
//!
//! ```
//! use slipway_dockerfile::Expander;
//! let lookup = |name: &str| (name == "version").then(|| "1.2.3".to_owned());
//! let expansion = Expander::new('\\').expand("app-${version%.*}'$'${tag:-latest}", &lookup).unwrap();
//! assert_eq!(expansion.value, "app-1.2$latest");
//! assert_eq!(expansion.used, ["version", "tag"]);
//! ```

mod lexer;
mod pattern;

use lexer::Lexer;

/// Where values come from: the value of a name, or nothing when it is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands words with one escape character.
#[derive(Debug, Clone, Copy)]
pub struct Expander {
    /// The escape character: backslash or backtick, as the file's `escape` directive says.
    pub escape: char,
}

/// What a text expanded to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The result as one word.
    pub value: String,
    /// Every variable named, in order of first use.
    pub used: Vec<String>,
    /// Those of them that were unset where nothing provided for that: not in `${v-w}`, `${v+w}` or `${v?m}`.
    pub unset: Vec<String>,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote is not closed.
    #[error("{0} quote is not closed")]
    UnclosedQuote(&'static str),
    /// A `${` is not closed.
    #[error("`${{` is not closed by `}}`")]
    MissingBrace,
    /// A `${v/p` has no second slash.
    #[error("`${{{name}/` needs a second `/` before the replacement")]
    MissingSlash {
        /// The variable.
        name: String,
    },
    /// `${}`, `${{` or `${:`.
    #[error("bad substitution: `${{` must be followed by a name")]
    BadSubstitution,
    /// The character after the name is no modifier.
    #[error("unsupported modifier `{modifier}` in the substitution of `{name}`")]
    UnsupportedModifier {
        /// The variable.
        name: String,
        /// What stands after it.
        modifier: String,
    },
    /// `${v?message}` and the variable is unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The recipe's words, or which rule was broken.
        message: String,
    },
    /// A pattern escapes what cannot be escaped.
    #[error("invalid pattern `{pattern}`: only `*`, `?`, `\\`, `}}` and `/` can be escaped")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// Nested deeper than the cap.
    #[error("`${{…}}` is nested deeper than {0} levels")]
    TooDeep(usize),
    /// The result is longer than the cap.
    #[error("the result is longer than {0} bytes")]
    TooLong(usize),
}

impl Expander {
    /// An expander with this escape character.
    pub const fn new(escape: char) -> Self {
        Self { escape }
    }

    /// Expands `text` to one word: quotes are removed and escapes processed, and values are not split.
    ///
    /// # Errors
    /// The first thing that is not right.
    pub fn expand(&self, text: &str, lookup: Lookup<'_>) -> Result<Expansion, ExpandError> {
        Lexer::new(text, self.escape, lookup).run().map(|(expansion, _)| expansion)
    }

    /// Expands the body of a heredoc: quotes are ordinary characters there, escapes still count.
    ///
    /// Bodies always use backslash, so call this on `Expander::new('\\')`.
    ///
    /// # Errors
    /// The first thing that is not right.
    pub fn expand_raw(&self, text: &str, lookup: Lookup<'_>) -> Result<Expansion, ExpandError> {
        Lexer::new(text, self.escape, lookup).ignoring_quotes().run().map(|(expansion, _)| expansion)
    }

    /// Expands `text` and splits the result at unquoted white space, that of values included.
    ///
    /// This is for EXPOSE, where one variable may carry several ports. `value` still holds the unsplit word.
    ///
    /// # Errors
    /// The first thing that is not right.
    pub fn split(&self, text: &str, lookup: Lookup<'_>) -> Result<(Vec<String>, Expansion), ExpandError> {
        Lexer::new(text, self.escape, lookup).run().map(|(expansion, words)| (words, expansion))
    }
}

/// Splits `text` into shell words as heredoc detection needs them: variables, escapes and, if asked, quotes stay.
/// Backslash is the escape character whatever the file says. Text that cannot be split has no words.
pub(crate) fn shell_words(text: &str, keep_quotes: bool, keep_escapes: bool) -> Vec<String> {
    let mut lexer = Lexer::new(text, '\\', &|_| None).finding_heredocs();
    if keep_quotes {
        lexer = lexer.keeping_quotes();
    }
    if keep_escapes {
        lexer = lexer.keeping_escapes();
    }
    lexer.run().map(|(_, words)| words).unwrap_or_default()
}

#[cfg(test)]
mod tests;
