//! Codes of what parsing lets pass and a build would not: `E08xx`. They are as stable as the parser's.

/// The stage that was asked for does not exist.
pub(super) const UNKNOWN_TARGET: &str = "E0801";
/// FROM has no base name once its variables are replaced.
pub(super) const EMPTY_BASE: &str = "E0802";
/// An image name breaks the grammar.
pub(super) const BAD_IMAGE_NAME: &str = "E0803";
/// A platform is empty or breaks the grammar.
pub(super) const BAD_PLATFORM: &str = "E0804";
/// Variables cannot be expanded.
pub(super) const BAD_EXPANSION: &str = "E0805";
/// A stage that is copied from does not exist, or comes later.
pub(super) const BAD_STAGE_REFERENCE: &str = "E0806";
/// Stages need each other in a circle.
pub(super) const CIRCLE: &str = "E0807";
/// A port is none.
pub(super) const BAD_PORT: &str = "E0808";
/// A signal is none.
pub(super) const BAD_SIGNAL: &str = "E0809";
/// COPY or ADD has a source, checksum or mode that it cannot have.
pub(super) const BAD_TRANSFER: &str = "E0810";
/// A value that must not be empty is, once its variables are replaced.
pub(super) const EMPTY_VALUE: &str = "E0811";
/// Warnings count as errors, and there are some.
pub(super) const LINT_VIOLATION: &str = "E0812";
