//! Command lines of docker's, buildx', podman's, buildah's and kaniko's manuals and of projects' CI files, each with its
//! meaning: the line in slipway's own words, or the sentence that answers it.

use super::*;
use crate::command::Cli;
use clap::{CommandFactory, FromArgMatches};

/// `LINE` and beneath it, indented, `= MEANING`; written anew with SLIPWAY_RECORD=lines, to be read before it is kept.
const LINES: &str = include_str!("lines.txt");

/// Words of a shell: blanks divide, `'...'` keeps them, `\xNN` is a byte.
fn words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut open, mut quoted) = (Vec::new(), Vec::new(), false, false);
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' => (quoted, open) = (!quoted, true),
            b' ' if !quoted => {
                if std::mem::take(&mut open) {
                    words.push(OsString::from_vec(std::mem::take(&mut word)));
                }
            }
            b'\\' => {
                assert_eq!(bytes.next(), Some(b'x'), "{line}");
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                word.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                open = true;
            }
            byte => {
                word.push(byte);
                open = true;
            }
        }
    }
    if open {
        words.push(OsString::from_vec(word));
    }
    words
}

fn shown(words: &[OsString]) -> String {
    let one = |word: &OsString| {
        let text: String = word
            .as_bytes()
            .utf8_chunks()
            .map(|chunk| {
                let bad: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("{}{bad}", chunk.valid())
            })
            .collect();
        if text.is_empty() || text.contains(' ') { format!("'{text}'") } else { text }
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn read_words(given: Vec<OsString>, variables: &[(&str, &str)]) -> Result<Line, Failure> {
    let variable = |wanted: &str| {
        variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
    };
    let argv = [OsString::from("slipway")].into_iter().chain(given).collect();
    read_program(argv, &Cli::command(), &variable, &|_| true)
}

/// What a line means: in slipway's words when clap takes them (`=`), a group's page (`@`), our answer (`!`) or clap's (`?`).
fn meaning(line: &str) -> String {
    let mut given = words(line);
    let variables: Vec<(String, String)> = given
        .iter()
        .map_while(|word| word.to_str()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    given.drain(..variables.len());
    let variable =
        |wanted: &str| variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let line = match read_program(given, &Cli::command(), &variable, &|_| true) {
        Ok(line) => line,
        Err(failure) => {
            let hint = failure.hint().map(|hint| format!(" => {hint}")).unwrap_or_default();
            return format!("! {} {}{hint}", failure.status(), failure.words());
        }
    };
    if let Some(group) = line.group() {
        return format!("@ {group}");
    }
    let arguments = line.arguments();
    let taken =
        Cli::command().try_get_matches_from(&arguments).and_then(|found| Cli::from_arg_matches(&found));
    if let Err(error) = taken
        && error.use_stderr()
    {
        return format!("? {} {}", line.usage_status(), error.to_string().lines().next().unwrap_or_default());
    }
    let notes: String = line.notes().iter().map(|note| format!(" # {note}")).collect();
    format!("= {}{notes}", shown(&arguments[1..]))
}

#[test]
fn lines_mean_what_their_writers_meant() {
    let given = LINES.lines().filter(|line| !line.is_empty() && !line.starts_with(' '));
    let recorded: String = given
        .map(|line| {
            if line.starts_with('#') {
                format!("\n{line}\n")
            } else {
                format!("{line}\n    {}\n", meaning(line))
            }
        })
        .collect();
    if std::env::var_os("SLIPWAY_RECORD").is_some_and(|what| what == "lines") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/front/lines.txt"), &recorded).unwrap();
        return;
    }
    for (expected, found) in LINES.lines().zip(recorded.lines()) {
        assert_eq!(expected, found, "SLIPWAY_RECORD=lines writes it anew");
    }
    assert_eq!(LINES.lines().count(), recorded.lines().count());
    let count = LINES.lines().filter(|line| line.starts_with("    ")).count();
    assert!(count >= 300, "{count} lines");
}

#[test]
fn examples_of_pages_are_taken() {
    let mut count = 0;
    for (_, line) in crate::manual::pages::all().iter().flat_map(|page| &page.examples) {
        // the shell's part
        let line = line.split(" > ").next().unwrap().replace("\\t", " ");
        let meaning = meaning(&line);
        assert!(meaning.starts_with("= ") && !meaning.contains(" # "), "{line}: {meaning}");
        count += 1;
    }
    assert!(count > 40, "{count}");
}

/// Commands that hand words on to a program.
fn handing_on() -> Vec<clap::Command> {
    let mut root = Cli::command();
    root.build();
    root.get_subcommands().filter(|command| hands_on(command.get_name())).cloned().collect()
}

/// Every spelling of every flag of a command, with a value where it takes one.
fn spellings(command: &clap::Command) -> Vec<Vec<OsString>> {
    let mut all: Vec<Vec<OsString>> = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
        let long = format!("--{}", arg.get_long().unwrap());
        let short = arg.get_short().map(|short| format!("-{short}"));
        let value = if arg.get_action().takes_values() { "linux/amd64" } else { "false" };
        all.push(vec![format!("{long}={value}").into()]);
        all.extend(short.iter().map(|short| vec![format!("{short}={value}").into()]));
        for name in short.into_iter().chain([long]) {
            all.push(vec![name.clone().into()]);
            all.push(vec![name.into(), value.into()]);
        }
    }
    for row in table::rows().iter().filter(|row| row.places.contains(&command.get_name())) {
        all.extend(row.names.iter().map(|name| vec![(*name).into()]));
    }
    all
}

#[test]
fn what_follows_the_image_is_the_programs() {
    let odd: Vec<Vec<OsString>> =
        [&b"--"[..], b"-", b"", b"-\xff", b"--x\xff=\xfe", b"\xff", b"-v=/:/host", b"-vx:/y"]
            .into_iter()
            .map(|word| vec![OsString::from_vec(word.to_vec())])
            .collect();
    assert!(!handing_on().is_empty());
    for command in handing_on() {
        let name = command.get_name();
        for tail in spellings(&command).into_iter().chain(odd.clone()) {
            for (front, kept) in
                [(&["app"][..], &["app"][..]), (&["--", "app"], &["app"]), (&["app", "--"], &["app", "--"])]
            {
                let mut given = vec![OsString::from(name)];
                given.extend(front.iter().map(OsString::from));
                given.extend(tail.iter().cloned());
                let line = read_words(given, &[]).unwrap_or_else(|failure| panic!("{tail:?}: {failure:?}"));
                assert_eq!((&line.flags, &line.before, &line.notes), (&vec![], &vec![], &vec![]), "{tail:?}");
                let expected: Vec<OsString> =
                    kept.iter().map(OsString::from).chain(tail.iter().cloned()).collect();
                assert_eq!(line.words, expected);
                // and clap leaves them alone too
                let found = Cli::command().try_get_matches_from(line.arguments()).unwrap();
                let (_, found) = found.subcommand().unwrap();
                let words: Vec<OsString> = found.get_many("command").into_iter().flatten().cloned().collect();
                assert_eq!(words, expected[1..], "{tail:?}");
            }
        }
    }
}

#[test]
fn flags_before_the_image_are_ours() {
    for command in handing_on() {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()) {
            let long = arg.get_long().unwrap();
            if long == "help" {
                continue;
            }
            let takes = arg.get_action().takes_values();
            let names: Vec<String> = arg
                .get_short()
                .map(|short| format!("-{short}"))
                .into_iter()
                .chain([format!("--{long}")])
                .collect();
            for name in names {
                let spelled: Vec<Vec<String>> = match takes {
                    true => vec![vec![format!("{name}=-v")], vec![name.clone(), "-v".into()]],
                    false => vec![
                        vec![name.clone()],
                        vec![format!("{name}=true")],
                        vec![format!("{name}=false"), name.clone()],
                    ],
                };
                for words in spelled {
                    let given = [command.get_name().to_owned()]
                        .into_iter()
                        .chain(words.clone())
                        .chain(["app".into(), "--rm".into()]);
                    let line = read_words(given.map(OsString::from).collect(), &[]).unwrap();
                    let flag = match takes {
                        true => Flag::Value(long.to_owned(), "-v".into()),
                        false => Flag::Switch(long.to_owned(), true),
                    };
                    assert_eq!(
                        (line.flags, line.words),
                        (vec![flag], vec!["app".into(), "--rm".into()]),
                        "{words:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn answers_name_what_was_asked_and_what_to_do() {
    for row in table::rows().iter().filter(|row| matches!(row.meaning, Meaning::Refused(_))) {
        for (place, name) in
            row.places.iter().flat_map(|place| row.names.iter().map(move |name| (*place, *name)))
        {
            // `*` stands before the command
            let command = place.split('+').filter(|word| *word != "*").map(OsString::from);
            let given: Vec<OsString> = match row.kind {
                Kind::Command => name.split(' ').map(OsString::from).collect(),
                Kind::Value => command.chain([name.into(), "x".into(), ".".into()]).collect(),
                _ => command.chain([name.into(), ".".into()]).collect(),
            };
            let known = Cli::command();
            let mut here = &known;
            // what has come since is no longer answered
            if given.iter().all(|word| {
                here.find_subcommand(word).is_some_and(|found| {
                    here = found;
                    true
                })
            }) {
                continue;
            }
            match read_words(given.clone(), &[]) {
                Err(failure) => {
                    let status =
                        if hands_on(place) { crate::error::NOT_STARTED } else { crate::error::USAGE };
                    assert_eq!(failure.status(), status, "{given:?}");
                    let asked = name.split('=').next().unwrap();
                    assert!(failure.words().contains(asked), "{given:?}: {}", failure.words());
                }
                Ok(line) => {
                    // the flag is slipway's own by now
                    let own = if place == "*" { Some(&known) } else { known.find_subcommand(place) };
                    let now = own.unwrap().get_arguments().any(|arg| {
                        arg.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
                            || arg
                                .get_short()
                                .is_some_and(|short| name.strip_prefix('-') == Some(&short.to_string()))
                    });
                    assert!(now, "{given:?} is {line:?}");
                }
            }
        }
    }
}

/// Files below a folder, of these kinds.
fn files(folder: &std::path::Path, kinds: &[&str], all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, kinds, all);
        } else if path.extension().is_some_and(|kind| kinds.iter().any(|own| kind == *own)) {
            all.push(path);
        }
    }
}

/// A line as documentation writes it, with something in the place of each word for a value.
fn filled(line: &str) -> String {
    let line = line.split([';', '>', '|']).next().unwrap_or(line);
    let mut out = String::new();
    let mut inner = 0;
    for c in line.chars() {
        match c {
            // what a format string fills in, and what may be left out
            '{' if !line.contains("{{") => inner += 1,
            '}' if inner > 0 => {
                inner -= 1;
                out.push('x');
            }
            '[' | ']' | '(' | ')' => {}
            c if inner == 0 => out.push(c),
            _ => {}
        }
    }
    let one = |word: &str| match word {
        "OS/ARCH" | "OS/ARCH/VARIANT" => "linux/arm64".to_owned(),
        "SIZE" => "1g".to_owned(),
        "SHELL" => "bash".to_owned(),
        "COMMAND" | "..." | "…" => String::new(),
        word if word.chars().all(|c| !c.is_lowercase()) && !word.starts_with('-') => word.to_lowercase(),
        word => word.replace("HOST/", "host/"),
    };
    out.split(' ').map(one).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_line_that_is_proposed_is_taken() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    files(&root.join("docs"), &["md"], &mut all);
    files(&root.join("src"), &["rs", "txt"], &mut all);
    let own = ["tests.rs", "lines.txt", "flags.txt", "flags.rs"];
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in all.iter().filter(|path| !own.iter().any(|name| path.ends_with(name))) {
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.split("`slipway ").skip(1).filter_map(|rest| rest.split_once('`')) {
            // a line of documentation or of a string may go on in the next one
            let line = line.0.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
            // a backtick that opens nothing, and a command that is not named
            if line.len() > 200 || line.starts_with('{') || line.contains("help {") {
                continue;
            }
            count += 1;
            let meaning = meaning(&format!("slipway {}", filled(&line)));
            // a command or a flag is named, and not a whole line
            let part = [
                "needs a context",
                "needs a folder",
                "needs --destination",
                "arguments were not provided",
                "a value is required",
            ];
            let taken = meaning.starts_with(['=', '@']) || part.iter().any(|part| meaning.contains(part));
            if !taken || meaning.contains(" # ") {
                wrong.push(format!("{}: slipway {line}: {meaning}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "{count}");
}
