//! Pipes: failures that they hide, and downloads that go straight into a shell.

use super::{Job, SHELLS};
use crate::lint::reporter::Reporter;
use crate::lint::rules;
use crate::lint::shell::{Command, Connector, ShellWord};

/// Programs whose failure nobody waits for.
const SAFE: [&str; 5] = ["echo", "printf", "yes", "true", ":"];
const FETCHERS: [&str; 4] = ["curl", "wget", "fetch", "aria2c"];
/// Interpreters that run what they read when they are given nothing else.
const INTERPRETERS: [&str; 7] = ["python", "python3", "perl", "ruby", "node", "php", "lua"];

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    pipefail(job, reporter);
    for (index, command) in job.commands.iter().enumerate() {
        if command.before == Connector::Pipe && runs_input(command) {
            fetched(job, index, reporter);
        }
        if let Some(word) = substituted(command) {
            piped_to_shell(job, word.range.clone(), reporter);
        }
    }
}

/// Rule PipeWithoutPipefail, once a script.
fn pipefail(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    if job.pipefail {
        return;
    }
    for (index, command) in job.commands.iter().enumerate() {
        let sets = command.name() == "set" && command.arguments().iter().any(|word| word.text == "pipefail");
        if sets {
            return;
        }
        if command.after != Connector::Pipe || command.is_condition || SAFE.contains(&command.name()) {
            continue;
        }
        let end = job.commands[index..].iter().find(|command| command.after != Connector::Pipe);
        // Where a failure is provided for, or does not matter, nothing is hidden.
        if command.name().is_empty()
            || end.is_some_and(|end| end.after == Connector::Or || end.is_condition && end.name() != "read")
        {
            continue;
        }
        let message = format!("if `{}` fails, the pipe hides it", command.name());
        reporter
            .warn(job.step.node, &rules::PIPE_WITHOUT_PIPEFAIL, job.span(&command.range()), message)
            .hint("with bash, put `SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]` before, or begin with `set -o pipefail`");
        return;
    }
}

/// Whether a command runs what it reads.
fn runs_input(command: &Command) -> bool {
    let arguments = command.arguments();
    let name = command.name();
    if SHELLS.contains(&name) {
        let reads = arguments.iter().any(|word| word.text == "-s" || word.text == "-");
        let other = arguments.iter().any(|word| word.text == "-c" || !word.text.starts_with('-'));
        return reads || !other;
    }
    INTERPRETERS.contains(&name) && arguments.iter().all(|word| word.text == "-")
}

/// Reports the pipe that ends at command `index` if a download feeds it.
fn fetched(job: &Job<'_, '_>, index: usize, reporter: &mut Reporter<'_>) {
    let mut from = index;
    while from > 0 && job.commands[from].before == Connector::Pipe {
        from -= 1;
        if FETCHERS.contains(&job.commands[from].name()) {
            let range = job.commands[from].range().start..job.commands[index].range().end;
            return piped_to_shell(job, range, reporter);
        }
    }
}

/// The word that puts a download into `sh -c`, `eval` or `source`.
fn substituted(command: &Command) -> Option<&ShellWord> {
    let runs = SHELLS.contains(&command.name()) || matches!(command.name(), "eval" | "source" | ".");
    let holds = |word: &&ShellWord| {
        ["$(", "<(", "`"]
            .iter()
            .any(|opener| FETCHERS.iter().any(|fetcher| word.text.contains(&format!("{opener}{fetcher} "))))
    };
    command.arguments().iter().find(holds).filter(|_| runs)
}

/// Rule PipedToShell.
fn piped_to_shell(job: &Job<'_, '_>, range: std::ops::Range<usize>, reporter: &mut Reporter<'_>) {
    reporter
        .warn(
            job.step.node,
            &rules::PIPED_TO_SHELL,
            job.span(&range),
            "a download is run without a look at it",
        )
        .hint("fetch it with `ADD --checksum=sha256:… URL /path`, then run the file");
}
