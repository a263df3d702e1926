//! Every command and flag of docker's, buildx', podman's, buildah's and kaniko's: `flags.txt` is the list, as their manuals
//! have it. Each is taken, or answered by a sentence of ours; clap is never asked about them.

use super::*;
use crate::command::Cli;
use clap::CommandFactory;

const FLAGS: &str = include_str!("flags.txt");

/// Flags that podman has in another meaning than docker: docker's counts.
const DOCKERS: [(&str, &str); 1] = [("podman", "-n")];

/// A command of another program, its names without the program's, and its flags.
struct Of {
    line: &'static str,
    command: Vec<&'static str>,
    flags: Vec<Known>,
}

/// A flag in all its spellings.
struct Known {
    names: Vec<&'static str>,
    takes: bool,
}

fn all() -> Vec<Of> {
    let lines = FLAGS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(commands).collect()
}

fn commands(line: &'static str) -> Vec<Of> {
    let (names, flags) = line.split_once(':').expect(line);
    let names = names.split(',').map(|name| name.trim().split(' ').skip(1).collect::<Vec<_>>());
    let one = |command: Vec<&'static str>| {
        let flags = flags.split_whitespace().map(|flag| {
            let takes = flag.ends_with('=');
            Known { names: flag.trim_end_matches("[=]").trim_end_matches('=').split(',').collect(), takes }
        });
        Of { line, command, flags: flags.collect() }
    };
    names.map(one).collect()
}

/// Reads a line: nothing where a sentence answers it, and what is wrong with it where neither does.
fn taken(cli: &clap::Command, words: &[OsString]) -> Result<Option<Line>, String> {
    let line = match read(words.iter().cloned(), cli, &|_| None) {
        Ok(line) => line,
        Err(failure) if failure.words().is_empty() => return Err("an empty sentence".to_owned()),
        Err(_) => return Ok(None),
    };
    if let Some(flag) = line.flags.iter().chain(&line.before).find(|flag| matches!(flag, Flag::Wrong(_))) {
        return Err(format!("{flag:?} is nobody's"));
    }
    let there = line.command.iter().try_fold(cli, |here, name| here.find_subcommand(name));
    // a flag before the command, and VALUE in the command's place
    if line.command == ["VALUE"] || line.group.is_some() {
        return Ok(None);
    }
    if there.is_none() { Err(format!("no command {:?}", line.command)) } else { Ok(Some(line)) }
}

#[test]
fn every_flag_of_others_is_taken_or_answered() {
    let mut cli = Cli::command();
    cli.build();
    let mut left = std::collections::BTreeSet::new();
    let mut count = 0;
    for of in all() {
        let place = of.line.split(':').next().unwrap();
        let command: Vec<OsString> = of.command.iter().map(OsString::from).collect();
        if !of.line.starts_with("executor")
            && let Err(words) = taken(&cli, &command)
        {
            left.insert(format!("{place}: {words}"));
        }
        // kaniko's line has no command and is read by [`kaniko`]; its flags are asked of a build too
        let command = if of.line.starts_with("executor") { vec!["build".into()] } else { command };
        for flag in &of.flags {
            for name in &flag.names {
                count += 1;
                let mut given = command.clone();
                given.extend([OsString::from(name), "VALUE".into()]);
                let line = match taken(&cli, &given) {
                    Ok(Some(line)) => line,
                    Ok(None) => continue,
                    Err(words) => {
                        left.insert(format!("{place} {name}: {words}"));
                        continue;
                    }
                };
                // a word that is a value is not among the words
                let takes = !line.words.contains(&OsString::from("VALUE"));
                let is_dockers = DOCKERS.contains(&(place.split(' ').next().unwrap_or_default(), *name));
                if takes != flag.takes && !line.command.is_empty() && !is_dockers {
                    left.insert(format!("{place} {name}: VALUE is {takes} in {line:?}"));
                }
            }
        }
    }
    assert!(left.is_empty(), "{} of {count}:\n{}", left.len(), Vec::from_iter(left).join("\n"));
    assert!(count > 3000, "{count}");
}
