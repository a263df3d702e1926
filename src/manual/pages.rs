//! `pages.txt` as data: groups of commands, headings of flags, examples.

use std::sync::OnceLock;

/// What a command's page has beside its own description.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The command's names.
    pub(crate) place: &'static str,
    /// Where the first page lists it.
    pub(crate) group: Option<&'static str>,
    /// Headings, each with its flags.
    pub(crate) headings: Vec<(&'static str, Vec<&'static str>)>,
    /// What a line does, where the one before does not say it already, and the line.
    pub(crate) examples: Vec<(Option<&'static str>, &'static str)>,
}

impl Page {
    /// The examples, as a page ends with them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(if self.examples.len() == 1 { "Example:" } else { "Examples:" });
        for (words, line) in &self.examples {
            if let Some(words) = words {
                text.push_str(&format!("\n  # {words}"));
            }
            text.push_str(&format!("\n  $ {line}"));
        }
        text
    }
}

/// All pages, in the order of the file.
pub(crate) fn all() -> &'static [Page] {
    static PAGES: OnceLock<Vec<Page>> = OnceLock::new();
    PAGES.get_or_init(|| read(include_str!("pages.txt")).expect("a test reads each line"))
}

/// The page of a command.
pub(crate) fn of(place: &str) -> Option<&'static Page> {
    all().iter().find(|page| page.place == place)
}

/// The groups of commands, in the order of the file.
pub(crate) fn groups() -> impl DoubleEndedIterator<Item = &'static str> {
    let mut groups: Vec<&'static str> = Vec::new();
    for group in all().iter().filter_map(|page| page.group) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups.into_iter()
}

fn read(text: &'static str) -> Option<Vec<Page>> {
    let mut pages: Vec<Page> = Vec::new();
    let mut words = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_at_checked(2)?;
        match mark {
            ": " => {
                let (place, group) =
                    rest.split_once(" = ").map_or((rest, None), |(place, group)| (place, Some(group)));
                pages.push(Page { place, group, ..Page::default() });
            }
            "+ " => {
                let (heading, flags) = rest.split_once(": ")?;
                pages.last_mut()?.headings.push((heading, flags.split(' ').collect()));
            }
            "- " => words = Some(rest),
            "$ " => pages.last_mut()?.examples.push((words.take(), rest)),
            _ => return None,
        }
    }
    words.is_none().then_some(pages)
}
