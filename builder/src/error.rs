//! What can go wrong in a build, and where in the recipe.

use crate::{GraphError, SourceError, ValueError, lost::LostLayers};
use slipway_dockerfile::{Diagnostic, Origin};
use slipway_oci::{Digest, layer::LayerError, store::StoreError};
use std::{io, path::PathBuf, sync::Arc};

/// What `--from` and `from=` cannot mean.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A stage that is made later, or by its name the same one.
    #[error("stage {0} is not before this one: only earlier stages can be copied from")]
    Later(String),
    /// A number that is the stage's own or no stage's.
    #[error("stage {0} is not before this one: there is no such earlier stage")]
    NoStage(usize),
    /// A context that was not given.
    #[error("there is no context `{0}`")]
    NoContext(String),
    /// A folder where an image is needed.
    #[error("the context `{0}` is no image")]
    NoImage(String),
    /// No stage or context, and no image's name.
    #[error(transparent)]
    Reference(#[from] slipway_oci::reference::ReferenceError),
}

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The recipe is not valid; one diagnostic a mistake.
    #[error("the recipe has {} mistake(s)", .0.len())]
    Recipe(Vec<Diagnostic>),
    /// The recipe is valid, but its stages do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A step failed.
    #[error("{}", .0.error)]
    Step(Arc<ErrorAt>),
    /// The image could not be put together.
    #[error("cannot store the image")]
    Export(#[from] StoreError),
    /// Stopped from outside.
    #[error("the build was interrupted")]
    Cancelled,
    /// The machine refused what every build needs.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A step's failure and the instruction that it belongs to.
#[derive(Debug)]
pub struct ErrorAt {
    /// The instruction; `None` for one that a base image's ONBUILD brought.
    pub origin: Option<Origin>,
    /// The stage, by name or number.
    pub stage: String,
    /// What went wrong.
    pub error: StepError,
}

/// A place that had no room when a command failed, which the command may have said in its own words, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// The disk that holds this store.
    Disk(PathBuf),
    /// The memory that holds what the step changes ([`slipway_runtime::root::Changes`]).
    Memory,
    /// What this store may take of the disk: the command was stopped before more of it was taken.
    Quota(PathBuf),
}

/// Where the output of a step is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The file.
    pub path: PathBuf,
    /// The build's id.
    pub build: String,
    /// The step's number in it, from 1.
    pub step: usize,
}

/// What went wrong in one step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command ran and said no.
    #[error("the command `{command}` ended with {status}")]
    Command {
        /// The command as it was run.
        command: String,
        /// Exit status or signal, in words.
        status: String,
        /// The last lines of its output.
        tail: Vec<u8>,
        /// Where what it wrote is kept.
        log: Option<LogPlace>,
        /// What was full when it ended.
        full: Option<Full>,
    },
    /// The sandbox could not be set up, or the command not be found.
    #[error(transparent)]
    Sandbox(#[from] slipway_runtime::Error),
    /// A user or group that the image does not know.
    #[error(transparent)]
    Identity(#[from] slipway_runtime::identity::IdentityError),
    /// A variable could not be expanded.
    #[error("cannot expand `{text}`")]
    Expand {
        /// The text.
        text: String,
        /// Why not.
        source: slipway_dockerfile::ExpandError,
    },
    /// A value that is not of the right form.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// `--from` means nothing that there is.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// `--from` means an image that nobody has, and nearly a stage.
    #[error("{}; {hint}", slipway_oci::error::chain(.error.as_ref()))]
    NearStage {
        /// Which stage.
        hint: String,
        /// Why there is no such image.
        error: Box<StepError>,
    },
    /// What failed for another stage too.
    #[error(transparent)]
    Shared(Arc<StepError>),
    /// An image whose parts do not belong together.
    #[error("image `{image}` is not whole: its configuration names {diff_ids} layers, its manifest {layers}")]
    NotWhole {
        /// Its digest.
        image: Digest,
        /// How many layers the configuration names.
        diff_ids: usize,
        /// How many the manifest has.
        layers: usize,
    },
    /// A commit that is another than the recipe says.
    #[error("`{url}` is at commit `{found}`, not at `{wanted}`")]
    Commit {
        /// The repository.
        url: String,
        /// Its commit.
        found: String,
        /// The recipe's.
        wanted: String,
    },
    /// A source that is not in the context.
    #[error("`{path}` is not in {place}")]
    NotFound {
        /// The path as written.
        path: String,
        /// Which tree was searched.
        place: String,
        /// The nearest name that is there, or why it is not.
        hint: Option<String>,
    },
    /// Source and destination do not go together.
    #[error("cannot copy {what} to `{destination}`: {reason}")]
    Destination {
        /// What was to be copied.
        what: String,
        /// Where.
        destination: String,
        /// Why not.
        reason: &'static str,
    },
    /// A folder would lie on a link.
    #[error(
        "cannot copy the folder `{path}` to `{destination}`: `/{path}` is a link to `{link}` there; copy what it holds to `/{path}/` by an instruction of its own, or name it so in the source"
    )]
    FolderOverLink {
        /// Where the link is, from the root.
        path: String,
        /// Where it leads.
        link: String,
        /// The destination as written.
        destination: String,
    },
    /// An archive whose files cannot be taken.
    #[error("cannot unpack `{archive}`")]
    Archive {
        /// What it is called: its path in the context, or its URL.
        archive: String,
        /// Why not.
        source: slipway_oci::layer::ArchiveError,
    },
    /// There is no build context.
    #[error("there is no build context to copy from")]
    NoContext,
    /// A path of the layers beneath cannot be resolved.
    #[error(transparent)]
    Tree(#[from] slipway_oci::layer::TreeError),
    /// An image could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A layer that was known by name could not be had.
    #[error(transparent)]
    Lost(#[from] LostLayers),
    /// The image's reference is wrong.
    #[error(transparent)]
    Reference(#[from] slipway_oci::reference::ReferenceError),
    /// An ONBUILD trigger of the base image is wrong.
    #[error("the base image's trigger `{text}` is not valid: {reason}")]
    Trigger {
        /// The trigger.
        text: String,
        /// Why.
        reason: String,
    },
    /// A file of the host could not be read.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A layer could not be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that is there with namespaces and mounts only.
    #[error("{what} needs namespaces and mounts, and steps run without them here")]
    Bare {
        /// What.
        what: String,
    },
    /// No devices can be had for a step's `/dev`.
    #[error("cannot make the device nodes of a step's /dev")]
    BareDevices {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A command of another machine, which this one does not run.
    #[error("this machine is {host} and runs no programs for {platform}")]
    Foreign {
        /// What the stage is for.
        platform: String,
        /// What this machine is.
        host: String,
        /// The kernel's answer.
        source: slipway_runtime::Error,
    },
    /// A permission that the command line did not give.
    #[error("{what} needs `{flag}` on the command line")]
    Entitlement {
        /// What.
        what: &'static str,
        /// The flag.
        flag: &'static str,
    },
    /// A secret or agent that was not given.
    #[error("the step needs {what} `{id}`, which was not given")]
    Missing {
        /// What.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A stage that this one needs failed; its own error says why.
    #[error("a stage that this step needs failed")]
    Dependency(Arc<ErrorAt>),
    /// Stopped.
    #[error("interrupted")]
    Cancelled,
}

impl StepError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StepError {
        let path = path.into();
        move |source| StepError::Io { operation, path, source }
    }
}
