//! Which command a line means: slipway's own, one that others call otherwise, or a group of others' commands.

use super::{Flag, Reader, names_of_others, table};
use crate::error::Failure;
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};
use table::Meaning;

impl Reader<'_> {
    /// A word before commands that stands alone asks what there is, as docker's do.
    pub(super) fn alone(&mut self) {
        let line = &mut self.line;
        let bare = line.before.is_empty() && line.flags.is_empty() && line.words.is_empty();
        // a command that nobody knows is clap's to answer
        let known = line.command.is_empty() || !std::ptr::eq(self.here, self.root);
        if bare && known && self.here.has_subcommands() && line.group.is_none() {
            line.flags.push(Flag::Switch("help".to_owned(), true));
        }
    }

    /// The place in the table: the command's names.
    pub(super) fn place(&self) -> String {
        if self.line.command.is_empty() { "*".to_owned() } else { self.line.command.join(" ") }
    }

    pub(super) fn descend(&mut self, word: OsString) -> Result<(), Failure> {
        let Some(name) = word.to_str() else {
            let words = format!("`{}` is no command", word.to_string_lossy());
            return Err(Failure::usage(words).with_hint("`slipway --help` shows what there is"));
        };
        if name == "help" && self.line.command.is_empty() {
            return self.help();
        }
        if let Some(found) = self.here.find_subcommand(name) {
            self.line.command.push(found.get_name().to_owned());
            self.here = found;
            return Ok(());
        }
        let two = match self.line.command.as_slice() {
            [group] => Some(format!("{group} {name}")),
            // flags of a group, such as buildx' `--builder x`, stand before its command: they are read with the command's
            _ => self.rest.front().and_then(|next| next.to_str()).map(|next| format!("{name} {next}")),
        };
        if let Some((two, meaning)) = two.and_then(|two| table::command(&two).map(|meaning| (two, meaning))) {
            if self.line.command.is_empty() {
                self.rest.pop_front();
            }
            return self.command_of_others(&two, meaning);
        }
        match table::command(name).filter(|_| self.line.command.is_empty()) {
            Some(meaning) => self.command_of_others(name, meaning),
            None if self.line.command.is_empty() && table::group(name).is_some() => self.group(word),
            None => {
                // clap knows what it resembles
                self.line.command.push(name.to_owned());
                self.rest.clear();
                Ok(())
            }
        }
    }

    /// `image`, `buildx --builder x ls`: a word that others have before commands.
    fn group(&mut self, word: OsString) -> Result<(), Failure> {
        let name = word.to_str().and_then(table::group).expect("the caller has looked");
        if self.skip_options_of_group() {
            return self.descend(word);
        }
        let known: Vec<&str> =
            names_of_others().filter(|(group, ..)| *group == name).map(|(_, name, _)| name).collect();
        if known.is_empty() {
            let words = table::words_for_group(name).unwrap_or("`slipway --help` shows what there is");
            return Err(Failure::usage(format!("slipway has no command `{name}`")).with_hint(words));
        }
        match self.rest.pop_front() {
            None => {}
            Some(next) if matches!(next.as_bytes(), b"--help" | b"-h" | b"help") => {}
            Some(next) => {
                let words = format!("`slipway {name}` has no `{}`", next.to_string_lossy());
                return Err(Failure::usage(words).with_hint(format!("there are: {}", known.join(", "))));
            }
        }
        self.line.group = Some(name);
        self.rest.clear();
        Ok(())
    }

    /// `help COMMAND`, by whatever name: the command's own help.
    fn help(&mut self) -> Result<(), Failure> {
        while self.here.has_subcommands()
            && let Some(word) = self.rest.pop_front()
        {
            if word.as_bytes().starts_with(b"-") {
                break;
            }
            self.descend(word)?;
        }
        self.rest.clear();
        let help = Flag::Switch("help".to_owned(), true);
        let unknown = !self.line.command.is_empty() && std::ptr::eq(self.here, self.root);
        // clap knows what it resembles
        if !unknown && self.line.group.is_none() {
            self.line.flags.push(help);
        }
        Ok(())
    }

    /// `buildx --builder x build`: flags that choose a daemon or builder, which there is none of. Whether any was there.
    fn skip_options_of_group(&mut self) -> bool {
        let before = self.rest.len();
        while let Some(next) = self.rest.front().and_then(|next| next.to_str()) {
            let words = match next {
                "--builder" => 2,
                "-D" | "--debug" => 1,
                other if other.starts_with("--builder=") => 1,
                _ => break,
            };
            self.rest.drain(..words.min(self.rest.len()));
        }
        self.rest.len() < before
    }

    fn command_of_others(&mut self, name: &str, meaning: Meaning) -> Result<(), Failure> {
        match meaning {
            Meaning::Refused(words) => {
                Err(Failure::usage(format!("slipway has no command `{name}`")).with_hint(words))
            }
            Meaning::Is(flag) if flag.starts_with("--") => {
                self.line.before.push(Flag::Switch(flag[2..].to_owned(), true));
                self.rest.clear();
                Ok(())
            }
            Meaning::Is(words) => {
                let mut words = words.split(' ');
                let command = words.next().expect("a split has a first part");
                self.line.command = vec![command.to_owned()];
                let found = self.root.find_subcommand(command);
                self.here = found.expect("a test holds that the table leads to commands that are there");
                // what the name says beyond the command: a flag and its value
                for word in words {
                    self.option(OsStr::new(word))?;
                }
                Ok(())
            }
            Meaning::Accepted | Meaning::Noted(_) | Meaning::Only(..) => Ok(()),
        }
    }
}
