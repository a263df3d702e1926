//! npm.

use super::Job;
use super::tool::{Tool, list};
use crate::lint::fix::Edit;
use crate::lint::reporter::Reporter;
use crate::lint::rules;
use crate::lint::shell::ShellWord;

const VALUED: [&str; 13] = [
    "--prefix",
    "-C",
    "--registry",
    "--cache",
    "--userconfig",
    "--globalconfig",
    "--workspace",
    "-w",
    "--omit",
    "--include",
    "--loglevel",
    "--tag",
    "--only",
];
const INSTALL: [&str; 3] = ["install", "i", "add"];

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    let mut first = None;
    let mut cleaned = false;
    for command in job.commands.iter().filter(|command| command.name() == "npm") {
        let Some(program) = command.program().first() else { continue };
        let Some(tool) = Tool::read(command.arguments(), &VALUED) else { continue };
        let range = program.range.start..tool.action.range.end;
        cleaned |= tool.is(&["cache"]) || tool.has(&["--cache"], &[]);
        if tool.is(&INSTALL) {
            install(job, &tool, reporter);
            unpinned(job, &tool, reporter);
        }
        if (tool.is(&INSTALL) || tool.is(&["ci", "clean-install"])) && first.is_none() {
            first = Some(range);
        }
    }
    let environment = ["npm_config_cache", "NPM_CONFIG_CACHE"];
    let elsewhere = environment.iter().any(|name| job.environment.get(name).is_some())
        || job.has_mount_like("npm")
        || job.has_mount_like(".cache")
        || job.is_mounted("/root/.npm")
        || job.removes(".npm");
    // In a stage that only hands on its files the cache does no harm.
    if let Some(range) = first.filter(|_| job.step.ships && !cleaned && !elsewhere) {
        reporter
            .warn(
                job.step.node,
                &rules::NPM_CACHE_KEPT,
                job.span(&range),
                "npm leaves its cache in the layer",
            )
            .hint("mount a cache on /root/.npm, or end with `npm cache clean --force`")
            .fix_all(job.append("npm cache clean --force"));
    }
}

/// Rule NpmInstallNotCi.
fn install(job: &Job<'_, '_>, tool: &Tool<'_>, reporter: &mut Reporter<'_>) {
    let other = tool.has(&["--global", "--location", "--package-lock-only", "--no-package-lock"], &['g']);
    if !tool.operands.is_empty() || other || tool.is_open || tool.is(&["add"]) {
        return;
    }
    let word = tool.action;
    let edit =
        Edit::replace(job.script.source(word.range.start), job.script.source_end(word.range.end), "ci");
    reporter
        .warn(
            job.step.node,
            &rules::NPM_INSTALL_NOT_CI,
            job.span(&word.range),
            format!("`npm {}` may install other versions than the lock file says", word.text),
        )
        .hint("use `npm ci`, with package-lock.json copied before")
        // Without its lock file npm ci fails.
        .fix_all((job.environment.npm_lock && job.is_shell && !word.is_quoted).then(|| vec![edit]));
}

/// Rule NpmUnpinned.
fn unpinned(job: &Job<'_, '_>, tool: &Tool<'_>, reporter: &mut Reporter<'_>) {
    let is_loose = |word: &&ShellWord| {
        let text = word.text.as_str();
        let name = text.strip_prefix('@').unwrap_or(text);
        let scoped = name.len() != text.len();
        let version = name.split_once('@').map(|(_, version)| version);
        let path =
            text.starts_with(['.', '/', '~']) || text.ends_with(".tgz") || text.contains([':', '$', '#']);
        let shorthand = !scoped && text.contains('/');
        word.is_literal
            && !path
            && !shorthand
            && !text.is_empty()
            && matches!(version, None | Some("latest" | ""))
    };
    let loose: Vec<&ShellWord> = tool.operands.iter().copied().filter(is_loose).collect();
    let (Some(first), Some(last)) = (loose.first(), loose.last()) else { return };
    let names: Vec<&str> = loose.iter().map(|word| word.text.as_str()).collect();
    let bare = first.text.strip_suffix("@latest").unwrap_or(&first.text);
    reporter
        .warn(
            job.step.node,
            &rules::NPM_UNPINNED,
            job.span(&(first.range.start..last.range.end)),
            list(&names),
        )
        .hint(format!("state one, such as `{bare}@VERSION`"));
}
