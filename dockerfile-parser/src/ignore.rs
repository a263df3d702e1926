//! Ignore files: which paths of a context a build does not see.
//!
//! One pattern a line. `#` in the first column makes a comment; white space around a pattern does not count; patterns
//! are cleaned as paths, and a slash in front means nothing. A pattern matches a path or any directory above it; `!`
//! makes it bring back what it matches. The last pattern that matches decides.
//!
//! ```
//! use slipway_dockerfile::ignore::IgnoreFile;
//! let ignore = IgnoreFile::parse("target\n!target/keep\n").unwrap();
//! assert!(ignore.matches("target/debug", true));
//! assert!(!ignore.matches("target/keep/me", false));
//! assert!(ignore.may_reinclude_below("target"));
//! assert!(!ignore.may_reinclude_below("target/debug"));
//! ```

use crate::glob::{Glob, clean};

/// The rules of an ignore file, or of `--exclude`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    brings_back: bool,
    glob: Glob,
}

/// Why an ignore file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A pattern is malformed.
    #[error("line {line}: malformed pattern `{pattern}`")]
    Malformed {
        /// The line, from 1; for a list of patterns the pattern's number.
        line: usize,
        /// The pattern.
        pattern: String,
    },
    /// A `!` has no pattern.
    #[error("line {line}: `!` needs a pattern")]
    Bare {
        /// The line, from 1; for a list of patterns the pattern's number.
        line: usize,
    },
}

impl IgnoreFile {
    /// Reads an ignore file.
    ///
    /// # Errors
    /// The first line that is not right.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        Self::from_numbered(lines.map(|(index, line)| (index + 1, line)))
    }

    /// Takes patterns one by one, as `--exclude` gives them; none of them is a comment.
    ///
    /// # Errors
    /// The first pattern that is not right.
    pub fn from_patterns<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, IgnoreError> {
        Self::from_numbered(patterns.into_iter().enumerate().map(|(index, pattern)| (index + 1, pattern)))
    }

    fn from_numbered<'p>(lines: impl Iterator<Item = (usize, &'p str)>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (line, written) in lines {
            let written = written.trim();
            let (brings_back, pattern) = match written.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, written),
            };
            if pattern.is_empty() {
                if brings_back {
                    return Err(IgnoreError::Bare { line });
                }
                continue;
            }
            let cleaned = clean(pattern);
            let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
            let glob = Glob::deep(relative)
                .map_err(|_| IgnoreError::Malformed { line, pattern: pattern.to_owned() })?;
            rules.push(Rule { brings_back, glob });
        }
        Ok(Self { rules })
    }

    /// Whether there is nothing to ignore.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path`, relative to the context and with slashes, is ignored.
    ///
    /// The context's root never is. The rules treat directories as any other path, so `_is_dir` makes no difference;
    /// callers give it because rules that look at it, such as git's, may join.
    pub fn matches(&self, path: &str, _is_dir: bool) -> bool {
        let path = relative(path);
        !path.is_empty() && self.deciding(path).is_some_and(|(_, rule)| !rule.brings_back)
    }

    /// Whether anything below the directory `dir` may be visible: when not, a walk need not enter it.
    ///
    /// For an ignored directory that is so only if a later `!` could match something in it.
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        let dir = relative(dir);
        match self.deciding(dir) {
            Some((index, rule)) if !dir.is_empty() && !rule.brings_back => self.rules[index + 1..]
                .iter()
                .any(|later| later.brings_back && later.glob.may_match_below(dir)),
            _ => true,
        }
    }

    /// The last rule that matches, and its number.
    fn deciding(&self, path: &str) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().rfind(|(_, rule)| rule.glob.matches_or_parent(path))
    }
}

/// The path without what only says that it is relative to the root, and without a slash at the end.
fn relative(path: &str) -> &str {
    let mut path = path.trim_matches('/');
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    if path == "." { "" } else { path }
}

#[cfg(test)]
mod tests;
