//! What the command line says about itself: help, usage lines, manual pages, completions.
//!
//! All of it comes from one description, clap's, made complete by [`definition`]: headings and examples from
//! [`pages`], and usage lines that show a command whole. It is only made where something is to be shown; commands that are
//! carried out are read from the plain description.

pub(crate) mod complete;
pub(crate) mod pages;

use crate::command::Cli;
use clap::{Command, CommandFactory};
use pages::Page;

/// Heading of the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// Heading of commands that no page gives a group.
const OTHERS: &str = "Others";

/// The whole command line, as it is shown.
pub(crate) fn definition() -> Command {
    let mut root = Cli::command();
    // gives the commands their help flags and the global ones, and clap's own `help`
    root.build();
    let groups = groups(&root);
    let root = described(root, "");
    root.help_template("{about}\n\n{usage-heading} {usage}\n\n{before-help}{options}{after-help}")
        .before_help(groups)
        .after_help(
            "`slipway help COMMAND` shows a command's page. What docker, podman and buildah call otherwise is \
             understood too, or answered.",
        )
}

/// Every command with its names, the first the program itself; what is hidden and clap's own `help` are left out.
pub(crate) fn all() -> Vec<(String, Command)> {
    fn walk(command: &Command, place: &str, all: &mut Vec<(String, Command)>) {
        all.push((place.to_owned(), command.clone()));
        let shown = |inner: &&Command| inner.get_name() != "help" && !inner.is_hide_set();
        for inner in command.get_subcommands().filter(shown) {
            walk(inner, format!("{place} {}", inner.get_name()).trim(), all);
        }
    }
    let mut all = Vec::new();
    walk(&definition(), "", &mut all);
    all
}

/// What slipway has of a group of commands of others': `image`, `container`, `buildx`.
pub(crate) fn group(name: &str) -> String {
    let root = Cli::command();
    let lines = crate::front::names_of_others().filter(|(group, ..)| *group == name).map(|(_, name, own)| {
        let command = own.split(' ').next().and_then(|own| root.find_subcommand(own));
        let about = command.and_then(Command::get_about).map(ToString::to_string).unwrap_or_default();
        format!("  {name:<9}slipway {own:<20} {about}")
    });
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    format!(
        "What `{name}` of docker, podman and buildah has here, each with slipway's own name.\n\n\
         Usage: slipway {name} COMMAND\n\nCommands:\n{}\n\n`slipway help {name} COMMAND` shows a command's page.",
        lines.join("\n")
    )
}

/// A command with what its page says.
fn described(mut command: Command, place: &str) -> Command {
    let usage = command.render_usage().to_string();
    // clap's own usage line after a mistake shows what was given as if it were required
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    command = command.override_usage(usage).mut_args(|arg| match arg.is_global_set() {
        true => arg.help_heading(EVERYWHERE),
        false => arg,
    });
    if let Some(page) = pages::of(place) {
        command = with_headings(command, page);
        if !page.examples.is_empty() {
            command = command.after_help(page.text());
        }
    }
    command.mut_subcommands(|inner| {
        let name = inner.get_name().to_owned();
        if name == "help" {
            return inner;
        }
        let place = if place.is_empty() { name } else { format!("{place} {name}") };
        described(inner, &place)
    })
}

fn with_headings(command: Command, page: &'static Page) -> Command {
    command.mut_args(|arg| {
        let own = arg.get_long().and_then(|long| {
            page.headings
                .iter()
                .find(|(_, flags)| flags.iter().any(|flag| flag.strip_prefix("--") == Some(long)))
        });
        match own {
            Some((heading, _)) => arg.help_heading(*heading),
            None => arg,
        }
    })
}

/// The commands by purpose.
fn groups(root: &Command) -> String {
    let mut groups: Vec<(&str, Vec<&Command>)> = pages::groups().map(|group| (group, Vec::new())).collect();
    groups.push((OTHERS, Vec::new()));
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let own = match command.get_name() {
            "help" => pages::groups().last(),
            name => pages::of(name).and_then(|page| page.group),
        };
        let at = groups.iter().position(|(group, _)| Some(*group) == own).unwrap_or(groups.len() - 1);
        groups[at].1.push(command);
    }
    let shown = groups.iter().filter(|(_, commands)| !commands.is_empty());
    let shown = shown.map(|(group, commands)| {
        let lines = commands.iter().map(|command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            format!("  {:<11} {about}\n", command.get_name())
        });
        format!("{group}:\n{}", lines.collect::<String>())
    });
    shown.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands without the program itself.
    fn commands() -> Vec<(String, Command)> {
        all().split_off(1)
    }

    #[test]
    fn every_command_has_a_page_and_every_page_a_command() {
        let all = commands();
        for (place, command) in &all {
            let page = pages::of(place).unwrap_or_else(|| panic!("`{place}` has no page in pages.txt"));
            assert!(!page.examples.is_empty(), "{place} has no example");
            assert_eq!(page.group.is_some(), !place.contains(' '), "{place}");
            assert!(command.get_about().is_some(), "{place} does not say what it does");
            for arg in command.get_arguments() {
                assert!(
                    arg.is_hide_set() || arg.get_help().is_some(),
                    "{place}: {:?} has no help",
                    arg.get_id()
                );
            }
        }
        for page in pages::all() {
            assert!(all.iter().any(|(place, _)| *place == page.place), "no command `{}`", page.place);
        }
    }

    #[test]
    fn long_pages_list_their_flags_by_purpose() {
        for (place, command) in commands() {
            let Some(page) = pages::of(&place) else { continue };
            let own: Vec<&clap::Arg> = command
                .get_arguments()
                .filter(|arg| !arg.is_positional() && !arg.is_global_set() && !arg.is_hide_set())
                .filter(|arg| arg.get_id() != "help")
                .collect();
            let listed = own.iter().filter(|arg| arg.get_help_heading().is_some()).count();
            if own.len() > 10 || listed > 0 {
                let left: Vec<_> = own.iter().filter(|arg| arg.get_help_heading().is_none()).collect();
                assert!(left.is_empty(), "{place}: no heading in pages.txt for {left:?}");
            }
            for flag in page.headings.iter().flat_map(|(_, flags)| flags) {
                assert!(
                    own.iter().any(|arg| arg.get_long() == flag.strip_prefix("--")),
                    "{place} has no {flag}"
                );
            }
        }
    }

    #[test]
    fn usage_lines_show_what_is_required_and_no_more() {
        for (place, command) in commands() {
            let words = place.split(' ').map(str::to_owned);
            let given = ["slipway", "--root", "/x"].into_iter().map(str::to_owned).chain(words);
            let given = given.chain(["--nosuch".to_owned()]);
            // text of `dockerfile expand` may look like a flag
            let Err(error) = definition().try_get_matches_from(given) else { continue };
            let error = error.to_string();
            let usage =
                error.lines().find(|line| line.starts_with("Usage:")).unwrap_or_else(|| panic!("{error}"));
            assert!(!usage.contains("--root"), "{usage}");
            assert!(usage.contains(&format!("slipway {place}")), "{usage}");
            let whole = command.clone().render_help().to_string();
            assert!(whole.contains(usage), "{usage} in\n{whole}");
        }
    }

    #[test]
    fn the_first_page_lists_every_command_by_purpose() {
        let page = definition().render_help().to_string();
        for (place, _) in commands().iter().filter(|(place, _)| !place.contains(' ')) {
            assert!(page.lines().any(|line| line.starts_with(&format!("  {place} "))), "{place} in\n{page}");
        }
        assert!(!page.contains(OTHERS), "{page}");
        for group in pages::groups() {
            assert!(page.contains(&format!("\n{group}:\n")), "{group} in\n{page}");
        }
    }
}
