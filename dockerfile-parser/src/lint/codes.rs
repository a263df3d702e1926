//! Codes of what parsing lets pass and a build would not: `E07xx`. They are as stable as the parser's.

/// The stage that was asked for does not exist.
pub(super) const UNKNOWN_TARGET: &str = "E0701";
/// FROM has no base name once its variables are replaced.
pub(super) const EMPTY_BASE: &str = "E0702";
/// An image name breaks the grammar.
pub(super) const BAD_IMAGE_NAME: &str = "E0703";
/// A platform is empty or breaks the grammar.
pub(super) const BAD_PLATFORM: &str = "E0704";
/// Variables cannot be expanded.
pub(super) const BAD_EXPANSION: &str = "E0705";
/// A stage that is copied from does not exist, or comes later.
pub(super) const BAD_STAGE_REFERENCE: &str = "E0706";
/// Stages need each other in a circle.
pub(super) const CIRCLE: &str = "E0707";
/// A port is none.
pub(super) const BAD_PORT: &str = "E0708";
/// A signal is none.
pub(super) const BAD_SIGNAL: &str = "E0709";
/// COPY or ADD has a source, checksum or mode that it cannot have.
pub(super) const BAD_TRANSFER: &str = "E0710";
/// A value that must not be empty is, once its variables are replaced.
pub(super) const EMPTY_VALUE: &str = "E0711";
/// Warnings count as errors, and there are some.
pub(super) const LINT_VIOLATION: &str = "E0712";
