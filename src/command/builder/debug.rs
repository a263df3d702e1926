//! Looking into steps: `slipway debug`, and `build --debug`.

use super::{build, builds};
use crate::{
    app::{App, Global},
    command::{Cli, Command, container::run as container},
    error::Failure,
    front,
    progress::Style,
    request::proxies,
    show,
};
use clap::{CommandFactory, FromArgMatches};
use slipway_builder::{
    Debugger, Look, StepId, When,
    history::{BuildRecord, StepOutcome, StepRecord},
};
use slipway_runtime::levels::Isolation;
use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

/// Open a shell in the state of a step of a kept build, or run a command there
///
/// The build's line is read again in its folder, and its steps are found in the cache, up to this one: what changed since is
/// said. Secrets and agents come from where the line has them. What the shell changes is gone with it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Before the step is carried out
    #[arg(long, conflicts_with = "after")]
    before: bool,
    /// After it was; the default, but for a step that failed, which is looked into where it did
    #[arg(long)]
    after: bool,
    /// An id or its beginning, `^N` for the one N before the last, or an image's name
    #[arg(value_name = "BUILD")]
    build: String,
    /// The step: its number, or STAGE:NUMBER
    #[arg(value_name = "STEP")]
    step: String,
    /// What is run instead of the stage's shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Who looks: into one step, or wherever a command fails.
pub(super) struct Shell {
    wanted: Option<(StepId, When)>,
    on_failure: bool,
    command: Vec<String>,
    /// Exit status of what was run last; -1 where nothing was.
    status: AtomicI32,
    /// There is one terminal, and stages fail at once.
    turn: Mutex<()>,
}

impl Shell {
    /// A shell wherever a command fails, where there is a terminal to talk to.
    pub(super) fn on_failure() -> Option<Shell> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            show::note(
                "note: --debug opens a shell on a terminal, and there is none; `slipway debug BUILD STEP -- COMMAND` looks into a step without one",
            );
            return None;
        }
        let status = AtomicI32::new(-1);
        Some(Shell { wanted: None, on_failure: true, command: Vec::new(), status, turn: Mutex::default() })
    }

    /// The exit status of what was run, if anything was.
    fn status(&self) -> Option<u8> {
        let status = self.status.load(Ordering::Acquire);
        (status >= 0).then(|| u8::try_from(status).unwrap_or(u8::MAX))
    }
}

impl Debugger for Shell {
    fn wants(&self, step: StepId, when: When) -> bool {
        match self.wanted {
            Some(wanted) => wanted == (step, when) || (step == wanted.0 && when == When::Failed),
            None => self.on_failure && when == When::Failed,
        }
    }

    fn enter(&self, look: Look<'_>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let when = match look.when {
            When::Before => "before",
            When::After => "after",
            When::Failed => "where it failed:",
        };
        let terminal = self.command.is_empty();
        if terminal {
            show::note(format_args!(
                "a shell in step #{}, {when} `{}`; what it changes is gone when it ends",
                look.number,
                show::text::line(look.shown)
            ));
        }
        look.spec.process.args = match terminal {
            true => vec![OsString::from(look.shell)],
            false => self.command.iter().map(OsString::from).collect(),
        };
        if terminal {
            look.spec.process.env.push("TERM=xterm".into());
        }
        let status = container::attached(look.spec, terminal).map_err(io::Error::other)?;
        self.status.store(i32::from(status), Ordering::Release);
        Ok(())
    }
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.command.is_empty() && !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Failure::usage("there is no terminal for a shell")
            .with_hint("give what is to be run: slipway debug BUILD STEP -- COMMAND"));
    }
    let kept = builds::history(global)?.find(Some(&arguments.build))?;
    let step = builds::step(&kept, &arguments.step)?;
    let is_base = step.place == 1;
    if is_base {
        return Err(Failure::new(format!(
            "step #{} is the stage's base: nothing is carried out there",
            step.number
        ))
        .with_hint(format!(
            "`slipway debug --before {} {}` is what follows it",
            kept.id,
            step.number + 1
        )));
    }
    let when = match (arguments.before, arguments.after, step.outcome) {
        (true, ..) => When::Before,
        (false, false, Some(StepOutcome::Failed)) => When::Failed,
        _ => When::After,
    };
    let line = line(&kept)?;
    let shell = Shell {
        wanted: Some((step.number - 1, when)),
        on_failure: false,
        command: arguments.command.clone(),
        status: AtomicI32::new(-1),
        turn: Mutex::default(),
    };
    let ended = build::look(global, line, (&kept, step, &shell));
    match (shell.status(), ended) {
        (Some(status), _) => Ok(status),
        (None, Err(failure)) => Err(failure),
        (None, Ok(())) => Err(Failure::new(format!(
            "step #{} was not come to: the recipe, its files or the store are not what they were",
            step.number
        ))
        .with_hint(format!(
            "build it again; `slipway builds logs {} {}` has its output",
            kept.id, step.number
        ))),
    }
}

/// The arguments of a kept build.
pub(super) fn line(kept: &BuildRecord) -> Result<build::Arguments, Failure> {
    let unknown = || {
        Failure::new(format!("build {} has no line that can be read again", kept.id))
            .with_hint("an earlier version kept it, or its line is no text: build it again")
    };
    if kept.line.is_empty() {
        return Err(unknown());
    }
    let words = kept.line.iter().skip(1).map(OsString::from);
    let cli = Cli::command();
    let line = front::read(words, &cli, &|name| std::env::var(name).ok())?;
    let matches = cli.try_get_matches_from(line.arguments()).map_err(|_| unknown())?;
    match Cli::from_arg_matches(&matches).map_err(|_| unknown())?.command {
        Command::Build(arguments) => Ok(*arguments),
        _ => Err(unknown()),
    }
}

/// The line that the program was called with, and where; empty where it is no text, or where an address in it has a password.
/// What else may be one comes from the environment again ([`proxies::without_value`]).
pub(super) fn own_line() -> (Vec<String>, String) {
    let words = std::env::args_os().map(|word| word.into_string().ok());
    let has_password = |word: &str| {
        let mut places = word.split("://").skip(1);
        places.any(|rest| rest.split('/').next().is_some_and(|host| host.contains('@')))
    };
    let words = words.map(|word| word.filter(|word| !has_password(word)));
    let words = words.map(|word| word.map(|word| proxies::without_value(&word))).collect::<Option<Vec<_>>>();
    let folder = std::env::current_dir().ok().and_then(|folder| folder.into_os_string().into_string().ok());
    words.zip(folder).unwrap_or_default()
}

/// Whether a recipe still has the step where it was.
///
/// # Errors
/// When it has not.
pub(super) fn still_is(step: &StepRecord, recipe: &str, name: &str) -> Result<(), Failure> {
    let line = recipe.lines().nth((step.line as usize).saturating_sub(1)).unwrap_or_default();
    let first = line.trim().trim_end_matches('\\').trim();
    if !first.is_empty() && step.text.starts_with(first) {
        return Ok(());
    }
    let was = show::text::line(&step.text);
    Err(Failure::new(format!("`{name}` has another step at line {}: it was `{was}`", step.line))
        .with_hint("build it again, and look into that build"))
}

/// Opens the store and goes to a folder: the program may begin again, which needs the caller's.
pub(super) fn open_in(global: &Global, folder: &Path) -> Result<App, Failure> {
    let app = App::open_for_builds(global, Isolation::Strongest)?;
    std::env::set_current_dir(folder)
        .map_err(|error| Failure::new(format!("the build was begun in `{}`: {error}", folder.display())))?;
    Ok(app)
}

/// How progress is shown; a shell has the terminal for itself.
pub(super) fn style(wanted: Style, is_quiet: bool, has_shell: bool) -> Style {
    match is_quiet {
        true => Style::Quiet,
        false if has_shell && wanted == Style::default() => Style::Plain,
        false => wanted,
    }
}
