//! Path patterns: Go's `filepath.Match`, and the form with `**` of ignore files, `--exclude` and `--parents`.
//!
//! `*` is any run of characters but slashes, `?` one character but a slash, `[a-z]` and `[^a-z]` one character of or
//! outside a class, backslash escapes. In the deep form `**` is any number of directories, none included, and at the
//! end anything at all.
//!
//! A pattern becomes a small automaton that reads the path once, so that no pattern, however hostile, makes a match
//! slow; the shapes that most patterns have are matched without it.

mod pattern;

pub use pattern::{Glob, GlobError};

/// Whether `pattern` matches the whole of `path`, by the rules of Go's `filepath.Match`.
///
/// ```
/// assert_eq!(slipway_dockerfile::glob::matches("*.r[sb]", "lib.rs"), Ok(true));
/// assert_eq!(slipway_dockerfile::glob::matches("*", "a/b"), Ok(false));
/// ```
///
/// # Errors
/// When the pattern is malformed.
pub fn matches(pattern: &str, path: &str) -> Result<bool, GlobError> {
    Glob::new(pattern).map(|glob| glob.matches(path))
}

/// The shortest path that means the same, by the words alone: Go's `path.Clean`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
