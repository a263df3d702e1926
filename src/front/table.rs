//! The table of what docker, buildx, podman, buildah and kaniko call things: `table.txt`, as data.

use std::sync::OnceLock;

/// What a word of another program means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing has to be done for it.
    Accepted,
    /// The same, with a word to the caller.
    Noted(&'static str),
    /// Accepted with these values, separated by commas; the sentence answers others.
    Only(&'static str, &'static str),
    /// Slipway's own flag or command.
    Is(&'static str),
    /// There is no such thing: what to do instead.
    Refused(&'static str),
}

/// What a row speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A boolean flag.
    Flag,
    /// A flag with a value.
    Value,
    /// A flag of slipway with one value, `--flag=value`.
    Given,
    /// A command, of one word or two.
    Command,
    /// A word before commands.
    Group,
}

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) places: Vec<&'static str>,
    pub(super) kind: Kind,
    pub(super) names: Vec<&'static str>,
    pub(super) meaning: Meaning,
}

impl Row {
    /// Whether the row speaks of a command, or of what stands before one.
    pub(super) fn is_at(&self, place: &str) -> bool {
        self.places.iter().any(|own| own.split('+').eq(place.split(' ')))
    }

    /// The long spelling of one of its names: a letter stands behind it.
    pub(super) fn long_of<'n>(&self, name: &'n str) -> &'n str
    where
        'static: 'n,
    {
        let at = self.names.iter().position(|own| *own == name).unwrap_or(0);
        self.names[..=at].iter().rev().find(|own| own.starts_with("--")).copied().unwrap_or(name)
    }
}

/// The rows, in the order of the file.
pub(super) fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let lines = include_str!("table.txt").lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| row(line).expect("a test reads each row")).collect()
    })
}

fn row(line: &'static str) -> Option<Row> {
    let (left, right) = line.split_once(" = ")?;
    let (places, left) = left.split_once(char::is_whitespace)?;
    let (kind, names) = left.trim_start().split_once(char::is_whitespace)?;
    let kind = match kind {
        "flag" => Kind::Flag,
        "value" => Kind::Value,
        "given" => Kind::Given,
        "command" => Kind::Command,
        "group" => Kind::Group,
        _ => return None,
    };
    let names: Vec<&str> = match kind {
        Kind::Command => names.split(',').map(str::trim).collect(),
        _ => names.split_whitespace().collect(),
    };
    Some(Row { places: places.split(',').collect(), kind, names, meaning: meaning(right.trim())? })
}

fn meaning(text: &'static str) -> Option<Meaning> {
    if text == "accepted" {
        return Some(Meaning::Accepted);
    }
    let (word, rest) = text.split_once(' ')?;
    match word {
        "noted:" => Some(Meaning::Noted(rest)),
        "refused:" => Some(Meaning::Refused(rest)),
        "is" => Some(Meaning::Is(rest)),
        "only" => rest.split_once(": ").map(|(values, words)| Meaning::Only(values, words)),
        _ => None,
    }
}

/// The row for `name` of one of `kinds` at `place`.
pub(super) fn find(place: &str, kinds: &[Kind], name: &str) -> Option<&'static Row> {
    rows().iter().find(|row| kinds.contains(&row.kind) && row.is_at(place) && row.names.contains(&name))
}

/// A flag that stands before the command and changes nothing: podman's may stand after it as well.
pub(super) fn anywhere(name: &str) -> Option<&'static Row> {
    let row = find("*", &[Kind::Flag, Kind::Value], name).filter(|_| name.starts_with("--"))?;
    matches!(row.meaning, Meaning::Accepted | Meaning::Noted(_)).then_some(row)
}

/// The meaning of a command's name.
pub(super) fn command(name: &str) -> Option<Meaning> {
    find("-", &[Kind::Command], name).map(|row| row.meaning)
}

/// The word, if it stands before commands.
pub(super) fn group(name: &str) -> Option<&'static str> {
    find("-", &[Kind::Group], name).and_then(|row| row.names.iter().find(|own| **own == name).copied())
}

/// What is said of most commands of a group that slipway has none of.
pub(super) fn words_for_group(group: &str) -> Option<&'static str> {
    let count = |row: &Row| {
        let of_group = |name: &&&str| name.split_once(' ').is_some_and(|(own, _)| own == group);
        row.names.iter().filter(of_group).count()
    };
    let refused = rows().iter().filter_map(|row| match row.meaning {
        Meaning::Refused(words) if row.kind == Kind::Command => Some((count(row), words)),
        _ => None,
    });
    refused.filter(|(count, _)| *count > 0).max_by_key(|(count, _)| *count).map(|(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Cli;
    use clap::CommandFactory;

    #[test]
    fn every_row_is_read_and_no_name_stands_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for row in rows() {
            for (place, name) in
                row.places.iter().flat_map(|place| row.names.iter().map(move |name| (place, name)))
            {
                assert!(seen.insert((*place, row.kind == Kind::Group, *name)), "{place} {name} twice");
                assert_eq!(name.starts_with('-'), !matches!(row.kind, Kind::Command | Kind::Group), "{name}");
                assert_eq!(name.contains('='), row.kind == Kind::Given, "{name}");
            }
            if let Meaning::Noted(words) | Meaning::Only(_, words) | Meaning::Refused(words) = row.meaning {
                assert!(words.len() < 140 && !words.ends_with('.'), "one sentence: {words}");
            }
        }
        assert!(seen.len() > 250, "{}", seen.len());
    }

    #[test]
    fn what_a_row_leads_to_is_there() {
        let mut cli = Cli::command();
        cli.build();
        for row in rows() {
            if row.kind != Kind::Command {
                for place in row.places.iter().filter(|place| !matches!(**place, "-" | "*")) {
                    let command = place.split('+').fold(&cli, |command, name| {
                        command.find_subcommand(name).unwrap_or_else(|| panic!("no command {place}"))
                    });
                    if let Meaning::Is(flag) = row.meaning {
                        let there =
                            command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
                        assert!(there, "{place} has no {flag}");
                    }
                }
            } else if let Meaning::Is(target) = row.meaning {
                let mut words = target.split(' ');
                let name = words.next().unwrap();
                let command = cli.find_subcommand(name);
                assert!(target == "--version" || command.is_some(), "no {target}");
                for flag in words {
                    let flag = flag.trim_start_matches("--").split('=').next();
                    let there =
                        command.is_some_and(|it| it.get_arguments().any(|arg| arg.get_long() == flag));
                    assert!(there, "{name} has no {flag:?}");
                }
            }
        }
    }
}
