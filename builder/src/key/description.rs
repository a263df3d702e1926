//! What a step does and what it starts from, as plain data.

use slipway_oci::{Digest, layer::Clamp};

/// Version of the meaning of descriptions: whoever changes what a step makes of its inputs raises it, and no old
/// result is taken for a new one.
const VERSION: u32 = 2;

/// Everything that decides a step's result, and nothing else: no times, host names, temporary paths or secrets.
///
/// It is kept beside the result as JSON, so that it can be told why a step was carried out again. Its key is the
/// digest of that JSON: fields come in the order of the declaration, maps do not occur, and text that is no UTF-8 is
/// written by [`StepDescription::text`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StepDescription {
    version: u32,
    /// Chain id of the layers beneath (image-spec `config.md`); `None` where the result does not depend on them.
    pub beneath: Option<String>,
    /// What is done.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub enum Operation {
    /// RUN.
    Run(Box<RunStep>),
    /// COPY.
    Copy(CopyStep),
    /// ADD.
    Add(CopyStep),
    /// WORKDIR.
    Workdir(WorkdirStep),
    /// A layer by what it holds, whatever led there.
    Files {
        /// Digest of its listing.
        listing: Digest,
    },
}

/// A command and all that it can see beside the layers beneath.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunStep {
    /// Its words.
    pub argv: Vec<String>,
    /// Digest of the script that is shown to it.
    pub script: Option<Digest>,
    /// Its variables, those of undeclared proxies excepted.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// User as the configuration has it.
    pub user: String,
    /// Platform.
    pub platform: String,
    /// `host` or `none`.
    pub network: String,
    /// Whether it runs without the sandbox's restrictions.
    pub insecure: bool,
    /// Host name.
    pub hostname: String,
    /// Devices that it asks for.
    pub devices: Vec<String>,
    /// Its mounts, in order.
    pub mounts: Vec<MountStep>,
    /// Latest modification time that its layer may say, in seconds since 1970; `None` where times are kept.
    pub latest_time: Option<i64>,
    /// `SOURCE_DATE_EPOCH`, where the caller gave one.
    pub epoch: Option<i64>,
}

/// A mount of a RUN: its shape and what it shows; no secret and no content of caches.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountStep {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where it appears.
        target: String,
        /// What is shown of the source.
        path: String,
        /// Chain id of the layers that hold it.
        from: String,
        /// Whether the command may write.
        read_write: bool,
    },
    /// A folder kept between builds.
    Cache {
        /// Where it appears.
        target: String,
        /// What the recipe calls it.
        id: String,
        /// What tells it from others: its id and what a new one starts from.
        cache: String,
        /// Number of the instruction: two equal steps in a row are two, since each may change the cache.
        number: usize,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// Where it appears.
        target: String,
        /// Its largest size.
        size_bytes: Option<u64>,
    },
    /// A secret: never its value.
    Secret {
        /// Its name.
        id: String,
        /// The file.
        target: Option<String>,
        /// The variable.
        env: Option<String>,
        /// Mode, owner and group of the file, which the command can read and act on.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// The socket of an agent.
    Ssh {
        /// Its name.
        id: String,
        /// The socket.
        target: Option<String>,
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// What a COPY or ADD takes and where it puts it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CopyStep {
    /// Chain id of the layers that are copied from; `None` where the files come from a folder or from afar.
    pub from: Option<String>,
    /// The sources as written, where `from` says of what.
    pub paths: Vec<String>,
    /// Digest of what was selected, where it comes from a folder or from afar: names, modes and contents.
    pub selection: Option<Digest>,
    /// Files whose bytes are in the recipe.
    pub inline: Vec<InlineFile>,
    /// Where they go.
    pub destination: String,
    /// What a relative destination is relative to.
    pub working_dir: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// Whether the destination is made where nothing is copied: `--parents` with no wildcard before its pivot.
    pub makes_folder: bool,
    /// `--unpack`.
    pub unpack: Option<bool>,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// Latest modification time that the layer may say, in seconds since 1970; `None` where times are kept.
    pub latest_time: Option<i64>,
    /// Modification time that means "made in the build" where the files come from; see `epoch`.
    pub made_time: Option<i64>,
}

/// A file whose bytes are in the recipe.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Digest of its bytes.
    pub content: Digest,
}

/// A working directory that may have to be made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WorkdirStep {
    /// Its path.
    pub path: String,
    /// Whose it is.
    pub user: String,
    /// Latest modification time that the layer may say, in seconds since 1970; `None` where times are kept.
    pub latest_time: Option<i64>,
}

impl StepDescription {
    /// The description of `operation` on the layers with the chain id `beneath`.
    pub fn new(beneath: Option<String>, operation: Operation) -> StepDescription {
        StepDescription { version: VERSION, beneath, operation }
    }

    /// The JSON that is kept and that the key is the digest of.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a description holds nothing that JSON lacks")
    }

    /// The step's key.
    pub fn key(&self) -> Digest {
        Digest::sha256(self.to_json().as_bytes())
    }

    /// A path as text: UTF-8 as it is, other bytes as `\xNN`, a backslash doubled. No two paths are one text.
    pub fn text(path: &[u8]) -> String {
        let mut text = String::with_capacity(path.len());
        for chunk in path.utf8_chunks() {
            text.push_str(&chunk.valid().replace('\\', "\\\\"));
            for byte in chunk.invalid() {
                text.push_str(&format!("\\x{byte:02x}"));
            }
        }
        text
    }
}

/// The time that a clamp allows.
pub(crate) fn latest_time(clamp: Clamp) -> Option<i64> {
    match clamp {
        Clamp::Keep => None,
        Clamp::Latest(latest) => Some(latest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workdir(path: &str) -> StepDescription {
        let step = WorkdirStep { path: path.to_owned(), user: String::new(), latest_time: Some(5) };
        StepDescription::new(Some("scratch".to_owned()), Operation::Workdir(step))
    }

    #[test]
    fn the_key_is_the_digest_of_what_is_kept() {
        let kept = workdir("/app").to_json();
        assert_eq!(
            kept,
            r#"{"version":2,"beneath":"scratch","operation":"workdir","path":"/app","user":"","latest_time":5}"#
        );
        let read: StepDescription = serde_json::from_str(&kept).expect("what was written");
        assert_eq!(read, workdir("/app"));
        assert_eq!(read.key(), Digest::sha256(kept.as_bytes()));
        assert_ne!(read.key(), workdir("/ap").key());
    }

    #[test]
    fn no_two_paths_are_one_text() {
        let paths: [&[u8]; 6] = [b"a\\xff", b"a\xff", b"a\\\\xff", "aÿ".as_bytes(), b"a", b"a\xff\xff"];
        let texts: std::collections::BTreeSet<String> =
            paths.iter().map(|path| StepDescription::text(path)).collect();
        assert_eq!(texts.len(), paths.len(), "{texts:?}");
    }
}
