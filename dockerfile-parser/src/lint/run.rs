//! Rules on what RUN gives to its shell, one family of programs a file.

mod apk;
mod apt;
mod copied;
mod dnf;
mod npm;
mod pip;
mod pipes;
mod secrets;
mod tool;

use super::environment::Environment;
use super::fix::Edit;
use super::reporter::Reporter;
use super::rules;
use super::script::Script;
use super::shell::{self, Command, Connector, ShellWord, base_name};
use super::view::View;
use crate::mount::RunMount;
use crate::{CommandLine, Heredoc, Node, Run, Span};
use std::ops::Range;

/// A RUN, for the rules.
pub(super) struct Step<'s, 'a> {
    pub(super) view: &'s View<'a>,
    pub(super) node: &'s Node,
    pub(super) run: &'s Run,
    /// Whether its layer is in the image.
    pub(super) ships: bool,
}

/// Shells whose language this is.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

/// One script of a RUN, split into commands.
struct Job<'j, 'a> {
    step: &'j Step<'j, 'a>,
    script: &'j Script,
    commands: &'j [Command],
    environment: &'j Environment,
    /// The heredoc that the script is the body of.
    heredoc: Option<&'j Heredoc>,
    /// Whether it is a shell that reads it, and not an exec form.
    is_shell: bool,
    /// Whether a pipe fails with any of its commands from the start.
    pipefail: bool,
    /// Whether the script ends at a failure from the start.
    errexit: bool,
    /// Targets of cache and tmpfs mounts: what is there is not in the layer.
    mounted: Vec<String>,
}

pub(super) fn check(step: &Step<'_, '_>, environment: &mut Environment, reporter: &mut Reporter<'_>) {
    let shell = environment.shell.clone();
    let understood = match &shell {
        None => step.view.escape == '\\',
        Some(words) => words.iter().take(2).any(|word| SHELLS.contains(&base_name(word))),
    };
    if !understood {
        return;
    }
    let flags = shell.unwrap_or_default();
    let pipefail = flags.iter().any(|word| word.contains("pipefail"));
    let errexit = flags.iter().any(|word| is_errexit(word));
    let mounted = mounted(step.run);
    let base = |script, commands, heredoc, is_shell, pipefail, errexit| Plan {
        script,
        commands,
        heredoc,
        is_shell,
        pipefail,
        errexit,
    };
    let mut plans = Vec::new();
    match (&step.run.command, &step.run.script) {
        (CommandLine::Exec(_), _) => {
            let (script, command) = exec_form(step);
            plans.push(base(script, vec![command], None, false, true, true));
        }
        (CommandLine::Shell(_), Some(_)) => {
            let Some(heredoc) = step.node.heredocs.first() else { return };
            let script = Script::of_heredoc(step.view, heredoc);
            let Some(own) = shebang(&script.text) else { return };
            let commands = shell::split(&script.text);
            // With a `#!` line the body is a program, which SHELL has no part in.
            let (pipefail, errexit) =
                if script.text.starts_with("#!") { (false, own) } else { (pipefail, errexit) };
            plans.push(base(script, commands, Some(heredoc), true, pipefail, errexit));
        }
        (CommandLine::Shell(_), None) => {
            let Some(word) = step.node.args.first() else { return };
            let script = Script::of_word(step.view, word);
            let commands = shell::split(&script.text);
            for (heredoc, errexit) in fed_shells(step.node, &commands) {
                let body = Script::of_heredoc(step.view, heredoc);
                let inner = shell::split(&body.text);
                plans.push(base(body, inner, Some(heredoc), true, false, errexit));
            }
            plans.insert(0, base(script, commands, None, true, pipefail, errexit));
        }
    }
    for plan in &plans {
        let job = plan.job(step, environment, mounted.clone());
        job.check(reporter);
    }
    let settings = ["apt.conf", "Install-Recommends", "Assume-Yes"];
    let configures = |plan: &Plan<'_>| settings.iter().any(|word| plan.script.text.contains(word));
    environment.apt_configured |= plans.iter().any(configures);
}

/// What a job owns.
struct Plan<'h> {
    script: Script,
    commands: Vec<Command>,
    heredoc: Option<&'h Heredoc>,
    is_shell: bool,
    pipefail: bool,
    errexit: bool,
}

impl Plan<'_> {
    fn job<'j, 'a>(
        &'j self,
        step: &'j Step<'j, 'a>,
        environment: &'j Environment,
        mounted: Vec<String>,
    ) -> Job<'j, 'a> {
        Job {
            step,
            script: &self.script,
            commands: &self.commands,
            environment,
            heredoc: self.heredoc,
            is_shell: self.is_shell,
            pipefail: self.pipefail,
            errexit: self.errexit,
            mounted,
        }
    }
}

/// An exec form as a command; its words are mapped to their places.
fn exec_form(step: &Step<'_, '_>) -> (Script, Command) {
    let script = Script::whole(step.view, step.node.span);
    let words = step
        .node
        .args
        .iter()
        .map(|word| ShellWord {
            text: word.text.clone(),
            range: word.span.start - step.node.span.start..word.span.end - step.node.span.start,
            // No shell replaces anything here.
            is_literal: true,
            is_quoted: true,
        })
        .collect();
    let command = Command {
        assignments: Vec::new(),
        words,
        redirects: Vec::new(),
        before: Connector::Edge,
        after: Connector::Edge,
        depth: 0,
        is_condition: false,
    };
    (script, command)
}

/// Whether the script of a heredoc is for a shell, and if so whether its `#!` line asks for `-e`.
fn shebang(text: &str) -> Option<bool> {
    let Some(line) = text.strip_prefix("#!") else { return Some(false) };
    let mut words = line.lines().next().unwrap_or_default().split_whitespace().peekable();
    let mut program = words.next().map(base_name)?;
    if program == "env" {
        while words.next_if(|word| word.starts_with('-')).is_some() {}
        program = words.next().map(base_name)?;
    }
    SHELLS.contains(&program).then(|| words.any(is_errexit))
}

/// The heredocs that a shell of the RUN's text reads as its script, and whether it was told `-e`.
fn fed_shells<'n>(node: &'n Node, commands: &[Command]) -> Vec<(&'n Heredoc, bool)> {
    let mut found = Vec::new();
    for command in commands {
        let arguments = command.arguments();
        let reads_script = arguments.iter().all(|word| word.text.starts_with('-') && word.text != "-c");
        if !SHELLS.contains(&command.name()) || !reads_script {
            continue;
        }
        let names =
            command.redirects.iter().filter(|(operator, _)| matches!(operator.as_str(), "<<" | "<<-"));
        for (_, name) in names {
            let heredoc = node.heredocs.iter().find(|heredoc| heredoc.name == name.text);
            let errexit = arguments.iter().any(|word| is_errexit(&word.text));
            found.extend(heredoc.map(|heredoc| (heredoc, errexit)));
        }
    }
    found
}

/// Whether an option of a shell makes it end at a failure.
fn is_errexit(word: &str) -> bool {
    let short = word.starts_with('-') && !word.starts_with("--") && word[1..].contains('e');
    short || word == "errexit"
}

fn mounted(run: &Run) -> Vec<String> {
    let parse = |text: &String| RunMount::parse(text, &mut |text| Ok(text.to_owned())).ok();
    let target = |mount| match mount {
        RunMount::Cache(cache) => Some(cache.target),
        RunMount::Tmpfs(tmpfs) => Some(tmpfs.target),
        _ => None,
    };
    run.mounts.iter().filter_map(parse).filter_map(target).collect()
}

impl Job<'_, '_> {
    fn check(&self, reporter: &mut Reporter<'_>) {
        apt::check(self, reporter);
        apk::check(self, reporter);
        pip::check(self, reporter);
        npm::check(self, reporter);
        dnf::check(self, reporter);
        secrets::check(self, reporter);
        copied::check(self, reporter);
        self.sudo(reporter);
        if self.is_shell {
            pipes::check(self, reporter);
            self.cd(reporter);
            self.errexit(reporter);
        }
    }

    fn span(&self, range: &Range<usize>) -> Span {
        self.script.span(self.step.view, range)
    }

    /// Whether `path`, or a folder above it, is a mount whose files are not in the layer.
    fn is_mounted(&self, path: &str) -> bool {
        self.mounted.iter().any(|target| {
            let target = target.trim_end_matches('/');
            path == target || path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Whether any mount's target holds `part`.
    fn has_mount_like(&self, part: &str) -> bool {
        self.mounted.iter().any(|target| target.contains(part))
    }

    /// Whether the script removes something whose path holds `part`.
    fn removes(&self, part: &str) -> bool {
        self.commands.iter().any(|command| {
            matches!(command.name(), "rm" | "find")
                && command.arguments().iter().any(|word| word.text.contains(part))
        })
    }

    /// An edit that puts `text` behind a word.
    fn after(&self, word: &ShellWord, text: &str) -> Option<Vec<Edit>> {
        self.is_shell.then(|| vec![Edit::insert(self.script.source_end(word.range.end), text)])
    }

    /// Edits that let the script end with one more command, if it is a plain chain.
    fn append(&self, command: &str) -> Option<Vec<Edit>> {
        let flat = self.commands.iter().all(|command| command.depth == 0 && !command.is_condition);
        if !self.is_shell || !flat {
            return None;
        }
        let feeds =
            self.commands.iter().any(|command| command.redirects.iter().any(|(op, _)| op.starts_with("<<")));
        if feeds {
            return None;
        }
        if let Some(heredoc) = self.heredoc {
            let ends_line = self.script.text.ends_with('\n');
            let lines_only = self.commands.iter().all(|command| command.before != Connector::Or);
            return (ends_line && lines_only)
                .then(|| vec![Edit::insert(heredoc.span.end, format!("{command}\n"))]);
        }
        let last = self.commands.last()?;
        let chained = self.commands.iter().skip(1).all(|command| command.before == Connector::And);
        let to_the_end = last.range().end == self.script.text.trim_end().len();
        if !chained || !to_the_end {
            return None;
        }
        let at = self.script.source_end(last.range().end);
        let node = self.step.node;
        let text = if node.start_line == node.end_line {
            format!(" && {command}")
        } else {
            let (line, _) = self.step.view.index.position(at);
            let own = self.step.view.index.line_text(line);
            let indent = &own[..own.len() - own.trim_start().len()];
            let indent = if indent.is_empty() || line == node.start_line { "    " } else { indent };
            format!(" {}\n{indent}&& {command}", self.step.view.escape)
        };
        Some(vec![Edit::insert(at, text)])
    }

    /// Rule CdDoesNotLast.
    fn cd(&self, reporter: &mut Reporter<'_>) {
        let Some(last) = self.commands.last() else { return };
        if last.name() != "cd"
            || last.depth > 0
            || last.before == Connector::Pipe
            || last.before == Connector::Or
        {
            return;
        }
        let node = self.step.node;
        let path = last.arguments().first().filter(|word| word.is_literal && !word.is_quoted);
        let path = path.map(|word| word.text.as_str()).filter(|path| !path.starts_with(['-', '~']));
        let alone = self.commands.len() == 1 && node.flags.is_empty() && self.heredoc.is_none();
        let alone =
            alone && last.words.len() == 2 && last.assignments.is_empty() && last.redirects.is_empty();
        let upper = self.step.view.keyword(node).starts_with('R');
        let word = if upper { "WORKDIR" } else { "workdir" };
        let edit = path
            .filter(|_| alone)
            .map(|path| vec![Edit::replace(node.span.start, node.span.end, format!("{word} {path}"))]);
        reporter
            .warn(
                node,
                &rules::CD_DOES_NOT_LAST,
                self.span(&last.range()),
                "`cd` ends with its RUN: the next instruction begins in WORKDIR again",
            )
            .hint(format!("use `WORKDIR {}`", path.unwrap_or("/path")))
            .fix_all(edit);
    }

    /// Rule SudoInRun.
    fn sudo(&self, reporter: &mut Reporter<'_>) {
        for command in self.commands {
            let Some([first, next]) = command.words.get(..2) else { continue };
            if base_name(&first.text) != "sudo" || !first.is_literal {
                continue;
            }
            let is_root =
                self.environment.origin != super::environment::Origin::Unknown && !self.environment.user_set;
            let fixable = is_root && self.is_shell && !next.text.starts_with('-') && !next.text.contains('=');
            let edit = Edit::replace(
                self.script.source(first.range.start),
                self.script.source(next.range.start),
                "",
            );
            reporter
                .warn(self.step.node, &rules::SUDO_IN_RUN, self.span(&first.range), "sudo in a RUN")
                .hint(
                    "RUN is root until USER says otherwise: put `USER root` before, and the other user after",
                )
                .fix_all(fixable.then(|| vec![edit]));
        }
    }

    /// Rule HeredocWithoutErrexit.
    fn errexit(&self, reporter: &mut Reporter<'_>) {
        let Some(heredoc) = self.heredoc else { return };
        let sets = |command: &Command| {
            matches!(command.name(), "set" | "trap")
                && command.arguments().iter().any(|word| is_errexit(&word.text) || word.text == "ERR")
        };
        let starts = |command: &&Command| {
            command.depth == 0 && matches!(command.before, Connector::Edge | Connector::Sequence)
        };
        if self.errexit || self.commands.iter().any(sets) || self.commands.iter().filter(starts).count() < 2 {
            return;
        }
        let view = self.step.view;
        let first = heredoc.span.start;
        let body = view.text(heredoc.span);
        let skipped =
            if self.script.text.starts_with("#!") { body.find('\n').map_or(0, |end| end + 1) } else { 0 };
        let line = &body[skipped..];
        let tabs = if heredoc.chomp { line.len() - line.trim_start_matches('\t').len() } else { 0 };
        let edit = Edit::insert(first + skipped, format!("{}set -e\n", &line[..tabs]));
        let span = self.step.node.args.first().map_or(self.step.node.keyword_span, |word| word.span);
        reporter
            .warn(
                self.step.node,
                &rules::HEREDOC_WITHOUT_ERREXIT,
                span,
                "the script goes on when one of its commands fails",
            )
            .hint("begin it with `set -e`")
            .fix(edit);
    }
}
