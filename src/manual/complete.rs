//! Completions for shells: clap's engine answers them, and this names what only slipway knows: images, stages.
//!
//! `slipway completion SHELL` writes lines for the shell, which calls `SLIPWAY_COMPLETE=SHELL slipway -- WORD...`, as
//! clap_complete's own protocol has it. What a value is completed with is decided by the name that help shows for it
//! ([`attached`]): a command that takes an `IMAGE` completes images without having to say so.

use crate::{app, command::Cli, error::Failure, front, recipe};
use clap::{Command, CommandFactory};
use clap_complete::{
    ArgValueCompleter, CompletionCandidate,
    env::{Bash, EnvCompleter, Fish, Zsh},
};
use slipway_builder::history::History;
use slipway_oci::{layer::OverlayXattrs, store::Store};
use std::{
    ffi::{OsStr, OsString},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Says to the program that a shell asks, and which.
const VARIABLE: &str = "SLIPWAY_COMPLETE";

/// Platforms that images are made for.
const PLATFORMS: [&str; 8] = [
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];

/// A shell whose completions are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash
    Bash,
    /// The Z shell
    Zsh,
    /// The friendly interactive shell
    Fish,
}

impl Shell {
    fn engine(self) -> &'static dyn EnvCompleter {
        match self {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        }
    }
}

/// The lines that a shell reads once. They call `program`.
pub(crate) fn script(shell: Shell, program: &str) -> Result<String, Failure> {
    let mut script = Vec::new();
    shell.engine().write_registration(VARIABLE, "slipway", "slipway", program, &mut script)?;
    let script = String::from_utf8(script).map_err(|error| Failure::of(&error))?;
    Ok(match shell {
        Shell::Bash => {
            let own = script.replace("-F _clap_complete_slipway ", "-F _slipway_complete ");
            format!("{}\n{WHOLE_WORDS}", own.trim())
        }
        Shell::Zsh | Shell::Fish => script,
    })
}

/// Bash divides words at `:` and `=` (COMP_WORDBREAKS), which image names and flags have: the engine is asked for whole
/// words, and what bash has kept of one is taken off its answers.
const WHOLE_WORDS: &str = r#"_slipway_complete() {
    local line=${COMP_LINE:0:COMP_POINT} breaks= head
    case $line in *[\'\"\\]*) _clap_complete_slipway "$@"; return ;; esac
    local -a words
    read -ra words <<< "$line"
    case $line in *[[:space:]]) words+=("") ;; esac
    local -a COMP_WORDS=("${words[@]}")
    local COMP_CWORD=$(( ${#words[@]} - 1 ))
    local current=${words[COMP_CWORD]}
    _clap_complete_slipway "$1" "$current" "${3-}"
    case $COMP_WORDBREAKS in *:*) breaks=: ;; esac
    case $COMP_WORDBREAKS in *=*) breaks=$breaks= ;; esac
    if [[ -n $breaks && $current == *[$breaks]* ]]; then
        head=${current%"${current##*[$breaks]}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
}
"#;

/// Answers a shell that asks, where one does.
pub(crate) fn answer(arguments: impl Iterator<Item = OsString>) -> Option<Result<u8, Failure>> {
    let shell = std::env::var_os(VARIABLE)?;
    let words: Vec<OsString> = arguments.skip(1).collect();
    let (mark, words) = words.split_first()?;
    let shell = <Shell as clap::ValueEnum>::from_str(shell.to_str()?, false).ok()?;
    (mark == "--" && !words.is_empty()).then(|| {
        let mut answers = Vec::new();
        let here = std::env::current_dir().ok();
        shell.engine().write_complete(&mut tree(words), words.to_vec(), here.as_deref(), &mut answers)?;
        match std::io::stdout().lock().write_all(&answers) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
            written => Ok(written.map(|()| 0)?),
        }
    })
}

/// The commands, docker's names of them (`image ls`) beside their own, with what their values are completed with.
fn tree(words: &[OsString]) -> Command {
    let asked = Arc::new(Asked(words.to_vec()));
    let mut root = attached(Cli::command(), &asked);
    for (group, name, target) in front::names_of_others() {
        let Some(command) = root.find_subcommand(target).cloned() else { continue };
        if root.find_subcommand(group).is_none() {
            root = root.subcommand(Command::new(group).hide(true));
        }
        root = root.mut_subcommand(group, |group| group.subcommand(command.name(name)));
    }
    root
}

/// Where candidates come from.
type Candidates = fn(&Asked) -> Vec<String>;

/// What values of this name are completed with, beside paths and fixed words, which clap knows.
fn candidates(value_name: &str) -> Option<Candidates> {
    match value_name {
        "IMAGE" | "NAME[:TAG]" => Some(Asked::images),
        "STAGE" | "STAGE[=NAME[:TAG]]" => Some(Asked::stages),
        "BUILD" => Some(Asked::builds),
        "CONTAINER" => Some(Asked::containers),
        "POLICY" => Some(|_| ["no", "on-failure", "always", "unless-stopped"].map(str::to_owned).to_vec()),
        "DRIVER" => Some(|_| ["json-file", "none"].map(str::to_owned).to_vec()),
        "OS/ARCH" => Some(|_| PLATFORMS.map(str::to_owned).to_vec()),
        "NETWORK" => Some(|_| ["host", "none", "ns:"].map(str::to_owned).to_vec()),
        "IPC" => Some(|_| ["private", "host", "ns:"].map(str::to_owned).to_vec()),
        "UTS" | "CGROUPNS" => Some(|_| ["private", "host"].map(str::to_owned).to_vec()),
        _ => None,
    }
}

fn attached(command: Command, asked: &Arc<Asked>) -> Command {
    let command = command.mut_args(|arg| {
        let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        match name.as_deref() {
            // not only a folder: what is unpacked comes from archives too
            Some("CONTEXT") => arg.value_hint(clap::ValueHint::AnyPath),
            Some(name) => match candidates(name) {
                Some(candidates) => {
                    let asked = Arc::clone(asked);
                    let complete = move |current: &OsStr| matching(candidates(&asked), current);
                    arg.add(ArgValueCompleter::new(complete))
                }
                None => arg,
            },
            None => arg,
        }
    });
    command.mut_subcommands(|inner| attached(inner, asked))
}

fn matching(all: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    all.into_iter().filter(|text| text.starts_with(current)).map(CompletionCandidate::new).collect()
}

/// The words on the line that a shell asks about.
struct Asked(Vec<OsString>);

impl Asked {
    /// What the line says so far, as far as it can be read.
    fn line(&self) -> front::Line {
        let words = self.0.iter().skip(1).filter(|word| !word.is_empty());
        // the flag whose value is asked for has none yet
        let words = words.filter(|word| !matches!(word.to_str(), Some("--target" | "--no-cache-filter")));
        // what stands after the line's own words is the context where there is none
        let words = words.cloned().chain([OsString::from(".")]);
        front::read(words, &Cli::command(), &|_| None).unwrap_or_default()
    }

    /// Ids of the builds that are kept.
    fn builds(&self) -> Vec<String> {
        let Ok(root) = self.root() else { return Vec::new() };
        let builds = History::of(&root).builds().unwrap_or_default();
        builds.into_iter().map(|build| build.id).collect()
    }

    /// The folder of the store that the line means.
    fn root(&self) -> Result<PathBuf, Failure> {
        let named = self.line().value("root").map(PathBuf::from);
        let root = named.or_else(|| std::env::var_os("SLIPWAY_ROOT").map(PathBuf::from));
        app::store_folder(root.as_deref())
    }

    /// Names of the store's images. Where there is no store, none is made.
    fn images(&self) -> Vec<String> {
        let Ok(root) = self.root() else { return Vec::new() };
        if !root.join("store.db").exists() {
            return Vec::new();
        }
        let images = Store::open(&root, OverlayXattrs::User).and_then(|store| store.list_images());
        let names = images.unwrap_or_default().into_iter().filter_map(|image| Some(image.name?.familiar()));
        names.collect()
    }

    /// Names of the containers that are kept.
    fn containers(&self) -> Vec<String> {
        let Ok(root) = self.root() else { return Vec::new() };
        if !root.join("store.db").exists() {
            return Vec::new();
        }
        let containers = Store::open(&root, OverlayXattrs::User).and_then(|store| store.containers());
        containers.unwrap_or_default().into_iter().map(|container| container.name).collect()
    }

    /// Names of the recipe's stages.
    fn stages(&self) -> Vec<String> {
        let line = self.line();
        let context = line.words().first().map_or_else(|| PathBuf::from("."), PathBuf::from);
        let path = match line.value("file") {
            Some(file) => PathBuf::from(file),
            None => match recipe::find(&context) {
                Ok(path) => path,
                Err(_) => return Vec::new(),
            },
        };
        stages(&path)
    }
}

fn stages(path: &Path) -> Vec<String> {
    let text = recipe::read(path).unwrap_or_default();
    let recipe = slipway_dockerfile::parse_recipe(&text);
    let stages = recipe.map(|recipe| recipe.stages).unwrap_or_default();
    stages.into_iter().filter_map(|stage| stage.name_as_written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that are completed with nothing: whoever adds one says so here.
    const FREE: &[&str] = &[
        "NAME[=VALUE]",
        "STEP",
        "NAME=VALUE",
        "NAME=SOURCE",
        "NAME",
        "USER",
        "REPOSITORY",
        "REGISTRY",
        "PASSWORD",
        "NAME=HASH",
        "NAME=ISSUER",
        "NAME=UPSTREAM",
        "LIMIT",
        "TIME",
        "RATE",
        "ADDRESS",
        "ID:KEY",
        "DATE",
        "NAME=USERS",
        "PATTERN",
        "COLLECTOR",
        "HOOK",
        "REFERENCE",
        "FROM",
        "TO",
        "DIGEST",
        "CACHE",
        "DIGEST|none",
        "FILE[:TYPE]",
        "NAME[:TAG]",
        "REPOSITORIES",
        "TYPE",
        "REPOSITORIES=WORDS",
        "URL",
        "SPEC",
        "NAME:ADDRESS",
        "NUMBER",
        "SECONDS",
        "SECONDS|context",
        "SOURCE:TARGET[:OPTIONS]",
        "TARGET",
        "USER[:GROUP]",
        "PROGRAM",
        "HOST",
        "CAPABILITY",
        "OPTION",
        "BYTES",
        "SIGNAL",
        "COMMAND",
        "TEMPLATE",
        "TEXT",
        "TAG",
        "INSTRUCTION",
        "PROXY",
        "QUOTA",
        "RULE",
        "CHARACTER",
        "MESSAGE",
        "PLACE",
        "ATTESTATION",
        "PROVENANCE",
        "SBOM",
        "PREFIX",
        "RESULT",
        "OVERRIDE",
        "PERMISSION",
        "[TYPE:]NAME=VALUE",
        "TIME",
        "NAME",
    ];
    /// The same for flags that every command has.
    const FREE_EVERYWHERE: [&str; 3] = ["HOST[:PORT]", "REGISTRY=HOST", "SIZE"];

    #[test]
    fn every_value_is_completed_or_said_to_be_free() {
        fn walk(command: &Command, place: &str, used: &mut Vec<String>) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
                let name = name.unwrap_or_default();
                let known = candidates(&name).is_some()
                    || arg.get_value_hint() != clap::ValueHint::Unknown
                    || !arg.get_possible_values().is_empty();
                let free = FREE.contains(&&*name) || FREE_EVERYWHERE.contains(&&*name);
                let hidden = arg.is_hide_set() || place.ends_with(" help");
                assert!(known || free || hidden, "{place}: nothing completes `{name}`");
                used.push(name);
            }
            for inner in command.get_subcommands() {
                walk(inner, &format!("{place} {}", inner.get_name()), used);
            }
        }
        let mut used = Vec::new();
        walk(&tree(&[]), "slipway", &mut used);
        for name in FREE.iter().chain(&FREE_EVERYWHERE) {
            assert!(used.iter().any(|used| used == name), "no flag has a `{name}`");
        }
    }

    #[test]
    fn stages_are_read_from_the_recipe_of_the_line() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("Dockerfile"), "FROM x AS Base\nFROM x\nFROM Base AS app\n")
            .expect("write");
        std::fs::write(folder.path().join("other"), "FROM x AS third\n").expect("write");
        let here = folder.path().to_str().expect("path");
        let other = format!("{here}/other");
        for (words, expected) in [
            (vec!["slipway", "build", here, "--target", ""], vec!["Base", "app"]),
            (vec!["slipway", "build", "--target", "", here], vec!["Base", "app"]),
            (vec!["slipway", "build", "-t", "x", "--no-cache-filter", "", here], vec!["Base", "app"]),
            (vec!["slipway", "buildx", "build", "--target", "", here], vec!["Base", "app"]),
            (vec!["slipway", "build", "-f", &other, "--target", "", "."], vec!["third"]),
            (vec!["slipway", "check", "--target", "", here], vec!["Base", "app"]),
            (vec!["slipway", "build", "/nosuch", "--target", ""], vec![]),
        ] {
            let asked = Asked(words.iter().map(OsString::from).collect());
            assert_eq!(asked.stages(), expected, "{words:?}");
        }
    }

    #[test]
    fn a_store_is_not_made_for_a_question() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("store");
        let words = ["slipway", "--root", root.to_str().expect("path"), "run", ""];
        assert_eq!(Asked(words.iter().map(OsString::from).collect()).images(), Vec::<String>::new());
        assert!(!root.exists());
    }
}
