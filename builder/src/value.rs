//! Values of a recipe that are not of the right form: each kind of mistake once, so that it reads the same wherever it is made.

use slipway_dockerfile::mount::MountError;
use slipway_dockerfile::{chmod::ChmodError, glob::GlobError, ignore::IgnoreError};
use slipway_oci::digest::DigestError;

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Nothing where there must be something.
    #[error("{0} must not be empty")]
    Empty(&'static str),
    /// A word outside of a closed set, or not of the form that a thing has.
    #[error("`{text}` is not {what}: {expected}")]
    Form {
        /// The word.
        text: String,
        /// What it is no example of, with its article.
        what: &'static str,
        /// What is.
        expected: &'static str,
    },
    /// More of something than anybody needs.
    #[error("{what} has more than {most} {things}")]
    TooMany {
        /// What has them.
        what: &'static str,
        /// How many it may have.
        most: usize,
        /// What they are.
        things: &'static str,
    },
    /// A mount that hides the whole root.
    #[error("the mount `{0}` has the target `/`: give it a folder below")]
    MountOnRoot(String),
    /// A mount's flag.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A mode.
    #[error(transparent)]
    Chmod(#[from] ChmodError),
    /// Patterns of an ignore file or of `--exclude`.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// A checksum.
    #[error(transparent)]
    Checksum(#[from] DigestError),
    /// A checksum of what nobody fetches.
    #[error(
        "--checksum is for what is fetched, a URL or a git repository, and `{0}` is a file of the context"
    )]
    ChecksumOfFile(String),
    /// One checksum for several things.
    #[error("--checksum is for one source: give each an ADD of its own")]
    ChecksumOfMany,
    /// A source's pattern.
    #[error("`{text}` is not a pattern: {source}")]
    Pattern {
        /// The pattern.
        text: String,
        /// Why not.
        source: GlobError,
    },
    /// A secret that is to be a variable and has bytes that no variable can have.
    #[error("the secret `{0}` is no text")]
    SecretBytes(String),
    /// A heredoc whose name is a folder's, or is in one (BuildKit: a file of an empty root).
    #[error("`{0}` is no name for a file: give the heredoc one name, and the destination the folders")]
    HeredocName(String),
    /// A URL as a source of COPY.
    #[error("COPY does not fetch `{0}`: use ADD")]
    CopyOfUrl(String),
    /// Names of owners where there is nothing to look them up in.
    #[error("--chown with --link takes numbers only: there is no file system to look names up in")]
    LinkedOwner,
    /// A path whose links never end.
    #[error("`{0}` leads through too many links")]
    Links(String),
    /// Folders in folders without end.
    #[error("`{0}` is nested too deeply")]
    Nesting(String),
    /// A device's file that is no CDI specification.
    #[error("`{path}` is not a CDI specification: {source}")]
    Cdi {
        /// The file.
        path: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A device that wants programs run on the host.
    #[error("the device `{0}` wants hooks run on the host, which slipway does not do")]
    CdiHooks(String),
    /// A device that is not to be both read and written.
    #[error(
        "the device `{name}` wants `{node}` without reading or without writing, to which slipway cannot keep a command: \
         give the node `\"permissions\": \"rw\"` in its specification"
    )]
    CdiPermissions {
        /// The device.
        name: String,
        /// Its node.
        node: String,
    },
}

impl ValueError {
    pub(crate) fn form(text: impl Into<String>, what: &'static str, expected: &'static str) -> ValueError {
        ValueError::Form { text: text.into(), what, expected }
    }
}
