//! The form of the case files.
//!
//! ```text
//! === a name of its own
//! by: buildah 1.28.2          who says what is expected: recorded, or a section of the rules
//! flags: --target x           words for `build`; {dir} and {http} stand for the case's folder and a loopback server
//! levels: root single-id      the sandbox levels that it can be built at; without the key all of them
//! differs: why                where `--- buildah` holds something else than `--- expect`
//! --- Dockerfile              the recipe
//! --- image NAME              a recipe that is built before, as NAME
//! --- file PATH [MODE]        a file of the context; `--- served PATH` is one of the loopback server
//! --- setup                   a shell script, run in the context's folder, for links, owners and archives
//! --- command                 a shell script in place of the build: `$BUILD FLAGS` builds as `$NAME`
//! --- expect                  the listing, then configuration keys as JSON; `layers N` counts those above the base
//! --- fails                   parts of the error message, one a line; the build must fail
//! --- says, --- silent        lines that the output must and must not have
//! --- buildah                 what buildah made, where that is not `--- expect`
//! ```
//!
//! The listing has what the build added or changed, sorted by path: type, mode, owner and group, then for files size
//! and the first 16 digits of the sha256, `= /path` for another name of the same file, `-> target` for links; `-` for
//! what is gone. Modification times are not compared: see docs/compatibility.md.

use std::fs;
use std::path::{Path, PathBuf};

/// One recipe.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// `by`, `flags` and so on, as written.
    pub(crate) keys: Vec<(String, String)>,
    /// Title and text of each section.
    pub(crate) sections: Vec<(String, String)>,
}

impl Case {
    pub(crate) fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn by(&self) -> &str {
        self.key("by").unwrap_or_default()
    }

    /// Whether buildah was asked about this case.
    pub(crate) fn is_recorded(&self) -> bool {
        self.by().starts_with("buildah") || self.section("buildah").is_some()
    }

    pub(crate) fn section(&self, title: &str) -> Option<&str> {
        self.sections.iter().find(|(found, _)| found == title).map(|(_, text)| text.as_str())
    }

    /// Sections whose title begins with a word, and the rest of their titles.
    pub(crate) fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.sections.iter().filter_map(move |(title, text)| {
            Some((title.strip_prefix(word)?.strip_prefix(' ')?, text.as_str()))
        })
    }

    /// Sets or removes a section.
    pub(crate) fn put(&mut self, title: &str, text: Option<String>) {
        let place = self.sections.iter().position(|(found, _)| found == title);
        match (place, text) {
            (Some(place), Some(text)) => self.sections[place].1 = text,
            (None, Some(text)) => self.sections.push((title.to_owned(), text)),
            (Some(place), None) => drop(self.sections.remove(place)),
            (None, None) => {}
        }
    }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// The text before the first case, and the cases.
pub(crate) fn read(group: &str) -> (String, Vec<Case>) {
    let text = fs::read_to_string(folder().join(format!("{group}.txt"))).unwrap();
    let (mut head, mut cases) = (String::new(), Vec::<Case>::new());
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        if let Some(name) = bare.strip_prefix("=== ") {
            assert!(cases.iter().all(|case| case.name != name), "two cases are called `{name}`");
            cases.push(Case { name: name.to_owned(), keys: Vec::new(), sections: Vec::new() });
        } else if let Some(case) = cases.last_mut() {
            if let Some(title) = bare.strip_prefix("--- ") {
                case.sections.push((title.to_owned(), String::new()));
            } else if let Some((_, text)) = case.sections.last_mut() {
                text.push_str(line);
            } else if !bare.is_empty() {
                let (key, value) = bare.split_once(": ").unwrap_or_else(|| panic!("{group}: `{bare}`"));
                case.keys.push((key.to_owned(), value.to_owned()));
            }
        } else {
            head.push_str(line);
        }
    }
    (head, cases)
}

/// Writes the group back.
pub(crate) fn write(group: &str, head: &str, cases: &[Case]) {
    let mut text = head.to_owned();
    for case in cases {
        text += &format!("=== {}\n", case.name);
        for (key, value) in &case.keys {
            text += &format!("{key}: {value}\n");
        }
        for (title, content) in &case.sections {
            text += &format!("--- {title}\n{content}");
        }
    }
    fs::write(folder().join(format!("{group}.txt")), text).unwrap();
}
