//! From a recipe to an image: graph, keys, execution, layers, export.
//!
//! ```text
//! recipe text --parse--> Recipe --graph--> BuildGraph      which stages, what each needs      (pure)
//! BuildGraph  --solve--> stages on threads, each instruction: expand -> key -> cached?         (solve, stage)
//!                          no: run in a sandbox (execute) or turn files into a layer (copy)
//! target stage --export--> configuration, manifest, name                                      (export)
//! ```
//!
//! **Keys.** A step's key is a digest over the operation and the *content* it starts from: the chain id of the layers
//! beneath, never the history that led there. A step whose input came out the same by another way therefore hits, and
//! no key holds a time, a host name or a path of the machine. See [`key`].
//!
//! **Times.** One epoch for the whole build; see [`epoch`] for what of it reaches layers and what keys.
//!
//! **Edges.** The builder never speaks to a registry: base images come through [`ImageSource`], which the command line
//! supplies. It does not print: progress is [`Event`]s.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))] // tables of cases are as long as they are

pub mod attest;
mod bare;
mod base;
mod cache;
mod cancel;
mod clock;
mod context;
mod debug;
mod device;
pub mod epoch;
mod error;
mod execute;
mod export;
mod graph;
pub mod history;
pub mod key;
mod limits;
mod lost;
mod progress;
mod request;
pub mod sbom;
mod scratch;
mod solve;
mod source;
mod stage;
mod statcache;
#[cfg(test)]
mod tests;
mod transfer;
mod value;
pub mod why;

pub use base::BaseImage;
pub use cache::{
    CACHE_CONFIG_TYPE, CACHE_TYPE, CacheSink, CacheSource, CacheTable, FoundResult, PackedTable, StepResult,
    TableError, TableResult,
};
pub use cancel::Cancel;
pub use context::{IGNORE_FILES, context_paths, read_ignore_file, read_ignore_file_in};
pub use debug::{Debugger, Look, When};
pub use error::{BuildError, ErrorAt, Full, LogPlace, StepError};
pub use export::{
    BuiltImage, Exporter, Finished, ImageExporter, ImageShape, LayerFormat, LayerShape, Squash, files,
    in_shape, write_folder,
};
pub use graph::{Base, BuildGraph, GraphError, StageNode};
pub use key::{CopyStep, InlineFile, MountStep, Operation, RunStep, StepDescription, WorkdirStep};
pub use lost::LostLayers;
pub use progress::{Event, Fact, Outcome, Progress, StepId, Stream};
pub use request::{BuildRequest, Environment, NamedContext, NetworkMode, SecretSource};
pub use solve::{BuildOutput, build};
pub use source::{Fetched, ImageSource, SourceError};
pub use stage::{ChangeError, apply_changes};
pub use transfer::is_git_url;
pub use value::ValueError;
