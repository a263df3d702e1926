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

/// Most bytes of a step's output that are kept: the beginning and the end, half of it each.
pub(crate) const STEP_LOG_BYTES: u64 = 16 << 20;
/// Largest table of a cache that is written or read, in bytes.
pub(crate) const TABLE_BYTES: u64 = 64 << 20;
/// Most results of one table.
pub(crate) const TABLE_RESULTS: usize = 200_000;
/// Most layers of one table: a manifest of so many is one that registries take (4 MiB, and 4096 entries here).
pub(crate) const TABLE_LAYERS: usize = 4000;
/// Longest description of a step that a table has, in bytes.
pub(crate) const TABLE_DESCRIPTION_BYTES: usize = 1 << 20;
/// Longest text of a step that a table has, in characters.
pub(crate) const TABLE_STEP_CHARACTERS: usize = 1024;
/// Most layers of cached results that one build finds lost and makes again, before a further loss is a failure.
pub(crate) const LOST_LAYERS: usize = 64;
/// Most builds whose history is kept.
pub(crate) const HISTORY_BUILDS: usize = 200;
/// Most bytes that the history of all builds takes; the build that just ended stays, however large.
pub(crate) const HISTORY_BYTES: u64 = 256 << 20;
/// Largest record of a build that is read, in bytes.
pub(crate) const RECORD_BYTES: u64 = 64 << 20;
/// Longest text in a record (an instruction, a reason), in characters; a longer one is cut.
pub(crate) const RECORD_TEXT: usize = 4096;
/// Longest description of a step that a record has, in bytes.
pub(crate) const RECORD_DESCRIPTION_BYTES: usize = 64 << 10;
/// Largest list of what a COPY selects that is kept, in bytes.
pub(crate) const LISTING_BYTES: usize = 8 << 20;
/// Most earlier steps that one is compared with.
pub(crate) const WHY_CANDIDATES: usize = 64;
/// Most files that are named as differing.
pub(crate) const WHY_FILES: usize = 20;
/// Most stages that stand on each other in which the first difference is looked for.
pub(crate) const WHY_DEPTH: usize = 64;
/// Longest value that is shown of a difference, in characters.
pub(crate) const WHY_TEXT: usize = 240;
/// Most packages of an image that are listed.
pub(crate) const SBOM_PACKAGES: usize = 200_000;
/// Most files of an image that are looked at for packages.
pub(crate) const SBOM_FILES: usize = 4_000_000;
/// Most that is said of what could not be read.
pub(crate) const SBOM_WARNINGS: usize = 100;
/// Largest description of one package, in bytes.
pub(crate) const SBOM_TEXT_BYTES: u64 = 4 << 20;
/// Largest database of packages, in bytes.
pub(crate) const SBOM_DATABASE_BYTES: u64 = 256 << 20;
/// Largest program that is looked into, in bytes.
pub(crate) const SBOM_PROGRAM_BYTES: u64 = 256 << 20;
/// Most bytes of programs of an image that are looked through.
pub(crate) const SBOM_PROGRAMS_BYTES: u64 = 16 << 30;
/// Longest name, version, licence or path that is listed, in characters.
pub(crate) const SBOM_FIELD_CHARS: usize = 512;
