//! What a flag's value may be, whatever the flag is: bytes, nothing, and more than one.

use super::Flag;
use crate::error::Failure;
use std::{
    any::TypeId,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// Flags that others take several times and slipway once: of two that differ one would be passed over without a word.
const LISTS_OF_OTHERS: [((&str, &str), &str); 1] =
    [(("run", "network"), "a container has one network: host, none or ns:PATH")];

/// Flags for which nothing is a value of its own (`--entrypoint ''`), or a mistake as with docker (`--cpus ''`).
const EMPTY_SAYS_SOMETHING: [&str; 7] =
    ["entrypoint", "memory", "memory-swap", "cpus", "pids-limit", "stop-timeout", "digestfile"];

/// Whether a flag that is given nothing is as good as not given: what an unset variable of a script leaves.
pub(super) fn empty_is_default(long: &str) -> bool {
    !EMPTY_SAYS_SOMETHING.contains(&long)
}

/// Refuses what is no text where it is not a path or handed on, and a path without a name.
pub(super) fn check(what: &str, arg: &clap::Arg, value: &OsStr) -> Result<(), Failure> {
    let parser = arg.get_value_parser().type_id();
    if parser == TypeId::of::<PathBuf>() && value.is_empty() {
        return Err(Failure::usage(format!("{what}: the name is empty")));
    }
    let any = parser == TypeId::of::<PathBuf>() || parser == TypeId::of::<OsString>();
    if any || value.to_str().is_some() {
        return Ok(());
    }
    Err(Failure::usage(format!("{what}: `{}` is not UTF-8", value.display())))
}

/// The same for a command's words.
pub(super) fn words(command: &clap::Command, words: &[OsString]) -> Result<(), Failure> {
    let places: Vec<&clap::Arg> = command.get_positionals().collect();
    for (number, word) in words.iter().enumerate() {
        // the last place takes what is left; too many are clap's to answer
        let Some(arg) = places.get(number).or(places.last()) else { break };
        let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        check(name, arg, word)?;
    }
    Ok(())
}

/// Refuses a second value that differs from the first where others would take both.
pub(super) fn repeated(
    flag: (&str, &str),
    spelled: &str,
    before: Option<&Flag>,
    value: &OsStr,
) -> Result<(), Failure> {
    let Some((_, words)) = LISTS_OF_OTHERS.iter().find(|(own, _)| *own == flag) else { return Ok(()) };
    let differs = matches!(before, Some(Flag::Value(_, first)) if first != value);
    if differs {
        return Err(Failure::usage(format!("`slipway {}` takes one `{spelled}`", flag.0)).with_hint(*words));
    }
    Ok(())
}
