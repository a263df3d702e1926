//! Caps of the builder on what recipes and contexts may drive.

/// Most files that one COPY or ADD takes.
pub(crate) const COPY_FILES: usize = 4_000_000;
/// Longest line of a step's output that is passed on whole, in bytes; a longer one is passed on in parts.
pub(crate) const OUTPUT_LINE_BYTES: usize = 64 << 10;

/// Most characters of a command that a failure shows.
pub(crate) const SHOWN_COMMAND_CHARS: usize = 100;

/// Most bytes of a line that is not at its end that are told: more than the widest terminal shows.
pub(crate) const UNFINISHED_BYTES: usize = 2 << 10;
/// Most ONBUILD triggers taken from one base image.
pub(crate) const TRIGGERS: usize = 1024;
/// Largest CDI specification, in bytes.
pub(crate) const CDI_BYTES: u64 = 4 << 20;
/// Largest secret, in bytes (BuildKit's cap).
pub(crate) const SECRET_BYTES: u64 = 500 << 10;
/// Largest record of what a cache mount has seen, in bytes; a larger one counts as none.
pub(crate) const SEEN_BYTES: u64 = 512 << 20;
/// Longest list of extended attributes and longest value of one, in bytes (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
pub(crate) const ATTRIBUTE_BYTES: usize = 64 << 10;
/// Most connections to an ssh agent that one step has open at a time.
pub(crate) const AGENT_CONNECTIONS: usize = 64;
/// Longest message of an ssh agent, in bytes (OpenSSH `AGENT_MAX_LEN`).
pub(crate) const AGENT_MESSAGE_BYTES: u32 = 256 << 10;
