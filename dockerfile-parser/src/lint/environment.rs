//! The variables of a stage while its instructions go by, with what is not known about them.

use super::limits::MAX_VALUE_BYTES;
use super::reference::ImageName;
use crate::expand::{ExpandError, Expander};
use crate::suggest::edit_distance;
use std::cell::RefCell;

/// What is known of the environment that a stage begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Everything: the stage goes back to `scratch`.
    Scratch,
    /// An image whose environment is common knowledge: `PATH` and nothing else.
    Plain,
    /// An image that may set anything.
    Unknown,
}

/// Official images that set `PATH` alone.
const PLAIN_IMAGES: [&str; 8] =
    ["alpine", "busybox", "debian", "ubuntu", "centos", "rockylinux", "almalinux", "amazonlinux"];

/// Variables that people expect everywhere, though only a shell or a runtime sets them.
const WELL_KNOWN: [&str; 9] = ["HOME", "HOSTNAME", "USER", "PWD", "SHELL", "TERM", "LANG", "LC_ALL", "PATH"];

/// Arguments that need no declaration.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

impl Origin {
    /// What is known of an image.
    pub(super) fn of_image(name: &str) -> Self {
        let official = ImageName::parse(name).and_then(|name| name.official());
        if official.is_some_and(|name| PLAIN_IMAGES.contains(&name)) { Self::Plain } else { Self::Unknown }
    }
}

/// The state that one instruction leaves to the next.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    pub(super) origin: Origin,
    /// Name and value; a value may be set and not known.
    vars: Vec<(String, Option<String>)>,
    /// Every ARG, with a value or not.
    declared: Vec<String>,
    /// Whether a WORKDIR went by.
    pub(super) workdir_set: bool,
    /// The working directory, if it is known.
    pub(super) workdir: Option<String>,
    /// SHELL, if one went by.
    pub(super) shell: Option<Vec<String>>,
    /// Whether a USER went by.
    pub(super) user_set: bool,
    /// Whether something in the stage tells apt not to install recommended packages.
    pub(super) apt_configured: bool,
    /// Destinations of COPY and ADD so far, absolute and clean.
    pub(super) copied: Vec<String>,
    /// Whether a lock file of npm was copied by name.
    pub(super) npm_lock: bool,
}

/// A text with its variables replaced.
pub(super) struct Value {
    pub(super) text: String,
    /// Whether nothing unknown went into it.
    pub(super) is_known: bool,
    /// Variables that nothing provides.
    pub(super) unset: Vec<String>,
    /// Variables named at all.
    pub(super) used: Vec<String>,
}

/// How a text is expanded.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// A word, with the file's escape character.
    Word(char),
    /// A heredoc's body.
    Body,
}

impl Environment {
    pub(super) fn new(origin: Origin) -> Self {
        let path = match origin {
            Origin::Scratch => {
                Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned())
            }
            Origin::Plain | Origin::Unknown => None,
        };
        Self {
            origin,
            vars: vec![("PATH".to_owned(), path)],
            declared: Vec::new(),
            workdir_set: false,
            workdir: (origin != Origin::Unknown).then(|| "/".to_owned()),
            shell: None,
            user_set: false,
            apt_configured: false,
            copied: Vec::new(),
            npm_lock: false,
        }
    }

    /// How much a copy costs.
    pub(super) fn size(&self) -> usize {
        self.vars.len() + self.declared.len() + self.copied.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Option<String>> {
        self.vars.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        let value = value.filter(|value| value.len() <= MAX_VALUE_BYTES);
        match self.vars.iter_mut().find(|(key, _)| key == name) {
            Some(entry) => entry.1 = value,
            None => self.vars.push((name.to_owned(), value)),
        }
    }

    /// Forgets `PATH`: arguments before the first FROM have no environment.
    pub(super) fn remove_path(&mut self) {
        self.vars.retain(|(key, _)| key != "PATH");
    }

    pub(super) fn declare(&mut self, name: &str) {
        if !self.is_declared(name) {
            self.declared.push(name.to_owned());
        }
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.declared.iter().any(|known| known == name)
    }

    /// The names that have a value, in the order they were set: what BuildKit suggests from.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.iter().map(|(key, _)| key.as_str()).chain(self.declared.iter().map(String::as_str))
    }

    /// Replaces the variables of `text`.
    ///
    /// # Errors
    /// What is wrong with the text; nothing when only the base image could tell whether it is wrong.
    pub(super) fn expand(&self, text: &str, mode: Mode) -> Result<Value, Option<ExpandError>> {
        let uncertain = RefCell::new(false);
        let lookup = |name: &str| match self.get(name) {
            Some(Some(value)) => Some(value.clone()),
            // Set, but to what is not known.
            Some(None) => {
                *uncertain.borrow_mut() = true;
                Some(String::new())
            }
            None => {
                if self.origin != Origin::Scratch && !self.is_declared(name) {
                    *uncertain.borrow_mut() = true;
                }
                None
            }
        };
        let result = match mode {
            Mode::Word(escape) => Expander::new(escape).expand(text, &lookup),
            Mode::Body => Expander::new('\\').expand_raw(text, &lookup),
        };
        let uncertain = *uncertain.borrow();
        match result {
            Ok(found) => {
                Ok(Value { text: found.value, is_known: !uncertain, unset: found.unset, used: found.used })
            }
            Err(ExpandError::Required { .. } | ExpandError::BadPattern { .. }) if uncertain => Err(None),
            Err(error) => Err(Some(error)),
        }
    }

    /// Whether a variable that nothing here sets is worth a word: always when the environment is known, else only
    /// when its name is nearly that of a known one.
    pub(super) fn is_suspicious(&self, name: &str) -> bool {
        if self.is_declared(name) || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name)) {
            return false;
        }
        match self.origin {
            Origin::Scratch => true,
            Origin::Plain => !WELL_KNOWN.contains(&name),
            Origin::Unknown => !WELL_KNOWN.contains(&name) && self.names().any(|known| is_slip(name, known)),
        }
    }
}

/// The nearest of `options` by BuildKit's rule: fewer than three edits, the first of the nearest.
pub(super) fn suggestion<'o>(name: &str, options: impl Iterator<Item = &'o str>) -> Option<&'o str> {
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        let distance = edits(name, option, false);
        if distance == 0 {
            return None;
        }
        if distance < 3 && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// Whether `name` is so near to `known` that it is a slip of the pen and not a name that an image may well have.
fn is_slip(name: &str, known: &str) -> bool {
    let length = name.chars().count().min(known.chars().count());
    // `GOPATH` is near to `PATH`: whoever mistypes a name gets its first letter right.
    let same_start = name.chars().next() == known.chars().next();
    same_start && length >= 4 && edits(name, known, true) <= if length >= 8 { 2 } else { 1 }
}

/// Edits from one name to the other; a swap of neighbours counts once if asked. Long names are never near.
fn edits(a: &str, b: &str, swaps: bool) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 128 {
        return usize::MAX;
    }
    edit_distance(&a, &b, swaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_buildkits() {
        assert_eq!(suggestion("DIR_ASSET", ["DIR_CONFIG", "DIR_ASSETS"].into_iter()), Some("DIR_ASSETS"));
        assert_eq!(suggestion("PAHT", ["PATH"].into_iter()), Some("PATH"));
        assert_eq!(suggestion("foo", ["PATH"].into_iter()), None);
    }

    #[test]
    fn slips() {
        assert!(is_slip("PAHT", "PATH") && is_slip("DIR_ASSET", "DIR_ASSETS"));
        assert!(!is_slip("GOPATH", "PATH") && !is_slip("A", "B") && !is_slip("FOO", "FOE"));
    }
}
