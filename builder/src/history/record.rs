//! The lines of a record, as data.

use crate::{Outcome, StepDescription};
use slipway_oci::Digest;

/// Version of the lines' meaning. Records of another one are passed over.
pub(super) const VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// The first one.
    Build(Box<BuildRecord>),
    /// A step, as far as it is known; a later line on the same step takes its place.
    Step(Box<StepRecord>),
    /// The last one.
    End(Ended),
}

/// One build.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BuildRecord {
    /// Version of the record's meaning.
    pub version: u32,
    /// Twelve hexadecimal digits.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// What the recipe is called.
    pub recipe: String,
    /// The context: a folder's absolute path or a URL; what a URL says of a user is left out.
    pub context: Option<String>,
    /// The stage that was asked for.
    pub target: Option<String>,
    /// The platform.
    pub platform: String,
    /// Names of the build arguments that were given; their values are in the descriptions of the steps that saw them.
    pub arguments: Vec<String>,
    /// Names of the secrets that were given.
    pub secrets: Vec<String>,
    /// What the image was to be called.
    pub names: Vec<String>,
    /// Whether cached results were passed over.
    pub no_cache: bool,
    /// What a check says of the recipe.
    #[serde(default)]
    pub advice: Vec<Advice>,
    /// The command line that asked for it, and in which folder: for who looks into it later. Empty where it is no text.
    #[serde(default)]
    pub line: Vec<String>,
    /// The folder.
    #[serde(default)]
    pub folder_of_line: String,
    /// Its steps, in the order of the recipe.
    #[serde(skip)]
    pub steps: Vec<StepRecord>,
    /// How it ended; `None` where it runs or was killed.
    #[serde(skip)]
    pub end: Option<Ended>,
    /// Whether its process lives.
    #[serde(skip)]
    pub alive: bool,
    /// Name of its folder in the history.
    #[serde(skip)]
    pub folder: String,
}

/// What a check says of a line of the recipe.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Advice {
    /// The line, from 1.
    pub line: u32,
    /// The rule's name.
    pub rule: String,
    /// Its words.
    pub message: String,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ended {
    /// How.
    pub state: State,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Digest of the image's manifest.
    pub image: Option<Digest>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a build came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is under way.
    Running,
    /// There is an image.
    Built,
    /// A step failed.
    Failed,
    /// It was stopped.
    Cancelled,
    /// Its process ended without a word.
    Killed,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Built => "built",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Killed => "killed",
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// Its result was there.
    Cached,
    /// It was carried out.
    Done,
    /// It failed.
    Failed,
    /// It was given up.
    Cancelled,
}

impl StepOutcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            StepOutcome::Cached => "cached",
            StepOutcome::Done => "done",
            StepOutcome::Failed => "failed",
            StepOutcome::Cancelled => "cancelled",
        }
    }
}

impl From<Outcome> for StepOutcome {
    fn from(outcome: Outcome) -> StepOutcome {
        match outcome {
            Outcome::Cached => StepOutcome::Cached,
            Outcome::Done => StepOutcome::Done,
            Outcome::Failed => StepOutcome::Failed,
            Outcome::Cancelled => StepOutcome::Cancelled,
        }
    }
}

/// One step of a build: a FROM, RUN, COPY, ADD or WORKDIR.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StepRecord {
    /// Its number in the build, from 1, as progress shows it.
    pub number: usize,
    /// Its stage, by name or number.
    pub stage: String,
    /// Its number in the stage, from 1.
    pub place: usize,
    /// How many steps the stage has.
    pub total: usize,
    /// Its first line in the recipe, from 1.
    pub line: u32,
    /// The instruction as written, on one line.
    pub text: String,
    /// When it began, in microseconds since the build did.
    pub began_us: u64,
    /// When it ended, in microseconds since the build began.
    pub ended_us: u64,
    /// How long its own work took, in microseconds: without what it waited for.
    pub took_us: u64,
    /// How it ended; `None` where it runs, or was never ended.
    pub outcome: Option<StepOutcome>,
    /// Why it was or was not cached, or why it failed.
    pub reason: String,
    /// Whether it was carried out.
    pub ran: bool,
    /// Its key.
    pub key: Option<Digest>,
    /// What the key is a digest of; `None` where that is too long to be kept.
    pub description: Option<StepDescription>,
    /// FROM: chain id of the layers that the stage begins with, and the image's reference.
    pub base: Option<BaseRecord>,
    /// The layer that it led to.
    pub layer: Option<LayerRecord>,
    /// RUN: how the command ended and what it used.
    pub command: Option<CommandRecord>,
    /// Bytes that its command wrote.
    pub output_bytes: u64,
    /// Bytes of these that are kept.
    pub log_bytes: u64,
    /// Whether the list of selected files is kept.
    pub has_files: bool,
}

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BaseRecord {
    /// The image or stage, as written.
    pub name: String,
    /// Chain id of its layers.
    pub chain: String,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob.
    pub size_bytes: u64,
}

/// How a command ended and what it used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CommandRecord {
    /// Exit status, 128+N for signal N.
    pub status: i32,
    /// Processor time of its programs, in microseconds.
    pub user_us: u64,
    /// Processor time of the kernel for them, in microseconds.
    pub system_us: u64,
    /// The most memory that one of its processes had at a time, where that is more than the builder's own.
    pub largest_bytes: Option<u64>,
}

impl BuildRecord {
    /// What it came to.
    pub fn state(&self) -> State {
        match &self.end {
            Some(end) => end.state,
            None if self.alive => State::Running,
            None => State::Killed,
        }
    }

    /// How many steps were cached, and how many were carried out.
    pub fn counts(&self) -> (usize, usize) {
        let cached = self.steps.iter().filter(|step| step.outcome == Some(StepOutcome::Cached)).count();
        (cached, self.steps.iter().filter(|step| step.ran).count())
    }

    /// The step with this number.
    pub fn step(&self, number: usize) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.number == number)
    }
}
