//! apk.

use super::Job;
use super::tool::{Tool, list};
use crate::lint::reporter::Reporter;
use crate::lint::rules;
use crate::lint::shell::ShellWord;

const VALUED: [&str; 11] = [
    "-t",
    "--virtual",
    "-X",
    "--repository",
    "-p",
    "--root",
    "--keys-dir",
    "--repositories-file",
    "--arch",
    "--cache-dir",
    "--cache-max-age",
];

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    let mut adds = false;
    let mut update = None;
    for command in job.commands.iter().filter(|command| command.name() == "apk") {
        let Some(program) = command.program().first() else { continue };
        let Some(tool) = Tool::read(command.arguments(), &VALUED) else { continue };
        let span = job.span(&(program.range.start..tool.action.range.end));
        match tool.action.text.as_str() {
            "add" => {
                adds = true;
                add(job, &tool, reporter);
            }
            "update" => update = Some(span),
            "upgrade" if tool.operands.is_empty() => {
                reporter
                    .warn(
                        job.step.node,
                        &rules::SYSTEM_UPGRADE,
                        span,
                        "upgrading every package makes the result depend on the day of the build",
                    )
                    .hint("build from a newer base image, or add the packages that need it");
            }
            _ => {}
        }
    }
    let alone = !adds
        && job
            .commands
            .iter()
            .all(|command| matches!(command.name(), "apk" | "echo" | "set" | "true" | "rm"));
    if let Some(span) =
        update.filter(|_| alone && !job.is_mounted("/var/cache/apk") && !job.removes("/var/cache/apk"))
    {
        reporter
            .warn(
                job.step.node,
                &rules::UPDATE_ALONE,
                span,
                "`apk update` in a layer of its own: once cached, later adds use an old index",
            )
            .hint("remove it, and use `apk add --no-cache`");
    }
}

fn add(job: &Job<'_, '_>, tool: &Tool<'_>, reporter: &mut Reporter<'_>) {
    let cleaned = job.removes("/var/cache/apk")
        || job.is_mounted("/var/cache/apk")
        || job.is_mounted("/etc/apk/cache")
        || tool.has(&["--no-cache", "--cache-dir", "--root"], &['p']);
    if !cleaned && !tool.is_open {
        reporter
            .warn(
                job.step.node,
                &rules::APK_CACHE_KEPT,
                job.span(&tool.action.range),
                "apk leaves its index in the layer",
            )
            .hint("add `--no-cache`, or mount a cache on /var/cache/apk")
            .fix_all(job.after(tool.action, " --no-cache"));
    }
    let loose: Vec<&ShellWord> = tool
        .operands
        .iter()
        .copied()
        .filter(|word| word.is_literal && !word.text.contains(['=', '<', '>', '~', '@', '/', '$', '!']))
        .filter(|word| !word.text.ends_with(".apk") && !word.text.starts_with('.') && !word.text.is_empty())
        .collect();
    let (Some(first), Some(last)) = (loose.first(), loose.last()) else { return };
    let names: Vec<&str> = loose.iter().map(|word| word.text.as_str()).collect();
    reporter
        .warn(
            job.step.node,
            &rules::APK_UNPINNED,
            job.span(&(first.range.start..last.range.end)),
            list(&names),
        )
        .hint(format!("state one, such as `{}=VERSION` or `{}~=1.2`", first.text, first.text));
}
