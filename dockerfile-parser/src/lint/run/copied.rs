//! Owner and mode of files that a layer below holds: changing them stores the files again.

use super::Job;
use crate::glob::clean;
use crate::lint::reporter::Reporter;
use crate::lint::rules;

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    // In a stage that only hands on its files, twice is no more than once.
    if !job.step.ships {
        return;
    }
    for command in job.commands {
        let name = command.name();
        let arguments = command.arguments();
        let option = |text: &str| text.len() > 1 && text.starts_with('-');
        let recursive = arguments.iter().any(|word| {
            let text = word.text.as_str();
            text == "--recursive" || (option(text) && !text.starts_with("--") && text.contains('R'))
        });
        let by_reference = arguments.iter().any(|word| word.text.starts_with("--reference"));
        if !matches!(name, "chown" | "chmod" | "chgrp") || !recursive || by_reference {
            continue;
        }
        let operands = arguments.iter().filter(|word| !option(&word.text)).skip(1);
        for word in operands.filter(|word| word.is_literal) {
            let Some(path) = absolute(job, &word.text) else { continue };
            let touches =
                |copied: &String| is_below(copied, &path) || (copied != "/" && is_below(&path, copied));
            if job.environment.copied.iter().any(touches) {
                let flag = if name == "chmod" { "--chmod" } else { "--chown" };
                reporter
                    .warn(
                        job.step.node,
                        &rules::CHOWN_DOUBLES_LAYER,
                        job.span(&command.range()),
                        format!("`{name} -R` stores every file of `{}` a second time", word.text),
                    )
                    .hint(format!("let COPY set it: `COPY {flag}=…`"));
                break;
            }
        }
    }
}

fn absolute(job: &Job<'_, '_>, path: &str) -> Option<String> {
    let path = path.trim_end_matches("/*");
    if path.contains(['*', '?', '[', '~']) {
        return None;
    }
    if path.starts_with('/') {
        return Some(clean(path));
    }
    job.environment.workdir.as_ref().map(|base| clean(&format!("{base}/{path}")))
}

/// Whether `path` is `base` or below it.
fn is_below(path: &str, base: &str) -> bool {
    base == "/" || path == base || path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
}
