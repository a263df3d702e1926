//! The front door: reads a command line as docker's own library does, before anything is made of it.
//!
//! - What follows IMAGE of `run` belongs to the program, byte by byte: the first word that is no option ends options.
//! - Flags are spelled as pflag takes them: `--rm=false`, `-itw/x`, `-w=/x`, `-eA=b`, values that begin with `-`, options
//!   after other words; the last of repeated booleans and of single values counts.
//! - What others have and slipway has not is looked up in one [table](table): accepted, translated, or answered with a
//!   sentence and what to do instead.
//!
//! The result is a [`Line`], plain data in slipway's own words; clap reads it from there. Which flags slipway has, and
//! which of them take values, is asked of clap's own description: there is no second list.

mod commands;
mod environment;
#[cfg(test)]
mod files;
#[cfg(test)]
mod flags;
mod kaniko;
mod table;
#[cfg(test)]
mod tests;
mod transports;
mod values;

use crate::error::Failure;
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};
use table::{Kind, Meaning};

/// A flag as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flag {
    /// A boolean. One that is off is kept: a later one, or the environment, must not bring it back.
    Switch(String, bool),
    /// A flag with its value.
    Value(String, OsString),
    /// A flag without the value it needs, or one that nobody knows: clap has words for it.
    Wrong(OsString),
}

/// A command line in slipway's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Names of the command.
    command: Vec<String>,
    /// Flags that only stand before the command.
    before: Vec<Flag>,
    flags: Vec<Flag>,
    /// What is no option: the command's words, and what is handed on.
    words: Vec<OsString>,
    /// What the caller should know.
    notes: Vec<String>,
    /// The group of commands that the line asks about, as others call it.
    group: Option<&'static str>,
}

impl Line {
    /// The words that clap reads, the program's name first.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut all = vec![OsString::from("slipway")];
        all.extend(self.before.iter().filter_map(Flag::word));
        all.extend(self.command.iter().map(OsString::from));
        all.extend(self.flags.iter().filter_map(Flag::word));
        if !self.words.is_empty() {
            all.push("--".into());
            all.extend(self.words.iter().cloned());
        }
        all
    }

    /// The description that reads the line: a boolean that the line turns off is not turned on by its variable, and a
    /// variable that is set to nothing is as good as none.
    pub(crate) fn reader(&self, cli: clap::Command, is_empty: &dyn Fn(&OsStr) -> bool) -> clap::Command {
        let off = |arg: &clap::Arg| {
            let is = |flag: &Flag| matches!(flag, Flag::Switch(name, false) if arg.get_long() == Some(name));
            self.flags.iter().chain(&self.before).any(is)
        };
        let silenced = |arg: clap::Arg| match off(&arg) || arg.get_env().is_some_and(is_empty) {
            true => arg.env(clap::builder::Resettable::Reset),
            false => arg,
        };
        let cli = cli.mut_args(silenced);
        match self.command.first() {
            Some(name) if cli.find_subcommand(name).is_some() => {
                cli.mut_subcommand(name, |command| command.mut_args(silenced))
            }
            _ => cli,
        }
    }

    /// The value of a flag.
    pub(crate) fn value(&self, flag: &str) -> Option<&OsStr> {
        let mut values = self.flags.iter().filter_map(|known| match known {
            Flag::Value(name, value) if name == flag => Some(value.as_os_str()),
            _ => None,
        });
        values.next_back()
    }

    /// What is no option.
    pub(crate) fn words(&self) -> &[OsString] {
        &self.words
    }

    /// What the caller should know.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The group of others' commands that the line asks about.
    pub(crate) fn group(&self) -> Option<&'static str> {
        self.group
    }

    /// Exit status of a wrong use: docker's 125 where a container would have been made.
    pub(crate) fn usage_status(&self) -> u8 {
        let makes_container = self.command.first().is_some_and(|name| hands_on(name));
        if makes_container { crate::error::NOT_STARTED } else { crate::error::USAGE }
    }
}

impl Flag {
    fn word(&self) -> Option<OsString> {
        match self {
            Flag::Switch(name, true) => Some(format!("--{name}").into()),
            Flag::Switch(_, false) => None,
            Flag::Value(name, value) => {
                let mut word = OsString::from(format!("--{name}="));
                word.push(value);
                Some(word)
            }
            Flag::Wrong(word) => Some(word.clone()),
        }
    }
}

/// Whether what follows the first word of the command belongs to a program.
fn hands_on(command: &str) -> bool {
    matches!(command, "run" | "create" | "exec")
}

/// What others call slipway's commands in two words: group, name, and slipway's own.
pub(crate) fn names_of_others() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let rows = table::rows().iter().filter(|row| row.kind == Kind::Command);
    rows.flat_map(|row| row.names.iter().map(move |name| (name, row.meaning))).filter_map(
        |(name, meaning)| match (name.split_once(' '), meaning) {
            (Some((group, name)), Meaning::Is(own)) if !own.starts_with("--") => Some((group, name, own)),
            _ => None,
        },
    )
}

/// Reads a command line with the program's name, by which it may be another program's: kaniko's. `exists` looks for files.
pub(crate) fn read_program(
    argv: Vec<OsString>,
    root: &clap::Command,
    variable: &dyn Fn(&str) -> Option<String>,
    exists: &dyn Fn(&std::path::Path) -> bool,
) -> Result<Line, Failure> {
    let (words, notes) = kaniko::translated(argv, exists)?;
    let mut line = read(words, root, variable)?;
    line.notes.extend(notes);
    Ok(line)
}

/// Reads a command line, without the program's name. The error carries the exit status.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    root: &clap::Command,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Line, Failure> {
    let mut root = root.clone();
    // gives the commands their help flags and the global ones
    root.build();
    let mut reader =
        Reader { here: &root, root: &root, line: Line::default(), rest: arguments.into_iter().collect() };
    let read = reader
        .read()
        .and_then(|()| transports::apply(&mut reader.line))
        .and_then(|()| environment::apply(&mut reader.line, variable));
    let mut line = reader.line;
    match read {
        Ok(()) => Ok(line),
        Err(failure) if failure.status() == crate::error::USAGE => {
            Err(failure.with_status(line.usage_status()))
        }
        Err(failure) => {
            line.notes.clear();
            Err(failure)
        }
    }
}

struct Reader<'a> {
    root: &'a clap::Command,
    /// The command so far.
    here: &'a clap::Command,
    line: Line,
    rest: VecDeque<OsString>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Failure> {
        let mut options = true;
        while let Some(word) = self.rest.pop_front() {
            let bytes = word.as_bytes();
            if options && bytes == b"--" {
                if self.here.has_subcommands() && !self.rest.is_empty() {
                    let words = "a command comes before `--`";
                    return Err(Failure::usage(words).with_hint("`slipway --help` shows what there is"));
                }
                options = false;
            } else if options && bytes.len() > 1 && bytes[0] == b'-' {
                self.option(&word)?;
            } else if options && self.here.has_subcommands() && self.line.words.is_empty() {
                self.descend(word)?;
            } else {
                self.line.words.push(word);
                if self.line.command.first().is_some_and(|name| hands_on(name)) {
                    self.line.words.extend(self.rest.drain(..));
                }
            }
        }
        self.alone();
        values::words(self.here, &self.line.words)
    }

    fn option(&mut self, word: &OsStr) -> Result<(), Failure> {
        let bytes = word.as_bytes();
        if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, value) = split(long);
            let Ok(name) = std::str::from_utf8(name) else { return self.unknown(word) };
            return match self.known(|arg| {
                arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
            }) {
                Some(arg) => self.own(arg, &format!("--{name}"), value),
                None => self.of_others(&format!("--{name}"), value, word),
            };
        }
        self.cluster(word)
    }

    /// `-itw/x`: letters of booleans, and at last one with a value.
    fn cluster(&mut self, word: &OsStr) -> Result<(), Failure> {
        // a value at the end may be any bytes
        let letters = word.as_bytes()[1..].utf8_chunks().next().map_or("", |chunk| chunk.valid());
        if letters.is_empty() {
            return self.unknown(word);
        }
        for (at, letter) in letters.char_indices() {
            let name = format!("-{letter}");
            let rest = &word.as_bytes()[1 + at + letter.len_utf8()..];
            let arg = self.known(|arg| arg.get_short() == Some(letter));
            let takes = match arg {
                Some(arg) => arg.get_action().takes_values(),
                None => match table::find(&self.place(), &[Kind::Flag, Kind::Value], &name) {
                    Some(row) => row.kind == Kind::Value,
                    None => return self.unknown_letter(&name, word),
                },
            };
            // pflag: `-w=/x` and `-i=false`
            let given = rest.strip_prefix(b"=").or((takes && !rest.is_empty()).then_some(rest));
            let given = given.map(|bytes| OsString::from_vec(bytes.to_vec()));
            let last = given.is_some() || takes;
            match arg {
                Some(arg) => self.own(arg, &name, given)?,
                None => self.of_others(&name, given, word)?,
            }
            if last {
                break;
            }
        }
        Ok(())
    }

    fn known(&self, wanted: impl Fn(&clap::Arg) -> bool) -> Option<&'a clap::Arg> {
        self.here.get_arguments().find(|arg| !arg.is_positional() && wanted(arg))
    }

    /// A flag that slipway has. `spelled` is how the caller wrote its name.
    fn own(&mut self, arg: &'a clap::Arg, spelled: &str, value: Option<OsString>) -> Result<(), Failure> {
        let long = arg.get_long().expect("every flag has a long name");
        let takes = arg.get_action().takes_values();
        let value = match value {
            None if takes => match self.rest.pop_front() {
                Some(next) => Some(next),
                None => return self.unknown(OsStr::new(spelled)),
            },
            value => value,
        };
        let Some(value) = value else {
            self.switch(arg, long, true);
            return Ok(());
        };
        let given = value.to_str().map(|value| format!("--{long}={value}"));
        if let Some(row) = given.and_then(|given| table::find(&self.place(), &[Kind::Given], &given)) {
            return self.apply(spelled, value, row);
        }
        if !takes {
            let state = truth(spelled, &value)?;
            self.switch(arg, long, state);
            return Ok(());
        }
        let single = matches!(arg.get_action(), clap::ArgAction::Set);
        let as_none = value.is_empty()
            && (single || ["platform", "target"].contains(&long))
            && values::empty_is_default(long);
        if !as_none {
            values::check(&format!("`{spelled}`"), arg, &value)?;
        }
        let command = self.line.command.first().cloned().unwrap_or_default();
        let flags = self.list(arg);
        let same = |flag: &Flag| matches!(flag, Flag::Value(name, _) if name == long);
        if single {
            values::repeated((&command, long), spelled, flags.iter().rev().find(|flag| same(flag)), &value)?;
            // as everywhere: the last one counts
            flags.retain(|flag| !same(flag));
        }
        if !as_none {
            flags.push(Flag::Value(long.to_owned(), value));
        }
        Ok(())
    }

    fn list(&mut self, arg: &clap::Arg) -> &mut Vec<Flag> {
        let before = self.line.command.is_empty() && !arg.is_global_set();
        if before { &mut self.line.before } else { &mut self.line.flags }
    }

    fn switch(&mut self, arg: &clap::Arg, long: &str, state: bool) {
        let flags = self.list(arg);
        flags.retain(|flag| !matches!(flag, Flag::Switch(name, _) if name == long));
        flags.push(Flag::Switch(long.to_owned(), state));
    }

    /// A flag of others.
    fn of_others(&mut self, name: &str, value: Option<OsString>, word: &OsStr) -> Result<(), Failure> {
        let kinds = [Kind::Flag, Kind::Value];
        let found = table::find(&self.place(), &kinds, name).or_else(|| table::anywhere(name));
        let Some(row) = found else { return self.unknown(word) };
        let value = match (row.kind, value) {
            (Kind::Value, None) => {
                self.rest.pop_front().ok_or_else(|| Failure::usage(format!("`{name}` needs a value")))?
            }
            (Kind::Value, Some(value)) => value,
            (_, value) => {
                let given = value.as_ref().and_then(|value| value.to_str());
                let given = given.map(|value| format!("{}={value}", row.long_of(name)));
                let given = given.and_then(|given| table::find(&self.place(), &[Kind::Given], &given));
                match value {
                    Some(value) if given.is_none() && !truth(name, &value)? => return Ok(()),
                    Some(value) => value,
                    None => "true".into(),
                }
            }
        };
        let given = value.to_str().map(|value| format!("{}={value}", row.long_of(name)));
        let given = given.and_then(|given| table::find(&self.place(), &[Kind::Given], &given));
        // nothing is as good as not given, unless it cannot be given at all
        if value.is_empty() && !matches!(row.meaning, Meaning::Refused(_)) {
            return Ok(());
        }
        self.apply(name, value, given.unwrap_or(row))
    }

    fn apply(&mut self, name: &str, value: OsString, row: &table::Row) -> Result<(), Failure> {
        let command = self.line.command.join(" ");
        let place = if command.is_empty() { "slipway".to_owned() } else { format!("`slipway {command}`") };
        match row.meaning {
            Meaning::Accepted => {}
            Meaning::Noted(words) => self.line.notes.push(format!("`{name}` does nothing here: {words}")),
            Meaning::Only(values, words) => {
                if !values.split(',').any(|known| value == known) {
                    let value = value.to_string_lossy();
                    return Err(Failure::usage(format!("{place} does not take `{name}` with `{value}`"))
                        .with_hint(words));
                }
            }
            Meaning::Is(flag) => {
                let arg = self.known(|arg| arg.get_long() == flag.strip_prefix("--"));
                let arg = arg.expect("a test holds that the table leads to flags that are there");
                if flag == "--version" {
                    self.rest.clear();
                }
                match arg.get_action().takes_values() {
                    true => self.own(arg, flag, Some(value))?,
                    false => self.own(arg, flag, None)?,
                }
            }
            Meaning::Refused(words) => {
                // a flag that is there, but not with this value
                let what = match row.kind {
                    Kind::Given => format!("{place} does not take `{name}={}`", value.display()),
                    _ => format!("{place} has no `{name}`"),
                };
                return Err(Failure::usage(what).with_hint(words));
            }
        }
        Ok(())
    }

    /// A letter that is no flag; `-name` is what Go's own flags look like.
    fn unknown_letter(&mut self, name: &str, word: &OsStr) -> Result<(), Failure> {
        let whole = word.to_str().and_then(|word| word.split('=').next()).unwrap_or_default();
        let long = format!("-{whole}");
        let known = self.known(|arg| arg.get_long() == long.strip_prefix("--")).is_some()
            || table::find(&self.place(), &[Kind::Flag, Kind::Value], &long).is_some();
        if !known || whole.len() < 3 {
            return self.unknown(OsStr::new(name));
        }
        let words = format!("`slipway {}` has no `{whole}`", self.line.command.join(" "));
        Err(Failure::usage(words).with_hint(format!("flags of several letters have two dashes: `{long}`")))
    }

    fn unknown(&mut self, word: &OsStr) -> Result<(), Failure> {
        self.line.flags.push(Flag::Wrong(word.to_owned()));
        // clap's answer is about this word; what stands after it cannot be told apart
        self.rest.clear();
        Ok(())
    }
}

/// A boolean's value, as pflag reads it.
fn truth(name: &str, value: &OsStr) -> Result<bool, Failure> {
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        _ => Err(Failure::usage(format!("`{name}={}`: it is true or false", value.to_string_lossy()))),
    }
}

fn split(word: &[u8]) -> (&[u8], Option<OsString>) {
    match word.iter().position(|byte| *byte == b'=') {
        Some(at) => (&word[..at], Some(OsString::from_vec(word[at + 1..].to_vec()))),
        None => (word, None),
    }
}
