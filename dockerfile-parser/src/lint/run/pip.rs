//! pip.

use super::Job;
use super::tool::{Tool, list};
use crate::lint::reporter::Reporter;
use crate::lint::rules;
use crate::lint::shell::{Command, ShellWord, base_name};

const VALUED: [&str; 30] = [
    "-r",
    "--requirement",
    "-c",
    "--constraint",
    "-e",
    "--editable",
    "-t",
    "--target",
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--prefix",
    "--root",
    "--platform",
    "--python-version",
    "--only-binary",
    "--no-binary",
    "--progress-bar",
    "--trusted-host",
    "--timeout",
    "--retries",
    "--src",
    "--upgrade-strategy",
    "--log",
    "--cert",
    "--proxy",
    "--cache-dir",
    "--group",
];

/// What every environment brings along, and people upgrade out of habit.
const TOOLING: [&str; 3] = ["pip", "setuptools", "wheel"];

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    for command in job.commands {
        let Some(words) = arguments(command) else { continue };
        let Some(tool) = Tool::read(words, &VALUED) else { continue };
        if tool.is(&["install"]) {
            cache(job, command, &tool, reporter);
            unpinned(job, &tool, reporter);
        }
    }
}

/// The words after `pip`, or after `python -m pip`.
fn arguments(command: &Command) -> Option<&[ShellWord]> {
    let name = command.name();
    let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.strip_prefix("pip").is_some_and(digits) {
        return Some(command.arguments());
    }
    if !name.strip_prefix("python").is_some_and(digits) {
        return None;
    }
    match command.arguments() {
        [flag, module, rest @ ..] if flag.text == "-m" && base_name(&module.text) == "pip" => Some(rest),
        _ => None,
    }
}

/// Rule PipCacheKept.
fn cache(job: &Job<'_, '_>, command: &Command, tool: &Tool<'_>, reporter: &mut Reporter<'_>) {
    let by_variable = job.environment.get("PIP_NO_CACHE_DIR").is_some()
        || job.environment.get("PIP_CACHE_DIR").is_some()
        || command.assignments.iter().any(|word| word.text.starts_with("PIP_NO_CACHE_DIR="))
        || job.script.text.contains("PIP_NO_CACHE_DIR");
    let purged = job.script.text.contains("cache purge") || job.removes(".cache");
    let mounted =
        job.has_mount_like(".cache") || job.has_mount_like("pip") || job.is_mounted("/root/.cache/pip");
    let settled = tool.has(&["--no-cache-dir", "--no-cache", "--cache-dir", "--dry-run"], &[]);
    if by_variable || purged || mounted || settled || tool.is_open {
        return;
    }
    reporter
        .warn(
            job.step.node,
            &rules::PIP_CACHE_KEPT,
            job.span(&tool.action.range),
            "pip leaves its cache in the layer",
        )
        .hint("add `--no-cache-dir`, or mount a cache on /root/.cache/pip")
        .fix_all(job.after(tool.action, " --no-cache-dir"));
}

/// Rule PipUnpinned.
fn unpinned(job: &Job<'_, '_>, tool: &Tool<'_>, reporter: &mut Reporter<'_>) {
    if tool.has(&["--constraint", "--require-hashes"], &['c']) || tool.mentions("PIP_CONSTRAINT") {
        return;
    }
    let loose: Vec<&ShellWord> = tool
        .operands
        .iter()
        .copied()
        .filter(|word| {
            word.is_literal
                && !word.text.contains(['=', '<', '>', '~', '!', '@', '/', ':', ';', '$', '*', '\\'])
        })
        .filter(|word| !word.text.starts_with('.') && !word.text.is_empty())
        .filter(|word| ![".whl", ".zip", ".gz", ".bz2"].iter().any(|ending| word.text.ends_with(ending)))
        .filter(|word| !TOOLING.contains(&word.text.as_str()))
        .collect();
    let (Some(first), Some(last)) = (loose.first(), loose.last()) else { return };
    let names: Vec<&str> = loose.iter().map(|word| word.text.as_str()).collect();
    reporter
        .warn(
            job.step.node,
            &rules::PIP_UNPINNED,
            job.span(&(first.range.start..last.range.end)),
            list(&names),
        )
        .hint(format!(
            "state one, such as `{}==VERSION`, or use a requirements file with versions",
            first.text
        ));
}
