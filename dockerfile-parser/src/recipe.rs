//! The typed recipe: stages and instructions whose form has been judged, their words not yet expanded.

use crate::{Directives, Heredoc, Span};
use std::time::Duration;

/// A whole Dockerfile, ready to be planned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// The parser directives.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub global_args: Vec<Located>,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

/// From one FROM to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its number, from 0.
    pub index: usize,
    /// Its name folded to lower case.
    pub name: Option<String>,
    /// Its name as written.
    pub name_as_written: Option<String>,
    /// What it is built from, not expanded.
    pub base: String,
    /// `--platform`, not expanded.
    pub platform: Option<String>,
    /// The FROM instruction.
    pub origin: Origin,
    /// The instructions after FROM.
    pub instructions: Vec<Located>,
}

/// Where an instruction came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The whole instruction.
    pub span: Span,
    /// First line, from 1.
    pub start_line: u32,
    /// Last line, heredocs included.
    pub end_line: u32,
    /// The instruction as one line, for `created_by` and messages.
    pub original: String,
}

/// An instruction and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The instruction.
    pub instruction: Instruction,
    /// Its place.
    pub origin: Origin,
}

/// An instruction other than FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Copies files, URLs and archives into the image.
    Add(Transfer),
    /// Declares build arguments.
    Arg(Vec<ArgDeclaration>),
    /// The default command.
    Cmd(CommandLine),
    /// Copies files into the image.
    Copy(Transfer),
    /// The program that the command is given to.
    Entrypoint(CommandLine),
    /// Sets environment variables.
    Env(Vec<KeyValue>),
    /// Names ports, each word raw; expansion may split a word into several.
    Expose(Vec<String>),
    /// How to tell whether a container is well.
    Healthcheck(Healthcheck),
    /// Sets labels.
    Label(Vec<KeyValue>),
    /// Names the author.
    Maintainer(String),
    /// An instruction for the images built from this one.
    Onbuild(Onbuild),
    /// Runs a command and keeps what it changed.
    Run(Run),
    /// The words before a shell-form command.
    Shell(Vec<String>),
    /// The signal that stops a container.
    Stopsignal(String),
    /// The user of later RUNs and of the container.
    User(String),
    /// Names mount points.
    Volume(Vec<String>),
    /// The working directory.
    Workdir(String),
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the shell.
    Shell(String),
    /// Words, run as they are; none at all clears an inherited command.
    Exec(Vec<String>),
}

/// A key and its value, raw: quotes and variables are dealt with by expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether it was written `KEY value`.
    pub legacy: bool,
}

/// `ARG name[=default]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: String,
    /// The default, raw.
    pub default: Option<String>,
}

/// What ADD or COPY moves, and how; paths and flag values are raw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// What to copy, in order.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: String,
    /// `--from` (COPY).
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents` (COPY).
    pub parents: bool,
    /// `--exclude`, each.
    pub exclude: Vec<String>,
    /// `--checksum` (ADD).
    pub checksum: Option<String>,
    /// `--keep-git-dir` (ADD).
    pub keep_git_dir: Option<bool>,
    /// `--unpack` (ADD).
    pub unpack: Option<bool>,
}

/// One source of ADD or COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, URL or git reference, raw.
    Path(String),
    /// A file made of a heredoc; its content has had `<<-` applied and is expanded only if `expand` says so.
    Heredoc(Heredoc),
}

/// A RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What to run. With heredocs beside other words: the text rebuilt with the bodies, for the shell to read.
    /// With a heredoc alone: its body, as for `script`.
    pub command: CommandLine,
    /// The heredocs as written.
    pub heredocs: Vec<Heredoc>,
    /// The heredoc when RUN has nothing else; `<<-` applied. A body that begins `#!` is run as a program.
    pub script: Option<Heredoc>,
    /// `--mount` values, raw; see [`crate::mount`].
    pub mounts: Vec<String>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<String>,
    /// `--device` values.
    pub devices: Vec<String>,
}

/// A HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// Drops an inherited check.
    None,
    /// Runs a command now and then. `None` and zero both mean the runtime's default.
    Command {
        /// What to run.
        command: CommandLine,
        /// Time between two runs.
        interval: Option<Duration>,
        /// Time after which a run has failed.
        timeout: Option<Duration>,
        /// Time at the start in which failures do not count.
        start_period: Option<Duration>,
        /// Time between two runs within the start period.
        start_interval: Option<Duration>,
        /// Failures in a row that make the container unhealthy.
        retries: Option<u32>,
    },
}

/// An ONBUILD: kept as text in the image, parsed here to find mistakes early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction as written, with the bodies of its heredocs.
    pub text: String,
    /// The same, parsed; nothing where it will be refused when it fires (BuildKit keeps any text).
    pub instruction: Option<Box<Instruction>>,
}
