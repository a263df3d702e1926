//! Caps on what text may drive, in one place.

/// Longest physical line in bytes, without its line feed; BuildKit's scanner refuses longer ones too.
pub(crate) const MAX_LINE_BYTES: usize = 65_535;

/// Deepest nesting of `${…}` in one word; deeper text is refused before it can exhaust the stack.
pub(crate) const MAX_EXPANSION_DEPTH: usize = 64;

/// Longest value that expansion may produce, against `${a//x/$b}` chains that double each time.
pub(crate) const MAX_EXPANSION_BYTES: usize = 16 * 1024 * 1024;

/// How many `ONBUILD ONBUILD …` levels are parsed before the rest is left alone; one is already an error.
pub(crate) const MAX_ONBUILD_DEPTH: usize = 3;

/// Diagnostics kept from one file; past this the file is not a Dockerfile and more lines help nobody.
pub(crate) const MAX_DIAGNOSTICS: usize = 200;

/// Lines of source shown for one diagnostic.
pub(crate) const MAX_EXCERPT_LINES: usize = 6;

/// Columns of source shown for one diagnostic.
pub(crate) const MAX_EXCERPT_COLUMNS: usize = 140;

/// Notes shown for one diagnostic.
pub(crate) const MAX_NOTES: usize = 3;

/// Unclosed heredocs after which parsing still looks for a line to read on from. Each look is a walk to the end of the
/// file, so that without a cap a file of nothing else would cost quadratic time.
pub(crate) const MAX_HEREDOC_RECOVERIES: usize = 16;
