//! A package manager's command line: subcommand, options, operands.

use crate::lint::shell::ShellWord;

pub(super) struct Tool<'c> {
    /// The first word that is no option.
    pub(super) action: &'c ShellWord,
    /// Every option as written, `--x=y` included.
    options: Vec<&'c str>,
    /// What the action is about.
    pub(super) operands: Vec<&'c ShellWord>,
    /// Whether a variable may hold further options.
    pub(super) is_open: bool,
}

impl<'c> Tool<'c> {
    /// Reads the words after the program; `valued` are the options whose value is a word of its own.
    pub(super) fn read(words: &'c [ShellWord], valued: &[&str]) -> Option<Self> {
        let (mut action, mut options, mut operands, mut is_open) = (None, Vec::new(), Vec::new(), false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let text = word.text.as_str();
            if text.len() > 1 && text.starts_with('-') {
                options.push(text);
                if valued.contains(&text)
                    && let Some(value) = words.next()
                {
                    options.push(&value.text);
                }
            } else if !word.is_literal && !word.is_quoted {
                let upper = text.to_uppercase();
                is_open |= ["OPT", "FLAG", "ARG"].iter().any(|part| upper.contains(part));
                operands.push(word);
            } else if action.is_none() {
                action = Some(word);
            } else {
                operands.push(word);
            }
        }
        Some(Self { action: action?, options, operands, is_open })
    }

    pub(super) fn is(&self, actions: &[&str]) -> bool {
        actions.contains(&self.action.text.as_str())
    }

    /// Whether any of these long options, or short letters, is given.
    pub(super) fn has(&self, long: &[&str], short: &[char]) -> bool {
        self.options.iter().any(|option| {
            let name = option.split('=').next().unwrap_or(option);
            let cluster = option.starts_with('-') && !option.starts_with("--");
            long.contains(&name) || (cluster && option[1..].contains(short))
        })
    }

    /// How often a short letter is given.
    pub(super) fn count(&self, letter: char) -> usize {
        let short = self.options.iter().filter(|option| option.starts_with('-') && !option.starts_with("--"));
        short.map(|option| option.matches(letter).count()).sum()
    }

    /// Whether any option or its value holds `part`.
    pub(super) fn mentions(&self, part: &str) -> bool {
        self.options.iter().any(|option| option.contains(part))
    }
}

/// The words of a warning about operands without a version: their names, and how many there are.
pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("`{one}` has no version"),
        [one, two] => format!("`{one}` and `{two}` have no version"),
        [one, two, rest @ ..] => format!("`{one}`, `{two}` and {} more have no version", rest.len()),
    }
}
