//! apt-get and apt.

use super::Job;
use super::tool::{Tool, list};
use crate::lint::fix::Edit;
use crate::lint::reporter::Reporter;
use crate::lint::rules;
use crate::lint::shell::{Command, Connector, ShellWord};

const VALUED: [&str; 8] =
    ["-o", "--option", "-t", "--target-release", "--default-release", "-c", "--config-file", "-a"];
const CHANGES: [&str; 9] = [
    "install",
    "reinstall",
    "remove",
    "purge",
    "autoremove",
    "upgrade",
    "dist-upgrade",
    "full-upgrade",
    "build-dep",
];
const UPGRADES: [&str; 3] = ["upgrade", "dist-upgrade", "full-upgrade"];
/// Actions that apt has and apt-get too.
const COMMON: [&str; 8] =
    ["install", "update", "upgrade", "full-upgrade", "remove", "purge", "autoremove", "clean"];
/// Programs that install nothing: beside them an update is alone.
const BYSTANDERS: [&str; 12] =
    ["apt-get", "apt", "rm", "echo", "set", "export", "cd", "true", "mkdir", "sleep", "cat", "ls"];

/// An invocation of apt.
struct Apt<'c> {
    command: &'c Command,
    program: &'c ShellWord,
    tool: Tool<'c>,
    /// The command before, if it feeds this one.
    is_fed: bool,
}

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    let mut found = Vec::new();
    for (index, command) in job.commands.iter().enumerate() {
        if !matches!(command.name(), "apt-get" | "apt" | "aptitude") {
            continue;
        }
        let Some(program) = command.program().first() else { continue };
        let Some(tool) = Tool::read(command.arguments(), &VALUED) else { continue };
        let is_fed = index > 0 && command.before == Connector::Pipe;
        found.push(Apt { command, program, tool, is_fed });
    }
    for apt in &found {
        yes(job, apt, reporter);
        recommends(job, apt, reporter);
        interface(job, apt, reporter);
        upgrade(job, apt, reporter);
        unpinned(job, apt, reporter);
    }
    lists(job, &found, reporter);
}

/// Rule AptWithoutYes.
fn yes(job: &Job<'_, '_>, apt: &Apt<'_>, reporter: &mut Reporter<'_>) {
    let tool = &apt.tool;
    let says_yes = tool.has(&["--yes", "--assume-yes", "--force-yes", "--trivial-only"], &['y'])
        || tool.count('q') > 1
        || tool.mentions("=2")
        || tool.mentions("Assume-Yes");
    let only_looks = tool
        .has(&["--simulate", "--dry-run", "--just-print", "--download-only", "--print-uris"], &['s', 'd']);
    let excused = apt.is_fed || tool.is_open || job.environment.apt_configured;
    if !tool.is(&CHANGES) || says_yes || only_looks || excused {
        return;
    }
    let (program, action) = (&apt.program.text, &tool.action.text);
    reporter
        .warn(
            job.step.node,
            &rules::APT_WITHOUT_YES,
            job.span(&tool.action.range),
            format!("`{program} {action}` asks before it does anything, and nobody answers"),
        )
        .hint("add `-y`")
        .fix_all(job.after(tool.action, " -y"));
}

/// Rule AptRecommends.
fn recommends(job: &Job<'_, '_>, apt: &Apt<'_>, reporter: &mut Reporter<'_>) {
    let tool = &apt.tool;
    let settled = tool
        .has(&["--no-install-recommends", "--install-recommends", "--without-recommends", "-R"], &[])
        || tool.mentions("Install-Recommends");
    if !tool.is(&["install"])
        || settled
        || tool.is_open
        || job.environment.apt_configured
        || tool.operands.is_empty()
    {
        return;
    }
    let program = &apt.program.text;
    reporter
        .warn(
            job.step.node,
            &rules::APT_RECOMMENDS,
            job.span(&tool.action.range),
            format!("`{program} install` also installs packages that are only recommended"),
        )
        .hint("add `--no-install-recommends`, and name what is really needed")
        .fix_all(job.after(tool.action, " --no-install-recommends"));
}

/// Rule AptNotForScripts.
fn interface(job: &Job<'_, '_>, apt: &Apt<'_>, reporter: &mut Reporter<'_>) {
    if apt.command.name() != "apt" || !apt.tool.is(&COMMON) {
        return;
    }
    let right = match apt.tool.action.text.as_str() {
        // apt-get has it under its old name only.
        "full-upgrade" => None,
        _ => job.is_shell.then(|| {
            let at = job.script.source_end(apt.program.range.end);
            vec![Edit::insert(at, "-get")]
        }),
    };
    reporter
        .warn(
            job.step.node,
            &rules::APT_NOT_FOR_SCRIPTS,
            job.span(&apt.program.range),
            "`apt` is for people at terminals, its interface may change",
        )
        .hint("use `apt-get`")
        .fix_all(right.filter(|_| apt.program.text == "apt" && !apt.program.is_quoted));
}

/// Rule SystemUpgrade.
fn upgrade(job: &Job<'_, '_>, apt: &Apt<'_>, reporter: &mut Reporter<'_>) {
    if apt.tool.is(&UPGRADES) {
        let range = apt.program.range.start..apt.tool.action.range.end;
        reporter
            .warn(
                job.step.node,
                &rules::SYSTEM_UPGRADE,
                job.span(&range),
                "upgrading every package makes the result depend on the day of the build",
            )
            .hint("build from a newer base image, or install the packages that need it");
    }
}

/// Rule AptUnpinned.
fn unpinned(job: &Job<'_, '_>, apt: &Apt<'_>, reporter: &mut Reporter<'_>) {
    if !apt.tool.is(&["install"]) || apt.tool.mentions("-t") && apt.tool.has(&["--target-release"], &['t']) {
        return;
    }
    let loose: Vec<&ShellWord> = apt
        .tool
        .operands
        .iter()
        .copied()
        .filter(|word| word.is_literal && !word.text.contains(['=', '/', '*', '$', '~', '^']))
        .filter(|word| {
            !word.text.ends_with(".deb") && !word.text.ends_with(['-', '+']) && !word.text.is_empty()
        })
        .collect();
    let (Some(first), Some(last)) = (loose.first(), loose.last()) else { return };
    let names: Vec<&str> = loose.iter().map(|word| word.text.as_str()).collect();
    reporter
        .warn(
            job.step.node,
            &rules::APT_UNPINNED,
            job.span(&(first.range.start..last.range.end)),
            list(&names),
        )
        .hint(format!(
            "state one, such as `{}=VERSION`, or build from a snapshot of the archive",
            first.text
        ));
}

/// Rules UpdateAlone and AptListsKept.
fn lists(job: &Job<'_, '_>, found: &[Apt<'_>], reporter: &mut Reporter<'_>) {
    let Some(update) = found.iter().find(|apt| apt.tool.is(&["update"])) else { return };
    if job.is_mounted("/var/lib/apt/lists")
        || job.removes("/var/lib/apt")
        || found.iter().any(|apt| apt.tool.is(&["distclean", "dist-clean"]))
    {
        return;
    }
    let range = update.program.range.start..update.tool.action.range.end;
    let span = job.span(&range);
    let installs = found.iter().any(|apt| !apt.tool.is(&["update", "clean", "autoclean", "autoremove"]));
    let alone = !installs && job.commands.iter().all(|command| BYSTANDERS.contains(&command.name()));
    let program = &update.program.text;
    if alone {
        reporter
            .warn(
                job.step.node,
                &rules::UPDATE_ALONE,
                span,
                format!(
                    "`{program} update` in a layer of its own: once cached, later installs use old lists"
                ),
            )
            .hint(format!("join it with the install: `RUN {program} update && {program} install …`"));
        return;
    }
    reporter
        .warn(job.step.node, &rules::APT_LISTS_KEPT, span, "the package lists stay in the layer")
        .hint("end the RUN with `rm -rf /var/lib/apt/lists/*`, or mount a cache on /var/lib/apt")
        .fix_all(job.append("rm -rf /var/lib/apt/lists/*"));
}
