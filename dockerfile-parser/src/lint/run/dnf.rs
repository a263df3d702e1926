//! yum, dnf and their small kin.

use super::Job;
use super::tool::Tool;
use crate::lint::reporter::Reporter;
use crate::lint::rules;

const NAMES: [&str; 4] = ["yum", "dnf", "microdnf", "tdnf"];
const VALUED: [&str; 8] =
    ["--setopt", "--enablerepo", "--disablerepo", "--repo", "--installroot", "--releasever", "-c", "-x"];
const CHANGES: [&str; 11] = [
    "install",
    "update",
    "upgrade",
    "remove",
    "erase",
    "reinstall",
    "localinstall",
    "groupinstall",
    "swap",
    "downgrade",
    "autoremove",
];

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    let mut first = None;
    let mut cleaned = false;
    for command in job.commands.iter().filter(|command| NAMES.contains(&command.name())) {
        let Some(program) = command.program().first() else { continue };
        let Some(tool) = Tool::read(command.arguments(), &VALUED) else { continue };
        let (name, action) = (&program.text, tool.action);
        let range = program.range.start..action.range.end;
        cleaned |= tool.is(&["clean"]);
        let says_yes =
            tool.has(&["--assumeyes", "--assumeno", "--downloadonly"], &['y']) || tool.mentions("assumeyes");
        if tool.is(&CHANGES) && !says_yes && !tool.is_open && command.before != super::Connector::Pipe {
            reporter
                .warn(
                    job.step.node,
                    &rules::DNF_WITHOUT_YES,
                    job.span(&action.range),
                    format!("`{name} {}` asks before it does anything, and nobody answers", action.text),
                )
                .hint("add `-y`")
                .fix_all(job.after(action, " -y"));
        }
        if tool.is(&["update", "upgrade"]) && tool.operands.is_empty() {
            reporter
                .warn(
                    job.step.node,
                    &rules::SYSTEM_UPGRADE,
                    job.span(&range),
                    "upgrading every package makes the result depend on the day of the build",
                )
                .hint("build from a newer base image, or install the packages that need it");
        }
        if tool.is(&CHANGES) && !tool.is(&["remove", "erase", "autoremove"]) && !tool.mentions("installroot")
        {
            first = first.or_else(|| Some((range, name.clone())));
        }
    }
    let elsewhere = job.has_mount_like("/var/cache") || job.removes("/var/cache");
    if let Some((range, name)) = first.filter(|_| !cleaned && !elsewhere) {
        reporter
            .warn(
                job.step.node,
                &rules::DNF_CACHE_KEPT,
                job.span(&range),
                format!("{name} leaves its cache in the layer"),
            )
            .hint(format!("end the RUN with `{name} clean all`, or mount a cache on /var/cache/{name}"))
            .fix_all(job.append(&format!("{name} clean all")));
    }
}
