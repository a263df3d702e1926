//! Secrets that a command writes into its layer.

use super::Job;
use crate::lint::reporter::Reporter;
use crate::lint::rules;
use crate::lint::secrets::is_secret_name;
use crate::lint::shell::{Command, ShellWord};

const HINT: &str = "mount the file instead: `RUN --mount=type=secret,id=…,target=…`";

pub(super) fn check(job: &Job<'_, '_>, reporter: &mut Reporter<'_>) {
    for command in job.commands {
        let found = written(job, command).or_else(|| configured(command)).or_else(|| in_url(command));
        if let Some((word, name)) = found {
            let message = format!("the secret {name} is written into the layer");
            reporter.warn(job.step.node, &rules::SECRET_IN_LAYER, job.span(&word.range), message).hint(HINT);
        }
    }
}

/// `echo $TOKEN > file`, unless the same script removes the file.
fn written<'c>(job: &Job<'_, '_>, command: &'c Command) -> Option<(&'c ShellWord, String)> {
    let target =
        command.redirects.iter().find(|(operator, _)| matches!(operator.as_str(), ">" | ">>" | ">|"));
    let (_, target) = target?;
    let passes = ["/dev/", "/run/", "/proc/"].iter().any(|folder| target.text.starts_with(folder));
    if !matches!(command.name(), "echo" | "printf")
        || passes
        || target.text.is_empty()
        || job.removes(&target.text)
        || job.is_mounted(&target.text)
    {
        return None;
    }
    command.arguments().iter().find_map(|word| Some((word, secret_variable(word)?)))
}

/// `npm config set …_authToken $TOKEN` and its like.
fn configured(command: &Command) -> Option<(&ShellWord, String)> {
    let arguments = command.arguments();
    let tools = ["npm", "yarn", "pnpm", "pip", "pip3", "composer", "git", "poetry", "bundle"];
    let configures = arguments.iter().take(2).any(|word| word.text == "config");
    let removes =
        arguments.iter().any(|word| matches!(word.text.as_str(), "delete" | "--unset" | "unset" | "get"));
    if !tools.contains(&command.name()) || !configures || removes {
        return None;
    }
    arguments.iter().find_map(|word| Some((word, secret_variable(word)?)))
}

/// `https://user:password@host`, literal, or with a secret variable where git keeps the URL.
fn in_url(command: &Command) -> Option<(&ShellWord, String)> {
    let keeps = command.name() == "git"
        && command
            .arguments()
            .iter()
            .any(|word| matches!(word.text.as_str(), "clone" | "remote" | "submodule"));
    command.arguments().iter().find_map(|word| {
        let (_, rest) = word.text.split_once("://")?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let (user, _) = authority.rsplit_once('@')?;
        let password = user.split_once(':').map_or(user, |(_, password)| password);
        if let Some(name) = secret_variable(word) {
            return keeps.then_some((word, name));
        }
        let literal = user.contains(':') && !password.is_empty() && !password.contains(['$', '<', '*', '`']);
        literal.then(|| (word, "in the URL".to_owned()))
    })
}

/// The first variable in a word whose name is that of a secret.
fn secret_variable(word: &ShellWord) -> Option<String> {
    if word.is_literal {
        return None;
    }
    word.text.match_indices('$').find_map(|(at, _)| {
        let rest = word.text[at + 1..].trim_start_matches('{');
        let end = rest.find(|ch: char| !ch.is_ascii_alphanumeric() && ch != '_').unwrap_or(rest.len());
        is_secret_name(&rest[..end]).then(|| format!("`${}`", &rest[..end]))
    })
}
